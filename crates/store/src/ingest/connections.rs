//! Stores the two connections of a flow, once each, and beside each the first head that came on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Statement, ToSql, params_from_iter};
use traffic::rules::redact::Redaction;
use traffic::{
    ConnectionFacts, FlowStarted, Head, NoTls, ProcessAnswer, ProcessCell, Target, UpstreamFacts,
};

use super::head::Heads;
use super::number_hash::NumberHash;
use super::recent::Recent;
use super::texts::{CertificateTexts, HelloTexts, ProcessTexts};
use crate::RunId;
use crate::limits::{
    AWAITED_FLOWS_MAX, PROCESS_AWAITED_MAX, PROCESS_LOOK_EVERY, REMEMBERED_CONNECTIONS_MAX,
};
use crate::shipper::instant;

/// Prepared statements and what is known to be stored.
///
/// A connection is known by the address of its facts: the engine makes them once per connection,
/// and holding them here keeps the address from being used again.
pub(crate) struct Connections<'c> {
    insert_client: Statement<'c>,
    set_process: Statement<'c>,
    insert_upstream: Statement<'c>,
    set_upstream_head: Statement<'c>,
    redaction: Redaction,
    clients: Recent<usize, Client, NumberHash>,
    upstreams: Recent<usize, Upstream, NumberHash>,
    /// Tells archives and followers that a flow is another than it was.
    insert_change: Statement<'c>,
    /// Clients whose process was not known when they were stored, by row: those that have waited longest
    /// first.
    awaited: BTreeMap<i64, Awaited>,
    process_texts: ProcessTexts,
    hello_texts: HelloTexts,
    certificate_texts: CertificateTexts,
}

/// A stored client connection whose process is being looked for.
struct Awaited {
    process: ProcessCell,
    since: Instant,
    /// Its flows that were stored in earlier batches, and in this one.
    flows: Vec<i64>,
    new_flows: Vec<i64>,
    /// It was stored in this batch.
    is_new: bool,
    /// Its process was, in this batch.
    is_stored: bool,
}

/// A stored client connection.
pub(crate) struct Client {
    pub(crate) row: i64,
    /// Heads of requests.
    pub(crate) heads: Heads,
    _facts: Arc<ConnectionFacts>,
}

/// A stored upstream connection.
pub(crate) struct Upstream {
    pub(crate) row: i64,
    /// Heads of responses.
    pub(crate) heads: Heads,
    _facts: Arc<UpstreamFacts>,
}

impl<'c> Connections<'c> {
    pub(crate) fn new(connection: &'c Connection, redaction: Redaction) -> rusqlite::Result<Self> {
        Ok(Self {
            insert_client: connection.prepare(
                "INSERT INTO client_connections (
                   run_id, front, client_address, proxy_address, accepted_at, tls_done_at, no_tls,
                   tls_version, tls_cipher, tls_alpn, certificate, tls_sni, sni_differs, ja3, ja4,
                   head, client_user, pid, process_name, process_path, command_line, ancestors,
                   container, no_process
                 ) VALUES (
                   ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
                   ?19, ?20, ?21, ?22, ?23, ?24
                 )",
            )?,
            set_process: connection.prepare(
                "UPDATE client_connections SET pid = ?2, process_name = ?3, process_path = ?4,
                   command_line = ?5, ancestors = ?6, container = ?7, no_process = ?8
                 WHERE id = ?1",
            )?,
            insert_upstream: connection.prepare(
                "INSERT INTO upstream_connections (
                   run_id, address, local_address, dial_started_at, connected_at, tls_done_at,
                   http_version, tls_version, tls_cipher, tls_sni, tls_alpn, certificate,
                   danger_unverified, proxy, head
                 ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?,
            set_upstream_head: connection
                .prepare("UPDATE upstream_connections SET head = ?2 WHERE id = ?1")?,
            redaction,
            clients: Recent::new(REMEMBERED_CONNECTIONS_MAX),
            upstreams: Recent::new(REMEMBERED_CONNECTIONS_MAX),
            insert_change: connection.prepare("INSERT INTO flow_changes (flow) VALUES (?1)")?,
            awaited: BTreeMap::new(),
            process_texts: ProcessTexts::default(),
            hello_texts: HelloTexts::default(),
            certificate_texts: CertificateTexts::default(),
        })
    }

    /// Forgets what is stored: a write was undone.
    pub(crate) fn forget(&mut self) {
        self.forget_rows();
        self.awaited.retain(|_, awaited| !awaited.is_new);
        for awaited in self.awaited.values_mut() {
            awaited.new_flows.clear();
            awaited.is_stored = false;
        }
    }

    /// Forgets which connections are stored: some were removed.
    pub(crate) fn forget_rows(&mut self) {
        self.clients.clear();
        self.upstreams.clear();
    }

    /// How long to wait at most before looking whether a process was found; `None`: none is looked for.
    pub(crate) fn patience(&self) -> Option<Duration> {
        (!self.awaited.is_empty()).then_some(PROCESS_LOOK_EVERY)
    }

    /// Whether there is an answer that is not stored, or one that nobody waits for any longer.
    pub(crate) fn has_late_processes(&self) -> bool {
        self.awaited
            .values()
            .any(|awaited| awaited.process.get().is_some() || awaited.is_over())
    }

    /// A flow of a client connection was stored.
    pub(crate) fn note_flow(&mut self, facts: &Arc<ConnectionFacts>, flow: i64) {
        if self.awaited.is_empty() || facts.process.is_none() {
            return;
        }
        let Some(client) = self.clients.find(&Arc::as_ptr(facts).addr()) else {
            return;
        };
        if let Some(awaited) = self.awaited.get_mut(&client.row)
            && awaited.flows.len() + awaited.new_flows.len() < AWAITED_FLOWS_MAX
        {
            awaited.new_flows.push(flow);
        }
    }

    /// Stores the processes that were found since, and notes that the flows of earlier batches are others by
    /// that. To be called at the end of a batch.
    pub(crate) fn store_processes(&mut self) -> rusqlite::Result<()> {
        let found: Vec<(i64, ProcessCell)> = self
            .awaited
            .iter()
            .filter(|(_, awaited)| awaited.process.get().is_some())
            .map(|(client, awaited)| (*client, awaited.process.clone()))
            .collect();
        for (client, process) in found {
            let (Some(answer), Some(awaited)) = (process.get(), self.awaited.get_mut(&client))
            else {
                continue;
            };
            awaited.is_stored = true;
            for flow in &awaited.flows {
                self.insert_change.execute([flow])?;
            }
            self.store_process(client, answer)?;
        }
        Ok(())
    }

    /// The batch is durable. A process is found within a second or not at all, so few are awaited; of more
    /// than the bound the oldest stay unknown.
    pub(crate) fn settle(&mut self) {
        self.awaited
            .retain(|_, awaited| !awaited.is_stored && !awaited.is_over());
        while self.awaited.len() > REMEMBERED_CONNECTIONS_MAX {
            self.awaited.pop_first();
        }
        for awaited in self.awaited.values_mut() {
            awaited.is_new = false;
            awaited.flows.append(&mut awaited.new_flows);
        }
    }

    fn store_process(&mut self, row: i64, answer: &ProcessAnswer) -> rusqlite::Result<()> {
        let process = self.process_texts.columns(answer, self.redaction);
        let row: &dyn ToSql = &row;
        let values = std::iter::once(row).chain(process.values());
        self.set_process.execute(params_from_iter(values))?;
        Ok(())
    }

    /// The client connection of a flow that begins so.
    pub(crate) fn client(
        &mut self,
        run: RunId,
        started: &FlowStarted,
    ) -> rusqlite::Result<&mut Client> {
        let FlowStarted {
            connection: facts,
            head,
            target,
            ..
        } = started;
        let key = Arc::as_ptr(facts).addr();
        if self.clients.find(&key).is_none() {
            let mut heads = Heads::default();
            let masked = heads.begin(head, self.redaction);
            let client = Client {
                row: self.store_client(run, facts, target, masked.as_deref())?,
                heads,
                _facts: Arc::clone(facts),
            };
            self.clients.insert(key, client);
        }
        Ok(self.clients.find(&key).expect("it was just inserted"))
    }

    /// The upstream connection of a flow that was answered with this head, if it was.
    pub(crate) fn upstream(
        &mut self,
        run: RunId,
        facts: &Arc<UpstreamFacts>,
        head: Option<&Head>,
    ) -> rusqlite::Result<&mut Upstream> {
        let key = Arc::as_ptr(facts).addr();
        if self.upstreams.find(&key).is_none() {
            let mut heads = Heads::default();
            let masked = head.and_then(|head| heads.begin(head, self.redaction));
            let upstream = Upstream {
                row: self.store_upstream(run, facts, masked.as_deref())?,
                heads,
                _facts: Arc::clone(facts),
            };
            self.upstreams.insert(key, upstream);
        }
        let upstream = self.upstreams.find(&key).expect("it was just inserted");
        if let Some(head) = head
            && let Some(masked) = upstream.heads.begin(head, self.redaction)
        {
            self.set_upstream_head.execute((upstream.row, &*masked))?;
        }
        Ok(upstream)
    }

    fn store_client(
        &mut self,
        run: RunId,
        facts: &ConnectionFacts,
        target: &Target,
        head: Option<&[u8]>,
    ) -> rusqlite::Result<i64> {
        let tls = facts.tls.as_ref();
        let hello = facts.hello.as_deref();
        let certificate = tls.ok().and_then(|tls| tls.certificate.as_ref());
        let fingerprints = facts.hello.as_ref();
        let fingerprints = fingerprints.map(|hello| self.hello_texts.of(hello));
        let answer = facts.process.as_ref().and_then(ProcessCell::get);
        let process = answer.map(|answer| self.process_texts.columns(answer, self.redaction));
        let process = process.unwrap_or_default();
        let values: &[&dyn ToSql] = rusqlite::params![
            run.as_str(),
            facts.front.as_str(),
            facts.client_address.to_string(),
            facts.proxy_address.to_string(),
            facts.accepted_at.0,
            facts.tls_done_at.map(|at| at.0),
            tls.err().map(|reason| no_tls_name(*reason)),
            tls.ok().map(|tls| tls.version),
            tls.ok().map(|tls| tls.cipher),
            tls.ok().and_then(|tls| tls.alpn.as_deref()),
            certificate.and_then(|facts| self.certificate_texts.of(facts)),
            hello
                .and_then(|hello| hello.sni.as_deref())
                .or_else(|| tls.ok().and_then(|tls| tls.sni.as_deref())),
            hello.is_some_and(|hello| hello.names_another_than(&target.host)),
            fingerprints.map(|texts| &texts.ja3),
            fingerprints.map(|texts| &texts.ja4),
            head,
            facts.user.as_deref(),
        ];
        let values = values.iter().copied().chain(process.values());
        let row = self.insert_client.insert(params_from_iter(values))?;
        if let (Some(process), None) = (&facts.process, answer) {
            let awaited = Awaited {
                process: process.clone(),
                since: instant(),
                flows: Vec::new(),
                new_flows: Vec::new(),
                is_new: true,
                is_stored: false,
            };
            self.awaited.insert(row, awaited);
        }
        Ok(row)
    }

    fn store_upstream(
        &mut self,
        run: RunId,
        facts: &UpstreamFacts,
        head: Option<&[u8]>,
    ) -> rusqlite::Result<i64> {
        let tls = facts.tls.as_ref();
        let certificate = tls.and_then(|tls| tls.certificate.as_ref());
        self.insert_upstream.insert((
            run.as_str(),
            facts.address.to_string(),
            facts.local_address.to_string(),
            facts.dial_started_at.0,
            facts.connected_at.0,
            facts.tls_done_at.map(|at| at.0),
            facts.version.map(traffic::Version::as_str),
            tls.map(|tls| tls.version),
            tls.map(|tls| tls.cipher),
            tls.and_then(|tls| tls.sni.as_deref()),
            tls.and_then(|tls| tls.alpn.as_deref()),
            certificate.and_then(|facts| self.certificate_texts.of(facts)),
            tls.is_some_and(|tls| tls.danger_unverified),
            facts.proxy.as_deref(),
            head,
        ))
    }
}

impl Awaited {
    fn is_over(&self) -> bool {
        self.since.elapsed() >= PROCESS_AWAITED_MAX
    }
}

fn no_tls_name(reason: NoTls) -> &'static str {
    match reason {
        NoTls::PlainHttp => "plain_http",
        NoTls::Tunnelled => "tunnelled",
        NoTls::HandshakeFailed => "handshake_failed",
    }
}
