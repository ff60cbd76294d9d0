//! Real clients through the built program: what they print, how they end, and what was recorded.

mod curl;
mod curl_fronts;
mod git;
mod node;
mod python;
