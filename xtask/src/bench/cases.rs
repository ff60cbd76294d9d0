//! What is measured: the table of cases, and how one of them is run once against one proxy.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::load::{self, Aim, Seen, Way, Window};
use super::material::{HOT_NAME, Material, TUNNEL_NAME, many_names};
use super::proxies::{Proxy, Running};
use super::upstream::{DOWNLOAD_BYTES, Upstream};
use super::usage::{self, CpuTime};
use crate::failure::Failure;

const CONNECTIONS: usize = 24;
const AT_A_TIME: usize = 8;
const BYTES_PER_MEBIBYTE: u64 = 1024 * 1024;

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// How it is named on the command line and in the table.
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) front: Front,
    pub(super) load: Load,
    path: &'static str,
}

/// How the request gets to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    Intercept,
    Tunnel,
    Plain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Http1,
    Http2,
    NewConnections,
    NewNames,
    Download,
    Events,
}

/// How long and how often to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) rounds: usize,
    pub(super) warm_up: Duration,
    pub(super) length: Duration,
    pub(super) events: usize,
}

/// What one run of one case said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The proxy's CPU time per request, or per MiB of a download. Zero where there is no proxy.
    pub(super) cpu_microseconds: f64,
    pub(super) per_second: f64,
    pub(super) p50_microseconds: f64,
    pub(super) p99_microseconds: f64,
    pub(super) stalls: f64,
    pub(super) memory_mebibytes: f64,
}

const fn case(
    name: &'static str,
    about: &'static str,
    front: Front,
    load: Load,
    path: &'static str,
) -> Case {
    Case {
        name,
        about,
        front,
        load,
        path,
    }
}

pub(super) const CASES: &[Case] = &[
    case(
        "intercept-h1-1k",
        "intercepted, HTTP/1.1, 1 KiB, 24 connections kept alive",
        Front::Intercept,
        Load::Http1,
        "/1k",
    ),
    case(
        "intercept-h1-64k",
        "intercepted, HTTP/1.1, 64 KiB, 24 connections kept alive",
        Front::Intercept,
        Load::Http1,
        "/64k",
    ),
    case(
        "intercept-h2-1k",
        "intercepted, HTTP/2, 1 KiB, 24 streams on one connection",
        Front::Intercept,
        Load::Http2,
        "/1k",
    ),
    case(
        "intercept-h2-64k",
        "intercepted, HTTP/2, 64 KiB, 24 streams on one connection",
        Front::Intercept,
        Load::Http2,
        "/64k",
    ),
    case(
        "tunnel-1k",
        "tunnelled TLS, 1 KiB, 24 connections kept alive",
        Front::Tunnel,
        Load::Http1,
        "/1k",
    ),
    case(
        "tunnel-64k",
        "tunnelled TLS, 64 KiB, 24 connections kept alive",
        Front::Tunnel,
        Load::Http1,
        "/64k",
    ),
    case(
        "plain-1k",
        "plain HTTP with an absolute target, 1 KiB, 24 connections kept alive",
        Front::Plain,
        Load::Http1,
        "/1k",
    ),
    case(
        "new-hot",
        "intercepted, a new TLS connection per request to one name, 8 at a time",
        Front::Intercept,
        Load::NewConnections,
        "/1k",
    ),
    case(
        "new-names",
        "intercepted, a new TLS connection to each of 500 names, 8 at a time",
        Front::Intercept,
        Load::NewNames,
        "/1k",
    ),
    case(
        "download",
        "intercepted, HTTP/1.1, one download of 256 MiB; CPU per MiB",
        Front::Intercept,
        Load::Download,
        "/download",
    ),
    case(
        "first-event",
        "intercepted, HTTP/1.1, an event's way from upstream to client, one stream at a time",
        Front::Intercept,
        Load::Events,
        "/event",
    ),
];

impl Case {
    pub(super) fn alpn(&self) -> &'static str {
        match self.load {
            Load::Http2 => "h2",
            Load::Http1 | Load::NewConnections | Load::NewNames | Load::Download | Load::Events => {
                "http/1.1"
            }
        }
    }

    /// The upstream's address that speaks what the case asks for.
    pub(super) fn target(&self, upstream: &Upstream) -> SocketAddr {
        match (self.front, self.load) {
            (Front::Plain, _) => upstream.plain,
            (_, Load::Http2) => upstream.http2,
            _ => upstream.http1,
        }
    }

    /// Starts the proxy afresh, runs the load once, and stops the proxy.
    pub(super) async fn run(
        &self,
        proxy: Proxy,
        pace: Pace,
        material: &Material,
        upstream: &Upstream,
    ) -> Result<Sample, Failure> {
        let running = proxy.start(self, material, upstream).await?;
        let aim = self.aim(&running, material, upstream)?;
        let sample = match self.load {
            Load::Http1 | Load::Http2 | Load::NewConnections => {
                self.run_for_a_while(&aim, pace, &running).await
            }
            Load::NewNames | Load::Download | Load::Events => {
                self.run_to_the_end(&aim, pace, &running).await
            }
        };
        sample.map_err(|failure| {
            Failure::new(format!("{} with {}: {failure}", self.name, proxy.name()))
        })
    }

    fn aim(
        &self,
        running: &Running,
        material: &Material,
        upstream: &Upstream,
    ) -> Result<Aim, Failure> {
        let is_plain = self.front == Front::Plain;
        let target = self.target(upstream);
        let way = match running.address() {
            None => Way::Straight(target),
            Some(address) if running.is_reverse() => Way::Straight(address),
            Some(address) if is_plain => Way::Absolute(address),
            Some(address) => Way::Connect(address),
        };
        let name = if self.front == Front::Tunnel {
            TUNNEL_NAME
        } else {
            HOT_NAME
        };
        let tls = if is_plain {
            None
        } else {
            Some(material.load_client(self.alpn())?)
        };
        Ok(Aim {
            way,
            name: name.to_owned(),
            port: target.port(),
            path: self.path,
            tls,
        })
    }

    /// Measures within a window of time, after warming up.
    async fn run_for_a_while(
        &self,
        aim: &Aim,
        pace: Pace,
        running: &Running,
    ) -> Result<Sample, Failure> {
        let window = Window::new(pace.warm_up, pace.length);
        let load = async {
            match self.load {
                Load::Http2 => load::http2(aim, CONNECTIONS, window).await,
                Load::NewConnections => load::new_connections(aim, AT_A_TIME, window).await,
                Load::Http1 | Load::NewNames | Load::Download | Load::Events => {
                    load::http1(aim, CONNECTIONS, window).await
                }
            }
        };
        let cpu = async {
            sleep_until(window.start).await;
            let before = running.cpu_time()?;
            sleep_until(window.end).await;
            let after = running.cpu_time()?;
            Ok(nanoseconds_between(before.as_ref(), after.as_ref()))
        };
        let (seen, nanoseconds) = tokio::try_join!(load, cpu)?;
        let units = seen.latencies.len() as f64;
        Sample::new(seen, nanoseconds, units, pace.length, running)
    }

    /// Measures a load of a fixed size, after one request to warm up where that does not spoil
    /// what is measured.
    async fn run_to_the_end(
        &self,
        aim: &Aim,
        pace: Pace,
        running: &Running,
    ) -> Result<Sample, Failure> {
        if self.load != Load::NewNames {
            let small = Aim {
                path: "/1k",
                ..aim.clone()
            };
            load::new_names(&small, std::slice::from_ref(&aim.name), 1).await?;
        }
        let (before, started) = (running.cpu_time()?, Instant::now());
        let seen = match self.load {
            Load::NewNames => load::new_names(aim, &many_names(), AT_A_TIME).await?,
            Load::Download => load::download(aim).await?,
            Load::Events | Load::Http1 | Load::Http2 | Load::NewConnections => {
                load::events(aim, pace.events).await?
            }
        };
        let (after, length) = (running.cpu_time()?, started.elapsed());
        let nanoseconds = nanoseconds_between(before.as_ref(), after.as_ref());
        let units = match self.load {
            Load::Download => (DOWNLOAD_BYTES / BYTES_PER_MEBIBYTE) as f64,
            _ => seen.latencies.len() as f64,
        };
        Sample::new(seen, nanoseconds, units, length, running)
    }
}

impl Sample {
    fn new(
        mut seen: Seen,
        nanoseconds: u64,
        units: f64,
        length: Duration,
        running: &Running,
    ) -> Result<Self, Failure> {
        if seen.latencies.is_empty() {
            return Err(Failure::new("nothing was answered while it was measured"));
        }
        seen.latencies.sort_by(f64::total_cmp);
        let memory = running.process().map(usage::peak_memory).transpose()?;
        Ok(Self {
            cpu_microseconds: nanoseconds as f64 / 1e3 / units,
            per_second: units / length.as_secs_f64(),
            p50_microseconds: percentile(&seen.latencies, 50),
            p99_microseconds: percentile(&seen.latencies, 99),
            stalls: seen.stalls as f64,
            memory_mebibytes: memory.unwrap_or(0) as f64 / BYTES_PER_MEBIBYTE as f64,
        })
    }
}

fn nanoseconds_between(before: Option<&CpuTime>, after: Option<&CpuTime>) -> u64 {
    match (before, after) {
        (Some(before), Some(after)) => after.since(before),
        _ => 0,
    }
}

/// The value that this many of a hundred do not exceed. The values are sorted.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}
