//! The response, on its way from the upstream to the client.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use traffic::wire::websocket::handshake::Accepted;
use traffic::{FailureKind, Head, Side, Stage, Version};

use super::body::{BodyEnd, carry};
use super::course::Course;
use super::fault::Fault;
use super::heads;
use super::incoming::{Arrived, Final, Incoming};
use super::reply::Reply;
use crate::error;
use crate::limits::INFORMATIONAL_MAX;

/// What a response that passed whole leaves behind.
pub(super) struct Downloaded {
    /// The end of the client's connection is the end of the body.
    pub(super) until_close: bool,
    /// The upstream's connection takes another request.
    pub(super) upstream_stays: bool,
    /// The WebSocket that it opens.
    pub(super) opening: Option<Opening>,
}

/// An answer that opens a WebSocket.
pub(super) struct Opening {
    pub(super) accepted: Accepted,
    /// Where an HTTP/2 client is written to.
    pub(super) client: Option<SendStream<Bytes>>,
    /// Where an HTTP/2 upstream is read from.
    pub(super) incoming: Option<RecvStream>,
}

/// Passes the response on to its end.
pub(super) async fn download(
    mut incoming: Incoming<'_, '_>,
    mut reply: Reply<'_, '_>,
    course: &Course<'_, '_>,
) -> Result<Downloaded, Fault> {
    let Final {
        mut response,
        text,
        body,
        until_close,
        upstream_stays,
        accepted,
    } = *final_head(&mut incoming, &mut reply, course).await?;
    let comes_by_http2 = text.is_none();
    course.flow.lock().response_started(|told| {
        text.unwrap_or_else(|| Head {
            version: Version::Http2,
            text: told.written(|text| {
                heads::write_response_text(response.status(), response.headers(), text);
            }),
        })
    });
    course.responded.store(true, Ordering::Relaxed);
    if comes_by_http2 {
        heads::say_length_once(response.headers_mut());
    }
    if course.hides_http3 {
        heads::hide_http3(response.headers_mut());
    }
    if let Some(accepted) = accepted {
        return Ok(Downloaded {
            until_close: true,
            upstream_stays: false,
            opening: Some(Opening {
                accepted,
                client: reply.open(response)?,
                incoming: body.into_stream(),
            }),
        });
    }
    let ended = body.is_ended();
    let length = heads::content_length(response.headers());
    let (sink, closes) = reply.start(response, ended)?;
    course.until_close.store(closes, Ordering::Relaxed);
    let passed = AtomicU64::new(0);
    let seen = |data: &Bytes| {
        course.flow.lock().response_bytes(data);
        course.note_progress();
        passed.fetch_add(data.len() as u64, Ordering::Relaxed);
    };
    let turns_to = |end| {
        let sink = end == BodyEnd::Sink;
        course.client_behind.store(sink, Ordering::Relaxed);
        if !sink {
            course.flow.lock().hand_over();
        }
    };
    let trailers = if ended {
        turns_to(BodyEnd::Sink);
        sink.flush_head().await?;
        None
    } else {
        match carry(body, sink, seen, turns_to).await {
            Ok(trailers) => trailers,
            // A client that has every octet it was promised may close the stream before the end
            // of it is told in a frame of its own, as curl does.
            Err(fault)
                if fault.failure.side == Side::Client
                    && length == Some(passed.load(Ordering::Relaxed)) =>
            {
                None
            }
            Err(fault) => return Err(fault),
        }
    };
    course.flow.lock().response_ended(trailers);
    // A body that ends with the upstream's connection may have been given another end.
    Ok(Downloaded {
        until_close: closes,
        upstream_stays: upstream_stays && !until_close,
        opening: None,
    })
}

/// Passes the interim heads on and returns the final one.
async fn final_head<'a, 'c>(
    incoming: &mut Incoming<'a, 'c>,
    reply: &mut Reply<'_, '_>,
    course: &Course<'_, '_>,
) -> Result<Box<Final<'a, 'c>>, Fault> {
    let mut interim = 0;
    loop {
        let arrived = std::future::poll_fn(|cx| {
            if let Poll::Ready(arrived) = incoming.poll_head(cx) {
                return Poll::Ready(arrived);
            }
            course.flow.lock().hand_over();
            reply.poll_client(cx, course).map(Err)
        });
        let arrived = arrived.await?;
        course.answered.store(true, Ordering::Relaxed);
        course.note_progress();
        match arrived {
            Arrived::Informational(mut response, text) => {
                interim += 1;
                if response.status() == 101 || interim > INFORMATIONAL_MAX {
                    let text = "an interim response that was not asked for";
                    let (side, stage) = (Side::Upstream, Stage::Response);
                    return Err(error::failure(side, stage, FailureKind::Malformed, text).into());
                }
                course.flow.lock().informational(|| text);
                if course.hides_http3 {
                    heads::hide_http3(response.headers_mut());
                }
                reply.informational(response)?;
            }
            Arrived::Final(last) => return Ok(last),
        }
    }
}
