//! The signals that a run takes while its child lives: what the terminal sent, both got already;
//! what was sent to us is meant for the child.

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

use crate::problem::Problem;

/// Handlers of this process. Signals that were ignored when we were started stay ignored, here and
/// in the child: that is what `nohup` and a shell's background jobs rely on.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Option<unix::Signal>,
    quit: Option<unix::Signal>,
    terminate: Option<unix::Signal>,
    hang_up: Option<unix::Signal>,
    user_1: Option<unix::Signal>,
    user_2: Option<unix::Signal>,
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// From the terminal, as a rule: the child has it as well.
    Interrupt,
    /// To be sent on.
    ForChild(Signal),
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Problem> {
        let ignored = ignored_signals();
        let listen = |kind| listen(kind, ignored);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            user_1: listen(SignalKind::user_defined1())?,
            user_2: listen(SignalKind::user_defined2())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Came {
        tokio::select! {
            () = next(&mut self.interrupt) => Came::Interrupt,
            () = next(&mut self.quit) => Came::Interrupt,
            () = next(&mut self.terminate) => Came::ForChild(Signal::TERM),
            () = next(&mut self.hang_up) => Came::ForChild(Signal::HUP),
            () = next(&mut self.user_1) => Came::ForChild(Signal::USR1),
            () = next(&mut self.user_2) => Came::ForChild(Signal::USR2),
        }
    }
}

/// Has a write beyond a limit of file sizes (`ulimit -f`) fail as on a full disk, where the system would
/// end the process (SIGXFSZ). It is not ignored but heard by nobody: commands that are started get the
/// default back.
pub(crate) fn survive_file_limits() -> Result<(), Problem> {
    let kind = SignalKind::from_raw(Signal::XFSZ.as_raw());
    listen(kind, ignored_signals()).map(drop)
}

/// Begins to listen for a signal that is not ignored.
fn listen(kind: SignalKind, ignored: u64) -> Result<Option<unix::Signal>, Problem> {
    let bit = u32::try_from(kind.as_raw_value() - 1).unwrap_or_default();
    if ignored >> bit & 1 == 1 {
        return Ok(None);
    }
    let failed = |error| Problem::bug(format!("cannot listen for signals: {error}"));
    signal(kind).map(Some).map_err(failed)
}

async fn next(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => match signal.recv().await {
            Some(()) => {}
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// The signals this process was started with ignored, one bit each; none where it cannot be told.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}
