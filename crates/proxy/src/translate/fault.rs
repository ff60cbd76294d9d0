//! Why a direction stopped, and why a flow broke off.

use h2::Reason;
use traffic::{Failure, FailureKind, Side, Stage};

use crate::error;
pub(crate) use crate::http1::relay::Broken;
use crate::http2::client::from_h2;

/// Why a direction stopped; with the reason where HTTP/2 gave one.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) failure: Failure,
    pub(crate) reason: Option<Reason>,
}

impl Fault {
    pub(crate) fn from_h2(side: Side, stage: Stage, error: &h2::Error) -> Self {
        let reason = match error.reason() {
            reason if error.is_reset() => reason,
            // The upstream went away and has not processed the stream (RFC 9113 section 6.8).
            Some(Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => {
                Some(Reason::REFUSED_STREAM)
            }
            _ => None,
        };
        Self {
            failure: from_h2(side, stage, error),
            reason,
        }
    }

    /// Reading from a side, or writing to it, failed.
    pub(crate) fn from_io(side: Side, error: &std::io::Error) -> Self {
        error::broken(side, stage(side), error).into()
    }

    /// The flow broke off with it before anything was answered.
    pub(super) fn before_response(self) -> Broken {
        Broken {
            reason: self.reason,
            ..Broken::before(self.failure)
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            reason: None,
        }
    }
}

/// The direction in which a side is the source of errors: requests come from clients.
pub(crate) fn stage(side: Side) -> Stage {
    match side {
        Side::Client => Stage::Request,
        Side::Upstream | Side::Oriel => Stage::Response,
    }
}

/// The client has lost interest.
pub(crate) fn client_reset(reason: Reason) -> Fault {
    let text = format!("the client reset the stream: {reason}");
    let failure = error::failure(Side::Client, Stage::Response, FailureKind::Reset, text);
    Fault {
        failure,
        reason: Some(reason),
    }
}

impl Broken {
    /// Broken off before anything was answered.
    pub(super) fn before(failure: Failure) -> Self {
        Self {
            failure,
            responded: false,
            answered: false,
            until_close: false,
            reason: None,
        }
    }
}
