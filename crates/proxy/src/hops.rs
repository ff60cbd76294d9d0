//! Notices that what an upstream proxy was asked for comes back: proxies that name each other would
//! pass it on until one of them has no connection left.
//!
//! What goes to an HTTP proxy says through which engines it came: each has a pseudonym of its own, made
//! anew at every start. A CONNECT has them in a `Via` field (RFC 9110 section 7.6.3), a plain request in
//! a field that `Connection` names, which ends at that proxy (section 7.6.1). No upstream sees either.
//! SOCKS 5 has no place for them: there it is noticed by how connections nest (`upstream/nesting.rs`).

use std::fmt::Write as _;
use std::sync::Arc;

use traffic::{Failure, FailureKind, Side, Stage, Target};

use crate::error;
use crate::limits::HOPS_MAX;
use crate::tls::nonce;

/// What a pseudonym begins with; sixteen hexadecimal digits follow.
const PREFIX: &str = "oriel-";
const DIGITS: usize = 16;
/// The field of a plain request.
const FIELD: &str = "Oriel-Hops";

/// The pseudonym of an engine.
#[derive(Clone, Debug)]
pub(crate) struct Pseudonym(Arc<str>);

/// The engines that something came through, in their order: at most [`HOPS_MAX`] are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Hops(Option<Arc<[String]>>);

impl Pseudonym {
    pub(crate) fn new() -> Self {
        let mut text = PREFIX.to_owned();
        for octet in nonce().into_iter().take(DIGITS / 2) {
            let _infallible = write!(text, "{octet:02x}");
        }
        Self(text.into())
    }

    /// What comes back to this engine, or came through more than there can be on purpose.
    pub(crate) fn refuse(&self, hops: &Hops, target: &Target) -> Option<Failure> {
        let known = hops.names();
        let text = if known.iter().any(|name| **name == *self.0) {
            format!("{target} comes back to oriel through its own upstream proxy")
        } else if known.len() >= HOPS_MAX {
            format!("{target} was asked for through {HOPS_MAX} oriels, one after the other")
        } else {
            return None;
        };
        let (side, stage) = (Side::Oriel, Stage::UpstreamProxy);
        Some(error::failure(side, stage, FailureKind::Loop, text))
    }

    /// The line of a CONNECT, with its end.
    pub(crate) fn connect_line(&self, hops: &Hops) -> String {
        let all: Vec<_> = self.after(hops).map(|name| format!("1.1 {name}")).collect();
        format!("Via: {}\r\n", all.join(", "))
    }

    /// The lines of a plain request, with their ends.
    pub(crate) fn plain_lines(&self, hops: &Hops) -> String {
        let all: Vec<_> = self.after(hops).collect();
        format!("Connection: {FIELD}\r\n{FIELD}: {}\r\n", all.join(", "))
    }

    fn after<'a>(&'a self, hops: &'a Hops) -> impl Iterator<Item = &'a str> {
        let before = hops.names().iter().map(String::as_str);
        before.chain(std::iter::once(&*self.0))
    }
}

impl Hops {
    /// Those that the head of a CONNECT tells.
    pub(crate) fn of_connect(head: &[u8]) -> Self {
        // `1.1 oriel-0123456789abcdef (comment)`
        Self::read(head, "via", |member| member.split_ascii_whitespace().nth(1))
    }

    /// Those that the head of a plain request tells.
    pub(crate) fn of_plain(head: &[u8]) -> Self {
        Self::read(head, FIELD, |member| Some(member.trim()))
    }

    fn read(head: &[u8], field: &str, name: fn(&str) -> Option<&str>) -> Self {
        let lines = head.split(|octet| *octet == b'\n').skip(1);
        let values = lines.filter_map(|line| {
            let (known, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
            known.eq_ignore_ascii_case(field).then_some(value)
        });
        let members = values.flat_map(|value| value.split(','));
        let names = members.filter_map(name).filter(|name| is_pseudonym(name));
        let names: Vec<_> = names.take(HOPS_MAX).map(str::to_owned).collect();
        Self((!names.is_empty()).then(|| names.into()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn names(&self) -> &[String] {
        self.0.as_deref().unwrap_or_default()
    }
}

fn is_pseudonym(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target::parse_with_port("a.example:443").unwrap()
    }

    #[test]
    fn each_engine_adds_itself_and_knows_itself() {
        let (one, two) = (Pseudonym::new(), Pseudonym::new());
        for is_connect in [true, false] {
            let pass = |engine: &Pseudonym, hops: &Hops| {
                let (line, read): (_, fn(&[u8]) -> Hops) = match is_connect {
                    true => (engine.connect_line(hops), Hops::of_connect),
                    false => (engine.plain_lines(hops), Hops::of_plain),
                };
                read(format!("GET x HTTP/1.1\r\nHost: x\r\n{line}\r\n").as_bytes())
            };
            let hops = pass(&one, &Hops::default());
            assert!(two.refuse(&hops, &target()).is_none());
            let hops = pass(&two, &hops);
            assert_eq!(hops.names(), [&*one.0, &*two.0]);
            let failure = one.refuse(&hops, &target()).unwrap();
            assert_eq!(failure.kind, FailureKind::Loop);
            let many = (0..HOPS_MAX).fold(hops, |hops, _| pass(&Pseudonym::new(), &hops));
            assert_eq!(many.names().len(), HOPS_MAX);
            let failure = Pseudonym::new().refuse(&many, &target()).unwrap();
            assert!(
                failure.text.contains("through 16 oriels"),
                "{}",
                failure.text
            );
        }
    }

    #[test]
    fn what_others_say_is_no_pseudonym() {
        let hops = |value: &str| {
            let head =
                format!("CONNECT a:1 HTTP/1.1\r\nVIA: {value}\r\nOther: 1.1 oriel-0\r\n\r\n");
            Hops::of_connect(head.as_bytes()).names().len()
        };
        for (value, count) in [
            ("1.0 fred, 1.1 p.example.net (Apache/1.1)", 0),
            ("1.1 oriel-0123456789abcdef (oriel), 1.1 squid", 1),
            ("1.1 oriel-0123456789abcde", 0),
            ("1.1 oriel-0123456789abcdeg", 0),
            ("oriel-0123456789abcdef", 0),
            (",, ,\u{e4}", 0),
            ("", 0),
        ] {
            assert_eq!(hops(value), count, "{value}");
        }
        assert_eq!(Hops::of_connect(b"\n\xff: \n:\nvia"), Hops::default());
    }
}
