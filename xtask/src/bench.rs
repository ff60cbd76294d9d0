//! `cargo xtask bench`: what it costs to send traffic through oriel, beside the same traffic sent
//! direct, through the least a proxy can do, and through other proxies, all in one run.
//!
//! The command first builds the release binaries, then starts itself again as one of them, pinned
//! to one core and with a hosts file of its own that sends test names to loopback. That process
//! is load and upstream; each proxy is a process on the other core.

mod awake;
mod cases;
mod engine;
mod floor;
mod library;
mod load;
mod material;
mod proxies;
mod table;
mod turns;
mod upstream;
mod usage;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use self::cases::{CASES, Case, Pace, Sample};
use self::material::Material;
use self::proxies::{PROXIES, Proxy};
use self::table::Row;
use self::upstream::Upstream;
use crate::ci::{cargo, gate};
use crate::console;
use crate::failure::Failure;
use crate::tidy::workspace_root;

const LOAD_CORE: &str = "0";
const PROXY_CORE: &str = "1";

const FULL: Pace = Pace {
    rounds: 9,
    warm_up: Duration::from_millis(400),
    length: Duration::from_millis(1000),
    events: 200,
};
const QUICK: Pace = Pace {
    rounds: 3,
    warm_up: Duration::from_millis(200),
    length: Duration::from_millis(500),
    events: 50,
};

/// What was asked for.
#[derive(Debug)]
struct Options {
    pace: Pace,
    cases: Vec<&'static Case>,
    proxies: Vec<Proxy>,
    write: Option<PathBuf>,
}

/// Builds, and starts the release binary of this program for the rest.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failure> {
    // A mistake should show before the minutes of building.
    parse(arguments)?;
    if std::thread::available_parallelism()?.get() < 2 {
        return Err(Failure::new(
            "the benchmark needs two cores: one for the proxy alone",
        ));
    }
    let root = workspace_root();
    gate(
        "build oriel",
        cargo(&["build", "--release", "--package", "oriel"]),
    )?;
    gate(
        "build xtask",
        cargo(&["build", "--release", "--package", "xtask"]),
    )?;
    let hosts = Material::write_hosts(&root.join("target/bench"))?;
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command
        .arg(hosts)
        .args(["taskset", "--cpu-list", LOAD_CORE]);
    command
        .arg(root.join("target/release/xtask"))
        .arg("bench-run")
        .args(arguments);
    gate("bench", command)
}

/// Measures. Runs in the pinned process.
pub(crate) fn run_pinned(arguments: &[&str]) -> Result<(), Failure> {
    let options = parse(arguments)?;
    allow_descriptors()?;
    let rows = runtime()?.block_on(measure(&options))?;
    let results = table::results(&rows);
    let goals = table::goals(&rows);
    console::say(&format!("{results}### Goals\n\n{goals}"));
    if let Some(path) = &options.write {
        let text = document(arguments, &options, &results, &goals)?;
        std::fs::write(workspace_root().join(path), text)?;
    }
    Ok(())
}

/// Is one of the contestants that live in this program. Runs in a process of its own.
pub(crate) fn run_peer(name: &str, listen: &str, folder: &str) -> Result<(), Failure> {
    let listen: SocketAddr = listen.parse()?;
    let material = Material::open(Path::new(folder));
    allow_descriptors()?;
    if name == "floor" {
        return runtime()?.block_on(floor::serve(listen, &material));
    }
    // As hudsucker's own example and as oriel: a worker per core it may use.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match (name, engine::Handling::named(name)) {
        ("hudsucker", _) => runtime.block_on(library::serve(listen, &material)),
        (_, Some(handling)) => runtime.block_on(engine::serve(listen, &material, handling)),
        _ => Err(Failure::new(format!("no contestant {name}"))),
    }
}

/// Is one of the processes that keep a core from sleeping.
pub(crate) fn run_awake() {
    awake::spin();
}

/// Raises the number of files that may be open as far as it may be raised.
fn allow_descriptors() -> Result<(), Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

async fn measure(options: &Options) -> Result<Vec<Row>, Failure> {
    let folder = workspace_root().join("target/bench");
    let (material, identity) = Material::make(&folder)?;
    let upstream = Upstream::start(&identity).await?;
    let mut rows = Vec::new();
    for &case in &options.cases {
        let able = options
            .proxies
            .iter()
            .copied()
            .filter(|proxy| proxy.can(case));
        let mut of_case: Vec<Row> = able
            .map(|proxy| Row {
                case,
                proxy,
                samples: Vec::new(),
            })
            .collect();
        for round in 1..=case.rounds(options.pace) {
            console::complain(&format!("{} round {round}", case.name));
            let mut taking_part: Vec<&mut Row> = of_case
                .iter_mut()
                .filter(|row| round <= row.proxy.rounds_max())
                .collect();
            // Who was started sooner has other memory.
            let first = round % taking_part.len().max(1);
            taking_part.rotate_left(first);
            let proxies: Vec<Proxy> = taking_part.iter().map(|row| row.proxy).collect();
            let samples = measure_once(case, &proxies, options.pace, &material, &upstream).await?;
            for (row, sample) in taking_part.iter_mut().zip(samples) {
                row.samples.push(sample);
            }
        }
        rows.append(&mut of_case);
    }
    Ok(rows)
}

/// Runs a case once against each of these proxies: side by side, or else one after the other, so that
/// a slow minute of the machine hits them alike.
async fn measure_once(
    case: &Case,
    proxies: &[Proxy],
    pace: Pace,
    material: &Material,
    upstream: &Upstream,
) -> Result<Vec<Sample>, Failure> {
    let _awake = case.keep_awake()?;
    if case.takes_turns() {
        return turns::round(case, proxies, pace, material, upstream).await;
    }
    let mut samples = Vec::new();
    for &proxy in proxies {
        samples.push(case.run_alone(proxy, pace, material, upstream).await?);
    }
    Ok(samples)
}

fn parse(arguments: &[&str]) -> Result<Options, Failure> {
    let mut pace = FULL;
    let mut rounds = None;
    let mut write = None;
    let mut only = Vec::new();
    let mut with = Vec::new();
    let mut words = arguments.iter().copied();
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .ok_or_else(|| Failure::new(format!("{word} what?")))
        };
        match word {
            "--quick" => pace = QUICK,
            "--rounds" => rounds = Some(value()?.parse()?),
            "--only" => only.push(value()?),
            "--proxy" => with.push(value()?),
            "--write" => write = Some(PathBuf::from(value()?)),
            _ => return Err(Failure::new(format!("do not know `{word}`"))),
        }
    }
    if let Some(rounds) = rounds {
        pace.rounds = rounds;
    }
    let is_wanted = |case: &&Case| only.is_empty() || only.contains(&case.name);
    let cases: Vec<&Case> = CASES.iter().filter(is_wanted).collect();
    if cases.len() < only.len() || cases.is_empty() {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        return Err(Failure::new(format!("the cases are {}", names.join(", "))));
    }
    let is_with = |proxy: &Proxy| with.is_empty() || with.contains(&proxy.name());
    let proxies = PROXIES.iter().copied().filter(is_with);
    Ok(Options {
        pace,
        cases,
        proxies: proxies.filter(|proxy| proxy.is_there()).collect(),
        write,
    })
}

fn document(
    arguments: &[&str],
    options: &Options,
    results: &str,
    goals: &str,
) -> Result<String, Failure> {
    let absent: Vec<&str> = PROXIES
        .iter()
        .filter(|proxy| !options.proxies.contains(proxy))
        .map(|proxy| proxy.name())
        .collect();
    let absent = if absent.is_empty() {
        String::new()
    } else {
        format!(
            "Not measured, as not installed (CONTRIBUTING.md says how) or not asked for: {}.\n\n",
            absent.join(", ")
        )
    };
    Ok(format!(
        "# Performance

This file is written by

    cargo xtask bench {command}

on {machine}. {rounds} rounds; medians, and of ratios and \
differences the median of what each round says by itself. In a round all contestants run side by side, and \
each is loaded for a tenth of a second at a time while the others wait, so that all get the same of a machine \
that is faster in one second than in the next, and the order of the turns changes, so that each follows each \
other as often; `handlers` has three times as many rounds, for its figure is small; `download`, `sse-100` and `idle-10k` take them one after the \
other. Load and upstream share one core, the proxy has the other. TLS 1.3 with X25519, AES-128-GCM and verified certificates on both \
sides, everything on loopback. `floor` is the least an intercepting proxy can do: TLS in, TLS out, no HTTP read; with \
`tunnel-…` it copies bytes. With capture on, the \
transactions are measured, the index of texts is not: it is made when nothing comes. Answers are the same each \
time, and stored once; what new ones cost is in `new-bodies-64k`. haproxy stands as a reverse proxy that ends TLS; it and \
mitmproxy take part in the first three rounds alone. `engine` is oriel's \
engine as a library, without the program around it.

CPU is the time of all threads of the proxy, kernel included, per request, or per event, message \
or connection where the case is about those. It is the figure to \
trust, and only as a ratio within one run. Requests per second are bounded by the core that load \
and upstream share. A stall is a request of 35 ms or more. While the ways of events are measured \
(`first-event`, `sse-100`), a process of the idle class keeps each core from sleeping: to be woken by \
the host of a virtual machine takes longer than what is measured.

{absent}## Goals

{goals}
## Measurements

{results}",
        command = arguments.join(" "),
        machine = machine()?,
        rounds = options.pace.rounds,
    ))
}

/// Processor, cores and kernel.
fn machine() -> Result<String, Failure> {
    let processors = std::fs::read_to_string("/proc/cpuinfo")?;
    let value_of = |key: &str| {
        let line = processors.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim())
    };
    let model = value_of("model name").unwrap_or("an unnamed processor");
    let cores = processors
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{cores} cores of {model}, Linux {}", kernel.trim()))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}
