//! Joins the crates: settings become an engine and a store, and what the engine reports goes to
//! the store. The one place that knows both.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proxy::tls::identity::Identity;
use proxy::tls::upstream_side::TrustError;
use proxy::{
    Authority, BindError, ConnectPorts, Proxy, ProxyConfig, ReadStreams, ReloadError,
    UpstreamTrust, Watcher,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use store::{
    EndRun, NewRun, Reader, Recorder, RunId, RunSummary, Shipper, Store, StoreError, StoreOptions,
};
use traffic::rules::capture::{BodyLimit, CaptureRules, MediaPattern};
use traffic::rules::pattern::HostPatterns;
use traffic::rules::private::{self, DialGuard};
use traffic::rules::route::{self, RouteConfig, Rules};
use traffic::{CertificateRefused, Event, ListenAddress};

use crate::admin::{Admin, Status};
use crate::archive;
use crate::authority::load_for_use;
use crate::clock::now;
use crate::config::file::{self, ClientCertificate};
use crate::config::layer::{Origin, Setting};
use crate::config::values::{
    AdminListen, AutoBypass, Overflow, PrivateReach, SniMismatch, TlsVersion, Unlisted,
};
use crate::downloads::{self, Download, Shelf};
use crate::exit::Exit;
use crate::gateways::{self, gateways};
use crate::limits::OVERFLOW_WAIT_MAX;
use crate::listeners::{listeners, refuse_exposure, upstreams};
use crate::own_folder::refuse_foreign;
use crate::paths::{ca_folder, database};
use crate::port::port_in_use;
use crate::problem::Problem;
use crate::service::handover::Sockets;
use crate::session_authority::{self, SessionAuthority};
use crate::settings::Settings;
use crate::store_problem::store_problem;
use crate::trusted;
use crate::upstream_proxies::upstream_proxies;

/// What differs between the commands that run an engine.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) run: NewRun,
    pub(crate) authority: AuthorityPlan,
    pub(crate) engine: EnginePlan,
    /// Sockets that listen already.
    pub(crate) sockets: Sockets,
}

/// Whose leaves clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthorityPlan {
    /// Those of the authority that the settings name.
    Lasting,
    /// Those of one that is made now and lives as long as the run.
    Session,
}

/// What of an engine the settings alone do not say.
#[derive(Debug)]
pub(crate) struct EnginePlan {
    pub(crate) connect_ports: ConnectPorts,
    /// Replaces the drain deadline of the settings.
    pub(crate) drain: Option<Duration>,
    /// Certificates that are trusted besides those of the settings.
    pub(crate) extra_roots: Vec<CertificateDer<'static>>,
}

/// An engine that listens, and what its flows are kept in.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) proxy: Proxy,
    /// Where clients are told to find it.
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<Admin>,
    pub(crate) authority: Arc<Authority>,
    /// Its certificate for clients; none of one that ends with the run.
    pub(crate) downloads: Shelf,
    /// The authority, if it is one of this run alone: its files are to be kept.
    pub(crate) session: Option<SessionAuthority>,
    pub(crate) recording: Option<Recording>,
}

/// A run that is being recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    store: Store,
    recorder: Recorder,
    database: PathBuf,
    /// Copies it to the archive, if there is one.
    shipper: Option<Shipper>,
}

/// Hands what the engine reports to the recorder, if there is to be one. It is set when everything
/// else stands, so that an engine that cannot start leaves no run behind.
#[derive(Debug)]
struct Relay {
    records: bool,
    overflow: Overflow,
    recorder: OnceLock<Recorder>,
}

impl Watcher for Relay {
    fn handle_events(&self, events: &mut Vec<Event>) {
        for event in &*events {
            if let Event::CertificateRefused(refused) = event {
                warn_of(refused);
            }
        }
        let Some(recorder) = self.recorder.get() else {
            return;
        };
        match self.overflow {
            Overflow::Drop => recorder.handle_events(events),
            Overflow::Block => {
                if !recorder.offer_events(events) {
                    // It is asked for that traffic waits; the runtime goes on on another thread.
                    tokio::task::block_in_place(|| {
                        recorder.handle_events_within(events, OVERFLOW_WAIT_MAX);
                    });
                }
            }
        }
    }

    fn watches_flows(&self) -> bool {
        self.records
    }

    fn streams(&self) -> ReadStreams {
        ReadStreams::WebSockets
    }
}

/// Says that a program will not take our certificate: once, while it happens, and also where nothing
/// is recorded. The summary of a run says so too.
fn warn_of(refused: &CertificateRefused) {
    let CertificateRefused { host, times, .. } = refused;
    let program = refused.program.as_deref().unwrap_or("an unknown program");
    match refused.bypassed_until {
        None => tracing::warn!(
            %host, program, times,
            "a program refuses oriel's certificate; --bypass leaves the host unopened"
        ),
        Some(_) => tracing::warn!(
            %host, program, times,
            "a program refuses oriel's certificate; the host now passes unopened \
             (intercept.auto_bypass)"
        ),
    }
}

/// Opens everything, in the order in which a failure leaves the least behind: what is only read,
/// the database, the ports, the run.
pub(crate) async fn start(settings: &Settings, plan: Plan) -> Result<Station, Problem> {
    refuse_exposure(settings)?;
    let data = &settings.data_folder.value;
    refuse_foreign(data)?;
    refuse_foreign(&ca_folder(data))?;
    session_authority::sweep(data, now());
    let authority = Arc::new(match plan.authority {
        AuthorityPlan::Lasting => load_for_use(settings, now())?,
        AuthorityPlan::Session => session_authority::make(now())?,
    });
    let mut config = engine_config(settings, plan.engine, Arc::clone(&authority))?;
    let store = open_store(settings)?;
    let admin = match settings.admin.value {
        AdminListen::Off => None,
        AdminListen::At(address) => Some(Admin::bind(address, plan.sockets.admin).await?),
    };
    if plan.authority == AuthorityPlan::Session {
        // It ends with the run, and nobody is to install it.
        config.local_site = None;
    }
    config.own_addresses = own_addresses(admin.as_ref());
    let relay = Arc::new(Relay {
        records: store.is_some(),
        overflow: settings.overflow.value,
        recorder: OnceLock::new(),
    });
    let watcher = Arc::clone(&relay) as Arc<dyn Watcher>;
    let proxy = Proxy::bind_to(config, Some(watcher), plan.sockets.engine)
        .await
        .map_err(|error| bind_problem(&error))?;
    let address = proxy.local_address();
    let address = address.ok_or_else(|| Problem::bug("the proxy has no address"))?;
    let recording = match store {
        Some(store) => Some(Recording::begin(store, plan.run, &relay, settings)?),
        None => None,
    };
    let session = (plan.authority == AuthorityPlan::Session).then(|| {
        let run = recording.as_ref().map(Recording::run);
        SessionAuthority::new(&settings.data_folder.value, run, Arc::clone(&authority))
    });
    Ok(Station {
        proxy,
        address,
        admin,
        downloads: match plan.authority {
            AuthorityPlan::Lasting => Shelf::of(&authority, downloads_of(settings, &authority)),
            AuthorityPlan::Session => Shelf::default(),
        },
        authority,
        session,
        recording,
    })
}

/// What clients may download to trust an authority, and those before it that count still.
pub(crate) fn downloads_of(settings: &Settings, authority: &Authority) -> Vec<Download> {
    let trusted = trusted::certificates(settings, authority, now());
    downloads::downloads(authority, &trusted)
}

/// What would keep these settings from serving: every mistake that is not in a value alone. The files that they
/// name are read, nothing is bound.
pub(crate) fn mistakes(settings: &Settings) -> Vec<Problem> {
    let of_hosts = [
        ("intercept.hosts", &settings.hosts),
        ("intercept.bypass", &settings.bypass),
        ("intercept.http3_passthrough", &settings.http3_passthrough),
        ("upstream.private_allow", &settings.private_allow),
        ("capture.llm_hosts", &settings.llm_hosts),
    ];
    let of_hosts = of_hosts.map(|(key, setting)| patterns(key, setting).map(drop));
    let others = [
        refuse_exposure(settings),
        listeners(settings).map(drop),
        gateways(settings).map(drop),
        upstream_trust(settings, Vec::new()).map(drop),
        client_certificates(settings).map(drop),
        upstream_proxies(settings).map(drop),
        capture_rules(settings).map(drop),
    ];
    let all = others.into_iter().chain(of_hosts);
    all.filter_map(Result::err).collect()
}

/// What the settings say to an engine. Nothing is bound or opened yet, so `own_addresses` is empty.
pub(crate) fn engine_config(
    settings: &Settings,
    plan: EnginePlan,
    authority: Arc<Authority>,
) -> Result<ProxyConfig, Problem> {
    Ok(ProxyConfig {
        listeners: listeners(settings)?,
        // Before the rules, which have the hosts of its routes.
        gateways: gateways(settings)?,
        rules: Arc::new(compile_rules(settings)?),
        dial_guard: DialGuard {
            private: match settings.private_reach.value {
                PrivateReach::Local => private::PrivateReach::LocalClients,
                PrivateReach::All => private::PrivateReach::Everybody,
                PrivateReach::None => private::PrivateReach::Nobody,
            },
            allowed: patterns("upstream.private_allow", &settings.private_allow)?,
        },
        local_site: downloads::site(
            &authority,
            &trusted::certificates(settings, &authority, now()),
        )
        .map(Arc::new),
        authority,
        upstream_trust: upstream_trust(settings, plan.extra_roots)?,
        upstream_proxies: upstream_proxies(settings)?,
        min_tls_version: match settings.tls_min_version.value {
            TlsVersion::Tls12 => proxy::MinTlsVersion::Tls12,
            TlsVersion::Tls13 => proxy::MinTlsVersion::Tls13,
        },
        connect_ports: plan.connect_ports,
        own_addresses: Vec::new(),
        body_bytes_kept: match settings.capture_bodies.value {
            true => settings.body_bytes_kept.value.0,
            false => 0,
        },
        timeouts: timeouts(settings, plan.drain),
        dial_again: None,
        pool: proxy::Pool {
            idle: settings.pool_idle.value.0,
            idle_per_target_max: settings.pool_idle_per_target_max.value,
            connections_per_target_max: settings.pool_connections_per_target_max.value,
        },
        client_certificates: client_certificates(settings)?,
        sni_mismatch: match settings.sni_mismatch.value {
            SniMismatch::Allow => proxy::SniMismatch::Allow,
            SniMismatch::Deny => proxy::SniMismatch::Deny,
        },
        rejections: proxy::Rejections {
            times: settings.rejections.value,
            auto_bypass: match settings.auto_bypass.value {
                AutoBypass::Off => proxy::AutoBypass::Off,
                AutoBypass::Process => proxy::AutoBypass::Process,
                AutoBypass::Host => proxy::AutoBypass::Host,
            },
            bypass_for: settings.auto_bypass_for.value.0,
        },
        alt_svc: proxy::AltSvc {
            strip: settings.strip_alt_svc.value,
            http3_passthrough: patterns(
                "intercept.http3_passthrough",
                &settings.http3_passthrough,
            )?,
        },
        attribution: settings
            .attribution
            .value
            .then_some(proxy::limits::PROCESS_LOOKUP),
        governor: proxy::Governor {
            flows_max: settings.flows_max.value,
            connections_per_client_max: settings.connections_per_client_max.value,
        },
        handler: proxy::handler::HandlerLimits::default(),
    })
}

/// The addresses that are oriel's own besides the one clients connect to.
pub(crate) fn own_addresses(admin: Option<&Admin>) -> Vec<SocketAddr> {
    admin.into_iter().map(Admin::local_address).collect()
}

impl Station {
    /// What the admin port tells.
    pub(crate) fn status(&self, settings: &Settings) -> Status {
        Status {
            started_at: now(),
            proxy: self
                .proxy
                .addresses()
                .iter()
                .cloned()
                .zip(upstreams(settings))
                .collect(),
            admin: self.admin.as_ref().map(Admin::local_address),
            log: None,
            database: self
                .recording
                .as_ref()
                .map(|recording| recording.database.clone()),
            recorder: self
                .recording
                .as_ref()
                .map(|recording| recording.recorder.clone()),
            archive: self
                .recording
                .as_ref()
                .and_then(|recording| Some(recording.shipper.as_ref()?.watch())),
            downloads: self.downloads.clone(),
            control: Some(self.proxy.control()),
        }
    }
}

impl Recording {
    fn begin(
        store: Store,
        run: NewRun,
        relay: &Relay,
        settings: &Settings,
    ) -> Result<Self, Problem> {
        let run = store
            .begin_run(run)
            .map_err(|error| store_problem(&error))?;
        let recorder = store.recorder(run);
        // Nothing else sets it.
        let _first = relay.recorder.set(recorder.clone());
        Ok(Self {
            store,
            recorder,
            database: database(&settings.data_folder.value),
            shipper: archive::start(settings)?,
        })
    }

    pub(crate) fn run(&self) -> RunId {
        self.recorder.run()
    }

    pub(crate) fn database(&self) -> &std::path::Path {
        &self.database
    }

    /// Why flows wait beside the database now, if they do.
    pub(crate) fn detour(&self) -> Option<String> {
        Some(self.recorder.detour()?.in_one_line())
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Makes everything durable and notes how the run ended.
    pub(crate) fn end(self, end: EndRun) -> Result<(), Problem> {
        let ended = self.store.end_run(self.recorder.run(), end);
        drop(self.recorder);
        let closed = ended.and_then(|()| self.store.close());
        if let Some(shipper) = self.shipper {
            archive::stop(shipper);
        }
        closed.map_err(|error| store_problem(&error))
    }

    /// Ends it and reads what it sums up to.
    pub(crate) fn sum_up(self, end: EndRun) -> Result<RunSummary, Unsummed> {
        let (recorder, database) = (self.recorder.clone(), self.database.clone());
        let (run, ended_at) = (recorder.run(), end.ended_at);
        let ended = self.end(end);
        let figures = Reader::open(&database).and_then(|reader| reader.summary(run));
        let problem = match (ended, recorder.detour()) {
            (Err(problem), _) => problem,
            (Ok(()), Some(trouble)) => not_summed_up(run, &trouble),
            (Ok(()), None) => {
                return figures.map_err(|error| store_problem(&error).into());
            }
        };
        // What was stored before it went wrong can mostly be read.
        let stored = figures.ok().map(|mut figures| {
            let ended_at = figures.run.ended_at.unwrap_or(ended_at);
            figures.run.ended_at = Some(ended_at);
            figures.lost_events = figures.lost_events.max(recorder.losses().events);
            Box::new(figures)
        });
        Err(Unsummed { problem, stored })
    }
}

/// Why there is no sum of a run, and what can be summed up of it nevertheless.
#[derive(Debug)]
pub(crate) struct Unsummed {
    pub(crate) problem: Problem,
    /// The sum of what is in the database.
    pub(crate) stored: Option<Box<RunSummary>>,
}

impl From<Problem> for Unsummed {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            stored: None,
        }
    }
}

/// All is stored, but not where it can be read.
fn not_summed_up(run: RunId, trouble: &StoreError) -> Problem {
    let what = "what was captured waits in the spool, where it is not shown yet";
    Problem::new("ORL0712", Exit::Storage, what)
        .why(trouble.in_one_line())
        .fix("the next  oriel run  or  oriel serve  merges it, once the database can be written")
        .fix(format!("oriel flows --session {run}      shows it then"))
}

fn open_store(settings: &Settings) -> Result<Option<Store>, Problem> {
    if !settings.capture_enabled.value {
        return Ok(None);
    }
    let options = StoreOptions {
        llm_hosts: patterns("capture.llm_hosts", &settings.llm_hosts)?,
        capture: capture_rules(settings)?,
        spool_bytes_max: settings.spool_bytes_max.value.0,
        ..StoreOptions::new(settings.redact.value.into())
    };
    Store::open(&database(&settings.data_folder.value), options)
        .map(Some)
        .map_err(|error| store_problem(&error))
}

/// What is kept of what passes.
fn capture_rules(settings: &Settings) -> Result<CaptureRules, Problem> {
    let key = "capture.body_limits";
    let limits = &settings.body_limits;
    let compile = |limit: &file::BodyLimit| {
        let hosts = limit.hosts.as_ref();
        let media = |types: &Vec<String>| {
            let parsed = types.iter().map(|text| MediaPattern::parse(text));
            parsed.collect::<Result<_, _>>().map_err(|error| {
                Problem::new("ORL0105", Exit::Usage, error.to_string())
                    .why(format!("{key} is set so by: {}", limits.origin))
                    .fix_there()
            })
        };
        Ok(BodyLimit {
            hosts: hosts
                .map(|hosts| host_patterns(key, hosts, &limits.origin))
                .transpose()?,
            content_types: limit.content_types.as_ref().map(media).transpose()?,
            keep: limit.keep.0,
        })
    };
    Ok(CaptureRules {
        excluded: patterns("capture.excluded_hosts", &settings.excluded_hosts)?,
        limits: limits.value.iter().map(compile).collect::<Result<_, _>>()?,
    })
}

/// Compiles the rules about hosts.
pub(crate) fn compile_rules(settings: &Settings) -> Result<Rules, Problem> {
    Rules::compile(&RouteConfig {
        intercept: settings
            .hosts
            .value
            .iter()
            .cloned()
            .chain(gateways::hosts(settings))
            .collect(),
        bypass: settings.bypass.value.clone(),
        unlisted: match settings.unlisted.value {
            Unlisted::Tunnel => route::Unlisted::Tunnel,
            Unlisted::Block => route::Unlisted::Block,
        },
        ip_targets: settings.ip_targets.value,
    })
    .map_err(|error| {
        let origin = match error.key {
            "intercept.bypass" => &settings.bypass.origin,
            _ => &settings.hosts.origin,
        };
        Problem::new("ORL0105", Exit::Usage, error.error.to_string())
            .why(format!("{} is set so by: {origin}", error.key))
            .fix_there()
    })
}

fn upstream_trust(
    settings: &Settings,
    mut extra_roots: Vec<CertificateDer<'static>>,
) -> Result<UpstreamTrust, Problem> {
    for path in &settings.upstream_ca_files.value {
        extra_roots.extend(read_roots(path)?);
    }
    let accepted = &settings.danger_accept_invalid;
    let _checked = patterns("upstream.danger_accept_invalid", accepted)?;
    Ok(UpstreamTrust {
        system_roots: settings.upstream_system_roots.value,
        extra_roots,
        danger_accept_invalid: accepted.value.clone(),
    })
}

/// Reads what is shown to upstreams that ask for a certificate.
fn client_certificates(settings: &Settings) -> Result<Vec<proxy::ClientCertificate>, Problem> {
    let key = "upstream.client_certificates";
    let setting = &settings.client_certificates;
    let read = |shown: &ClientCertificate| {
        let identity = Identity::load(&shown.certificate, &shown.key).map_err(|error| {
            let (certificate, key) = (shown.certificate.display(), shown.key.display());
            let what = format!("cannot show upstreams {certificate} with the key {key}");
            let source = std::error::Error::source(&error).map(ToString::to_string);
            Problem::new("ORL0305", Exit::Usage, what).why(match source {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            })
        })?;
        let hosts = host_patterns(key, &shown.hosts, &setting.origin)?;
        Ok(proxy::ClientCertificate { hosts, identity })
    };
    setting.value.iter().map(read).collect()
}

/// Compiles the host patterns of a setting.
fn patterns(key: &str, setting: &Setting<Vec<String>>) -> Result<HostPatterns, Problem> {
    host_patterns(key, &setting.value, &setting.origin)
}

pub(crate) fn host_patterns(
    key: &str,
    texts: &[String],
    origin: &Origin,
) -> Result<HostPatterns, Problem> {
    HostPatterns::parse(texts).map_err(|error| {
        Problem::new("ORL0105", Exit::Usage, error.to_string())
            .why(format!("{key} is set so by: {origin}"))
            .fix_there()
    })
}

pub(crate) fn read_roots(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let unreadable = |why: String| {
        let what = format!("cannot read upstream certificates from {}", path.display());
        Problem::new("ORL0305", Exit::Usage, what)
            .why(why)
            .fix("name a file of certificates in PEM form (-----BEGIN CERTIFICATE-----)")
    };
    let roots: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(error.to_string()));
    match roots {
        Ok(roots) if roots.is_empty() => Err(unreadable(
            "there is no certificate in PEM form in it".to_owned(),
        )),
        roots => roots,
    }
}

fn timeouts(settings: &Settings, drain: Option<Duration>) -> proxy::Timeouts {
    proxy::Timeouts {
        connect: settings.timeout_connect.value.0,
        tls: settings.timeout_tls.value.0,
        head: settings.timeout_head.value.0,
        idle_client: settings.timeout_idle_client.value.0,
        idle_body: settings.timeout_idle_body.value.0,
        drain: drain.unwrap_or(settings.timeout_drain.value.0),
    }
}

fn bind_problem(error: &BindError) -> Problem {
    match error {
        BindError::Listen {
            address: ListenAddress::Tcp(address),
            source,
        } => listen_problem(source, *address, "--listen"),
        BindError::Listen {
            address: ListenAddress::Unix(path),
            source,
        } => unix_problem(source, path),
        BindError::Trust(trust) => trust_problem(trust),
        other => Problem::bug(other.to_string()),
    }
}

/// Why an engine did not take another configuration.
pub(crate) fn reload_problem(error: &ReloadError) -> Problem {
    match error {
        ReloadError::Trust(trust) => trust_problem(trust),
        ReloadError::Fixed { .. } => {
            let what = "the addresses of proxy.reverse cannot change while oriel runs";
            Problem::new("ORL0407", Exit::Usage, what).fix("restart oriel")
        }
        other => Problem::bug(other.to_string()),
    }
}

fn trust_problem(error: &TrustError) -> Problem {
    let source = std::error::Error::source(error).map(ToString::to_string);
    Problem::new("ORL0305", Exit::Usage, error.to_string())
        .why(source.unwrap_or_else(|| "nothing would be trusted".to_owned()))
}

/// Why a Unix-domain socket cannot be listened on.
fn unix_problem(error: &std::io::Error, path: &std::path::Path) -> Problem {
    let what = format!("cannot listen on the Unix-domain socket {}", path.display());
    let problem = Problem::new("ORL0101", Exit::Usage, what);
    match error.kind() {
        std::io::ErrorKind::AddrInUse => problem
            .why("another process listens on it")
            .fix("stop it, or give another path:  proxy.unix = \"PATH\""),
        std::io::ErrorKind::NotFound => problem.why("there is no such folder").fix(format!(
            "mkdir -p {}",
            path.parent().unwrap_or(path).display()
        )),
        _ => problem.why(error.to_string()),
    }
}

/// Why an address cannot be listened on.
pub(crate) fn listen_problem(
    error: &std::io::Error,
    address: SocketAddr,
    flag: &'static str,
) -> Problem {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => port_in_use(address, flag),
        std::io::ErrorKind::PermissionDenied => {
            let what = format!("not allowed to listen on {address}");
            Problem::new("ORL0101", Exit::Permission, what)
                .why(error.to_string())
                .fix(format!("use a port above 1023:  {flag} {}:0", address.ip()))
        }
        _ => Problem::new(
            "ORL0101",
            Exit::Usage,
            format!("cannot listen on {address}"),
        )
        .why(error.to_string())
        .fix(format!(
            "use an address of this machine:  {flag} 127.0.0.1:0"
        )),
    }
}
