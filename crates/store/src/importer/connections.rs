//! The connections of flows from elsewhere: what is equal is taken for one connection.

use rusqlite::Connection;

use crate::ingest::recent::Recent;
use crate::limits::REMEMBERED_CONNECTIONS_MAX;
use crate::{ConnectionView, FlowDetail, RunId, StoreError, TlsView, UpstreamView};

/// What is known to be stored.
#[derive(Debug)]
pub(super) struct Connections {
    clients: Recent<(RunId, ConnectionView), i64>,
    upstreams: Recent<(RunId, UpstreamView), i64>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            clients: Recent::new(REMEMBERED_CONNECTIONS_MAX),
            upstreams: Recent::new(REMEMBERED_CONNECTIONS_MAX),
        }
    }
}

impl Connections {
    /// Forgets what is stored: a write was undone.
    pub(super) fn forget(&mut self) {
        self.clients.clear();
        self.upstreams.clear();
    }

    /// The row of the client's connection; 0, where no row is, if it is not known.
    pub(super) fn client(
        &mut self,
        connection: &Connection,
        run: RunId,
        client: Option<&ConnectionView>,
    ) -> Result<i64, StoreError> {
        let Some(client) = client else {
            return Ok(0);
        };
        let key = (run, client.clone());
        if let Some(row) = self.clients.find(&key) {
            return Ok(*row);
        }
        let row = insert_client(connection, run, client)?;
        self.clients.insert(key, row);
        Ok(row)
    }

    /// The row of the upstream's connection, if the flow had one.
    pub(super) fn upstream(
        &mut self,
        connection: &Connection,
        run: RunId,
        detail: &FlowDetail,
    ) -> Result<Option<i64>, StoreError> {
        let Some(upstream) = &detail.upstream else {
            return Ok(None);
        };
        let key = (run, upstream.clone());
        if let Some(row) = self.upstreams.find(&key) {
            return Ok(Some(*row));
        }
        let version = detail.row.upstream_version.as_deref();
        let row = insert_upstream(connection, run, upstream, version)?;
        self.upstreams.insert(key, row);
        Ok(Some(row))
    }
}

fn insert_client(
    connection: &Connection,
    run: RunId,
    client: &ConnectionView,
) -> rusqlite::Result<i64> {
    let tls = client.tls.as_ref();
    let process = client.process.as_ref();
    let mut statement = connection.prepare_cached(
        "INSERT INTO client_connections (
           run_id, front, client_address, proxy_address, accepted_at, tls_done_at, no_tls, tls_version,
           tls_cipher, tls_alpn, certificate, tls_sni, sni_differs, ja3, ja4, pid, process_name,
           process_path, command_line, ancestors, container, no_process, client_user
         ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
           ?20, ?21, ?22, ?23)",
    )?;
    statement.insert(rusqlite::params![
        run.as_str(),
        client.front,
        client.client_address,
        client.proxy_address,
        client.accepted_at.0,
        client.tls_done_at.map(|at| at.0),
        client.no_tls,
        tls.map(|tls| &tls.version),
        tls.map(|tls| &tls.cipher),
        tls.and_then(|tls| tls.alpn.as_deref()),
        tls.and_then(certificate),
        client
            .sni
            .as_deref()
            .or_else(|| tls.and_then(|tls| tls.sni.as_deref())),
        client.sni_differs,
        client.ja3,
        client.ja4,
        process.map(|process| process.pid),
        process.map(|process| &process.name),
        process.and_then(|process| process.path.as_deref()),
        process.map(|process| json(&process.command_line)),
        process.map(|process| json(&process.ancestors)),
        process.and_then(|process| process.container.as_deref()),
        client.no_process,
        client.user,
    ])
}

fn insert_upstream(
    connection: &Connection,
    run: RunId,
    upstream: &UpstreamView,
    version: Option<&str>,
) -> rusqlite::Result<i64> {
    let tls = upstream.tls.as_ref();
    let mut statement = connection.prepare_cached(
        "INSERT INTO upstream_connections (
           run_id, address, local_address, proxy, dial_started_at, connected_at, tls_done_at,
           http_version, tls_version, tls_cipher, tls_sni, tls_alpn, certificate, danger_unverified
         ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    statement.insert(rusqlite::params![
        run.as_str(),
        upstream.address,
        upstream.local_address,
        upstream.proxy,
        upstream.dial_started_at.0,
        upstream.connected_at.0,
        upstream.tls_done_at.map(|at| at.0),
        version,
        tls.map(|tls| &tls.version),
        tls.map(|tls| &tls.cipher),
        tls.and_then(|tls| tls.sni.as_deref()),
        tls.and_then(|tls| tls.alpn.as_deref()),
        tls.and_then(certificate),
        tls.is_some_and(|tls| tls.danger_unverified),
    ])
}

fn certificate(tls: &TlsView) -> Option<String> {
    tls.certificate.as_ref().map(json)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers are JSON")
}
