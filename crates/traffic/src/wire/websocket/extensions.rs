//! The extensions that an upstream has accepted: `Sec-WebSocket-Extensions` of its response
//! (RFC 6455 section 9.1), and what permessage-deflate says there (RFC 7692 section 7.1).

use super::limits::EXTENSIONS_MAX;

/// What was agreed for one WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// permessage-deflate, if it was agreed.
    pub deflate: Option<Deflate>,
    /// True if an extension was agreed that is not known here or whose parameters make no sense:
    /// reserved bits and opcodes may mean anything.
    pub unknown: bool,
}

/// The parameters of permessage-deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// How the client compresses.
    pub client: Compression,
    /// How the upstream compresses.
    pub upstream: Compression,
}

/// How one side compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// True if a message may refer to the ones before it (RFC 7692 section 7.1.1).
    pub context_takeover: bool,
    /// How far back it may refer, as a power of two: 8 to 15 (RFC 7692 section 7.1.2).
    pub window_bits: u8,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            context_takeover: true,
            window_bits: 15,
        }
    }
}

impl Extensions {
    /// Reads the values of all `Sec-WebSocket-Extensions` fields of the response that accepted
    /// the WebSocket, in their order.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut agreed = Self::default();
        let extensions = values.into_iter().flat_map(|value| split(value, b','));
        for (index, extension) in extensions.filter(|text| !text.is_empty()).enumerate() {
            let deflate = match (index, agreed.deflate) {
                (EXTENSIONS_MAX.., _) => {
                    agreed.unknown = true;
                    break;
                }
                // Both would want the same bit.
                (_, Some(_)) => None,
                (_, None) => Deflate::parse(extension),
            };
            match deflate {
                Some(deflate) => agreed.deflate = Some(deflate),
                None => agreed.unknown = true,
            }
        }
        agreed
    }
}

impl Deflate {
    /// `None` for another extension, and for parameters that a client has to refuse (RFC 7692
    /// section 7.1).
    fn parse(extension: &[u8]) -> Option<Self> {
        let mut parts = split(extension, b';');
        if !parts.next()?.eq_ignore_ascii_case(b"permessage-deflate") {
            return None;
        }
        let mut names: Vec<&[u8]> = Vec::new();
        let (mut client, mut upstream) = (Compression::default(), Compression::default());
        for part in parts {
            let (name, value) = split_parameter(part);
            if names.contains(&name) || names.len() == EXTENSIONS_MAX {
                return None;
            }
            names.push(name);
            match (name, value) {
                (b"client_no_context_takeover", None) => client.context_takeover = false,
                (b"server_no_context_takeover", None) => upstream.context_takeover = false,
                (b"client_max_window_bits", Some(value)) => {
                    client.window_bits = parse_window_bits(value)?;
                }
                (b"server_max_window_bits", Some(value)) => {
                    upstream.window_bits = parse_window_bits(value)?;
                }
                _ => return None,
            }
        }
        Some(Self { client, upstream })
    }
}

/// RFC 7692 section 7.1.2: 8 to 15, without leading zeros; as a token or quoted.
fn parse_window_bits(value: &[u8]) -> Option<u8> {
    let value = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""))
        .unwrap_or(value);
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

fn split_parameter(part: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(equals) = memchr::memchr(b'=', part) else {
        return (part, None);
    };
    let (name, value) = part.split_at(equals);
    let value = value.get(1..).unwrap_or_default();
    (name.trim_ascii(), Some(value.trim_ascii()))
}

/// The parts between separators that do not stand in a quoted string (RFC 9110 section 5.6.4),
/// without the white space around them.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |octet| {
        let was_escaped = std::mem::take(&mut escaped);
        match octet {
            b'\\' if quoted => escaped = !was_escaped,
            b'"' if !was_escaped => quoted = !quoted,
            _ => {}
        }
        !quoted && *octet == separator
    })
    .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(values: &[&str]) -> Extensions {
        Extensions::parse(values.iter().map(|value| value.as_bytes()))
    }

    fn check(value: &str, client: (bool, u8), upstream: (bool, u8)) {
        let compression = |(context_takeover, window_bits)| Compression {
            context_takeover,
            window_bits,
        };
        let deflate = Deflate {
            client: compression(client),
            upstream: compression(upstream),
        };
        let expected = Extensions {
            deflate: Some(deflate),
            unknown: false,
        };
        assert_eq!(agreed(&[value]), expected, "{value}");
    }

    #[test]
    fn reads_the_parameters_of_permessage_deflate() {
        check("permessage-deflate", (true, 15), (true, 15));
        check(
            " Permessage-Deflate ;client_no_context_takeover",
            (false, 15),
            (true, 15),
        );
        check(
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=8",
            (true, 15),
            (false, 8),
        );
        check(
            "permessage-deflate; client_max_window_bits = \"10\" ; server_max_window_bits=9",
            (true, 10),
            (true, 9),
        );
        for bits in 8..=15 {
            let value = format!("permessage-deflate; client_max_window_bits={bits}");
            check(&value, (true, bits), (true, 15));
        }
    }

    #[test]
    fn what_is_not_known_or_makes_no_sense_is_unknown() {
        for value in [
            "x-webkit-deflate-frame",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=08",
            "permessage-deflate; client_max_window_bits=\"10",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; level=9",
            "permessage-deflate;",
            "other; text=\"a, permessage-deflate\\\", b\"",
        ] {
            let expected = Extensions {
                deflate: None,
                unknown: true,
            };
            assert_eq!(agreed(&[value]), expected, "{value}");
        }
    }

    #[test]
    fn several_extensions_are_read() {
        assert_eq!(agreed(&[]), Extensions::default());
        assert_eq!(agreed(&["", " , "]), Extensions::default());
        for values in [
            &["permessage-deflate, other"][..],
            &["other; a=\"x;y,z\"", "permessage-deflate"],
            &["permessage-deflate, permessage-deflate"],
        ] {
            let agreed = agreed(values);
            assert!(agreed.deflate.is_some() && agreed.unknown, "{values:?}");
        }
        let many = ["other,"; 10_000].concat() + "permessage-deflate";
        let agreed = agreed(&[&many]);
        assert!(agreed.deflate.is_none() && agreed.unknown);
    }
}
