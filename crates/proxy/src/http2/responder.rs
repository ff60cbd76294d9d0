//! Answers the streams of HTTP/2 clients where no upstream does, or not to the end.

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{Method, Response, StatusCode};
use traffic::{Failure, FailureKind, Side, Target};

use crate::handler::LocalResponse;
use crate::http2::stream::StreamEnd;
use crate::max_forwards;
use crate::refuse::Refusal;
use crate::tap::Flow;
use crate::translate::{Broken, heads};

/// The means to answer a stream.
pub(super) struct Responder {
    pub(super) respond: SendResponse<Bytes>,
    /// An answer to HEAD has no body.
    is_head: bool,
}

/// Why a request has no whole answer of its upstream.
pub(super) enum Unserved {
    /// It cannot go on.
    Refused(Failure),
    /// The handler answers it; with a failure if it is because it is not allowed.
    AnsweredByHandler(Box<LocalResponse>, Option<Box<Failure>>),
    /// It may go no further (RFC 9110 section 7.6.2).
    AnsweredForUpstream(max_forwards::Answer),
    /// The client lost interest before it was sent.
    Abandoned(Failure),
    /// It broke off on its way.
    BrokenOff(Broken),
}

impl From<Failure> for Unserved {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl Responder {
    pub(super) fn new(respond: SendResponse<Bytes>, method: &Method) -> Self {
        let is_head = method == Method::HEAD;
        Self { respond, is_head }
    }

    /// Refuses what is no flow, or not yet.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut head = Response::builder().status(status);
        for (name, value) in refusal.fields() {
            head = head.header(name, value);
        }
        let body = match self.is_head {
            true => Bytes::new(),
            false => Bytes::from(refusal.body.clone()),
        };
        if let Ok(head) = head.body(()) {
            self.send(head, body);
        }
    }

    /// Answers with what was made here.
    pub(super) fn answer(&mut self, response: &LocalResponse) {
        self.send(response.http2_head(), response.payload(self.is_head));
    }

    /// Ends a flow that its upstream does not answer, or not to the end.
    pub(super) fn end(mut self, flow: Flow<'_>, why: Unserved, target: &Target) -> StreamEnd {
        match why {
            Unserved::Refused(failure) => self.fail(flow, failure, target),
            Unserved::AnsweredByHandler(response, failure) => {
                let status = response.status;
                let flow =
                    self.answer_flow(flow, response.http2_head(), response.payload(self.is_head));
                match failure {
                    Some(failure) => flow.fail(*failure, Some(status)),
                    None => flow.complete(),
                }
            }
            Unserved::AnsweredForUpstream(answer) => {
                let mut head = Response::builder();
                for (name, value) in answer.fields() {
                    head = head.header(name, value);
                }
                if let Ok(head) = head.body(()) {
                    self.answer_flow(flow, head, answer.body).complete();
                }
            }
            Unserved::Abandoned(failure) => {
                flow.fail(failure, None);
                return StreamEnd::Abandoned;
            }
            Unserved::BrokenOff(broken) => return self.break_off(flow, broken, target),
        }
        StreamEnd::Served
    }

    fn fail(&mut self, flow: Flow<'_>, failure: Failure, target: &Target) {
        let refusal = Refusal::new(&failure, Some(target));
        self.refuse(&refusal);
        flow.fail(failure, Some(refusal.status));
    }

    /// Answers a flow with what was made here, and reports the answer.
    fn answer_flow<'f>(&mut self, mut flow: Flow<'f>, head: Response<()>, body: Bytes) -> Flow<'f> {
        flow.response_started(|_| heads::response_text(head.status(), head.headers()));
        flow.response_bytes(&body);
        flow.response_ended(None);
        self.send(head, body);
        flow
    }

    /// With a reply of ours if the client has seen nothing yet, otherwise by resetting its stream.
    fn break_off(&mut self, flow: Flow<'_>, broken: Broken, target: &Target) -> StreamEnd {
        let by_client = broken.failure.side == Side::Client;
        let abandoned = by_client && broken.reason.is_some() && !broken.responded;
        let client_left = by_client
            && !matches!(
                broken.failure.kind,
                FailureKind::Malformed | FailureKind::TimedOut
            );
        if client_left || broken.responded {
            self.respond
                .send_reset(broken.reason.unwrap_or(Reason::INTERNAL_ERROR));
            flow.fail(broken.failure, None);
        } else if let Some(reason) = broken.reason {
            // The upstream reset the stream before it answered: the client is told the same.
            self.respond.send_reset(reason);
            flow.fail(broken.failure, None);
        } else {
            self.fail(flow, broken.failure, target);
        }
        match abandoned {
            true => StreamEnd::Abandoned,
            false => StreamEnd::Served,
        }
    }

    /// The client may be gone; then nobody is to be told.
    fn send(&mut self, head: Response<()>, body: Bytes) {
        if let Ok(mut stream) = self.respond.send_response(head, body.is_empty())
            && !body.is_empty()
        {
            let _sent = stream.send_data(body, true);
        }
    }
}
