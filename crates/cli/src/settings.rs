//! What is in force: flags over variables over the project's file over the user's over the
//! system's over defaults, each value with where it comes from.

mod layers;
mod row;
mod table;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use proxy::{Governor, Pool, Rejections, Timeouts};

use self::layers::{Layers, RunTakes, pick};
pub(crate) use self::row::Row;
use self::table::settings;
use crate::args::CaptureWhich;
use crate::config::database_variable::database_variable;
use crate::config::file::{
    Auth, BodyLimit, ClientCertificate, ConfigFile, GatewayRoute, ListenTls, ProxyRoute, Reverse,
};
use crate::config::layer::{Layer, Origin, Setting};
use crate::config::project;
use crate::config::proxy_variables::proxy_variables;
use crate::config::read::{parse, read_if_there, read_named};
use crate::config::values::{
    AdminListen, ArchiveChoice, AutoBypass, Listen, LogFormat, Login, Overflow, PrivateReach,
    ProxyChoice, ProxyLogin, Redact, SniMismatch, TagPeriod, TlsVersion, Unlisted,
};
use crate::environment::Environment;
use crate::paths::Paths;
use crate::problem::Problem;
use crate::quantity::{Period, Size};

/// For what the settings are; some defaults go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Serve,
    Run,
}

/// Where settings are looked for.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) paths: &'a Paths,
    /// The folder that the program was started in.
    pub(crate) folder: &'a Path,
    /// A file in place of the user's and the project's.
    pub(crate) config: Option<&'a Path>,
    /// What a file would have in it.
    pub(crate) draft: Option<Draft<'a>>,
}

/// A text that is taken for what is in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
}

// `section.key as field: Type = default;`, in the order of the config file. What keys are for is said
// in `config/keys.rs`.
settings! { (paths, purpose)
    proxy.listen as listen: Listen = purpose.listen(), run takes Flags;
    proxy.unix as unix: Option<PathBuf> = None, run takes Nothing;
    proxy.tls as tls: Option<ListenTls> = None, run takes Nothing;
    proxy.credentials as credentials: Option<Login> = None, run takes Nothing;
    proxy.auth as auth: Option<Auth> = None, run takes Nothing;
    proxy.proxy_protocol as proxy_protocol: bool = false, run takes Nothing;
    proxy.reverse as reverse: Vec<Reverse> = Vec::new(), run takes Flags;
    proxy.connect_ports as connect_ports: Vec<u16> = Vec::new();
    proxy.attribution as attribution: bool = true;
    proxy.danger_listen_without_credentials as danger_listen_without_credentials: bool = false;

    admin.listen as admin: AdminListen = purpose.admin(), run takes Flags;

    ca.certificate as ca_certificate: Option<PathBuf> = None;
    ca.key as ca_key: Option<PathBuf> = None;

    intercept.hosts as hosts: Vec<String> = purpose.hosts();
    intercept.bypass as bypass: Vec<String> = Vec::new();
    intercept.unlisted as unlisted: Unlisted = Unlisted::Tunnel;
    intercept.ip_targets as ip_targets: bool = false;
    intercept.sni_mismatch as sni_mismatch: SniMismatch = SniMismatch::Allow;
    intercept.rejections as rejections: NonZeroU32 = Rejections::default().times;
    intercept.auto_bypass as auto_bypass: AutoBypass = AutoBypass::Off;
    intercept.auto_bypass_for as auto_bypass_for: Period = Period(Rejections::default().bypass_for);
    intercept.strip_alt_svc as strip_alt_svc: bool = true;
    intercept.http3_passthrough as http3_passthrough: Vec<String> = Vec::new();

    gateway.routes as gateway_routes: Vec<GatewayRoute> = Vec::new();

    tls.min_version as tls_min_version: TlsVersion = TlsVersion::Tls12;

    upstream.ca_files as upstream_ca_files: Vec<PathBuf> = Vec::new();
    upstream.system_roots as upstream_system_roots: bool = true;
    upstream.danger_accept_invalid as danger_accept_invalid: Vec<String> = Vec::new();
    upstream.private_reach as private_reach: PrivateReach = PrivateReach::Local;
    upstream.private_allow as private_allow: Vec<String> = Vec::new();
    upstream.client_certificates as client_certificates: Vec<ClientCertificate> = Vec::new();

    upstream_proxy.url as upstream_proxy: ProxyChoice = ProxyChoice::Off;
    upstream_proxy.ca as upstream_proxy_ca: Option<PathBuf> = None;
    upstream_proxy.credentials as upstream_proxy_credentials: Option<ProxyLogin> = None;
    upstream_proxy.credentials_file as upstream_proxy_credentials_file: Option<PathBuf> = None;
    upstream_proxy.no_proxy as no_proxy: Vec<String> = Vec::new();
    upstream_proxy.from_environment as upstream_proxy_from_environment: bool
        = purpose.heeds_proxy_variables();
    upstream_proxy.routes as upstream_proxy_routes: Vec<ProxyRoute> = Vec::new();

    timeouts.connect as timeout_connect: Period = Period(Timeouts::default().connect);
    timeouts.tls as timeout_tls: Period = Period(Timeouts::default().tls);
    timeouts.head as timeout_head: Period = Period(Timeouts::default().head);
    timeouts.idle_client as timeout_idle_client: Period = Period(Timeouts::default().idle_client);
    timeouts.idle_body as timeout_idle_body: Period = Period(Timeouts::default().idle_body);
    timeouts.drain as timeout_drain: Period = Period(Timeouts::default().drain);

    pool.idle as pool_idle: Period = Period(Pool::default().idle);
    pool.idle_per_target_max as pool_idle_per_target_max: usize
        = Pool::default().idle_per_target_max;
    pool.connections_per_target_max as pool_connections_per_target_max: usize
        = Pool::default().connections_per_target_max;

    limits.flows_max as flows_max: usize = Governor::default().flows_max;
    limits.connections_per_client_max as connections_per_client_max: usize
        = Governor::default().connections_per_client_max;

    capture.enabled as capture_enabled: bool = true;
    capture.bodies as capture_bodies: bool = true;
    capture.body_bytes_kept as body_bytes_kept: Size = BODY_BYTES_KEPT;
    capture.body_limits as body_limits: Vec<BodyLimit> = Vec::new();
    capture.excluded_hosts as excluded_hosts: Vec<String> = Vec::new();
    capture.redact as redact: Redact = Redact::Basic;
    capture.llm_hosts as llm_hosts: Vec<String> = Vec::new();

    store.data_folder as data_folder: PathBuf = paths.data.clone();

    retention.keep as retention_keep: Option<Period> = None;
    retention.keep_bodies as retention_keep_bodies: Option<Period> = None;
    retention.max_size as retention_max_size: Option<Size> = None;
    retention.tags as retention_tags: Vec<TagPeriod> = Vec::new();

    database.url as archive: ArchiveChoice = ArchiveChoice::Local;
    database.instance as instance: Option<String> = None;
    database.user as user: Option<String> = None;
    database.tags as tags: Vec<String> = Vec::new();
    database.local_keep as local_keep: Option<Period> = None;
    database.overflow as overflow: Overflow = Overflow::Drop;
    database.spool_bytes_max as spool_bytes_max: Size = Size(store::limits::SPOOL_BYTES_MAX);

    log.level as log_level: String = purpose.log_level();
    log.format as log_format: LogFormat = LogFormat::Text;
}

impl Settings {
    /// Reads all sources.
    pub(crate) fn load(
        sources: &Sources<'_>,
        purpose: Purpose,
        flags: Layer,
    ) -> Result<Self, Vec<Problem>> {
        let mut layers = Layers(vec![flags]);
        let (variables, mut problems) = Layer::of_environment(sources.environment);
        layers.0.push(variables);
        let (files, of_files) = file_layers(sources);
        layers.0.extend(files);
        problems.extend(of_files);
        if !problems.is_empty() {
            return Err(problems);
        }
        let shared = shared_variables(&layers, sources, purpose);
        layers.0.extend(shared.map_err(|problem| vec![problem])?);
        Ok(Self::merge(&layers, sources.paths, purpose))
    }
}

impl Sources<'_> {
    /// The config files that are read, whether they are there or not.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let own = match self.named() {
            Some(path) => vec![path],
            None => project::find(self.folder)
                .into_iter()
                .chain([self.paths.user_config.clone()])
                .collect(),
        };
        own.into_iter()
            .chain([self.paths.system_config.clone()])
            .collect()
    }

    /// The file that was named in place of the user's and the project's.
    pub(crate) fn named(&self) -> Option<PathBuf> {
        self.config
            .map(Path::to_owned)
            .or_else(|| self.environment.path("ORIEL_CONFIG"))
    }
}

/// The project's, the user's and the system's file, as far as they are there, and every mistake in
/// them.
fn file_layers(sources: &Sources<'_>) -> (Vec<Layer>, Vec<Problem>) {
    let mut readings = Vec::new();
    match sources.named() {
        Some(path) => readings.push(match &sources.draft {
            Some(draft) if draft.path == path => parse(&path, draft.text.to_owned()),
            _ => read_named(&path),
        }),
        None => {
            if let Some(path) = project::find(sources.folder) {
                readings.push(project::read(&path));
            }
            readings.extend(read_if_there(&sources.paths.user_config));
        }
    }
    readings.extend(read_if_there(&sources.paths.system_config));
    let home = &sources.paths.home;
    let (mut layers, mut problems) = (Vec::new(), Vec::new());
    for reading in readings {
        problems.extend(reading.problems);
        layers.extend(reading.file.map(|file| Layer::of_file(&file, home)));
    }
    (layers, problems)
}

/// What the variables say that other programs read as well: they count where oriel's own sources,
/// which are in `layers`, leave something open.
fn shared_variables(
    layers: &Layers,
    sources: &Sources<'_>,
    purpose: Purpose,
) -> Result<Vec<Layer>, Problem> {
    let own = Settings::merge(layers, sources.paths, purpose);
    let mut shared = Vec::new();
    let proxy_is_open = own.upstream_proxy.origin == Origin::Default;
    if proxy_is_open && own.upstream_proxy_from_environment.value {
        let service = Settings::merge(layers, sources.paths, Purpose::Serve).listen;
        shared.extend(proxy_variables(sources.environment, service.value.0)?);
    }
    // In a shell in which somebody runs a command, DATABASE_URL is most likely the command's own.
    if own.archive.origin == Origin::Default && purpose == Purpose::Serve {
        shared.extend(database_variable(sources.environment)?);
    }
    Ok(shared)
}

/// Where `oriel serve` listens.
const SERVE_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6743);
/// Where `oriel serve` says how it is.
const ADMIN_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6744);
/// Where clients come to that ask a gateway behind `oriel serve --pair`.
pub(crate) const PAIR_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6746);
/// A port of the system's choice on loopback.
pub(crate) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Holds the longest context a model takes today, with room.
const BODY_BYTES_KEPT: Size = Size(4 << 20);

// Defaults that differ.
impl Purpose {
    /// A run has a port of its own.
    fn listen(self) -> Listen {
        match self {
            Self::Serve => Listen(SERVE_ADDRESS),
            Self::Run => Listen(ANY_PORT),
        }
    }

    fn admin(self) -> AdminListen {
        match self {
            Self::Serve => AdminListen::At(ADMIN_ADDRESS),
            Self::Run => AdminListen::Off,
        }
    }

    /// A service sees everybody's traffic and opens what it knows; a run sees one command's.
    fn hosts(self) -> Vec<String> {
        match self {
            Self::Serve => CaptureWhich::Known.hosts(),
            Self::Run => CaptureWhich::All.hosts(),
        }
    }

    /// Whether the machine's own proxy variables count. The command of a run would have heeded
    /// them; a service stands in no shell that somebody looks at.
    fn heeds_proxy_variables(self) -> bool {
        self == Self::Run
    }

    /// Nothing is written between the lines of a child unless it is asked for.
    fn log_level(self) -> String {
        match self {
            Self::Serve => "info".to_owned(),
            Self::Run => "off".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        folder: tempfile::TempDir,
        variables: Vec<(&'static str, String)>,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let home = folder.path().join("home");
            std::fs::create_dir_all(home.join(".config/oriel")).unwrap();
            std::fs::create_dir_all(folder.path().join("project/below")).unwrap();
            let variables = vec![("HOME", home.display().to_string())];
            Self { folder, variables }
        }

        fn file(self, name: &str, text: &str) -> Self {
            std::fs::write(self.folder.path().join(name), text).unwrap();
            self
        }

        fn load(&self, flags: Layer) -> Result<Settings, Vec<Problem>> {
            let variables: Vec<_> = self
                .variables
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let environment = Environment::of(&variables);
            let mut paths = Paths::of(&environment);
            paths.system_config = self.folder.path().join("system.toml");
            let sources = Sources {
                environment: &environment,
                paths: &paths,
                folder: &self.folder.path().join("project/below"),
                config: None,
                draft: None,
            };
            Settings::load(&sources, Purpose::Serve, flags)
        }
    }

    #[test]
    fn the_strongest_source_wins_and_is_named() {
        let mut case = Case::new()
            .file(
                "system.toml",
                "[capture]\nredact = \"none\"\n[log]\nlevel = \"warn\"\n",
            )
            .file(
                "home/.config/oriel/config.toml",
                "[log]\nlevel = \"debug\"\n[intercept]\nunlisted = \"tunnel\"\n",
            )
            .file("project/.oriel.toml", "[intercept]\nunlisted = \"block\"\n");
        let settings = case.load(Layer::default()).unwrap();
        assert_eq!(settings.redact.value, Redact::None);
        assert_eq!(settings.log_level.value, "debug");
        assert!(
            settings
                .log_level
                .origin
                .to_string()
                .ends_with("config.toml:2")
        );
        assert_eq!(settings.unlisted.value, Unlisted::Block);
        assert_eq!(settings.listen.origin, Origin::Default);

        case.variables.push(("ORIEL_UNLISTED", "tunnel".to_owned()));
        let settings = case.load(Layer::default()).unwrap();
        assert_eq!(settings.unlisted.value, Unlisted::Tunnel);
        assert_eq!(settings.unlisted.origin.to_string(), "env ORIEL_UNLISTED");
    }

    #[test]
    fn a_project_may_not_loosen() {
        let case = Case::new().file("project/.oriel.toml", "[capture]\nenabled = false\n");
        let problems = case.load(Layer::default()).unwrap_err();
        assert_eq!(problems[0].code, "ORL0404");
    }

    #[test]
    fn every_setting_has_a_row() {
        let rows = Case::new().load(Layer::default()).unwrap().rows();
        let rows: Vec<_> = rows.iter().map(|row| row.path).collect();
        let keys: Vec<_> = crate::config::keys::KEYS
            .iter()
            .map(|key| key.path)
            .collect();
        assert_eq!(rows, keys);
    }
}
