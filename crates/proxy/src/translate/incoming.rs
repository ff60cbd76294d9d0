//! The heads of a response as they come from the upstream.

use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use parking_lot::Mutex;
use traffic::wire::websocket::handshake::{Accepted, Asked, Proof};
use traffic::{FailureKind, Head, Side, Stage};

use super::body::Source;
use super::fault::Fault;
use super::heads;
use crate::error;
use crate::http1::body::Framing;
use crate::http1::connection::{Http1, ReadError};
use crate::http1::head::{self, BodyLength, LineEnd};
use crate::upstream::Forwarded;
use crate::websocket;

/// The upstream's end of the response.
pub(super) enum Incoming<'a, 'c> {
    Http1 {
        connection: &'a Mutex<&'c mut Http1>,
        is_head: bool,
        /// The WebSocket that was asked for.
        upgrade: Option<&'a Asked>,
        /// How a proxy on the way was told of the request.
        forwarded: Option<&'a Forwarded>,
    },
    Http2 {
        response: h2::client::ResponseFuture,
        /// A WebSocket was asked for.
        opens: bool,
    },
}

/// A response head that came.
pub(super) enum Arrived<'a, 'c> {
    Informational(Response<()>, Head),
    Final(Box<Final<'a, 'c>>),
}

/// The final response head, with what is known of the body that follows.
pub(super) struct Final<'a, 'c> {
    pub(super) response: Response<()>,
    /// The head as it came, where that is text.
    pub(super) text: Option<Head>,
    pub(super) body: Source<'a, 'c>,
    /// The end of the upstream's connection is the end of the body.
    pub(super) until_close: bool,
    pub(super) upstream_stays: bool,
    /// It opens the WebSocket that was asked for.
    pub(super) accepted: Option<Accepted>,
}

impl Final<'_, '_> {
    /// The fields of a head that came as text.
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.text.iter().flat_map(Head::fields)
    }
}

impl<'a, 'c> Incoming<'a, 'c> {
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arrived<'a, 'c>, Fault>> {
        match self {
            Self::Http1 {
                connection,
                is_head,
                upgrade,
                forwarded,
            } => {
                let arrived = ready!(poll_http1_head(connection, *is_head, *upgrade, cx))?;
                match (&arrived, forwarded) {
                    // It is oriel that the proxy asks, and not the client.
                    (Arrived::Final(head), Some(forwarded)) if head.response.status() == 407 => {
                        Poll::Ready(Err(forwarded.unauthorized(head.fields()).into()))
                    }
                    _ => Poll::Ready(Ok(arrived)),
                }
            }
            Self::Http2 { response, opens } => {
                let from_h2 =
                    |error: &h2::Error| Fault::from_h2(Side::Upstream, Stage::Response, error);
                if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
                    let interim = interim.map_err(|error| from_h2(&error))?;
                    let text = heads::response_text(interim.status(), interim.headers());
                    return Poll::Ready(Ok(Arrived::Informational(interim, text)));
                }
                let arrived = ready!(pin!(response).poll(cx)).map_err(|error| from_h2(&error))?;
                let (parts, body) = arrived.into_parts();
                let accepted = (*opens && parts.status.is_success()).then(|| {
                    let text = heads::response_text(parts.status, &parts.headers);
                    Accepted::read_extended_connect(text.fields())
                });
                Poll::Ready(Ok(Arrived::Final(Box::new(Final {
                    response: Response::from_parts(parts, ()),
                    text: None,
                    body: Source::Http2 {
                        body,
                        side: Side::Upstream,
                    },
                    until_close: false,
                    upstream_stays: true,
                    accepted,
                }))))
            }
        }
    }
}

fn poll_http1_head<'a, 'c>(
    connection: &'a Mutex<&'c mut Http1>,
    is_head: bool,
    upgrade: Option<&Asked>,
    cx: &mut Context<'_>,
) -> Poll<Result<Arrived<'a, 'c>, Fault>> {
    let mut held = connection.lock();
    let bad = |error| error::bad_head(Side::Upstream, Stage::Response, error);
    let length = loop {
        match held.find_head(LineEnd::CrLfOrLf) {
            Ok(Some(length)) => break length,
            Ok(None) => {}
            Err(ReadError::Head(error)) => return Poll::Ready(Err(bad(error).into())),
            Err(ReadError::Closed | ReadError::TimedOut(_) | ReadError::Broken) => {}
        }
        match ready!(held.poll_fill(cx)) {
            Ok(0) => {
                let failure =
                    error::closed_early(Side::Upstream, Stage::Response, "before it answered");
                return Poll::Ready(Err(failure.into()));
            }
            Ok(_) => {}
            Err(error) => {
                let failure = error::broken(Side::Upstream, Stage::Response, &error);
                return Poll::Ready(Err(failure.into()));
            }
        }
    };
    let bytes = Bytes::copy_from_slice(held.input.get(..length).unwrap_or_default());
    held.consume(length);
    let method: &[u8] = if is_head { b"HEAD" } else { b"GET" };
    let head = head::parse_response(&bytes, method, Vec::new()).map_err(bad)?;
    let response = heads::from_http1_response(&head, &bytes)?;
    let text = Head {
        version: head.version,
        text: bytes,
    };
    let accepted = match upgrade {
        Some(asked) if head.status == 101 => {
            let accepted = websocket::accepted(asked, head::fields(&head.lines, &text.text))?;
            if accepted.proof != Proof::Right {
                // The key is ours: nobody behind us can tell.
                let text = "the upstream does not prove that it understood the upgrade";
                let (side, stage) = (Side::Upstream, Stage::Response);
                let kind = FailureKind::Malformed;
                return Poll::Ready(Err(error::failure(side, stage, kind, text).into()));
            }
            Some(accepted)
        }
        _ => None,
    };
    if head.status < 200 && accepted.is_none() {
        return Poll::Ready(Ok(Arrived::Informational(response, text)));
    }
    Poll::Ready(Ok(Arrived::Final(Box::new(Final {
        response,
        text: Some(text),
        body: Source::Http1 {
            connection,
            framing: Framing::new(head.body),
            side: Side::Upstream,
        },
        until_close: head.body == BodyLength::UntilClose,
        upstream_stays: head.keep_alive,
        accepted,
    }))))
}
