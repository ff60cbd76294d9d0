//! Patterns for paths.

use std::fmt;

/// A path in which each `*` stands for any text, slashes included: `/v1/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(String);

/// Why a text is no pattern for paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pattern for paths: it begins with / or *, and has no query and no segment that is empty, `.` or `..`, such as /v1/*"
)]
pub struct PathPatternError(pub String);

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// If it begins with neither `/` nor `*`, or has a `?` or `#`, which no path has, or a segment that
    /// is empty, `.` or `..`, which no path has either as it is compared.
    pub fn parse(text: &str) -> Result<Self, PathPatternError> {
        if !text.starts_with(['/', '*']) || text.contains(['?', '#']) {
            return Err(PathPatternError(text.to_owned()));
        }
        let pattern = plain(text);
        match resolved(&pattern) == pattern {
            true => Ok(Self(pattern)),
            false => Err(PathPatternError(text.to_owned())),
        }
    }

    /// Whether it covers a path as [`normal`] makes it.
    pub(super) fn matches(&self, path: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = path.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        // Taking each as early as it comes leaves the most for those after it.
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path without its query as most readers take it: [`plain`], with the segments `.` and `..` resolved
/// (RFC 3986 section 6.2.2.3) and several slashes in a row as one.
pub(super) fn normal(path: &str) -> String {
    resolved(&plain(path))
}

/// A path without its query as other readers take it, where that may be another than [`normal`].
pub(super) fn otherwise(path: &str) -> Vec<String> {
    let plain = plain(path);
    let literal = Some(&plain).filter(|path| has_dots(path)).cloned();
    literal.into_iter().chain(loose(&plain)).collect()
}

/// Whether a segment is `.` or `..`, which a reader may take as it stands.
fn has_dots(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// A path as a generous reader takes it, one that takes a backslash and an encoded slash for a slash
/// and leaves out what follows a semicolon in a segment.
fn loose(plain: &str) -> Option<String> {
    if !plain.contains(['\\', ';', '%']) {
        return None;
    }
    let slashes = ["%2F", "%5C", "\\"];
    let with_semicolons = plain.replace("%3B", ";");
    let divided = slashes
        .iter()
        .fold(with_semicolons, |path, slash| path.replace(slash, "/"));
    let name = |segment| str::split(segment, ';').next().unwrap_or_default();
    let names: Vec<&str> = divided.split('/').map(name).collect();
    Some(resolved(&names.join("/")))
}

/// A path with its segments `.` and `..` resolved, and several slashes in a row as one. What is no
/// path, as `*`, stays as it is.
fn resolved(path: &str) -> String {
    let Some(segments) = path.strip_prefix('/') else {
        return path.to_owned();
    };
    let (before, last) = segments.rsplit_once('/').unwrap_or(("", segments));
    let mut kept: Vec<&str> = Vec::new();
    for segment in before.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    match last {
        "." => kept.push(""),
        ".." => {
            kept.pop();
            kept.push("");
        }
        last => kept.push(last),
    }
    format!("/{}", kept.join("/"))
}

/// A path without its query, with the encoding of characters undone that need none, and the digits
/// of the rest in upper case: two spellings of one path become the same (RFC 3986 section 6.2.2).
fn plain(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        rest = after;
        match encoded(after.as_bytes()) {
            Some(octet) if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) => {
                plain.push(char::from(octet));
                rest = after.get(2..).unwrap_or_default();
            }
            Some(octet) => {
                plain.push_str(&format!("%{octet:02X}"));
                rest = after.get(2..).unwrap_or_default();
            }
            None => plain.push('%'),
        }
    }
    plain.push_str(rest);
    plain
}

/// The octet that two hexadecimal digits at the start say.
pub(super) fn encoded(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}
