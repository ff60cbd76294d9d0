//! Asks a SOCKS 5 proxy for a target (RFC 1928, RFC 1929). Its messages are read in
//! `traffic::wire::socks5`, and have bounds of their own. Who calls sets the deadline.

use tokio::io::AsyncWriteExt as _;
use traffic::secret::Secret;
use traffic::wire::socks5::{self, Method, Parsed};
use traffic::{FailureKind, Target};

use super::leg::Unreached;
use crate::stream::Replay;

/// Asks for the target, which the proxy resolves; once it is granted, what is read and written is
/// the target's. `credentials` is the message that says them.
///
/// Dropping it leaves the connection in the middle of the exchange: it must be closed then.
pub(super) async fn ask(
    wire: &mut Replay,
    target: &Target,
    credentials: Option<&Secret<Vec<u8>>>,
) -> Result<(), Unreached> {
    say(wire, socks5::greeting(credentials.is_some())).await?;
    match (next(wire, socks5::parse_method).await?, credentials) {
        (Method::Nothing, _) => {}
        (Method::Password, Some(credentials)) => {
            say(wire, credentials.reveal()).await?;
            if !next(wire, socks5::parse_credentials_answer).await? {
                return Err(unauthorized(
                    "does not accept the credentials that are set for it",
                ));
            }
        }
        (Method::NoneAcceptable, Some(_)) => {
            return Err(unauthorized("takes no user name and password"));
        }
        (Method::Password | Method::NoneAcceptable, None) => {
            return Err(unauthorized(
                "asks for credentials, and none are set for it",
            ));
        }
    }
    say(wire, &socks5::request(target)).await?;
    let code = next(wire, socks5::parse_reply).await?;
    let kind = match code {
        0 => return Ok(()),
        2 => FailureKind::UpstreamProxyDenied,
        _ => FailureKind::UpstreamProxyFailed,
    };
    let said = socks5::describe_reply(code);
    Err(Unreached::new(
        kind,
        format!("did not connect to {target}: {said} (SOCKS code {code})"),
    ))
}

fn unauthorized(text: &str) -> Unreached {
    Unreached::new(FailureKind::UpstreamProxyUnauthorized, text)
}

async fn next<T>(wire: &mut Replay, parse: fn(&[u8]) -> Parsed<T>) -> Result<T, Unreached> {
    let failed = |text: String| Unreached::new(FailureKind::UpstreamProxyFailed, text);
    loop {
        match parse(wire.ahead()) {
            Parsed::Whole { message, length } => {
                wire.consume(length);
                return Ok(message);
            }
            Parsed::Malformed(problem) => {
                return Err(failed(format!("did not answer in SOCKS 5: {problem}")));
            }
            Parsed::Incomplete => {
                if wire.read_ahead().await? == 0 {
                    let text = "closed the connection in the middle of the SOCKS exchange";
                    return Err(failed(text.to_owned()));
                }
            }
        }
    }
}

async fn say(wire: &mut Replay, message: &[u8]) -> std::io::Result<()> {
    wire.write_all(message).await?;
    wire.flush().await
}
