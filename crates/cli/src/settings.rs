//! What is in force: flags over variables over the project's file over the user's over the
//! system's over defaults, each value with where it comes from.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::args::CaptureWhich;
use crate::config::database_variable::database_variable;
use crate::config::file::{
    Auth, BodyLimit, ClientCertificate, ConfigFile, GatewayRoute, ListenTls, ProxyRoute, Reverse,
};
use crate::config::layer::{Layer, Origin, Setting};
use crate::config::project;
use crate::config::proxy_variables::proxy_variables;
use crate::config::read::{read_if_there, read_named};
use crate::config::values::{
    AdminListen, ArchiveChoice, AutoBypass, Listen, LogFormat, Login, PrivateReach, ProxyChoice,
    ProxyLogin, Redact, SniMismatch, TlsVersion, Unlisted,
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
}

/// Every setting.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) listen: Setting<Listen>,
    pub(crate) unix: Setting<Option<PathBuf>>,
    pub(crate) tls: Setting<Option<ListenTls>>,
    pub(crate) credentials: Setting<Option<Login>>,
    pub(crate) auth: Setting<Option<Auth>>,
    pub(crate) proxy_protocol: Setting<bool>,
    pub(crate) reverse: Setting<Vec<Reverse>>,
    pub(crate) connect_ports: Setting<Vec<u16>>,
    pub(crate) attribution: Setting<bool>,
    pub(crate) danger_listen_without_credentials: Setting<bool>,
    pub(crate) admin: Setting<AdminListen>,
    pub(crate) ca_certificate: Setting<Option<PathBuf>>,
    pub(crate) ca_key: Setting<Option<PathBuf>>,
    pub(crate) hosts: Setting<Vec<String>>,
    pub(crate) bypass: Setting<Vec<String>>,
    pub(crate) unlisted: Setting<Unlisted>,
    pub(crate) ip_targets: Setting<bool>,
    pub(crate) sni_mismatch: Setting<SniMismatch>,
    pub(crate) rejections: Setting<NonZeroU32>,
    pub(crate) auto_bypass: Setting<AutoBypass>,
    pub(crate) auto_bypass_for: Setting<Period>,
    pub(crate) strip_alt_svc: Setting<bool>,
    pub(crate) http3_passthrough: Setting<Vec<String>>,
    pub(crate) gateway_routes: Setting<Vec<GatewayRoute>>,
    pub(crate) tls_min_version: Setting<TlsVersion>,
    pub(crate) upstream_ca_files: Setting<Vec<PathBuf>>,
    pub(crate) upstream_system_roots: Setting<bool>,
    pub(crate) danger_accept_invalid: Setting<Vec<String>>,
    pub(crate) private_reach: Setting<PrivateReach>,
    pub(crate) private_allow: Setting<Vec<String>>,
    pub(crate) client_certificates: Setting<Vec<ClientCertificate>>,
    pub(crate) upstream_proxy: Setting<ProxyChoice>,
    pub(crate) upstream_proxy_ca: Setting<Option<PathBuf>>,
    pub(crate) upstream_proxy_credentials: Setting<Option<ProxyLogin>>,
    pub(crate) upstream_proxy_credentials_file: Setting<Option<PathBuf>>,
    pub(crate) no_proxy: Setting<Vec<String>>,
    pub(crate) upstream_proxy_from_environment: Setting<bool>,
    pub(crate) upstream_proxy_routes: Setting<Vec<ProxyRoute>>,
    pub(crate) timeout_connect: Setting<Period>,
    pub(crate) timeout_tls: Setting<Period>,
    pub(crate) timeout_head: Setting<Period>,
    pub(crate) timeout_idle_client: Setting<Period>,
    pub(crate) timeout_idle_body: Setting<Period>,
    pub(crate) timeout_drain: Setting<Period>,
    pub(crate) pool_idle: Setting<Period>,
    pub(crate) pool_idle_per_target_max: Setting<usize>,
    pub(crate) pool_connections_per_target_max: Setting<usize>,
    pub(crate) flows_max: Setting<usize>,
    pub(crate) connections_per_client_max: Setting<usize>,
    pub(crate) capture_enabled: Setting<bool>,
    pub(crate) capture_bodies: Setting<bool>,
    pub(crate) body_bytes_kept: Setting<Size>,
    pub(crate) body_limits: Setting<Vec<BodyLimit>>,
    pub(crate) excluded_hosts: Setting<Vec<String>>,
    pub(crate) redact: Setting<Redact>,
    pub(crate) llm_hosts: Setting<Vec<String>>,
    pub(crate) data_folder: Setting<PathBuf>,
    pub(crate) retention_keep: Setting<Option<Period>>,
    pub(crate) retention_keep_bodies: Setting<Option<Period>>,
    pub(crate) retention_max_size: Setting<Option<Size>>,
    pub(crate) archive: Setting<ArchiveChoice>,
    pub(crate) instance: Setting<Option<String>>,
    pub(crate) user: Setting<Option<String>>,
    pub(crate) tags: Setting<Vec<String>>,
    pub(crate) log_level: Setting<String>,
    pub(crate) log_format: Setting<LogFormat>,
}

/// A setting as a line of `oriel config show`.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) path: &'static str,
    pub(crate) value: toml::Value,
    pub(crate) origin: Origin,
}

impl Settings {
    /// Reads all sources.
    pub(crate) fn load(
        sources: &Sources<'_>,
        purpose: Purpose,
        flags: Layer,
    ) -> Result<Self, Vec<Problem>> {
        let mut layers = vec![flags];
        layers.push(Layer::of_environment(sources.environment).map_err(|problem| vec![problem])?);
        layers.extend(file_layers(sources)?);
        let mut merge = Merge { layers };
        merge
            .add_proxy_variables(sources.environment, purpose)
            .map_err(|problem| vec![problem])?;
        merge
            .add_database_variable(sources.environment, purpose)
            .map_err(|problem| vec![problem])?;
        Ok(merge.settings(sources.paths, purpose))
    }

    /// All settings, in the order of the config file.
    pub(crate) fn rows(&self) -> Vec<Row> {
        vec![
            row("proxy.listen", &self.listen),
            row("proxy.unix", &text_of(&self.unix)),
            optional_row("proxy.tls", &self.tls),
            optional_row("proxy.credentials", &self.credentials),
            optional_row("proxy.auth", &self.auth),
            row("proxy.proxy_protocol", &self.proxy_protocol),
            row("proxy.reverse", &self.reverse),
            row("proxy.connect_ports", &self.connect_ports),
            row("proxy.attribution", &self.attribution),
            row(
                "proxy.danger_listen_without_credentials",
                &self.danger_listen_without_credentials,
            ),
            row("admin.listen", &self.admin),
            row("ca.certificate", &text_of(&self.ca_certificate)),
            row("ca.key", &text_of(&self.ca_key)),
            row("intercept.hosts", &self.hosts),
            row("intercept.bypass", &self.bypass),
            row("intercept.unlisted", &self.unlisted),
            row("intercept.ip_targets", &self.ip_targets),
            row("intercept.sni_mismatch", &self.sni_mismatch),
            row("intercept.rejections", &self.rejections),
            row("intercept.auto_bypass", &self.auto_bypass),
            row("intercept.auto_bypass_for", &self.auto_bypass_for),
            row("intercept.strip_alt_svc", &self.strip_alt_svc),
            row("intercept.http3_passthrough", &self.http3_passthrough),
            row("gateway.routes", &self.gateway_routes),
            row("tls.min_version", &self.tls_min_version),
            row("upstream.ca_files", &self.upstream_ca_files),
            row("upstream.system_roots", &self.upstream_system_roots),
            row(
                "upstream.danger_accept_invalid",
                &self.danger_accept_invalid,
            ),
            row("upstream.private_reach", &self.private_reach),
            row("upstream.private_allow", &self.private_allow),
            row("upstream.client_certificates", &self.client_certificates),
            row("upstream_proxy.url", &self.upstream_proxy),
            row("upstream_proxy.ca", &text_of(&self.upstream_proxy_ca)),
            optional_row(
                "upstream_proxy.credentials",
                &self.upstream_proxy_credentials,
            ),
            row(
                "upstream_proxy.credentials_file",
                &text_of(&self.upstream_proxy_credentials_file),
            ),
            row("upstream_proxy.no_proxy", &self.no_proxy),
            row(
                "upstream_proxy.from_environment",
                &self.upstream_proxy_from_environment,
            ),
            row("upstream_proxy.routes", &self.upstream_proxy_routes),
            row("timeouts.connect", &self.timeout_connect),
            row("timeouts.tls", &self.timeout_tls),
            row("timeouts.head", &self.timeout_head),
            row("timeouts.idle_client", &self.timeout_idle_client),
            row("timeouts.idle_body", &self.timeout_idle_body),
            row("timeouts.drain", &self.timeout_drain),
            row("pool.idle", &self.pool_idle),
            row("pool.idle_per_target_max", &self.pool_idle_per_target_max),
            row(
                "pool.connections_per_target_max",
                &self.pool_connections_per_target_max,
            ),
            row("limits.flows_max", &self.flows_max),
            row(
                "limits.connections_per_client_max",
                &self.connections_per_client_max,
            ),
            row("capture.enabled", &self.capture_enabled),
            row("capture.bodies", &self.capture_bodies),
            row("capture.body_bytes_kept", &self.body_bytes_kept),
            row("capture.body_limits", &self.body_limits),
            row("capture.excluded_hosts", &self.excluded_hosts),
            row("capture.redact", &self.redact),
            row("capture.llm_hosts", &self.llm_hosts),
            row("store.data_folder", &self.data_folder),
            optional_row("retention.keep", &self.retention_keep),
            optional_row("retention.keep_bodies", &self.retention_keep_bodies),
            optional_row("retention.max_size", &self.retention_max_size),
            row("database.url", &self.archive),
            optional_row("database.instance", &self.instance),
            optional_row("database.user", &self.user),
            row("database.tags", &self.tags),
            row("log.level", &self.log_level),
            row("log.format", &self.log_format),
        ]
    }
}

fn text_of(path: &Setting<Option<PathBuf>>) -> Setting<String> {
    let text = path.value.as_ref().map(|path| path.display().to_string());
    Setting {
        value: text.unwrap_or_default(),
        origin: path.origin.clone(),
    }
}

fn row<T: Serialize>(path: &'static str, setting: &Setting<T>) -> Row {
    Row {
        path,
        // Paths that are not UTF-8 have no form in TOML.
        value: toml::Value::try_from(&setting.value).unwrap_or_else(|_| "?".into()),
        origin: setting.origin.clone(),
    }
}

/// What is not set is shown as an empty text.
fn optional_row<T: Serialize>(path: &'static str, setting: &Setting<Option<T>>) -> Row {
    let value = match &setting.value {
        Some(value) => toml::Value::try_from(value).unwrap_or_else(|_| "?".into()),
        None => "".into(),
    };
    let origin = setting.origin.clone();
    row(path, &Setting { value, origin })
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
    fn named(&self) -> Option<PathBuf> {
        self.config
            .map(Path::to_owned)
            .or_else(|| self.environment.path("ORIEL_CONFIG"))
    }
}

/// The project's, the user's and the system's file, as far as they are there.
fn file_layers(sources: &Sources<'_>) -> Result<Vec<Layer>, Vec<Problem>> {
    let mut files = Vec::new();
    match sources.named() {
        Some(path) => files.push(read_named(&path)?),
        None => {
            if let Some(path) = project::find(sources.folder) {
                let file = read_named(&path)?;
                let loosenings = project::loosenings(&file);
                if !loosenings.is_empty() {
                    return Err(loosenings);
                }
                files.push(file);
            }
            files.extend(read_if_there(&sources.paths.user_config)?);
        }
    }
    files.extend(read_if_there(&sources.paths.system_config)?);
    let home = &sources.paths.home;
    Ok(files
        .iter()
        .map(|file| Layer::of_file(file, home))
        .collect())
}

/// Layers, the strongest first.
struct Merge {
    layers: Vec<Layer>,
}

impl Merge {
    /// The value of the strongest layer that has one.
    fn pick<T>(
        &self,
        path: &str,
        read: impl Fn(&ConfigFile) -> Option<T>,
        default: T,
    ) -> Setting<T> {
        for layer in &self.layers {
            if let Some(value) = read(&layer.values) {
                let origin = layer.origins.get(path).cloned();
                return Setting {
                    value,
                    origin: origin.unwrap_or(Origin::Default),
                };
            }
        }
        Setting {
            value: default,
            origin: Origin::Default,
        }
    }

    fn settings(&self, paths: &Paths, purpose: Purpose) -> Settings {
        let timeouts = proxy::Timeouts::default();
        let pool = proxy::Pool::default();
        let governor = proxy::Governor::default();
        let rejections = proxy::Rejections::default();
        Settings {
            listen: self.listen(purpose),
            unix: self.of_service(purpose, "proxy.unix", |file| file.proxy.unix.clone()),
            tls: self.of_service(purpose, "proxy.tls", |file| file.proxy.tls.clone()),
            credentials: self.of_service(purpose, "proxy.credentials", |file| {
                file.proxy.credentials.clone()
            }),
            auth: self.of_service(purpose, "proxy.auth", |file| file.proxy.auth.clone()),
            proxy_protocol: self
                .of_service(purpose, "proxy.proxy_protocol", |file| {
                    file.proxy.proxy_protocol
                })
                .or_default(),
            reverse: self.reverse(purpose),
            connect_ports: self.pick(
                "proxy.connect_ports",
                |file| file.proxy.connect_ports.clone(),
                Vec::new(),
            ),
            attribution: self.pick("proxy.attribution", |file| file.proxy.attribution, true),
            danger_listen_without_credentials: self.pick(
                "proxy.danger_listen_without_credentials",
                |file| file.proxy.danger_listen_without_credentials,
                false,
            ),
            admin: self.admin(purpose),
            ca_certificate: self.pick(
                "ca.certificate",
                |file| file.ca.certificate.clone().map(Some),
                None,
            ),
            ca_key: self.pick("ca.key", |file| file.ca.key.clone().map(Some), None),
            hosts: self.pick(
                "intercept.hosts",
                |file| file.intercept.hosts.clone(),
                purpose.capture().hosts(),
            ),
            bypass: self.pick(
                "intercept.bypass",
                |file| file.intercept.bypass.clone(),
                Vec::new(),
            ),
            unlisted: self.pick(
                "intercept.unlisted",
                |file| file.intercept.unlisted,
                Unlisted::Tunnel,
            ),
            ip_targets: self.pick(
                "intercept.ip_targets",
                |file| file.intercept.ip_targets,
                false,
            ),
            sni_mismatch: self.pick(
                "intercept.sni_mismatch",
                |file| file.intercept.sni_mismatch,
                SniMismatch::Allow,
            ),
            rejections: self.pick(
                "intercept.rejections",
                |file| file.intercept.rejections,
                rejections.times,
            ),
            auto_bypass: self.pick(
                "intercept.auto_bypass",
                |file| file.intercept.auto_bypass,
                AutoBypass::Off,
            ),
            auto_bypass_for: self.period(
                "intercept.auto_bypass_for",
                |file| file.intercept.auto_bypass_for,
                rejections.bypass_for,
            ),
            strip_alt_svc: self.pick(
                "intercept.strip_alt_svc",
                |file| file.intercept.strip_alt_svc,
                true,
            ),
            http3_passthrough: self.pick(
                "intercept.http3_passthrough",
                |file| file.intercept.http3_passthrough.clone(),
                Vec::new(),
            ),
            gateway_routes: self.pick(
                "gateway.routes",
                |file| file.gateway.routes.clone(),
                Vec::new(),
            ),
            tls_min_version: self.pick(
                "tls.min_version",
                |file| file.tls.min_version,
                TlsVersion::Tls12,
            ),
            upstream_ca_files: self.pick(
                "upstream.ca_files",
                |file| file.upstream.ca_files.clone(),
                Vec::new(),
            ),
            upstream_system_roots: self.pick(
                "upstream.system_roots",
                |file| file.upstream.system_roots,
                true,
            ),
            danger_accept_invalid: self.pick(
                "upstream.danger_accept_invalid",
                |file| file.upstream.danger_accept_invalid.clone(),
                Vec::new(),
            ),
            private_reach: self.pick(
                "upstream.private_reach",
                |file| file.upstream.private_reach,
                PrivateReach::Local,
            ),
            private_allow: self.pick(
                "upstream.private_allow",
                |file| file.upstream.private_allow.clone(),
                Vec::new(),
            ),
            client_certificates: self.pick(
                "upstream.client_certificates",
                |file| file.upstream.client_certificates.clone(),
                Vec::new(),
            ),
            upstream_proxy: self.pick(
                "upstream_proxy.url",
                |file| file.upstream_proxy.url.clone(),
                ProxyChoice::Off,
            ),
            upstream_proxy_ca: self.pick(
                "upstream_proxy.ca",
                |file| file.upstream_proxy.ca.clone().map(Some),
                None,
            ),
            upstream_proxy_credentials: self.pick(
                "upstream_proxy.credentials",
                |file| file.upstream_proxy.credentials.clone().map(Some),
                None,
            ),
            upstream_proxy_credentials_file: self.pick(
                "upstream_proxy.credentials_file",
                |file| file.upstream_proxy.credentials_file.clone().map(Some),
                None,
            ),
            no_proxy: self.pick(
                "upstream_proxy.no_proxy",
                |file| file.upstream_proxy.no_proxy.clone(),
                Vec::new(),
            ),
            upstream_proxy_from_environment: self.proxy_of_environment(purpose),
            upstream_proxy_routes: self.pick(
                "upstream_proxy.routes",
                |file| file.upstream_proxy.routes.clone(),
                Vec::new(),
            ),
            timeout_connect: self.period(
                "timeouts.connect",
                |file| file.timeouts.connect,
                timeouts.connect,
            ),
            timeout_tls: self.period("timeouts.tls", |file| file.timeouts.tls, timeouts.tls),
            timeout_head: self.period("timeouts.head", |file| file.timeouts.head, timeouts.head),
            timeout_idle_client: self.period(
                "timeouts.idle_client",
                |file| file.timeouts.idle_client,
                timeouts.idle_client,
            ),
            timeout_idle_body: self.period(
                "timeouts.idle_body",
                |file| file.timeouts.idle_body,
                timeouts.idle_body,
            ),
            timeout_drain: self.period(
                "timeouts.drain",
                |file| file.timeouts.drain,
                timeouts.drain,
            ),
            pool_idle: self.period("pool.idle", |file| file.pool.idle, pool.idle),
            pool_idle_per_target_max: self.pick(
                "pool.idle_per_target_max",
                |file| file.pool.idle_per_target_max,
                pool.idle_per_target_max,
            ),
            pool_connections_per_target_max: self.pick(
                "pool.connections_per_target_max",
                |file| Some(file.pool.connections_per_target_max?.get()),
                pool.connections_per_target_max,
            ),
            flows_max: self.pick(
                "limits.flows_max",
                |file| Some(file.limits.flows_max?.get()),
                governor.flows_max,
            ),
            connections_per_client_max: self.pick(
                "limits.connections_per_client_max",
                |file| Some(file.limits.connections_per_client_max?.get()),
                governor.connections_per_client_max,
            ),
            capture_enabled: self.pick("capture.enabled", |file| file.capture.enabled, true),
            capture_bodies: self.pick("capture.bodies", |file| file.capture.bodies, true),
            body_bytes_kept: self.pick(
                "capture.body_bytes_kept",
                |file| file.capture.body_bytes_kept,
                BODY_BYTES_KEPT,
            ),
            body_limits: self.pick(
                "capture.body_limits",
                |file| file.capture.body_limits.clone(),
                Vec::new(),
            ),
            excluded_hosts: self.pick(
                "capture.excluded_hosts",
                |file| file.capture.excluded_hosts.clone(),
                Vec::new(),
            ),
            redact: self.pick("capture.redact", |file| file.capture.redact, Redact::Basic),
            llm_hosts: self.pick(
                "capture.llm_hosts",
                |file| file.capture.llm_hosts.clone(),
                Vec::new(),
            ),
            data_folder: self.pick(
                "store.data_folder",
                |file| file.store.data_folder.clone(),
                paths.data.clone(),
            ),
            retention_keep: self.pick("retention.keep", |file| file.retention.keep.map(Some), None),
            retention_keep_bodies: self.pick(
                "retention.keep_bodies",
                |file| file.retention.keep_bodies.map(Some),
                None,
            ),
            retention_max_size: self.pick(
                "retention.max_size",
                |file| file.retention.max_size.map(Some),
                None,
            ),
            archive: self.pick(
                "database.url",
                |file| file.database.url.clone(),
                ArchiveChoice::Local,
            ),
            instance: self.pick(
                "database.instance",
                |file| file.database.instance.clone().map(Some),
                None,
            ),
            user: self.pick(
                "database.user",
                |file| file.database.user.clone().map(Some),
                None,
            ),
            tags: self.pick(
                "database.tags",
                |file| file.database.tags.clone(),
                Vec::new(),
            ),
            log_level: self.pick(
                "log.level",
                |file| file.log.level.clone(),
                purpose.log_level(),
            ),
            log_format: self.pick("log.format", |file| file.log.format, LogFormat::Text),
        }
    }

    fn period(
        &self,
        path: &str,
        read: impl Fn(&ConfigFile) -> Option<Period>,
        default: Duration,
    ) -> Setting<Period> {
        self.pick(path, read, Period(default))
    }

    /// Whether the machine's own proxy variables count. The command of a run would have heeded
    /// them; a service stands in no shell that somebody looks at.
    fn proxy_of_environment(&self, purpose: Purpose) -> Setting<bool> {
        self.pick(
            "upstream_proxy.from_environment",
            |file| file.upstream_proxy.from_environment,
            purpose == Purpose::Run,
        )
    }

    /// Takes over HTTPS_PROXY and its like, where they count and nothing else names a proxy.
    fn add_proxy_variables(
        &mut self,
        environment: &Environment,
        purpose: Purpose,
    ) -> Result<(), Problem> {
        let is_named = |layer: &Layer| layer.values.upstream_proxy.url.is_some();
        if !self.proxy_of_environment(purpose).value || self.layers.iter().any(is_named) {
            return Ok(());
        }
        let service = self.listen(Purpose::Serve).value.0;
        self.layers.extend(proxy_variables(environment, service)?);
        Ok(())
    }

    /// Takes over DATABASE_URL for a service, where nothing else names an archive. It is many programs'
    /// variable: that of a shell in which somebody runs a command is most likely the command's own.
    fn add_database_variable(
        &mut self,
        environment: &Environment,
        purpose: Purpose,
    ) -> Result<(), Problem> {
        let is_named = |layer: &Layer| layer.values.database.url.is_some();
        if purpose == Purpose::Serve && !self.layers.iter().any(is_named) {
            self.layers.extend(database_variable(environment)?);
        }
        Ok(())
    }

    /// A run has a port of its own: the address of the service is not for it, its flag is.
    fn listen(&self, purpose: Purpose) -> Setting<Listen> {
        match purpose {
            Purpose::Serve => self.pick(
                "proxy.listen",
                |file| file.proxy.listen,
                Listen(SERVE_ADDRESS),
            ),
            Purpose::Run => {
                self.of_flag("proxy.listen", |file| file.proxy.listen, Listen(ANY_PORT))
            }
        }
    }

    /// What only a service has: a run listens for its own command.
    fn of_service<T>(
        &self,
        purpose: Purpose,
        path: &str,
        read: impl Fn(&ConfigFile) -> Option<T>,
    ) -> Setting<Option<T>> {
        match purpose {
            Purpose::Serve => self.pick(path, |file| read(file).map(Some), None),
            Purpose::Run => Setting {
                value: None,
                origin: Origin::Default,
            },
        }
    }

    /// A run stands in front of what its own flags name.
    fn reverse(&self, purpose: Purpose) -> Setting<Vec<Reverse>> {
        let read = |file: &ConfigFile| file.proxy.reverse.clone();
        match purpose {
            Purpose::Serve => self.pick("proxy.reverse", read, Vec::new()),
            Purpose::Run => self.of_flag("proxy.reverse", read, Vec::new()),
        }
    }

    fn admin(&self, purpose: Purpose) -> Setting<AdminListen> {
        let read = |file: &ConfigFile| file.admin.listen;
        match purpose {
            Purpose::Serve => self.pick("admin.listen", read, AdminListen::At(ADMIN_ADDRESS)),
            Purpose::Run => self.of_flag("admin.listen", read, AdminListen::Off),
        }
    }

    /// The value of the flag, which is the strongest layer, or the default.
    fn of_flag<T>(
        &self,
        path: &str,
        read: impl Fn(&ConfigFile) -> Option<T>,
        default: T,
    ) -> Setting<T> {
        let flag = self.layers.first().and_then(|layer| {
            let value = read(&layer.values)?;
            Some(Setting {
                value,
                origin: layer.origins.get(path)?.clone(),
            })
        });
        flag.unwrap_or(Setting {
            value: default,
            origin: Origin::Default,
        })
    }
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

impl Purpose {
    /// A service sees everybody's traffic and opens what it knows; a run sees one command's.
    fn capture(self) -> CaptureWhich {
        match self {
            Self::Serve => CaptureWhich::Known,
            Self::Run => CaptureWhich::All,
        }
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
