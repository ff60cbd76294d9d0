//! What is measured: the table of cases, and how one of them is run once against one proxy.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::awake::Awake;
use super::load::{self, Aim, Seen, Way, Window};
use super::material::{HOT_NAME, Material, TUNNEL_NAME};
use super::proxies::{Proxy, Running};
use super::upstream::{DOWNLOAD_BYTES, Upstream};
use super::usage::{self, CpuTime};
use crate::failure::Failure;

const STREAMS: usize = 100;
const IDLE_CONNECTIONS: usize = 10_000;
/// More at a time than elsewhere: it is not the handshakes that are measured.
const IDLE_AT_A_TIME: usize = 64;
/// After which a connection that has nothing to do holds what an idle one holds.
const SETTLED: Duration = Duration::from_secs(2);
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
    /// As `NewNames`, with the key exchange that the proxy likes best.
    NewNamesAnyKey,
    Download,
    Events,
    Streams,
    Idle,
    Messages,
    /// As `Http1`, on the engine as a library with handlers.
    Handlers,
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
    /// What the case measures besides; see [`Case::further`].
    pub(super) further: f64,
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
        "new-bodies-64k",
        "as intercept-h1-64k, each answer a text that was not there before",
        Front::Intercept,
        Load::Http1,
        "/64k-new",
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
        "new-names-any-key",
        "as new-names, with an upstream that takes the key exchange which the proxy likes best: \
         X25519MLKEM768 with oriel, X25519 with the others",
        Front::Intercept,
        Load::NewNamesAnyKey,
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
    case(
        "sse-100",
        "intercepted, HTTP/1.1, 100 streams at once with an event every 20 ms; CPU and way per event",
        Front::Intercept,
        Load::Streams,
        "/events",
    ),
    case(
        "idle-10k",
        "intercepted, HTTP/1.1, 10,000 connections that have asked once and wait; CPU per connection",
        Front::Intercept,
        Load::Idle,
        "/1k",
    ),
    case(
        "ws-echo",
        "intercepted, a text message of 1 KiB and its echo, 24 WebSockets; CPU per pair",
        Front::Intercept,
        Load::Messages,
        "/websocket",
    ),
    case(
        "handlers",
        "intercepted, HTTP/1.1, 1 KiB, 24 connections, the engine with handlers",
        Front::Intercept,
        Load::Handlers,
        "/1k",
    ),
];

impl Case {
    pub(super) fn alpn(&self) -> &'static str {
        match self.load {
            Load::Http2 => "h2",
            Load::Http1
            | Load::NewConnections
            | Load::NewNames
            | Load::NewNamesAnyKey
            | Load::Download
            | Load::Events
            | Load::Streams
            | Load::Idle
            | Load::Messages
            | Load::Handlers => "http/1.1",
        }
    }

    /// What is measured besides the figures that all cases have.
    pub(super) fn further(&self) -> Option<&'static str> {
        match self.load {
            Load::Streams => Some("first event p50 µs"),
            Load::Idle => Some("bytes each"),
            Load::Http1
            | Load::Http2
            | Load::NewConnections
            | Load::NewNames
            | Load::NewNamesAnyKey
            | Load::Download
            | Load::Events
            | Load::Messages
            | Load::Handlers => None,
        }
    }

    /// How often it is run.
    pub(super) fn rounds(&self, pace: Pace) -> usize {
        match self.load {
            // What a connection holds does not depend on the moment.
            Load::Idle => 1,
            // What a handler adds is less than what one process of a program differs from the next.
            Load::Handlers => pace.rounds * 3,
            _ => pace.rounds,
        }
    }

    /// The upstream's address that speaks what the case asks for.
    pub(super) fn target(&self, upstream: &Upstream) -> SocketAddr {
        match (self.front, self.load) {
            (Front::Plain, _) => upstream.plain,
            (_, Load::Http2) => upstream.http2,
            (_, Load::NewNamesAnyKey) => upstream.any_key_exchange,
            _ => upstream.http1,
        }
    }

    /// Whether contestants take turns in short succession. Others are measured one after the other.
    pub(super) fn takes_turns(&self) -> bool {
        !matches!(self.load, Load::Download | Load::Streams | Load::Idle)
    }

    /// What keeps the cores awake while the case runs, where delays are measured.
    pub(super) fn keep_awake(&self) -> Result<Option<Awake>, Failure> {
        match self.load {
            Load::Events | Load::Streams => Awake::keep().map(Some),
            _ => Ok(None),
        }
    }

    /// Starts the proxy afresh, runs the load once, and stops the proxy.
    pub(super) async fn run_alone(
        &self,
        proxy: Proxy,
        pace: Pace,
        material: &Material,
        upstream: &Upstream,
    ) -> Result<Sample, Failure> {
        let running = proxy.start(self, material, upstream).await?;
        let aim = self.aim(&running, material, upstream)?;
        let sample = match self.load {
            Load::Streams => run_streams(&aim, pace, &running).await,
            Load::Idle => run_idle(&aim, &running).await,
            _ => run_download(&aim, &running).await,
        };
        sample.map_err(|failure| self.failed_with(proxy, &failure))
    }

    pub(super) fn failed_with(&self, proxy: Proxy, failure: &Failure) -> Failure {
        Failure::new(format!("{} with {}: {failure}", self.name, proxy.name()))
    }

    pub(super) fn aim(
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
}

/// Measures streams within a window of time, after warming up.
async fn run_streams(aim: &Aim, pace: Pace, running: &Running) -> Result<Sample, Failure> {
    // They are to begin together, so their connections stand before.
    let wires = load::open_all(aim, STREAMS).await?;
    let window = Window::new(pace.warm_up, pace.length);
    let cpu = async {
        sleep_until(window.start).await;
        let before = running.cpu_time()?;
        sleep_until(window.end).await;
        let after = running.cpu_time()?;
        Ok(CpuTime::between(before.as_ref(), after.as_ref()))
    };
    let (seen, nanoseconds) = tokio::try_join!(load::streams(aim, wires, window), cpu)?;
    let units = seen.latencies.len() as f64;
    Sample::new(seen, nanoseconds, units, pace.length, running)
}

/// Measures one download, after one request to warm up.
async fn run_download(aim: &Aim, running: &Running) -> Result<Sample, Failure> {
    let small = Aim {
        path: "/1k",
        ..aim.clone()
    };
    load::new_names(&small, std::slice::from_ref(&aim.name)).await?;
    let (before, started) = (running.cpu_time()?, Instant::now());
    let seen = load::download(aim).await?;
    let (after, length) = (running.cpu_time()?, started.elapsed());
    let nanoseconds = CpuTime::between(before.as_ref(), after.as_ref());
    let units = (DOWNLOAD_BYTES / BYTES_PER_MEBIBYTE) as f64;
    Sample::new(seen, nanoseconds, units, length, running)
}

/// Measures what a connection costs that has nothing to do.
async fn run_idle(aim: &Aim, running: &Running) -> Result<Sample, Failure> {
    let Some(process) = running.process() else {
        return Err(Failure::new("there is no process to measure"));
    };
    load::new_names(aim, std::slice::from_ref(&aim.name)).await?;
    let memory = usage::current_memory(process)?;
    let (before, started) = (running.cpu_time()?, Instant::now());
    let (seen, wires) = load::ask_and_keep(aim, IDLE_CONNECTIONS, IDLE_AT_A_TIME).await?;
    let (after, length) = (running.cpu_time()?, started.elapsed());
    sleep_until(Instant::now() + SETTLED).await;
    let added = usage::current_memory(process)?.saturating_sub(memory);
    drop(wires);
    let nanoseconds = CpuTime::between(before.as_ref(), after.as_ref());
    let units = IDLE_CONNECTIONS as f64;
    let mut sample = Sample::new(seen, nanoseconds, units, length, running)?;
    sample.further = added as f64 / units;
    Ok(sample)
}

impl Sample {
    pub(super) fn new(
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
        seen.firsts.sort_by(f64::total_cmp);
        let memory = running.process().map(usage::peak_memory).transpose()?;
        Ok(Self {
            cpu_microseconds: nanoseconds as f64 / 1e3 / units,
            per_second: units / length.as_secs_f64(),
            p50_microseconds: percentile(&seen.latencies, 50),
            p99_microseconds: percentile(&seen.latencies, 99),
            stalls: seen.stalls as f64,
            memory_mebibytes: memory.unwrap_or(0) as f64 / BYTES_PER_MEBIBYTE as f64,
            further: percentile(&seen.firsts, 50),
        })
    }
}

/// The value that this many of a hundred do not exceed. The values are sorted.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}
