//! Coding agents as people install them, through `oriel run` and nothing else: no setting of
//! theirs names oriel. The hosts they call are the testbed's upstream, which speaks like the model
//! APIs; the hosts file of this process's namespace leads there.
//!
//! An agent passes if it prints the answer of the model and, through oriel, the store has the call
//! to the model with a status of success.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use testbed::upstream::{Protocols, Upstream, UpstreamOptions};

use super::place::{Place, Run, Way, fetch as fetch_by};
use super::report::Comparison;
use super::verdicts::{Verdict, Verdicts};
use crate::failure::Failure;

/// The hosts that agents call for a model.
const HOSTS: &[&str] = &[
    "api.anthropic.com",
    "api.openai.com",
    "generativelanguage.googleapis.com",
];
/// The beginning of what the testbed's model says.
const ANSWER: &str = "The build is green: 42 tests passed";

/// A package from npm.
struct Package {
    name: &'static str,
    version: &'static str,
    /// The program under `node_modules`; `{arch}` is the processor in npm's words.
    program: &'static str,
}

const CLAUDE_CODE: Package = Package {
    name: "@anthropic-ai/claude-code",
    version: "2.1.197",
    program: "@anthropic-ai/claude-code-linux-{arch}/claude",
};
const CODEX: Package = Package {
    name: "@openai/codex",
    version: "0.169.0",
    program: ".bin/codex",
};
const GEMINI_CLI: Package = Package {
    name: "@google/gemini-cli",
    version: "0.61.0",
    program: ".bin/gemini",
};
const OPENCODE: Package = Package {
    name: "opencode-ai",
    version: "1.18.33",
    program: "opencode-linux-{arch}/bin/opencode",
};
const PACKAGES: &[&Package] = &[&CLAUDE_CODE, &CODEX, &GEMINI_CLI, &OPENCODE];

/// One way to ask an agent something.
struct Case {
    name: &'static str,
    package: &'static Package,
    arguments: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
    /// The call to the model that must be in the store: method, host and what the path holds.
    call: (&'static str, &'static str, &'static str),
}

const CASES: &[Case] = &[
    Case {
        name: "claude-code",
        package: &CLAUDE_CODE,
        arguments: &["-p", "hi"],
        variables: &[
            ("ANTHROPIC_API_KEY", "sk-ant-conformance"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ],
        call: ("POST", "api.anthropic.com", "/v1/messages"),
    },
    Case {
        name: "codex",
        package: &CODEX,
        arguments: &["exec", "--skip-git-repo-check", "hi"],
        variables: &[("CODEX_API_KEY", "sk-conformance")],
        call: ("GET", "api.openai.com", "/v1/responses"),
    },
    Case {
        name: "codex-without-websocket",
        package: &CODEX,
        arguments: &[
            "exec",
            "--skip-git-repo-check",
            "-c",
            "model_provider=plain",
            "-c",
            "model_providers.plain={name=\"plain\", base_url=\"https://api.openai.com/v1\", \
             env_key=\"CODEX_API_KEY\", wire_api=\"responses\"}",
            "hi",
        ],
        variables: &[("CODEX_API_KEY", "sk-conformance")],
        call: ("POST", "api.openai.com", "/v1/responses"),
    },
    Case {
        name: "gemini-cli",
        package: &GEMINI_CLI,
        arguments: &["--skip-trust", "-m", "gemini-2.5-pro", "-p", "hi"],
        variables: &[("GEMINI_API_KEY", "conformance")],
        call: (
            "POST",
            "generativelanguage.googleapis.com",
            ":streamGenerateContent",
        ),
    },
    Case {
        name: "opencode-anthropic",
        package: &OPENCODE,
        arguments: &["run", "hi", "-m", "anthropic/claude-sonnet-4-5"],
        variables: &[("ANTHROPIC_API_KEY", "sk-ant-conformance")],
        call: ("POST", "api.anthropic.com", "/v1/messages"),
    },
    Case {
        name: "opencode-openai",
        package: &OPENCODE,
        arguments: &["run", "hi", "-m", "openai/gpt-5.1"],
        variables: &[("OPENAI_API_KEY", "sk-conformance")],
        call: ("POST", "api.openai.com", "/v1/responses"),
    },
];

/// Lines that lead the agents' hosts to the fake upstream.
pub(super) fn hosts() -> String {
    format!("127.0.0.1 localhost {}\n", HOSTS.join(" "))
}

pub(super) fn fetch(place: &Place) -> Result<(), Failure> {
    for package in PACKAGES {
        let folder = package.folder(place);
        if folder.join("node_modules").exists() {
            continue;
        }
        std::fs::create_dir_all(&folder)?;
        let wanted = format!("{}@{}", package.name, package.version);
        let mut install = Command::new("npm");
        // Their scripts only move programs about.
        install.args(["install", "--ignore-scripts", "--no-audit", "--no-fund"]);
        install.arg("--prefix").arg(&folder).arg(&wanted);
        fetch_by(place, &wanted, install)?;
    }
    Ok(())
}

pub(super) fn run(place: &Place) -> Result<Vec<Comparison>, Failure> {
    let authority = place.authority("agents-upstream")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let options = UpstreamOptions::https(authority.issue(HOSTS), Protocols::Both);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 443));
    let upstream = runtime.block_on(Upstream::start_at(address, options))?;
    let mut comparison = Comparison {
        suite: "agents",
        version: versions(),
        way: "`oriel run -- AGENT`",
        direct: Verdicts::default(),
        through: Verdicts::default(),
        flows: 0,
        reasons: &[],
        classed: BTreeMap::new(),
    };
    for case in CASES {
        let (verdict, _) = case.run(place, Way::Direct)?;
        comparison.direct.add(case.name, verdict);
        let (verdict, flows) = case.run(place, Way::Through)?;
        comparison.through.add(case.name, verdict);
        comparison.flows += flows;
    }
    runtime.block_on(upstream.stop());
    Ok(vec![comparison])
}

fn versions() -> String {
    let named = |package: &&Package| format!("{} {}", package.name, package.version);
    let named: Vec<String> = PACKAGES.iter().map(named).collect();
    named.join(", ")
}

impl Case {
    fn run(&self, place: &Place, way: Way) -> Result<(Verdict, u64), Failure> {
        let home = place.empty_folder("agents-home")?;
        let roots = place.path("agents-upstream.pem");
        let mut variables: Vec<(&str, &OsStr)> = vec![("HOME", home.as_ref())];
        if way == Way::Direct {
            // Through oriel, `oriel run` sets these and whatever else it knows.
            let trust = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"];
            variables.extend(trust.map(|name| (name, roots.as_ref())));
        }
        let own = self.variables.iter();
        variables.extend(own.map(|(name, value)| (*name, OsStr::new(*value))));
        let program = self.package.program(place);
        let mut words: Vec<&OsStr> = vec![program.as_ref()];
        words.extend(self.arguments.iter().map(OsStr::new));
        let run = Run {
            name: &format!("agents-{}", self.name),
            way,
            options: &[OsStr::new("--upstream-ca"), roots.as_ref()],
            variables: &variables,
            folder: &home,
        };
        let outcome = place.run(&run, &words)?;
        let answered = outcome.text.contains(ANSWER);
        let recorded = way == Way::Direct || self.is_recorded(place, &run)?;
        let verdict = match answered && recorded {
            true => Verdict::Passed,
            false => Verdict::Failed,
        };
        Ok((verdict, outcome.flows()))
    }

    fn is_recorded(&self, place: &Place, run: &Run<'_>) -> Result<bool, Failure> {
        let flows = place.ask_oriel(run, &["flows", "--all"])?;
        let (method, host, path) = self.call;
        let is_call = |flow: &Value| {
            let text = |name: &str| flow[name].as_str().unwrap_or_default();
            let is_success = matches!(flow["status"].as_u64(), Some(101 | 200..300));
            text("method") == method
                && text("host") == host
                && text("path").contains(path)
                && is_success
        };
        let mut items = flows["items"].as_array().into_iter().flatten();
        Ok(items.any(is_call))
    }
}

impl Package {
    fn folder(&self, place: &Place) -> PathBuf {
        let name = self.name.trim_start_matches('@').replace('/', "-");
        place.path(&format!("agents/{name}-{}", self.version))
    }

    fn program(&self, place: &Place) -> PathBuf {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            other => other,
        };
        let program = self.program.replace("{arch}", arch);
        self.folder(place).join("node_modules").join(program)
    }
}
