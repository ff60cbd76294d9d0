//! What upstream and client have in common on an HTTP/2 stream: fields as plain pairs, and bodies
//! read and written under flow control.

use std::future::poll_fn;
use std::io;

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::message::{BODY_BYTES_KEPT, Body, Headers};

/// The fields of an HTTP/2 block as plain pairs.
pub(crate) fn fields_of(map: &HeaderMap) -> Headers {
    let pair = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.to_string(), value)
    };
    Headers(map.iter().map(pair).collect())
}

/// Reads a body to its end, opening the window as it goes.
pub(crate) async fn read_body(stream: &mut RecvStream) -> Body {
    let mut body = Body::default();
    let mut kept = BytesMut::new();
    while let Some(piece) = poll_fn(|context| stream.poll_data(context)).await {
        let Ok(piece) = piece else {
            body.broken = Some(io::ErrorKind::ConnectionReset);
            break;
        };
        body.seen += piece.len() as u64;
        let room = BODY_BYTES_KEPT.saturating_sub(kept.len()).min(piece.len());
        kept.extend_from_slice(piece.get(..room).unwrap_or_default());
        if stream.flow_control().release_capacity(piece.len()).is_err() {
            body.broken = Some(io::ErrorKind::ConnectionReset);
            break;
        }
    }
    if body.broken.is_none() {
        match poll_fn(|context| stream.poll_trailers(context)).await {
            Ok(trailers) => body.trailers = trailers.as_ref().map(fields_of).unwrap_or_default(),
            Err(_) => body.broken = Some(io::ErrorKind::ConnectionReset),
        }
    }
    body.kept = kept.freeze();
    body
}

/// Sends as the peer's window allows.
pub(crate) async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = match poll_fn(|context| stream.poll_capacity(context)).await {
            Some(capacity) => capacity?,
            None => return Err(Reason::STREAM_CLOSED.into()),
        };
        stream.send_data(data.split_to(capacity.min(data.len())), false)?;
    }
    Ok(())
}
