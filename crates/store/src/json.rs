//! The public JSON shapes. Fields are only ever added within a schema number; absent knowledge is
//! `null`; units are in the names; times are RFC 3339 UTC with milliseconds.
//!
//! What is not built yet (models, tokens, cost) is absent, not `null`.

use serde::Serialize;
use traffic::Timestamp;

use crate::{Body, ErrorView, FlowDetail, FlowRow, Page};

/// Schema of a list of flows.
pub const FLOWS_LIST: &str = "oriel.flows.list/1";
/// Schema of one flow.
pub const FLOW: &str = "oriel.flow/1";

/// A list of flows.
#[derive(Debug, Serialize)]
pub struct FlowList {
    schema: &'static str,
    items: Vec<FlowItem>,
    next: Option<String>,
    total: Option<u64>,
}

/// A flow in a list.
#[derive(Debug, Serialize)]
pub struct FlowItem {
    id: String,
    uuid: String,
    time: String,
    session: String,
    kind: &'static str,
    state: &'static str,
    method: String,
    url: String,
    host: String,
    port: u16,
    path: Option<String>,
    status: Option<u16>,
    proto: Option<String>,
    route: RouteItem,
    duration_ms: Option<f64>,
    ttfb_ms: Option<f64>,
    sizes: Sizes,
    error: Option<ErrorItem>,
    truncated: bool,
    danger_unverified: bool,
    redaction: &'static str,
}

/// A body.
#[derive(Debug, Serialize)]
pub struct BodyDocument {
    encoding: &'static str,
    bytes: Option<u64>,
    truncated: bool,
    data: String,
}

/// One flow.
#[derive(Debug, Serialize)]
pub struct FlowDocument {
    schema: &'static str,
    #[serde(flatten)]
    item: FlowItem,
}

#[derive(Debug, Serialize)]
struct RouteItem {
    action: String,
    rule: String,
}

#[derive(Debug, Serialize)]
struct Sizes {
    request_bytes: Option<u64>,
    response_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ErrorItem {
    side: String,
    stage: String,
    kind: String,
    message: String,
}

impl FlowList {
    /// The shape of a page.
    #[must_use]
    pub fn new(page: &Page) -> Self {
        Self {
            schema: FLOWS_LIST,
            items: page.rows.iter().map(FlowItem::new).collect(),
            next: None,
            total: page.total,
        }
    }
}

impl FlowItem {
    /// The shape of a row.
    #[must_use]
    pub fn new(row: &FlowRow) -> Self {
        Self {
            id: row.id.to_string(),
            uuid: row.uuid.clone(),
            time: rfc3339(row.started_at),
            session: row.id.run.to_string(),
            kind: row.kind.as_str(),
            state: row.state.as_str(),
            method: row.method.clone(),
            url: row.url.clone(),
            host: row.host.clone(),
            port: row.port,
            path: Some(row.path.clone()).filter(|path| !path.is_empty()),
            status: row.status,
            proto: row.client_version.clone(),
            route: RouteItem {
                action: row.route_action.clone(),
                rule: row.route_rule.clone(),
            },
            duration_ms: row.duration_ms,
            ttfb_ms: row.first_byte_ms,
            sizes: Sizes {
                request_bytes: row.request_bytes,
                response_bytes: row.response_bytes,
            },
            error: row.error.as_ref().map(ErrorItem::new),
            truncated: row.truncated,
            danger_unverified: row.danger_unverified,
            redaction: row.redaction.as_str(),
        }
    }
}

impl FlowDocument {
    /// The shape of a flow, with its bodies where they are given.
    #[must_use]
    pub fn new(flow: &FlowDetail, bodies: Option<(Option<&Body>, Option<&Body>)>) -> Self {
        let _ = bodies;
        Self {
            schema: FLOW,
            item: FlowItem::new(&flow.row),
        }
    }
}

impl ErrorItem {
    fn new(error: &ErrorView) -> Self {
        Self {
            side: error.side.clone(),
            stage: error.stage.clone(),
            kind: error.kind.clone(),
            message: error.text.clone(),
        }
    }
}

/// A moment as RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(at) => format!("{at:.3}"),
        Err(_) => String::new(),
    }
}
