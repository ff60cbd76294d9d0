//! Host patterns: which hosts a rule speaks of, written by people, compared without cost.
//!
//! A pattern is a name (`api.openai.com`), everything below a name (`*.openai.com`, which is not
//! `openai.com` itself), every host (`*`), an address (`192.0.2.7`, `[2001:db8::7]`) or a range of
//! addresses (`192.0.2.0/24`). Each may end in `:port`. Names compare as A-labels in lower case.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use crate::{Host, Target, TargetError};

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    /// As it was written, without white space around it.
    text: String,
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Hosts {
    All,
    Exact(Host),
    /// The name without the leading `*.`.
    Below(String),
    Range {
        network: IpAddr,
        prefix: u8,
    },
}

/// Why a text is not a host pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a host pattern: {problem}")]
pub struct PatternError {
    /// The text.
    pub text: String,
    /// What is wrong with it, and how to write it.
    pub problem: PatternProblem,
}

/// What is wrong with a pattern, and how to write it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternProblem {
    /// Nothing is there.
    #[error("it is empty; write a host such as `api.openai.com`, or `*` for every host")]
    Empty,
    /// It is a URL.
    #[error("it is a URL; write only the host, `{host}`")]
    Url {
        /// The host in it.
        host: String,
    },
    /// It has a path.
    #[error("it has a path; patterns are about hosts, write `{host}`")]
    Path {
        /// What stands before the path.
        host: String,
    },
    /// A star where none can be.
    #[error(
        "a `*` stands for whole labels at the start; write `*` for every host or `*.example.com` \
         for all below example.com"
    )]
    Star,
    /// `.example.com`.
    #[error("it begins with a dot; write `*{text}` for all below, or leave the dot out")]
    LeadingDot {
        /// The text.
        text: String,
    },
    /// `*.192.0.2.1`.
    #[error("nothing is below an address; write the address or a range such as `192.0.2.0/24`")]
    BelowAddress,
    /// `192.0.2.0/33`.
    #[error("the range must be `/0` to `/{most}` for this kind of address")]
    Range {
        /// The longest prefix.
        most: u8,
    },
    /// Anything that is no host or no port.
    #[error("{0}")]
    Target(TargetError),
}

impl HostPattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.trim();
        let parsed = parse_pattern(text).map_err(|problem| PatternError {
            text: text.to_owned(),
            problem,
        })?;
        let (hosts, port) = parsed;
        Ok(Self {
            text: text.to_owned(),
            hosts,
            port,
        })
    }

    /// The port it is for; `None` for every port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Many patterns, compiled: looking up a host costs one hash per label, however many there are.
/// (Ranges of addresses are looked at one by one.)
#[derive(Clone, Debug, Default)]
pub struct HostPatterns {
    exact: HashMap<Host, Entries>,
    below: HashMap<String, Entries>,
    ranges: Vec<(IpAddr, u8, Entries)>,
    all: Entries,
}

/// The patterns for one set of hosts: a port each, or `None` for every port.
#[derive(Clone, Debug, Default)]
struct Entries(Vec<(Option<u16>, String)>);

impl HostPatterns {
    /// Compiles patterns.
    pub fn new(patterns: impl IntoIterator<Item = HostPattern>) -> Self {
        let mut compiled = Self::default();
        for pattern in patterns {
            compiled.insert(pattern);
        }
        compiled
    }

    /// Reads and compiles patterns.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, PatternError> {
        let mut compiled = Self::default();
        for text in texts {
            compiled.insert(HostPattern::parse(text.as_ref())?);
        }
        Ok(compiled)
    }

    /// The pattern that matches best, as it was written: an exact host before a range or a
    /// suffix, a longer suffix before a shorter one, `*` last, and each with its port before the
    /// same without.
    #[must_use]
    pub fn matches(&self, target: &Target) -> Option<&str> {
        let host = canonical(&target.host);
        let port = target.port;
        let specific = self
            .exact
            .get(&host)
            .and_then(|entries| entries.for_port(port))
            .or_else(|| match &host {
                Host::Name(name) => self.below(name, port),
                Host::Ip(address) => self.range(*address, port),
            });
        specific.or_else(|| self.all.for_port(port))
    }

    /// Whether there is no pattern at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty()
            && self.below.is_empty()
            && self.ranges.is_empty()
            && self.all.0.is_empty()
    }

    fn insert(&mut self, pattern: HostPattern) {
        let entries = match pattern.hosts {
            Hosts::All => &mut self.all,
            Hosts::Exact(host) => self.exact.entry(host).or_default(),
            Hosts::Below(name) => self.below.entry(name).or_default(),
            Hosts::Range { network, prefix } => {
                let entries = Entries(vec![(pattern.port, pattern.text)]);
                self.ranges.push((network, prefix, entries));
                return;
            }
        };
        entries.0.push((pattern.port, pattern.text));
    }

    fn below(&self, name: &str, port: u16) -> Option<&str> {
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            let found = self
                .below
                .get(parent)
                .and_then(|entries| entries.for_port(port));
            if found.is_some() {
                return found;
            }
            rest = parent;
        }
        None
    }

    fn range(&self, address: IpAddr, port: u16) -> Option<&str> {
        self.ranges
            .iter()
            .filter(|(network, prefix, _)| contains(*network, *prefix, address))
            .find_map(|(_, _, entries)| entries.for_port(port))
    }
}

impl Entries {
    fn for_port(&self, port: u16) -> Option<&str> {
        let with = |wanted: Option<u16>| {
            let found = self.0.iter().find(|(known, _)| *known == wanted);
            found.map(|(_, text)| text.as_str())
        };
        with(Some(port)).or_else(|| with(None))
    }
}

fn parse_pattern(text: &str) -> Result<(Hosts, Option<u16>), PatternProblem> {
    if text.is_empty() {
        return Err(PatternProblem::Empty);
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default().to_owned();
        return Err(PatternProblem::Url { host });
    }
    if let Some((host, rest)) = text.split_once('/') {
        return parse_range(host, rest);
    }
    if text.starts_with('.') {
        let text = text.to_owned();
        return Err(PatternProblem::LeadingDot { text });
    }
    if text == "*" {
        return Ok((Hosts::All, None));
    }
    if let Some(port) = text.strip_prefix("*:") {
        // Any host will do: it is the port that is read here.
        let (_, port) = parse_target(&format!("localhost:{port}"))?;
        return Ok((Hosts::All, port));
    }
    if let Some(name) = text.strip_prefix("*.") {
        return match parse_target(name)? {
            (Host::Name(name), port) => Ok((Hosts::Below(name.as_ref().to_owned()), port)),
            (Host::Ip(_), _) => Err(PatternProblem::BelowAddress),
        };
    }
    let (host, port) = parse_target(text)?;
    Ok((Hosts::Exact(host), port))
}

/// Reads what stands on both sides of the slash in `192.0.2.0/24:443`. What is no range was
/// meant as a URL without its scheme.
fn parse_range(host: &str, rest: &str) -> Result<(Hosts, Option<u16>), PatternProblem> {
    let Ok(Host::Ip(network)) = Host::parse(host) else {
        let host = host.to_owned();
        return Err(PatternProblem::Path { host });
    };
    let (prefix, port) = match rest.split_once(':') {
        Some((prefix, port)) => (prefix, parse_target(&format!("localhost:{port}"))?.1),
        None => (rest, None),
    };
    let most = if network.is_ipv4() { 32 } else { 128 };
    match prefix.parse::<u8>() {
        Ok(prefix) if prefix <= most => {
            let (network, prefix) = canonical_range(network, prefix);
            Ok((Hosts::Range { network, prefix }, port))
        }
        Ok(_) | Err(_) => Err(PatternProblem::Range { most }),
    }
}

fn parse_target(text: &str) -> Result<(Host, Option<u16>), PatternProblem> {
    if text.contains('*') {
        return Err(PatternProblem::Star);
    }
    let (host, port) = match Target::parse_with_port(text) {
        Ok(target) => (target.host, Some(target.port)),
        Err(TargetError::NoPort) => (Host::parse(text).map_err(PatternProblem::Target)?, None),
        Err(error) => return Err(PatternProblem::Target(error)),
    };
    Ok((canonical(&host), port))
}

/// An IPv4 address written as IPv6 (`::ffff:192.0.2.7`) is that IPv4 address: a rule about one
/// must hold for the other, as a connection to either reaches the same host.
fn canonical(host: &Host) -> Host {
    match host {
        Host::Name(name) => Host::Name(name.clone()),
        Host::Ip(address) => Host::Ip(address.to_canonical()),
    }
}

/// As [`canonical`], for a range that lies within the IPv4 addresses written as IPv6.
fn canonical_range(network: IpAddr, prefix: u8) -> (IpAddr, u8) {
    match (network.to_canonical(), prefix.checked_sub(96)) {
        (mapped @ IpAddr::V4(_), Some(prefix)) if network.is_ipv6() => (mapped, prefix),
        _ => (network, prefix),
    }
}

fn contains(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            // A shift by all bits overflows: `/0` leaves nothing to compare.
            let shift = 32_u32.saturating_sub(prefix.into());
            let differing = network.to_bits() ^ address.to_bits();
            differing.checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let shift = 128_u32.saturating_sub(prefix.into());
            let differing = network.to_bits() ^ address.to_bits();
            differing.checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(patterns: &[&str], target: &str, expected: Option<&str>) {
        let compiled = HostPatterns::parse(patterns).unwrap();
        let target = Target::parse(target, 443).unwrap();
        assert_eq!(compiled.matches(&target), expected, "{patterns:?} {target}");
    }

    #[test]
    fn matches_names() {
        check(
            &["api.openai.com"],
            "API.openai.com",
            Some("api.openai.com"),
        );
        check(
            &["API.OpenAI.com."],
            "api.openai.com",
            Some("API.OpenAI.com."),
        );
        check(&["api.openai.com"], "x.api.openai.com", None);
        check(
            &["bücher.example"],
            "xn--bcher-kva.example",
            Some("bücher.example"),
        );
        check(&[], "api.openai.com", None);
    }

    #[test]
    fn a_suffix_is_about_what_is_below_it() {
        check(&["*.openai.com"], "api.openai.com", Some("*.openai.com"));
        check(&["*.openai.com"], "a.b.openai.com", Some("*.openai.com"));
        check(&["*.openai.com"], "openai.com", None);
        check(&["*.openai.com"], "evilopenai.com", None);
        check(
            &["*.bücher.example"],
            "a.xn--bcher-kva.example",
            Some("*.bücher.example"),
        );
        check(&["*.com"], "a.com", Some("*.com"));
    }

    #[test]
    fn the_most_specific_pattern_is_named() {
        let patterns = &["*", "*.com", "*.b.com", "a.b.com", "a.b.com:8443"];
        check(patterns, "a.b.com", Some("a.b.com"));
        check(patterns, "a.b.com:8443", Some("a.b.com:8443"));
        check(patterns, "x.b.com", Some("*.b.com"));
        check(patterns, "x.com", Some("*.com"));
        check(patterns, "x.org", Some("*"));
    }

    #[test]
    fn ports_narrow() {
        check(&["a.com:8443"], "a.com", None);
        check(&["*.a.com:8443"], "b.a.com:8443", Some("*.a.com:8443"));
        check(&["*:8443"], "b.a.com:8443", Some("*:8443"));
        check(&["*:8443"], "b.a.com", None);
    }

    #[test]
    fn matches_addresses() {
        check(&["192.0.2.7"], "192.0.2.7", Some("192.0.2.7"));
        check(&["192.0.2.7"], "::ffff:192.0.2.7", Some("192.0.2.7"));
        check(
            &["[2001:db8::7]:8443"],
            "[2001:db8::7]:8443",
            Some("[2001:db8::7]:8443"),
        );
        check(&["2001:db8::7"], "[2001:DB8::7]:443", Some("2001:db8::7"));
        check(&["192.0.2.0/24"], "192.0.2.200", Some("192.0.2.0/24"));
        check(&["192.0.2.0/24"], "192.0.3.1", None);
        check(&["192.0.2.0/24:80"], "192.0.2.1", None);
        check(&["0.0.0.0/0"], "203.0.113.9", Some("0.0.0.0/0"));
        check(&["192.0.2.7/32"], "192.0.2.7", Some("192.0.2.7/32"));
        check(&["2001:db8::/32"], "[2001:db8:1::1]", Some("2001:db8::/32"));
        check(&["::/0"], "192.0.2.1", None);
        check(
            &["::ffff:192.0.2.0/120"],
            "192.0.2.1",
            Some("::ffff:192.0.2.0/120"),
        );
        check(&["*.2.7"], "192.0.2.7", None);
    }

    #[test]
    fn says_how_to_write_it() {
        let problem = |text: &str| HostPattern::parse(text).unwrap_err().to_string();
        let problems = [
            "",
            "https://api.openai.com/v1",
            "api.openai.com/v1",
            "api.*.com",
            "*openai.com",
            ".openai.com",
            "*.192.0.2.1",
            "192.0.2.0/33",
            "a.com:0",
            "a.com:http",
            "a b",
            "user@a.com",
            "*:0",
        ]
        .map(problem)
        .join("\n");
        insta::assert_snapshot!(problems, @r"
`` is not a host pattern: it is empty; write a host such as `api.openai.com`, or `*` for every host
`https://api.openai.com/v1` is not a host pattern: it is a URL; write only the host, `api.openai.com`
`api.openai.com/v1` is not a host pattern: it has a path; patterns are about hosts, write `api.openai.com`
`api.*.com` is not a host pattern: a `*` stands for whole labels at the start; write `*` for every host or `*.example.com` for all below example.com
`*openai.com` is not a host pattern: a `*` stands for whole labels at the start; write `*` for every host or `*.example.com` for all below example.com
`.openai.com` is not a host pattern: it begins with a dot; write `*.openai.com` for all below, or leave the dot out
`*.192.0.2.1` is not a host pattern: nothing is below an address; write the address or a range such as `192.0.2.0/24`
`192.0.2.0/33` is not a host pattern: the range must be `/0` to `/32` for this kind of address
`a.com:0` is not a host pattern: the port is not a number from 1 to 65535
`a.com:http` is not a host pattern: the port is not a number from 1 to 65535
`a b` is not a host pattern: the host has a character that no host name has
`user@a.com` is not a host pattern: the authority has user information before the host
`*:0` is not a host pattern: the port is not a number from 1 to 65535
");
    }

    proptest! {
        /// However many patterns there are, they match what each of them alone would.
        #[test]
        fn many_match_what_one_matches(
            patterns in prop::collection::vec(
                "(\\*|\\*\\.[ab]{1,2}(\\.[ab]){0,2}|[ab](\\.[ab]){0,3}|10\\.0\\.[01]\\.0/2[34]|10\\.0\\.0\\.[1-3])(:[12])?",
                0..6,
            ),
            target in "([ab]{1,2}(\\.[ab]){0,3}|10\\.0\\.[0-2]\\.[1-3]):[12]",
        ) {
            let target = Target::parse_with_port(&target).unwrap();
            let all = HostPatterns::parse(&patterns).unwrap();
            let alone = |text: &String| {
                let one = HostPatterns::parse(std::slice::from_ref(text)).unwrap();
                one.matches(&target).is_some()
            };
            let expected: Vec<&String> = patterns.iter().filter(|text| alone(text)).collect();
            match all.matches(&target) {
                Some(found) => prop_assert!(expected.iter().any(|text| *text == found)),
                None => prop_assert!(expected.is_empty(), "{expected:?}"),
            }
        }
    }
}
