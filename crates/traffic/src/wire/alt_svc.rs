//! Offers of other ways to a host in the Alt-Svc field (RFC 7838 section 3), and how those of
//! HTTP/3 are taken out: a client that follows one leaves TCP, and with it the proxy.

/// Tells a client to forget the offers it knows (RFC 7838 section 3).
const CLEAR: &[u8] = b"clear";

/// The field without its offers of HTTP/3; `None` if it has none and stays as it is.
///
/// `values` are those of all its lines. What is returned stands for all of them in one line; it is
/// `clear` if nothing else was offered, so that what a client has learned before is forgotten too.
#[must_use]
pub fn without_http3<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut kept: Vec<u8> = Vec::new();
    let mut found = false;
    for offer in values.flat_map(offers) {
        if is_http3(offer) {
            found = true;
            continue;
        }
        if !kept.is_empty() {
            kept.extend_from_slice(b", ");
        }
        kept.extend_from_slice(offer);
    }
    if kept.is_empty() {
        kept.extend_from_slice(CLEAR);
    }
    found.then_some(kept)
}

/// The elements of one line, split at commas outside of quotes. Of a quote that does not end, the
/// rest of the line is one element.
fn offers(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = value.split(move |octet| {
        let (was_quoted, was_escaped) = (quoted, escaped);
        escaped = was_quoted && !was_escaped && *octet == b'\\';
        if *octet == b'"' && !was_escaped {
            quoted = !was_quoted;
        }
        *octet == b',' && !was_quoted
    });
    parts
        .map(<[u8]>::trim_ascii)
        .filter(|part| !part.is_empty())
}

/// Whether an offer is of HTTP/3 or of what came before it: `h3` (RFC 9114 section 3.1), its
/// drafts `h3-29` and `h3-Q050`, and `quic` and `hq` of the time before they had that name.
fn is_http3(offer: &[u8]) -> bool {
    let end = offer.iter().position(|octet| *octet == b'=');
    let name = offer.get(..end.unwrap_or(offer.len())).unwrap_or_default();
    let name = decoded(name.trim_ascii());
    let is = |known: &[u8]| {
        name == known || (name.starts_with(known) && name.get(known.len()) == Some(&b'-'))
    };
    is(b"h3") || is(b"hq") || is(b"quic")
}

/// A protocol name with its percent-encoding undone (RFC 7838 section 3), in lower case: names are
/// compared as they are, but a client that is less strict must not be led away either.
fn decoded(name: &[u8]) -> Vec<u8> {
    let digit = |octet: Option<&u8>| char::from(*octet?).to_digit(16);
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        let octet = match (first, digit(tail.first()), digit(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                rest = tail.get(2..).unwrap_or_default();
                u8::try_from(high << 4 | low).unwrap_or(b'%')
            }
            _ => {
                rest = tail;
                *first
            }
        };
        plain.push(octet.to_ascii_lowercase());
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(lines: &[&str], expected: Option<&str>) {
        let values = lines.iter().map(|line| line.as_bytes());
        let kept = without_http3(values).map(|kept| String::from_utf8(kept).unwrap());
        assert_eq!(kept.as_deref(), expected, "for {lines:?}");
    }

    #[test]
    fn offers_of_http3_go_and_others_stay() {
        check(&[r#"h3=":443"; ma=86400"#], Some("clear"));
        check(
            &[r#"h3=":443"; ma=86400, h3-29=":443", quic=":443"; v="43,46""#],
            Some("clear"),
        );
        check(
            &[r#"h3=":443"; ma=1, h2="b.example:443"; ma=2, hq-29=":1""#],
            Some(r#"h2="b.example:443"; ma=2"#),
        );
        check(
            &[r#"h2=":443", http%2F1.1=":80",  h3 = ":443""#],
            Some(r#"h2=":443", http%2F1.1=":80""#),
        );
        check(&[r#"H3=":443""#], Some("clear"));
        check(&[r#"%68%33=":443""#], Some("clear"));
        check(&[r#"h3=":443""#, r#"h2=":443""#], Some(r#"h2=":443""#));
    }

    #[test]
    fn what_offers_no_http3_stays_as_it_is() {
        check(&["clear"], None);
        check(&[""], None);
        check(&[], None);
        check(&[r#"h2="h3:443""#], None);
        check(&[r#"h30=":443", h3x=":1""#], None);
        check(&[r#"h2=":443"; note="a, h3=\":443\", b""#], None);
        // The quote ends before the second name.
        check(&[r#"h2="a, h3=":443"#], None);
    }

    proptest! {
        #[test]
        fn what_is_left_offers_no_http3(value in "[h3q2=\",;\\\\ %68a-]{0,40}") {
            if let Some(kept) = without_http3(std::iter::once(value.as_bytes())) {
                prop_assert_eq!(without_http3(std::iter::once(kept.as_slice())), None);
            }
        }
    }
}
