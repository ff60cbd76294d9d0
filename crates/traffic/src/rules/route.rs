//! Decides for a connection: block, tunnel or intercept, and says which rule decided.

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is refused.
    Block,
    /// Its bytes pass unopened.
    Tunnel,
    /// TLS is opened where there is TLS, and its requests are seen.
    Intercept,
}

/// A decision and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What happens.
    pub action: Action,
    /// The rule that decided, in the words of the configuration.
    pub rule: String,
}

impl Action {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Tunnel => "tunnel",
            Self::Intercept => "intercept",
        }
    }
}

/// What is known when the decision is made.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whom the client asked for.
    pub target: &'a crate::Target,
    /// How the connection begins.
    pub opening: Opening<'a>,
}

/// How a connection begins, as far as its first bytes tell.
#[derive(Clone, Copy, Debug)]
pub enum Opening<'a> {
    /// They were not looked at yet.
    Unseen,
    /// With a ClientHello.
    Tls(&'a crate::wire::client_hello::ClientHello),
    /// With a request in plain HTTP.
    PlainHttp,
    /// With nothing, within the deadline: a protocol in which the server speaks first.
    Silent,
    /// With something else, or a ClientHello that cannot be read.
    Other,
}

/// Compiled rules.
#[derive(Debug, Default)]
pub struct Rules {}

impl Rules {
    /// Decides. Before the first bytes were seen, `Intercept` means: look at them, ask again.
    #[must_use]
    pub fn route(&self, facts: &Facts<'_>) -> Route {
        let _ = facts;
        Route {
            action: Action::Tunnel,
            rule: "unlisted = \"tunnel\"".to_owned(),
        }
    }
}
