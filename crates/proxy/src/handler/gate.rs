//! How the engine calls a handler: within a deadline, with panics caught, in order.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use traffic::{Failure, FailureKind, Host};

use super::answer::{Answer, of_handler};
use super::cut::Cut;
use super::erased::Erased;
use super::held::{HeldBytes, Hold};
use super::lane::{Inner, Lane, LaneKey};
use super::{ConnectionMeta, InterceptHandler, Interests, ProcessInfo, RawRequest, RequestLine};
use crate::limits::{HELD_BYTES_MAX, INTERCEPT_QUESTIONS_MAX};
use crate::metrics::{Metrics, get};
use crate::shutdown::Tasks;

/// How long a handler may take, and what happens when it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerLimits {
    /// For `should_intercept_tls` and `on_request`.
    pub request_timeout: Duration,
    /// For each callback that is told something. The next request on a connection waits for what was
    /// not told yet for as long at the most, and for an end.
    pub response_timeout: Duration,
    /// What becomes of what a failed handler was asked about.
    pub on_error: OnError,
    /// Whether a panic stays in the callback. If not, it ends the client connection; others are not
    /// touched.
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

/// The engine's end of a handler.
pub(crate) struct Gate {
    pub(super) handler: Arc<dyn Erased>,
    pub(crate) interests: Interests,
    pub(crate) limits: HandlerLimits,
    pub(super) counts: Arc<HandlerCounts>,
    pub(super) tasks: Arc<Tasks>,
    lanes: Arc<Mutex<HashMap<LaneKey, Arc<Inner>>>>,
    held: Arc<HeldBytes>,
    /// Threads that `should_intercept_tls` may have.
    questions: Arc<Semaphore>,
}

/// How often handlers failed.
#[derive(Debug, Default)]
pub(crate) struct HandlerCounts {
    pub(crate) panics: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    /// What was not told, because the handler had fallen too far behind.
    pub(crate) dropped: AtomicU64,
    /// What waits to be told.
    pub(super) queued: AtomicU64,
}

/// Why a handler gave no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// With what it panicked.
    Panicked(Box<dyn Any + Send>),
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
            questions: Arc::new(Semaphore::new(INTERCEPT_QUESTIONS_MAX)),
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
            questions: Arc::clone(&self.questions),
        })
    }

    /// What a flow may hold.
    pub(crate) fn hold(&self) -> Hold {
        Hold::new(&self.held, self.limits.held_bytes_max)
    }

    /// What ends a connection whose handler panics, where panics are not to stay in the callback.
    pub(crate) fn cut(&self) -> Option<Arc<Cut>> {
        (!self.limits.recover_from_panics).then(Arc::default)
    }

    /// Tells that a connection, or a stream, was opened. `cut` ends the connection, where a panic is
    /// to do so.
    pub(crate) fn open(
        self: &Arc<Self>,
        key: LaneKey,
        meta: &Arc<ConnectionMeta>,
        cut: Option<Arc<Cut>>,
    ) -> Lane {
        let inner = Inner::new(meta, self.hold(), cut);
        self.lanes.lock().insert(key, Arc::clone(&inner));
        // Before the handler is told, so that the close is told however that ends.
        let lane = Lane::new(self, key, inner);
        self.call(|handler| handler.on_connection_open(meta));
        lane
    }

    /// A lane was dropped.
    pub(super) fn forget(&self, key: LaneKey) {
        self.lanes.lock().remove(&key);
    }

    /// Whether TLS is to be opened. A handler that fails has it tunnelled only if failures allow. The
    /// wait for one of [`INTERCEPT_QUESTIONS_MAX`] threads is a part of its time: who hangs keeps one.
    pub(crate) async fn should_intercept(
        &self,
        host: String,
        process: Option<ProcessInfo>,
    ) -> Result<bool, Failure> {
        let handler = Arc::clone(&self.handler);
        let asked = async {
            // The semaphore is never closed.
            let place = Arc::clone(&self.questions).acquire_owned().await;
            let answer = tokio::task::spawn_blocking(move || {
                let _place = place;
                handler.should_intercept_tls(&host, process.as_ref())
            });
            answer.await
        };
        let fault = match tokio::time::timeout(self.limits.request_timeout, asked).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(joined)) => self.count(match joined.try_into_panic() {
                Ok(panic) => Fault::Panicked(panic),
                // The runtime ends.
                Err(_cancelled) => Fault::TimedOut,
            }),
            Err(_) => self.count(Fault::TimedOut),
        };
        match self.recovered(fault, "should_intercept_tls") {
            None => Ok(false),
            Some(failure) => Err(failure),
        }
    }

    /// What is wanted of a request.
    pub(crate) fn wanted(&self, request: &RequestLine<'_>) -> Interests {
        match self.try_call(|handler| handler.interests_in(request)) {
            Ok(wanted) => self.interests.and(wanted),
            Err(fault) => {
                self.go_on_after(fault);
                self.interests
            }
        }
    }

    pub(crate) fn tls_failed(&self, host: &Host, error: &str) {
        self.call(|handler| handler.on_tls_failure(&host.to_string(), error));
    }

    /// Asks about a request, once all that came before it on its connection was told: who is told
    /// of a response can rely on it being the one to the request asked about last. The wait for that
    /// has a bound of its own, and is none of the time that the handler has to decide in.
    pub(crate) async fn request(&self, inner: &Inner, request: &RawRequest) -> Answer {
        inner.catch_up(self).await;
        let asked = async { self.handler.on_request(request).await };
        match self.within(self.limits.request_timeout, asked).await {
            Ok(decision) => Answer::from_decision(decision),
            Err(fault) => match self.recovered(fault, "on_request") {
                None => Answer::Pass,
                Some(failure) => Answer::Fail(failure),
            },
        }
    }

    /// The process behind the connection of a lane was found.
    pub(crate) fn learn_process(&self, key: LaneKey, found: &traffic::ProcessInfo) {
        let inner = self.lanes.lock().get(&key).map(Arc::clone);
        if let Some(inner) = inner {
            inner.learn(|meta| meta.process_info = Some(found.into()));
        }
    }

    /// Waits until what was queued is told, at most for `limit`; then tells the closes that are
    /// left. Nothing is told after it. Returns of how many connection ids not all was told.
    pub(crate) async fn finish(&self, limit: Duration) -> usize {
        let lanes = std::mem::take(&mut *self.lanes.lock());
        for inner in lanes.values() {
            inner.end(self);
        }
        // The end of a task tells the close, also where it is cut.
        self.tasks.drain(limit, || ()).await
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

    /// Tells the close of a connection id, once. A panic ends nothing here: the connection is over,
    /// perhaps by a panic that unwinds right now.
    pub(super) fn close(&self, inner: &Inner) {
        if inner.close() {
            let _counted = self.try_call(|handler| handler.on_connection_close(inner.id));
        }
    }

    /// Calls what answers at once.
    fn call(&self, callback: impl FnOnce(&dyn Erased)) {
        if let Err(fault) = self.try_call(callback) {
            self.go_on_after(fault);
        }
    }

    /// The same, where a panic stays here.
    fn try_call<T>(&self, callback: impl FnOnce(&dyn Erased) -> T) -> Result<T, Fault> {
        let called = std::panic::catch_unwind(AssertUnwindSafe(|| callback(&*self.handler)));
        called.map_err(|panic| self.count(Fault::Panicked(panic)))
    }

    /// Waits for a callback as long as it may take, and catches its panic.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        asked: impl Future<Output = T>,
    ) -> Result<T, Fault> {
        let mut asked = pin!(AssertUnwindSafe(asked).catch_unwind());
        // Most answer at once and need no timer.
        let at_once = std::future::poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx)));
        let answer = match at_once.await {
            Poll::Ready(answer) => Ok(answer),
            Poll::Pending => tokio::time::timeout(limit, asked).await,
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(panic)) => Err(self.count(Fault::Panicked(panic))),
            Err(_) => Err(self.count(Fault::TimedOut)),
        }
    }

    /// What becomes of what a failed handler was asked about: `None` if it goes on.
    fn recovered(&self, fault: Fault, callback: &str) -> Option<Failure> {
        let failure = failed(&fault, callback);
        self.go_on_after(fault);
        match self.limits.on_error {
            OnError::Allow => None,
            OnError::Block => Some(failure),
        }
    }

    /// Goes on with the panic where it is not to stay in the callback. Only the task of a client
    /// connection may call it.
    fn go_on_after(&self, fault: Fault) {
        if let Fault::Panicked(panic) = fault
            && !self.limits.recover_from_panics
        {
            std::panic::resume_unwind(panic);
        }
    }

    fn count(&self, fault: Fault) -> Fault {
        let counter = match fault {
            Fault::Panicked(_) => &self.counts.panics,
            Fault::TimedOut => &self.counts.timeouts,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        fault
    }
}

fn failed(fault: &Fault, callback: &str) -> Failure {
    let what = match fault {
        Fault::Panicked(_) => "panicked",
        Fault::TimedOut => "did not answer in time",
    };
    let text = format!("the handler {what} in {callback}");
    of_handler(FailureKind::HandlerFailed, text)
}

impl fmt::Debug for Gate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Gate")
            .field("interests", &self.interests)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
