//! Masks known credentials in heads and URLs, before anything is stored.

/// How much is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Redaction {
    /// Known credentials in field values, query parameters and user information.
    Basic,
    /// Nothing: credentials are stored as they came. Must be asked for.
    None,
}

impl Redaction {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::None => "none",
        }
    }
}
