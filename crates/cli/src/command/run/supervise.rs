//! Lives with a child until it ends.

use std::net::SocketAddr;
use std::time::Duration;

use store::Recorder;
use tokio::time::Instant;

use super::Job;
use super::deadline::Deadline;
use crate::bundle::TrustFiles;
use crate::child::{Child, Ended};
use crate::direct::Sightings;
use crate::limits::{SAMPLE_EVERY, SAMPLE_LATER_EVERY, SAMPLE_OFTEN_FOR};
use crate::quantity::plural;
use crate::signals::{Came, Signals};

/// What a child left behind.
pub(super) struct Outcome {
    pub(super) ended: Ended,
    /// Why it was ended, if it did not end by itself.
    pub(super) stopped: Option<Stop>,
    pub(super) sightings: Sightings,
}

/// Why a child is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its time is over.
    Timeout,
    /// Capturing broke, for this reason, and `--strict` was asked for.
    Broken(String),
}

impl Job<'_> {
    /// Lives with the child until it ends.
    pub(super) async fn supervise(
        &self,
        mut child: Child,
        signals: &mut Signals,
        proxy: SocketAddr,
        trust: Option<TrustFiles>,
        recorder: Option<Recorder>,
    ) -> Outcome {
        let pid = child.pid();
        let began = Instant::now();
        let mut deadline = Deadline::new(self.arguments.timeout.map(|period| period.0), began);
        let mut sightings = Sightings::default();
        let mut next_look = began + SAMPLE_EVERY / 8;
        let mut stopped = None;
        let ended = loop {
            tokio::select! {
                ended = child.ended() => break ended,
                came = signals.next() => {
                    if let Came::ForChild(signal) = came {
                        child.signal(signal);
                    }
                }
                () = deadline.passed() => {
                    stopped.get_or_insert(Stop::Timeout);
                    child.signal(deadline.next_signal());
                }
                () = tokio::time::sleep_until(next_look) => {
                    sightings = look(sightings, pid, proxy, trust.clone()).await;
                    next_look = Instant::now() + pause_after(began.elapsed());
                    if self.arguments.strict && stopped.is_none()
                        && let Some(why) = recorder.as_ref().and_then(broken)
                    {
                        stopped = Some(Stop::Broken(why));
                        deadline.end_now();
                    }
                }
            }
        };
        Outcome {
            ended,
            stopped,
            sightings,
        }
    }
}

/// Looks at the child's processes beside the traffic, since it reads files of the kernel.
async fn look(
    sightings: Sightings,
    child: u32,
    proxy: SocketAddr,
    trust: Option<TrustFiles>,
) -> Sightings {
    let before = sightings.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let mut sightings = sightings;
        sightings.look(child, proxy, trust.as_ref());
        sightings
    });
    looking.await.unwrap_or(before)
}

fn pause_after(running: Duration) -> Duration {
    match running < SAMPLE_OFTEN_FOR {
        true => SAMPLE_EVERY,
        false => SAMPLE_LATER_EVERY,
    }
}

/// Why the record has a hole, or will have one if this goes on.
pub(super) fn broken(recorder: &Recorder) -> Option<String> {
    let lost = recorder.losses().events;
    if lost > 0 {
        return Some(format!("{} could not be stored", plural(lost, "event")));
    }
    recorder.trouble().map(|trouble| trouble.to_string())
}
