//! What is reported of one flow, from its start to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::Instant;
use traffic::wire::limits::MESSAGE_BYTES_KEPT;
use traffic::wire::stream::{self, StreamCodings, StreamDecoder, StreamEnd};
use traffic::wire::websocket::handshake::{Accepted, Proof};
use traffic::wire::websocket::{Observation, Observer, Problem};
use traffic::{
    Action, BodySize, ConnectionFacts, Event, Failure, FailureKind, FlowId, FlowKind, FlowStarted,
    Head, Host, Outcome, Rerouted, Route, Scheme, Sender, Side, Stage, Streamed, Target, Timestamp,
    UpstreamFacts,
};

use super::large_bodies::Passing;
use super::{ReadStreams, Repeats, Reporter, Tap, outline};
use crate::clock;
use crate::error;
use crate::gateway::Told;
use crate::handler::Lane;
use crate::limits::{COPIED_BYTES_MAX, EVENTS_PER_BATCH};
use crate::metrics::Protocol;
use crate::tunnel::Passed;

/// What a flow begins with, apart from its number.
pub(crate) struct Opening<'a> {
    /// When it was asked for; `None` if it was a moment ago.
    pub(crate) at: Option<Timestamp>,
    pub(crate) kind: FlowKind,
    pub(crate) connection: &'a Arc<ConnectionFacts>,
    pub(crate) scheme: Scheme,
    pub(crate) target: &'a Arc<Target>,
    pub(crate) route: &'a Arc<Route>,
    /// Only what an [`outline`] says of it is told.
    pub(crate) in_outline: bool,
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
    /// Nothing is told of heads but their [`outline`], and of bodies but their sizes.
    in_outline: bool,
    ended: bool,
    request_told: bool,
    /// The head of the response was told, and its end was not.
    response_is_open: bool,
    request: BodySize,
    response: BodySize,
    /// What reads the messages of the two directions, where they stream.
    streams: [Option<Reader>; 2],
    /// The two bodies.
    passing: [Passing; 2],
    response_came_at: Option<Timestamp>,
    /// When it began, as long as it has not waited since.
    begun_at: Option<Timestamp>,
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
}

impl Reporter {
    /// Begins a flow; `head` is asked for only if someone watches.
    pub(crate) fn start(
        &mut self,
        opening: &Opening<'_>,
        head: impl FnOnce(&mut Repeats) -> Head,
    ) -> Flow<'_> {
        let watched = self.tap.watches_flows;
        let id = FlowId(1 + self.tap.flows.begun.fetch_add(1, Ordering::Relaxed));
        let (mut request_stream, mut begun_at) = (None, None);
        if watched {
            let at = clock::now();
            begun_at = Some(at);
            let mut head = self.told.of(Sender::Client, head);
            match opening.in_outline {
                true => head = outline::of_request(&head, opening.scheme, opening.target),
                false => request_stream = self.tap.stream_of(&head),
            }
            self.events.push(Event::FlowStarted(Box::new(FlowStarted {
                flow: id,
                at: opening.at.unwrap_or(at),
                kind: opening.kind,
                connection: Arc::clone(opening.connection),
                scheme: opening.scheme,
                target: Arc::clone(opening.target),
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
            in_outline: opening.in_outline,
            ended: false,
            request_told: false,
            response_is_open: false,
            request: BodySize::default(),
            response: BodySize::default(),
            streams: [request_stream, None],
            passing: Default::default(),
            response_came_at: None,
            begun_at,
            step_at: None,
            passed: None,
        }
    }
}

impl Flow<'_> {
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
        self.begun_at = None;
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

    /// As [`Flow::upstream`], of a connection that stood ready: if the flow has not waited for anything else
    /// either, this is the moment in which it began.
    pub(crate) fn upstream_ready(&mut self, upstream: &Arc<UpstreamFacts>, reused: bool) {
        self.step_at = self.begun_at;
        self.upstream(upstream, reused);
        self.step_at = None;
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
                mut url,
                request_id,
            } = told;
            if self.in_outline {
                outline::of_url(&mut url);
            }
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
        self.pass_payload(Sender::Client, data);
    }

    /// Payload of the response passed.
    pub(crate) fn response_bytes(&mut self, data: &Bytes) {
        self.pass_payload(Sender::Upstream, data);
    }

    fn pass_payload(&mut self, sender: Sender, data: &Bytes) {
        let kept_max = self.read_stream(sender, data);
        let size = match sender {
            Sender::Client => &mut self.request,
            Sender::Upstream => &mut self.response,
        };
        let is_first = size.seen == 0;
        let Some(kept) = keep(size, kept_max, data.len()).filter(|_| self.watched) else {
            return;
        };
        if self.passing(sender).is_known() || (is_first && kept > COPIED_BYTES_MAX) {
            self.pass_large(sender, &data.slice(..kept), is_first);
            return;
        }
        let told = &mut self.reporter.told;
        let data = told.of(sender, |told| told.piece(data, kept, is_first));
        self.tell_payload(sender, data);
    }

    /// Payload passed of a body that is large, or of which that is known.
    fn pass_large(&mut self, sender: Sender, data: &Bytes, is_first: bool) {
        let tap = Arc::clone(&self.reporter.tap);
        let mut passing = std::mem::take(self.passing(sender));
        if is_first {
            passing.begin(data, &tap.bodies);
        }
        passing.handle(data, &tap.bodies, |data| self.tell_payload(sender, data));
        *self.passing(sender) = passing;
    }

    fn passing(&mut self, sender: Sender) -> &mut Passing {
        let [request, response] = &mut self.passing;
        match sender {
            Sender::Client => request,
            Sender::Upstream => response,
        }
    }

    fn tell_payload(&mut self, sender: Sender, data: Bytes) {
        let (flow, at) = (self.id, self.now());
        self.push(match sender {
            Sender::Client => Event::RequestData { flow, at, data },
            Sender::Upstream => Event::ResponseData { flow, at, data },
        });
    }

    /// A direction of the flow ended; if it is not `whole`, it was cut.
    fn end_payload(&mut self, sender: Sender, end: StreamEnd) {
        self.end_stream(sender, end);
        if self.passing(sender).is_known() {
            let tap = Arc::clone(&self.reporter.tap);
            let is_whole = matches!(end, StreamEnd::Whole);
            self.passing(sender).end(is_whole, &tap.bodies);
        }
    }

    /// What comes from now on is a WebSocket's, opened with this answer.
    pub(crate) fn websocket_opened(&mut self, accepted: &Accepted) {
        if self.in_outline || self.reporter.tap.streams == ReadStreams::None {
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
        if self.in_outline {
            return 0;
        }
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
            self.end_payload(Sender::Client, StreamEnd::Whole);
            let size = self.request;
            self.push(Event::RequestEnded {
                flow: self.id,
                at: self.now(),
                size,
                trailers: self.told_trailers(trailers).map(Box::new),
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
                head: self.told_response(head()),
            });
        }
    }

    pub(crate) fn response_started(&mut self, head: impl FnOnce(&mut Repeats) -> Head) {
        if self.watched {
            let at = self.response_came_at.take().unwrap_or_else(|| self.now());
            let head = self.reporter.told.of(Sender::Upstream, head);
            let (flow, head) = (self.id, self.told_response(head));
            let [_, response] = &mut self.streams;
            *response = self.reporter.tap.stream_of(&head);
            self.response_is_open = true;
            self.push(Event::ResponseStarted { flow, at, head });
        }
    }

    fn told_response(&self, head: Head) -> Head {
        match self.in_outline {
            true => outline::of_response(&head),
            false => head,
        }
    }

    fn told_trailers(&self, trailers: Option<Head>) -> Option<Head> {
        trailers.filter(|_| !self.in_outline)
    }

    pub(crate) fn response_ended(&mut self, trailers: Option<Head>) {
        if self.watched {
            self.end_payload(Sender::Upstream, StreamEnd::Whole);
            self.response_is_open = false;
            let size = self.response;
            self.push(Event::ResponseEnded {
                flow: self.id,
                at: self.now(),
                size,
                trailers: self.told_trailers(trailers).map(Box::new),
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
            self.end_payload(Sender::Client, StreamEnd::Cut);
            self.end_payload(Sender::Upstream, StreamEnd::Cut);
            if matches!(outcome, Outcome::Failed { .. }) {
                self.tell_cut_bodies();
            }
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

    /// The flow failed: tells what there was of bodies that are not whole.
    fn tell_cut_bodies(&mut self) {
        let (flow, at) = (self.id, self.now());
        let request_is_cut = !self.request_told && self.request.seen > 0;
        for (is_cut, sender, size) in [
            (request_is_cut, Sender::Client, self.request),
            (self.response_is_open, Sender::Upstream, self.response),
        ] {
            if is_cut {
                self.push(Event::BodyCut {
                    flow,
                    at,
                    sender,
                    size,
                });
            }
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
