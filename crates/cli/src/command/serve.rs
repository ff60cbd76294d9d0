//! `oriel serve`: the proxy in the foreground, until SIGTERM, SIGINT or SIGHUP.

use proxy::ConnectPorts;
use store::{EndRun, NewRun, RunKind};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use traffic::rules::pattern::HostPattern;

use crate::args::Serve;
use crate::child_env::reachable;
use crate::clock::now;
use crate::config::keys::unknown_variables;
use crate::config::values::Redact;
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::settings::{Purpose, Settings};
use crate::wiring::{Plan, Station, start};
use crate::{descriptors, logging, runtime};

/// Ports that a CONNECT request may always name.
const CONNECT_PORTS: [u16; 2] = [443, 80];

pub(crate) fn run(context: &Context, arguments: &Serve) -> Result<Exit, Problem> {
    let settings = context.settings(Purpose::Serve, arguments.layer())?;
    logging::start(context, &settings)?;
    for (name, meant) in unknown_variables(context.environment.names()) {
        tracing::warn!(
            name,
            did_you_mean = meant,
            "this variable is no setting of oriel"
        );
    }
    descriptors::raise_limit();
    runtime::build()?.block_on(serve(&settings))
}

async fn serve(settings: &Settings) -> Result<Exit, Problem> {
    // Before anything is announced, so that a signal right after it is not lost.
    let signals = StopSignals::listen()?;
    let station = start(settings, plan(settings)).await?;
    announce(settings, &station);
    let status = station.status();
    let Station {
        proxy,
        admin,
        recording,
        ..
    } = station;
    let admin = async {
        match admin {
            Some(admin) => admin.serve(status).await,
            None => std::future::pending().await,
        }
    };
    let (stop, stopped) = oneshot::channel();
    let serving = proxy.serve(async {
        // Stops as well if the other end is dropped.
        let _stopped = stopped.await;
    });
    tokio::select! {
        drained = serving => tell_cut(drained.connections_cut),
        () = signals.twice(stop) => tracing::warn!("cut what was open: a second signal came"),
        () = admin => return Err(Problem::bug("the admin port ended by itself")),
    }
    if let Some(recording) = recording {
        recording.end(EndRun {
            ended_at: now(),
            exit_code: None,
            signal: None,
        })?;
    }
    tracing::info!("stopped");
    Ok(Exit::Success)
}

fn tell_cut(connections: usize) {
    if connections > 0 {
        tracing::warn!(connections, "cut what did not end in time");
    }
}

fn plan(settings: &Settings) -> Plan {
    let mut ports = CONNECT_PORTS.to_vec();
    ports.extend(&settings.connect_ports.value);
    // Who names a host with its port wants that port to be reached.
    let named = settings.hosts.value.iter().chain(&settings.bypass.value);
    ports.extend(named.filter_map(|text| HostPattern::parse(text).ok()?.port()));
    Plan {
        run: NewRun {
            name: None,
            argv: Vec::new(),
            started_at: now(),
            kind: RunKind::Serve,
        },
        connect_ports: ConnectPorts::Only(ports),
        drain: None,
        extra_roots: Vec::new(),
    }
}

/// Says where it is and what it does.
fn announce(settings: &Settings, station: &Station) {
    let proxy = station.proxy.local_address();
    tracing::info!(
        proxy = %format!("http://{}", reachable(proxy)),
        admin = station.admin.as_ref().map(|admin| format!("http://{}", admin.local_address())),
        session = station.recording.as_ref().map(|recording| recording.run().to_string()),
        data = %settings.data_folder.value.display(),
        hosts = settings.hosts.value.len(),
        "listening on {proxy}"
    );
    if !proxy.ip().is_loopback() {
        tracing::warn!("reachable from the network without credentials");
    }
    if settings.redact.value == Redact::None && station.recording.is_some() {
        tracing::warn!("credentials are stored as they came (redact = none)");
    }
    if station.recording.is_none() {
        tracing::warn!("nothing is stored (capture is off)");
    }
}

/// The signals that end a service: of a service manager, of a terminal, of a terminal that closes.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self, Problem> {
        let listen = |kind: SignalKind| {
            signal(kind)
                .map_err(|error| Problem::bug(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Asks to stop at the first, and is done at the second: then nobody wants to wait.
    async fn twice(mut self, stop: oneshot::Sender<()>) {
        self.next().await;
        tracing::info!("stopping: no new connections, open ones may end");
        drop(stop);
        self.next().await;
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
