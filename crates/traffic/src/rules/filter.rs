//! The filter language: one grammar for every place that selects flows.
//!
//! A filter is parsed here, once, into an [`Expression`]; what answers it (the store, with SQL)
//! only walks that. Letters match in either case.
//!
//! ```text
//! host:openai.com              the host or a subdomain of it
//! path:/v1/* -method:GET       `*` stands for anything; `-` for "not"; a space for "and"
//! status:>=400 dur:>1.5s       > >= < <= and a..b; sizes in k, KiB, MiB; times in ms, s, m, h
//! kind:http,tunnel             any of several values
//! type:llm agent:codex         what it is for, and the agent that sent it
//! url:/v[12]\/chat/            a regular expression between slashes
//! process:node pid:4711        the client's program, where it was found
//! text:"rm -rf" text:dead*     words in bodies, messages and URLs, in any order
//! tag:gold note:hang marked:no what people said about flows
//! user:dana                    the name that the client said to the proxy
//! instance:build-7 owner:dana  the machine that recorded it, and for whom, in an archive
//! front:socks5,reverse         how the client said whom it wants
//! sni:a.com tls:t13d1516h2*    the name in the ClientHello, its JA3 or JA4
//! since:1h until:2026-03-02    times relative to now, dates, or RFC 3339
//! (error:* OR status:5xx)      groups; OR binds less than the space
//! "some words" api             other words are looked for in URL, method and error
//! ```

mod parse;
mod value;

use std::fmt;
use std::ops::Range;

use crate::Timestamp;

/// Longest text of a filter.
pub const FILTER_BYTES_MAX: usize = 4096;
/// Deepest nesting of groups.
pub const FILTER_DEPTH_MAX: usize = 32;
/// Most single tests in a filter.
pub const FILTER_TESTS_MAX: usize = 128;
/// Largest program a regular expression may compile to.
pub const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// A parsed filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    expression: Expression,
}

/// What a flow is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// All of these; with none of them, every flow.
    All(Vec<Self>),
    /// Any of these.
    Any(Vec<Self>),
    /// Not this. What is not known does not match, so its opposite does.
    Not(Box<Self>),
    /// One question.
    Test(Test),
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// The URL, the method or the error has this somewhere in it.
    Anywhere(Pattern),
    /// A text is this.
    Text(TextKey, Pattern),
    /// A request or response field of this name, in lower case, has this value.
    Header(String, Pattern),
    /// A number is within these bounds.
    Number(NumberKey, Bounds),
    /// Its texts (the URL, bodies, messages) have all of these words.
    Words(Words),
}

/// Words to look for in texts. A word is letters and digits; what stands between words has no meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The words.
    pub text: String,
    /// The last word may go on: `dead*` finds `deadlock`.
    pub is_open: bool,
}

/// Texts of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextKey {
    /// The whole URL. A plain value is looked for anywhere in it.
    Url,
    /// The host. A plain value means its subdomains too.
    Host,
    /// The path without the query. A plain value is looked for anywhere in it.
    Path,
    /// The method.
    Method,
    /// `http` or `tunnel`.
    Kind,
    /// `open`, `completed`, `failed` or `interrupted`.
    State,
    /// The HTTP version the client spoke, as `HTTP/1.1`.
    Proto,
    /// Action or rule of the route. A plain value is looked for anywhere in the rule.
    Route,
    /// Side, stage, kind or text of the error. A plain value is looked for anywhere in the text.
    Error,
    /// Id or name of the run, `@last`, `@-2`.
    Run,
    /// The same, or id or name of the session of an agent.
    Session,
    /// `llm`, `mcp`, `web`, `other` or `unknown`.
    TrafficType,
    /// The program of a session, for example `claude-code`, or the id of an agent within it.
    Agent,
    /// Id of the flow, or its UUID.
    Id,
    /// File name or path of the client's program.
    Process,
    /// The name that the client said to the proxy.
    User,
    /// The oriel that recorded its run.
    Instance,
    /// The person or account that its run was recorded for.
    Owner,
    /// The name in the client's ClientHello. A plain value means its subdomains too.
    Sni,
    /// How the client said whom it wants: `connect`, `absolute_form`, `origin_form`, `socks5`,
    /// `reverse`.
    Front,
    /// The JA3 or JA4 fingerprint of the client's ClientHello.
    Fingerprint,
    /// Any of its tags.
    Tag,
    /// Its note. A plain value is looked for anywhere in it.
    Note,
    /// Whether it has a tag: `yes` or `no`.
    Marked,
}

/// Numbers of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberKey {
    /// The status code.
    Status,
    /// Bytes of both bodies, or of the tunnel; what is not known counts as zero.
    Size,
    /// Bytes of the request body, or from the client.
    RequestSize,
    /// Bytes of the response body, or from the upstream.
    ResponseSize,
    /// Microseconds from start to end.
    Duration,
    /// The number of the client's process.
    Pid,
    /// When it started, in microseconds since the Unix epoch.
    Time,
}

/// What a text is compared with. Letters match in either case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The text itself; what that means depends on the key.
    Plain(String),
    /// The whole text, where `*` stands for anything. The parts between the stars, in order.
    Glob(Vec<String>),
    /// A regular expression that compiles within [`REGEX_BYTES_MAX`]; it may match anywhere.
    Regex(String),
}

/// Bounds, both included; absent is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The smallest.
    pub min: Option<i64>,
    /// The largest.
    pub max: Option<i64>,
}

/// Why a text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    /// One sentence for people, lower case, without a full stop.
    pub message: String,
    /// The bytes of the text it is about, for a caret.
    pub span: Range<usize>,
    /// What may have been meant.
    pub suggestion: Option<String>,
}

impl Filter {
    /// Parses a filter. `now` is what `since:1h` counts from.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, FilterError> {
        parse::parse(text, now).map(|expression| Self { expression })
    }

    /// What it asks.
    #[must_use]
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// Words that every flow has that matches, if the filter says so at its top.
    #[must_use]
    pub fn words_of_all(&self) -> Option<&Words> {
        match &self.expression {
            Expression::All(parts) => parts.iter().find_map(Expression::words),
            one => one.words(),
        }
    }

    /// Whether it asks for words in texts, which wants an index of them.
    #[must_use]
    pub fn asks_for_words(&self) -> bool {
        self.expression.asks_for_words()
    }
}

impl Expression {
    fn words(&self) -> Option<&Words> {
        match self {
            Self::Test(Test::Words(words)) => Some(words),
            _ => None,
        }
    }

    fn asks_for_words(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::asks_for_words),
            Self::Not(inner) => inner.asks_for_words(),
            Self::Test(test) => matches!(test, Test::Words(_)),
        }
    }
}

impl Words {
    /// Reads words, with a star behind the last one if that may go on; `None` if there is no word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (text, is_open) = match text.strip_suffix('*') {
            Some(before) => (before, before.ends_with(char::is_alphanumeric)),
            None => (text, false),
        };
        text.contains(char::is_alphanumeric).then(|| Self {
            text: text.to_owned(),
            is_open,
        })
    }
}

impl Pattern {
    /// The regular expression of a [`Pattern::Regex`], compiled within its bound.
    pub fn compile(regex: &str) -> Result<regex::Regex, regex::Error> {
        regex::RegexBuilder::new(regex)
            .case_insensitive(true)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .build()
    }
}

impl Bounds {
    /// Whether a number lies within.
    #[must_use]
    pub fn contain(&self, number: i64) -> bool {
        self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = |bound: Option<i64>| bound.map(|bound| bound.to_string()).unwrap_or_default();
        write!(f, "{}..{}", bound(self.min), bound(self.max))
    }
}

#[cfg(test)]
mod tests;
