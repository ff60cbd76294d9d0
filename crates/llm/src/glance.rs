//! What a first glance at a head tells: asked for every request, so it looks at a few bytes of each line
//! and no more.

use memchr::memchr_iter;
use traffic::Head;

/// What the names of the fields tell. It is worth remembering for heads that come again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// A field is there that only the Model Context Protocol has: `Mcp-Session-Id`,
    /// `MCP-Protocol-Version`, `Mcp-Method` and others that begin so.
    pub(crate) is_mcp: bool,
    /// The body has a content coding.
    pub(crate) is_encoded: bool,
}

impl Glance {
    /// Glances at the text of a head.
    #[must_use]
    pub fn at(text: &[u8]) -> Self {
        let mut glance = Self::default();
        for at in memchr_iter(b'\n', text) {
            let Some(line) = text.get(at + 1..) else {
                break;
            };
            let begins = |name: &[u8]| {
                let start = line.get(..name.len());
                start.is_some_and(|start| start.eq_ignore_ascii_case(name))
            };
            match line.first() {
                Some(b'm' | b'M') => glance.is_mcp |= begins(b"mcp-"),
                Some(b'c' | b'C') => glance.is_encoded |= begins(b"content-encoding:"),
                _ => {}
            }
        }
        glance
    }

    /// Glances at a head.
    #[must_use]
    pub fn of(head: &Head) -> Self {
        Self::at(&head.text)
    }
}
