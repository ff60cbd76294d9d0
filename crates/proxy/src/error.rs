//! Makes failures: whose side, at which step, what kind, in words.

use std::io;

use traffic::{Failure, FailureKind, Side, Stage};

use crate::http1::body::BodyError;
use crate::http1::head::HeadError;
use crate::tls::{self, upstream_side};

/// A failure with its text.
pub(crate) fn failure(
    side: Side,
    stage: Stage,
    kind: FailureKind,
    text: impl Into<String>,
) -> Failure {
    Failure {
        side,
        stage,
        kind,
        text: text.into(),
    }
}

/// A peer's connection broke.
pub(crate) fn broken(side: Side, stage: Stage, error: &io::Error) -> Failure {
    if side == Side::Upstream
        && let Some(alert) = tls::alert_in(error)
    {
        let (kind, text) = upstream_side::describe_alert(alert);
        return failure(side, Stage::Tls, kind, text);
    }
    let kind = match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => FailureKind::Reset,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => FailureKind::ClosedEarly,
        io::ErrorKind::TimedOut => FailureKind::TimedOut,
        io::ErrorKind::InvalidData => FailureKind::TlsProtocol,
        _ => FailureKind::Io,
    };
    failure(
        side,
        stage,
        kind,
        format!("the {} connection broke: {error}", side.as_str()),
    )
}

/// A peer ended its side in the middle of a message.
pub(crate) fn closed_early(side: Side, stage: Stage, where_in: &str) -> Failure {
    let text = format!("the {} closed the connection {where_in}", side.as_str());
    failure(side, stage, FailureKind::ClosedEarly, text)
}

/// A peer did nothing for too long.
pub(crate) fn timed_out(side: Side, stage: Stage, what: &str) -> Failure {
    failure(
        side,
        stage,
        FailureKind::TimedOut,
        format!("the {} {what}", side.as_str()),
    )
}

/// A head that cannot be taken.
pub(crate) fn bad_head(side: Side, stage: Stage, error: HeadError) -> Failure {
    let kind = match error {
        HeadError::TooLarge(_) | HeadError::TargetTooLong => FailureKind::TooLarge,
        HeadError::Malformed(_) | HeadError::Version | HeadError::TransferCoding => {
            FailureKind::Malformed
        }
    };
    failure(side, stage, kind, error.to_string())
}

/// A body whose framing is broken.
pub(crate) fn bad_body(side: Side, stage: Stage, error: BodyError) -> Failure {
    failure(side, stage, FailureKind::Malformed, error.to_string())
}
