//! Waits until the upstream's connection takes a request, or finds another that does.

use std::sync::Arc;

use bytes::Bytes;
use traffic::{FailureKind, Side, Stage};

use super::fault::Broken;
use crate::connection::Engine;
use crate::error;
use crate::http2::client::{Http2Upstream, StreamGuard};
use crate::tap::Flow;
use crate::upstream::{Http1Upstream, Lease, Offer, Upstream};

/// A connection that takes a request now.
pub(super) enum Way {
    Http1(Box<Http1Upstream>),
    Http2(ReadySender),
}

pub(super) struct ReadySender {
    pub(super) shared: Arc<Http2Upstream>,
    pub(super) sender: h2::client::SendRequest<Bytes>,
    /// Counts the stream while it lives.
    pub(super) _guard: StreamGuard,
}

/// Waits until the connection takes a request. If it is going away, no byte of the request was
/// sent, and another connection is tried.
pub(super) async fn ready_way(
    mut lease: Lease,
    upstream: &Upstream,
    flow: &mut Flow<'_>,
    engine: &Arc<Engine>,
) -> Result<Way, Broken> {
    for left in (0..2).rev() {
        let shared = match lease {
            Lease::Http1(held) => return Ok(Way::Http1(held)),
            Lease::Http2(shared) => shared,
        };
        let (sender, guard, reused) = shared.begin();
        match tokio::time::timeout(engine.timeouts.idle_body, sender.ready()).await {
            Ok(Ok(sender)) => {
                flow.upstream(&shared.facts, reused);
                return Ok(Way::Http2(ReadySender {
                    shared,
                    sender,
                    _guard: guard,
                }));
            }
            Ok(Err(_)) => shared.retire(),
            Err(_) => {
                let what = "had no free stream for too long";
                return Err(Broken::before(error::timed_out(
                    Side::Upstream,
                    Stage::Request,
                    what,
                )));
            }
        }
        if left == 0 {
            break;
        }
        lease = engine
            .upstreams
            .connect(upstream, Offer::Any)
            .await
            .map_err(Broken::before)?;
    }
    let text = "the upstream ended its HTTP/2 connections before a request could be sent";
    let failure = error::failure(
        Side::Upstream,
        Stage::Request,
        FailureKind::ClosedEarly,
        text,
    );
    Err(Broken::before(failure))
}
