//! The kinds of traffic that people tell apart.

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficType {
    /// A model is asked.
    Llm,
    /// A tool server is asked, by the Model Context Protocol.
    Mcp,
    /// Anything else beyond this machine.
    Web,
    /// Anything else on this machine.
    Other,
    /// Nobody can tell: it passed unopened.
    Unknown,
}

impl TrafficType {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Llm, Self::Mcp, Self::Web, Self::Other, Self::Unknown];

    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Llm => "llm",
            Self::Mcp => "mcp",
            Self::Web => "web",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }

    /// The kind of this name; what is no name is not known.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == name);
        known.unwrap_or(Self::Unknown)
    }
}
