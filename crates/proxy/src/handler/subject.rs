//! Who asks, as a handler knows it.

use std::borrow::Cow;
use std::sync::Arc;

use traffic::ConnectionFacts;
use traffic::wire::fingerprint;
use uuid::Uuid;

use super::cut::Cut;
use super::gate::Gate;
use super::lane::{Inner, Lane, LaneKey};
use super::{Answer, ConnectionMeta, Interests, RawRequest, RequestLine, SocketFamily, TlsInfo};
use crate::destination::Destination;
use crate::process::ConnectionProcess;

/// A client connection, or a stream of one, with the handler that is asked about it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) gate: Arc<Gate>,
    inner: Arc<Inner>,
    pub(crate) meta: Arc<ConnectionMeta>,
    /// What finds the process behind it, where it is to be found.
    process: Option<Arc<ConnectionProcess>>,
}

impl Subject {
    /// Tells the handler of a connection that was accepted. `cut` ends it, where a panic is to do so.
    pub(crate) fn open(
        gate: &Arc<Gate>,
        facts: &ConnectionFacts,
        process: Option<Arc<ConnectionProcess>>,
        cut: Option<Arc<Cut>>,
    ) -> (Self, Lane) {
        let meta = Arc::new(ConnectionMeta {
            connection_id: Uuid::now_v7(),
            socket_family: SocketFamily::new(&facts.proxy_address, facts.client_address),
            process_info: None,
            tls_info: None,
        });
        let key = LaneKey::Connection(facts.connection);
        let lane = gate.open(key, &meta, cut);
        let subject = Self {
            gate: Arc::clone(gate),
            inner: lane.inner(),
            meta,
            process,
        };
        (subject, lane)
    }

    /// The same with its process, before the handler is asked a question. The first question of a
    /// connection waits for the lookup that began with it, later ones do not.
    ///
    /// Dropping it ends nothing.
    pub(crate) async fn identified(&self) -> Cow<'_, Self> {
        let Some(process) = &self.process else {
            return Cow::Borrowed(self);
        };
        if self.meta.process_info.is_some() {
            return Cow::Borrowed(self);
        }
        match process.find().await {
            Ok(found) => Cow::Owned(self.with(|meta| meta.process_info = Some((&*found).into()))),
            Err(_unknown) => Cow::Borrowed(self),
        }
    }

    /// What the handler wants of a request. Of a host that is never to be looked into it is not asked.
    pub(crate) fn wanted(&self, to: &Destination, method: &str, path: &str) -> Interests {
        if to.bypassed {
            return self.gate.interests;
        }
        self.gate.wanted(&RequestLine {
            method,
            target: &to.target,
            path,
        })
    }

    /// Asks the handler about a request, as [`Gate::request`].
    pub(crate) async fn ask(&self, request: &RawRequest) -> Answer {
        self.gate.request(&self.inner, request).await
    }

    /// The same once TLS with the client is settled.
    pub(crate) fn with_tls(&self, facts: &ConnectionFacts) -> Self {
        let Ok(tls) = &facts.tls else {
            return self.clone();
        };
        let hello = facts.hello.as_deref();
        let hello = hello.filter(|_| self.gate.limits.fingerprints);
        let tls_info = TlsInfo {
            sni: tls.sni.clone(),
            negotiated_proto: tls.alpn.clone(),
            ja3: hello.map(|hello| fingerprint::ja3(hello).hash),
            ja4: hello.map(fingerprint::ja4),
        };
        self.with(|meta| meta.tls_info = Some(tls_info))
    }

    fn with(&self, change: impl FnOnce(&mut ConnectionMeta)) -> Self {
        Self {
            meta: self.inner.learn(change),
            ..self.clone()
        }
    }

    /// Tells the handler of a stream that was opened on the connection.
    pub(crate) fn stream(&self) -> (Self, Lane) {
        let mut meta = ConnectionMeta::clone(&self.inner.meta());
        meta.connection_id = Uuid::now_v7();
        let meta = Arc::new(meta);
        let key = LaneKey::Stream(meta.connection_id);
        let lane = self.gate.open(key, &meta, self.inner.cut());
        let subject = Self {
            inner: lane.inner(),
            meta,
            ..self.clone()
        };
        (subject, lane)
    }
}
