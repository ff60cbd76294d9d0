//! Masks credentials in the text of an argument: of a script as in `sh -c` or `python -c`, of JSON, or of
//! anything else that has a credential of a known form in it.

use super::super::Masked;

/// How the credentials begin that services of models and code hand out. Each of these services documents
/// its own, or its SDK checks for it.
const BEGINNINGS: [&str; 18] = [
    "AIza",
    "eyJ",
    "github_pat_",
    "gho_",
    "ghp_",
    "ghr_",
    "ghs_",
    "ghu_",
    "glpat-",
    "gsk_",
    "hf_",
    "pplx-",
    "r8_",
    "sk-",
    "sk_",
    "xai-",
    "xoxb-",
    "xoxp-",
];
/// Letters that such a credential has at least. Words like `sk-learn` have less, and no credential does.
const CREDENTIAL_BYTES_MIN: usize = 20;
/// The last word in the name of what is a credential.
const LAST_WORDS: [&str; 6] = [
    "apikey",
    "key",
    "token",
    "secret",
    "password",
    "credentials",
];
/// How a value begins that is masked already.
const MASKED: &[u8] = b"[redacted:";
/// Names of one word that say so themselves, without quotes around the value.
const PLAIN_NAMES: [&str; 2] = ["apikey", "password"];

/// Masks what is written to a name that means a credential (`api_key = '…'`, `"token": "…"`,
/// `OPENAI_API_KEY=…`), and what has the form of one.
pub(super) fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut masked = Masked::new(bytes);
    let mut at = 0;
    while let Some(start) = position(bytes, at, is_of_word) {
        let end = position(bytes, start, |byte| !is_of_word(byte)).unwrap_or(bytes.len());
        let word = text.get(start..end).unwrap_or_default();
        at = end;
        if is_credential(word) {
            masked.replace(start, end, "credential");
        } else if let Some((from, to)) = assigned(bytes, word, end) {
            masked.replace(from, to, "credential");
            at = to;
        }
    }
    String::from_utf8_lossy(&masked.finish()).into_owned()
}

fn is_credential(word: &str) -> bool {
    let begins = BEGINNINGS.iter().any(|known| word.starts_with(known));
    // A slug of words has no digit in it.
    begins && word.len() >= CREDENTIAL_BYTES_MIN && word.bytes().any(|byte| byte.is_ascii_digit())
}

/// Where the value stands that is written to this name, which ends at `end`; nothing if the name means no
/// credential.
fn assigned(bytes: &[u8], name: &str, end: usize) -> Option<(usize, usize)> {
    let mut words = name.trim_start_matches('-').rsplit(['_', '-', '.']);
    let last = words.next()?.to_ascii_lowercase();
    if !LAST_WORDS.contains(&last.as_str()) {
        return None;
    }
    let speaks_for_itself = words.next().is_some() || PLAIN_NAMES.contains(&last.as_str());
    // The quote of `"token": …`, the bracket of `headers["x-api-key"] = …`, and what stands between.
    let sign = position(bytes, end, |byte| !b"'\"`\\] \t".contains(&byte))?;
    let equals = match bytes.get(sign)? {
        b'=' => true,
        b':' => false,
        _ => return None,
    };
    let value = position(bytes, sign + 1, |byte| {
        !byte.is_ascii_whitespace() && byte != b'\\'
    })?;
    let is_masked = |at| bytes.get(at..).is_some_and(|rest| rest.starts_with(MASKED));
    let first = *bytes.get(value)?;
    if b"'\"`".contains(&first) {
        let from = value + 1;
        let to = position(bytes, from, |byte| byte == first || byte == b'\\');
        let to = to.unwrap_or(bytes.len());
        return (to > from && !is_masked(from)).then_some((from, to));
    }
    // Prose has colons, and code has names without quotes: `sorted(flows, key=size)`, `key == other`.
    let is_bare = equals && speaks_for_itself && value == sign + 1 && sign == end;
    if !is_bare || b"=$".contains(&first) || is_masked(value) {
        return None;
    }
    let ends = |byte: u8| byte.is_ascii_whitespace() || b"'\"`;,&|)}>".contains(&byte);
    let to = position(bytes, value, ends).unwrap_or(bytes.len());
    (to > value).then_some((value, to))
}

/// The first place from `from` on with such a byte.
fn position(bytes: &[u8], from: usize, matches: impl Fn(u8) -> bool) -> Option<usize> {
    let rest = bytes.get(from..)?;
    Some(from + rest.iter().position(|byte| matches(*byte))?)
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::mask;

    #[test]
    fn masks_what_a_script_writes_to_a_secret_name() {
        for (script, expected) in [
            (
                "from openai import OpenAI; OpenAI(api_key='abc').models.list()",
                "from openai import OpenAI; OpenAI(api_key='[redacted:credential:3]').models.list()",
            ),
            (
                "export OPENAI_API_KEY=abc; agent",
                "export OPENAI_API_KEY=[redacted:credential:3]; agent",
            ),
            (
                r#"{"token": "abc", "max_tokens": 5}"#,
                r#"{"token": "[redacted:credential:3]", "max_tokens": 5}"#,
            ),
            (
                r#"fetch(u, {"x-api-key" : `abc`})"#,
                r#"fetch(u, {"x-api-key" : `[redacted:credential:3]`})"#,
            ),
            (
                r#"h["client_secret"] = "abc""#,
                r#"h["client_secret"] = "[redacted:credential:3]""#,
            ),
            (
                r#"echo "{\"password\": \"abc\"}""#,
                r#"echo "{\"password\": \"[redacted:credential:3]\"}""#,
            ),
            ("PASSWORD=abc", "PASSWORD=[redacted:credential:3]"),
            ("key='abc", "key='[redacted:credential:3]"),
        ] {
            assert_eq!(mask(script), expected, "for {script}");
            assert_eq!(mask(expected), expected, "a second time");
        }
    }

    #[test]
    fn masks_what_looks_like_a_credential() {
        for (script, expected) in [
            (
                "claude(\"sk-ant-api03-0123456789abcdef\")",
                "claude(\"[redacted:credential:29]\")",
            ),
            (
                "git clone https://ghp_0123456789abcdefghij:x@h/r",
                "git clone https://[redacted:credential:24]:x@h/r",
            ),
            (
                "-Dauth=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOjF9.c2ln",
                "-Dauth=[redacted:credential:38]",
            ),
        ] {
            assert_eq!(mask(script), expected, "for {script}");
        }
    }

    #[test]
    fn leaves_what_is_none() {
        for script in [
            "sorted(flows, key=size)",
            "if token == other: pass",
            "what is a token: a word",
            "the key: value store",
            "max_tokens=5",
            "OPENAI_API_KEY=$KEY agent",
            "api_key=",
            "api_key=''",
            "pip install sk-learn",
            "hf_hub_download(repo_id)",
            "sk-this-is-a-slug-of-many-words",
            "monkey='abc'",
            "ключ='abc'",
            "[redacted:api-key:3]",
            "--api-key=[redacted:api-key:3]",
            "",
        ] {
            assert_eq!(mask(script), script);
        }
    }

    proptest! {
        #[test]
        fn takes_any_text_and_says_the_same_again(text in "(.|key|token|=|:|'|sk-){0,40}") {
            let once = mask(&text);
            prop_assert_eq!(mask(&once), once);
        }

        #[test]
        fn quoted_secrets_never_come_out(
            secret in "SECRET[A-Za-z0-9+/=._~ -]{0,30}",
            name in "[a-z]{1,5}_(key|token|secret|password|Key|TOKEN)",
            sign in " {0,2}[=:] {0,2}",
            before in "[a-z(;, ]{0,8}",
        ) {
            let script = format!("{before} {name}{sign}'{secret}' and more");
            let masked = mask(&script);
            prop_assert!(!masked.contains("SECRET"), "{}", masked);
            prop_assert!(masked.ends_with("' and more"), "{}", masked);
        }
    }
}
