//! What becomes of a request: a handler's decision as the engine carries it out.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use traffic::{Failure, FailureKind, Side, Stage};

use super::{HandlerDecision, LocalResponse, RequestEdit};
use crate::error;

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Pass,
    Edit(Box<RequestEdit>),
    /// Answered here; with a failure if it is because it is not allowed.
    Respond(Box<LocalResponse>, Option<Box<Failure>>),
    /// The handler failed.
    Fail(Failure),
}

impl Answer {
    pub(super) fn from_decision(decision: HandlerDecision) -> Self {
        match decision {
            HandlerDecision::Allow => Self::Pass,
            HandlerDecision::Block { status, body } => {
                let status = if is_final(status) { status } else { 403 };
                let text = HeaderValue::from_static("text/plain; charset=utf-8");
                let response = LocalResponse {
                    status,
                    headers: HeaderMap::from_iter([(CONTENT_TYPE, text)]),
                    body,
                };
                let failure = of_handler(FailureKind::Blocked, "blocked by the handler");
                Self::Respond(Box::new(response), Some(Box::new(failure)))
            }
            HandlerDecision::Edit(edit) => Self::Edit(edit),
            HandlerDecision::Redirect(target) => Self::Edit(Box::new(RequestEdit {
                upstream: Some(*target),
                ..RequestEdit::default()
            })),
            HandlerDecision::Respond(response) if is_final(response.status) => {
                Self::Respond(response, None)
            }
            HandlerDecision::Respond(response) => Self::Fail(of_handler(
                FailureKind::HandlerFailed,
                format!("the handler answered with the status {}", response.status),
            )),
        }
    }
}

fn is_final(status: u16) -> bool {
    (200..600).contains(&status) && StatusCode::from_u16(status).is_ok()
}

/// A failure of the handler, or one it asked for.
pub(super) fn of_handler(kind: FailureKind, text: impl Into<String>) -> Failure {
    error::failure(Side::Oriel, Stage::Route, kind, text)
}
