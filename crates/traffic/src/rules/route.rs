//! Decides for a connection: block, tunnel or intercept, and says which rule decided.
//!
//! The engine asks twice: when it knows whom the client wants, and again when it has seen how the
//! connection begins. The second answer never opens what the first did not.

use std::fmt;

use crate::rules::pattern::{HostPatterns, PatternError};
use crate::wire::client_hello::ClientHello;
use crate::{Host, Target};

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// What happens.
    pub action: Action,
    /// The rule that decided, in the words of the configuration.
    pub rule: String,
}

/// What is known when the decision is made.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whom the client asked for.
    pub target: &'a Target,
    /// How the connection begins.
    pub opening: Opening<'a>,
}

/// How a connection begins, as far as its first bytes tell.
#[derive(Clone, Copy, Debug)]
pub enum Opening<'a> {
    /// They were not looked at yet.
    Unseen,
    /// With a ClientHello.
    Tls(&'a ClientHello),
    /// With a request in plain HTTP.
    PlainHttp,
    /// With nothing, within the deadline: a protocol in which the server speaks first.
    Silent,
    /// With something else, or a ClientHello that cannot be read.
    Other,
}

/// What is to be intercepted, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// Patterns of hosts to open (`intercept.hosts`).
    pub intercept: Vec<String>,
    /// Patterns of hosts never to open (`intercept.bypass`). They win over `intercept`.
    pub bypass: Vec<String>,
    /// What happens to all other hosts.
    pub unlisted: Unlisted,
    /// Whether TLS to an address, rather than to a name, is opened (`intercept.ip_targets`).
    pub ip_targets: bool,
}

/// What happens to hosts that no pattern lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unlisted {
    /// They pass unopened.
    Tunnel,
    /// They are refused.
    Block,
}

/// Why rules cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}[{index}]: {error}")]
pub struct RuleError {
    /// The key of the configuration.
    pub key: &'static str,
    /// Which entry of it, counted from 0.
    pub index: usize,
    /// What is wrong with the entry.
    pub error: PatternError,
}

/// Compiled rules.
#[derive(Clone, Debug)]
pub struct Rules {
    intercept: HostPatterns,
    bypass: HostPatterns,
    unlisted: Unlisted,
    ip_targets: bool,
}

impl Rules {
    /// Compiles rules.
    pub fn compile(config: &RouteConfig) -> Result<Self, RuleError> {
        Ok(Self {
            intercept: compile_patterns("intercept.hosts", &config.intercept)?,
            bypass: compile_patterns("intercept.bypass", &config.bypass)?,
            unlisted: config.unlisted,
            ip_targets: config.ip_targets,
        })
    }

    /// Decides. Before the first bytes were seen, `Intercept` means: look at them, ask again.
    ///
    /// The decision is about the host that the client asked the proxy for. A ClientHello may
    /// name another one; it is the upstream of the first that will read it. Only where the client
    /// asked for an address, a bypass of the name in the ClientHello holds too.
    #[must_use]
    pub fn route(&self, facts: &Facts<'_>) -> Route {
        if let Some(pattern) = self.bypass.matches(facts.target) {
            return Route::tunnel(format!("intercept.bypass: {pattern}"));
        }
        let Some(pattern) = self.intercept.matches(facts.target) else {
            return self.unlisted.route();
        };
        if let Some(pattern) = self.bypass_of_named_address(facts) {
            return Route::tunnel(format!("intercept.bypass: {pattern} (SNI)"));
        }
        match self.reason_to_leave_closed(facts) {
            Some(reason) => Route::tunnel(reason.to_string()),
            None => Route {
                action: Action::Intercept,
                rule: format!("intercept.hosts: {pattern}"),
            },
        }
    }

    /// Whether a host is never to be looked into, in whatever way a client asks for it.
    #[must_use]
    pub fn bypasses(&self, target: &Target) -> bool {
        self.bypass.matches(target).is_some()
    }

    /// What becomes of a host that is to be intercepted and cannot be, since the authority's name
    /// constraints leave it out and clients would refuse its leaf: what becomes of hosts on no list.
    #[must_use]
    pub fn route_outside_constraints(&self) -> Route {
        let Route { action, rule } = self.unlisted.route();
        let rule = format!("outside the name constraints of the authority: {rule}");
        Route { action, rule }
    }

    /// A client that resolved the name itself asks for an address, and only its SNI says which
    /// host that is. What must not be opened by name must not be opened this way either.
    fn bypass_of_named_address(&self, facts: &Facts<'_>) -> Option<&str> {
        let (Host::Ip(_), Opening::Tls(hello)) = (&facts.target.host, facts.opening) else {
            return None;
        };
        let host = Host::parse(hello.sni.as_deref()?).ok()?;
        let port = facts.target.port;
        self.bypass.matches(&Target { host, port })
    }

    /// Why a connection to a host that is to be intercepted cannot be, or must not be.
    fn reason_to_leave_closed(&self, facts: &Facts<'_>) -> Option<LeaveClosed> {
        match facts.opening {
            Opening::Unseen | Opening::PlainHttp => None,
            Opening::Tls(hello) => self.reason_to_leave_tls_closed(&facts.target.host, hello),
            Opening::Silent => Some(LeaveClosed::Silent),
            Opening::Other => Some(LeaveClosed::Unknown),
        }
    }

    fn reason_to_leave_tls_closed(&self, host: &Host, hello: &ClientHello) -> Option<LeaveClosed> {
        match (host, &hello.sni) {
            (Host::Ip(_), _) if !self.ip_targets => Some(LeaveClosed::IpTarget),
            (Host::Ip(_), None) => None,
            (Host::Name(_), None) => Some(LeaveClosed::NoSni),
            // Browsers send a made-up encrypted ClientHello (RFC 9849 section 6.2) to hosts that
            // have none; the name beside it is then the one they want. A real one stands beside
            // the outer name, that of the host's provider, and we could not answer for the inner.
            (Host::Name(name), Some(sni)) if hello.ech && !name.eq_ignore_ascii_case(sni) => {
                Some(LeaveClosed::EncryptedHello)
            }
            (Host::Ip(_), Some(_)) if hello.ech => Some(LeaveClosed::EncryptedHello),
            (Host::Name(_) | Host::Ip(_), Some(_)) => None,
        }
    }
}

impl Route {
    fn tunnel(rule: String) -> Self {
        Self {
            action: Action::Tunnel,
            rule,
        }
    }
}

impl Unlisted {
    /// The name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tunnel => "tunnel",
            Self::Block => "block",
        }
    }

    fn route(self) -> Route {
        let action = match self {
            Self::Tunnel => Action::Tunnel,
            Self::Block => Action::Block,
        };
        Route {
            action,
            rule: format!("unlisted = \"{}\"", self.as_str()),
        }
    }
}

/// Why a connection passes unopened though its host is to be intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaveClosed {
    IpTarget,
    NoSni,
    EncryptedHello,
    Silent,
    Unknown,
}

impl fmt::Display for LeaveClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IpTarget => "intercept.ip_targets = false",
            Self::NoSni => "no SNI in the ClientHello",
            Self::EncryptedHello => "encrypted ClientHello (ECH): its SNI is not the target",
            Self::Silent => "the client waits for the server to speak first",
            Self::Unknown => "neither TLS nor HTTP",
        })
    }
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

fn compile_patterns(key: &'static str, texts: &[String]) -> Result<HostPatterns, RuleError> {
    let mut patterns = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let pattern = super::pattern::HostPattern::parse(text);
        patterns.push(pattern.map_err(|error| RuleError { key, index, error })?);
    }
    Ok(HostPatterns::new(patterns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RouteConfig {
        RouteConfig {
            intercept: vec!["*.openai.com".to_owned(), "192.0.2.7".to_owned()],
            bypass: vec!["files.openai.com".to_owned()],
            unlisted: Unlisted::Tunnel,
            ip_targets: false,
        }
    }

    fn check(config: &RouteConfig, target: &str, opening: Opening<'_>, expected: &str) {
        let rules = Rules::compile(config).unwrap();
        let target = Target::parse(target, 443).unwrap();
        let route = rules.route(&Facts {
            target: &target,
            opening,
        });
        let got = format!("{}: {}", route.action.as_str(), route.rule);
        assert_eq!(got, expected, "for {target} {opening:?}");
    }

    fn hello(sni: &str) -> ClientHello {
        ClientHello {
            sni: Some(sni.to_owned()),
            ..ClientHello::default()
        }
    }

    #[test]
    fn lists_decide() {
        let mut config = config();
        let intercepted = "intercept: intercept.hosts: *.openai.com";
        let bypassed = "tunnel: intercept.bypass: files.openai.com";
        check(&config, "api.openai.com", Opening::Unseen, intercepted);
        check(&config, "files.openai.com", Opening::Unseen, bypassed);
        check(
            &config,
            "a.com",
            Opening::Unseen,
            "tunnel: unlisted = \"tunnel\"",
        );
        config.unlisted = Unlisted::Block;
        check(
            &config,
            "a.com",
            Opening::Unseen,
            "block: unlisted = \"block\"",
        );
        check(
            &config,
            "a.com",
            Opening::Silent,
            "block: unlisted = \"block\"",
        );
        check(&config, "files.openai.com", Opening::Unseen, bypassed);
    }

    #[test]
    fn the_opening_decides_on_what_is_listed() {
        let mut config = config();
        config.unlisted = Unlisted::Block;
        let intercepted = "intercept: intercept.hosts: *.openai.com";
        let target = "api.openai.com";
        check(&config, target, Opening::Tls(&hello(target)), intercepted);
        check(&config, target, Opening::PlainHttp, intercepted);
        check(
            &config,
            target,
            Opening::Tls(&ClientHello::default()),
            "tunnel: no SNI in the ClientHello",
        );
        check(
            &config,
            target,
            Opening::Silent,
            "tunnel: the client waits for the server to speak first",
        );
        check(
            &config,
            target,
            Opening::Other,
            "tunnel: neither TLS nor HTTP",
        );
    }

    #[test]
    fn the_target_decides_not_the_sni() {
        let config = config();
        check(
            &config,
            "api.openai.com",
            Opening::Tls(&hello("files.openai.com")),
            "intercept: intercept.hosts: *.openai.com",
        );
        check(
            &config,
            "a.com",
            Opening::Tls(&hello("api.openai.com")),
            "tunnel: unlisted = \"tunnel\"",
        );
    }

    #[test]
    fn an_outer_name_stays_closed() {
        let ech = |sni: &str| ClientHello {
            ech: true,
            ..hello(sni)
        };
        check(
            &config(),
            "api.openai.com",
            Opening::Tls(&ech("cloudflare-ech.com")),
            "tunnel: encrypted ClientHello (ECH): its SNI is not the target",
        );
        check(
            &config(),
            "api.openai.com",
            Opening::Tls(&ech("api.openai.com")),
            "intercept: intercept.hosts: *.openai.com",
        );
    }

    #[test]
    fn addresses_are_opened_on_request() {
        let mut config = config();
        let bare = ClientHello::default();
        let closed = "tunnel: intercept.ip_targets = false";
        check(&config, "192.0.2.7", Opening::Tls(&bare), closed);
        check(&config, "192.0.2.7", Opening::Tls(&hello("a.com")), closed);
        let intercepted = "intercept: intercept.hosts: 192.0.2.7";
        check(&config, "192.0.2.7", Opening::PlainHttp, intercepted);
        config.ip_targets = true;
        check(&config, "192.0.2.7", Opening::Tls(&bare), intercepted);
        check(
            &config,
            "192.0.2.7",
            Opening::Tls(&hello("a.com")),
            intercepted,
        );
        check(
            &config,
            "192.0.2.7",
            Opening::Tls(&hello("files.openai.com")),
            "tunnel: intercept.bypass: files.openai.com (SNI)",
        );
        check(
            &config,
            "192.0.2.8",
            Opening::Tls(&bare),
            "tunnel: unlisted = \"tunnel\"",
        );
    }

    #[test]
    fn what_no_leaf_can_be_made_for_is_as_if_on_no_list() {
        let mut config = config();
        let route = |config: &RouteConfig| {
            let route = Rules::compile(config).unwrap().route_outside_constraints();
            format!("{}: {}", route.action.as_str(), route.rule)
        };
        let rule = "outside the name constraints of the authority: unlisted =";
        assert_eq!(route(&config), format!("tunnel: {rule} \"tunnel\""));
        config.unlisted = Unlisted::Block;
        assert_eq!(route(&config), format!("block: {rule} \"block\""));
    }

    #[test]
    fn names_the_entry_that_is_wrong() {
        let mut config = config();
        config.bypass.push("https://x.com".to_owned());
        insta::assert_snapshot!(
            Rules::compile(&config).unwrap_err(),
            @"intercept.bypass[1]: `https://x.com` is not a host pattern: it is a URL; write only the host, `x.com`"
        );
    }
}
