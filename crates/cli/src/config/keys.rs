//! Every setting by name: its key in a config file, its variables, its flag, what it is for. Help
//! texts, hints, `oriel config show` and the reading of variables all go by this list.

use traffic::spelling::nearest;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// `section.key`.
    pub(crate) path: &'static str,
    /// Variables, the first that is set wins.
    pub(crate) variables: &'static [&'static str],
    /// The flag, where there is one.
    pub(crate) flag: Option<&'static str>,
    /// What the text of a variable is.
    pub(crate) form: Form,
    /// One line for people.
    pub(crate) about: &'static str,
}

impl Key {
    /// Whether its value may hold a password, which is not to be repeated.
    pub(crate) fn may_be_secret(&self) -> bool {
        matches!(self.path, "upstream_proxy.url" | "database.url")
            || self.path.ends_with(".credentials")
    }

    /// Whether its value is a list, of texts, numbers or tables.
    pub(crate) fn is_list(&self) -> bool {
        let of_tables = [
            "proxy.reverse",
            "gateway.routes",
            "upstream.client_certificates",
            "upstream_proxy.routes",
            "capture.body_limits",
        ];
        matches!(self.form, Form::Texts | Form::Numbers) || of_tables.contains(&self.path)
    }
}

/// How the text of a variable is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As one text.
    Text,
    /// As texts with commas between them.
    Texts,
    /// As whole numbers with commas between them.
    Numbers,
    /// As one whole number.
    Number,
    /// As `true`, `false`, `1` or `0`.
    Switch,
}

const fn key(
    path: &'static str,
    variables: &'static [&'static str],
    flag: Option<&'static str>,
    form: Form,
    about: &'static str,
) -> Key {
    Key {
        path,
        variables,
        flag,
        form,
        about,
    }
}

/// All settings, in the order of the config file.
#[rustfmt::skip]
pub(crate) const KEYS: &[Key] = &[
    key("proxy.listen", &["ORIEL_LISTEN", "LISTEN_ADDR"], Some("--listen"), Form::Text,
        "where the proxy listens"),
    key("proxy.unix", &["ORIEL_UNIX"], None, Form::Text,
        "a Unix-domain socket that the proxy listens on as well"),
    key("proxy.tls", &[], None, Form::Text,
        "TLS between clients and the proxy: certificate and key, or names"),
    key("proxy.credentials", &["ORIEL_PROXY_CREDENTIALS"], None, Form::Text,
        "user:password that clients of the proxy have to know"),
    key("proxy.auth", &[], None, Form::Text,
        "who may use the proxy: users_file, command, url or any_password; realm, cache_for"),
    key("proxy.proxy_protocol", &["ORIEL_PROXY_PROTOCOL"], None, Form::Switch,
        "whether every connection begins with a header of the PROXY protocol"),
    key("proxy.reverse", &[], None, Form::Text,
        "listeners that stand in front of one upstream each: listen, to, tls"),
    key("proxy.connect_ports", &["ORIEL_CONNECT_PORTS"], None, Form::Numbers,
        "ports a CONNECT request may name besides 443 and 80"),
    key("proxy.attribution", &["ORIEL_ATTRIBUTION"], None, Form::Switch,
        "whether the program behind each connection from this machine is recorded"),
    key("proxy.danger_listen_without_credentials", &["ORIEL_DANGER_LISTEN_WITHOUT_CREDENTIALS"],
        Some("--danger-listen-without-credentials"), Form::Switch,
        "lets everybody who reaches the address use the proxy"),
    key("admin.listen", &["ORIEL_ADMIN"], Some("--admin"), Form::Text,
        "a loopback address for /healthz and /status, or off"),
    key("ca.certificate", &["ORIEL_CA_CERT"], Some("--ca-cert"), Form::Text,
        "certificate of the authority that clients see"),
    key("ca.key", &["ORIEL_CA_KEY"], Some("--ca-key"), Form::Text,
        "its private key"),
    key("intercept.hosts", &["ORIEL_INTERCEPT", "ALLOWLIST_HOSTS"], Some("--intercept"), Form::Texts,
        "hosts that are opened"),
    key("intercept.bypass", &["ORIEL_BYPASS"], Some("--bypass"), Form::Texts,
        "hosts that are never opened"),
    key("intercept.unlisted", &["ORIEL_UNLISTED"], Some("--unlisted"), Form::Text,
        "tunnel or block: what happens to hosts on no list"),
    key("intercept.ip_targets", &["ORIEL_INTERCEPT_IP_TARGETS"], None, Form::Switch,
        "also opens connections to IP addresses"),
    key("intercept.sni_mismatch", &["ORIEL_SNI_MISMATCH"], None, Form::Text,
        "allow or deny: clients that name another host in TLS than in CONNECT"),
    key("intercept.rejections", &["ORIEL_REJECTIONS"], None, Form::Number,
        "refusals of oriel's certificate by a program for a host after which it is said"),
    key("intercept.auto_bypass", &["ORIEL_AUTO_BYPASS"], None, Form::Text,
        "off, process or host: for whom the host passes unopened after as many refusals"),
    key("intercept.auto_bypass_for", &["ORIEL_AUTO_BYPASS_FOR"], None, Form::Text,
        "how long it passes unopened then"),
    key("intercept.strip_alt_svc", &["ORIEL_STRIP_ALT_SVC"], None, Form::Switch,
        "takes offers of HTTP/3, which goes past oriel, out of responses"),
    key("intercept.http3_passthrough", &["ORIEL_HTTP3_PASSTHROUGH"], None, Form::Texts,
        "hosts whose offers of HTTP/3 stay"),
    key("gateway.routes", &[], None, Form::Text,
        "which requests go to a gateway: hosts, methods, paths, to, provider, token, …"),
    key("tls.min_version", &["ORIEL_TLS_MIN_VERSION"], None, Form::Text,
        "1.2 or 1.3: the oldest version that is spoken with clients and upstreams"),
    key("upstream.ca_files", &["ORIEL_UPSTREAM_CA"], Some("--upstream-ca"), Form::Texts,
        "files with certificates that are trusted besides the system's"),
    key("upstream.system_roots", &["ORIEL_UPSTREAM_SYSTEM_ROOTS"], None, Form::Switch,
        "whether the roots that the system trusts are trusted"),
    key("upstream.danger_accept_invalid", &["ORIEL_DANGER_ACCEPT_INVALID_UPSTREAM"],
        Some("--danger-accept-invalid-upstream"), Form::Texts,
        "hosts whose certificates are not verified at all"),
    key("upstream.private_reach", &["ORIEL_PRIVATE_REACH"], None, Form::Text,
        "who may reach addresses that are not public: local clients, all or none"),
    key("upstream.private_allow", &["ORIEL_PRIVATE_ALLOW"], None, Form::Texts,
        "hosts and ranges that everybody may reach all the same"),
    key("upstream.client_certificates", &[], None, Form::Text,
        "certificates for upstreams that ask their clients for one"),
    key("upstream_proxy.url", &["ORIEL_UPSTREAM_PROXY"], Some("--upstream-proxy"), Form::Text,
        "a proxy that upstreams are reached through: http, https or socks5, or off"),
    key("upstream_proxy.ca", &["ORIEL_UPSTREAM_PROXY_CA"], Some("--upstream-proxy-ca"), Form::Text,
        "file with certificates that are trusted for what comes through it"),
    key("upstream_proxy.credentials", &["ORIEL_UPSTREAM_PROXY_CREDENTIALS"], None, Form::Text,
        "user:password that it is told"),
    key("upstream_proxy.credentials_file", &["ORIEL_UPSTREAM_PROXY_CREDENTIALS_FILE"], None,
        Form::Text, "file with user:password, readable by its owner only"),
    key("upstream_proxy.no_proxy", &["ORIEL_UPSTREAM_PROXY_NO_PROXY"], None, Form::Texts,
        "hosts that are reached without it"),
    key("upstream_proxy.from_environment", &["ORIEL_UPSTREAM_PROXY_FROM_ENVIRONMENT"], None,
        Form::Switch, "whether HTTPS_PROXY, ALL_PROXY and NO_PROXY say it where nothing else does"),
    key("upstream_proxy.routes", &[], None, Form::Text,
        "ways to single hosts: hosts, url or off, ca, credentials_file"),
    key("timeouts.connect", &["ORIEL_TIMEOUT_CONNECT"], None, Form::Text,
        "for name resolution and the connection to an upstream"),
    key("timeouts.tls", &["ORIEL_TIMEOUT_TLS"], None, Form::Text,
        "for one TLS handshake, on either side"),
    key("timeouts.head", &["ORIEL_TIMEOUT_HEAD"], None, Form::Text,
        "for the whole of a message head"),
    key("timeouts.idle_client", &["ORIEL_TIMEOUT_IDLE_CLIENT"], None, Form::Text,
        "how long a client may be silent between two requests"),
    key("timeouts.idle_body", &["ORIEL_TIMEOUT_IDLE_BODY"], None, Form::Text,
        "how long a body, a response or a tunnel may stand still"),
    key("timeouts.drain", &["ORIEL_TIMEOUT_DRAIN"], None, Form::Text,
        "how long flows may go on after a stop was asked for"),
    key("pool.idle", &["ORIEL_POOL_IDLE"], None, Form::Text,
        "how long an idle upstream connection is kept"),
    key("pool.idle_per_target_max", &["ORIEL_POOL_IDLE_PER_TARGET_MAX"], None, Form::Number,
        "idle HTTP/1.1 connections per target"),
    key("pool.connections_per_target_max", &["ORIEL_POOL_CONNECTIONS_PER_TARGET_MAX"], None,
        Form::Number, "connections per target; requests beyond wait for one"),
    key("limits.flows_max", &["ORIEL_FLOWS_MAX"], None, Form::Number,
        "requests, WebSockets and tunnels under way at once"),
    key("limits.connections_per_client_max", &["ORIEL_CONNECTIONS_PER_CLIENT_MAX"], None,
        Form::Number, "connections of one client at once"),
    key("capture.enabled", &["ORIEL_CAPTURE"], Some("--no-capture"), Form::Switch,
        "whether anything is stored at all"),
    key("capture.bodies", &["ORIEL_CAPTURE_BODIES"], None, Form::Switch,
        "whether bodies are kept; their sizes and types are in any case"),
    key("capture.body_bytes_kept", &["ORIEL_BODY_BYTES_KEPT"], Some("--max-body"), Form::Text,
        "bytes kept of each body; the wire is never cut"),
    key("capture.body_limits", &[], None, Form::Text,
        "less for some bodies: hosts, content_types, keep; the first that names one counts"),
    key("capture.excluded_hosts", &["ORIEL_EXCLUDED_HOSTS"], None, Form::Texts,
        "hosts of which nothing is stored; they are reached as ever"),
    key("capture.redact", &["ORIEL_REDACT"], Some("--redact"), Form::Text,
        "basic or none: credentials that are masked before they are stored"),
    key("capture.llm_hosts", &["ORIEL_LLM_HOSTS"], None, Form::Texts,
        "hosts where models are asked, besides those that oriel knows"),
    key("store.data_folder", &["ORIEL_DATA"], Some("--data"), Form::Text,
        "folder of the database and of the certificate authority"),
    key("retention.keep", &["ORIEL_KEEP"], None, Form::Text,
        "how long flows are kept while a service runs; marked ones stay"),
    key("retention.keep_bodies", &["ORIEL_KEEP_BODIES"], None, Form::Text,
        "how long their bodies are kept"),
    key("retention.max_size", &["ORIEL_MAX_SIZE"], None, Form::Text,
        "what the database may take: the oldest bodies go first, then the oldest flows"),
    key("retention.tags", &["ORIEL_KEEP_TAGS"], None, Form::Texts,
        "how long flows with a tag are kept, in the place of for ever: scratch=7d"),
    key("database.url", &["ORIEL_DATABASE_URL"], None, Form::Text,
        "an archive that flows are copied to: postgres://…, clickhouse://…, sqlite:/…, or local"),
    key("database.instance", &["ORIEL_DATABASE_INSTANCE"], None, Form::Text,
        "which oriel it is, among those that write to the archive"),
    key("database.user", &["ORIEL_DATABASE_USER"], None, Form::Text,
        "for whom it records, among those that write to the archive"),
    key("database.tags", &["ORIEL_DATABASE_TAGS"], None, Form::Texts,
        "words to find its flows by in the archive"),
    key("database.local_keep", &["ORIEL_DATABASE_LOCAL_KEEP"], None, Form::Text,
        "how long flows that the archive has stay in the file of this machine"),
    key("database.overflow", &["ORIEL_DATABASE_OVERFLOW"], None, Form::Text,
        "drop or block: what happens when there is no room for what is seen"),
    key("database.spool_bytes_max", &["ORIEL_DATABASE_SPOOL_BYTES_MAX"], None, Form::Text,
        "what flows may take beside the database while it cannot be written"),
    key("log.level", &["ORIEL_LOG"], None, Form::Text,
        "level of oriel's own diagnostics, for example info or warn,proxy=debug"),
    key("log.format", &["ORIEL_LOG_FORMAT"], Some("--log-format"), Form::Text,
        "text or json"),
];

/// Variables that are read but are no settings of the config file.
pub(crate) const OTHER_VARIABLES: &[(&str, &str)] = &[
    (
        "ORIEL_CONFIG",
        "a config file in place of the user's and the project's",
    ),
    ("ORIEL_ASCII", "1: neither glyphs nor box drawing"),
    ("ORIEL_OUTPUT", "json: as --json; text: as without"),
    (
        "ORIEL_PAGER",
        "what long texts are read with on a terminal; empty or cat: nothing",
    ),
    ("PAGER", "the same for all programs; less if neither is set"),
    ("CI", "true: as --no-progress and --no-pager"),
    ("NO_COLOR", "no colours"),
    (
        "CLICOLOR_FORCE",
        "colours even where no terminal is (also FORCE_COLOR)",
    ),
];

/// The setting of a path.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Variables that look like settings and are none, each with what was probably meant.
pub(crate) fn unknown_variables<'a>(
    names: impl Iterator<Item = &'a str>,
) -> Vec<(&'a str, Option<&'static str>)> {
    let settings = KEYS.iter().flat_map(|key| key.variables).copied();
    let known: Vec<&str> = settings
        .chain(OTHER_VARIABLES.iter().map(|(name, _)| *name))
        .collect();
    names
        .filter(|name| name.starts_with("ORIEL_") && !known.contains(name))
        .map(|name| (name, nearest(name, known.iter().copied())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::file::ConfigFile;

    #[test]
    fn the_list_has_every_key_of_the_file() {
        let schema = serde_json::to_value(schemars::schema_for!(ConfigFile)).unwrap();
        let mut in_file = BTreeSet::new();
        for (section, place) in schema["properties"].as_object().unwrap() {
            let name = place["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
            let keys = schema["$defs"][name]["properties"].as_object().unwrap();
            in_file.extend(keys.keys().map(|key| format!("{section}.{key}")));
        }
        let listed: BTreeSet<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
        assert_eq!(in_file, listed);
    }

    #[test]
    fn a_variable_with_a_typo_is_found() {
        let names = ["ORIEL_LISTN", "ORIEL_LISTEN", "PATH", "ORIEL_XYZZY"];
        let unknown = unknown_variables(names.into_iter());
        let expected = [("ORIEL_LISTN", Some("ORIEL_LISTEN")), ("ORIEL_XYZZY", None)];
        assert_eq!(unknown, expected);
    }
}
