//! Reads the text of a filter. By hand: the grammar is small, and each error has its place.

use std::ops::Range;

use super::value::Unit;
use super::{
    Bounds, Expression, FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_TESTS_MAX, FilterError,
    NumberKey, Pattern, Test, TextKey, Words,
};
use crate::Timestamp;
use crate::spelling::nearest;

/// What stands before a colon, and what it asks for.
const KEYS: [(&str, Key); 35] = [
    ("host", Key::Text(TextKey::Host)),
    ("path", Key::Text(TextKey::Path)),
    ("url", Key::Text(TextKey::Url)),
    ("method", Key::Text(TextKey::Method)),
    (
        "kind",
        Key::Word(TextKey::Kind, &["http", "websocket", "tunnel"]),
    ),
    (
        "state",
        Key::Word(
            TextKey::State,
            &["open", "completed", "failed", "interrupted"],
        ),
    ),
    ("proto", Key::Text(TextKey::Proto)),
    ("route", Key::Text(TextKey::Route)),
    ("error", Key::Text(TextKey::Error)),
    ("session", Key::Text(TextKey::Session)),
    ("run", Key::Text(TextKey::Run)),
    ("agent", Key::Text(TextKey::Agent)),
    (
        "type",
        Key::Word(
            TextKey::TrafficType,
            &["llm", "mcp", "web", "other", "unknown"],
        ),
    ),
    ("id", Key::Text(TextKey::Id)),
    ("process", Key::Text(TextKey::Process)),
    ("pid", Key::Number(NumberKey::Pid, Unit::Count)),
    ("user", Key::Text(TextKey::User)),
    ("instance", Key::Text(TextKey::Instance)),
    ("owner", Key::Text(TextKey::Owner)),
    ("sni", Key::Text(TextKey::Sni)),
    ("front", Key::Text(TextKey::Front)),
    ("tls", Key::Text(TextKey::Fingerprint)),
    ("tag", Key::Text(TextKey::Tag)),
    ("note", Key::Text(TextKey::Note)),
    ("marked", Key::Word(TextKey::Marked, &["yes", "no"])),
    ("text", Key::Words),
    ("status", Key::Number(NumberKey::Status, Unit::Status)),
    ("size", Key::Number(NumberKey::Size, Unit::Bytes)),
    ("req.size", Key::Number(NumberKey::RequestSize, Unit::Bytes)),
    (
        "resp.size",
        Key::Number(NumberKey::ResponseSize, Unit::Bytes),
    ),
    ("dur", Key::Number(NumberKey::Duration, Unit::Duration)),
    ("time", Key::Number(NumberKey::Time, Unit::Time)),
    ("since", Key::Since),
    ("until", Key::Until),
    ("header", Key::Header),
];

/// What a key asks for.
#[derive(Clone, Copy)]
enum Key {
    Text(TextKey),
    /// One of a closed list of words.
    Word(TextKey, &'static [&'static str]),
    Number(NumberKey, Unit),
    /// Words in texts.
    Words,
    Since,
    Until,
    /// Followed by a dot and the name of the field.
    Header,
}

/// Parses the text of a filter.
pub(super) fn parse(text: &str, now: Timestamp) -> Result<Expression, FilterError> {
    if text.len() > FILTER_BYTES_MAX {
        let message = format!("the filter is longer than {FILTER_BYTES_MAX} bytes");
        let start = text.floor_char_boundary(FILTER_BYTES_MAX);
        return Err(error(message, start..text.len()));
    }
    let mut parser = Parser {
        text,
        at: 0,
        now,
        tests: 0,
    };
    let expression = parser.any(0)?;
    match parser.peek() {
        None => Ok(expression),
        // Only a closing parenthesis ends an expression before the end of the text.
        Some(_) => Err(error(
            "this closing parenthesis has no opening one".to_owned(),
            parser.at..parser.at + 1,
        )),
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    now: Timestamp,
    tests: usize,
}

/// A piece of text up to a space or a parenthesis, as it was written.
struct Word<'t> {
    /// Where it begins.
    start: usize,
    /// As written, with its quotes.
    raw: &'t str,
}

impl<'t> Parser<'t> {
    /// Alternatives, up to the end or a closing parenthesis.
    fn any(&mut self, depth: usize) -> Result<Expression, FilterError> {
        if depth > FILTER_DEPTH_MAX {
            let message = format!("groups are nested deeper than {FILTER_DEPTH_MAX}");
            return Err(error(message, self.at..self.at));
        }
        let mut alternatives = vec![self.all(depth)?];
        while let Some(span) = self.keyword("OR") {
            let next = self.all(depth)?;
            let is_empty =
                |side: &Expression| matches!(side, Expression::All(all) if all.is_empty());
            if is_empty(&next) || alternatives.last().is_some_and(is_empty) {
                return Err(error("OR needs something on both sides".to_owned(), span));
            }
            alternatives.push(next);
        }
        Ok(match alternatives.len() {
            1 => alternatives.remove(0),
            _ => Expression::Any(alternatives),
        })
    }

    /// What must hold together, up to `OR`, the end or a closing parenthesis.
    fn all(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut parts = Vec::new();
        loop {
            match self.peek() {
                None | Some(')') => break,
                Some(_) if self.is_keyword("OR") => break,
                Some(_) if self.keyword("AND").is_some() => {}
                Some(_) => parts.push(self.one(depth)?),
            }
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Expression::All(parts),
        })
    }

    /// A group or a test, maybe with a minus before it.
    fn one(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let start = self.at;
        if self.eat('-') {
            if self.text_left().is_empty() || self.text_left().starts_with([' ', ')', '-']) {
                let message = "a minus needs something behind it".to_owned();
                return Err(error(message, start..self.at));
            }
            let inner = self.one(depth)?;
            return Ok(Expression::Not(Box::new(inner)));
        }
        if self.eat('(') {
            let inner = self.any(depth + 1)?;
            if self.peek().is_none() {
                let message = "this parenthesis is not closed".to_owned();
                return Err(error(message, start..start + 1));
            }
            self.at += 1;
            return Ok(inner);
        }
        let word = self.word()?;
        self.test(&word)
    }

    fn test(&mut self, word: &Word<'t>) -> Result<Expression, FilterError> {
        let Some((name, value)) = split_key(word.raw) else {
            let pattern = self.pattern(word.raw, word.start)?;
            return self.count(Test::Anywhere(pattern), word);
        };
        let (plain, field) = match name.strip_prefix("header.") {
            Some(field) if !field.is_empty() => ("header", field),
            _ => (name, ""),
        };
        let known = KEYS.iter().find(|(known, _)| *known == plain);
        let known = known.filter(|(known, _)| *known != "header" || !field.is_empty());
        let Some((_, key)) = known else {
            return Err(unknown_key(name, word.start));
        };
        let value_at = word.start + name.len() + 1;
        if value.is_empty() {
            let message = format!("{name}: needs a value");
            return Err(error(message, word.start..value_at));
        }
        if is_regex(value) {
            let test = self.value_test(*key, name, field, value, value_at)?;
            return self.count(test, word);
        }
        let mut alternatives = Vec::new();
        let mut at = value_at;
        for value in split_outside_quotes(value) {
            if value.is_empty() {
                let message = "a value is missing beside this comma".to_owned();
                // The comma before the gap; at the start of the value, the one after it.
                let comma = (at - 1).max(value_at);
                return Err(error(message, comma..comma + 1));
            }
            let test = self.value_test(*key, name, field, value, at)?;
            alternatives.push(self.count(test, word)?);
            at += value.len() + 1;
        }
        Ok(match alternatives.len() {
            1 => alternatives.remove(0),
            _ => Expression::Any(alternatives),
        })
    }

    fn value_test(
        &self,
        key: Key,
        name: &str,
        field: &str,
        value: &str,
        at: usize,
    ) -> Result<Test, FilterError> {
        let bounds = |unit: Unit| {
            let bounds = unit.bounds(&unquote(value).0, self.now);
            bounds.ok_or_else(|| bad_value(name, unit, at..at + value.len()))
        };
        let moment = || {
            let unit = Unit::Time;
            let span = unit.value(&unquote(value).0, self.now);
            span.ok_or_else(|| bad_value(name, unit, at..at + value.len()))
        };
        match key {
            Key::Text(key) => {
                let pattern = self.pattern(value, at)?;
                Ok(Test::Text(key, proto_of(key, pattern)))
            }
            Key::Word(key, words) => {
                let pattern = self.pattern(value, at)?;
                check_word(name, words, &pattern, at..at + value.len())?;
                Ok(Test::Text(key, pattern))
            }
            Key::Header => {
                let pattern = self.pattern(value, at)?;
                Ok(Test::Header(field.to_ascii_lowercase(), pattern))
            }
            Key::Words => {
                let words = match is_regex(value) {
                    true => None,
                    false => Words::parse(&unquote(value).0),
                };
                let message = format!("{name} takes words, and a star behind the last one");
                words
                    .map(Test::Words)
                    .ok_or_else(|| error(message, at..at + value.len()))
            }
            Key::Number(key, unit) => Ok(Test::Number(key, bounds(unit)?)),
            Key::Since => Ok(Test::Number(
                NumberKey::Time,
                Bounds {
                    min: Some(moment()?.0),
                    max: None,
                },
            )),
            Key::Until => Ok(Test::Number(
                NumberKey::Time,
                Bounds {
                    min: None,
                    max: Some(moment()?.1),
                },
            )),
        }
    }

    fn pattern(&self, raw: &str, at: usize) -> Result<Pattern, FilterError> {
        if is_regex(raw) {
            let inner = raw.get(1..raw.len() - 1).unwrap_or_default();
            return match Pattern::compile(inner) {
                Ok(_) => Ok(Pattern::Regex(inner.to_owned())),
                Err(failure) => {
                    let reason = failure.to_string();
                    // The last line says what is wrong; those before draw it.
                    let reason = reason.lines().last().unwrap_or_default();
                    let reason = reason.trim_start_matches("error: ");
                    let message = format!("this is not a regular expression: {reason}");
                    Err(error(message, at..at + raw.len()))
                }
            };
        }
        let (text, stars) = unquote(raw);
        if stars.is_empty() {
            return Ok(Pattern::Plain(text));
        }
        let mut parts = Vec::with_capacity(stars.len() + 1);
        let mut start = 0;
        for star in stars {
            parts.push(text.get(start..star).unwrap_or_default().to_owned());
            start = star + 1;
        }
        parts.push(text.get(start..).unwrap_or_default().to_owned());
        Ok(Pattern::Glob(parts))
    }

    fn count(&mut self, test: Test, word: &Word<'_>) -> Result<Expression, FilterError> {
        self.tests += 1;
        if self.tests > FILTER_TESTS_MAX {
            let message = format!("the filter asks more than {FILTER_TESTS_MAX} things");
            return Err(error(message, word.start..word.start + word.raw.len()));
        }
        Ok(Expression::Test(test))
    }

    /// The next word; quotes keep spaces and parentheses in it, a regular expression its own.
    fn word(&mut self) -> Result<Word<'t>, FilterError> {
        let start = self.at;
        let rest = self.text_left();
        let mut quote = None;
        let mut end = rest.len();
        for (at, letter) in rest.char_indices() {
            match letter {
                '"' if quote.is_some() => quote = None,
                '"' => quote = Some(start + at),
                _ if quote.is_some() => {}
                letter if letter.is_whitespace() || matches!(letter, '(' | ')') => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        if let Some(quote) = quote {
            let message = "this quote is not closed".to_owned();
            return Err(error(message, quote..quote + 1));
        }
        let end = regex_end(rest).unwrap_or(end);
        let raw = rest.get(..end).unwrap_or(rest);
        self.at += raw.len();
        Ok(Word { start, raw })
    }

    /// The next letter that is no white space; moves up to it.
    fn peek(&mut self) -> Option<char> {
        let rest = self.text_left();
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed.chars().next()
    }

    fn eat(&mut self, letter: char) -> bool {
        let found = self.text_left().starts_with(letter);
        if found {
            self.at += letter.len_utf8();
        }
        found
    }

    fn is_keyword(&mut self, keyword: &str) -> bool {
        self.peek();
        let rest = self.text_left().strip_prefix(keyword);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '(', ')']))
    }

    fn keyword(&mut self, keyword: &str) -> Option<Range<usize>> {
        if !self.is_keyword(keyword) {
            return None;
        }
        let start = self.at;
        self.at += keyword.len();
        Some(start..self.at)
    }

    fn text_left(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }
}

/// Splits `key:value`. A URL and a quoted text have no key.
fn split_key(raw: &str) -> Option<(&str, &str)> {
    let (name, value) = raw.split_once(':')?;
    let is_name = name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    (is_name && !value.starts_with("//")).then_some((name, value))
}

/// Where a word ends that is, or whose value is, a regular expression: these may hold parentheses,
/// but no space.
fn regex_end(rest: &str) -> Option<usize> {
    let word = rest.split(char::is_whitespace).next()?;
    let value_at = match split_key(word) {
        Some((name, _)) => name.len() + 1,
        None => 0,
    };
    let value = word.get(value_at..)?.strip_prefix('/')?;
    // What closes a group stands behind the last slash.
    let inner = value.trim_end_matches(')');
    let closed = inner.len() > 1 && inner.ends_with('/') && !inner.ends_with("\\/");
    closed.then(|| value_at + 1 + inner.len())
}

fn is_regex(raw: &str) -> bool {
    let inner = raw
        .strip_prefix('/')
        .and_then(|rest| rest.strip_suffix('/'));
    inner.is_some_and(|inner| !inner.is_empty() && !inner.ends_with('\\'))
}

/// The text without its quotes, and where the stars stand that were outside of them.
fn unquote(raw: &str) -> (String, Vec<usize>) {
    let mut text = String::with_capacity(raw.len());
    let mut stars = Vec::new();
    let mut quoted = false;
    for letter in raw.chars() {
        match letter {
            '"' => {
                quoted = !quoted;
                continue;
            }
            '*' if !quoted => stars.push(text.len()),
            _ => {}
        }
        text.push(letter);
    }
    (text, stars)
}

/// Splits at the commas outside quotes.
fn split_outside_quotes(value: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    value.split(move |letter| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    })
}

/// `h2` and `h1` are what people write for a version of HTTP.
fn proto_of(key: TextKey, pattern: Pattern) -> Pattern {
    let Pattern::Plain(text) = &pattern else {
        return pattern;
    };
    if key != TextKey::Proto {
        return pattern;
    }
    match text.to_ascii_lowercase().as_str() {
        "h2" | "2" | "http2" | "http/2.0" => Pattern::Plain("HTTP/2".to_owned()),
        "h1" | "1" | "http1" => Pattern::Glob(vec!["HTTP/1.".to_owned(), String::new()]),
        "1.1" => Pattern::Plain("HTTP/1.1".to_owned()),
        "1.0" => Pattern::Plain("HTTP/1.0".to_owned()),
        _ => pattern,
    }
}

fn check_word(
    name: &str,
    words: &[&'static str],
    pattern: &Pattern,
    span: Range<usize>,
) -> Result<(), FilterError> {
    let Pattern::Plain(text) = pattern else {
        return Ok(());
    };
    if words.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        return Ok(());
    }
    Err(FilterError {
        message: format!("{name} is one of {}", words.join(", ")),
        span,
        suggestion: nearest(text, words.iter().copied()).map(str::to_owned),
    })
}

fn bad_value(name: &str, unit: Unit, span: Range<usize>) -> FilterError {
    let message = format!("{name} takes for example {}", unit.example());
    error(message, span)
}

fn unknown_key(name: &str, start: usize) -> FilterError {
    let names = KEYS.iter().map(|(known, _)| *known);
    let names = names.map(|known| {
        if known == "header" {
            "header.NAME"
        } else {
            known
        }
    });
    let suggestion = nearest(name, names).map(str::to_owned);
    let message = match &suggestion {
        Some(_) => format!("there is no key {name:?}"),
        None => format!("there is no key {name:?}; put quotes around a text that has a colon"),
    };
    FilterError {
        message,
        span: start..start + name.len(),
        suggestion,
    }
}

fn error(message: String, span: Range<usize>) -> FilterError {
    FilterError {
        message,
        span,
        suggestion: None,
    }
}
