//! A request of an HTTP/2 client.

use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request};
use traffic::{Scheme, Side, Target};

use super::attempt::Attempt;
use super::body::Source;
use super::fault::{Broken, client_reset};
use super::reply::Reply;
use super::{Carried, Message, Opened, Passage, heads};
use crate::connection::Engine;
use crate::http1::head::BodyLength;
use crate::tap::Flow;
use crate::upstream::{Lease, Offer, Upstream};
use crate::websocket::End;

/// A request that came in HTTP/2.
pub(crate) struct Http2Request<'a> {
    pub(crate) parts: http::request::Parts,
    pub(crate) body: RequestBody,
    pub(crate) target: &'a Target,
    pub(crate) scheme: Scheme,
}

/// The body of a request that came in HTTP/2.
pub(crate) enum RequestBody {
    /// Still on its way.
    Passing(RecvStream),
    /// Whole, because it was looked at.
    Held {
        data: Bytes,
        trailers: Option<HeaderMap>,
    },
}

/// What a client asks for, as it is sent.
struct Asked<'a, 'c> {
    request: Request<()>,
    length: BodyLength,
    source: Source<'a, 'c>,
    /// What a WebSocket will carry, if one is asked for.
    incoming: Option<RecvStream>,
}

/// Carries a request of an HTTP/2 client.
pub(crate) async fn from_http2(
    asked: Http2Request<'_>,
    respond: &mut SendResponse<Bytes>,
    lease: Lease,
    upstream: &Upstream,
    flow: &mut Flow<'_>,
    engine: &Arc<Engine>,
) -> Result<(), Broken> {
    let Asked {
        request,
        length,
        source,
        incoming,
    } = asked.turn_over()?;
    let first = Message {
        request,
        length,
        source,
        reply: Reply::Http2(&mut *respond),
    };
    let attempt = Attempt::new(&first, &lease);
    let copy = attempt.bodiless.then(|| first.request.clone());
    let mut passage = Passage {
        upstream,
        flow,
        engine,
    };
    let carried = match (passage.carry(first, lease).await, copy) {
        (Err(broken), Some(request)) if attempt.may_be_repeated(&broken) => {
            let lease = acquire_again(&attempt, respond, &passage).await?;
            let again = Message {
                request,
                length,
                source: match incoming {
                    Some(_) => Source::Later,
                    None => Source::Nothing,
                },
                reply: Reply::Http2(respond),
            };
            passage.carry(again, lease).await?
        }
        (carried, _) => carried?,
    };
    match (carried, incoming) {
        (Carried::Opened(opened), Some(incoming)) => run_websocket(opened, incoming, passage).await,
        (Carried::Whole(_) | Carried::Opened(_), _) => Ok(()),
    }
}

impl Http2Request<'_> {
    fn turn_over<'a, 'c>(self) -> Result<Asked<'a, 'c>, Broken> {
        let Self {
            parts,
            body,
            target,
            scheme,
        } = self;
        let websocket = heads::asks_for_websocket(&parts);
        let length = match websocket {
            true => BodyLength::None,
            false => heads::body_length(&parts.headers, body.is_ended()).map_err(Broken::before)?,
        };
        let request = heads::for_upstream(parts, target, scheme).map_err(Broken::before)?;
        let (source, incoming) = match body {
            RequestBody::Passing(body) if websocket => (Source::Later, Some(body)),
            body => (body.into_source(), None),
        };
        Ok(Asked {
            request,
            length,
            source,
            incoming,
        })
    }
}

impl RequestBody {
    fn is_ended(&self) -> bool {
        match self {
            Self::Passing(body) => body.is_end_stream(),
            Self::Held { data, trailers } => data.is_empty() && trailers.is_none(),
        }
    }

    fn into_source<'a, 'c>(self) -> Source<'a, 'c> {
        match self {
            Self::Passing(body) => Source::Http2 {
                body,
                side: Side::Client,
            },
            Self::Held { data, trailers } => Source::Held { data, trailers },
        }
    }
}

/// A connection for the second time. A client that has lost interest does not keep a dial going.
async fn acquire_again(
    attempt: &Attempt,
    respond: &mut SendResponse<Bytes>,
    passage: &Passage<'_, '_>,
) -> Result<Lease, Broken> {
    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx));
    tokio::select! {
        biased;
        reset = reset => Err(client_reset(reset.unwrap_or(Reason::CANCEL)).before_response()),
        lease = attempt.acquire_again(passage.upstream, Offer::Any, passage.engine) => {
            lease.map_err(Broken::before)
        }
    }
}

/// Passes what the WebSocket carries, to its end.
async fn run_websocket(
    mut opened: Opened,
    mut incoming: RecvStream,
    passage: Passage<'_, '_>,
) -> Result<(), Broken> {
    let Some(outgoing) = &mut opened.client else {
        return Ok(());
    };
    let client = End::Http2 {
        incoming: &mut incoming,
        outgoing,
    };
    opened.upstream.run(client, &opened.accepted, passage).await
}
