//! The control socket: what the admin port answers, and orders. The folder that it lies in is for
//! its owner only, and so is it; a peer of another user is not heard all the same.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

use super::notify::Notifier;
use super::orders::Orders;
use super::succession::Succession;
use super::{Place, unusable};
use crate::accept::answer_each;
use crate::admin::{Answer, Status, page, read_request};
use crate::exit::Exit;
use crate::limits::{ADMIN_TIMEOUT, RESTART_DRAIN};
use crate::problem::Problem;

/// The socket, and its file, which goes with it.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Whether the file is another process's by now.
    leaves_file: AtomicBool,
}

/// What requests are answered with.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(crate) status: Arc<Status>,
    pub(crate) orders: Orders,
    pub(crate) notifier: Arc<Notifier>,
    /// What may take our place; none where somebody waits for the end of this very process.
    pub(crate) succession: Option<Arc<Succession>>,
}

impl ControlSocket {
    /// Listens. Only who holds the lock may: a file that lies there is then nobody's.
    pub(crate) fn bind(place: &Place) -> Result<Self, Problem> {
        let wrong = |error: std::io::Error| unusable(&place.control, error);
        match std::fs::remove_file(&place.control) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(wrong(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&place.control).map_err(wrong)?;
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&place.control, owner_only).map_err(wrong)?;
        Ok(Self {
            listener,
            path: place.control.clone(),
            leaves_file: AtomicBool::new(false),
        })
    }

    /// Goes on listening on a socket that was handed on.
    pub(crate) fn handed(
        place: &Place,
        socket: std::os::unix::net::UnixListener,
    ) -> Result<Self, Problem> {
        let wrong = |error: std::io::Error| unusable(&place.control, error);
        socket.set_nonblocking(true).map_err(wrong)?;
        Ok(Self {
            listener: UnixListener::from_std(socket).map_err(wrong)?,
            path: place.control.clone(),
            // Until we serve it is still the file of the process before us.
            leaves_file: AtomicBool::new(true),
        })
    }

    /// Has the file stay when this goes.
    pub(crate) fn leave_file(&self) {
        self.leaves_file.store(true, Ordering::Relaxed);
    }

    /// Has the file go with this.
    pub(crate) fn own_file(&self) {
        self.leaves_file.store(false, Ordering::Relaxed);
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(&self, desk: &Desk) {
        let accept = async || Ok(self.listener.accept().await?.0);
        answer_each(accept, |stream| {
            let desk = desk.clone();
            async move {
                if let Err(error) = answer(stream, &desk).await {
                    tracing::debug!(%error, "a control request was not answered");
                }
            }
        })
        .await;
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if !self.leaves_file.load(Ordering::Relaxed) {
            // The next service removes what is left.
            let _removed = std::fs::remove_file(&self.path);
        }
    }
}

async fn answer(mut stream: UnixStream, desk: &Desk) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != rustix::process::geteuid().as_raw() && uid != 0 {
        return Ok(());
    }
    // Whoever came to us asks again, and comes to the process that has our place.
    let succession = desk.succession.as_ref();
    if succession.is_some_and(|succession| succession.has_let_go()) {
        return Ok(());
    }
    let request = tokio::time::timeout(ADMIN_TIMEOUT, read_request(&mut stream)).await??;
    let (path, query) = match request.target.split_once('?') {
        Some((path, query)) => (path, query),
        None => (request.target.as_str(), ""),
    };
    if (request.method.as_str(), path) == ("POST", "/restart") {
        return match drain(query) {
            Ok(drain) => restart(&mut stream, desk, drain.unwrap_or(RESTART_DRAIN)).await,
            Err(text) => write(&mut stream, &Answer::text("400 Bad Request", &text)).await,
        };
    }
    let answer = match request.method.as_str() {
        "POST" => obey(path, query, &desk.orders),
        method => page(method, &request.target, &desk.status),
    };
    write(&mut stream, &answer).await
}

async fn write(stream: &mut UnixStream, answer: &Answer) -> std::io::Result<()> {
    tokio::time::timeout(ADMIN_TIMEOUT, answer.write(stream)).await?
}

/// Has another process take our place, says how that went, and goes if it went well.
async fn restart(stream: &mut UnixStream, desk: &Desk, drain: Duration) -> std::io::Result<()> {
    let begun = match &desk.succession {
        Some(succession) => {
            let beginning = Arc::clone(succession);
            let begun = tokio::task::spawn_blocking(move || beginning.begin()).await;
            begun.map_err(std::io::Error::other)?
        }
        None => Err(foreground()),
    };
    let successor = match begun {
        Ok(successor) => successor,
        Err(problem) => {
            tracing::error!(code = problem.code, why = problem.why, "{}", problem.what);
            let answer = Answer::json(&problem.document()).with_status("409 Conflict");
            return write(stream, &answer).await;
        }
    };
    tracing::info!(pid = successor.pid, "another process has taken over");
    if let Some(succession) = &desk.succession {
        succession.let_go();
    }
    desk.notifier.replaced_by(successor.pid);
    let written = write(stream, &Answer::json(&successor.status)).await;
    desk.orders.replace(drain);
    let orders = desk.orders.clone();
    // It lives as long as this process, which may have to wait for hours.
    let listening = std::thread::Builder::new().name("oriel successor".to_owned());
    let listening = listening.spawn(move || successor.end.wait_until_asked(|| orders.stop(None)));
    listening.map(drop).and(written)
}

fn foreground() -> Problem {
    let what = "this service runs in the foreground, for somebody who waits for its end";
    Problem::new("ORL0904", Exit::Busy, what)
        .why("another process in its place would be nobody's")
        .fix("end it and start it again where it runs")
        .fix("kill -HUP PID      takes a changed configuration, without a restart")
}

/// Does what is asked for, or says that it cannot be done.
fn obey(path: &str, query: &str, orders: &Orders) -> Answer {
    match path {
        "/stop" => match drain(query) {
            Ok(drain) => {
                orders.stop(drain);
                Answer::json(&serde_json::json!({"stopping": true}))
            }
            Err(text) => Answer::text("400 Bad Request", &text),
        },
        "/reload" => {
            orders.reload();
            Answer::json(&serde_json::json!({"reloading": true}))
        }
        _ => Answer::text(
            "404 Not Found",
            "POST /stop, /restart and /reload are here\n",
        ),
    }
}

/// `drain_ms=N` of a query.
fn drain(query: &str) -> Result<Option<Duration>, String> {
    match query.strip_prefix("drain_ms=") {
        Some(number) => number
            .parse()
            .map(|millis| Some(Duration::from_millis(millis)))
            .map_err(|_error| format!("{number:?} is no number of milliseconds\n")),
        None if query.is_empty() => Ok(None),
        None => Err(format!("{query:?} is not known; drain_ms=N is\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn orders_are_obeyed() {
        let check = |target: &str, expected: &str| {
            let orders = Orders::new();
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            assert_eq!(obey(path, query, &orders).status, expected, "{target}");
            orders
        };
        let orders = check("/stop?drain_ms=1500", "200 OK");
        assert_eq!(orders.stopped().await, Some(Duration::from_millis(1500)));
        assert_eq!(check("/stop", "200 OK").stopped().await, None);
        check("/reload", "200 OK").reload_asked().await;
        check("/stop?drain_ms=x", "400 Bad Request");
        check("/stop?x=1", "400 Bad Request");
        check("/nothing", "404 Not Found");
    }
}
