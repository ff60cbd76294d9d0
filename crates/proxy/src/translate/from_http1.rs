//! A request of an HTTP/1 client.

use std::sync::Arc;

use parking_lot::Mutex;
use traffic::wire::websocket::handshake;
use traffic::{Scheme, Side, Target, Version};

use super::attempt::Attempt;
use super::body::Source;
use super::fault::Broken;
use super::reply::Reply;
use super::{Carried, Message, Passage, heads};
use crate::connection::Engine;
use crate::http1::body::Framing;
use crate::http1::connection::Http1;
use crate::http1::head::RequestHead;
use crate::http1::relay::Reuse;
use crate::max_forwards::MaxForwards;
use crate::tap::Flow;
use crate::upstream::{Lease, Offer, Upstream};
use crate::websocket::End;

/// A request that came in HTTP/1, its head consumed, its body still to come.
pub(crate) struct Http1Request<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) bytes: &'a [u8],
    pub(crate) path: String,
    /// What replaces the Max-Forwards field.
    pub(crate) forwards: Option<MaxForwards>,
    /// It was sent once already.
    pub(crate) repeated: bool,
    /// The host of a request in absolute form: it replaces the Host field.
    pub(crate) host: Option<&'a str>,
    pub(crate) target: &'a Target,
    pub(crate) scheme: Scheme,
    /// The WebSocket that it asks for.
    pub(crate) upgrade: Option<&'a handshake::Asked>,
}

/// The client, and what it asked for.
struct Asker<'a, 'c> {
    asked: &'a Http1Request<'a>,
    connection: &'a Mutex<&'c mut Http1>,
    /// Its connection may serve another request.
    stays: bool,
}

/// Carries a request of an HTTP/1 client.
pub(crate) async fn from_http1(
    client: &mut Http1,
    asked: Http1Request<'_>,
    lease: Lease,
    upstream: &Upstream,
    flow: &mut Flow<'_>,
    engine: &Arc<Engine>,
) -> Result<Reuse, Broken> {
    let head = asked.head;
    let stays = head.keep_alive && head.version == Version::Http11 && !engine.stop.is_asked();
    let connection = Mutex::new(client);
    let asker = Asker {
        asked: &asked,
        connection: &connection,
        stays,
    };
    let first = asker.message(Source::Http1 {
        connection: &connection,
        framing: Framing::new(head.body),
        side: Side::Client,
    })?;
    let attempt = Attempt::new(&first, &lease);
    let mut passage = Passage {
        upstream,
        flow,
        engine,
    };
    let carried = match passage.carry(first, lease).await {
        Err(broken) if !asked.repeated && attempt.may_be_repeated(&broken) => {
            let again = asker.message(Source::Nothing)?;
            let acquired = attempt.acquire_again(upstream, Offer::Http1, engine);
            let lease = acquired.await.map_err(Broken::before)?;
            passage.carry(again, lease).await?
        }
        carried => carried?,
    };
    match carried {
        Carried::Whole(done) => {
            let until_close = done.response.until_close;
            Ok(Reuse {
                client: stays && !until_close && done.uploaded,
                upstream: false,
                until_close,
            })
        }
        Carried::Opened(opened) => {
            let client = End::Http1(connection.into_inner());
            let mut carrier = opened.upstream;
            carrier.run(client, &opened.accepted, passage).await?;
            Ok(Reuse {
                client: false,
                upstream: false,
                until_close: false,
            })
        }
    }
}

impl<'a, 'c> Asker<'a, 'c> {
    /// The request with this body; one that asks for a WebSocket has none.
    fn message(&self, body: Source<'a, 'c>) -> Result<Message<'a, 'c>, Broken> {
        let Http1Request {
            head,
            bytes,
            upgrade,
            ..
        } = *self.asked;
        let mut request = heads::from_http1_request(self.asked).map_err(Broken::before)?;
        let source = match upgrade {
            Some(_) => {
                heads::ask_for_websocket(&mut request);
                Source::Later
            }
            None => body,
        };
        Ok(Message {
            request,
            length: head.body,
            source,
            reply: Reply::Http1 {
                connection: self.connection,
                version: head.version,
                stays: self.stays,
                is_head: bytes.get(head.method.clone()) == Some(b"HEAD"),
                upgrade,
            },
        })
    }
}
