//! The control socket: what the admin port answers, and orders. The folder that it lies in is for
//! its owner only, and so is it; a peer of another user is not heard all the same.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::orders::Orders;
use super::{Place, unusable};
use crate::admin::{Answer, Status, page, read_request};
use crate::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_TIMEOUT};
use crate::problem::Problem;

/// The socket, and its file, which goes with it.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
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
        })
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(&self, status: Arc<Status>, orders: Orders) {
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= ADMIN_CONNECTIONS_MAX {
                connections.join_next().await;
            }
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of descriptors, most likely: others end before the next try.
                tokio::time::sleep(ADMIN_TIMEOUT / 10).await;
                continue;
            };
            while connections.try_join_next().is_some() {}
            let (status, orders) = (Arc::clone(&status), orders.clone());
            connections.spawn(async move {
                let answered =
                    tokio::time::timeout(ADMIN_TIMEOUT, answer(stream, &status, &orders));
                if let Ok(Err(error)) = answered.await {
                    tracing::debug!(%error, "a control request was not answered");
                }
            });
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // The next service removes what is left.
        let _removed = std::fs::remove_file(&self.path);
    }
}

async fn answer(mut stream: UnixStream, status: &Status, orders: &Orders) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != rustix::process::geteuid().as_raw() && uid != 0 {
        return Ok(());
    }
    let request = read_request(&mut stream).await?;
    let answer = match (request.method.as_str(), request.target.as_str()) {
        ("POST", target) => obey(target, orders),
        (method, target) => page(method, target, status),
    };
    answer.write(&mut stream).await
}

/// Does what is asked for, or says that it cannot be done.
fn obey(target: &str, orders: &Orders) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
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
        _ => Answer::text("404 Not Found", "POST /stop and /reload are here\n"),
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
            assert_eq!(obey(target, &orders).status, expected, "{target}");
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
