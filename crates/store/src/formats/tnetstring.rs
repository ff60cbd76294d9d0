//! Typed netstrings, as mitmproxy writes them: `LENGTH:PAYLOAD` and a letter for the type. Besides the
//! types of tnetstrings.org (2011) there is `;` for text; `,` is bytes.

use std::borrow::Cow;

use crate::limits::TNETSTRING_DEPTH_MAX;

/// A value. What is read has the bytes and texts of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Bytes(Cow<'a, [u8]>),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    /// In the order of the file.
    Dict(Vec<(Cow<'a, [u8]>, Self)>),
}

impl<'a> Value<'a> {
    /// Reads the payload of a value whose type this is; says what is wrong otherwise.
    pub(super) fn read(kind: u8, payload: &'a [u8]) -> Result<Self, &'static str> {
        read(kind, payload, 0)
    }

    /// A list of these.
    pub(super) fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(items.into_iter().collect())
    }

    /// A dictionary of these entries.
    pub(super) fn dict(entries: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let entries = entries.into_iter();
        Self::Dict(
            entries
                .map(|(name, value)| (name.as_bytes().into(), value))
                .collect(),
        )
    }

    /// Writes it behind what is there.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => put(b"", b'~', out),
            Self::Bool(truth) => put(truth.to_string().as_bytes(), b'!', out),
            Self::Integer(number) => put(number.to_string().as_bytes(), b'#', out),
            Self::Float(number) => put(number.to_string().as_bytes(), b'^', out),
            Self::Bytes(bytes) => put(bytes, b',', out),
            Self::Text(text) => put(text.as_bytes(), b';', out),
            // The length stands in front, and is known afterwards.
            Self::List(items) => {
                let mut inner = Vec::new();
                items.iter().for_each(|item| item.write(&mut inner));
                put(&inner, b']', out);
            }
            Self::Dict(entries) => {
                let mut inner = Vec::new();
                for (name, value) in entries {
                    put(name, b';', &mut inner);
                    value.write(&mut inner);
                }
                put(&inner, b'}', out);
            }
        }
    }

    /// What a dictionary has under this name; `Null` where there is nothing.
    pub(super) fn get(&self, name: &str) -> &Self {
        match self {
            Self::Dict(items) => items
                .iter()
                .find(|(known, _)| **known == *name.as_bytes())
                .map_or(&Self::Null, |(_, value)| value),
            _ => &Self::Null,
        }
    }

    /// The items of a list.
    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// An item of a list.
    pub(super) fn item(&self, index: usize) -> &Self {
        self.items().get(index).unwrap_or(&Self::Null)
    }

    /// Bytes, or a text as bytes.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Text(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// A text, or bytes that are one.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "a time in seconds fits")]
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        *self == Self::Bool(true)
    }

    pub(super) fn is_null(&self) -> bool {
        *self == Self::Null
    }
}

fn read<'a>(kind: u8, payload: &'a [u8], depth: usize) -> Result<Value<'a>, &'static str> {
    let literal = || std::str::from_utf8(payload).map_err(|_error| "a literal is no text");
    Ok(match kind {
        b',' => Value::Bytes(payload.into()),
        b';' => Value::Text(
            std::str::from_utf8(payload)
                .map_err(|_error| "a text is no UTF-8")?
                .into(),
        ),
        b'#' => Value::Integer(
            literal()?
                .parse()
                .map_err(|_error| "an integer is no number")?,
        ),
        b'^' => Value::Float(
            literal()?
                .parse()
                .map_err(|_error| "a float is no number")?,
        ),
        b'!' => match payload {
            b"true" => Value::Bool(true),
            b"false" => Value::Bool(false),
            _ => return Err("a truth value is neither true nor false"),
        },
        b'~' if payload.is_empty() => Value::Null,
        b'~' => return Err("a null has a content"),
        b']' | b'}' if depth >= TNETSTRING_DEPTH_MAX => return Err("it is nested too deep"),
        b']' => {
            let mut items = Vec::new();
            let mut rest = payload;
            while !rest.is_empty() {
                items.push(next(&mut rest, depth + 1)?);
            }
            Value::List(items)
        }
        b'}' => {
            let mut items = Vec::new();
            let mut rest = payload;
            while !rest.is_empty() {
                let name = match next(&mut rest, depth + 1)? {
                    Value::Bytes(name) => name,
                    Value::Text(Cow::Borrowed(name)) => name.as_bytes().into(),
                    _ => return Err("the name of an entry is no text"),
                };
                items.push((name, next(&mut rest, depth + 1)?));
            }
            Value::Dict(items)
        }
        _ => return Err("a value has no known type"),
    })
}

fn next<'a>(rest: &mut &'a [u8], depth: usize) -> Result<Value<'a>, &'static str> {
    let colon = rest.iter().take(LENGTH_DIGITS_MAX + 1);
    let colon = colon
        .clone()
        .position(|byte| *byte == b':')
        .ok_or("a length has no colon")?;
    let (digits, behind) = rest.split_at_checked(colon).unwrap_or((rest, &[]));
    let length = length(digits).ok_or("a length is no number")?;
    let (payload, behind) = behind
        .get(1..)
        .and_then(|behind| behind.split_at_checked(length))
        .ok_or("a value is longer than what it is in")?;
    let (kind, behind) = behind.split_first().ok_or("a value has no type")?;
    *rest = behind;
    read(*kind, payload, depth)
}

/// Digits of a length: up to a terabyte, as mitmproxy has it.
pub(super) const LENGTH_DIGITS_MAX: usize = 12;

/// The length that stands before a colon.
pub(super) fn length(digits: &[u8]) -> Option<usize> {
    let is_plain = !digits.is_empty()
        && digits.len() <= LENGTH_DIGITS_MAX
        && digits.iter().all(u8::is_ascii_digit);
    is_plain
        .then(|| std::str::from_utf8(digits).ok()?.parse().ok())
        .flatten()
}

fn put(payload: &[u8], kind: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{}:", payload.len()).as_bytes());
    out.extend_from_slice(payload);
    out.push(kind);
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<u16> for Value<'_> {
    fn from(number: u16) -> Self {
        Self::Integer(number.into())
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl<'a, T: Into<Self>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_one(bytes: &[u8]) -> Result<Value<'_>, &'static str> {
        let mut rest = bytes;
        let value = next(&mut rest, 0)?;
        assert!(rest.is_empty());
        Ok(value)
    }

    #[test]
    fn reads_what_the_definition_shows() {
        assert_eq!(read_one(b"5:12345#"), Ok(Value::Integer(12345)));
        assert_eq!(
            read_one(b"11:hello world,"),
            Ok(Value::Bytes(b"hello world".into()))
        );
        let list = read_one(b"19:5:12345#4:true!1:0#]").unwrap();
        assert_eq!(list.item(1), &Value::Bool(true));
        let dict = read_one(b"16:5:hello;5:world,}").unwrap();
        assert_eq!(dict.get("hello").text(), Some("world"));
        assert!(dict.get("other").is_null());
    }

    #[test]
    fn reads_what_it_writes() {
        let value = Value::dict([
            ("a", 1.25.into()),
            (
                "b",
                Value::list([Value::Null, false.into(), Value::Integer(-7)]),
            ),
            ("c", Value::list([Value::Bytes(b"\xff".into()), "ü".into()])),
        ]);
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        assert_eq!(read_one(&bytes), Ok(value));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let deep = (0..100).fold(b"0:~".to_vec(), |inner, _| {
            [format!("{}:", inner.len()).as_bytes(), &inner, b"]"].concat()
        });
        for (bytes, what) in [
            (&b"5:hello"[..], "a value has no type"),
            (b"7:hello,", "a value is longer than what it is in"),
            (b"x:hello,", "a length is no number"),
            (b"9999999999999:", "a length has no colon"),
            (b"1:x?", "a value has no known type"),
            (b"1:x!", "a truth value is neither true nor false"),
            (b"4:1:a,}", "a length has no colon"),
            (b"1:\xff;", "a text is no UTF-8"),
            (&deep, "it is nested too deep"),
        ] {
            let found = read_one(bytes);
            assert!(found.is_err(), "{what}");
            if what != "a length has no colon" {
                assert_eq!(found, Err(what));
            }
        }
    }

    proptest! {
        #[test]
        fn takes_any_bytes(bytes in "[0-9]{0,2}:[ -~]{0,9}[,;#^!~\\]}]{0,3}") {
            let mut rest = bytes.as_bytes();
            let _any = next(&mut rest, 0).is_ok();
        }
    }
}
