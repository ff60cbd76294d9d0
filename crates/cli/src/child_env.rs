//! The variables that point a child at the proxy and make it trust our certificates. Which tool
//! reads which variable, and whether that adds to the tool's roots or replaces them, was tried.

use std::ffi::OsString;
use std::net::SocketAddr;

use crate::args::ShellName;
use crate::bundle::TrustFiles;
use crate::environment::Environment;

/// Variables of the proxy's URL, in the cases that tools read.
const PROXY: &[&str] = &[
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Variables of the base URLs of model APIs, with the path that their tools expect in it.
const BASE_URLS: &[(&str, &str)] = &[
    ("OPENAI_BASE_URL", "/v1"),
    ("OPENAI_API_BASE", "/v1"),
    ("ANTHROPIC_BASE_URL", ""),
    ("GOOGLE_GEMINI_BASE_URL", ""),
];

/// Variables whose file replaces a tool's roots.
pub(crate) const REPLACING: &[&str] = &[
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "npm_config_cafile",
    "CARGO_HTTP_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "CODEX_CA_CERTIFICATE",
    "NIX_SSL_CERT_FILE",
    "BUNDLE_SSL_CA_CERT",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "HTTPLIB2_CA_CERTS",
];

/// Variables whose file adds to a tool's roots.
pub(crate) const ADDING: &[&str] = &["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// Hosts that NO_PROXY lists to keep servers on this machine from a proxy.
const LOOPBACK: &[&str] = &["localhost", "127.0.0.1", "::1", "[::1]"];

/// What changes in the environment of a child.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) set: Vec<(String, OsString)>,
    pub(crate) unset: Vec<String>,
}

/// How the environment is to change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes<'a> {
    /// Where the proxy listens; `None` leaves the proxy variables alone.
    pub(crate) proxy: Option<SocketAddr>,
    /// Where oriel stands in front of a gateway; `None` leaves the base URLs alone.
    pub(crate) base_url: Option<SocketAddr>,
    /// `None` leaves the variables of trust alone.
    pub(crate) trust: Option<&'a TrustFiles>,
    /// Takes servers on this machine out of NO_PROXY.
    pub(crate) include_loopback: bool,
}

impl Changes {
    /// What a child's environment changes to.
    pub(crate) fn new(wishes: &Wishes<'_>, environment: &Environment) -> Self {
        let mut changes = Self::default();
        if let Some(address) = wishes.proxy {
            changes.point_at(address);
            if wishes.include_loopback {
                changes.include_loopback(environment);
            }
        }
        if let Some(address) = wishes.base_url {
            changes.base_urls(address);
            if wishes.proxy.is_some() {
                changes.go_past_proxy(address, environment);
            }
        }
        if let Some(files) = wishes.trust {
            changes.trust(files);
        }
        changes.hide_own_secrets(environment);
        changes
    }

    /// The names of all variables that are ever set, for taking them back.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        PROXY
            .iter()
            .chain(&["NODE_USE_ENV_PROXY"])
            .chain(REPLACING)
            .chain(ADDING)
            .copied()
    }

    fn point_at(&mut self, address: SocketAddr) {
        let url = format!("http://{address}");
        for name in PROXY {
            self.put(name, &url);
        }
        // Node looks at the variables above only if it is told to.
        self.put("NODE_USE_ENV_PROXY", "1");
    }

    fn base_urls(&mut self, address: SocketAddr) {
        for (name, path) in BASE_URLS {
            self.put(name, format!("http://{address}{path}"));
        }
    }

    /// Takes the place in front of the gateway out of the proxy: it is reached as it is.
    fn go_past_proxy(&mut self, address: SocketAddr, environment: &Environment) {
        for name in ["NO_PROXY", "no_proxy"] {
            let changed = self.set.iter().position(|(set, _)| set == name);
            let before = match changed {
                Some(at) => self.set.remove(at).1.into_string().ok(),
                None if self.unset.iter().any(|unset| unset == name) => None,
                None => environment.text(name).map(str::to_owned),
            };
            self.unset.retain(|unset| unset != name);
            let ip = address.ip();
            self.put(
                name,
                before.map_or_else(|| ip.to_string(), |list| format!("{list},{ip}")),
            );
        }
    }

    fn trust(&mut self, files: &TrustFiles) {
        for name in REPLACING {
            self.put(name, files.bundle.as_os_str());
        }
        for name in ADDING {
            self.put(name, files.addition.as_os_str());
        }
    }

    fn include_loopback(&mut self, environment: &Environment) {
        for name in ["NO_PROXY", "no_proxy"] {
            let Some(list) = environment.text(name) else {
                continue;
            };
            let kept: Vec<&str> = list
                .split(',')
                .map(str::trim)
                .filter(|entry| !entry.is_empty() && !is_loopback(entry))
                .collect();
            match kept.is_empty() {
                true => self.unset.push(name.to_owned()),
                false => self.put(name, kept.join(",")),
            }
        }
    }

    /// Tokens of oriel are for people, not for the agents they watch.
    fn hide_own_secrets(&mut self, environment: &Environment) {
        let secrets = environment.names().filter(|name| {
            name.starts_with("ORIEL_")
                && [
                    "TOKEN",
                    "PASSWORD",
                    "SECRET",
                    "_KEY",
                    "CREDENTIALS",
                    "UPSTREAM_PROXY",
                    "DATABASE_URL",
                ]
                .iter()
                .any(|word| name.contains(word))
        });
        self.unset.extend(secrets.map(str::to_owned));
    }

    fn put(&mut self, name: &str, value: impl Into<OsString>) {
        self.set.push((name.to_owned(), value.into()));
    }

    /// The changes as commands of a shell.
    pub(crate) fn to_shell(&self, shell: ShellName) -> String {
        let mut text = String::new();
        for (name, value) in &self.set {
            text.push_str(&shell.set(name, &value.to_string_lossy()));
            text.push('\n');
        }
        for name in &self.unset {
            text.push_str(&shell.unset(name));
            text.push('\n');
        }
        text
    }
}

/// Whether an entry of NO_PROXY is about this machine, with or without a port.
fn is_loopback(entry: &str) -> bool {
    let entry = entry.to_ascii_lowercase();
    let host = match entry.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            // "::1" ends in what looks like a port.
            if host.ends_with(':') || host.is_empty() {
                entry.as_str()
            } else {
                host
            }
        }
        _ => entry.as_str(),
    };
    LOOPBACK.contains(&host)
        || host.trim_start_matches('*') == ".localhost"
        || host.starts_with("127.")
}

/// Whether NO_PROXY keeps servers on this machine from the proxy.
pub(crate) fn no_proxy_covers_loopback(environment: &Environment) -> bool {
    ["NO_PROXY", "no_proxy"]
        .iter()
        .filter_map(|name| environment.text(name))
        .flat_map(|list| list.split(','))
        .any(|entry| entry.trim() == "*" || is_loopback(entry.trim()))
}

impl ShellName {
    pub(crate) fn set(self, name: &str, value: &str) -> String {
        match self {
            Self::Bash | Self::Zsh => format!("export {name}={}", single_quoted(value, r"'\''")),
            Self::Fish => {
                let value = value.replace('\\', r"\\");
                format!("set -gx {name} {}", single_quoted(&value, r"\'"))
            }
            Self::Pwsh => format!("$env:{name} = {}", single_quoted(value, "''")),
            Self::Nu => format!("$env.{name} = {}", double_quoted(value)),
            Self::Csh => format!("setenv {name} {};", single_quoted(value, r"'\''")),
        }
    }

    pub(crate) fn unset(self, name: &str) -> String {
        match self {
            Self::Bash | Self::Zsh => format!("unset {name}"),
            Self::Fish => format!("set -e {name}"),
            Self::Pwsh => format!("Remove-Item Env:{name} -ErrorAction SilentlyContinue"),
            Self::Nu => format!("hide-env -i {name}"),
            Self::Csh => format!("unsetenv {name};"),
        }
    }

    /// A remark between the commands. What csh evaluates is one line to it, in which a hash would
    /// comment out all that follows.
    pub(crate) fn remark(self, text: &str) -> String {
        match self {
            Self::Csh => format!(": {};", single_quoted(text, r"'\''")),
            _ => format!("# {text}"),
        }
    }

    /// How the variables are taken into the shell.
    pub(crate) fn hint(self, arguments: &str) -> String {
        match self {
            Self::Bash | Self::Zsh => format!("eval \"$(oriel env{arguments})\""),
            Self::Fish => format!("oriel env --shell fish{arguments} | source"),
            Self::Pwsh => {
                format!("oriel env --shell pwsh{arguments} | Out-String | Invoke-Expression")
            }
            Self::Nu => format!("oriel env --shell nu{arguments} | save -f o.nu; source o.nu"),
            // The quotes keep it from looking for files whose names a value would match.
            Self::Csh => format!("eval \"`oriel env --shell csh{arguments}`\""),
        }
    }
}

fn single_quoted(value: &str, quote: &str) -> String {
    format!("'{}'", value.replace('\'', quote))
}

fn double_quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""))
}

/// The address that clients are told for a listening address.
pub(crate) fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(trust: Option<&TrustFiles>) -> Wishes<'_> {
        Wishes {
            proxy: Some("127.0.0.1:4000".parse().unwrap()),
            trust,
            include_loopback: false,
            base_url: None,
        }
    }

    fn value<'a>(changes: &'a Changes, name: &str) -> Option<&'a str> {
        let found = changes.set.iter().find(|(set, _)| set == name);
        found.and_then(|(_, value)| value.to_str())
    }

    #[test]
    fn points_at_the_proxy_in_both_cases() {
        let changes = Changes::new(&wishes(None), &Environment::default());
        for name in PROXY {
            assert_eq!(value(&changes, name), Some("http://127.0.0.1:4000"));
        }
        assert_eq!(value(&changes, "NODE_USE_ENV_PROXY"), Some("1"));
        assert_eq!(value(&changes, "SSL_CERT_FILE"), None);
    }

    #[test]
    fn what_replaces_gets_the_bundle_and_what_adds_gets_ours() {
        let files = TrustFiles {
            bundle: "/run/bundle.pem".into(),
            addition: "/run/ca.pem".into(),
        };
        let changes = Changes::new(&wishes(Some(&files)), &Environment::default());
        assert_eq!(value(&changes, "GIT_SSL_CAINFO"), Some("/run/bundle.pem"));
        assert_eq!(value(&changes, "NODE_EXTRA_CA_CERTS"), Some("/run/ca.pem"));
    }

    #[test]
    fn no_proxy_is_kept_unless_loopback_is_included() {
        let environment = Environment::of(&[
            (
                "NO_PROXY",
                "localhost, 127.0.0.1:8080,.corp.test,::1,*.localhost",
            ),
            ("no_proxy", "localhost"),
        ]);
        let kept = Changes::new(&wishes(None), &environment);
        assert_eq!(value(&kept, "NO_PROXY"), None);
        assert!(kept.unset.is_empty());
        let included = Wishes {
            include_loopback: true,
            ..wishes(None)
        };
        let changes = Changes::new(&included, &environment);
        assert_eq!(value(&changes, "NO_PROXY"), Some(".corp.test"));
        assert_eq!(changes.unset, ["no_proxy"]);
        assert!(no_proxy_covers_loopback(&environment));
    }

    #[test]
    fn base_urls_go_past_the_proxy() {
        let environment = Environment::of(&[("NO_PROXY", "localhost,.corp.test")]);
        let both = Wishes {
            base_url: Some("127.0.0.1:6746".parse().unwrap()),
            ..wishes(None)
        };
        let changes = Changes::new(&both, &environment);
        let expected = [
            ("OPENAI_BASE_URL", "http://127.0.0.1:6746/v1"),
            ("OPENAI_API_BASE", "http://127.0.0.1:6746/v1"),
            ("ANTHROPIC_BASE_URL", "http://127.0.0.1:6746"),
            ("NO_PROXY", "localhost,.corp.test,127.0.0.1"),
            ("no_proxy", "127.0.0.1"),
            ("HTTPS_PROXY", "http://127.0.0.1:4000"),
        ];
        for (name, expected) in expected {
            assert_eq!(value(&changes, name), Some(expected), "{name}");
        }
        let included = Wishes {
            include_loopback: true,
            ..both
        };
        let changes = Changes::new(&included, &environment);
        assert_eq!(value(&changes, "NO_PROXY"), Some(".corp.test,127.0.0.1"));
        let alone = Wishes {
            proxy: None,
            ..both
        };
        let changes = Changes::new(&alone, &environment);
        assert_eq!(value(&changes, "NO_PROXY"), None);
        assert_eq!(value(&changes, "HTTPS_PROXY"), None);
    }

    #[test]
    fn secrets_of_oriel_are_not_for_the_child() {
        let environment = Environment::of(&[
            ("ORIEL_TOKEN_FILE", "/t"),
            ("ORIEL_DATA", "/d"),
            ("ORIEL_CA_KEY", "/k"),
            ("ORIEL_UPSTREAM_PROXY", "http://me:secret@p"),
            ("ORIEL_DATABASE_URL", "postgres://me:secret@d"),
        ]);
        let changes = Changes::new(&wishes(None), &environment);
        assert_eq!(
            changes.unset,
            [
                "ORIEL_CA_KEY",
                "ORIEL_DATABASE_URL",
                "ORIEL_TOKEN_FILE",
                "ORIEL_UPSTREAM_PROXY"
            ]
        );
    }

    #[test]
    fn quotes_for_each_shell() {
        let odd = r#"it's "a\b""#;
        assert_eq!(ShellName::Bash.set("A", odd), r#"export A='it'\''s "a\b"'"#);
        assert_eq!(ShellName::Fish.set("A", odd), r#"set -gx A 'it\'s "a\\b"'"#);
        assert_eq!(ShellName::Pwsh.set("A", odd), r#"$env:A = 'it''s "a\b"'"#);
        assert_eq!(ShellName::Nu.set("A", odd), r#"$env.A = "it's \"a\\b\"""#);
        assert_eq!(ShellName::Csh.set("A", odd), r#"setenv A 'it'\''s "a\b"';"#);
    }
}
