//! Whether a request that broke off is sent a second time, and on what.

use h2::Reason;
use http::Method;
use traffic::{Failure, FailureKind, Side};

use super::Message;
use super::fault::Broken;
use crate::connection::Engine;
use crate::upstream::{Lease, Offer, Upstream};

/// What decides whether a request that broke off is sent a second time.
pub(super) struct Attempt {
    pub(super) bodiless: bool,
    /// Sending it twice does no more than sending it once (RFC 9110 section 9.2.1).
    safe: bool,
    /// On a connection that had served before: the upstream may close it while a request is on its
    /// way.
    kept: bool,
}

impl Attempt {
    pub(super) fn new(message: &Message<'_, '_>, lease: &Lease) -> Self {
        let method = message.request.method();
        Self {
            bodiless: message.source.is_ended(),
            safe: message.opens()
                || matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS),
            kept: match lease {
                Lease::Http1(held) => held.served,
                Lease::Http2(shared) => shared.has_served(),
            },
        }
    }

    pub(super) fn may_be_repeated(&self, broken: &Broken) -> bool {
        if !self.bodiless || broken.answered || broken.failure.side != Side::Upstream {
            return false;
        }
        // The upstream has not processed it, whatever its method (RFC 9113 section 8.7).
        if broken.reason == Some(Reason::REFUSED_STREAM) {
            return true;
        }
        let kind = broken.failure.kind;
        let closed = matches!(kind, FailureKind::Reset | FailureKind::ClosedEarly);
        // A stream that was reset with another reason was seen.
        self.kept && self.safe && closed && broken.reason.is_none()
    }

    /// A connection for the second time: never another kept one of HTTP/1.1.
    pub(super) async fn acquire_again(
        &self,
        upstream: &Upstream,
        offer: Offer,
        engine: &Engine,
    ) -> Result<Lease, Failure> {
        match self.kept {
            true => engine.upstreams.connect(upstream, offer).await,
            false => engine.upstreams.acquire(upstream, offer).await,
        }
    }
}
