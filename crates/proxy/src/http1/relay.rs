//! Carries one flow between two HTTP/1.1 connections, both ways at once, in one task.
//!
//! The framing is not touched: what the codec has accepted goes out as the bytes that came. A client
//! of HTTP/1.0 alone gets the payload of a chunked response, and the end of the connection after it.
//! Nothing is collected; a side that cannot be written to is not read from.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use traffic::wire::websocket::handshake::{Accepted, Asked};
use traffic::{Failure, FailureKind, Head, Side, Stage, Version};

use crate::error;
use crate::http1::body::{BodyError, Framing};
use crate::http1::connection::{Http1, ReadError};
use crate::http1::head::{self, BodyLength, LineEnd, RequestHead};
use crate::limits::{HALF_CLOSED, INFORMATIONAL_MAX, READ_BYTES};
use crate::tap::{self, Flow, Repeats};
use crate::upstream::Forwarded;
use crate::websocket;

/// One flow under way. The request head stands in the upstream's output already and was consumed
/// from the client's input.
pub(crate) struct Relay<'a, 'r> {
    client: &'a mut Http1,
    upstream: &'a mut Http1,
    flow: &'a mut Flow<'r>,
    idle: Duration,
    /// `HEAD`, or anything else: it decides whether a response has a body.
    method: &'static [u8],
    /// The WebSocket that the request asks for.
    upgrade: Option<&'a Asked>,
    client_stays: bool,
    /// A client of HTTP/1.0 gets neither interim responses nor chunks.
    client_is_http10: bool,
    /// The upstream's offers of HTTP/3 stay behind.
    hides_http3: bool,
    /// How a proxy on the way is told of the request.
    forwarded: Option<&'a Forwarded>,
    request: Pump,
    request_done: bool,
    /// The client waits for 100 Continue before it sends the body.
    awaits_continue: bool,
    /// Octets of the body have come.
    request_begun: bool,
    /// The upstream does not take the request any more; its response may still come.
    request_refused: Option<Failure>,
    response: Response,
    /// Octets of an answer have come.
    answered: bool,
    informational: usize,
    progress: bool,
}

/// One body on its way.
struct Pump {
    framing: Framing,
    /// Only the payload is sent on, not what frames it.
    unframes: bool,
    /// Octets to send on that are not written yet.
    accepted: Bytes,
}

enum Response {
    Awaited,
    Body {
        pump: Pump,
        until_close: bool,
        upstream_stays: bool,
    },
    Done {
        until_close: bool,
        upstream_stays: bool,
    },
    Switched(Accepted),
}

/// How a flow passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// Request and response are whole.
    Whole(Reuse),
    /// The WebSocket is open that was asked for. The head that says so is still in the client's
    /// output, what came after it in the upstream's input.
    Switched(Accepted),
}

/// What can be done with the connections after the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reuse {
    pub(crate) client: bool,
    pub(crate) upstream: bool,
    /// The end of the client's connection is the end of the body.
    pub(crate) until_close: bool,
}

/// Why the flow did not become whole.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) failure: Failure,
    /// True if the client has seen a part of the final response: then only cutting its connection
    /// tells it that something is missing.
    pub(crate) responded: bool,
    /// True if anything came of an answer, a part of its head or an interim one: the upstream has seen
    /// the request, and it is not sent again.
    pub(crate) answered: bool,
    /// True if the end of the connection would otherwise pass for the end of the body.
    pub(crate) until_close: bool,
    /// Why the stream was reset, where HTTP/2 said so.
    pub(crate) reason: Option<h2::Reason>,
}

impl<'a, 'r> Relay<'a, 'r> {
    pub(crate) fn new(
        client: &'a mut Http1,
        upstream: &'a mut Http1,
        flow: &'a mut Flow<'r>,
        request: &RequestHead,
        is_head: bool,
        idle: Duration,
        client_stays: bool,
    ) -> Self {
        Self {
            client,
            upstream,
            flow,
            idle,
            method: if is_head { b"HEAD" } else { b"GET" },
            upgrade: None,
            client_stays: client_stays && request.version == Version::Http11,
            client_is_http10: request.version == Version::Http10,
            hides_http3: false,
            forwarded: None,
            request: Pump::new(request.body),
            request_done: false,
            awaits_continue: request.expects_continue && request.body != BodyLength::None,
            request_begun: false,
            request_refused: None,
            response: Response::Awaited,
            answered: false,
            informational: 0,
            // The deadline is set by the first poll.
            progress: true,
        }
    }

    /// The request asks for this WebSocket.
    pub(crate) fn asking_for(mut self, upgrade: Option<&'a Asked>) -> Self {
        self.upgrade = upgrade;
        self
    }

    /// With the upstream's offers of HTTP/3 left out of its responses.
    pub(crate) fn hiding_http3(mut self, hides: bool) -> Self {
        self.hides_http3 = hides;
        self
    }

    /// A proxy is told of the request in this way; what it asks of us does not concern the client.
    pub(crate) fn forwarded(mut self, forwarded: Option<&'a Forwarded>) -> Self {
        self.forwarded = forwarded;
        self
    }

    /// Runs to the end of the response. Dropping it leaves both connections in the middle of a
    /// message: they must be closed then.
    pub(crate) async fn run(mut self) -> Result<Relayed, Broken> {
        let result = std::future::poll_fn(|cx| {
            self.flow.begin_step();
            let result = self.poll(cx);
            // What is whole ends with this step: the flow has nothing left to wait for.
            if !matches!(result, Poll::Ready(Ok(()))) {
                self.flow.end_step();
            }
            result
        })
        .await;
        let (until_close, upstream_stays, responded) = match self.response {
            Response::Awaited => (false, false, false),
            Response::Body {
                until_close,
                upstream_stays,
                ..
            }
            | Response::Done {
                until_close,
                upstream_stays,
            } => (until_close, upstream_stays, true),
            Response::Switched(accepted) => {
                self.flow.end_step();
                return Ok(Relayed::Switched(accepted));
            }
        };
        match result {
            Ok(()) => Ok(Relayed::Whole(Reuse {
                client: self.client_stays && self.request_done && !until_close,
                // Octets after the response would be taken for the answer to the next request.
                upstream: upstream_stays && self.request_done && self.upstream.input.is_empty(),
                until_close,
            })),
            Err(failure) => Err(Broken {
                failure,
                responded,
                answered: self.answered,
                until_close,
                reason: None,
            }),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        // Once the request has gone the client is looked after only where the response keeps it
        // waiting: most often it is there when we are woken, and nothing is left to be looked at.
        let gone = self.request_done;
        if !gone {
            let _waits = self.poll_request(cx)?;
        }
        if self.poll_response(cx)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if gone {
            let _waits = self.poll_client_ended(cx)?;
        }
        if matches!(self.response, Response::Awaited) {
            self.flow.hand_over();
        }
        if self.progress {
            self.progress = false;
            self.client.deadline.set(if self.client.read_ended {
                HALF_CLOSED.min(self.idle)
            } else {
                self.idle
            });
        }
        ready!(self.client.deadline.poll_passed(cx));
        Poll::Ready(Err(self.stalled()))
    }

    /// Who was waited for when nothing happened any more.
    fn stalled(&self) -> Failure {
        if self.client.read_ended {
            return error::closed_early(Side::Client, Stage::Response, "and did not wait");
        }
        if self.client.has_unwritten() || self.response.waits_for_client() {
            return error::timed_out(Side::Client, Stage::Response, "took nothing for too long");
        }
        if self.request_done || self.request_refused.is_some() {
            return error::timed_out(Side::Upstream, Stage::Response, "sent nothing for too long");
        }
        if !self.request.accepted.is_empty() {
            return error::timed_out(Side::Upstream, Stage::Request, "took nothing for too long");
        }
        error::timed_out(
            Side::Client,
            Stage::Request,
            "sent nothing of the body for too long",
        )
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.request_done || self.request_refused.is_some() {
            return self.poll_client_ended(cx);
        }
        loop {
            if !self.request.accepted.is_empty() {
                match ready!(self.upstream.poll_write(cx, &self.request.accepted)) {
                    Ok(written) => {
                        self.request.wrote(written);
                        self.progress = true;
                        continue;
                    }
                    Err(error) => return self.request_refused(&error),
                }
            }
            if self.request.framing.is_done() {
                match ready!(self.upstream.poll_drain(cx)) {
                    Ok(()) => {}
                    Err(error) => return self.request_refused(&error),
                }
                self.request_done = true;
                self.progress = true;
                // What a WebSocket carries is yet to come.
                if self.upgrade.is_none() {
                    let trailers = self.request.framing.trailers();
                    self.flow
                        .request_ended(tap::trailers(Version::Http11, trailers));
                }
                return self.poll_client_ended(cx);
            }
            if !self.client.input.is_empty() {
                self.request_begun = true;
                self.client.gather(cx, self.request.framing.left());
                let flow = &mut *self.flow;
                self.request
                    .accept(&mut self.client.input, |payload| {
                        flow.request_bytes(payload);
                    })
                    .map_err(|error| error::bad_body(Side::Client, Stage::Request, error))?;
                continue;
            }
            match self.client.poll_fill(cx) {
                Poll::Ready(Ok(0)) => {
                    let failure = error::closed_early(
                        Side::Client,
                        Stage::Request,
                        "in the middle of the body",
                    );
                    return Poll::Ready(Err(failure));
                }
                Poll::Ready(Ok(_)) => self.progress = true,
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(error::broken(Side::Client, Stage::Request, &error)));
                }
                Poll::Pending => {
                    // The head leaves before the body is waited for.
                    return match self.upstream.poll_drain(cx) {
                        Poll::Ready(Err(error)) => self.request_refused(&error),
                        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    /// The upstream takes no more of the request. It may have answered before it stopped, so the
    /// response is still read.
    fn request_refused(&mut self, error: &std::io::Error) -> Poll<Result<(), Failure>> {
        self.request_refused = Some(error::broken(Side::Upstream, Stage::Request, error));
        Poll::Pending
    }

    /// After the request, the client's side is read on, so that a client that goes away ends the
    /// flow; what it sends is its next request.
    fn poll_client_ended(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.client.rest();
        while !self.client.read_ended && self.client.input.len() < READ_BYTES {
            match ready!(self.client.poll_fill(cx)) {
                Ok(0) => self.client.deadline.set(HALF_CLOSED.min(self.idle)),
                Ok(_) => {}
                Err(error) => {
                    return Poll::Ready(Err(error::broken(Side::Client, Stage::Response, &error)));
                }
            }
        }
        Poll::Pending
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            match &mut self.response {
                Response::Awaited => ready!(self.poll_response_head(cx))?,
                Response::Body { .. } => ready!(self.poll_response_body(cx))?,
                Response::Done { .. } | Response::Switched(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_response_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            match self.upstream.find_head(LineEnd::CrLfOrLf) {
                Ok(Some(length)) => return Poll::Ready(self.handle_response_head(length)),
                Ok(None) => {}
                Err(ReadError::Head(error)) => {
                    let failure = error::bad_head(Side::Upstream, Stage::Response, error);
                    return Poll::Ready(Err(failure));
                }
                Err(ReadError::Closed | ReadError::TimedOut(_) | ReadError::Broken) => {}
            }
            match self.upstream.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.closed_before_response())),
                Poll::Ready(Ok(_)) => {
                    self.progress = true;
                    self.answered = true;
                    self.flow.response_came();
                }
                Poll::Ready(Err(error)) => {
                    let broken = error::broken(Side::Upstream, Stage::Response, &error);
                    return Poll::Ready(Err(self.request_refused.take().unwrap_or(broken)));
                }
                Poll::Pending => {
                    // An interim response leaves as it came.
                    ready!(self.client.poll_drain(cx))
                        .map_err(|error| error::broken(Side::Client, Stage::Response, &error))?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn closed_before_response(&mut self) -> Failure {
        let place = if self.upstream.input.is_empty() {
            "before it answered"
        } else {
            "in the middle of the response head"
        };
        let closed = error::closed_early(Side::Upstream, Stage::Response, place);
        self.request_refused.take().unwrap_or(closed)
    }

    fn handle_response_head(&mut self, length: usize) -> Result<(), Failure> {
        let bytes = self.upstream.input.get(..length).unwrap_or_default();
        let lines = std::mem::take(&mut self.upstream.lines);
        let mut head = head::parse_response(bytes, self.method, lines)
            .map_err(|error| error::bad_head(Side::Upstream, Stage::Response, error))?;
        if head.status == 407
            && let Some(forwarded) = self.forwarded
        {
            return Err(forwarded.unauthorized(head::fields(&head.lines, bytes)));
        }
        let version = head.version;
        let text = |told: &mut Repeats| Head {
            version,
            text: told.head(bytes),
        };
        if head.status == 101
            && let Some(asked) = self.upgrade
        {
            let accepted = websocket::accepted(asked, head::fields(&head.lines, bytes))?;
            self.flow.response_started(text);
            head::pass_upgrade(&mut head.lines, bytes);
            head::write_response(&head, bytes, self.hides_http3, &mut self.client.output);
            self.client.output.extend_from_slice(b"\r\n");
            self.response = Response::Switched(accepted);
        } else if head.status < 200 {
            self.informational += 1;
            if head.status == 101 || self.informational > INFORMATIONAL_MAX {
                return Err(error::failure(
                    Side::Upstream,
                    Stage::Response,
                    FailureKind::Malformed,
                    format!(
                        "an interim response that was not asked for: {}",
                        head.status
                    ),
                ));
            }
            self.flow.informational(|| Head {
                version,
                text: Bytes::copy_from_slice(bytes),
            });
            // RFC 9110 section 15.2.
            if !self.client_is_http10 {
                head::write_response(&head, bytes, self.hides_http3, &mut self.client.output);
                self.client.output.extend_from_slice(b"\r\n");
            }
        } else {
            if self.upgrade.is_some() {
                self.flow.request_ended(None);
            }
            self.flow.response_started(text);
            let mut pump = Pump::new(head.body);
            if self.client_is_http10 && head.body == BodyLength::Chunked {
                pump.unframes = true;
                head::leave_out_chunking(&mut head.lines, bytes);
            }
            let until_close = pump.unframes || head.body == BodyLength::UntilClose;
            self.client_stays &= head.version == Version::Http11 && !until_close;
            // A client that waits for 100 Continue and gets its answer instead sends no body, so
            // where its next request would begin is not known.
            self.client_stays &= !self.awaits_continue || self.request_begun;
            if until_close {
                // However the flow is cut from here on, even by a kill, it will not look whole.
                self.client.reset_on_drop(true);
            }
            head::write_response(&head, bytes, self.hides_http3, &mut self.client.output);
            if !self.client_stays {
                self.client
                    .output
                    .extend_from_slice(b"Connection: close\r\n");
            }
            self.client.output.extend_from_slice(b"\r\n");
            self.response = Response::Body {
                pump,
                until_close,
                upstream_stays: head.keep_alive,
            };
        }
        self.upstream.lines = head.lines;
        self.upstream.consume(length);
        Ok(())
    }

    fn poll_response_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Response::Body {
            pump,
            until_close,
            upstream_stays,
        } = &mut self.response
        else {
            return Poll::Ready(Ok(()));
        };
        let client_broke = |error| error::broken(Side::Client, Stage::Response, &error);
        loop {
            if !pump.accepted.is_empty() {
                let written = self.client.poll_write(cx, &pump.accepted);
                pump.wrote(ready!(written).map_err(client_broke)?);
                self.progress = true;
                continue;
            }
            if pump.framing.is_done() {
                ready!(self.client.poll_drain(cx)).map_err(client_broke)?;
                let trailers = pump.framing.trailers();
                self.flow
                    .response_ended(tap::trailers(Version::Http11, trailers));
                let (until_close, upstream_stays) = (*until_close, *upstream_stays);
                self.response = Response::Done {
                    until_close,
                    upstream_stays,
                };
                return Poll::Ready(Ok(()));
            }
            if !self.upstream.input.is_empty() {
                self.upstream.gather(cx, pump.framing.left());
                let flow = &mut *self.flow;
                pump.accept(&mut self.upstream.input, |payload| {
                    flow.response_bytes(payload);
                })
                .map_err(|error| error::bad_body(Side::Upstream, Stage::Response, error))?;
                continue;
            }
            match self.upstream.poll_fill(cx) {
                Poll::Ready(Ok(0)) => {
                    let whole = !self.upstream.read_cut && pump.framing.handle_end();
                    if !whole {
                        return Poll::Ready(Err(error::closed_early(
                            Side::Upstream,
                            Stage::Response,
                            "in the middle of the body",
                        )));
                    }
                }
                Poll::Ready(Ok(_)) => self.progress = true,
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(error::broken(
                        Side::Upstream,
                        Stage::Response,
                        &error,
                    )));
                }
                Poll::Pending => {
                    // What has come leaves at once; the watcher gets it before we sleep.
                    self.flow.hand_over();
                    ready!(self.client.poll_drain(cx)).map_err(client_broke)?;
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Response {
    /// Octets of its body have come that the client has not taken.
    fn waits_for_client(&self) -> bool {
        match self {
            Self::Body { pump, .. } => !pump.accepted.is_empty(),
            Self::Awaited | Self::Done { .. } | Self::Switched(_) => false,
        }
    }
}

impl Pump {
    fn new(length: BodyLength) -> Self {
        Self {
            framing: Framing::new(length),
            unframes: false,
            accepted: Bytes::new(),
        }
    }

    /// Takes what of `input` belongs to the body and shows the payload in it, which shares the
    /// bytes. All that was accepted before is written.
    fn accept(
        &mut self,
        input: &mut BytesMut,
        mut show: impl FnMut(&Bytes),
    ) -> Result<(), BodyError> {
        let mut taken = input.split().freeze();
        let mut bare = BytesMut::new();
        let mut end = 0;
        while end < taken.len() && !self.framing.is_done() {
            let step = self.framing.decode(taken.get(end..).unwrap_or_default())?;
            if !step.payload.is_empty() {
                let payload = taken.slice(end + step.payload.start..end + step.payload.end);
                if self.unframes {
                    bare.extend_from_slice(&payload);
                }
                show(&payload);
            }
            end += step.consumed;
        }
        // What follows the body is of the next message.
        input.extend_from_slice(&taken.split_off(end));
        self.accepted = match self.unframes {
            true => bare.freeze(),
            false => taken,
        };
        Ok(())
    }

    fn wrote(&mut self, written: usize) {
        self.accepted.advance(written);
        if self.accepted.is_empty() {
            // Even of no length it would hold the buffer, which is read into again.
            self.accepted = Bytes::new();
        }
    }
}

#[cfg(test)]
mod tests;
