//! SOCKS 5 towards a client (RFC 1928, RFC 1929): reads whom it wants and answers. What passes
//! afterwards is not its business. The messages are read in `traffic::wire::socks5`.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use traffic::wire::socks5::{
    self, Method, Methods, Parsed, Problem, Reply, VERSION_4_REJECTED, credentials_answer,
};
use traffic::{Failure, FailureKind, Head, Target, Version};

use crate::admission::{Door, Login};
use crate::limits::LINGER;
use crate::stream::Replay;

/// Why there is no request; the client was told as far as the protocol has words for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRequest {
    #[error("the client ended the connection before it had asked for anything")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the client did not ask for anything in time")]
    TimedOut,
    #[error("SOCKS 4 is not supported, only SOCKS 5 is")]
    Version4,
    #[error(transparent)]
    Malformed(Problem),
    #[error("the client offers no way to say who it is that is accepted here")]
    NoMethod,
    #[error("the client is not admitted: {}", .0.text)]
    Denied(Failure),
}

/// Reads whom the client wants, in `limit` altogether. At a `door` only who is admitted is served, and
/// it is said by what. Every message has its own bound of some hundred octets; at most one read of more is held.
pub(crate) async fn read_request(
    wire: &mut Replay,
    door: Option<Door<'_>>,
    limit: Duration,
) -> Result<(Target, Option<Login>), NoRequest> {
    let negotiated = tokio::time::timeout(limit, negotiate(wire, door)).await;
    let error = match negotiated {
        Ok(Ok(asked)) => return Ok(asked),
        Ok(Err(error)) => error,
        Err(_elapsed) => NoRequest::TimedOut,
    };
    end(wire).await;
    Err(error)
}

async fn negotiate(
    wire: &mut Replay,
    door: Option<Door<'_>>,
) -> Result<(Target, Option<Login>), NoRequest> {
    let offered = match next(wire, socks5::parse_greeting).await {
        Err(NoRequest::Malformed(Problem::Version(socks5::VERSION_4))) => {
            say(wire, &VERSION_4_REJECTED).await?;
            return Err(NoRequest::Version4);
        }
        offered => offered?,
    };
    let method = choose(offered, door.is_some());
    say(wire, &method.message()).await?;
    let mut known = None;
    match (method, door) {
        (Method::NoneAcceptable, _) => return Err(NoRequest::NoMethod),
        (Method::Password, Some(door)) => {
            let said = next(wire, socks5::parse_credentials).await?;
            let login = Login::from_bytes(&said.user, said.password.reveal());
            let admitted = Box::pin(door.keeper.admit(login, door.client)).await;
            say(wire, &credentials_answer(admitted.is_ok())).await?;
            known = Some(admitted.map_err(NoRequest::Denied)?);
        }
        (Method::Password | Method::Nothing, _) => {}
    }
    match next(wire, socks5::parse_request).await {
        Err(NoRequest::Malformed(problem)) => {
            say(wire, &Reply::from(problem).message()).await?;
            Err(NoRequest::Malformed(problem))
        }
        result => Ok((result?, known)),
    }
}

/// The way that the client is to say who it is.
fn choose(offered: Methods, demanded: bool) -> Method {
    match demanded {
        true if offered.password => Method::Password,
        false if offered.nothing => Method::Nothing,
        _ => Method::NoneAcceptable,
    }
}

/// Tells the client that what follows comes from its target.
pub(crate) async fn accept(mut wire: Replay, limit: Duration) -> io::Result<Replay> {
    let message = Reply::Succeeded.message();
    let said = say(&mut wire, &message);
    tokio::time::timeout(limit, said).await??;
    Ok(wire)
}

/// Tells the client that it does not reach its target, and ends.
pub(crate) async fn refuse(mut wire: Replay, failure: &Failure) {
    let message = reply_to(failure).message();
    let said = say(&mut wire, &message);
    if let Ok(Ok(())) = tokio::time::timeout(LINGER, said).await {
        end(&mut wire).await;
    }
}

/// The head of a flow that was asked for in this way: there is none, so it says the same in the
/// words of CONNECT.
pub(crate) fn head(target: &Target) -> Head {
    Head {
        version: Version::Http11,
        text: format!("CONNECT {target} SOCKS/5\r\n\r\n").into(),
    }
}

/// The code for a failure (RFC 1928 section 6).
fn reply_to(failure: &Failure) -> Reply {
    match failure.kind {
        FailureKind::Loop
        | FailureKind::Blocked
        | FailureKind::PortNotAllowed
        | FailureKind::AddressDenied => Reply::NotAllowed,
        FailureKind::NameNotResolved | FailureKind::Unreachable => Reply::HostUnreachable,
        FailureKind::Refused => Reply::Refused,
        FailureKind::TimedOut => Reply::TimedOut,
        _ => Reply::Failed,
    }
}

async fn next<T>(wire: &mut Replay, parse: fn(&[u8]) -> Parsed<T>) -> Result<T, NoRequest> {
    loop {
        match parse(wire.ahead()) {
            Parsed::Whole { message, length } => {
                wire.consume(length);
                return Ok(message);
            }
            Parsed::Malformed(problem) => return Err(NoRequest::Malformed(problem)),
            Parsed::Incomplete => {
                if wire.read_ahead().await? == 0 {
                    return Err(NoRequest::Closed);
                }
            }
        }
    }
}

async fn say(wire: &mut Replay, message: &[u8]) -> io::Result<()> {
    wire.write_all(message).await?;
    wire.flush().await
}

/// Ends our side and reads on for a moment: a close with unread bytes would be a reset, which can
/// overtake the answer.
async fn end(wire: &mut Replay) {
    let ended = async {
        wire.shutdown().await?;
        let mut rest = [0; 512];
        while wire.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // It is over in any case.
    let _ended = tokio::time::timeout(LINGER, ended).await;
}

#[cfg(test)]
mod tests;
