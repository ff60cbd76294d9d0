//! A forward proxy as companies have them: CONNECT and absolute form, in clear or within TLS, or
//! SOCKS 5, with a password if it is to ask for one.
//!
//! It knows no names: which target leads to which upstream is told at the start, as a resolver of
//! its own would know it. It remembers what it was asked, so that a test sees what went through it.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::authority::Identity;
use crate::message::{Buffered, RequestHead};
use crate::wire::Wire;

/// How a proxy behaves.
#[derive(Debug, Default)]
pub struct ForwardProxyOptions {
    /// The certificate it shows. Without one it speaks in clear.
    pub tls: Option<Identity>,
    /// The user name and password it asks for.
    pub login: Option<(String, String)>,
    /// Where the targets it allows lead: `a.example:443` to an upstream. Others are answered with
    /// 403.
    pub leads_to: HashMap<String, SocketAddr>,
}

/// A running proxy.
#[derive(Debug)]
pub struct ForwardProxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    tasks: JoinSet<()>,
}

/// What the proxy was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The connection it came on, counted from zero.
    pub connection: u64,
    /// The request line without its version: `CONNECT a.example:443`, `GET http://a.example/`; for
    /// SOCKS 5 `SOCKS5 a.example:443`.
    pub what: String,
    /// The fields `Host` and `Proxy-Authorization`; for SOCKS 5 user name and password.
    pub host: Option<String>,
    /// What was said of the asker.
    pub authorization: Option<String>,
}

impl ForwardProxyOptions {
    /// With another target that leads to an upstream.
    #[must_use]
    pub fn leading(mut self, target: &str, to: SocketAddr) -> Self {
        self.leads_to.insert(target.to_owned(), to);
        self
    }

    /// Asking for a user name and a password.
    #[must_use]
    pub fn asking_for(mut self, user: &str, password: &str) -> Self {
        self.login = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Within TLS.
    #[must_use]
    pub fn within_tls(mut self, identity: Identity) -> Self {
        self.tls = Some(identity);
        self
    }
}

impl ForwardProxy {
    /// Starts a proxy on a port that the kernel picks.
    pub async fn start(options: ForwardProxyOptions) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let asked = Arc::default();
        let tls = options.tls.as_ref();
        let proxy = Arc::new(Serving {
            tls: tls.map(|identity| TlsAcceptor::from(identity.server_config(&["http/1.1"]))),
            login: options.login,
            leads_to: options.leads_to,
            asked: Arc::clone(&asked),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_all(proxy, listener));
        Ok(Self {
            address,
            asked,
            tasks,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// Ends all connections and waits until their tasks are gone.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

struct Serving {
    tls: Option<TlsAcceptor>,
    login: Option<(String, String)>,
    leads_to: HashMap<String, SocketAddr>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

async fn accept_all(proxy: Arc<Serving>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let proxy = Arc::clone(&proxy);
                // However a connection ends, the client sees it.
                connections.spawn(async move { proxy.serve(stream, number).await.ok() });
                number += 1;
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Serving {
    async fn serve(&self, stream: TcpStream, connection: u64) -> io::Result<()> {
        let mut first = [0];
        let is_socks = stream.peek(&mut first).await? == 1 && first == [5];
        let wire = Wire::accepted(stream)?;
        let wire = match &self.tls {
            Some(acceptor) if !is_socks => Wire::Tls(Box::new(acceptor.accept(wire).await?.into())),
            _ => wire,
        };
        match is_socks {
            true => self.socks(wire, connection).await,
            false => self.http(Buffered::new(wire), connection).await,
        }
    }

    /// One CONNECT, or requests in absolute form one after the other.
    async fn http(&self, mut client: Buffered<Wire>, connection: u64) -> io::Result<()> {
        while let Some(head) = client.read_request_head().await? {
            let authorization = head.headers.get("proxy-authorization").map(str::to_owned);
            self.asked.lock().push(Asked {
                connection,
                what: format!("{} {}", head.method, head.target),
                host: head.headers.get("host").map(str::to_owned),
                authorization: authorization.clone(),
            });
            let known = self.login.as_ref().map(basic);
            if known.is_some() && known != authorization {
                let challenge = "Proxy-Authenticate: Basic realm=\"testbed\"\r\n";
                refuse(
                    client.stream_mut(),
                    "407 Proxy Authentication Required",
                    challenge,
                )
                .await?;
                continue;
            }
            let (authority, path) = match head.target.strip_prefix("http://") {
                Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
                None => (&*head.target, ""),
            };
            let target = match authority.contains(':') {
                true => authority.to_owned(),
                false => format!("{authority}:80"),
            };
            let Some(upstream) = self.leads_to.get(&target) else {
                refuse(client.stream_mut(), "403 Forbidden", "").await?;
                continue;
            };
            let Ok(mut upstream) = Wire::dial(*upstream).await else {
                refuse(client.stream_mut(), "503 Service Unavailable", "").await?;
                continue;
            };
            if head.method == "CONNECT" {
                let (mut client, ahead) = client.into_parts();
                client
                    .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    .await?;
                client.flush().await?;
                upstream.write_all(&ahead).await?;
                tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
                return Ok(());
            }
            forward(&mut client, upstream, &head, path).await?;
        }
        client.stream_mut().shutdown().await
    }

    async fn socks(&self, mut client: Wire, connection: u64) -> io::Result<()> {
        let [_version, count] = array(&mut client).await?;
        let mut offered = vec![0; usize::from(count)];
        client.read_exact(&mut offered).await?;
        let wanted = if self.login.is_some() { 2 } else { 0 };
        if !offered.contains(&wanted) {
            return client.write_all(&[5, 0xff]).await;
        }
        client.write_all(&[5, wanted]).await?;
        let mut authorization = None;
        if let Some((user, password)) = &self.login {
            let [_version] = array(&mut client).await?;
            let said = [counted(&mut client).await?, counted(&mut client).await?];
            let right = said == [user.as_bytes(), password.as_bytes()];
            authorization = Some(said.map(|text| String::from_utf8_lossy(&text).into_owned()));
            client.write_all(&[1, u8::from(!right)]).await?;
            if !right {
                return Ok(());
            }
        }
        let [_version, _command, _reserved, kind] = array(&mut client).await?;
        let host = match kind {
            1 => Ipv4Addr::from(array::<4>(&mut client).await?).to_string(),
            3 => String::from_utf8_lossy(&counted(&mut client).await?).into_owned(),
            _ => return client.write_all(&[5, 8, 0, 1, 0, 0, 0, 0, 0, 0]).await,
        };
        let target = format!("{host}:{}", u16::from_be_bytes(array(&mut client).await?));
        self.asked.lock().push(Asked {
            connection,
            what: format!("SOCKS5 {target}"),
            host: None,
            authorization: authorization.map(|said| said.join(":")),
        });
        let Some(upstream) = self.leads_to.get(&target) else {
            return client.write_all(&[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        };
        let Ok(mut upstream) = Wire::dial(*upstream).await else {
            return client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        };
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
        tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
        Ok(())
    }
}

/// Sends one request on, for its path and on a connection of its own, and its response back.
async fn forward(
    client: &mut Buffered<Wire>,
    upstream: Wire,
    head: &RequestHead,
    path: &str,
) -> io::Result<()> {
    let body = client.read_body(head.framing()?).await.whole()?;
    let path = if path.is_empty() { "/" } else { path };
    let mut request = format!("{} {path} HTTP/1.1\r\n", head.method);
    for (name, value) in &head.headers.0 {
        if !name.eq_ignore_ascii_case("proxy-authorization") {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    request.push_str("\r\n");
    let mut upstream = Buffered::new(upstream);
    upstream.stream_mut().write_all(request.as_bytes()).await?;
    upstream.stream_mut().write_all(&body.raw).await?;
    let response = upstream.read_response_head().await?;
    let body = upstream.read_body(response.framing(&head.method)?).await;
    let wire = client.stream_mut();
    wire.write_all(&response.raw).await?;
    wire.write_all(&body.raw).await?;
    wire.flush().await
}

async fn refuse(client: &mut Wire, status: &str, fields: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 3\r\n\r\nno\n");
    client.write_all(head.as_bytes()).await?;
    client.flush().await
}

/// User name and password as a field says them (RFC 7617 section 2).
fn basic((user, password): &(String, String)) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

async fn array<const N: usize>(wire: &mut Wire) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    wire.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn counted(wire: &mut Wire) -> io::Result<Vec<u8>> {
    let [length] = array(wire).await?;
    let mut bytes = vec![0; usize::from(length)];
    wire.read_exact(&mut bytes).await?;
    Ok(bytes)
}
