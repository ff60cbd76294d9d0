//! How the engine calls a handler: within a deadline, with panics caught, in order.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use traffic::{ConnectionId, Failure, FailureKind, FlowId, Host, Side, Stage};
use uuid::Uuid;

use super::held::{HeldBytes, Hold};
use super::{
    ConnectionMeta, HandlerDecision, InterceptHandler, Interests, LocalResponse, ProcessInfo,
    RawRequest, RawResponse, RequestEdit, StreamChunk,
};
use crate::error;
use crate::limits::{DISPATCH_BYTES_MAX, DISPATCH_ITEMS_MAX, HELD_BYTES_MAX};
use crate::metrics::{Metrics, get};
use crate::shutdown::Tasks;

/// How long a handler may take, and what happens when it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerLimits {
    /// For `should_intercept_tls` and `on_request`.
    pub request_timeout: Duration,
    /// For each callback that is told something.
    pub response_timeout: Duration,
    /// What becomes of what a failed handler was asked about.
    pub on_error: OnError,
    /// Whether a panic stays in the callback. If not, it ends the task of the connection, and with
    /// it the connection; others are not touched.
    pub recover_from_panics: bool,
    /// Whether request bodies are held until they are whole, for `on_request` to see.
    pub buffer_request_bodies: bool,
    /// Bytes of a body that is held or shown. A request that is held and is larger is answered
    /// with 413; a response is shown up to it.
    pub body_bytes_max: usize,
    /// Bytes held for the handler, over all flows: bodies that wait to be whole, and what waits to
    /// be told. Beyond it a request that would have to be held is answered with 503, and what is
    /// shown of a response is cut.
    pub held_bytes_max: usize,
    /// Whether `TlsInfo` has the fingerprints of the client.
    pub fingerprints: bool,
}

impl Default for HandlerLimits {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            on_error: OnError::Block,
            recover_from_panics: true,
            buffer_request_bodies: false,
            body_bytes_max: 10 * 1024 * 1024,
            held_bytes_max: HELD_BYTES_MAX,
            fingerprints: true,
        }
    }
}

/// What becomes of a request whose handler panicked or did not answer in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It is answered with 503.
    #[default]
    Block,
    /// It goes on as if there were no handler.
    Allow,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Pass,
    Edit(Box<RequestEdit>),
    /// Answered here; with a failure if it is because it is not allowed.
    Respond(Box<LocalResponse>, Option<Box<Failure>>),
    /// The handler failed.
    Fail(Failure),
}

/// The engine's end of a handler.
pub(crate) struct Gate {
    handler: Arc<dyn Erased>,
    pub(crate) interests: Interests,
    pub(crate) limits: HandlerLimits,
    counts: Arc<HandlerCounts>,
    tasks: Arc<Tasks>,
    lanes: Arc<Mutex<HashMap<LaneKey, Arc<Inner>>>>,
    held: Arc<HeldBytes>,
}

/// How often handlers failed.
#[derive(Debug, Default)]
pub(crate) struct HandlerCounts {
    pub(crate) panics: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    /// What was not told, because the handler had fallen too far behind.
    pub(crate) dropped: AtomicU64,
    /// What waits to be told.
    queued: AtomicU64,
}

/// What a lane belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LaneKey {
    Connection(ConnectionId),
    /// One HTTP/2 stream.
    Flow(FlowId),
}

/// One connection id, from its opening to its close, which is told when the lane is dropped.
#[derive(Debug)]
pub(crate) struct Lane {
    gate: Arc<Gate>,
    key: LaneKey,
    inner: Arc<Inner>,
}

/// What waits to be told of one connection id. It is told in order by a task that is started when
/// there is something to tell.
pub(crate) struct Inner {
    id: Uuid,
    meta: Mutex<Arc<ConnectionMeta>>,
    queue: Mutex<Queue>,
    /// Something is in the queue, or it has ended.
    changed: Notify,
    /// Everything in the queue was told.
    told: Notify,
    closed: AtomicBool,
}

/// What is to be told, the oldest first.
struct Queue {
    work: VecDeque<Work>,
    /// One that was taken out is being told.
    telling: bool,
    hold: Hold,
    state: Telling,
}

/// How far the telling of one connection id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// Nothing was to be told yet.
    Unstarted,
    Running,
    /// The lane was dropped: nothing more is taken.
    Ended,
}

/// One thing to be told.
#[derive(Debug)]
pub(crate) enum Work {
    Response(Box<RawResponse>),
    WebSocketStart(Box<RawResponse>),
    Chunk(Box<StreamChunk>),
    StreamEnd,
}

type BoxedFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A handler whose type is not known any more.
trait Erased: Send + Sync {
    fn should_intercept_tls(&self, host: &str, process: Option<&ProcessInfo>) -> bool;
    fn on_tls_failure(&self, host: &str, error: &str);
    fn on_request<'a>(&'a self, request: &'a RawRequest) -> BoxedFuture<'a, HandlerDecision>;
    fn tell<'a>(&'a self, id: Uuid, work: &'a Work) -> BoxedFuture<'a, ()>;
    fn on_connection_open(&self, meta: &ConnectionMeta);
    fn on_connection_close(&self, id: Uuid);
}

impl<H: InterceptHandler> Erased for H {
    fn should_intercept_tls(&self, host: &str, process: Option<&ProcessInfo>) -> bool {
        InterceptHandler::should_intercept_tls(self, host, process)
    }

    fn on_tls_failure(&self, host: &str, error: &str) {
        InterceptHandler::on_tls_failure(self, host, error);
    }

    fn on_request<'a>(&'a self, request: &'a RawRequest) -> BoxedFuture<'a, HandlerDecision> {
        Box::pin(InterceptHandler::on_request(self, request))
    }

    fn tell<'a>(&'a self, id: Uuid, work: &'a Work) -> BoxedFuture<'a, ()> {
        match work {
            Work::Response(response) => Box::pin(self.on_response(response)),
            Work::WebSocketStart(response) => Box::pin(self.on_websocket_start(response)),
            Work::Chunk(chunk) => Box::pin(self.on_stream_chunk(chunk)),
            Work::StreamEnd => Box::pin(self.on_stream_end(id)),
        }
    }

    fn on_connection_open(&self, meta: &ConnectionMeta) {
        InterceptHandler::on_connection_open(self, meta);
    }

    fn on_connection_close(&self, id: Uuid) {
        InterceptHandler::on_connection_close(self, id);
    }
}

/// Why a handler gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Panicked,
    TimedOut,
}

impl Gate {
    pub(crate) fn new(
        handler: impl InterceptHandler,
        limits: HandlerLimits,
        counts: Arc<HandlerCounts>,
    ) -> Arc<Self> {
        Arc::new(Self {
            interests: handler.interests(),
            handler: Arc::new(handler),
            limits,
            counts,
            tasks: Arc::default(),
            lanes: Arc::default(),
            held: Arc::default(),
        })
    }

    /// The same handler under other limits, for a configuration that was reloaded.
    pub(crate) fn with_limits(&self, limits: HandlerLimits) -> Arc<Self> {
        Arc::new(Self {
            handler: Arc::clone(&self.handler),
            interests: self.interests,
            limits,
            counts: Arc::clone(&self.counts),
            tasks: Arc::clone(&self.tasks),
            lanes: Arc::clone(&self.lanes),
            held: Arc::clone(&self.held),
        })
    }

    /// What a flow may hold.
    pub(crate) fn hold(&self) -> Hold {
        Hold::new(&self.held, self.limits.held_bytes_max)
    }

    /// Tells that a connection, or a stream, was opened.
    pub(crate) fn open(self: &Arc<Self>, key: LaneKey, meta: &Arc<ConnectionMeta>) -> Lane {
        self.call(|handler| handler.on_connection_open(meta));
        let inner = Arc::new(Inner {
            id: meta.connection_id,
            meta: Mutex::new(Arc::clone(meta)),
            queue: Mutex::new(Queue::new(self.hold())),
            changed: Notify::new(),
            told: Notify::new(),
            closed: AtomicBool::new(false),
        });
        self.lanes.lock().insert(key, Arc::clone(&inner));
        Lane {
            gate: Arc::clone(self),
            key,
            inner,
        }
    }

    /// Whether TLS is to be opened. A handler that fails has it tunnelled only if failures allow.
    pub(crate) async fn should_intercept(
        &self,
        host: String,
        process: Option<ProcessInfo>,
    ) -> Result<bool, Failure> {
        let handler = Arc::clone(&self.handler);
        let asked = tokio::task::spawn_blocking(move || {
            handler.should_intercept_tls(&host, process.as_ref())
        });
        let fault = match tokio::time::timeout(self.limits.request_timeout, asked).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(joined)) => {
                if joined.is_panic() && !self.limits.recover_from_panics {
                    std::panic::resume_unwind(joined.into_panic());
                }
                self.count(Fault::Panicked)
            }
            Err(_) => self.count(Fault::TimedOut),
        };
        match self.limits.on_error {
            OnError::Allow => Ok(false),
            OnError::Block => Err(failed(fault, "should_intercept_tls")),
        }
    }

    pub(crate) fn tls_failed(&self, host: &Host, error: &str) {
        self.call(|handler| handler.on_tls_failure(&host.to_string(), error));
    }

    /// Asks about a request, once all that came before it on its connection was told: who is told
    /// of a response can rely on it being the one to the request asked about last. Both have to be
    /// done in time.
    pub(crate) async fn request(&self, inner: &Inner, request: &RawRequest) -> Answer {
        let asked = async {
            inner.all_told().await;
            self.handler.on_request(request).await
        };
        match self.within(self.limits.request_timeout, asked).await {
            Ok(decision) => Answer::from_decision(decision),
            Err(fault) => match self.limits.on_error {
                OnError::Allow => Answer::Pass,
                OnError::Block => Answer::Fail(failed(fault, "on_request")),
            },
        }
    }

    /// Queues what is to be told of a flow, if it is still open. False if it was dropped because
    /// the handler is too far behind.
    pub(crate) fn tell(self: &Arc<Self>, key: LaneKey, work: Work) -> bool {
        let inner = self.lanes.lock().get(&key).map(Arc::clone);
        inner.is_some_and(|inner| self.push(&inner, work))
    }

    pub(crate) fn knows(&self, key: LaneKey) -> bool {
        self.lanes.lock().contains_key(&key)
    }

    /// What is known of the connection of a lane that is open.
    pub(crate) fn meta(&self, key: LaneKey) -> Option<Arc<ConnectionMeta>> {
        let inner = Arc::clone(self.lanes.lock().get(&key)?);
        let meta = Arc::clone(&inner.meta.lock());
        Some(meta)
    }

    /// More became known of the connection of a lane.
    pub(crate) fn learn(&self, key: LaneKey, meta: &Arc<ConnectionMeta>) {
        if let Some(inner) = self.lanes.lock().get(&key) {
            *inner.meta.lock() = Arc::clone(meta);
        }
    }

    /// The process behind the connection of a lane was found.
    pub(crate) fn learn_process(&self, key: LaneKey, found: &traffic::ProcessInfo) {
        if let Some(inner) = self.lanes.lock().get(&key) {
            let mut meta = inner.meta.lock();
            Arc::make_mut(&mut meta).process_info = Some(found.into());
        }
    }

    /// Waits until what was queued is told, at most for `limit`; then tells the closes that are
    /// left. Nothing is told after it. Returns of how many connection ids not all was told.
    pub(crate) async fn finish(&self, limit: Duration) -> usize {
        let cut = self.tasks.drain(limit, || ()).await;
        let left: Vec<Arc<Inner>> = self
            .lanes
            .lock()
            .drain()
            .map(|(_key, inner)| inner)
            .collect();
        for inner in left {
            self.close(&inner);
        }
        cut
    }

    /// How the handler fared.
    pub(crate) fn fill_in(&self, metrics: &mut Metrics) {
        let counts = &self.counts;
        metrics.handler_panic_count = get(&counts.panics);
        metrics.handler_timeout_count = get(&counts.timeouts);
        metrics.dropped_dispatch_work_count = get(&counts.dropped);
        metrics.queued_callbacks = get(&counts.queued);
        metrics.held_bytes = self.held.now() as u64;
    }

    fn push(self: &Arc<Self>, inner: &Arc<Inner>, work: Work) -> bool {
        let mut queue = inner.queue.lock();
        let full = queue.work.len() >= DISPATCH_ITEMS_MAX
            || queue.hold.own() + work.bytes() > DISPATCH_BYTES_MAX
            || !queue.hold.grow(work.bytes());
        if full && work.may_be_dropped() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        match queue.state {
            Telling::Unstarted => self.start(inner),
            Telling::Running => {}
            Telling::Ended => return false,
        }
        queue.state = Telling::Running;
        queue.work.push_back(work);
        self.counts.queued.fetch_add(1, Ordering::Relaxed);
        inner.changed.notify_one();
        true
    }

    /// Starts the task that tells of one connection id.
    fn start(self: &Arc<Self>, inner: &Arc<Inner>) {
        let teller = Teller {
            gate: Arc::clone(self),
            inner: Arc::clone(inner),
        };
        self.tasks
            .spawn("handler", async move { teller.run().await });
    }

    /// Tells the close of a connection id, once.
    fn close(&self, inner: &Inner) {
        if !inner.closed.swap(true, Ordering::AcqRel) {
            self.call(|handler| handler.on_connection_close(inner.id));
        }
    }

    /// Calls what answers at once.
    fn call(&self, callback: impl FnOnce(&dyn Erased)) {
        let called = std::panic::catch_unwind(AssertUnwindSafe(|| callback(&*self.handler)));
        if let Err(panic) = called {
            self.caught(panic);
        }
    }

    async fn within<T>(&self, limit: Duration, asked: impl Future<Output = T>) -> Result<T, Fault> {
        let mut asked = pin!(AssertUnwindSafe(asked).catch_unwind());
        // Most answer at once and need no timer.
        let at_once = std::future::poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx)));
        let answer = match at_once.await {
            Poll::Ready(answer) => Ok(answer),
            Poll::Pending => tokio::time::timeout(limit, asked).await,
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(panic)) => {
                self.caught(panic);
                Err(Fault::Panicked)
            }
            Err(_) => Err(self.count(Fault::TimedOut)),
        }
    }

    fn caught(&self, panic: Box<dyn Any + Send>) {
        self.count(Fault::Panicked);
        if !self.limits.recover_from_panics {
            std::panic::resume_unwind(panic);
        }
    }

    fn count(&self, fault: Fault) -> Fault {
        let counter = match fault {
            Fault::Panicked => &self.counts.panics,
            Fault::TimedOut => &self.counts.timeouts,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        fault
    }
}

/// The task of one connection id. However it ends, the close is told.
struct Teller {
    gate: Arc<Gate>,
    inner: Arc<Inner>,
}

impl Queue {
    fn new(hold: Hold) -> Self {
        Self {
            work: VecDeque::new(),
            telling: false,
            hold,
            state: Telling::Unstarted,
        }
    }
}

impl Inner {
    /// Waits until nothing is left to be told.
    async fn all_told(&self) {
        while !self.is_idle() {
            // Made before the queue is looked at again, so that no notice is missed.
            let told = self.told.notified();
            if !self.is_idle() {
                told.await;
            }
        }
    }

    fn is_idle(&self) -> bool {
        let queue = self.queue.lock();
        queue.work.is_empty() && !queue.telling
    }
}

impl Teller {
    async fn run(self) {
        let Self { gate, inner } = &self;
        loop {
            let (next, ended) = {
                let mut queue = inner.queue.lock();
                let next = queue.work.pop_front();
                queue.telling = next.is_some();
                if let Some(next) = &next {
                    queue.hold.shrink(next.bytes());
                    gate.counts.queued.fetch_sub(1, Ordering::Relaxed);
                }
                (next, queue.state == Telling::Ended)
            };
            match next {
                Some(work) => {
                    let told = gate.handler.tell(inner.id, &work);
                    // What went wrong was counted; the next is told all the same.
                    let _told = gate.within(gate.limits.response_timeout, told).await;
                }
                None if ended => return,
                None => {
                    inner.told.notify_waiters();
                    inner.changed.notified().await;
                }
            }
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.inner.queue.lock().work).len() as u64;
        self.gate.counts.queued.fetch_sub(left, Ordering::Relaxed);
        self.gate.close(&self.inner);
    }
}

impl Lane {
    /// What waits to be told of it.
    pub(super) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.inner)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.gate.lanes.lock().remove(&self.key);
        let before = std::mem::replace(&mut self.inner.queue.lock().state, Telling::Ended);
        match before {
            // The task ends once it has told what is queued.
            Telling::Running => self.inner.changed.notify_one(),
            Telling::Unstarted | Telling::Ended => self.gate.close(&self.inner),
        }
    }
}

impl Work {
    /// What it holds, for the bound of the queue.
    fn bytes(&self) -> usize {
        match self {
            Self::Response(response) | Self::WebSocketStart(response) => response.body.len(),
            Self::Chunk(chunk) => chunk.payload.len(),
            Self::StreamEnd => 0,
        }
    }

    /// An end is always told of what was begun.
    fn may_be_dropped(&self) -> bool {
        !matches!(self, Self::StreamEnd)
    }
}

impl Answer {
    fn from_decision(decision: HandlerDecision) -> Self {
        match decision {
            HandlerDecision::Allow => Self::Pass,
            HandlerDecision::Block { status, body } => {
                let status = if is_final(status) { status } else { 403 };
                let text = HeaderValue::from_static("text/plain; charset=utf-8");
                let response = LocalResponse {
                    status,
                    headers: HeaderMap::from_iter([(CONTENT_TYPE, text)]),
                    body,
                };
                let failure = of_handler(FailureKind::Blocked, "blocked by the handler");
                Self::Respond(Box::new(response), Some(Box::new(failure)))
            }
            HandlerDecision::Edit(edit) => Self::Edit(edit),
            HandlerDecision::Redirect(target) => Self::Edit(Box::new(RequestEdit {
                upstream: Some(*target),
                ..RequestEdit::default()
            })),
            HandlerDecision::Respond(response) if is_final(response.status) => {
                Self::Respond(response, None)
            }
            HandlerDecision::Respond(response) => Self::Fail(of_handler(
                FailureKind::HandlerFailed,
                format!("the handler answered with the status {}", response.status),
            )),
        }
    }
}

fn is_final(status: u16) -> bool {
    (200..600).contains(&status) && StatusCode::from_u16(status).is_ok()
}

fn failed(fault: Fault, callback: &str) -> Failure {
    let what = match fault {
        Fault::Panicked => "panicked",
        Fault::TimedOut => "did not answer in time",
    };
    let text = format!("the handler {what} in {callback}");
    of_handler(FailureKind::HandlerFailed, text)
}

fn of_handler(kind: FailureKind, text: impl Into<String>) -> Failure {
    error::failure(Side::Oriel, Stage::Route, kind, text)
}

impl fmt::Debug for Gate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Gate")
            .field("interests", &self.interests)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Inner")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
