//! A HAR file: no panic, and what is read survives being written and read again.
#![no_main]

#[path = "import/read_back.rs"]
mod read_back;

use libfuzzer_sys::fuzz_target;
use store::Format;

fuzz_target!(|file: &[u8]| read_back::read_back(Format::Har, file));
