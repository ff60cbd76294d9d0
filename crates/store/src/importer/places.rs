//! Where flows from elsewhere went: one row for many flows.

use llm::TrafficType;
use rusqlite::Connection;
use traffic::rules::redact::Redaction;

use super::parts::Asked;
use crate::ingest::recent::Recent;
use crate::limits::REMEMBERED_PLACES_MAX;
use crate::{FlowDetail, FlowKind, StoreError};

/// What is known to be stored.
#[derive(Debug)]
pub(super) struct Places {
    rows: Recent<Place, i64>,
}

/// The columns of a row of `places`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    kind: FlowKind,
    route_action: String,
    route_rule: String,
    redaction: Redaction,
    method: String,
    scheme: String,
    host: String,
    port: u16,
    url_start: String,
    request_version: String,
    traffic_type: TrafficType,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            rows: Recent::new(REMEMBERED_PLACES_MAX),
        }
    }
}

impl Places {
    /// Forgets what is stored: a write was undone, or another process may have removed it.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
    }

    /// The row of the place that a flow went to.
    pub(super) fn store(
        &mut self,
        connection: &Connection,
        detail: &FlowDetail,
        asked: &Asked<'_>,
    ) -> Result<i64, StoreError> {
        let row = &detail.row;
        let place = Place {
            kind: row.kind,
            route_action: row.route_action.clone(),
            route_rule: row.route_rule.clone(),
            redaction: row.redaction,
            method: row.method.clone(),
            scheme: detail.scheme.clone(),
            host: row.host.clone(),
            port: row.port,
            url_start: asked.url_start.to_owned(),
            request_version: row.client_version.clone().unwrap_or_default(),
            traffic_type: row.traffic_type,
        };
        if let Some(row) = self.rows.find(&place) {
            return Ok(*row);
        }
        let row = insert(connection, &place)?;
        self.rows.insert(place, row);
        Ok(row)
    }
}

fn insert(connection: &Connection, place: &Place) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO places (
           kind, route_action, route_rule, redaction, method, scheme, host, port, url_start,
           request_version, traffic_type
         ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    statement.insert((
        place.kind.as_str(),
        &place.route_action,
        &place.route_rule,
        place.redaction.as_str(),
        &place.method,
        &place.scheme,
        &place.host,
        place.port,
        &place.url_start,
        &place.request_version,
        place.traffic_type.as_str(),
    ))
}
