//! `oriel serve`: the proxy in the foreground, until SIGTERM or SIGINT. SIGHUP, or a change of a
//! config file, has it take its configuration anew.

mod reload;
mod signals;

use proxy::ConnectPorts;
use store::{EndRun, NewRun, RunKind};
use tokio::sync::{Notify, oneshot};
use traffic::ListenAddress;
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
use crate::wiring::{AuthorityPlan, EnginePlan, Plan, Station, start};
use crate::{descriptors, logging, runtime};
use reload::Reloader;
use signals::ServiceSignals;

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
    runtime::build()?.block_on(serve(context, arguments, settings))
}

async fn serve(context: &Context, arguments: &Serve, settings: Settings) -> Result<Exit, Problem> {
    // Before anything is announced, so that a signal right after it is not lost.
    let signals = ServiceSignals::listen()?;
    let station = start(&settings, plan(&settings)).await?;
    announce(&settings, &station);
    let status = station.status();
    let reloader = Reloader::new(context, arguments, settings, &station);
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
    let reload = Notify::new();
    tokio::select! {
        drained = serving => tell_cut(drained.connections_cut),
        () = signals.stop_twice(stop, &reload) => {
            tracing::warn!("cut what was open: a second signal came");
        }
        () = admin => return Err(Problem::bug("the admin port ended by itself")),
        () = reloader.run(&reload) => return Err(Problem::bug("reloading ended by itself")),
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
    Plan {
        run: NewRun {
            name: None,
            argv: Vec::new(),
            started_at: now(),
            kind: RunKind::Serve,
        },
        authority: AuthorityPlan::Lasting,
        engine: engine_plan(settings),
    }
}

fn engine_plan(settings: &Settings) -> EnginePlan {
    let mut ports = CONNECT_PORTS.to_vec();
    ports.extend(&settings.connect_ports.value);
    // Who names a host with its port wants that port to be reached.
    let named = settings.hosts.value.iter().chain(&settings.bypass.value);
    ports.extend(named.filter_map(|text| HostPattern::parse(text).ok()?.port()));
    EnginePlan {
        connect_ports: ConnectPorts::Only(ports),
        drain: None,
        extra_roots: Vec::new(),
    }
}

/// Says where it is and what it does.
fn announce(settings: &Settings, station: &Station) {
    let proxy = station.address;
    let scheme = if settings.tls.value.is_some() {
        "https"
    } else {
        "http"
    };
    tracing::info!(
        proxy = %format!("{scheme}://{}", reachable(proxy)),
        admin = station.admin.as_ref().map(|admin| format!("http://{}", admin.local_address())),
        session = station.recording.as_ref().map(|recording| recording.run().to_string()),
        data = %settings.data_folder.value.display(),
        hosts = settings.hosts.value.len(),
        "listening on {proxy}"
    );
    let further = station.proxy.addresses().iter().skip(1);
    let reverse = settings.reverse.value.iter();
    let unix = settings.unix.value.iter().map(|_path| None);
    for (address, to) in further.zip(unix.chain(reverse.map(|reverse| Some(&reverse.to)))) {
        let to = to.map(ToString::to_string);
        tracing::info!(to, "listening on {address}");
    }
    let is_open = |address: &ListenAddress| {
        let address = address.tcp();
        address.is_some_and(|address| !address.ip().is_loopback())
    };
    let asks = settings.credentials.value.is_some() && settings.reverse.value.is_empty();
    if !asks && station.proxy.addresses().iter().any(is_open) {
        tracing::warn!("reachable from the network without credentials");
    }
    if settings.redact.value == Redact::None && station.recording.is_some() {
        tracing::warn!("credentials are stored as they came (redact = none)");
    }
    if station.recording.is_none() {
        tracing::warn!("nothing is stored (capture is off)");
    }
}
