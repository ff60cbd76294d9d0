//! What a request is for: the place that it shares with many others, which is stored once, and the
//! path and query that are its own.

use std::fmt::Write as _;
use std::sync::Arc;

use llm::TrafficType;
use memchr::memchr2;
use rusqlite::{Connection, Statement};
use traffic::rules::redact::Redaction;
use traffic::{FlowKind, FlowStarted, Host, Route, Scheme, Target, Version};

use super::recent::Recent;
use crate::StoreError;
use crate::limits::REMEMBERED_PLACES_MAX;

/// A prepared statement and what is known to be stored.
pub(crate) struct Places<'c> {
    insert: Statement<'c>,
    redaction: Redaction,
    /// The one that was stored or found last: most flows go where the one before went.
    last: Option<(Place, i64)>,
    rows: Recent<Place, i64>,
}

/// What flows have in common that share a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    kind: FlowKind,
    route: Arc<Route>,
    scheme: Scheme,
    target: Arc<Target>,
    version: Version,
    method: String,
    traffic_type: TrafficType,
}

/// The parts of a request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked<'l> {
    pub(crate) method: &'l str,
    /// Without the query; empty for a tunnel.
    pub(crate) path: &'l str,
    /// From its `?` on; empty where there is none.
    pub(crate) query: &'l str,
}

impl<'c> Places<'c> {
    pub(crate) fn new(connection: &'c Connection, redaction: Redaction) -> rusqlite::Result<Self> {
        Ok(Self {
            insert: connection.prepare(
                "INSERT INTO places (
                   kind, route_action, route_rule, redaction, method, scheme, host, port, url_start,
                   request_version, traffic_type
                 ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?,
            redaction,
            last: None,
            rows: Recent::new(REMEMBERED_PLACES_MAX),
        })
    }

    /// Forgets what is stored: a write was undone, or another process may have removed it.
    pub(crate) fn forget(&mut self) {
        self.last = None;
        self.rows.clear();
    }

    /// The row of the place that a flow goes to with this method, for this kind of traffic.
    pub(crate) fn store(
        &mut self,
        started: &FlowStarted,
        method: &str,
        traffic_type: TrafficType,
    ) -> Result<i64, StoreError> {
        if let Some((last, row)) = &self.last
            && last.traffic_type == traffic_type
            && last.is_of(started, method)
        {
            return Ok(*row);
        }
        let place = Place::of(started, method, traffic_type);
        let row = match self.rows.find(&place) {
            Some(row) => *row,
            None => {
                let row = self.insert(&place)?;
                self.rows.insert(place.clone(), row);
                row
            }
        };
        self.last = Some((place, row));
        Ok(row)
    }

    fn insert(&mut self, place: &Place) -> rusqlite::Result<i64> {
        let target = &place.target;
        self.insert.insert((
            match place.kind {
                FlowKind::Http => "http",
                FlowKind::WebSocket => "websocket",
                FlowKind::Tunnel => "tunnel",
            },
            place.route.action.as_str(),
            &place.route.rule,
            self.redaction.as_str(),
            &place.method,
            place.scheme.as_str(),
            match &target.host {
                Host::Name(name) => name.to_string(),
                Host::Ip(address) => address.to_string(),
            },
            target.port,
            place.url_start(),
            place.version.as_str(),
            place.traffic_type.as_str(),
        ))
    }
}

impl Place {
    fn of(started: &FlowStarted, method: &str, traffic_type: TrafficType) -> Self {
        Self {
            kind: started.kind,
            route: Arc::clone(&started.route),
            scheme: started.scheme,
            target: Arc::clone(&started.target),
            version: started.head.version,
            method: method.to_owned(),
            traffic_type,
        }
    }

    /// Whether a flow goes here, whatever it is for. Asked for each flow, so nothing is copied for it.
    fn is_of(&self, started: &FlowStarted, method: &str) -> bool {
        self.kind == started.kind
            && (Arc::ptr_eq(&self.route, &started.route) || self.route == started.route)
            && self.scheme == started.scheme
            && self.target == started.target
            && self.version == started.head.version
            && self.method == method
    }

    /// The URL up to the path: `scheme://host:port` without the port that the scheme implies;
    /// `host:port` for a tunnel.
    fn url_start(&self) -> String {
        if self.kind == FlowKind::Tunnel {
            return self.target.to_string();
        }
        let mut url = format!("{}://{}", self.scheme.as_str(), self.target.host);
        if self.target.port != self.scheme.default_port() {
            write!(url, ":{}", self.target.port).expect("a String takes all");
        }
        url
    }
}

impl<'l> Asked<'l> {
    /// Takes a request line apart that is masked already.
    pub(crate) fn read(kind: FlowKind, line: &'l str) -> Self {
        let (method, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (mut path, mut query) = ("", "");
        if kind != FlowKind::Tunnel {
            let wanted = rest.rsplit_once(' ').map_or(rest, |(wanted, _)| wanted);
            let wanted = origin_form(wanted);
            let end = memchr2(b'?', b'#', wanted.as_bytes()).unwrap_or(wanted.len());
            (path, query) = wanted.split_at(end);
            // Behind anything else, such as `*`, there is no query.
            if !wanted.starts_with(['/', '?']) {
                query = "";
            }
        }
        Self {
            method,
            path,
            query,
        }
    }
}

/// The path and query of an absolute-form target; other forms as they are.
fn origin_form(target: &str) -> &str {
    if target.starts_with('/') {
        return target;
    }
    let Some((_, rest)) = target.split_once("://") else {
        return target;
    };
    let path = rest.find(['/', '?', '#']).and_then(|at| rest.get(at..));
    path.unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_request_lines_apart() {
        for (line, path, query) in [
            ("GET /a/b?c=d#e HTTP/1.1", "/a/b", "?c=d#e"),
            ("GET / HTTP/1.1", "/", ""),
            ("GET http://x:1/a?b HTTP/1.1", "/a", "?b"),
            ("GET http://x HTTP/1.1", "/", ""),
            ("GET http://x?b HTTP/1.1", "", "?b"),
            ("OPTIONS * HTTP/1.1", "*", ""),
            ("OPTIONS *?b HTTP/1.1", "*", ""),
            ("GET /a b HTTP/1.1", "/a b", ""),
            ("GET", "", ""),
        ] {
            let asked = Asked::read(FlowKind::Http, line);
            assert_eq!((asked.path, asked.query), (path, query), "{line}");
        }
        let tunnel = Asked::read(FlowKind::Tunnel, "CONNECT x:443 HTTP/1.1");
        assert_eq!(
            (tunnel.method, tunnel.path, tunnel.query),
            ("CONNECT", "", "")
        );
    }
}
