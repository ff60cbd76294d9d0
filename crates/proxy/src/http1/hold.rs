//! Holds the body of a request until it is whole, for a handler that wants to see it. It stays
//! where it was read, framing and all, so that it can be sent on byte for byte.

use std::task::{Poll, ready};
use std::time::Duration;

use traffic::{Failure, FailureKind, Side, Stage};

use crate::error;
use crate::governor;
use crate::handler::Hold;
use crate::http1::body::Framing;
use crate::http1::connection::Http1;
use crate::http1::head::{BodyLength, RequestHead};

/// A body that stands whole at the start of its connection's input.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) payload: Vec<u8>,
    /// Octets of the input that are the body, framing included.
    pub(super) raw: usize,
}

/// Reads on until the body is there, at most `bytes_max` octets of it, with pauses of at most
/// `idle`.
pub(super) async fn hold(
    client: &mut Http1,
    request: &RequestHead,
    bytes_max: usize,
    idle: Duration,
    hold: &mut Hold,
) -> Result<Held, Failure> {
    let mut held = Held {
        payload: Vec::new(),
        raw: 0,
    };
    if let BodyLength::Exactly(length) = request.body
        && length > bytes_max as u64
    {
        return Err(too_large(bytes_max));
    }
    if request.expects_continue && client.input.is_empty() {
        // Nobody else can say it: nothing has been sent on.
        client
            .output
            .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let mut framing = Framing::new(request.body);
    client.deadline.set(idle);
    std::future::poll_fn(|cx| {
        loop {
            while !framing.is_done() {
                let rest = client.input.get(held.raw..).unwrap_or_default();
                if rest.is_empty() {
                    break;
                }
                let step = framing
                    .decode(rest)
                    .map_err(|error| error::bad_body(Side::Client, Stage::Request, error))?;
                held.payload
                    .extend_from_slice(rest.get(step.payload).unwrap_or_default());
                held.raw += step.consumed;
                if !hold.grow(step.consumed) {
                    return Poll::Ready(Err(governor::no_room()));
                }
                if held.payload.len() > bytes_max {
                    return Poll::Ready(Err(too_large(bytes_max)));
                }
            }
            if framing.is_done() {
                return Poll::Ready(Ok(()));
            }
            let broke = |error| error::broken(Side::Client, Stage::Request, &error);
            match client.poll_fill(cx) {
                Poll::Ready(Ok(0)) => {
                    let place = "in the middle of the body";
                    return Poll::Ready(Err(error::closed_early(
                        Side::Client,
                        Stage::Request,
                        place,
                    )));
                }
                Poll::Ready(Ok(_)) => client.deadline.set(idle),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(broke(error))),
                Poll::Pending => {
                    ready!(client.poll_drain(cx)).map_err(broke)?;
                    ready!(client.deadline.poll_passed(cx));
                    let what = "sent nothing of the body for too long";
                    return Poll::Ready(Err(error::timed_out(Side::Client, Stage::Request, what)));
                }
            }
        }
    })
    .await?;
    Ok(held)
}

fn too_large(bytes_max: usize) -> Failure {
    let text = format!("the request body is larger than the {bytes_max} bytes that may be held");
    error::failure(Side::Client, Stage::Request, FailureKind::TooLarge, text)
}
