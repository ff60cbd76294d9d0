//! What of the traffic is kept in a record: which hosts not at all, and how much of which bodies.
//! What passes on the wire does not depend on it.

use crate::Target;
use crate::rules::pattern::HostPatterns;

/// What is kept.
#[derive(Clone, Debug, Default)]
pub struct CaptureRules {
    /// Hosts of which nothing is kept.
    pub excluded: HostPatterns,
    /// How much is kept of some bodies; the first that names one counts.
    pub limits: Vec<BodyLimit>,
}

/// How much is kept of some bodies.
#[derive(Clone, Debug)]
pub struct BodyLimit {
    /// Of which hosts; `None`: of all.
    pub hosts: Option<HostPatterns>,
    /// Of which content types; `None`: of all, and of bodies without one.
    pub content_types: Option<Vec<MediaPattern>>,
    /// Bytes that are kept of each, from its start on.
    pub keep: u64,
}

/// A pattern for content types: `text/html`, `image/*` or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaPattern {
    kind: Option<String>,
    subtype: Option<String>,
}

/// Why a text is no pattern for content types.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no content type: it is written as text/html, image/* or *")]
pub struct MediaPatternError {
    text: String,
}

impl CaptureRules {
    /// Whether nothing is kept of what goes there.
    #[must_use]
    pub fn excludes(&self, target: &Target) -> bool {
        !self.excluded.is_empty() && self.excluded.matches(target).is_some()
    }

    /// Bytes that are kept of a body; the field Content-Type is asked for only if it may matter.
    #[must_use]
    pub fn body_bytes_kept<'h>(
        &self,
        target: &Target,
        content_type: impl FnOnce() -> Option<&'h [u8]>,
    ) -> u64 {
        if self.limits.is_empty() {
            return u64::MAX;
        }
        let content_type = content_type();
        let limit = self.limits.iter().find(|limit| {
            limit.is_of_host(target) && limit.is_of_type(content_type.unwrap_or_default())
        });
        limit.map_or(u64::MAX, |limit| limit.keep)
    }
}

impl BodyLimit {
    fn is_of_host(&self, target: &Target) -> bool {
        let hosts = self.hosts.as_ref();
        hosts.is_none_or(|hosts| hosts.matches(target).is_some())
    }

    fn is_of_type(&self, content_type: &[u8]) -> bool {
        let patterns = self.content_types.as_ref();
        patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(content_type)))
    }
}

impl MediaPattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, MediaPatternError> {
        let error = || MediaPatternError {
            text: text.to_owned(),
        };
        let part = |part: &str| match part {
            "*" => Ok(None),
            "" => Err(error()),
            name if name.bytes().all(is_name_byte) => Ok(Some(name.to_owned())),
            _ => Err(error()),
        };
        match text.split_once('/') {
            None if text == "*" => Ok(Self {
                kind: None,
                subtype: None,
            }),
            None => Err(error()),
            Some((kind, subtype)) => Ok(Self {
                kind: part(kind)?,
                subtype: part(subtype)?,
            }),
        }
    }

    /// Whether it matches the value of a field Content-Type, whose parameters do not matter.
    fn matches(&self, content_type: &[u8]) -> bool {
        let end = content_type.iter().position(|byte| *byte == b';');
        let media = content_type.get(..end.unwrap_or(content_type.len()));
        let mut parts = media.unwrap_or_default().splitn(2, |byte| *byte == b'/');
        let mut is_part = |pattern: &Option<String>| {
            let part = parts.next().unwrap_or_default().trim_ascii();
            let pattern = pattern.as_ref();
            pattern.is_none_or(|name| part.eq_ignore_ascii_case(name.as_bytes()))
        };
        is_part(&self.kind) && is_part(&self.subtype)
    }
}

/// A letter of a token (RFC 9110 section 5.6.2) but `*`.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_content_types() {
        for (pattern, content_type, matches) in [
            ("text/html", "text/html; charset=utf-8", true),
            ("text/html", "TEXT/HTML", true),
            ("text/html", " text/html ;x", true),
            ("text/html", "text/htmlx", false),
            ("text/html", "text", false),
            ("image/*", "image/png", true),
            ("image/*", "imagex/png", false),
            ("*/json", "application/json", true),
            ("*", "", true),
            ("*/*", "anything", true),
            ("image/*", "", false),
        ] {
            let pattern = MediaPattern::parse(pattern).unwrap();
            assert_eq!(
                pattern.matches(content_type.as_bytes()),
                matches,
                "{pattern:?} {content_type}"
            );
        }
        for text in ["", "text", "text/", "/html", "a b/c", "text/html;x", "**"] {
            assert!(MediaPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_limit_that_names_a_body_counts() {
        let limit = |hosts: Option<&str>, types: Option<&str>, keep| BodyLimit {
            hosts: hosts.map(|host| HostPatterns::parse(&[host]).unwrap()),
            content_types: types.map(|text| vec![MediaPattern::parse(text).unwrap()]),
            keep,
        };
        let rules = CaptureRules {
            excluded: HostPatterns::parse(&["*.bank.test"]).unwrap(),
            limits: vec![
                limit(Some("a.test"), Some("image/*"), 1),
                limit(Some("a.test"), None, 2),
                limit(None, Some("image/*"), 3),
            ],
        };
        let target = |host| Target::parse(host, 443).unwrap();
        for (host, content_type, keep) in [
            ("a.test", Some(&b"image/png"[..]), 1),
            ("a.test", None, 2),
            ("b.test", Some(b"image/png"), 3),
            ("b.test", Some(b"text/plain"), u64::MAX),
            ("b.test", None, u64::MAX),
        ] {
            let kept = rules.body_bytes_kept(&target(host), || content_type);
            assert_eq!(kept, keep, "{host} {content_type:?}");
        }
        assert!(rules.excludes(&target("my.bank.test")));
        assert!(!rules.excludes(&target("a.test")));
        let none = CaptureRules::default();
        assert!(!none.excludes(&target("a.test")));
        assert_eq!(none.body_bytes_kept(&target("a.test"), || None), u64::MAX);
    }
}
