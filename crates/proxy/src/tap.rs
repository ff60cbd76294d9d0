//! Where the engine reports: events are collected per connection and handed over in batches, and
//! the engine goes on. Where nobody watches flows all of it is one branch.

mod repeats;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tokio::time::Instant;
use traffic::wire::limits::MESSAGE_BYTES_KEPT;
use traffic::wire::stream::{self, StreamCodings, StreamDecoder, StreamEnd};
use traffic::wire::websocket::handshake::{Accepted, Proof};
use traffic::wire::websocket::{Observation, Observer, Problem};
use traffic::{
    Action, BodySize, CertificateRefused, ConnectionFacts, Event, Failure, FailureKind, FlowId,
    FlowKind, FlowStarted, Head, Host, Outcome, Rerouted, Route, Scheme, Sender, Side, Stage,
    Streamed, Target, Timestamp, UpstreamFacts, Version,
};

pub(crate) use self::repeats::Repeats;
use crate::clock;
use crate::error;
use crate::gateway::Told;
use crate::handler::{Gate, Lane};
use crate::limits::{EVENTS_KEPT, EVENTS_PER_BATCH};
use crate::metrics::{Counters, Protocol};
use crate::tunnel::Passed;

/// Takes what the engine reports.
pub trait Watcher: Send + Sync + std::fmt::Debug + 'static {
    /// Takes a batch of events out of the list; what it leaves there is dropped. Events of one flow come
    /// in order and in order of batches.
    ///
    /// The list is used again, so that a batch costs no memory of its own: a watcher that keeps the events
    /// moves them to a list of its own ([`Vec::append`]).
    ///
    /// It is called on the engine's own tasks and must return at once: queue, never wait. What
    /// cannot be queued is to be dropped, counted, and told as [`Event::Lost`].
    fn handle_events(&self, events: &mut Vec<Event>);

    /// Whether flows are to be told, which costs time for each. A watcher that says no hears only of
    /// what belongs to no flow, such as [`Event::CertificateRefused`], and the programs in it are not
    /// looked for. The answer must not change.
    fn watches_flows(&self) -> bool {
        true
    }

    /// Which streams are to be read message by message, and told as [`Event::Streamed`]. Asked
    /// once.
    fn streams(&self) -> ReadStreams {
        ReadStreams::None
    }
}

/// Which streams are read message by message while they pass.
///
/// The payload of a body that streams is told as well, as of any other. The bytes of a WebSocket are
/// only counted once its messages are told, unless nobody can tell any more where its frames begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadStreams {
    /// None.
    #[default]
    None,
    /// WebSockets. Of a message at most as much is told as of a body (`body_bytes_kept`).
    WebSockets,
    /// WebSockets, server-sent events, NDJSON, gRPC and AWS event streams, in both directions.
    All,
}

/// The engine's end of the watcher, shared by all connections.
#[derive(Debug)]
pub(crate) struct Tap {
    watcher: Option<Arc<dyn Watcher>>,
    watches_flows: bool,
    streams: ReadStreams,
    kept_max: u64,
    flows: Arc<FlowCount>,
    counters: Arc<Counters>,
    /// The handler that is told of handshakes that failed, watched or not.
    gate: Option<Arc<Gate>>,
}

/// What all flows of one proxy share, over all its configurations.
#[derive(Debug, Default)]
pub(crate) struct FlowCount {
    begun: AtomicU64,
    /// The proxy is stopping, so a flow that is cut was cut by us.
    stopping: AtomicBool,
}

/// Events of one connection on their way to the watcher.
#[derive(Debug)]
pub(crate) struct Reporter {
    tap: Arc<Tap>,
    /// What its requests come in.
    spoken: Protocol,
    events: Vec<Event>,
    /// What was told of its requests and of its responses last.
    told: [Repeats; 2],
    /// The connection or stream as the handler knows it. It is told of its close once the last
    /// event was handed over.
    lane: Option<Lane>,
}

/// What a flow begins with, apart from its number.
pub(crate) struct Opening<'a> {
    /// When it was asked for; `None` if it was a moment ago.
    pub(crate) at: Option<Timestamp>,
    pub(crate) kind: FlowKind,
    pub(crate) connection: &'a Arc<ConnectionFacts>,
    pub(crate) scheme: Scheme,
    pub(crate) target: &'a Target,
    pub(crate) route: &'a Arc<Route>,
}

/// Reports one flow. If it is dropped before its end was told, the flow was cut, and that is
/// reported as its end.
#[derive(Debug)]
pub(crate) struct Flow<'r> {
    reporter: &'r mut Reporter,
    id: FlowId,
    begun: Instant,
    /// Where it goes, if there is a handler.
    host: Option<Host>,
    route: Action,
    protocol: Protocol,
    /// Payload that was counted, of the request and of the response.
    counted: [u64; 2],
    watched: bool,
    ended: bool,
    request_told: bool,
    request: BodySize,
    response: BodySize,
    /// What reads the messages of the two directions, where they stream.
    streams: [Option<Reader>; 2],
    response_came_at: Option<Timestamp>,
    /// See [`Flow::begin_step`].
    step_at: Option<Timestamp>,
    /// Of a tunnel; kept here so that the counts are told even if it is cut.
    passed: Option<Passed>,
}

/// What reads the messages of one direction.
#[derive(Debug)]
enum Reader {
    Body(Box<StreamDecoder>),
    WebSocket(Box<Observer>),
    /// Of a WebSocket: the direction has ended in order.
    Closed,
}

impl Tap {
    pub(crate) fn new(
        watcher: Option<Arc<dyn Watcher>>,
        kept_max: u64,
        flows: Arc<FlowCount>,
        counters: Arc<Counters>,
        gate: Option<Arc<Gate>>,
    ) -> Arc<Self> {
        let of_flows = watcher.as_ref().filter(|watcher| watcher.watches_flows());
        Arc::new(Self {
            watches_flows: of_flows.is_some(),
            streams: of_flows.map_or(ReadStreams::None, |watcher| watcher.streams()),
            watcher,
            kept_max,
            flows,
            counters,
            gate,
        })
    }

    /// What reads the messages of a body with this head, if they are asked for.
    fn stream_of(&self, head: &Head) -> Option<Reader> {
        if self.streams != ReadStreams::All {
            return None;
        }
        let text = |name| {
            head.field(name)
                .and_then(|value| std::str::from_utf8(value).ok())
        };
        let kind = stream::kind_of(text("content-type")?)?;
        let codings = StreamCodings {
            content: text("content-encoding").unwrap_or_default(),
            message: text("grpc-encoding").unwrap_or_default(),
        };
        let decoder = StreamDecoder::new(kind, codings, MESSAGE_BYTES_KEPT);
        Some(Reader::Body(Box::new(decoder)))
    }

    /// From now on a flow that is cut was cut by the stop.
    pub(crate) fn stop(&self) {
        self.flows.stopping.store(true, Ordering::Relaxed);
    }

    /// For one connection, or one stream of HTTP/2.
    pub(crate) fn reporter(self: &Arc<Self>, spoken: Protocol) -> Reporter {
        Reporter {
            tap: Arc::clone(self),
            spoken,
            events: Vec::new(),
            told: Default::default(),
            lane: None,
        }
    }
}

impl Reporter {
    /// Keeps the lane of the handler until the end.
    pub(crate) fn attach(&mut self, lane: Lane) {
        self.lane = Some(lane);
    }

    /// Hands over what was collected.
    pub(crate) fn hand_over(&mut self) {
        if self.events.is_empty() {
            return;
        }
        if let Some(watcher) = &self.tap.watcher {
            watcher.handle_events(&mut self.events);
        }
        self.events.clear();
        self.events.shrink_to(EVENTS_KEPT);
    }

    /// Tells that a program will not take our certificate.
    pub(crate) fn certificate_refused(&mut self, told: CertificateRefused) {
        if self.tap.watcher.is_some() {
            self.events.push(Event::CertificateRefused(Box::new(told)));
        }
    }

    /// Begins a flow; `head` is asked for only if someone watches.
    pub(crate) fn start(
        &mut self,
        opening: &Opening<'_>,
        head: impl FnOnce(&mut Repeats) -> Head,
    ) -> Flow<'_> {
        let watched = self.tap.watches_flows;
        let id = FlowId(1 + self.tap.flows.begun.fetch_add(1, Ordering::Relaxed));
        let mut request_stream = None;
        if watched {
            let [request, _] = &mut self.told;
            let head = head(request);
            request_stream = self.tap.stream_of(&head);
            self.events.push(Event::FlowStarted(Box::new(FlowStarted {
                flow: id,
                at: opening.at.unwrap_or_else(clock::now),
                kind: opening.kind,
                connection: Arc::clone(opening.connection),
                scheme: opening.scheme,
                target: opening.target.clone(),
                route: Arc::clone(opening.route),
                head,
            })));
        }
        self.tap.counters.flow_begun();
        Flow {
            protocol: Protocol::of(opening.kind, self.spoken),
            host: self.tap.gate.as_ref().map(|_| opening.target.host.clone()),
            reporter: self,
            id,
            begun: Instant::now(),
            route: opening.route.action,
            counted: [0; 2],
            watched,
            ended: false,
            request_told: false,
            request: BodySize::default(),
            response: BodySize::default(),
            streams: [request_stream, None],
            response_came_at: None,
            step_at: None,
            passed: None,
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.hand_over();
    }
}

impl Flow<'_> {
    pub(crate) fn id(&self) -> FlowId {
        self.id
    }

    /// See [`Reporter::attach`].
    pub(crate) fn attach(&mut self, lane: Lane) {
        self.reporter.attach(lane);
    }

    fn push(&mut self, event: Event) {
        self.reporter.events.push(event);
        if self.reporter.events.len() >= EVENTS_PER_BATCH {
            self.reporter.hand_over();
        }
    }

    /// Until the step ends all events bear one moment: a step does not wait, and to read the clock
    /// for each event would cost as much as to report it.
    pub(crate) fn begin_step(&mut self) {
        self.step_at = self.watched.then(clock::now);
    }

    /// See [`Flow::begin_step`].
    pub(crate) fn end_step(&mut self) {
        self.step_at = None;
    }

    fn now(&self) -> Timestamp {
        self.step_at.unwrap_or_else(clock::now)
    }

    /// Hands over what was collected: the flow now waits for a peer.
    pub(crate) fn hand_over(&mut self) {
        self.count_payload();
        self.reporter.hand_over();
    }

    fn count_payload(&mut self) {
        let passed = [self.request.seen, self.response.seen];
        let [request, response] = std::mem::replace(&mut self.counted, passed);
        let counters = &self.reporter.tap.counters;
        counters.passed(passed[0] - request, passed[1] - response);
    }

    /// The engine turns to the upstream: what took time until now was ours. Answers when that is.
    pub(crate) fn turn_to_upstream(&self) -> Instant {
        let now = Instant::now();
        self.reporter.tap.counters.added(now - self.begun);
        now
    }

    pub(crate) fn upstream(&mut self, upstream: &Arc<UpstreamFacts>, reused: bool) {
        if self.watched {
            self.response_came_at = None;
            let upstream = Arc::clone(upstream);
            self.push(Event::UpstreamChosen {
                flow: self.id,
                at: self.now(),
                reused,
                upstream,
            });
        }
    }

    /// The request goes to a gateway in the place of the upstream that it was meant for.
    pub(crate) fn rerouted(&mut self, told: Told) {
        if self.watched {
            let Told {
                route,
                url,
                request_id,
            } = told;
            self.push(Event::Rerouted(Box::new(Rerouted {
                flow: self.id,
                at: self.now(),
                route,
                url,
                request_id,
            })));
        }
    }

    /// Payload of the request passed.
    pub(crate) fn request_bytes(&mut self, data: &Bytes) {
        let kept_max = self.read_stream(Sender::Client, data);
        let is_first = self.request.seen == 0;
        if let Some(kept) = keep(&mut self.request, kept_max, data.len())
            && self.watched
        {
            let [request, _] = &mut self.reporter.told;
            let data = request.piece(data, kept, is_first);
            self.push(Event::RequestData {
                flow: self.id,
                at: self.now(),
                data,
            });
        }
    }

    /// Payload of the response passed.
    pub(crate) fn response_bytes(&mut self, data: &Bytes) {
        let kept_max = self.read_stream(Sender::Upstream, data);
        let is_first = self.response.seen == 0;
        if let Some(kept) = keep(&mut self.response, kept_max, data.len())
            && self.watched
        {
            let [_, response] = &mut self.reporter.told;
            let data = response.piece(data, kept, is_first);
            self.push(Event::ResponseData {
                flow: self.id,
                at: self.now(),
                data,
            });
        }
    }

    /// What comes from now on is a WebSocket's, opened with this answer.
    pub(crate) fn websocket_opened(&mut self, accepted: &Accepted) {
        if self.reporter.tap.streams == ReadStreams::None {
            return;
        }
        let kept_max = match self.reporter.tap.streams {
            ReadStreams::All => MESSAGE_BYTES_KEPT,
            ReadStreams::WebSockets | ReadStreams::None => {
                let kept_max = usize::try_from(self.reporter.tap.kept_max);
                kept_max.map_or(MESSAGE_BYTES_KEPT, |kept| kept.min(MESSAGE_BYTES_KEPT))
            }
        };
        self.streams = [Sender::Client, Sender::Upstream].map(|sender| {
            let observer = Observer::new(sender, &accepted.extensions, kept_max);
            Some(Reader::WebSocket(Box::new(observer)))
        });
        if matches!(accepted.proof, Proof::Wrong | Proof::Missing) {
            let note = Observation::Note(Problem::AcceptWrong);
            self.streamed(Sender::Upstream, Streamed::WebSocket(note));
        }
    }

    /// True if both ends of a WebSocket have said that they are done. Known only where its
    /// messages are read.
    pub(crate) fn websocket_is_closed(&self) -> bool {
        let closed = |reader: &Option<Reader>| match reader {
            Some(Reader::WebSocket(observer)) => observer.is_closed(),
            Some(Reader::Closed) => true,
            Some(Reader::Body(_)) | None => false,
        };
        self.streams.iter().all(closed)
    }

    fn stream(&mut self, sender: Sender) -> &mut Option<Reader> {
        let [request, response] = &mut self.streams;
        match sender {
            Sender::Client => request,
            Sender::Upstream => response,
        }
    }

    /// Reads the messages in a piece of one direction; says how many bytes of the direction are to
    /// be kept besides.
    fn read_stream(&mut self, sender: Sender, data: &[u8]) -> u64 {
        let kept_max = self.reporter.tap.kept_max;
        let Some(mut reader) = self.stream(sender).take() else {
            return kept_max;
        };
        let kept_max = match &mut reader {
            Reader::Body(decoder) => {
                decoder.push(data, &mut |item| {
                    self.streamed(sender, Streamed::Body(item));
                });
                kept_max
            }
            Reader::WebSocket(observer) => {
                observer.handle_bytes(data, &mut |item| {
                    self.streamed(sender, Streamed::WebSocket(item));
                });
                if observer.is_lost() { kept_max } else { 0 }
            }
            Reader::Closed => 0,
        };
        *self.stream(sender) = Some(reader);
        kept_max
    }

    /// Reads what the end of a direction leaves behind.
    fn end_stream(&mut self, sender: Sender, end: StreamEnd) {
        match self.stream(sender).take() {
            Some(Reader::Body(mut decoder)) => decoder.finish(end, &mut |item| {
                self.streamed(sender, Streamed::Body(item));
            }),
            Some(Reader::WebSocket(observer)) => {
                let closed = observer.is_closed();
                observer.handle_end(&mut |item| {
                    self.streamed(sender, Streamed::WebSocket(item));
                });
                *self.stream(sender) = closed.then_some(Reader::Closed);
            }
            Some(Reader::Closed) => *self.stream(sender) = Some(Reader::Closed),
            None => {}
        }
    }

    /// A message of a stream passed.
    pub(crate) fn streamed(&mut self, sender: Sender, item: Streamed) {
        let (flow, at) = (self.id, self.now());
        self.push(Event::Streamed {
            flow,
            at,
            sender,
            item: Box::new(item),
        });
    }

    pub(crate) fn request_ended(&mut self, trailers: Option<Head>) {
        // One that is sent a second time has ended before.
        if self.watched && !std::mem::replace(&mut self.request_told, true) {
            self.end_stream(Sender::Client, StreamEnd::Whole);
            let size = self.request;
            self.push(Event::RequestEnded {
                flow: self.id,
                at: self.now(),
                size,
                trailers,
            });
        }
    }

    /// Bytes of a response came; its head is dated with the first of them.
    pub(crate) fn response_came(&mut self) {
        if self.watched && self.response_came_at.is_none() {
            self.response_came_at = Some(self.now());
        }
    }

    pub(crate) fn informational(&mut self, head: impl FnOnce() -> Head) {
        if self.watched {
            self.response_came_at = None;
            self.push(Event::Informational {
                flow: self.id,
                at: self.now(),
                head: head(),
            });
        }
    }

    pub(crate) fn response_started(&mut self, head: impl FnOnce(&mut Repeats) -> Head) {
        if self.watched {
            let at = self.response_came_at.take().unwrap_or_else(|| self.now());
            let [_, response] = &mut self.reporter.told;
            let (flow, head) = (self.id, head(response));
            let [_, response] = &mut self.streams;
            *response = self.reporter.tap.stream_of(&head);
            self.push(Event::ResponseStarted { flow, at, head });
        }
    }

    pub(crate) fn response_ended(&mut self, trailers: Option<Head>) {
        if self.watched {
            self.end_stream(Sender::Upstream, StreamEnd::Whole);
            let size = self.response;
            self.push(Event::ResponseEnded {
                flow: self.id,
                at: self.now(),
                size,
                trailers,
            });
        }
    }

    /// Ends the flow in order. A request that was answered before it was whole ends here.
    pub(crate) fn complete(mut self) {
        self.request_ended(None);
        self.end(Outcome::Completed);
    }

    /// Ends the flow with a failure; `replied` is the status that the client got from us.
    pub(crate) fn fail(self, failure: Failure, replied: Option<u16>) {
        if failure.stage == Stage::Tls
            && let (Some(gate), Some(host)) = (&self.reporter.tap.gate, &self.host)
        {
            gate.tls_failed(host, &failure.text);
        }
        self.end(Outcome::Failed {
            failure: Box::new(failure),
            replied,
        });
    }

    /// Where a tunnel counts what passes.
    pub(crate) fn passed(&mut self) -> &mut Passed {
        self.passed.get_or_insert_default()
    }

    /// Ends a tunnel as its counts say.
    pub(crate) fn end_tunnel(mut self) {
        let outcome = match self.passed().failure.take() {
            Some(failure) => Outcome::Failed {
                failure: Box::new(failure),
                replied: None,
            },
            None => Outcome::Completed,
        };
        self.end(outcome);
    }

    fn end(mut self, outcome: Outcome) {
        self.tell_end(outcome);
    }

    fn tell_end(&mut self, outcome: Outcome) {
        self.ended = true;
        self.count_payload();
        let counters = &self.reporter.tap.counters;
        counters.flow_ended(self.route, self.protocol, &outcome);
        if let Some(passed) = &self.passed {
            counters.tunnelled(passed.from_client, passed.from_upstream);
        }
        if self.watched {
            self.end_stream(Sender::Client, StreamEnd::Cut);
            self.end_stream(Sender::Upstream, StreamEnd::Cut);
            let passed = self.passed.as_ref();
            let tunnelled = passed.map(|passed| (passed.from_client, passed.from_upstream));
            self.push(Event::FlowEnded {
                flow: self.id,
                at: self.now(),
                outcome,
                tunnelled,
            });
            self.hand_over();
        }
    }

    /// Why the flow was dropped before its end.
    fn cut(&self) -> Failure {
        let stage = match self.passed {
            Some(_) => Stage::Tunnel,
            None => Stage::Response,
        };
        if self.reporter.tap.flows.stopping.load(Ordering::Relaxed) {
            let text = "oriel stopped before the flow was whole";
            return error::failure(Side::Oriel, stage, FailureKind::ShuttingDown, text);
        }
        error::closed_early(Side::Client, stage, "before the flow was whole")
    }
}

impl Drop for Flow<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let failure = Box::new(self.cut());
            self.tell_end(Outcome::Failed {
                failure,
                replied: None,
            });
        }
    }
}

/// Counts `length` bytes; says how many of them are to be kept, `None` for none.
fn keep(size: &mut BodySize, kept_max: u64, length: usize) -> Option<usize> {
    let room = kept_max.saturating_sub(size.kept);
    let kept = length.min(usize::try_from(room).unwrap_or(usize::MAX));
    size.seen += length as u64;
    size.kept += kept as u64;
    (kept > 0).then_some(kept)
}

/// Trailer lines as an event carries them; `None` if there are none.
pub(crate) fn trailers(version: Version, text: &[u8]) -> Option<Head> {
    (!text.is_empty()).then(|| Head::trailers(version, text))
}
