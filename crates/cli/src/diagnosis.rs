//! Why a run has nothing to show, or why a client refused our certificate: found out, not guessed.

use std::net::SocketAddr;
use std::path::Path;

use store::RunSummary;
use traffic::{FailureKind, Stage};

use crate::child_env::no_proxy_covers_loopback;
use crate::config::proxy_variables::PROXY;
use crate::direct::{Process, ProxyVariables, Sightings};
use crate::environment::Environment;
use crate::overridden::Reason;
use crate::quantity::plural;

/// What is known about a run besides its flows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) sightings: &'a Sightings,
    /// The name of the program that was started.
    pub(crate) program: &'a str,
    /// Whether the child was pointed at the proxy.
    pub(crate) proxy_set: bool,
    /// Whether the child was given base URLs of model APIs that lead to us.
    pub(crate) base_urls_set: bool,
    /// Whether a child that is pointed at the proxy is told to trust our certificate.
    pub(crate) trust_set: bool,
    pub(crate) include_loopback: bool,
}

/// A finding for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) code: &'static str,
    pub(crate) title: String,
    pub(crate) saw: Vec<String>,
    pub(crate) why: String,
    pub(crate) fix: Vec<String>,
}

/// Why nothing reached the proxy.
pub(crate) fn nothing_captured(circumstances: &Circumstances<'_>) -> Finding {
    let sightings = circumstances.sightings;
    let saw: Vec<String> = sightings
        .by_process
        .iter()
        .map(|(pid, process)| describe(*pid, process))
        .collect();
    let mut finding = Finding {
        code: "ORL0210",
        title: "No traffic reached oriel.".to_owned(),
        saw,
        ..Finding::default()
    };
    if finding.saw.is_empty() {
        finding.saw = vec![nothing_seen(circumstances)];
    }
    explain(&mut finding, circumstances);
    finding
}

fn describe(pid: u32, process: &Process) -> String {
    const SHOWN: usize = 4;
    let all = process.remotes();
    let remotes: Vec<String> = all.iter().take(SHOWN).map(SocketAddr::to_string).collect();
    let more = all.len().saturating_sub(SHOWN);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let connections = plural(process.connections.len() as u64, "connection");
    format!(
        "{} (pid {pid}) opened {connections} directly to {}{more}",
        process.name,
        remotes.join(", ")
    )
}

fn nothing_seen(circumstances: &Circumstances<'_>) -> String {
    match circumstances.sightings.looks {
        0 => format!(
            "{} ended before its connections could be looked at",
            circumstances.program
        ),
        looks => format!(
            "{} opened no connection that was open in one of {}",
            circumstances.program,
            plural(looks, "look")
        ),
    }
}

fn explain(finding: &mut Finding, circumstances: &Circumstances<'_>) {
    let processes: Vec<&Process> = circumstances.sightings.by_process.values().collect();
    if !circumstances.proxy_set && circumstances.base_urls_set {
        finding.why =
            "only base URLs led it to oriel (--env-mode base-url), and it asked nothing there: \
                       it reads none of OPENAI_BASE_URL, ANTHROPIC_BASE_URL and \
                       GOOGLE_GEMINI_BASE_URL, or a setting of its own wins"
                .to_owned();
        let program = circumstances.program;
        finding.fix = vec![
            format!(
                "oriel run --env-mode both … -- {program} …      leads all else there by the proxy variables"
            ),
            "set the base URL where the program has its settings".to_owned(),
        ];
        return;
    }
    if !circumstances.proxy_set {
        "nothing pointed it at oriel (--env-mode none)".clone_into(&mut finding.why);
        finding.fix.push("leave out --env-mode none".to_owned());
        return;
    }
    if processes.is_empty() {
        "it made no request over the network, or one too short to be seen"
            .clone_into(&mut finding.why);
        if let Some((why, fix)) = ignoring(Path::new(circumstances.program)) {
            finding.why = format!("{}; {why}", finding.why);
            finding.fix.extend(fix);
        }
        return;
    }
    let told: Vec<&ProxyVariables> = processes
        .iter()
        .filter_map(|process| process.variables.as_ref())
        .collect();
    if told.len() == processes.len() && told.iter().all(|variables| !variables.proxy) {
        "no proxy variable is left in its environment: what started it took them out"
            .clone_into(&mut finding.why);
        finding.fix.push(
            "see what reaches it:  oriel run -- env      (sudo, env -i, ssh and containers drop variables)"
                .to_owned(),
        );
        return;
    }
    let loopback_only = processes
        .iter()
        .flat_map(|process| process.connections.values())
        .all(|remote| remote.ip().is_loopback());
    let covered = no_proxy_covers_loopback(circumstances.environment);
    if loopback_only && covered && !circumstances.include_loopback {
        let list = circumstances
            .environment
            .text("NO_PROXY")
            .or_else(|| circumstances.environment.text("no_proxy"));
        finding.why = format!(
            "NO_PROXY={} keeps servers on this machine from the proxy",
            list.unwrap_or_default()
        );
        finding.fix.push(format!(
            "oriel run --include-loopback -- {} …",
            circumstances.program
        ));
        return;
    }
    if let Some((why, fix)) = processes.iter().find_map(|process| known_program(process)) {
        finding.why = why;
        finding.fix.extend(fix);
        return;
    }
    if loopback_only {
        "it does not use a proxy for servers on this machine, as many programs do not"
            .clone_into(&mut finding.why);
        finding
            .fix
            .push("call the server by a name that is not localhost".to_owned());
        return;
    }
    let list = told.iter().find_map(|variables| variables.no_proxy.clone());
    match list {
        Some(list) => {
            finding.why = format!("NO_PROXY={list} covers it, or it ignores HTTPS_PROXY");
            finding.fix.push(format!(
                "NO_PROXY= no_proxy= oriel run -- {} …",
                circumstances.program
            ));
        }
        None => {
            match told.is_empty() {
                true => "it went past HTTPS_PROXY, and whether it was told of it cannot be read",
                false => "it ignores HTTPS_PROXY, which is set in its environment",
            }
            .clone_into(&mut finding.why);
            finding.fix.push("look in its own settings for a proxy; `oriel run --listen 127.0.0.1:6799 …` gives it a fixed address".to_owned());
        }
    }
}

/// Why a known program went past us, and what helps.
fn known_program(process: &Process) -> Option<(String, Vec<String>)> {
    let program = process.program.as_deref()?;
    ignoring(program).or_else(|| {
        let (major, minor) = version_of_node(program)?;
        Some((
            format!(
                "node {major}.{minor} honours the variables, but this program's own HTTP client does not"
            ),
            vec!["look in its settings for a proxy or a base URL".to_owned()],
        ))
    })
}

/// Programs that are known to ignore the proxy variables, and what helps.
fn ignoring(program: &Path) -> Option<(String, Vec<String>)> {
    match program.file_name()?.to_str()? {
        "node" | "nodejs" => old_node(program),
        "java" => Some((
            "Java ignores HTTPS_PROXY".to_owned(),
            vec![
                "oriel run --listen 127.0.0.1:6799 -- env JAVA_TOOL_OPTIONS='-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=6799' java …".to_owned(),
            ],
        )),
        _ => None,
    }
}

/// Node honours NODE_USE_ENV_PROXY from 22.21 and 24.0 on.
fn old_node(program: &Path) -> Option<(String, Vec<String>)> {
    let (major, minor) = version_of_node(program)?;
    let honours = major >= 24 || (major == 22 && minor >= 21);
    (!honours).then(|| {
        (
            format!("node {major}.{minor} ignores HTTPS_PROXY"),
            vec![
                "use node 24, or 22.21 and later: they honour NODE_USE_ENV_PROXY, which oriel sets"
                    .to_owned(),
            ],
        )
    })
}

fn version_of_node(program: &Path) -> Option<(u32, u32)> {
    let is_node = matches!(program.file_name()?.to_str()?, "node" | "nodejs");
    is_node.then_some(())?;
    node_version(&crate::version_of::ask(program)?)
}

fn node_version(output: &str) -> Option<(u32, u32)> {
    let mut parts = output.trim().strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// One finding for each host and program that refused our certificate for it.
pub(crate) fn distrusted(summary: &RunSummary, circumstances: &Circumstances<'_>) -> Vec<Finding> {
    summary
        .failures
        .iter()
        .filter(|group| refuses_certificate(group))
        .map(|group| Finding {
            code: "ORL0310",
            title: format!(
                "TLS refused: {} {} for {} ({}, first {})",
                group.program.as_deref().unwrap_or("the client"),
                match &*group.kind {
                    "client_distrusts" => "does not trust oriel's certificate",
                    "client_pinned" => "takes no certificate but the one it knows",
                    _ => "went away when it saw oriel's certificate",
                },
                group.host,
                plural(group.flows, "time"),
                group.example
            ),
            saw: vec![group.text.clone()],
            why: match &*group.kind {
                "client_pinned" => "it takes oriel's certificates for other hosts".to_owned(),
                _ => distrust_reason(group.program.as_deref(), circumstances),
            },
            fix: match &*group.kind {
                "client_pinned" => vec![unopened_fix(&group.host, circumstances)],
                _ => distrust_fix(group, circumstances),
            },
        })
        .collect()
}

/// Whether flows failed because a client refused our certificate, or went away when it saw it.
pub(crate) fn refuses_certificate(group: &store::FailureGroup) -> bool {
    match &*group.kind {
        "client_distrusts" | "client_pinned" => true,
        "closed_early" | "reset" => group.side == "client" && group.stage == "tls",
        _ => false,
    }
}

/// One finding for each host whose certificate was not believed.
pub(crate) fn unverified(summary: &RunSummary, circumstances: &Circumstances<'_>) -> Vec<Finding> {
    summary
        .failures
        .iter()
        .filter(|group| group.kind.starts_with("certificate_"))
        .filter(|group| group.stage != Stage::UpstreamProxy.as_str())
        .map(|group| Finding {
            code: "ORL0311",
            title: format!(
                "Not passed on: {} showed a certificate that is not trusted ({}, first {})",
                group.host,
                plural(group.flows, "time"),
                group.example
            ),
            saw: vec![group.text.clone()],
            why: "oriel verifies upstreams, since the client cannot".to_owned(),
            fix: unverified_fix(group, circumstances.program),
        })
        .collect()
}

/// What a run is to know whose upstream proxy was in the way.
pub(crate) fn upstream_proxy(
    summary: &RunSummary,
    circumstances: &Circumstances<'_>,
) -> Option<Finding> {
    let by_proxy = |group: &&store::FailureGroup| group.stage == Stage::UpstreamProxy.as_str();
    let group = summary.failures.iter().find(by_proxy)?;
    let environment = circumstances.environment;
    let named = PROXY.into_iter().find(|name| environment.is_set(name));
    let named = named.map(|name| format!("{name} was set before oriel set it for the command"));
    let (kind, program) = (&*group.kind, circumstances.program);
    let fix = match kind {
        kind if kind == FailureKind::UpstreamProxyUnauthorized.as_str() => {
            "tell it who you are:   ORIEL_UPSTREAM_PROXY_CREDENTIALS=user:password".to_owned()
        }
        kind if kind == FailureKind::CertificateUnknownIssuer.as_str() => {
            format!("trust its certificate: oriel run --upstream-proxy-ca FILE -- {program} …")
        }
        _ => format!("go past it:            oriel run --upstream-proxy off -- {program} …"),
    };
    Some(Finding {
        code: "ORL0211",
        title: format!(
            "Not reached: {}, because of the upstream proxy ({}, first {})",
            group.host,
            plural(group.flows, "time"),
            group.example
        ),
        saw: std::iter::once(group.text.clone()).chain(named).collect(),
        why: "a run goes through the proxy that is set, as its command would have".to_owned(),
        fix: vec![fix],
    })
}

fn unverified_fix(group: &store::FailureGroup, program: &str) -> Vec<String> {
    let mut fix = Vec::new();
    if group.kind == FailureKind::CertificateUnknownIssuer.as_str() {
        fix.push(format!(
            "trust its issuer:        oriel run --upstream-ca FILE -- {program} …"
        ));
        // The engine names the proxy that the connection went through.
        if group.text.contains(" through ") {
            fix.push(format!(
                "trust the proxy's:       oriel run --upstream-proxy-ca FILE -- {program} …"
            ));
        }
    }
    let host = &group.host;
    fix.push(format!(
        "accept it for this host: oriel run --danger-accept-invalid-upstream {host} -- {program} …"
    ));
    fix
}

/// `program` is the one that refused, if it is known; it need not be the one that was started.
fn distrust_reason(program: Option<&str>, circumstances: &Circumstances<'_>) -> String {
    if !circumstances.trust_set {
        return "it was not told to trust it (--no-ca-env)".to_owned();
    }
    if !circumstances.proxy_set {
        return "it was not told to trust it: --env-mode points it at no proxy".to_owned();
    }
    match circumstances.sightings.overridden.reason(program) {
        Some(Reason::Elsewhere {
            pid,
            variable,
            value,
        }) => {
            return format!(
                "{variable}={value} in the environment of pid {pid}: what started it set that over oriel's"
            );
        }
        Some(Reason::Gone { pid, variables }) => {
            return format!(
                "what started it took {} out of the environment of pid {pid}",
                names(&variables)
            );
        }
        None => {}
    }
    match program.unwrap_or(circumstances.program) {
        "git" => "git goes by http.sslCAInfo where something took GIT_SSL_CAINFO away".to_owned(),
        "java" => "Java has a key store of its own and reads no variable for it".to_owned(),
        "wget" => "wget reads no variable for trusted certificates".to_owned(),
        started if program.is_none() => format!(
            "{started}, or what it started, has its own list of trusted certificates, or pins the one it expects"
        ),
        _ => "it has its own list of trusted certificates, or pins the one it expects".to_owned(),
    }
}

fn distrust_fix(group: &store::FailureGroup, circumstances: &Circumstances<'_>) -> Vec<String> {
    if !circumstances.trust_set {
        return vec!["leave out --no-ca-env".to_owned()];
    }
    if !circumstances.proxy_set {
        let program = circumstances.program;
        return vec![format!("oriel run --env-mode both … -- {program} …")];
    }
    if let Some(reason) = circumstances
        .sightings
        .overridden
        .reason(group.program.as_deref())
    {
        return vec![
            overridden_fix(&reason, circumstances.program),
            unopened_fix(&group.host, circumstances),
        ];
    }
    let program = group.program.as_deref().unwrap_or(circumstances.program);
    let mut fix = match program {
        "git" => vec!["git config --show-origin http.sslCAInfo      shows who sets it".to_owned()],
        "wget" => vec!["oriel ca export --format bundle -o bundle.pem && wget --ca-certificate=bundle.pem …".to_owned()],
        "java" => vec!["oriel ca export --format java -o oriel.p12 && export JAVA_TOOL_OPTIONS=\"-Djavax.net.ssl.trustStore=$PWD/oriel.p12\"".to_owned()],
        _ => vec!["oriel ca export -o oriel.pem      and add it to what the program trusts".to_owned()],
    };
    fix.push(unopened_fix(&group.host, circumstances));
    fix
}

/// How the variable leads to oriel's certificate again.
fn overridden_fix(reason: &Reason, program: &str) -> String {
    match reason {
        // What is set before oriel starts is in the file that oriel sets in its place.
        Reason::Elsewhere {
            variable, value, ..
        } => format!(
            "set it before oriel, not behind: {variable}={} oriel run -- {program} …      oriel adds its certificate to that",
            quoted(value)
        ),
        Reason::Gone { .. } => {
            "have it pass the variables on (sudo, env -i, ssh and containers drop them)".to_owned()
        }
    }
}

/// A value as a word of a shell.
fn quoted(value: &str) -> String {
    let is_plain = |one: char| one.is_alphanumeric() || "/._-+:@%".contains(one);
    match value.chars().all(is_plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\'', r"'\''")),
    }
}

/// The first names of a list, and how many there are beyond.
fn names(list: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<&str> = list.iter().take(SHOWN).copied().collect();
    match list.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn unopened_fix(host: &str, circumstances: &Circumstances<'_>) -> String {
    let program = circumstances.program;
    format!("leave the host unopened:  oriel run --bypass {host} -- {program} …")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(remote: &str, program: &str) -> Sightings {
        let mut sightings = Sightings {
            looks: 3,
            ..Sightings::default()
        };
        let mut process = Process {
            name: program.to_owned(),
            program: Some(format!("/usr/bin/{program}").into()),
            variables: Some(ProxyVariables {
                proxy: true,
                no_proxy: None,
            }),
            ..Process::default()
        };
        process.connections.insert(1, remote.parse().unwrap());
        sightings.by_process.insert(7, process);
        sightings
    }

    fn check(sightings: &Sightings, environment: &Environment, why: &str) {
        let circumstances = Circumstances {
            environment,
            sightings,
            program: "agent",
            proxy_set: true,
            base_urls_set: false,
            trust_set: true,
            include_loopback: false,
        };
        let finding = nothing_captured(&circumstances);
        assert!(finding.why.contains(why), "{finding:?}");
    }

    #[test]
    fn the_reason_is_the_one_that_was_seen() {
        let plain = Environment::default();
        check(&Sightings::default(), &plain, "made no request");
        check(
            &seen("192.0.2.7:443", "agent"),
            &plain,
            "ignores HTTPS_PROXY",
        );
        check(&seen("192.0.2.7:443", "java"), &plain, "Java ignores");
        let no_proxy = Environment::of(&[("NO_PROXY", "localhost")]);
        check(
            &seen("127.0.0.1:80", "agent"),
            &no_proxy,
            "NO_PROXY=localhost keeps",
        );
        check(
            &seen("127.0.0.1:80", "agent"),
            &plain,
            "servers on this machine",
        );
        let told = |variables: Option<ProxyVariables>| {
            let mut sightings = seen("192.0.2.7:443", "agent");
            for process in sightings.by_process.values_mut() {
                process.variables.clone_from(&variables);
            }
            sightings
        };
        let list = ProxyVariables {
            proxy: true,
            no_proxy: Some(".corp.test".to_owned()),
        };
        check(
            &told(Some(list)),
            &plain,
            "NO_PROXY=.corp.test covers it, or",
        );
        check(
            &told(Some(ProxyVariables::default())),
            &plain,
            "is left in its environment",
        );
        check(&told(None), &plain, "cannot be read");
    }

    #[test]
    fn reads_the_version_of_node() {
        assert_eq!(node_version("v22.21.0\n"), Some((22, 21)));
        assert_eq!(node_version("nonsense"), None);
    }
}
