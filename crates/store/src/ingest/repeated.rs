//! What is known of a request that was asked before on its connection, word for word.
//!
//! Only of one that has no body and belongs to no session: then all that its row needs, but for its times and its
//! answer, is what it was the last time.

use std::sync::Arc;

use llm::TrafficType;
use traffic::{FlowKind, FlowStarted, Route, Scheme, Target, Version};

use super::assemble::Flow;
use super::meaning::Known;
use super::place::Asked;

/// What was found out of a request with the head that it is kept beside.
#[derive(Debug)]
pub(crate) struct Repeated {
    kind: FlowKind,
    scheme: Scheme,
    version: Version,
    target: Arc<Target>,
    route: Arc<Route>,
    method: String,
    path: String,
    query: String,
    traffic_type: TrafficType,
    /// The row of its place.
    place: i64,
}

impl Repeated {
    /// What to keep of a flow, if nothing but its head and where it went was of any account.
    pub(crate) fn of(flow: &Flow, asked: &Asked<'_>, known: &Known, place: i64) -> Option<Self> {
        let FlowStarted {
            kind,
            scheme,
            target,
            route,
            head,
            ..
        } = &*flow.started;
        (is_bare(flow) && known.is_plain()).then(|| Self {
            kind: *kind,
            scheme: *scheme,
            version: head.version,
            target: Arc::clone(target),
            route: Arc::clone(route),
            method: asked.method.to_owned(),
            path: asked.path.to_owned(),
            query: asked.query.to_owned(),
            traffic_type: known.traffic_type,
            place,
        })
    }

    /// Whether a flow that begins with the same head is the same.
    pub(crate) fn is(&self, flow: &Flow) -> bool {
        let started = &*flow.started;
        is_bare(flow)
            && Arc::ptr_eq(&self.route, &started.route)
            && self.kind == started.kind
            && self.scheme == started.scheme
            && self.version == started.head.version
            && self.target == started.target
    }

    /// What was asked, what is known of it, and the row of its place.
    pub(crate) fn found(&self) -> (Asked<'_>, Known, i64) {
        let asked = Asked {
            method: &self.method,
            path: &self.path,
            query: &self.query,
        };
        (asked, Known::plain(self.traffic_type), self.place)
    }
}

/// Whether its request is whole and has no body.
fn is_bare(flow: &Flow) -> bool {
    flow.request.size() == Some(0)
}
