//! Asks an HTTP proxy for a tunnel: CONNECT as a client sends it (RFC 9110 section 9.3.6).
//!
//! What the proxy answers is bounded by the limits of every head. Bytes after the head belong to
//! the tunnel and stay to be read. Who calls sets the deadline.

use tokio::io::AsyncWriteExt as _;
use traffic::secret::Secret;
use traffic::{FailureKind, Target};

use super::leg::Unreached;
use crate::http1::head::{self, LineEnd, ResponseHead};
use crate::limits::INFORMATIONAL_MAX;
use crate::stream::Replay;

/// Characters of a peer's reason phrase that are repeated.
const REASON_CHARACTERS_MAX: usize = 80;

/// Asks for the target; once it is granted, what is read and written is the target's. `via` is a line
/// of the head, with its end.
///
/// Dropping it leaves the connection in the middle of the exchange: it must be closed then.
pub(super) async fn ask(
    wire: &mut Replay,
    target: &Target,
    authorization: Option<&Secret<String>>,
    via: &str,
) -> Result<(), Unreached> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{via}");
    if let Some(value) = authorization {
        request.push_str("Proxy-Authorization: ");
        request.push_str(value.reveal());
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    wire.write_all(request.as_bytes()).await?;
    wire.flush().await?;
    for _ in 0..=INFORMATIONAL_MAX {
        let head = read_head(wire).await?;
        match head.parsed.status {
            // Nothing is switched to but what was asked for (RFC 9110 section 15.2.2).
            101 => break,
            100..200 => {}
            200..300 => return Ok(()),
            _ => return Err(head.refusal(target, authorization.is_some())),
        }
    }
    let text = "answered CONNECT with interim responses and nothing else";
    Err(Unreached::new(FailureKind::UpstreamProxyFailed, text))
}

/// The head of an answer.
struct Answer {
    bytes: Vec<u8>,
    parsed: ResponseHead,
}

async fn read_head(wire: &mut Replay) -> Result<Answer, Unreached> {
    let mut scanned = 0;
    let bad = |error: head::HeadError| {
        let text = format!("did not answer CONNECT in HTTP: {error}");
        Unreached::new(FailureKind::UpstreamProxyFailed, text)
    };
    let length = loop {
        let found = head::find_end(wire.ahead(), scanned, LineEnd::CrLfOrLf).map_err(bad)?;
        if let Some(length) = found {
            break length;
        }
        scanned = wire.ahead().len();
        if wire.read_ahead().await? == 0 {
            let text = "closed the connection without an answer to CONNECT";
            return Err(Unreached::new(FailureKind::UpstreamProxyFailed, text));
        }
    };
    let bytes = wire.ahead().get(..length).unwrap_or_default().to_vec();
    // With the method of a request that any framing may follow: what it says of a body is ignored
    // where the tunnel is granted, and the connection is closed where it is not.
    let parsed = head::parse_response(&bytes, b"HEAD", Vec::new()).map_err(bad)?;
    wire.consume(length);
    Ok(Answer { bytes, parsed })
}

impl Answer {
    fn refusal(&self, target: &Target, authorized: bool) -> Unreached {
        let status = self.parsed.status;
        let reason = self.reason();
        if status == 407 {
            return unauthorized(authorized, &self.challenges());
        }
        let kind = match status {
            508 => FailureKind::Loop,
            400..500 => FailureKind::UpstreamProxyDenied,
            _ => FailureKind::UpstreamProxyFailed,
        };
        let text = format!("answered CONNECT {target} with {status} {reason}");
        Unreached::new(kind, text.trim_end())
    }

    fn reason(&self) -> String {
        let line = self
            .bytes
            .split(|byte| matches!(byte, b'\r' | b'\n'))
            .next();
        let words = line.unwrap_or_default().splitn(3, |byte| *byte == b' ');
        let reason = String::from_utf8_lossy(words.last().unwrap_or_default()).into_owned();
        match reason.parse::<u16>() {
            Ok(_) => String::new(),
            Err(_) => reason.chars().take(REASON_CHARACTERS_MAX).collect(),
        }
    }

    /// The names of the ways to say who one is that the proxy takes (RFC 9110 section 11.6.1).
    fn challenges(&self) -> Vec<String> {
        challenges(head::fields(&self.parsed.lines, &self.bytes))
    }
}

/// The schemes among the fields of an answer 407.
pub(crate) fn challenges<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<String> {
    const SHOWN_MAX: usize = 4;

    let named = fields.filter(|(name, _)| name.eq_ignore_ascii_case(b"proxy-authenticate"));
    named
        .map(|(_, value)| {
            let scheme = value.split(|byte| matches!(byte, b' ' | b',')).next();
            let scheme = String::from_utf8_lossy(scheme.unwrap_or_default()).into_owned();
            scheme.chars().take(REASON_CHARACTERS_MAX).collect()
        })
        .take(SHOWN_MAX)
        .collect()
}

/// What an answer 407 means.
pub(crate) fn unauthorized(authorized: bool, challenges: &[String]) -> Unreached {
    let asked = match challenges {
        [] => String::new(),
        schemes => format!(" ({})", schemes.join(", ")),
    };
    let text = match authorized {
        true => format!("does not accept the credentials that are set for it{asked}"),
        false => format!("asks for credentials{asked}, and none are set for it"),
    };
    Unreached::new(FailureKind::UpstreamProxyUnauthorized, text)
}
