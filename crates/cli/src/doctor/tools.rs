//! The tools that are tried: how each is found, asked for its version, and made to send one request
//! to a URL of ours. What a tool would write, it writes into a folder that is removed again; its own
//! configuration is left as it is, since that is what is to be found out about.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::canary::NAME;
use crate::environment::Environment;
use crate::limits::PROBE_TIMEOUT;
use crate::trust_store::Store;

/// What `--tools` takes: the names of all tools after two words for many.
pub(crate) const NAMES: [&str; 18] = [
    "auto", "none", "curl", "wget", "git", "python", "requests", "httpx", "pip", "uv", "node",
    "npm", "deno", "bun", "cargo", "go", "java", "chromium",
];

/// Which tools are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// All that are found.
    Auto,
    /// These, and it is told if one is not there.
    Named(Vec<String>),
}

/// A tool that speaks TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// Names of its program; the first that is on the search path is taken.
    pub(super) programs: &'static [&'static str],
    /// Arguments that make it print its version. It fails where the tool is not there after all.
    pub(super) version: &'static [&'static str],
    /// What it goes by when it decides whom to trust.
    pub(super) decides: &'static str,
    /// The store by which it trusts a certificate without a variable; some have none that is
    /// installed into.
    pub(super) store: Option<Store>,
    /// Makes it send one request.
    pub(super) ask: fn(&Errand<'_>) -> Invocation,
}

/// One request that a tool is to make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand<'a> {
    /// What the upstream is called.
    pub(super) host: &'a str,
    /// Where it listens.
    pub(super) port: u16,
    pub(super) proxy: SocketAddr,
    /// A folder for what the tool writes; it runs in it.
    pub(super) folder: &'a Path,
    pub(super) home: &'a Path,
    pub(super) environment: &'a Environment,
}

/// How a tool is called.
#[derive(Clone, Debug, Default)]
pub(super) struct Invocation {
    pub(super) arguments: Vec<OsString>,
    pub(super) variables: Vec<(&'static str, OsString)>,
    /// Files that are put into its folder before.
    pub(super) files: Vec<(&'static str, String)>,
}

/// Every tool that is known, in the order in which they are shown.
#[rustfmt::skip]
pub(super) const TOOLS: [Tool; 16] = [
    Tool { name: "curl", programs: &["curl"], version: &["--version"],
        decides: "CURL_CA_BUNDLE", store: Some(Store::System), ask: curl },
    Tool { name: "wget", programs: &["wget"], version: &["--version"],
        decides: "its wgetrc, the system's roots", store: Some(Store::System), ask: wget },
    Tool { name: "git", programs: &["git"], version: &["--version"],
        decides: "GIT_SSL_CAINFO, then http.sslCAInfo", store: Some(Store::System), ask: git },
    Tool { name: "python", programs: &["python3", "python"], version: &["--version"],
        decides: "SSL_CERT_FILE (ssl, urllib)", store: Some(Store::System), ask: python },
    Tool { name: "requests", programs: &["python3", "python"],
        version: &["-c", "import requests; print(requests.__version__)"],
        decides: "REQUESTS_CA_BUNDLE", store: None, ask: requests },
    Tool { name: "httpx", programs: &["python3", "python"],
        version: &["-c", IMPORT_HTTPX_AND_PRINT_VERSION],
        decides: "SSL_CERT_FILE", store: None, ask: httpx },
    Tool { name: "pip", programs: &["pip", "pip3"], version: &["--version"],
        decides: "PIP_CERT, REQUESTS_CA_BUNDLE", store: None, ask: pip },
    Tool { name: "uv", programs: &["uv"], version: &["--version"],
        decides: "SSL_CERT_FILE", store: None, ask: uv },
    Tool { name: "node", programs: &["node", "nodejs"], version: &["--version"],
        decides: "NODE_EXTRA_CA_CERTS", store: None, ask: node },
    Tool { name: "npm", programs: &["npm"], version: &["--version"],
        decides: "npm_config_cafile", store: None, ask: npm },
    Tool { name: "deno", programs: &["deno"], version: &["--version"],
        decides: "DENO_CERT", store: None, ask: deno },
    Tool { name: "bun", programs: &["bun"], version: &["--version"],
        decides: "NODE_EXTRA_CA_CERTS", store: None, ask: bun },
    Tool { name: "cargo", programs: &["cargo"], version: &["--version"],
        decides: "CARGO_HTTP_CAINFO", store: Some(Store::System), ask: cargo },
    Tool { name: "go", programs: &["go"], version: &["version"],
        decides: "SSL_CERT_FILE", store: Some(Store::System), ask: go },
    Tool { name: "java", programs: &["java"], version: &["-version"],
        decides: "its own key store (cacerts)", store: Some(Store::Java), ask: java },
    Tool { name: "chromium",
        programs: &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"],
        version: &["--version"], decides: "its own store (NSS)", store: Some(Store::User), ask: chromium },
];

impl Choice {
    /// What the words of `--tools` say.
    pub(crate) fn of(words: &[String]) -> Self {
        if words.iter().any(|word| word == "auto") {
            return Self::Auto;
        }
        let named = words.iter().filter(|word| *word != "none");
        Self::Named(named.cloned().collect())
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::Named(named) if named.is_empty())
    }

    pub(super) fn includes(&self, tool: &Tool) -> bool {
        match self {
            Self::Auto => true,
            Self::Named(named) => named.iter().any(|name| name == tool.name),
        }
    }
}

impl Errand<'_> {
    /// The URL of a path at the upstream. `localhost` is the one name that means this machine
    /// everywhere, so nothing leaves it even if the tool goes past the proxy.
    fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", self.host, self.port)
    }

    /// The same by another name of this machine, for a tool that does not take its usual one.
    fn url_by(&self, name: &str, path: &str) -> String {
        let host = if self.host == NAME { name } else { self.host };
        format!("https://{host}:{}{path}", self.port)
    }

    /// A folder of the person's that a variable may name.
    fn folder_of(&self, variable: &str, below_home: &str) -> PathBuf {
        let named = self.environment.path(variable);
        named.unwrap_or_else(|| self.home.join(below_home))
    }
}

impl Invocation {
    fn new(arguments: &[&str]) -> Self {
        Self {
            arguments: arguments.iter().map(OsString::from).collect(),
            ..Self::default()
        }
    }

    fn with(mut self, variables: &[(&'static str, &str)]) -> Self {
        let variables = variables.iter();
        self.variables
            .extend(variables.map(|(name, value)| (*name, OsString::from(value))));
        self
    }

    fn in_folder(mut self, name: &'static str, folder: &Path) -> Self {
        self.variables.push((name, folder.into()));
        self
    }

    fn file(mut self, name: &'static str, content: impl Into<String>) -> Self {
        self.files.push((name, content.into()));
        self
    }
}

/// The time a tool gives itself, so that it says what it waited for: less than it is given.
fn seconds() -> String {
    (PROBE_TIMEOUT.as_secs() - 5).to_string()
}

fn curl(errand: &Errand<'_>) -> Invocation {
    let time = seconds();
    Invocation::new(&[
        "-sS",
        "-o",
        "/dev/null",
        "--max-time",
        &time,
        &errand.url("/"),
    ])
}

fn wget(errand: &Errand<'_>) -> Invocation {
    let time = format!("--timeout={}", seconds());
    let url = errand.url("/");
    let fixed = ["-nv", "--no-hsts", "--tries=1", "-O", "/dev/null"];
    Invocation::new(&[fixed.as_slice(), &[&time, &url]].concat())
}

fn git(errand: &Errand<'_>) -> Invocation {
    let url = errand.url("/canary.git");
    Invocation::new(&["-c", "credential.helper=", "ls-remote", &url])
        .with(&[("GIT_TERMINAL_PROMPT", "0"), ("LC_ALL", "C")])
}

/// A Python program that is given the URL.
fn script(errand: &Errand<'_>, text: &str) -> Invocation {
    Invocation::new(&["-c", text, &errand.url("/")]).with(&[("PYTHONDONTWRITEBYTECODE", "1")])
}

fn python(errand: &Errand<'_>) -> Invocation {
    script(
        errand,
        "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=20).read()",
    )
}

fn requests(errand: &Errand<'_>) -> Invocation {
    script(
        errand,
        "import sys, requests; requests.get(sys.argv[1], timeout=20)",
    )
}

/// The SDKs of models use either of its two generations.
const IMPORT_HTTPX_AND_PRINT_VERSION: &str =
    "try: import httpx\nexcept ImportError: import httpx2 as httpx\nprint(httpx.__version__)";

fn httpx(errand: &Errand<'_>) -> Invocation {
    script(
        errand,
        "import sys\ntry: import httpx\nexcept ImportError: import httpx2 as httpx\n\
         httpx.get(sys.argv[1], timeout=20)",
    )
}

fn pip(errand: &Errand<'_>) -> Invocation {
    let (index, time) = (errand.url("/simple/"), seconds());
    let fixed = [
        "--disable-pip-version-check",
        "download",
        "--no-deps",
        "--no-cache-dir",
        "--retries",
        "0",
    ];
    let own = ["--timeout", &time, "--index-url", &index, "oriel-canary"];
    Invocation::new(&[fixed.as_slice(), &own].concat()).with(&[
        ("PIP_EXTRA_INDEX_URL", ""),
        ("PIP_FIND_LINKS", ""),
        ("PIP_NO_INPUT", "1"),
    ])
}

fn uv(errand: &Errand<'_>) -> Invocation {
    let index = errand.url("/simple/");
    let fixed = ["pip", "compile", "--no-cache", "--quiet", "--default-index"];
    Invocation::new(&[fixed.as_slice(), &[&index, "requirements.in"]].concat())
        .with(&[
            ("UV_HTTP_RETRIES", "0"),
            ("UV_HTTP_TIMEOUT", &seconds()),
            ("UV_PYTHON_DOWNLOADS", "never"),
        ])
        .in_folder("UV_CREDENTIALS_DIR", errand.folder)
        .file("requirements.in", "oriel-canary\n")
}

fn node(errand: &Errand<'_>) -> Invocation {
    // A Node that goes past the proxy takes the first address alone; the upstream has no IPv6.
    let text = "fetch(process.argv[1]).then(r => r.text()).catch(e => {
        console.error(String((e.cause && (e.cause.code || e.cause)) || e)); process.exitCode = 1 })";
    let url = errand.url("/");
    Invocation::new(&["--dns-result-order=ipv4first", "-e", text, &url])
}

fn npm(errand: &Errand<'_>) -> Invocation {
    Invocation::new(&["ping", "--registry", &errand.url("/")])
        .with(&[
            ("npm_config_logs_max", "0"),
            ("npm_config_fetch_retries", "0"),
            ("npm_config_update_notifier", "false"),
        ])
        .in_folder("npm_config_cache", errand.folder)
}

/// A module for Deno and Bun.
fn module(errand: &Errand<'_>) -> String {
    format!("await (await fetch(\"{}\")).text()", errand.url("/"))
}

fn deno(errand: &Errand<'_>) -> Invocation {
    Invocation::new(&["eval", &module(errand)])
        .with(&[("DENO_NO_UPDATE_CHECK", "1"), ("NO_COLOR", "1")])
        .in_folder("DENO_DIR", errand.folder)
}

fn bun(errand: &Errand<'_>) -> Invocation {
    Invocation::new(&["-e", &module(errand)]).with(&[
        ("BUN_RUNTIME_TRANSPILER_CACHE_PATH", "0"),
        ("DO_NOT_TRACK", "1"),
        ("NO_COLOR", "1"),
    ])
}

fn cargo(errand: &Errand<'_>) -> Invocation {
    let index = format!("sparse+{}", errand.url("/"));
    let mut invocation = Invocation::new(&["search", "--limit", "1", "--index", &index, "canary"])
        .with(&[("CARGO_NET_RETRY", "0"), ("CARGO_TERM_COLOR", "never")])
        .in_folder("CARGO_HOME", errand.folder);
    // The index would be cached in the real one, whose configuration counts all the same.
    let real = errand.folder_of("CARGO_HOME", ".cargo");
    for name in ["config.toml", "config"] {
        if let Ok(text) = std::fs::read_to_string(real.join(name)) {
            invocation = invocation.file(name, text);
        }
    }
    invocation
}

fn go(errand: &Errand<'_>) -> Invocation {
    // Go never uses a proxy for `localhost`, in small letters.
    let modules = errand.url_by("LOCALHOST", "");
    Invocation::new(&["list", "-m", "canary.example/oriel@latest"])
        .with(&[
            ("GOPROXY", &modules),
            ("GONOPROXY", "none"),
            ("GOPRIVATE", ""),
            ("GONOSUMDB", "*"),
            ("GOFLAGS", "-mod=mod"),
            ("GOTOOLCHAIN", "local"),
            ("GO111MODULE", "on"),
        ])
        // Go counts its calls beside its configuration, which is named by itself.
        .in_folder("GOENV", &errand.folder_of("GOENV", ".config/go/env"))
        .in_folder("XDG_CONFIG_HOME", errand.folder)
        .in_folder("GOPATH", errand.folder)
        .in_folder("GOMODCACHE", &errand.folder.join("mod"))
        .in_folder("GOCACHE", &errand.folder.join("cache"))
}

const JAVA: &str = "public class Canary { public static void main(String[] arguments) { try {
    var connection = new java.net.URL(arguments[0]).openConnection();
    connection.setConnectTimeout(20000);
    connection.setReadTimeout(20000);
    connection.getInputStream().readAllBytes();
} catch (Exception error) { System.err.println(error); System.exit(1); } } }
";

fn java(errand: &Errand<'_>) -> Invocation {
    // Without this Java would use no proxy for this machine, even if it was given one.
    let mut arguments = vec!["-XX:TieredStopAtLevel=1", "-Dhttp.nonProxyHosts="];
    // Java sends no SNI for a name without a dot, and what has none is not opened.
    let url = errand.url_by("127.0.0.1", "/");
    let host = format!("-Dhttps.proxyHost={}", errand.proxy.ip());
    let port = format!("-Dhttps.proxyPort={}", errand.proxy.port());
    let told_proxy = ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"]
        .into_iter()
        .filter_map(|name| errand.environment.text(name))
        .any(|options| options.contains("-Dhttps.proxyHost="));
    if told_proxy {
        // It goes through the proxy that it was told; here through ours.
        arguments.extend([host.as_str(), port.as_str()]);
    }
    arguments.extend(["Canary.java", &url]);
    Invocation::new(&arguments).file("Canary.java", JAVA)
}

fn chromium(errand: &Errand<'_>) -> Invocation {
    let proxy = format!("--proxy-server=http://{}", errand.proxy);
    let url = errand.url("/");
    let mut arguments = vec![
        "--headless",
        "--disable-gpu",
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-domain-reliability",
        "--disable-extensions",
        "--disable-sync",
        // Chromium never uses a proxy for `localhost` otherwise.
        "--proxy-bypass-list=<-loopback>",
        &proxy,
        "--dump-dom",
    ];
    if rustix::process::geteuid().is_root() {
        // It refuses to run as root otherwise.
        arguments.push("--no-sandbox");
    }
    arguments.push(&url);
    let mut folder = OsString::from("--user-data-dir=");
    folder.push(errand.folder);
    let mut invocation = Invocation::new(&arguments)
        .in_folder("XDG_CONFIG_HOME", errand.folder)
        .in_folder("XDG_CACHE_HOME", errand.folder);
    // It would make an empty store of certificates where there is none.
    let stores = [
        errand.home.join(".pki/nssdb"),
        errand
            .folder_of("XDG_DATA_HOME", ".local/share")
            .join("pki/nssdb"),
    ];
    if !stores.iter().any(|store| store.exists()) {
        invocation = invocation
            .in_folder("HOME", errand.folder)
            .in_folder("XDG_DATA_HOME", errand.folder);
    }
    invocation.arguments.insert(0, folder);
    invocation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_can_be_named_and_asks_this_machine_alone() {
        let errand = Errand {
            host: NAME,
            port: 4711,
            proxy: "127.0.0.1:4000".parse().unwrap(),
            folder: Path::new("/tmp/oriel-probe"),
            home: Path::new("/nowhere"),
            environment: &Environment::default(),
        };
        let names: Vec<_> = TOOLS.iter().map(|tool| tool.name).collect();
        assert_eq!(names, NAMES[2..]);
        for tool in TOOLS {
            let asked = format!("{:?}", (tool.ask)(&errand)).to_lowercase();
            let here = ["localhost", "127.0.0.1"].map(|host| format!("https://{host}:4711"));
            assert!(here.iter().any(|url| asked.contains(url)), "{asked}");
            assert_eq!(asked.matches("https://").count(), 1, "{asked}");
        }
    }

    #[test]
    fn words_choose_tools() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Choice::of(&words)
        };
        assert_eq!(of(&["curl", "auto"]), Choice::Auto);
        assert!(of(&["none"]).is_none());
        let curl = of(&["none", "curl"]);
        let included = TOOLS.iter().filter(|tool| curl.includes(tool));
        assert_eq!(included.map(|tool| tool.name).collect::<Vec<_>>(), ["curl"]);
    }
}
