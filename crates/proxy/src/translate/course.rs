//! Both directions of a flow at once, in one task, and the deadline over them.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use traffic::{Failure, Side, Stage};

use super::body::{Sink, Source};
use super::download::{Downloaded, download};
use super::fault::{Broken, Fault};
use super::incoming::Incoming;
use super::reply::Reply;
use super::upload::upload;
use crate::deadline::Deadline;
use crate::error;
use crate::limits::HALF_CLOSED;
use crate::tap::Flow;

/// The four ends of a flow: the request comes from `source` and goes to `sink`, the response is
/// `incoming` and goes to `reply`.
pub(super) struct Ends<'s, 'c, 'u, 'h> {
    pub(super) source: Source<'s, 'c>,
    pub(super) sink: Sink<'u, 'h>,
    pub(super) incoming: Incoming<'u, 'h>,
    pub(super) reply: Reply<'s, 'c>,
    /// The upstream's offers of HTTP/3 stay behind.
    pub(super) hides_http3: bool,
}

/// What both directions of a flow share while it runs.
pub(super) struct Course<'f, 'r> {
    pub(super) flow: Mutex<&'f mut Flow<'r>>,
    /// The upstream's offers of HTTP/3 stay behind.
    pub(super) hides_http3: bool,
    /// Grows with every step of progress.
    moved: AtomicU64,
    /// The request has passed: what the client sends now is its next one.
    pub(super) uploaded: AtomicBool,
    /// More of the request is waited for, and the upstream would take it.
    pub(super) awaits_client: AtomicBool,
    /// A part of the response has come that the client does not take yet.
    pub(super) client_behind: AtomicBool,
    /// The client has ended its side; it may still read.
    pub(super) client_ended: AtomicBool,
    /// Something of an answer came, if only an interim one.
    pub(super) answered: AtomicBool,
    /// The client has seen a part of the final response.
    pub(super) responded: AtomicBool,
    /// The end of the client's connection is the end of the body.
    pub(super) until_close: AtomicBool,
}

/// How a flow ended that became whole.
pub(super) struct Done {
    pub(super) response: Downloaded,
    /// False if the response was whole before the request was.
    pub(super) uploaded: bool,
}

/// Runs both directions until the response is whole. Dropping it leaves both connections in the
/// middle of a message.
pub(super) async fn run(
    ends: Ends<'_, '_, '_, '_>,
    flow: &mut Flow<'_>,
    idle: Duration,
) -> Result<Done, Broken> {
    let course = Course::new(flow, ends.hides_http3);
    let mut upload = pin!(upload(ends.source, ends.sink, &course));
    let mut download = pin!(download(ends.incoming, ends.reply, &course));
    let mut deadline = Deadline::after(idle);
    let mut uploading = true;
    let mut refused: Option<Fault> = None;
    let mut moved = 0;
    let result = std::future::poll_fn(|cx| {
        if uploading {
            match upload.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => {
                    uploading = false;
                    course.uploaded.store(true, Ordering::Relaxed);
                }
                Poll::Ready(Err(fault)) if fault.failure.side == Side::Client => {
                    return Poll::Ready(Err(fault));
                }
                // The upstream takes no more; it may have answered before it stopped.
                Poll::Ready(Err(fault)) => {
                    uploading = false;
                    refused = Some(fault);
                }
                Poll::Pending => {}
            }
        }
        if let Poll::Ready(result) = download.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        let moved_now = course.moved.load(Ordering::Relaxed);
        if moved_now != moved {
            moved = moved_now;
            deadline.set(course.patience(idle));
        }
        ready!(deadline.poll_passed(cx));
        Poll::Ready(Err(course.stalled(uploading).into()))
    })
    .await;
    match result {
        Ok(response) => Ok(Done {
            response,
            uploaded: course.uploaded.load(Ordering::Relaxed),
        }),
        Err(fault) => Err(course.broken(fault, refused)),
    }
}

impl<'f, 'r> Course<'f, 'r> {
    fn new(flow: &'f mut Flow<'r>, hides_http3: bool) -> Self {
        Self {
            flow: Mutex::new(flow),
            hides_http3,
            moved: AtomicU64::new(0),
            uploaded: AtomicBool::new(false),
            awaits_client: AtomicBool::new(false),
            client_behind: AtomicBool::new(false),
            client_ended: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            responded: AtomicBool::new(false),
            until_close: AtomicBool::new(false),
        }
    }

    /// Something happened: the flow is waited for anew.
    pub(super) fn note_progress(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// How long the flow may stand still.
    fn patience(&self, idle: Duration) -> Duration {
        match self.client_ended.load(Ordering::Relaxed) {
            true => HALF_CLOSED.min(idle),
            false => idle,
        }
    }

    /// What the flow broke off with: where the upstream took no more and answered nothing, why it
    /// took no more says more than that no answer came.
    fn broken(&self, fault: Fault, refused: Option<Fault>) -> Broken {
        let responded = self.responded.load(Ordering::Relaxed);
        let fault = match refused {
            Some(refused) if !responded && fault.failure.side == Side::Upstream => refused,
            _ => fault,
        };
        Broken {
            failure: fault.failure,
            responded,
            answered: self.answered.load(Ordering::Relaxed),
            until_close: self.until_close.load(Ordering::Relaxed),
            reason: fault.reason,
        }
    }

    /// Who was waited for when nothing happened any more.
    fn stalled(&self, uploading: bool) -> Failure {
        if self.client_ended.load(Ordering::Relaxed) {
            return error::closed_early(Side::Client, Stage::Response, "and did not wait");
        }
        if self.client_behind.load(Ordering::Relaxed) {
            return error::timed_out(Side::Client, Stage::Response, "took nothing for too long");
        }
        if !uploading {
            return error::timed_out(Side::Upstream, Stage::Response, "sent nothing for too long");
        }
        if !self.awaits_client.load(Ordering::Relaxed) {
            return error::timed_out(Side::Upstream, Stage::Request, "took nothing for too long");
        }
        error::timed_out(
            Side::Client,
            Stage::Request,
            "sent nothing of the body for too long",
        )
    }
}
