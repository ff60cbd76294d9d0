//! `oriel serve`: the proxy in the foreground, until SIGTERM or SIGINT. SIGHUP, or a change of a
//! config file, has it take its configuration anew.

pub(crate) mod reload;
mod signals;

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proxy::{ConnectPorts, Control};
use store::{EndRun, NewRun, RunKind, TextIndexer};
use traffic::ListenAddress;
use traffic::rules::pattern::HostPattern;

use crate::admin::{Admin, Status};
use crate::args::Serve;
use crate::child_env::reachable;
use crate::clock::now;
use crate::config::keys::unknown_variables;
use crate::config::values::Redact;
use crate::context::Context;
use crate::exit::Exit;
use crate::limits::KILL_AFTER;
use crate::listeners::upstreams;
use crate::output::print_json;
use crate::problem::Problem;
use crate::retention::Retention;
use crate::service::control::{ControlSocket, Desk};
use crate::service::handover::{self, Other, Sockets, Word};
use crate::service::lock::ServiceLock;
use crate::service::log_file::LogFile;
use crate::service::notify::Notifier;
use crate::service::orders::Orders;
use crate::service::succession::{Launch, Succession};
use crate::service::{Place, inherited};
use crate::settings::{Purpose, Settings};
use crate::store_problem::store_problem;
use crate::wiring::{AuthorityPlan, EnginePlan, Plan, Recording, Station, start};
use crate::{authority, descriptors, logging, runtime};
use reload::Reloader;
use signals::ServiceSignals;

/// Ports that a CONNECT request may always name.
const CONNECT_PORTS: [u16; 2] = [443, 80];

/// What surrounds a service.
enum Stance {
    /// A terminal or a service manager: it has our stderr, and our stdout means nothing.
    Foreground,
    /// Nobody: what we say goes into this log. Whoever started us waits at stdout for the line that
    /// says how we are, and shows what we said on stderr until then.
    Detached(Arc<LogFile>),
}

/// What a service has from before it serves.
struct Standing {
    /// Only who has it is the service that can be asked.
    lock: Option<ServiceLock>,
    control: Option<UnixListener>,
    sockets: Sockets,
    /// The process whose place is taken.
    before: Option<Arc<Other>>,
}

/// Serves in the foreground.
pub(crate) fn run(context: &Context, arguments: &Serve) -> Result<Exit, Problem> {
    let before = predecessor(arguments)?;
    let served = serve_in_foreground(context, arguments, before.clone());
    tell_failure(before.as_deref(), served)
}

/// Serves without a terminal. If another service runs, `null` is printed in place of a status.
pub(crate) fn run_detached(context: &Context, arguments: &Serve) -> Result<Exit, Problem> {
    // A child is no leader of its process group yet, so this cannot fail; and if it did, the service
    // would end with the terminal.
    let _session = rustix::process::setsid();
    let before = predecessor(arguments)?;
    let served = serve_detached(context, arguments, before.clone());
    tell_failure(before.as_deref(), served)
}

fn predecessor(arguments: &Serve) -> Result<Option<Arc<Other>>, Problem> {
    let other = arguments.take_over.then(Other::at_stdin).transpose();
    let other = other.map_err(|error| Problem::bug(format!("stdin is no service: {error}")))?;
    Ok(other.map(Arc::new))
}

/// The process whose place was to be taken goes on, and says why.
fn tell_failure(before: Option<&Other>, served: Result<Exit, Problem>) -> Result<Exit, Problem> {
    if let (Some(before), Err(problem)) = (before, &served) {
        // It has gone, or we served before and it has what it waited for.
        let _gone = before.say(&Word::Failed(problem.document()));
    }
    served
}

fn serve_in_foreground(
    context: &Context,
    arguments: &Serve,
    before: Option<Arc<Other>>,
) -> Result<Exit, Problem> {
    let settings = context.settings(Purpose::Serve, arguments.layer())?;
    logging::start(context, &settings)?;
    let standing = match before {
        Some(before) => Standing::take_over(before)?,
        None => {
            let lock = ServiceLock::take(&Place::of(&context.paths)).unwrap_or_else(|problem| {
                tracing::warn!(
                    why = problem.why,
                    "{}: oriel status does not see this service",
                    problem.what
                );
                None
            });
            if lock.is_none() {
                tracing::debug!("another service is the one that oriel status shows");
            }
            Standing::new(lock, &settings)
        }
    };
    serve_on(context, arguments, settings, Stance::Foreground, standing)
}

fn serve_detached(
    context: &Context,
    arguments: &Serve,
    before: Option<Arc<Other>>,
) -> Result<Exit, Problem> {
    let settings = context.settings(Purpose::Serve, arguments.layer())?;
    let place = Place::of(&context.paths);
    let standing = match before {
        Some(before) => Standing::take_over(before)?,
        None => match ServiceLock::take(&place)? {
            Some(lock) => Standing::new(Some(lock), &settings),
            None => {
                print_json(&serde_json::Value::Null)?;
                return Ok(Exit::Success);
            }
        },
    };
    let log =
        LogFile::open(&place.log).map_err(|error| authority::unwritable(&place.log, &error))?;
    let log = Arc::new(log);
    logging::start_in_file(context, &settings, Arc::clone(&log))?;
    let stance = Stance::Detached(log);
    serve_on(context, arguments, settings, stance, standing).inspect_err(|problem| {
        tracing::error!(code = problem.code, why = problem.why, "{}", problem.what);
    })
}

impl Standing {
    fn new(lock: Option<ServiceLock>, settings: &Settings) -> Self {
        Self {
            lock,
            control: None,
            sockets: inherited::sockets(settings),
            before: None,
        }
    }

    fn take_over(before: Arc<Other>) -> Result<Self, Problem> {
        let (office, sockets) = handover::take(before.stream()).map_err(|error| {
            Problem::bug(format!(
                "cannot take over from the running service: {error}"
            ))
        })?;
        Ok(Self {
            lock: Some(ServiceLock::handed(office.lock)),
            control: Some(office.control),
            sockets,
            before: Some(before),
        })
    }
}

fn serve_on(
    context: &Context,
    arguments: &Serve,
    settings: Settings,
    stance: Stance,
    standing: Standing,
) -> Result<Exit, Problem> {
    for (name, meant) in unknown_variables(context.environment.names()) {
        tracing::warn!(
            name,
            did_you_mean = meant,
            "this variable is no setting of oriel"
        );
    }
    descriptors::raise_limit();
    runtime::build()?.block_on(serve(context, arguments, settings, stance, standing))
}

async fn serve(
    context: &Context,
    arguments: &Serve,
    settings: Settings,
    stance: Stance,
    standing: Standing,
) -> Result<Exit, Problem> {
    // Before anything is announced, so that a signal right after it is not lost.
    let signals = ServiceSignals::listen(&stance)?;
    let notifier = Arc::new(Notifier::of(&context.environment));
    let orders = Orders::new();
    let Standing {
        lock,
        control,
        sockets,
        before,
    } = standing;
    let station = start(&settings, plan(&settings, sockets)).await?;
    let status = Arc::new(stance.status(&station, &settings));
    announce(&settings, &station);
    let retention = Retention::start(&settings)?;
    let reloader = Reloader::new(context, arguments, settings, &station);
    let Station {
        proxy,
        admin,
        recording,
        ..
    } = station;
    let admin = admin.map(Arc::new);
    let succession = lock.map(|lock| {
        let engine = proxy.control();
        succession(context, lock, control, engine, admin.clone())
    });
    let succession = succession.transpose()?.map(Arc::new);
    let can_be_replaced = matches!(stance, Stance::Detached(_)) || notifier.is_managed();
    let beside = Beside {
        admin,
        control: succession.as_ref().map(|next| Arc::clone(&next.control)),
        reloader,
        desk: Desk {
            status: Arc::clone(&status),
            orders: orders.clone(),
            notifier: Arc::clone(&notifier),
            succession: succession.clone().filter(|_| can_be_replaced),
        },
    };
    let _indexer = recording.as_ref().map(index_texts).transpose()?;
    stance.tell_ready(&status.to_json(), before.as_deref(), succession.as_deref())?;
    if before.is_none() {
        notifier.ready();
    }
    tokio::select! {
        drained = proxy.serve_until(stopping(&orders, &notifier)) => tell_cut(drained.connections_cut),
        () = orders.cut() => tracing::warn!("cut what was open: it was said twice"),
        () = signals.pass_on(&orders) => return Err(Problem::bug("signals ended by themselves")),
        ended = beside.run() => return Err(Problem::bug(format!("{ended} ended by itself"))),
    }
    if let Some(before) = before.filter(|_| !orders.is_replaced()) {
        end_other(before).await;
    }
    drop(retention);
    if let Some(recording) = recording {
        recording.end(EndRun {
            ended_at: now(),
            exit_code: None,
            signal: None,
        })?;
    }
    tracing::info!("stopped");
    // Whoever waits for our end waits for what was queued as well.
    drop(succession);
    Ok(Exit::Success)
}

/// What a service does beside serving traffic.
struct Beside<'a> {
    admin: Option<Arc<Admin>>,
    control: Option<Arc<ControlSocket>>,
    reloader: Reloader<'a>,
    desk: Desk,
}

impl Beside<'_> {
    /// Does it until another process takes over; says what ended by itself.
    async fn run(self) -> &'static str {
        let Self {
            admin,
            control,
            reloader,
            desk,
        } = self;
        let (orders, notifier) = (&desk.orders, &desk.notifier);
        let admin = async {
            match &admin {
                Some(admin) => admin.serve(Arc::clone(&desk.status)).await,
                None => std::future::pending().await,
            }
        };
        let control = async {
            match &control {
                Some(control) => control.serve(&desk).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = admin => "the admin port",
            () = control => "the control socket",
            () = notifier.keep_alive() => "the watchdog",
            () = reloader.run(orders, notifier) => "reloading",
            // Another process does all that from now on.
            () = orders.replaced() => std::future::pending().await,
        }
    }
}

/// Waits for the order to stop, and says how long open connections may take to end.
async fn stopping(orders: &Orders, notifier: &Notifier) -> Option<Duration> {
    let drain = orders.stopped().await;
    if !orders.is_replaced() {
        tracing::info!("stopping: no new connections, open ones may end");
        notifier.stopping();
    }
    drain
}

/// What the next process takes over. Only who has the lock can hand it on.
fn succession(
    context: &Context,
    lock: ServiceLock,
    control: Option<UnixListener>,
    engine: Control,
    admin: Option<Arc<Admin>>,
) -> Result<Succession, Problem> {
    let place = Place::of(&context.paths);
    let launch = Launch::of_process()
        .map_err(|error| Problem::bug(format!("cannot tell which program this is: {error}")))?;
    Ok(Succession {
        launch,
        engine,
        admin,
        control: Arc::new(match control {
            Some(socket) => ControlSocket::handed(&place, socket)?,
            None => ControlSocket::bind(&place)?,
        }),
        lock: Mutex::new(Some(lock)),
    })
}

/// Indexes texts while nothing else is to do, as long as what this gives lives.
fn index_texts(recording: &Recording) -> Result<TextIndexer, Problem> {
    TextIndexer::spawn(recording.database().to_owned()).map_err(|error| store_problem(&error))
}

/// Ends the process before this one, which may still serve what was open when this one took over.
async fn end_other(before: Arc<Other>) {
    let ending = tokio::task::spawn_blocking(move || before.end(KILL_AFTER));
    if let Ok(Err(error)) = ending.await {
        tracing::debug!(%error, "the process before this one has ended, or does not");
    }
}

impl Stance {
    /// How the service is, and where its log is.
    fn status(&self, station: &Station, settings: &Settings) -> Status {
        let mut status = station.status(settings);
        if let Self::Detached(log) = self {
            status.log = Some(log.path().to_owned());
        }
        status
    }

    /// Tells whoever waits for it how we are, and lets go of them.
    fn tell_ready(
        &self,
        status: &serde_json::Value,
        before: Option<&Other>,
        succession: Option<&Succession>,
    ) -> Result<(), Problem> {
        let wrong = |error: std::io::Error| Problem::bug(format!("cannot detach: {error}"));
        if let (Some(before), Some(succession)) = (before, succession) {
            succession.assume_office().map_err(wrong)?;
            before.say(&Word::Serves(status.clone())).map_err(wrong)?;
        }
        let Self::Detached(log) = self else {
            return Ok(());
        };
        if before.is_none() {
            // They may have lost patience: we serve all the same.
            let _gone = print_json(status);
        }
        let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null");
        rustix::stdio::dup2_stdout(nowhere.map_err(wrong)?).map_err(|error| wrong(error.into()))?;
        log.take_stderr().map_err(wrong)
    }
}

fn tell_cut(connections: usize) {
    if connections > 0 {
        tracing::warn!(connections, "cut what did not end in time");
    }
}

fn plan(settings: &Settings, sockets: Sockets) -> Plan {
    Plan {
        run: NewRun {
            name: None,
            argv: Vec::new(),
            started_at: now(),
            kind: RunKind::Serve,
        },
        authority: AuthorityPlan::Lasting,
        engine: engine_plan(settings),
        sockets,
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
        spooling = station.recording.as_ref().and_then(Recording::detour),
        "listening on {proxy}"
    );
    let further = station.proxy.addresses().iter().skip(1);
    for (address, to) in further.zip(upstreams(settings).skip(1)) {
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
    if !settings.excluded_hosts.value.is_empty() && station.recording.is_some() {
        let hosts = settings.excluded_hosts.value.join(", ");
        tracing::info!(
            hosts,
            "nothing is stored of some hosts (capture.excluded_hosts)"
        );
    }
    if station.recording.is_none() {
        tracing::warn!("nothing is stored (capture is off)");
    }
}
