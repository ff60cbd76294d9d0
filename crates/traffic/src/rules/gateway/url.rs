//! The URL of a gateway, into which what was asked for is put.

use std::fmt;

use super::path::encoded;
use crate::{Scheme, Target, TargetError};

/// `https://gw.example/api/{provider}{path}`: where the path of a request goes into. The query is
/// always kept. Without `{path}` all requests go to the one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayUrl {
    scheme: Scheme,
    target: Target,
    before: String,
    /// What follows the path; `None` if the path does not go into it.
    after: Option<String>,
}

/// Why a text is no URL of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayUrlError {
    /// It begins with neither `http://` nor `https://`.
    #[error("a gateway's URL begins with http:// or https://")]
    Scheme,
    /// Its host or port is none.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Something in braces that is neither `{path}` nor `{provider}`, or a second `{path}`.
    #[error("a gateway's URL may have {{provider}}, and {{path}} once; it has {0:?} besides")]
    Placeholder(String),
    /// There is `{provider}` and no provider.
    #[error("the URL has {{provider}}, but the route names no provider")]
    NoProvider,
    /// The provider is no part of a path.
    #[error("a provider has letters, digits, `-`, `_` and `.` only")]
    Provider,
    /// A query, a fragment, user information, or a character that no URL has.
    #[error("a gateway's URL has no query, fragment, user or space: the query is the client's")]
    Character,
}

/// Why a request cannot be sent to a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRoutable {
    /// `OPTIONS *`, and a path without a slash.
    #[error("it asks for no path")]
    NoPath,
    /// A reader that undoes the encoding would leave the gateway's path.
    #[error("its path has the segment `.` or `..`, which could lead out of the gateway's path")]
    DotSegment,
}

impl GatewayUrl {
    /// Reads a URL; `provider` stands where it says `{provider}`.
    ///
    /// # Errors
    /// If it is no such URL.
    pub fn parse(text: &str, provider: Option<&str>) -> Result<Self, GatewayUrlError> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            _ => return Err(GatewayUrlError::Scheme),
        };
        let end = rest.find(['/', '{']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if path.starts_with('{') && !path.starts_with("{path}") {
            return Err(GatewayUrlError::Placeholder(path.to_owned()));
        }
        let strange = |character: char| {
            matches!(character, '?' | '#' | '\\') || !character.is_ascii_graphic()
        };
        if path.contains(strange) || authority.contains('@') {
            return Err(GatewayUrlError::Character);
        }
        let target = Target::parse(authority, scheme.default_port())?;
        let path = match (path.contains("{provider}"), provider) {
            (false, _) => path.to_owned(),
            (true, None) => return Err(GatewayUrlError::NoProvider),
            (true, Some(provider)) => {
                let fits = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
                let dots = provider.chars().all(|character| character == '.');
                if dots || !provider.chars().all(fits) {
                    return Err(GatewayUrlError::Provider);
                }
                path.replace("{provider}", provider)
            }
        };
        let (before, after) = match path.split_once("{path}") {
            // The path that goes there begins with a slash.
            Some((before, after)) => (before.trim_end_matches('/'), Some(after.to_owned())),
            None => (path.as_str(), None),
        };
        let braces = [before, after.as_deref().unwrap_or_default()];
        if let Some(text) = braces.into_iter().find(|text| text.contains(['{', '}'])) {
            return Err(GatewayUrlError::Placeholder(text.to_owned()));
        }
        Ok(Self {
            scheme,
            target,
            before: before.to_owned(),
            after,
        })
    }

    /// Whether TLS is spoken with it.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Where it is.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The path and query to ask the gateway for, given those that the client asked for.
    ///
    /// # Errors
    /// If they cannot be put into it.
    pub fn path(&self, asked: &str) -> Result<String, NotRoutable> {
        let (path, query) = match asked.find('?') {
            Some(at) => asked.split_at_checked(at).unwrap_or((asked, "")),
            None => (asked, ""),
        };
        if !path.starts_with('/') {
            return Err(NotRoutable::NoPath);
        }
        let mut whole = self.before.clone();
        if let Some(after) = &self.after {
            if climbs(path) {
                return Err(NotRoutable::DotSegment);
            }
            whole.push_str(path);
            whole.push_str(after);
        }
        if whole.is_empty() {
            whole.push('/');
        }
        whole.push_str(query);
        Ok(whole)
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.target.authority(self.scheme);
        write!(f, "{}://{authority}{}", self.scheme.as_str(), self.before)?;
        match &self.after {
            Some(after) => write!(f, "{{path}}{after}"),
            None => Ok(()),
        }
    }
}

/// Whether some reader finds the segment `.` or `..` in it: one that undoes encoding, takes a
/// backslash for a slash, or knows parameters after a semicolon.
fn climbs(path: &str) -> bool {
    let mut octets = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match encoded(after).filter(|_| *first == b'%') {
            Some(octet) => {
                octets.push(octet);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                octets.push(*first);
                rest = after;
            }
        }
    }
    let mut segments = octets.split(|octet| matches!(octet, b'/' | b'\\'));
    segments.any(|segment| {
        let name = segment.split(|octet| *octet == b';').next();
        matches!(name, Some(b"." | b".."))
    })
}
