//! The admin port: `GET /healthz`, `GET /status`, `GET /metrics`, and the authority's certificate
//! (`/ca.pem`, `/ca.der`, `/ca.mobileconfig`), for this machine only. It changes nothing. A page in
//! a browser cannot use it, since the Host field must name this very address.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxy::{Control, Metrics};
use store::{Recorder, ShipperWatch};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use traffic::{ListenAddress, Timestamp};

use crate::accept::answer_each;
use crate::archive;
use crate::clock::now;
use crate::command::version::VERSION;
use crate::downloads::{Shelf, attachment};
use crate::exit::Exit;
use crate::limits::{ADMIN_HEAD_BYTES_MAX, ADMIN_TIMEOUT};
use crate::problem::Problem;
use crate::record_status;
use crate::wiring::listen_problem;

/// A bound admin port.
#[derive(Debug)]
pub(crate) struct Admin {
    listener: TcpListener,
    /// What the settings said: port 0 may have become another.
    asked: SocketAddr,
    address: SocketAddr,
}

/// What `/status` tells.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) started_at: Timestamp,
    /// Where it listens, with the upstream of each place that stands in front of one.
    pub(crate) proxy: Vec<(ListenAddress, Option<String>)>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) database: Option<PathBuf>,
    pub(crate) recorder: Option<Recorder>,
    /// How copying to the archive goes, if there is one.
    pub(crate) archive: Option<ShipperWatch>,
    /// The authority, and its certificate in its forms.
    pub(crate) downloads: Shelf,
    /// What counts; `None` without a proxy.
    pub(crate) control: Option<Control>,
    /// Where its log is, if it is a file of ours.
    pub(crate) log: Option<PathBuf>,
}

/// The first line of a request, and whom it names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// What every Host field says.
    hosts: Vec<String>,
}

/// An answer, ready to be written.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    content_type: &'static str,
    /// What the body is to be saved as.
    file_name: Option<&'static str>,
    body: Vec<u8>,
}

impl Admin {
    /// Listens, on one of `handed` if it has one for this address.
    pub(crate) async fn bind(
        asked: SocketAddr,
        handed: Vec<(SocketAddr, std::net::TcpListener)>,
    ) -> Result<Self, Problem> {
        if !asked.ip().is_loopback() {
            let what = format!("the admin address {asked} is not a loopback address");
            return Err(Problem::new("ORL0104", Exit::Permission, what)
                .why("the admin port has no credentials, so it is for this machine only")
                .fix(format!("--admin 127.0.0.1:{}", asked.port()))
                .fix("--admin off"));
        }
        let failed = |error: std::io::Error| listen_problem(&error, asked, "--admin");
        let handed = handed.into_iter().find(|(address, _)| *address == asked);
        let listener = match handed {
            Some((_, socket)) => {
                socket.set_nonblocking(true).map_err(failed)?;
                TcpListener::from_std(socket).map_err(failed)?
            }
            None => TcpListener::bind(asked).await.map_err(failed)?,
        };
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            asked,
            address,
        })
    }

    /// The address that was asked for.
    pub(crate) fn asked(&self) -> SocketAddr {
        self.asked
    }

    pub(crate) fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(&self, status: Arc<Status>) {
        let accept = async || Ok(self.listener.accept().await?.0);
        let address = self.address;
        answer_each(accept, |stream| {
            let status = Arc::clone(&status);
            async move {
                let answered = answer(stream, address, &status);
                if let Ok(Err(error)) = tokio::time::timeout(ADMIN_TIMEOUT, answered).await {
                    tracing::debug!(%error, "an admin request was not answered");
                }
            }
        })
        .await;
    }
}

impl AsFd for Admin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

async fn answer(
    mut stream: TcpStream,
    address: SocketAddr,
    status: &Status,
) -> std::io::Result<()> {
    let request = read_request(&mut stream).await?;
    decide(&request, address, status).write(&mut stream).await
}

/// Reads the head of a request; what follows is not looked at.
pub(crate) async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<Request> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > ADMIN_HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(Request::parse(&String::from_utf8_lossy(&head)))
}

fn decide(request: &Request, address: SocketAddr, status: &Status) -> Answer {
    match request.hosts.as_slice() {
        [host] if names_us(host, address) => page(&request.method, &request.target, status),
        _ => Answer::text(
            "421 Misdirected Request",
            "this is the admin port of oriel\n",
        ),
    }
}

/// What there is to read.
pub(crate) fn page(method: &str, target: &str, status: &Status) -> Answer {
    match (method, target) {
        ("GET", "/healthz") => Answer::text("200 OK", "ok\n"),
        ("GET", "/status") => Answer::json(&status.to_json()),
        ("GET", "/metrics") => Answer::ok(Metrics::CONTENT_TYPE, status.to_openmetrics()),
        ("GET", target) => match status.downloads.find(target) {
            Some(file) => Answer {
                file_name: Some(file.file_name),
                ..Answer::ok(file.content_type, file.body)
            },
            None => Answer::text(
                "404 Not Found",
                "GET /healthz, /status, /metrics, /ca.pem, /ca.der and /ca.mobileconfig are here\n",
            ),
        },
        _ => Answer::text("405 Method Not Allowed", "only GET\n"),
    }
}

/// Whether a Host field names this port; another name that leads here is an attack on browsers.
fn names_us(host: &str, address: SocketAddr) -> bool {
    host == address.to_string() || host == format!("localhost:{}", address.port())
}

impl Request {
    fn parse(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        Self {
            method: word(),
            target: word(),
            hosts: lines
                .filter_map(|line| line.split_once(':'))
                .filter(|(name, _)| name.eq_ignore_ascii_case("host"))
                .map(|(_, value)| value.trim().to_owned())
                .collect(),
        }
    }
}

impl Answer {
    /// Writes it, and ends the stream.
    pub(crate) async fn write(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> std::io::Result<()> {
        let saved = self.file_name.map_or_else(String::new, |name| {
            format!("Content-Disposition: {}\r\n", attachment(name))
        });
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{saved}\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&self.body).await?;
        stream.shutdown().await
    }

    pub(crate) fn with_status(mut self, status: &'static str) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn json(document: &serde_json::Value) -> Self {
        Self::ok("application/json", format!("{document}\n"))
    }

    fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: "200 OK",
            content_type,
            file_name: None,
            body: body.into(),
        }
    }

    pub(crate) fn text(status: &'static str, body: &str) -> Self {
        Self {
            status,
            ..Self::ok("text/plain; charset=utf-8", body)
        }
    }
}

impl Status {
    /// What the engine and the store count, for monitoring systems.
    fn to_openmetrics(&self) -> String {
        let record = self.recorder.as_ref().map(record_status::to_openmetrics);
        let archive = self
            .archive
            .as_ref()
            .map(|archive| archive::to_openmetrics(&archive.status()));
        let engine = self.control.as_ref().map(Control::metrics);
        let engine = engine.unwrap_or_default();
        let further = [record, archive].into_iter().flatten().collect::<String>();
        engine.to_openmetrics(&further)
    }

    /// Where it stands in front of upstreams.
    pub(crate) fn fronts(&self) -> impl Iterator<Item = SocketAddr> {
        let reverse = self.proxy.iter().filter(|(_, to)| to.is_some());
        reverse.filter_map(|(address, _)| address.tcp())
    }

    fn listeners(&self) -> Vec<serde_json::Value> {
        let proxy = self.proxy.iter().map(|(address, to)| match to {
            Some(to) => serde_json::json!({
                "kind": "reverse", "addr": address.to_string(), "to": to,
            }),
            None => serde_json::json!({"kind": "proxy", "addr": address.to_string()}),
        });
        let admin = self
            .admin
            .iter()
            .map(|address| serde_json::json!({"kind": "admin", "addr": address.to_string()}));
        proxy.chain(admin).collect()
    }

    fn store_json(&self, path: &Path) -> serde_json::Value {
        let recorder = self.recorder.as_ref();
        let mut store = recorder.map_or_else(|| serde_json::json!({}), record_status::to_json);
        store["backend"] = "sqlite".into();
        store["path"] = serde_json::json!(path);
        store["archive"] = self
            .archive
            .as_ref()
            .map_or(serde_json::Value::Null, |archive| {
                archive::to_json(&archive.status())
            });
        store
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "schema": "oriel.status/1",
            "running": true,
            "pid": std::process::id(),
            "version": VERSION,
            "uptime_ms": now().micros_since(self.started_at) / 1000,
            "started_at": store::json::rfc3339(self.started_at),
            "listeners": self.listeners(),
            "session": self.recorder.as_ref().map(|recorder| recorder.run().to_string()),
            "ca": self.downloads.authority().map(|authority| serde_json::json!({
                "subject": authority.subject,
                "not_after": store::json::rfc3339(authority.not_after),
            })),
            "store": self.database.as_ref().map(|path| self.store_json(path)),
            "connections": self.control.as_ref().map(|control| control.metrics().active_connections),
            "log": self.log,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, expected: &str) {
        let address: SocketAddr = "127.0.0.1:6744".parse().unwrap();
        let status = Status {
            started_at: now(),
            proxy: vec![(SocketAddr::from(([127, 0, 0, 1], 6743)).into(), None)],
            admin: Some(address),
            log: None,
            database: None,
            recorder: None,
            archive: None,
            downloads: Shelf::default(),
            control: None,
        };
        let answer = decide(&Request::parse(head), address, &status);
        assert_eq!(answer.status, expected, "{head:?}");
    }

    #[test]
    fn answers_only_under_its_own_name() {
        check(
            "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:6744\r\n\r\n",
            "200 OK",
        );
        check(
            "GET /status HTTP/1.1\r\nhost: localhost:6744\r\n\r\n",
            "200 OK",
        );
        let refused = "421 Misdirected Request";
        check(
            "GET /status HTTP/1.1\r\nHost: evil.test:6744\r\n\r\n",
            refused,
        );
        check(
            "GET /status HTTP/1.1\r\nHost: 127.0.0.1:6744\r\nHost: evil.test\r\n\r\n",
            refused,
        );
        check("GET /status HTTP/1.1\r\n\r\n", refused);
        check("", refused);
        check(
            "POST /status HTTP/1.1\r\nHost: localhost:6744\r\n\r\n",
            "405 Method Not Allowed",
        );
        check(
            "GET / HTTP/1.1\r\nHost: localhost:6744\r\n\r\n",
            "404 Not Found",
        );
    }
}
