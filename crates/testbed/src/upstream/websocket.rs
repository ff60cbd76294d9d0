//! The WebSockets of the general upstream. `/websocket` gives back each frame as it came, compressed
//! ones too, answers pings and closes; `/v1/responses` and `/v1/realtime` are those of a model API.
//!
//! A compressed message goes back as the same octets. That is sound because both sides agree on the
//! same parameters, so that both directions have the same history.
//!
//! | query of `/websocket` | what it does |
//! |---|---|
//! | `refuse=S` | answers with status S instead |
//! | `close=C` | answers the first message with the close code C |
//! | `ping=1` | sends a ping first, and tells in a message what the pong says |

use std::io;

use aws_lc_rs::digest;
use bytes::{Buf, Bytes};

use super::models::{self, RealtimeSession};
use super::reply::Reply;
use super::{Received, Version};
use crate::message::Headers;
use crate::websocket::{CLOSE, Frame, PING, PONG, TEXT, WebSocket};

/// Where frames are given back.
const ECHO: &str = "/websocket";
/// Where a model answers.
const RESPONSES: &str = "/v1/responses";
/// Where a model talks.
const REALTIME: &str = "/v1/realtime";

/// What is done with a request.
pub(super) enum Answer {
    /// It does not ask for a WebSocket: `upstream/routes.rs` knows the rest.
    NotAsked,
    /// It is refused.
    Refuse(Reply),
    /// It is opened, and these fields go with the head.
    Open(Headers, Manner),
}

/// What is done with frames.
#[derive(Debug)]
pub(super) enum Manner {
    /// They are given back.
    Echo(Echo),
    /// Each message is a request to the model; this opened the socket.
    Responses(Box<Received>),
    /// Each message is an event of a conversation.
    Realtime(RealtimeSession),
}

/// What the query asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Echo {
    /// Sends a ping first, and tells in a message what the pong says.
    pings: bool,
    /// Answers the first message with this close code.
    close: Option<u16>,
}

/// Decides by the request's head.
pub(super) fn answer(request: &Received) -> Answer {
    let Some(mut fields) = proof(request) else {
        return Answer::NotAsked;
    };
    if request.path() == RESPONSES {
        return Answer::Open(fields, Manner::Responses(Box::new(request.clone())));
    }
    if request.path() == REALTIME {
        let session = RealtimeSession::new(request);
        return Answer::Open(fields, Manner::Realtime(session));
    }
    if request.path() != ECHO {
        return Answer::NotAsked;
    }
    if let Some(status) = number(request, "refuse") {
        return Answer::Refuse(Reply::full(status, "text/plain", "no websocket for you\n"));
    }
    let offered = request.headers.get("sec-websocket-protocol");
    if let Some(first) = offered.and_then(|list| list.split(',').next()) {
        add(&mut fields, "sec-websocket-protocol", first.trim());
    }
    let offers = request.headers.all("sec-websocket-extensions");
    if let Some(agreed) = offers.flat_map(|list| list.split(',')).find_map(agree) {
        add(&mut fields, "sec-websocket-extensions", &agreed);
    }
    let echo = Echo {
        pings: request.query("ping").is_some(),
        close: number(request, "close"),
    };
    Answer::Open(fields, Manner::Echo(echo))
}

fn number(request: &Received, name: &str) -> Option<u16> {
    request.query(name)?.parse().ok()
}

/// The fields that show that the request was understood: by HTTP/1.1 those of RFC 6455 section
/// 4.2.2, by HTTP/2 none (RFC 8441 section 5). `None` if it does not ask for a WebSocket.
fn proof(request: &Received) -> Option<Headers> {
    let mut fields = Headers::default();
    if request.version == Version::Http2 {
        return (request.headers.get(":protocol") == Some("websocket")).then_some(fields);
    }
    let upgrade = request.headers.get("upgrade")?;
    let key = request.headers.get("sec-websocket-key")?;
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return None;
    }
    let proven = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let proof = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, proven.as_bytes());
    add(&mut fields, "Upgrade", "websocket");
    add(&mut fields, "Connection", "Upgrade");
    add(&mut fields, "Sec-WebSocket-Accept", &base64(proof.as_ref()));
    Some(fields)
}

/// Accepts permessage-deflate with the same parameters for both directions (RFC 7692 section
/// 7.1): what the client asks of us is asked of it too. That it may limit its window is something
/// that the client has to offer.
fn agree(offer: &str) -> Option<String> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next()? != "permessage-deflate" {
        return None;
    }
    let parts: Vec<_> = parts.collect();
    let mut agreed = "permessage-deflate".to_owned();
    if parts.contains(&"server_no_context_takeover") {
        agreed += "; server_no_context_takeover; client_no_context_takeover";
    }
    let find = |name| parts.iter().find_map(|part| part.strip_prefix(name));
    if let Some(bits) = find("server_max_window_bits=") {
        find("client_max_window_bits")?;
        agreed += &format!("; server_max_window_bits={bits}; client_max_window_bits={bits}");
    }
    Some(agreed)
}

/// Serves until the peer has closed. A peer that leaves without a close frame is served as well.
pub(super) async fn serve(socket: WebSocket, manner: Manner) -> io::Result<()> {
    match manner {
        Manner::Echo(echo) => give_back(socket, echo).await,
        Manner::Responses(request) => {
            let answer = |message: &[u8]| models::answer_message(&request, message);
            respond(socket, Vec::new(), answer).await
        }
        Manner::Realtime(mut session) => {
            let opening = session.opening();
            respond(socket, opening, |message| session.answer(message)).await
        }
    }
}

/// Sends what is said first, and then what is answered to each message.
async fn respond(
    mut socket: WebSocket,
    opening: Vec<String>,
    mut answer: impl FnMut(&[u8]) -> Vec<String>,
) -> io::Result<()> {
    for event in opening {
        socket.send(&Frame::new(TEXT, event)).await?;
    }
    while let Some(frame) = socket.read().await? {
        match frame.opcode {
            CLOSE => {
                socket.send(&frame).await?;
                break;
            }
            PING => socket.send(&Frame::new(PONG, frame.payload)).await?,
            TEXT => {
                for event in answer(&frame.payload) {
                    socket.send(&Frame::new(TEXT, event)).await?;
                }
            }
            // Its clients send each request in one frame.
            _ => {}
        }
    }
    socket.close_write().await
}

async fn give_back(mut socket: WebSocket, manner: Echo) -> io::Result<()> {
    if manner.pings {
        socket.send(&Frame::new(PING, "are you there")).await?;
    }
    while let Some(frame) = socket.read().await? {
        match (frame.opcode, manner.close) {
            (CLOSE, _) => {
                socket.send(&frame).await?;
                break;
            }
            (PING, _) => socket.send(&Frame::new(PONG, frame.payload)).await?,
            (PONG, _) if !manner.pings => {}
            (PONG, _) => {
                let payload = [b"pong: ", frame.payload.as_ref()].concat();
                socket.send(&Frame::new(TEXT, payload)).await?;
            }
            (_, Some(code)) => {
                socket.send(&Frame::close(code, "as you asked")).await?;
                // The peer's own close frame ends it.
                while let Some(frame) = socket.read().await? {
                    if frame.opcode == CLOSE {
                        break;
                    }
                }
                break;
            }
            (_, None) => socket.send(&frame).await?,
        }
    }
    socket.close_write().await
}

fn add(fields: &mut Headers, name: &str, value: &str) {
    fields.0.push((name.to_owned(), value.to_owned()));
}

/// Base64 with padding, for a digest.
fn base64(mut bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    while !bytes.is_empty() {
        let taken = bytes.len().min(3);
        let mut group = Bytes::from([bytes, &[0; 4]].concat());
        let bits = group.get_u32();
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (26 - 6 * place) & 0x3f) as usize];
            text.push(if place <= taken { letter.into() } else { '=' });
        }
        bytes.advance(taken);
    }
    text
}
