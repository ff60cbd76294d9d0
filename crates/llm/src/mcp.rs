//! Tells the Model Context Protocol by the shape of its JSON-RPC messages
//! (specification of 2025-06-18 and 2026-07-28, "Streamable HTTP").

use memchr::memmem::Finder;

use crate::json::Value;

/// Finds JSON-RPC messages of the protocol.
#[derive(Clone, Debug)]
pub(crate) struct Messages {
    marker: Finder<'static>,
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            marker: Finder::new(b"\"jsonrpc\""),
        }
    }
}

impl Messages {
    /// Whether a body is a message, or an array of them, that calls a method of the protocol.
    pub(crate) fn has_call(&self, body: &[u8]) -> bool {
        // Nearly all bodies end here.
        if self.marker.find(body).is_none() {
            return false;
        }
        let whole = Value::new(body);
        let message = whole.first().unwrap_or(whole);
        let is_version_2 = message.text_of("jsonrpc").is_some_and(|text| text == "2.0");
        is_version_2
            && message
                .text_of("method")
                .is_some_and(|method| is_method(&method))
    }
}

/// Whether a method is one of the protocol. Others speak JSON-RPC as well.
fn is_method(method: &str) -> bool {
    const METHODS: [&str; 7] = [
        "initialize",
        "ping",
        "completion/complete",
        "logging/setLevel",
        "sampling/createMessage",
        "elicitation/create",
        "server/discover",
    ];
    const FAMILIES: [&str; 6] = [
        "notifications/",
        "prompts/",
        "resources/",
        "roots/",
        "subscriptions/",
        "tools/",
    ];
    METHODS.contains(&method) || FAMILIES.iter().any(|family| method.starts_with(family))
}
