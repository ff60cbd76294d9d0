//! The made-up flows of the measuring programs, and the record that they go to.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use oriel_store::{NewRun, Recorder, Redaction, RunId, RunKind, Store, StoreOptions};
use traffic::{
    Action, BodySize, ConnectionFacts, ConnectionId, Event, FlowId, FlowKind, FlowStarted, Front,
    Head, NoTls, Outcome, Route, Scheme, Target, Timestamp, UpstreamFacts, Version,
};

/// The one that the program uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// When the first flow begins.
pub(crate) const BEGINNING: i64 = 1_772_442_000_000_000;

/// A record with one run, and what writes to it.
pub(crate) fn open_record(path: &Path) -> (Store, RunId, Recorder) {
    let store = Store::open(path, StoreOptions::new(Redaction::Basic)).unwrap();
    let run = store.begin_run(NewRun {
        name: None,
        argv: Vec::new(),
        started_at: Timestamp(0),
        kind: RunKind::Demo,
    });
    let run = run.unwrap();
    let recorder = store.recorder(run);
    (store, run, recorder)
}

/// What flows share.
pub(crate) struct Maker {
    client: Arc<ConnectionFacts>,
    upstream: Arc<UpstreamFacts>,
    route: Arc<Route>,
    /// Between the beginnings of two flows.
    micros: i64,
}

/// What is told of one flow.
pub(crate) struct Flow<'a> {
    pub(crate) number: u64,
    pub(crate) target: &'a Target,
    pub(crate) request: Message,
    pub(crate) response: Message,
}

pub(crate) struct Message {
    /// With the empty line that ends it.
    pub(crate) head: Bytes,
    pub(crate) body: Bytes,
}

impl Maker {
    /// Of flows that follow each other after so many microseconds.
    pub(crate) fn new(micros: i64) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000));
        Self {
            client: Arc::new(ConnectionFacts {
                connection: ConnectionId(1),
                client_address: address.into(),
                proxy_address: address.into(),
                accepted_at: Timestamp(1),
                front: Front::Connect,
                user: None,
                process: None,
                hello: None,
                tls: Err(NoTls::PlainHttp),
                tls_done_at: None,
            }),
            upstream: Arc::new(UpstreamFacts {
                proxy: None,
                address,
                local_address: address,
                dial_started_at: Timestamp(1),
                connected_at: Timestamp(2),
                tls_done_at: None,
                tls: None,
                version: Some(Version::Http11),
            }),
            route: Arc::new(Route {
                action: Action::Intercept,
                rule: "intercept.hosts \"*\"".to_owned(),
            }),
            micros,
        }
    }

    /// All that the engine reports of a flow.
    pub(crate) fn events(&self, made: Flow<'_>) -> Vec<Event> {
        let flow = FlowId(made.number);
        let began = BEGINNING + i64::try_from(made.number).unwrap() * self.micros;
        let at = |micros: i64| Timestamp(began + micros);
        let (request, response) = (made.request, made.response);
        let (request_size, response_size) = (size(&request.body), size(&response.body));
        vec![
            Event::FlowStarted(Box::new(FlowStarted {
                flow,
                at: at(0),
                kind: FlowKind::Http,
                connection: Arc::clone(&self.client),
                scheme: Scheme::Https,
                target: Arc::new(made.target.clone()),
                route: Arc::clone(&self.route),
                head: head(request.head),
            })),
            Event::UpstreamChosen {
                flow,
                at: at(1),
                reused: true,
                upstream: Arc::clone(&self.upstream),
            },
            Event::RequestData {
                flow,
                at: at(2),
                data: request.body,
            },
            Event::RequestEnded {
                flow,
                at: at(3),
                size: request_size,
                trailers: None,
            },
            Event::ResponseStarted {
                flow,
                at: at(20),
                head: head(response.head),
            },
            Event::ResponseData {
                flow,
                at: at(21),
                data: response.body,
            },
            Event::ResponseEnded {
                flow,
                at: at(22),
                size: response_size,
                trailers: None,
            },
            Event::FlowEnded {
                flow,
                at: at(23),
                outcome: Outcome::Completed,
                tunnelled: None,
            },
        ]
    }
}

fn head(text: Bytes) -> Head {
    Head {
        version: Version::Http11,
        text,
    }
}

fn size(body: &Bytes) -> BodySize {
    BodySize {
        seen: body.len() as u64,
        kept: body.len() as u64,
    }
}

/// The next of a row of numbers that look drawn by lot; the upper bits do so most.
pub(crate) fn next_number(state: &mut u64) -> u64 {
    // The multiplier of Knuth's MMIX.
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *state
}
