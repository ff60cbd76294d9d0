//! Made-up events of flows, and a store to record them in.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oriel_store::{NewRun, Reader, Recorder, Redaction, RunId, RunKind, Store, StoreOptions};
use tempfile::TempDir;
use traffic::process::Ancestor;
use traffic::secret::Secret;
use traffic::{
    Action, BodySize, CertificateFacts, ConnectionFacts, ConnectionId, Event, Failure, FlowId,
    FlowKind, FlowStarted, Front, Head, Outcome, ProcessInfo, Route, Scheme, Sender, Target,
    Timestamp, TlsFacts, UpstreamFacts, Version,
};

/// 2026-03-02T09:00:00Z.
pub(crate) const START: i64 = 1_772_442_000_000_000;

/// A store in a folder of its own.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
    pub(crate) run: RunId,
    pub(crate) recorder: Recorder,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(StoreOptions::new(Redaction::Basic))
    }

    pub(crate) fn with(options: StoreOptions) -> Self {
        let folder = TempDir::new().unwrap();
        let store = Store::open(&folder.path().join("data/oriel.db"), options).unwrap();
        let run = store.begin_run(new_run(None)).unwrap();
        let recorder = store.recorder(run);
        Self {
            folder,
            store,
            run,
            recorder,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("data/oriel.db")
    }

    pub(crate) fn record(&self, mut events: Vec<Event>) {
        self.recorder.handle_events(&mut events);
    }

    pub(crate) fn flush(&self) {
        self.recorder.flush(Duration::from_secs(20)).unwrap();
    }

    pub(crate) fn reader(&self) -> Reader {
        self.flush();
        Reader::open(&self.path()).unwrap()
    }

    pub(crate) fn flow(&self, seq: u64) -> oriel_store::FlowRef {
        oriel_store::FlowRef { run: self.run, seq }
    }
}

pub(crate) fn new_run(name: Option<&str>) -> NewRun {
    NewRun {
        name: name.map(str::to_owned),
        argv: vec!["curl".to_owned(), "https://example.com".to_owned()],
        started_at: Timestamp(START),
        kind: RunKind::Run,
    }
}

/// One HTTP flow in the making; each part can be changed before its events are made.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) flow: u64,
    pub(crate) at: i64,
    pub(crate) micros: i64,
    pub(crate) kind: FlowKind,
    pub(crate) scheme: Scheme,
    pub(crate) target: Target,
    pub(crate) action: Action,
    pub(crate) request: Vec<u8>,
    pub(crate) request_body: Vec<Bytes>,
    pub(crate) response: Option<Vec<u8>>,
    pub(crate) response_body: Vec<Bytes>,
    /// Bytes that passed beyond those that were kept.
    pub(crate) response_cut: u64,
    pub(crate) failure: Option<(Failure, Option<u16>)>,
    pub(crate) tunnelled: Option<(u64, u64)>,
}

impl Script {
    pub(crate) fn new(flow: u64) -> Self {
        Self {
            flow,
            at: START + i64::try_from(flow).unwrap() * 1000,
            micros: 800,
            kind: FlowKind::Http,
            scheme: Scheme::Https,
            target: Target::parse("api.example.com", 443).unwrap(),
            action: Action::Intercept,
            request: b"POST /v1/messages?a=1 HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\n\r\n".to_vec(),
            request_body: vec![Bytes::from_static(b"{\"ask\":1}")],
            response: Some(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Two: 1\r\nx-two: 2\r\n\r\n".to_vec()),
            response_body: vec![Bytes::from_static(b"hello "), Bytes::from_static(b"world")],
            response_cut: 0,
            failure: None,
            tunnelled: None,
        }
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let flow = FlowId(self.flow);
        let at = |part: i64| Timestamp(self.at + self.micros * part / 8);
        let mut events = vec![
            Event::FlowStarted(Box::new(FlowStarted {
                flow,
                at: at(0),
                kind: self.kind,
                connection: client(),
                scheme: self.scheme,
                target: Arc::new(self.target.clone()),
                route: Arc::new(Route {
                    action: self.action,
                    rule: "intercept.hosts \"*\"".to_owned(),
                }),
                head: head(&self.request),
            })),
            Event::UpstreamChosen {
                flow,
                at: at(1),
                reused: self.flow.is_multiple_of(2),
                upstream: upstream(),
            },
        ];
        events.extend(self.request_body.iter().map(|data| Event::RequestData {
            flow,
            at: at(2),
            data: data.clone(),
        }));
        if self.kind == FlowKind::Http {
            events.push(Event::RequestEnded {
                flow,
                at: at(3),
                size: size(&self.request_body, 0),
                trailers: None,
            });
        }
        if let Some(response) = &self.response {
            events.push(Event::ResponseStarted {
                flow,
                at: at(4),
                head: head(response),
            });
            events.extend(self.response_body.iter().map(|data| Event::ResponseData {
                flow,
                at: at(5),
                data: data.clone(),
            }));
            let size = size(&self.response_body, self.response_cut);
            events.push(match self.failure {
                None => Event::ResponseEnded {
                    flow,
                    at: at(6),
                    size,
                    trailers: None,
                },
                Some(_) => Event::BodyCut {
                    flow,
                    at: at(8),
                    sender: Sender::Upstream,
                    size,
                },
            });
        }
        events.push(Event::FlowEnded {
            flow,
            at: at(8),
            outcome: match self.failure.clone() {
                None => Outcome::Completed,
                Some((failure, replied)) => Outcome::Failed {
                    failure: Box::new(failure),
                    replied,
                },
            },
            tunnelled: self.tunnelled,
        });
        events
    }

    pub(crate) fn request_body(&self) -> Vec<u8> {
        self.request_body.concat()
    }

    pub(crate) fn response_body(&self) -> Vec<u8> {
        self.response_body.concat()
    }
}

fn size(chunks: &[Bytes], cut: u64) -> BodySize {
    let kept = chunks.iter().map(Bytes::len).sum::<usize>() as u64;
    BodySize {
        seen: kept + cut,
        kept,
    }
}

pub(crate) fn head(text: &[u8]) -> Head {
    Head {
        version: Version::Http11,
        text: Bytes::copy_from_slice(text),
    }
}

/// The same events, on these connections.
pub(crate) fn on_connections(
    mut events: Vec<Event>,
    client: &Arc<ConnectionFacts>,
    upstream: &Arc<UpstreamFacts>,
) -> Vec<Event> {
    for event in &mut events {
        match event {
            Event::FlowStarted(started) => started.connection = Arc::clone(client),
            Event::UpstreamChosen {
                upstream: chosen, ..
            } => *chosen = Arc::clone(upstream),
            _ => {}
        }
    }
    events
}

pub(crate) fn client() -> Arc<ConnectionFacts> {
    Arc::new(ConnectionFacts {
        connection: ConnectionId(1),
        client_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)).into(),
        proxy_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 6743)).into(),
        accepted_at: Timestamp(START - 5000),
        front: Front::Connect,
        user: None,
        process: None,
        hello: None,
        tls: Ok(tls(None)),
        tls_done_at: Some(Timestamp(START - 1000)),
    })
}

pub(crate) fn upstream() -> Arc<UpstreamFacts> {
    Arc::new(UpstreamFacts {
        proxy: Some("http://proxy.example:3128".into()),
        address: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 443)),
        local_address: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 40_000)),
        dial_started_at: Timestamp(START - 4000),
        connected_at: Timestamp(START - 3000),
        tls_done_at: Some(Timestamp(START - 2000)),
        tls: Some(tls(Some(CertificateFacts {
            subject: "CN=api.example.com".to_owned(),
            issuer: "CN=Test".to_owned(),
            not_before: Timestamp(START),
            not_after: Timestamp(START + 1),
            names: vec!["api.example.com".to_owned()],
            sha256: [0xab; 32],
            chain_length: 2,
        }))),
        version: Some(Version::Http11),
    })
}

fn tls(certificate: Option<CertificateFacts>) -> TlsFacts {
    TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS13_AES_128_GCM_SHA256",
        sni: Some("api.example.com".to_owned()),
        alpn: Some("http/1.1".to_owned()),
        certificate,
        danger_unverified: false,
    }
}

/// A program that was started by `init`.
pub(crate) fn node(command_line: &[&str]) -> Arc<ProcessInfo> {
    let command_line = command_line.iter().map(|&word| word.to_owned());
    Arc::new(ProcessInfo {
        pid: 4711,
        parent_pid: Some(1),
        exe_name: "node".to_owned(),
        exe_path: Some("/usr/bin/node".to_owned()),
        command_line: Secret::new(command_line.collect()),
        command_line_cut: false,
        ancestors: vec![Ancestor {
            pid: 1,
            exe_name: "init".to_owned(),
        }],
        container: None,
        uid: Some(1000),
        started_at: None,
        bundle_id: None,
    })
}
