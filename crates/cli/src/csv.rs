//! Comma-separated values (RFC 4180). Spreadsheets take values that begin with certain letters for formulas,
//! which read files and call URLs, and what was captured is hostile: such values get an apostrophe in front,
//! unless they are asked for as they are.

use std::borrow::Cow;

use serde_json::Value;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cells {
    /// So that no spreadsheet computes them.
    Inert,
    /// As they are.
    Raw,
}

impl Cells {
    pub(crate) fn new(is_raw: bool) -> Self {
        match is_raw {
            true => Self::Raw,
            false => Self::Inert,
        }
    }

    /// A line of values, with its end.
    pub(crate) fn line<'v>(self, values: impl IntoIterator<Item = &'v str>) -> String {
        let values = values.into_iter().map(|value| match self {
            Self::Inert => quoted(&inert(value)),
            Self::Raw => quoted(value),
        });
        values.collect::<Vec<_>>().join(",") + "\r\n"
    }
}

/// A value that no spreadsheet takes for a formula. Numbers stay what they are.
fn inert(value: &str) -> Cow<'_, str> {
    let is_formula = value.starts_with(['=', '+', '-', '@', '\t', '\r']);
    match is_formula && value.parse::<f64>().is_err() {
        true => Cow::Owned(format!("'{value}")),
        false => Cow::Borrowed(value),
    }
}

/// A JSON value as a field has it: a text without its quotes, nothing for null, a list or an object as JSON.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn quoted(value: &str) -> String {
    match value.contains(['"', ',', '\r', '\n']) {
        true => format!("\"{}\"", value.replace('"', "\"\"")),
        false => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_places() {
        assert_eq!(
            Cells::Raw.line(["a", "", "b c", "d,e", "f\"g", "h\ni"]),
            "a,,b c,\"d,e\",\"f\"\"g\",\"h\ni\"\r\n"
        );
        assert_eq!(Cells::Raw.line(["=1+1"]), "=1+1\r\n");
        assert_eq!(text_of(&serde_json::json!(["x"])), "[\"x\"]");
        assert_eq!(text_of(&Value::Null), "");
        assert_eq!(text_of(&serde_json::json!(1.5)), "1.5");
    }

    #[test]
    fn no_value_is_a_formula() {
        let check = |value: &str, expected: &str| {
            assert_eq!(Cells::Inert.line([value]), format!("{expected}\r\n"));
        };
        check("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0");
        check("+1-1", "'+1-1");
        check("-2+3", "'-2+3");
        check("@SUM(A1)", "'@SUM(A1)");
        check("\t=1", "'\t=1");
        check("\r=1", "\"'\r=1\"");
        check("=a,b", "\"'=a,b\"");
        for kept in ["-2", "-2.5e3", "+7", "3", "a=b", "", "127.0.0.1"] {
            check(kept, kept);
        }
    }
}
