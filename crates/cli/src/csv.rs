//! Comma-separated values (RFC 4180). Values are written as they are: a program that takes some of them for
//! formulas is to be told not to.

use serde_json::Value;

/// A line of values, with its end.
pub(crate) fn line<'v>(values: impl IntoIterator<Item = &'v str>) -> String {
    let values: Vec<_> = values.into_iter().map(quoted).collect();
    values.join(",") + "\r\n"
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
            line(["a", "", "b c", "d,e", "f\"g", "h\ni"]),
            "a,,b c,\"d,e\",\"f\"\"g\",\"h\ni\"\r\n"
        );
        assert_eq!(text_of(&serde_json::json!(["x"])), "[\"x\"]");
        assert_eq!(text_of(&Value::Null), "");
        assert_eq!(text_of(&serde_json::json!(1.5)), "1.5");
    }
}
