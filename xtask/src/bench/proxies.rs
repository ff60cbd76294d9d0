//! The proxies that are compared, and how each is started: as a process of its own, pinned to the
//! core that load and upstream leave free.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::PROXY_CORE;
use super::cases::{Case, Front, Load};
use super::engine::Handling;
use super::material::{HOT_NAME, Material, TUNNEL_NAME};
use super::upstream::Upstream;
use super::usage::CpuTime;
use crate::failure::Failure;
use crate::tidy::workspace_root;

const START_DEADLINE: Duration = Duration::from_secs(20);
const START_POLL: Duration = Duration::from_millis(10);

/// A contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    Direct,
    Floor,
    Hudsucker,
    Oriel,
    OrielCapture,
    Engine(Handling),
    Haproxy,
    Mitmproxy,
}

pub(super) const PROXIES: &[Proxy] = &[
    Proxy::Direct,
    Proxy::Floor,
    Proxy::Hudsucker,
    Proxy::Oriel,
    Proxy::OrielCapture,
    Proxy::Engine(Handling::None),
    Proxy::Engine(Handling::Noop),
    Proxy::Engine(Handling::Heads),
    Proxy::Haproxy,
    Proxy::Mitmproxy,
];

/// A started proxy. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Running {
    proxy: Proxy,
    child: Option<Child>,
    address: SocketAddr,
    /// What the process stores, removed when it has ended.
    scratch: Option<PathBuf>,
}

impl Proxy {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::Hudsucker => "hudsucker",
            Self::Oriel => "oriel",
            Self::OrielCapture => "oriel, capture on",
            Self::Engine(handling) => handling.name(),
            Self::Haproxy => "haproxy",
            Self::Mitmproxy => "mitmproxy",
        }
    }

    /// Whether it is on this machine. What we build ourselves is.
    pub(super) fn is_there(self) -> bool {
        match self {
            Self::Haproxy => answers_version("haproxy", "-v"),
            Self::Mitmproxy => answers_version("mitmdump", "--version"),
            Self::Direct
            | Self::Floor
            | Self::Hudsucker
            | Self::Oriel
            | Self::OrielCapture
            | Self::Engine(_) => true,
        }
    }

    /// Whether it can do what the case asks.
    pub(super) fn can(self, case: &Case) -> bool {
        let is_about_handlers = case.load == Load::Handlers;
        match self {
            // As a reverse proxy it has one certificate and no CONNECT.
            Self::Haproxy => {
                case.front == Front::Intercept
                    && !matches!(
                        case.load,
                        Load::NewNames | Load::NewNamesAnyKey | Load::Handlers | Load::Idle
                    )
            }
            // The floor reads no HTTP but CONNECT, and keeps an upstream connection for each
            // client's, which are more descriptors than a process usually may have.
            Self::Floor => case.front != Front::Plain && case.load != Load::Idle,
            // There is no process whose memory could be asked for.
            Self::Direct => case.load != Load::Idle,
            Self::Hudsucker => true,
            Self::Oriel | Self::OrielCapture => !is_about_handlers,
            Self::Engine(_) => is_about_handlers,
            // It holds a response back until it is whole, and takes minutes for 10,000 handshakes.
            Self::Mitmproxy => {
                !is_about_handlers && !matches!(case.load, Load::Streams | Load::Idle)
            }
        }
    }

    /// How often it is measured at most: nothing is decided by a few hundredths where a peer is far
    /// away, or not what a goal speaks of.
    pub(super) fn rounds_max(self) -> usize {
        match self {
            Self::Haproxy | Self::Mitmproxy => 3,
            Self::Direct
            | Self::Floor
            | Self::Hudsucker
            | Self::Oriel
            | Self::OrielCapture
            | Self::Engine(_) => usize::MAX,
        }
    }

    pub(super) async fn start(
        self,
        case: &Case,
        material: &Material,
        upstream: &Upstream,
    ) -> Result<Running, Failure> {
        let mut running = Running {
            proxy: self,
            child: None,
            address: free_address()?,
            scratch: None,
        };
        if self == Self::Direct {
            return Ok(running);
        }
        let scratch = material.path(&format!("data-{}", running.address.port()));
        let mut command = pinned(&self.program()?);
        self.add_arguments(&mut command, case, &running, material, upstream)?;
        if matches!(self, Self::Oriel | Self::OrielCapture) {
            command.arg("--data").arg(&scratch);
        }
        running.scratch = Some(scratch);
        let log = std::fs::File::create(material.path(&format!("{}.log", self.name())))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        running.child = Some(command.spawn()?);
        running.wait_until_it_listens(material).await?;
        Ok(running)
    }

    fn program(self) -> Result<PathBuf, Failure> {
        Ok(match self {
            Self::Direct | Self::Floor | Self::Hudsucker | Self::Engine(_) => {
                std::env::current_exe()?
            }
            Self::Oriel | Self::OrielCapture => workspace_root().join("target/release/oriel"),
            Self::Haproxy => "haproxy".into(),
            Self::Mitmproxy => "mitmdump".into(),
        })
    }

    fn add_arguments(
        self,
        command: &mut Command,
        case: &Case,
        running: &Running,
        material: &Material,
        upstream: &Upstream,
    ) -> Result<(), Failure> {
        let listen = running.address.to_string();
        match self {
            Self::Direct => {}
            Self::Floor | Self::Hudsucker | Self::Engine(_) => {
                command
                    .args(["bench-peer", self.name(), &listen])
                    .arg(material.path(""));
            }
            Self::Oriel | Self::OrielCapture => {
                command.args(["serve", "--admin", "off", "--listen", &listen]);
                command.args(["--intercept", "*.bench.test"]);
                command.arg("--ca-cert").arg(material.path("ca.pem"));
                command.arg("--ca-key").arg(material.path("ca.key"));
                command
                    .arg("--upstream-ca")
                    .arg(material.path("upstream-ca.pem"));
                if self == Self::Oriel {
                    command.arg("--no-capture");
                }
                command.env(
                    "ORIEL_CONNECT_PORTS",
                    case.target(upstream).port().to_string(),
                );
                // The settings of whoever runs the benchmark are not part of it.
                command.env("XDG_CONFIG_HOME", material.path("no-config"));
                command.current_dir(material.path(""));
            }
            Self::Haproxy => {
                let path = material.path("haproxy.cfg");
                std::fs::write(&path, haproxy_config(case, &listen, material, upstream))?;
                command.arg("-db").arg("-f").arg(path);
            }
            Self::Mitmproxy => {
                let folder = material.path("mitmproxy");
                std::fs::create_dir_all(&folder)?;
                let both = material.read("ca.key")? + &material.read("ca.pem")?;
                std::fs::write(folder.join("mitmproxy-ca.pem"), both)?;
                let roots = material.path("upstream-ca.pem");
                let port = running.address.port().to_string();
                command.args([
                    "--quiet",
                    "--listen-host",
                    "127.0.0.1",
                    "--listen-port",
                    &port,
                ]);
                command
                    .arg("--set")
                    .arg(format!("confdir={}", folder.display()));
                command.arg("--set").arg(format!(
                    "ssl_verify_upstream_trusted_ca={}",
                    roots.display()
                ));
                command.args(["--ignore-hosts", TUNNEL_NAME]);
            }
        }
        Ok(())
    }
}

impl Running {
    /// Where clients go; `None` if there is no proxy.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.child.as_ref().map(|_| self.address)
    }

    /// Whether clients speak to it as if it were the upstream.
    pub(super) fn is_reverse(&self) -> bool {
        self.proxy == Proxy::Haproxy
    }

    pub(super) fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(super) fn cpu_time(&self) -> Result<Option<CpuTime>, Failure> {
        self.process().map(CpuTime::read).transpose()
    }

    async fn wait_until_it_listens(&mut self, material: &Material) -> Result<(), Failure> {
        let deadline = Instant::now() + START_DEADLINE;
        while !can_connect(self.address).await {
            let ended = match &mut self.child {
                Some(child) => child.try_wait()?,
                None => None,
            };
            if ended.is_some() || Instant::now() > deadline {
                let log = material.read(&format!("{}.log", self.proxy.name()))?;
                let name = self.proxy.name();
                return Err(Failure::new(format!("{name} does not listen:\n{log}")));
            }
            sleep(START_POLL).await;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself, which the load has noticed.
            let _killed = child.kill();
            let _status = child.wait();
        }
        if let Some(scratch) = &self.scratch {
            // Most proxies store nothing.
            let _removed = std::fs::remove_dir_all(scratch);
        }
    }
}

/// A port that was free a moment ago. Each contestant is told its port, as not all of them can
/// say which one they got.
fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the ban is for the engine's dialler; this is a probe of our own child"
)]
async fn can_connect(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_ok()
}

fn pinned(program: &std::path::Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", PROXY_CORE]).arg(program);
    command
}

fn answers_version(program: &str, flag: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg(flag)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn haproxy_config(case: &Case, listen: &str, material: &Material, upstream: &Upstream) -> String {
    let alpn = case.alpn();
    let (identity, roots) = (
        material.path("reverse.pem"),
        material.path("upstream-ca.pem"),
    );
    format!(
        "global
    nbthread 1
    maxconn 4000
defaults
    mode http
    option http-no-delay
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind {listen} ssl crt {identity} alpn h2,http/1.1 ssl-min-ver TLSv1.3
    default_backend back
backend back
    server upstream {upstream} ssl verify required ca-file {roots} sni str({HOT_NAME}) \
         verifyhost {HOT_NAME} alpn {alpn}
",
        identity = identity.display(),
        roots = roots.display(),
        upstream = case.target(upstream),
    )
}
