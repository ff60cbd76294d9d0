//! Who asks, as a handler knows it.

use std::sync::Arc;

use traffic::{ConnectionFacts, FlowId};
use uuid::Uuid;

use super::gate::{Gate, Lane, LaneKey};
use super::{ConnectionMeta, ProcessInfo, SocketFamily, TlsInfo};

/// A client connection, or a stream of one, with the handler that is asked about it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) gate: Arc<Gate>,
    pub(crate) meta: Arc<ConnectionMeta>,
}

impl Subject {
    /// Tells the handler of a connection that was accepted.
    pub(crate) fn open(
        gate: &Arc<Gate>,
        facts: &ConnectionFacts,
        process_info: Option<ProcessInfo>,
    ) -> (Self, Lane) {
        let meta = Arc::new(ConnectionMeta {
            connection_id: Uuid::now_v7(),
            socket_family: SocketFamily::tcp(facts.proxy_address, facts.client_address),
            process_info,
            tls_info: None,
        });
        let lane = gate.open(LaneKey::Connection(facts.connection), &meta);
        let gate = Arc::clone(gate);
        (Self { gate, meta }, lane)
    }

    /// The same once TLS with the client is settled.
    pub(crate) fn with_tls(&self, facts: &ConnectionFacts) -> Self {
        let Ok(tls) = &facts.tls else {
            return self.clone();
        };
        let mut meta = ConnectionMeta::clone(&self.meta);
        meta.tls_info = Some(TlsInfo {
            sni: tls.sni.clone(),
            negotiated_proto: tls.alpn.clone(),
            ja3: None,
            ja4: None,
        });
        let meta = Arc::new(meta);
        let key = LaneKey::Connection(facts.connection);
        self.gate.learn(key, &meta);
        Self {
            gate: Arc::clone(&self.gate),
            meta,
        }
    }

    /// Tells the handler of a stream that was opened.
    pub(crate) fn stream(&self, flow: FlowId) -> (Self, Lane) {
        let mut meta = ConnectionMeta::clone(&self.meta);
        meta.connection_id = Uuid::now_v7();
        let meta = Arc::new(meta);
        let lane = self.gate.open(LaneKey::Flow(flow), &meta);
        let subject = Self {
            gate: Arc::clone(&self.gate),
            meta,
        };
        (subject, lane)
    }
}
