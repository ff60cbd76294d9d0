//! What tracing fields tell: the trace of a request (W3C Trace Context, section 3.2), and the
//! session that a program writes into the baggage of it (W3C Baggage, section 3.2.1).

/// The id of the trace in a `traceparent`: 32 hexadecimal digits.
pub(crate) fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.trim().split('-');
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let version = parts.next().filter(|version| is_hex(version, 2))?;
    let trace = parts.next().filter(|trace| is_hex(trace, 32))?;
    let parent = parts.next().filter(|parent| is_hex(parent, 16))?;
    let flags = parts.next().filter(|flags| is_hex(flags, 2))?;
    // Later versions may add parts; this one has none.
    let is_whole = parts.next().is_none() || version != "00";
    let zeros = |part: &str| part.bytes().all(|byte| byte == b'0');
    let is_valid = version != "ff" && !zeros(trace) && !zeros(parent) && !flags.is_empty();
    (is_whole && is_valid).then_some(trace)
}

/// The `session.id` of a `baggage`, percent-decoded.
pub(crate) fn baggage_session(baggage: &str) -> Option<String> {
    baggage.split(',').find_map(|member| {
        // Properties of the member stand behind a semicolon.
        let (name, value) = member.split(';').next()?.split_once('=')?;
        let is_session = matches!(name.trim(), "session.id" | "gen_ai.conversation.id");
        is_session.then(|| decoded(value.trim()))?
    })
}

/// A value without its percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_traces() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (text, expected) in [
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                Some(trace),
            ),
            (
                "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
                Some(trace),
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
                None,
            ),
            (
                "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                None,
            ),
            (
                "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                None,
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                None,
            ),
            (
                "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                None,
            ),
            ("00-4bf92f35-00f067aa0ba902b7-01", None),
            ("", None),
        ] {
            assert_eq!(trace_id(text), expected, "{text}");
        }
    }

    #[test]
    fn reads_baggage() {
        for (text, expected) in [
            ("session.id=abc", Some("abc")),
            ("a=b, session.id = a%20b;x=1 ,c=d", Some("a b")),
            ("session.id=%4", None),
            ("session.id=%zz", None),
            ("a=session.id", None),
            ("", None),
        ] {
            assert_eq!(baggage_session(text).as_deref(), expected, "{text}");
        }
    }
}
