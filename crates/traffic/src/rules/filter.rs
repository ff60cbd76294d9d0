//! The filter language: one grammar for every place that selects flows.

use std::ops::Range;

use crate::Timestamp;

/// A parsed filter.
#[derive(Clone, Debug)]
pub struct Filter {}

/// Why a text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    /// One sentence for people, lower case, without a full stop.
    pub message: String,
    /// The bytes of the text it is about, for a caret.
    pub span: Range<usize>,
    /// What may have been meant.
    pub suggestion: Option<String>,
}

impl Filter {
    /// Parses a filter. `now` is what `since:1h` counts from.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, FilterError> {
        let _ = (text, now);
        Ok(Self {})
    }
}
