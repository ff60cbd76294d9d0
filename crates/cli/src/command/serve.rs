//! `oriel serve`: the proxy in the foreground, until SIGTERM or SIGINT.

use proxy::ConnectPorts;
use store::{EndRun, NewRun, RunKind};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Serve, reachable};
use crate::clock::now;
use crate::config::keys::unknown_variables;
use crate::config::values::Redact;
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::settings::{Purpose, Settings};
use crate::wiring::{Plan, Station, start};
use crate::{logging, runtime};

/// Ports that a CONNECT request may always name.
const CONNECT_PORTS: [u16; 2] = [443, 80];

pub(crate) fn run(context: &Context, arguments: &Serve) -> Result<Exit, Problem> {
    let settings = context.settings(Purpose::Serve, arguments.layer())?;
    logging::start(context, &settings)?;
    refuse_exposure(&settings)?;
    for (name, meant) in unknown_variables(context.environment.names()) {
        tracing::warn!(
            name,
            did_you_mean = meant,
            "this variable is no setting of oriel"
        );
    }
    runtime::build()?.block_on(serve(&settings))
}

/// Off loopback the proxy demands credentials. There are none yet, so it takes a named danger.
fn refuse_exposure(settings: &Settings) -> Result<(), Problem> {
    let listen = settings.listen.value;
    if listen.0.ip().is_loopback() || settings.danger_listen_without_credentials.value {
        return Ok(());
    }
    let what =
        format!("{listen} is reachable from the network, and nobody would be asked who they are");
    Err(Problem::new("ORL0102", Exit::Permission, what)
        .why(format!(
            "proxy.listen is set so by: {}",
            settings.listen.origin
        ))
        .fix(format!(
            "listen on this machine only:  --listen 127.0.0.1:{}",
            listen.0.port()
        ))
        .fix("or accept it:                 --danger-listen-without-credentials"))
}

async fn serve(settings: &Settings) -> Result<Exit, Problem> {
    // Before anything is announced, so that a signal right after it is not lost.
    let stop = stop_signal()?;
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
    let drained = tokio::select! {
        drained = proxy.serve(stop) => drained,
        () = admin => return Err(Problem::bug("the admin port ended by itself")),
    };
    if drained.connections_cut > 0 {
        tracing::warn!(
            connections = drained.connections_cut,
            "cut what did not end in time"
        );
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

fn plan(settings: &Settings) -> Plan {
    let mut ports = CONNECT_PORTS.to_vec();
    ports.extend(&settings.connect_ports.value);
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

/// Done at the first SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()> + Send, Problem> {
    let failed =
        |error: std::io::Error| Problem::bug(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: no new connections, open ones may end");
    })
}
