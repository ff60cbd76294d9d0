//! The shape of a config file: every section and key, all of them optional. The same shape carries
//! what flags and variables set, so that every source is merged in one way.

use std::num::NonZeroU32;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{
    AdminListen, ArchiveChoice, AutoBypass, KeepOrDrop, Listen, LogFormat, Login, Overflow,
    PrivateReach, ProxyChoice, ProxyLogin, Redact, SniMismatch, TagPeriod, TlsVersion, TokenFrom,
    Unlisted, UpstreamUrl,
};
use crate::quantity::{Period, Size};

/// The configuration of oriel.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConfigFile {
    /// The port that clients send their traffic to.
    pub(crate) proxy: Proxy,
    /// The port that says how oriel is.
    pub(crate) admin: Admin,
    /// The certificate authority whose leaves clients see.
    pub(crate) ca: Ca,
    /// What is opened, passed or refused.
    pub(crate) intercept: Intercept,
    /// Which requests go to a gateway in the place of their upstream.
    pub(crate) gateway: GatewaySection,
    /// What is demanded of TLS, on either side.
    pub(crate) tls: Tls,
    /// Which upstreams are believed.
    pub(crate) upstream: Upstream,
    /// The proxy that upstreams are reached through.
    pub(crate) upstream_proxy: UpstreamProxy,
    /// How long peers are waited for.
    pub(crate) timeouts: Timeouts,
    /// Upstream connections.
    pub(crate) pool: Pool,
    /// How much may go on at once.
    pub(crate) limits: Limits,
    /// What is kept.
    pub(crate) capture: Capture,
    /// Where it is kept.
    pub(crate) store: Store,
    pub(crate) retention: Retention,
    /// The archive that it is copied to, and what happens when nothing can be written.
    pub(crate) database: Database,
    /// oriel's own diagnostics.
    pub(crate) log: Log,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Proxy {
    /// Where `oriel serve` listens.
    #[schemars(with = "Option<String>")]
    pub(crate) listen: Option<Listen>,
    /// A Unix-domain socket that the proxy listens on as well, for its owner alone.
    pub(crate) unix: Option<PathBuf>,
    /// TLS between clients and the proxy.
    pub(crate) tls: Option<ListenTls>,
    /// `user:password` that clients of the proxy have to know.
    #[schemars(with = "Option<String>")]
    pub(crate) credentials: Option<Login>,
    /// Who may use the proxy, where `credentials` is too little.
    pub(crate) auth: Option<Auth>,
    /// Whether every connection begins with a header of the PROXY protocol.
    pub(crate) proxy_protocol: Option<bool>,
    /// Listeners that stand in front of one upstream each.
    pub(crate) reverse: Option<Vec<Reverse>>,
    /// Ports a CONNECT request may name besides 443 and 80.
    pub(crate) connect_ports: Option<Vec<u16>>,
    /// Whether the program behind each connection from this machine is recorded.
    pub(crate) attribution: Option<bool>,
    /// Lets everybody who reaches the address use the proxy.
    pub(crate) danger_listen_without_credentials: Option<bool>,
}

/// Who may use the proxy: exactly one of `users_file`, `command`, `url` and `any_password`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Auth {
    /// A file with `name:$argon2id$…` in each line, as `oriel auth hash` writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) users_file: Option<PathBuf>,
    /// A program with its arguments. It gets `{"user":…,"password":…}` on its standard input and
    /// admits with exit code 0, refuses with 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<Vec<String>>,
    /// A URL that is asked with the password as a token: a status of the 200s admits, 401 and 403
    /// refuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// The field that carries the token to `url`, as it is; otherwise `Authorization: Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) header: Option<String>,
    /// Admits whoever brings a password, whatever it is: for tokens that only the upstream checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) any_password: Option<bool>,
    /// What clients are told that they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) realm: Option<String>,
    /// How long a yes holds before it is asked for anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) cache_for: Option<Period>,
}

/// A listener that stands in front of one upstream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reverse {
    /// Where it listens.
    #[schemars(with = "String")]
    pub(crate) listen: Listen,
    /// The upstream: `https://api.openai.com`.
    #[schemars(with = "String")]
    pub(crate) to: UpstreamUrl,
    /// TLS between its clients and oriel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<ListenTls>,
}

/// TLS on a listener: `certificate` with `key`, or `names` that oriel's authority signs for. Empty:
/// the names of this machine's loopback, and the address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ListenTls {
    /// Certificate chain, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
    /// Names and addresses that a minted certificate is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) names: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    /// A loopback address, or "off".
    #[schemars(with = "Option<String>")]
    pub(crate) listen: Option<AdminListen>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ca {
    /// Certificate of the authority, PEM. Needs `key`.
    pub(crate) certificate: Option<PathBuf>,
    /// Its private key, PEM, readable by its owner only.
    pub(crate) key: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Intercept {
    /// Hosts that are opened: exact names, `*.suffix`, `*`, each with an optional port. Plain HTTP is seen
    /// of every host but those in `bypass`.
    pub(crate) hosts: Option<Vec<String>>,
    /// Hosts that are never opened, even if they are in `hosts`. Of plain HTTP to them no path, query,
    /// field or body is recorded.
    pub(crate) bypass: Option<Vec<String>>,
    /// What happens to hosts on no list.
    pub(crate) unlisted: Option<Unlisted>,
    /// Also opens connections to IP addresses, which name no host.
    pub(crate) ip_targets: Option<bool>,
    /// What becomes of a client whose ClientHello names another host than its CONNECT request.
    pub(crate) sni_mismatch: Option<SniMismatch>,
    /// After how many refusals of oriel's certificate by a program for a host it is said, and
    /// `auto_bypass` begins.
    pub(crate) rejections: Option<NonZeroU32>,
    /// For whom a host passes unopened then.
    pub(crate) auto_bypass: Option<AutoBypass>,
    /// For how long it does.
    #[schemars(with = "Option<String>")]
    pub(crate) auto_bypass_for: Option<Period>,
    /// Whether offers of HTTP/3 are taken out of the Alt-Svc fields of responses.
    pub(crate) strip_alt_svc: Option<bool>,
    /// Hosts whose offers of HTTP/3 stay, so that their clients may go past oriel.
    pub(crate) http3_passthrough: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GatewaySection {
    /// Routes; the first that a request matches decides. Their hosts are opened.
    pub(crate) routes: Option<Vec<GatewayRoute>>,
}

/// What becomes of some requests: they go to a gateway (`to`), or are refused (`block`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GatewayRoute {
    /// What people call it; otherwise its first host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The hosts that clients ask for: exact names, `*.suffix`, each with an optional port.
    pub(crate) hosts: Vec<String>,
    /// The methods; otherwise all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) methods: Option<Vec<String>>,
    /// The paths, where `*` stands for any text; otherwise all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paths: Option<Vec<String>>,
    /// The gateway: `https://gw.example/api/{provider}{path}`. The query is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Refuses the requests in place of sending them anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) block: Option<bool>,
    /// What stands for `{provider}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// Where the token for the gateway comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<TokenFrom>,
    /// A file with the token, for its owner's eyes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// The field that carries the token as it is; otherwise `Authorization: Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_header: Option<String>,
    /// What becomes of the client's own `Authorization`, `X-Api-Key` and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_credentials: Option<KeepOrDrop>,
    /// The field that carries an id of the request to the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id_header: Option<String>,
    /// Whether the gateway is reached through the upstream proxy, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream_proxy: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Upstream {
    /// Files with certificates that are trusted besides the system's, PEM.
    pub(crate) ca_files: Option<Vec<PathBuf>>,
    /// Whether the roots that the system trusts are trusted.
    pub(crate) system_roots: Option<bool>,
    /// Hosts whose certificates are not verified at all.
    pub(crate) danger_accept_invalid: Option<Vec<String>>,
    /// Who may reach private, loopback, link-local and reserved addresses.
    pub(crate) private_reach: Option<PrivateReach>,
    /// Hosts and ranges of addresses that everybody may reach all the same.
    pub(crate) private_allow: Option<Vec<String>>,
    /// Certificates for upstreams that ask their clients for one.
    pub(crate) client_certificates: Option<Vec<ClientCertificate>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UpstreamProxy {
    /// `http://`, `https://` or `socks5://` with host and port, or "off".
    #[schemars(with = "Option<String>")]
    pub(crate) url: Option<ProxyChoice>,
    /// A file with certificates that are trusted for what comes through it, PEM.
    pub(crate) ca: Option<PathBuf>,
    /// `user:password` that it is told.
    #[schemars(with = "Option<String>")]
    pub(crate) credentials: Option<ProxyLogin>,
    /// A file with `user:password`, readable by its owner only.
    pub(crate) credentials_file: Option<PathBuf>,
    /// Hosts that are reached without it: names with all below, `.suffix`, addresses, ranges, each
    /// but ranges with an optional port.
    pub(crate) no_proxy: Option<Vec<String>>,
    /// Whether the variables HTTPS_PROXY, ALL_PROXY and NO_PROXY say it where nothing else does.
    pub(crate) from_environment: Option<bool>,
    /// Ways to single hosts; the first that names a host counts.
    pub(crate) routes: Option<Vec<ProxyRoute>>,
}

/// The way to some hosts: through a proxy, or directly.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxyRoute {
    /// Which hosts: exact names, `*.suffix`, `*`, addresses, ranges, each with an optional port.
    pub(crate) hosts: Vec<String>,
    /// The proxy, or "off" to reach them directly.
    #[schemars(with = "String")]
    pub(crate) url: ProxyChoice,
    /// A file with certificates that are trusted for what comes through it, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// A file with `user:password` that it is told, readable by its owner only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) credentials_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    /// The oldest version that is spoken, with clients and with upstreams.
    pub(crate) min_version: Option<TlsVersion>,
}

/// A certificate for upstreams that ask their clients for one. The first entry that names the host
/// counts.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientCertificate {
    /// To whom it is shown: exact names, `*.suffix`, each with an optional port.
    pub(crate) hosts: Vec<String>,
    /// The certificate, followed by those it was issued by, PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM, readable by its owner only.
    pub(crate) key: PathBuf,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Timeouts {
    /// For name resolution and the connection to an upstream.
    #[schemars(with = "Option<String>")]
    pub(crate) connect: Option<Period>,
    /// For one TLS handshake, on either side.
    #[schemars(with = "Option<String>")]
    pub(crate) tls: Option<Period>,
    /// For the whole of a message head once its first byte has come.
    #[schemars(with = "Option<String>")]
    pub(crate) head: Option<Period>,
    /// How long a client may be silent between two requests.
    #[schemars(with = "Option<String>")]
    pub(crate) idle_client: Option<Period>,
    /// How long a body, a response or a tunnel may stand still.
    #[schemars(with = "Option<String>")]
    pub(crate) idle_body: Option<Period>,
    /// How long flows may go on after a stop was asked for.
    #[schemars(with = "Option<String>")]
    pub(crate) drain: Option<Period>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pool {
    /// How long an idle upstream connection is kept.
    #[schemars(with = "Option<String>")]
    pub(crate) idle: Option<Period>,
    /// Idle HTTP/1.1 connections per target.
    pub(crate) idle_per_target_max: Option<usize>,
    /// Connections per target, tunnels not counted; requests beyond wait for one.
    pub(crate) connections_per_target_max: Option<NonZeroUsize>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Requests, WebSockets and tunnels under way; what is beyond is answered with 503.
    pub(crate) flows_max: Option<NonZeroUsize>,
    /// Connections of one client address; what is beyond is answered with 503.
    pub(crate) connections_per_client_max: Option<NonZeroUsize>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Capture {
    /// Whether anything is stored at all.
    pub(crate) enabled: Option<bool>,
    /// Whether bodies are kept; their sizes and types are in any case.
    pub(crate) bodies: Option<bool>,
    /// Bytes kept of each body, from its start on; the wire is never cut.
    #[schemars(with = "Option<String>")]
    pub(crate) body_bytes_kept: Option<Size>,
    /// Less for some bodies; the first entry that names one counts.
    pub(crate) body_limits: Option<Vec<BodyLimit>>,
    /// Hosts of which nothing is stored: exact names, `*.suffix`, each with an optional port.
    pub(crate) excluded_hosts: Option<Vec<String>>,
    /// Which credentials are masked before they are stored.
    pub(crate) redact: Option<Redact>,
    /// Hosts where models are asked, besides those that oriel knows.
    pub(crate) llm_hosts: Option<Vec<String>>,
}

/// How much is kept of some bodies.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BodyLimit {
    /// Of which hosts: exact names, `*.suffix`, each with an optional port; otherwise of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hosts: Option<Vec<String>>,
    /// Of which content types: `text/html`, `image/*`; otherwise of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_types: Option<Vec<String>>,
    /// Bytes kept of each, from its start on.
    #[schemars(with = "String")]
    pub(crate) keep: Size,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Store {
    /// Folder of the database and of the certificate authority.
    pub(crate) data_folder: Option<PathBuf>,
}

/// What a running service removes. Flows that are marked stay.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Retention {
    /// How long flows are kept.
    #[schemars(with = "Option<String>")]
    pub(crate) keep: Option<Period>,
    /// How long their bodies are kept.
    #[schemars(with = "Option<String>")]
    pub(crate) keep_bodies: Option<Period>,
    /// What the database may take; of more, the oldest bodies go first, then the oldest flows.
    #[schemars(with = "Option<String>")]
    pub(crate) max_size: Option<Size>,
    /// How long flows with a tag are kept, whatever the others say: `scratch=7d`.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) tags: Option<Vec<TagPeriod>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Database {
    /// `postgres://…`, `clickhouse://…`, `sqlite:/…`, or `local` for none.
    #[schemars(with = "Option<String>")]
    pub(crate) url: Option<ArchiveChoice>,
    /// Which oriel it is, among those that write there.
    pub(crate) instance: Option<String>,
    /// For whom it records.
    pub(crate) user: Option<String>,
    /// Words to find its flows by.
    pub(crate) tags: Option<Vec<String>>,
    /// How long flows that the archive has stay in the file of this machine.
    #[schemars(with = "Option<String>")]
    pub(crate) local_keep: Option<Period>,
    /// What happens when there is no room for what is seen.
    pub(crate) overflow: Option<Overflow>,
    /// What flows may take beside the database while it cannot be written.
    #[schemars(with = "Option<String>")]
    pub(crate) spool_bytes_max: Option<Size>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// Level, or levels by module: `info`, `warn,proxy=debug`.
    pub(crate) level: Option<String>,
    /// How log lines are written.
    pub(crate) format: Option<LogFormat>,
}
