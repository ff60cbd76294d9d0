//! Looks for a few members in a JSON text without reading all of it: no tree, no copy, no recursion.
//!
//! It trusts nothing: a text that is cut, no UTF-8 or no JSON gives the members before the place
//! where that shows. Each byte is looked at once for each level of objects that is asked for.

use std::hash::Hasher;

use memchr::memchr2;

use crate::limits::TEXT_BYTES_MAX;

/// A value as it stands in the text; of one that is cut, the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value<'a>(&'a [u8]);

/// The members of an object, in order. `\u` escapes in names are not read.
pub(crate) struct Members<'a> {
    rest: &'a [u8],
}

/// The elements of an array, in order.
pub(crate) struct Elements<'a> {
    rest: &'a [u8],
}

/// The name of a member that clients of Anthropic's API put where the conversation ends for now.
const MOVES: &[u8] = b"\"cache_control\"";

impl<'a> Value<'a> {
    /// A text that begins with a value.
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self(text.trim_ascii_start())
    }

    pub(crate) fn is_object(self) -> bool {
        self.0.starts_with(b"{")
    }

    pub(crate) fn is_text(self) -> bool {
        self.0.starts_with(b"\"")
    }

    /// Its members; none if it is no object.
    pub(crate) fn members(self) -> Members<'a> {
        Members {
            rest: self.0.strip_prefix(b"{").unwrap_or_default(),
        }
    }

    /// The member of this name.
    pub(crate) fn member(self, name: &str) -> Option<Self> {
        let mut members = self.members();
        members.find_map(|(known, value)| (known == name.as_bytes()).then_some(value))
    }

    /// The first element of an array.
    pub(crate) fn first(self) -> Option<Self> {
        let inner = self.0.strip_prefix(b"[")?.trim_ascii_start();
        let element = inner.get(..value_end(inner)).unwrap_or(inner);
        (!element.is_empty()).then_some(Self(element))
    }

    /// Its elements; none if it is no array.
    pub(crate) fn elements(self) -> Elements<'a> {
        Elements {
            rest: self.0.strip_prefix(b"[").unwrap_or_default(),
        }
    }

    /// Feeds what it says to a hasher: without white space, and without the members that move from one
    /// element to another between two requests that say the same.
    pub(crate) fn hash(self, hasher: &mut impl Hasher) {
        let mut rest = self.0.trim_ascii_start();
        while let Some(first) = rest.first() {
            let length = match first {
                b'"' => {
                    string_end(rest.get(1..).unwrap_or_default()).map_or(rest.len(), |end| end + 2)
                }
                b',' | b':' | b'{' | b'}' | b'[' | b']' => 1,
                _ => rest
                    .iter()
                    .position(|byte| byte.is_ascii_whitespace() || b",:{}[]\"".contains(byte))
                    .unwrap_or(rest.len()),
            };
            let (token, after) = rest.split_at_checked(length).unwrap_or((rest, b""));
            rest = after.trim_ascii_start();
            if token == MOVES && rest.starts_with(b":") {
                let value = rest.get(1..).unwrap_or_default().trim_ascii_start();
                rest = value
                    .get(value_end(value)..)
                    .unwrap_or_default()
                    .trim_ascii_start();
                continue;
            }
            // Commas stand around a member that is left out, and between two numbers there is one.
            match first {
                b',' => {}
                b'"' | b':' | b'{' | b'}' | b'[' | b']' => hasher.write(token),
                _ => {
                    hasher.write(token);
                    hasher.write_u8(b',');
                }
            }
        }
    }

    /// The text that it is; `None` if it is none, a long one, or cut.
    pub(crate) fn text(self) -> Option<String> {
        if !self.is_text() || self.0.len() > TEXT_BYTES_MAX {
            return None;
        }
        serde_json::from_slice(self.0).ok()
    }

    /// The text that it begins with, whatever stands behind.
    pub(crate) fn leading_text(self) -> Option<String> {
        Self(self.0.get(..value_end(self.0))?).text()
    }

    /// The text of a member.
    pub(crate) fn text_of(self, name: &str) -> Option<String> {
        self.member(name)?.text()
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.rest.trim_ascii_start();
        rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
        let (element, rest) = rest.split_at_checked(value_end(rest))?;
        self.rest = rest;
        (!element.is_empty()).then_some(Value(element))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.rest.trim_ascii_start();
        rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
        // Only a text can be a name: everything else is the end of what can be read.
        let name_end = string_end(rest.strip_prefix(b"\"")?)?;
        let (name, after) = rest.split_at_checked(name_end + 1)?;
        let after = after.strip_prefix(b"\"")?.trim_ascii_start();
        let value = after.strip_prefix(b":")?.trim_ascii_start();
        let (value, rest) = value.split_at_checked(value_end(value))?;
        self.rest = rest;
        Some((name.get(1..)?, Value(value)))
    }
}

/// Where the closing quote of a string is, behind its opening one.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
        // Escapes that follow each other are not looked for anew.
        while text.get(at) == Some(&b'\\') {
            at += 2;
        }
    }
}

/// How long the value is that a text begins with; all of the text if it is cut.
fn value_end(text: &[u8]) -> usize {
    let mut at = 0;
    let mut depth = 0_usize;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                let inside = text.get(at + 1..).unwrap_or_default();
                match string_end(inside) {
                    Some(end) => at += end + 1,
                    None => return text.len(),
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                let Some(less) = depth.checked_sub(1) else {
                    return at;
                };
                depth = less;
            }
            b',' | b':' if depth == 0 => return at,
            byte if depth == 0 && byte.is_ascii_whitespace() => return at,
            // Of a number, or a word such as `true`.
            _ if depth == 0 => {
                at += 1;
                continue;
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> Vec<String> {
        let members = Value::new(text.as_bytes()).members();
        members
            .map(|(name, value)| {
                let (name, value) = (
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(value.0),
                );
                format!("{name}={value}")
            })
            .collect()
    }

    #[test]
    fn finds_members() {
        for (text, expected) in [
            (r#"{}"#, vec![]),
            (r#"  {"a":1}"#, vec!["a=1"]),
            (
                r#"{ "a" : -1.5e3 , "b" : true }"#,
                vec!["a=-1.5e3", "b=true"],
            ),
            (
                r#"{"a":"x\"y,}","b":null}"#,
                vec![r#"a="x\"y,}""#, "b=null"],
            ),
            (
                r#"{"a":{"b":[1,"]"]},"c":[]}"#,
                vec![r#"a={"b":[1,"]"]}"#, "c=[]"],
            ),
            // Cut short, or no JSON from some place on.
            (r#"{"a":1,"b":[1,2"#, vec!["a=1", "b=[1,2"]),
            (r#"{"a":1,"b":"x\"#, vec!["a=1", r#"b="x\"#]),
            (r#"{"a":1,"b"#, vec!["a=1"]),
            (r#"{"a":1,"b":"#, vec!["a=1", "b="]),
            (r#"{"a":1 b:2}"#, vec!["a=1"]),
            (r#"["a"]"#, vec![]),
            (r#""a""#, vec![]),
            ("", vec![]),
        ] {
            assert_eq!(names(text), expected, "{text}");
        }
    }

    #[test]
    fn reads_texts() {
        let text = |json: &str| Value::new(json.as_bytes()).text();
        assert_eq!(text(r#""a\n\u00e4\"""#), Some("a\nä\"".to_owned()));
        assert_eq!(text("12"), None);
        assert_eq!(text(r#""cut"#), None);
        assert_eq!(Value::new(b"\"\xff\"").text(), None);
        let long = format!("\"{}\"", "a".repeat(TEXT_BYTES_MAX));
        assert_eq!(text(&long), None);
        let elements: Vec<_> = Value::new(b" [ {\"a\":1}, 2 ,\"]\"] , 3")
            .elements()
            .collect();
        assert_eq!(
            elements,
            [Value(b"{\"a\":1}"), Value(b"2"), Value(b"\"]\"")]
        );
        let first = Value::new(b" [ {\"a\":1}, 2]").first();
        assert_eq!(first, Some(Value(b"{\"a\":1}")));
        assert_eq!(Value::new(b"[]").first(), None);
    }

    fn hash_of(text: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        Value::new(text.as_bytes()).hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn hashes_what_is_said() {
        let text = r#"{"role":"user","content":[{"text":"a, b","n":[1,2]}]}"#;
        for same in [
            r#" { "role" : "user" , "content":[{"text":"a, b","n":[1, 2]} ]}"#,
            r#"{"role":"user","content":[{"text":"a, b","n":[1,2],"cache_control":{"type":"ephemeral"}}]}"#,
            r#"{"role":"user","content":[{"text":"a, b","cache_control":{"a":["}"]},"n":[1,2]}]}"#,
        ] {
            assert_eq!(hash_of(same), hash_of(text), "{same}");
        }
        for other in [
            r#"{"role":"user","content":[{"text":"a,b","n":[1,2]}]}"#,
            r#"{"role":"user","content":[{"text":"a, b","n":[12]}]}"#,
            r#"{"role":"user","content":[{"text":"a, b","n":[1,[2]]}]}"#,
            r#"{"role":"user","content":["cache_control",{"text":"a, b","n":[1,2]}]}"#,
        ] {
            assert_ne!(hash_of(other), hash_of(text), "{other}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_whole_reader(value in nested()) {
            let text = serde_json::to_string(&value).unwrap();
            let expected: Vec<String> = value
                .as_object()
                .map(|object| object.iter().map(|(name, value)| format!("{name}={value}")).collect())
                .unwrap_or_default();
            prop_assert_eq!(names(&text), expected);
        }

        #[test]
        fn ends_for_any_bytes(text in proptest::collection::vec(
            prop_oneof![Just(b'"'), Just(b'{'), Just(b'}'), Just(b'['), Just(b':'), Just(b','), Just(b'\\'), any::<u8>()],
            0..80,
        )) {
            let value = Value::new(&text);
            prop_assert!(value.members().count() <= text.len());
            let found = value.member("a");
            prop_assert!(found.is_none() || value.is_object());
            prop_assert!(value.elements().count() <= text.len());
            value.hash(&mut DefaultHasher::new());
            prop_assert!(value.first().is_none() || value.0.starts_with(b"["));
        }
    }

    fn nested() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-z\"\\\\,:{}\\[\\] ]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::btree_map("[a-z]{1,6}", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
