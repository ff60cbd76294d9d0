//! The client's end of a response: its heads are written here.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response, StatusCode};
use parking_lot::Mutex;
use traffic::wire::websocket::handshake::Asked;
use traffic::{Side, Stage, Version};

use super::body::{Coding, Outgoing, Sink};
use super::course::Course;
use super::fault::{Fault, client_reset};
use super::heads;
use crate::error;
use crate::http1::connection::Http1;
use crate::limits::READ_BYTES;

/// The client's end of the response.
pub(super) enum Reply<'a, 'c> {
    Http1 {
        connection: &'a Mutex<&'c mut Http1>,
        version: Version,
        stays: bool,
        is_head: bool,
        /// The WebSocket that the client asks for.
        upgrade: Option<&'a Asked>,
    },
    Http2(&'a mut SendResponse<Bytes>),
}

impl<'a, 'c> Reply<'a, 'c> {
    pub(super) fn informational(&mut self, response: Response<()>) -> Result<(), Fault> {
        match self {
            // HTTP/1.0 has no interim responses (RFC 9110 section 15.2).
            Self::Http1 {
                version: Version::Http10,
                ..
            } => Ok(()),
            Self::Http1 { connection, .. } => {
                let mut held = connection.lock();
                heads::write_response(&response, Coding::AsItIs, false, &mut held.output);
                Ok(())
            }
            Self::Http2(respond) => respond
                .send_informational(response)
                .map_err(|error| Fault::from_h2(Side::Client, Stage::Response, &error)),
        }
    }

    /// Sends the final head; says with what the body is to be written, and whether the end of
    /// the connection will be the end of the body.
    pub(super) fn start(
        self,
        mut response: Response<()>,
        ended: bool,
    ) -> Result<(Sink<'a, 'c>, bool), Fault> {
        match self {
            Self::Http1 {
                connection,
                version,
                stays,
                is_head,
                ..
            } => {
                let sized = response.headers().contains_key(CONTENT_LENGTH);
                let bodiless = is_head || matches!(response.status().as_u16(), 204 | 304);
                if response.status() == 204 {
                    response.headers_mut().remove(CONTENT_LENGTH);
                }
                let (coding, closes) = match (ended || sized, version) {
                    _ if bodiless => (Coding::Nothing, false),
                    (true, _) => (Coding::AsItIs, false),
                    (false, Version::Http10) => (Coding::AsItIs, true),
                    (false, Version::Http11 | Version::Http2) => (Coding::Chunked, false),
                };
                if ended && !sized && !bodiless {
                    // HTTP/2 ends a stream with its head; here the end of the connection would
                    // be waited for (RFC 9112 section 6.3).
                    let none = HeaderValue::from_static("0");
                    response.headers_mut().insert(CONTENT_LENGTH, none);
                }
                let close = closes || !stays;
                if closes {
                    connection.lock().reset_on_drop(true);
                }
                heads::write_response(&response, coding, close, &mut connection.lock().output);
                Ok((
                    Sink::Http1 {
                        connection,
                        coding,
                        side: Side::Client,
                    },
                    closes,
                ))
            }
            Self::Http2(respond) => {
                let stream = respond
                    .send_response(response, ended)
                    .map_err(|error| Fault::from_h2(Side::Client, Stage::Response, &error))?;
                Ok((
                    Sink::Http2 {
                        stream: Outgoing::Own(stream),
                        side: Side::Client,
                    },
                    false,
                ))
            }
        }
    }

    /// Sends the head that opens a WebSocket; says where an HTTP/2 client is written to then.
    pub(super) fn open(
        self,
        mut response: Response<()>,
    ) -> Result<Option<SendStream<Bytes>>, Fault> {
        heads::clear_handshake(response.headers_mut());
        match self {
            Self::Http1 {
                connection,
                upgrade,
                ..
            } => {
                let accept = upgrade.map_or("", Asked::accept);
                heads::write_switch(&response, accept, &mut connection.lock().output);
                Ok(None)
            }
            Self::Http2(respond) => {
                *response.status_mut() = StatusCode::OK;
                let opened = respond.send_response(response, false);
                opened
                    .map(Some)
                    .map_err(|error| Fault::from_h2(Side::Client, Stage::Response, &error))
            }
        }
    }

    /// Ready once the client is gone, while its response is awaited.
    pub(super) fn poll_client(
        &mut self,
        cx: &mut Context<'_>,
        course: &Course<'_, '_>,
    ) -> Poll<Fault> {
        match self {
            Self::Http1 { connection, .. } => {
                let mut held = connection.lock();
                if let Poll::Ready(Err(error)) = held.poll_drain(cx) {
                    return Poll::Ready(
                        error::broken(Side::Client, Stage::Response, &error).into(),
                    );
                }
                // Before the request has passed, the upload reads the connection.
                if !course.uploaded.load(Ordering::Relaxed)
                    || held.read_ended
                    || held.input.len() >= READ_BYTES
                {
                    return Poll::Pending;
                }
                match ready!(held.poll_fill(cx)) {
                    Ok(0) => {
                        // It may still read: it gets a moment, see `HALF_CLOSED`.
                        course.client_ended.store(true, Ordering::Relaxed);
                        course.note_progress();
                        Poll::Pending
                    }
                    Ok(_) => Poll::Pending,
                    Err(error) => {
                        Poll::Ready(error::broken(Side::Client, Stage::Response, &error).into())
                    }
                }
            }
            Self::Http2(respond) => match ready!(respond.poll_reset(cx)) {
                Ok(reason) => Poll::Ready(client_reset(reason)),
                Err(error) => Poll::Ready(Fault::from_h2(Side::Client, Stage::Response, &error)),
            },
        }
    }
}
