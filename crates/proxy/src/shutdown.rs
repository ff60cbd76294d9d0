//! Who waits for whom: every task has a name and an owner that waits for it or ends it.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::limits::FIRST_REQUEST_WAIT;

/// Tasks that one owner started.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: Mutex<JoinSet<()>>,
}

impl Tasks {
    /// Starts a task. It is ended when the owner ends.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let mut running = self.running.lock();
        // Those that ended are taken out here, so that the set does not grow with the traffic.
        while let Some(ended) = running.try_join_next() {
            report(name, ended);
        }
        running.spawn(task);
    }

    /// Waits until all tasks have ended, at most for `limit`; then calls `cutting` and ends the
    /// others. Returns how many had to be ended.
    pub(crate) async fn drain(&self, limit: Duration, cutting: impl FnOnce()) -> usize {
        let mut running = std::mem::take(&mut *self.running.lock());
        let deadline = tokio::time::Instant::now() + limit;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, running.join_next()).await {
            report("drain", ended);
        }
        let cut = running.len();
        cutting();
        running.shutdown().await;
        cut
    }
}

fn report(name: &'static str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(task = name, %error, "a task panicked");
    }
}

/// Says that the engine is to stop. Cheap to ask, cheap to wait for.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    asked: watch::Receiver<bool>,
}

/// The end that asks.
#[derive(Debug)]
pub(crate) struct Stopper {
    asked: Arc<watch::Sender<bool>>,
}

impl Stopper {
    pub(crate) fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (
            Self {
                asked: Arc::new(sender),
            },
            Stop { asked: receiver },
        )
    }

    pub(crate) fn stop(&self) {
        self.asked.send_replace(true);
    }
}

impl Stop {
    pub(crate) fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits until a stop is asked for, or the asking end is gone.
    pub(crate) async fn asked(&self) {
        let mut asked = self.asked.clone();
        // An error means that the engine is gone, which is a stop as well.
        let _gone = asked.wait_for(|asked| *asked).await;
    }

    /// The same, and for what may still come on a connection that has just been accepted.
    pub(crate) async fn asked_while_fresh(&self) {
        self.asked().await;
        tokio::time::sleep(FIRST_REQUEST_WAIT).await;
    }
}

/// Done when the process is asked to end: by SIGINT, and on Unix by SIGTERM.
#[cfg(unix)]
pub(crate) fn asked_to_end() -> io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
pub(crate) fn asked_to_end() -> io::Result<impl Future<Output = ()> + Send> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            // It cannot be asked, so it serves until it is dropped.
            std::future::pending::<()>().await;
        }
    })
}
