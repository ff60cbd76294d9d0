//! What a probe means: from what the engine and the upstream saw, and what the tool said, to a
//! verdict with why and how to fix it. Pure.

use std::path::Path;

use traffic::{Failure, FailureKind, Side, Stage};

use super::State;
use super::process::{Ended, Ran};
use super::tools::Tool;
use crate::environment::Environment;
use crate::escape::escape_line;
use crate::limits::PROBE_WORDS_MAX;
use crate::trust_store::Store;

/// What one request showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It came through oriel, which opened it.
    Works,
    /// It came through, and would have under any certificate: the tool does not verify.
    Unverified,
    /// The tool does not take oriel's certificate.
    Refused,
    /// The tool went past the proxy.
    Past,
    /// No request came, for another reason.
    Failed,
    /// The tool did not end in time.
    TimedOut,
}

/// A verdict with what it means for the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) state: State,
    pub(crate) why: Option<String>,
    pub(crate) fix: Vec<String>,
}

/// What was seen of one request.
#[derive(Debug)]
pub(super) struct Observation {
    /// A request within TLS came through the engine.
    pub(super) opened: bool,
    /// How the last flow to the upstream failed.
    pub(super) failure: Option<Failure>,
    /// The upstream was connected to, and not by the engine.
    pub(super) past: bool,
    /// The tool came, and went without a word when TLS was agreed on: GnuTLS looks at certificates
    /// of TLS 1.3 only then.
    pub(super) left: bool,
    /// The rule by which the engine left it unopened.
    pub(super) unopened: Option<String>,
    pub(super) ran: Ran,
}

/// Something in a tool's own configuration that comes before the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Override {
    pub(super) kind: OverrideKind,
    /// `http.proxy=http://corp:3128 in file:/home/dana/.gitconfig`.
    pub(super) text: String,
    pub(super) fix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OverrideKind {
    /// Which proxy is used, or none.
    Proxy,
    /// Which authorities are trusted.
    Roots,
}

/// What is known about a tool besides the probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances<'a> {
    pub(super) tool: &'a Tool,
    pub(super) program: &'a Path,
    pub(super) version: Option<&'a str>,
    pub(super) environment: &'a Environment,
    pub(super) overrides: &'a [Override],
    /// Where the authority lies.
    pub(super) data_folder: &'a Path,
}

impl Verdict {
    /// The stable name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Unverified => "unverified",
            Self::Refused => "refused",
            Self::Past => "past",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }

    /// One word or two for a column.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Works => "",
            Self::Unverified => "takes any",
            Self::Refused => "refused",
            Self::Past => "goes past",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
        }
    }
}

impl Observation {
    pub(super) fn verdict(&self) -> Verdict {
        let refused = self.left || self.failure.as_ref().is_some_and(is_refusal);
        match (self.opened, refused, &self.failure, &self.ran.ended) {
            (true, ..) => Verdict::Works,
            (_, true, ..) => Verdict::Refused,
            (_, _, None, _) if self.past => Verdict::Past,
            (_, _, None, Ended::TimedOut) => Verdict::TimedOut,
            _ => Verdict::Failed,
        }
    }

    /// What happened, in the words of the engine or the tool.
    fn told(&self) -> String {
        let said = || match &self.ran.ended {
            Ended::Failed(error) => error.to_string(),
            Ended::TimedOut | Ended::With(_) => words(&self.ran),
        };
        match (&self.failure, &self.unopened) {
            (Some(failure), _) => failure.text.clone(),
            (None, Some(rule)) => format!("oriel left it unopened: {rule}"),
            (None, None) => said(),
        }
    }
}

/// Whether a client would not go on once it saw our certificate.
fn is_refusal(failure: &Failure) -> bool {
    let refuses = matches!(
        failure.kind,
        FailureKind::ClientDistrusts | FailureKind::ClientPinned
    );
    refuses || (failure.side == Side::Client && failure.stage == Stage::Tls)
}

/// The last words of a tool, safe to print.
fn words(ran: &Ran) -> String {
    let words = ran.last_words().unwrap_or("it said nothing");
    let words: String = words.chars().take(PROBE_WORDS_MAX).collect();
    escape_line(&words).into_owned()
}

/// What the request with the environment of `oriel run` means.
pub(super) fn with_run(seen: &Observation, about: &Circumstances<'_>) -> Outcome {
    let verdict = seen.verdict();
    if verdict == Verdict::Works {
        return Outcome::good(verdict);
    }
    if let Some((why, fix)) = known(verdict, seen, about) {
        return Outcome {
            verdict,
            state: State::Warning,
            why: Some(why),
            fix,
        };
    }
    let name = about.tool.name;
    let fix = match verdict {
        Verdict::Refused => {
            format!("oriel ca export -o oriel.pem      and add it to what {name} trusts")
        }
        Verdict::Past => format!("look in the settings of {name} for a proxy"),
        _ => format!("oriel run -- {} …", about.program.display()),
    };
    Outcome {
        verdict,
        state: State::Failed,
        why: Some(match verdict {
            Verdict::Past => "it ignores the proxy variables".to_owned(),
            Verdict::TimedOut => format!("it did not end; it said: {}", seen.told()),
            _ => seen.told(),
        }),
        fix: vec![fix],
    }
}

/// What the request without variables of trust means; `any` is whether the tool also took the
/// certificate of an authority that nobody can know.
pub(super) fn system_wide(seen: &Observation, any: bool, about: &Circumstances<'_>) -> Outcome {
    let verdict = seen.verdict();
    if verdict == Verdict::Works && any {
        return Outcome {
            verdict: Verdict::Unverified,
            state: State::Warning,
            why: Some("it takes every certificate, so its ✓ says nothing about trust".to_owned()),
            fix: vec![unverified_fix(about)],
        };
    }
    if verdict == Verdict::Works {
        return Outcome::good(verdict);
    }
    let roots = about
        .overrides
        .iter()
        .find(|found| found.kind == OverrideKind::Roots);
    let (state, why, fix) = match (verdict, roots) {
        (Verdict::Refused, Some(found)) => {
            let why = format!("without oriel's variables {} decides", found.text);
            (State::Warning, Some(why), vec![found.fix.clone()])
        }
        (Verdict::Refused, None) => (State::Note, None, vec![install_fix(about)]),
        _ => (State::Note, Some(seen.told()), Vec::new()),
    };
    Outcome {
        verdict,
        state,
        why,
        fix,
    }
}

/// What has a tool trust the certificate that `oriel run` did not start.
fn install_fix(about: &Circumstances<'_>) -> String {
    match about.tool.store {
        Some(Store::System) => {
            let data = about.data_folder.display();
            format!("sudo oriel ca install --store system --data {data}")
        }
        Some(Store::User) => "oriel ca install".to_owned(),
        Some(store @ (Store::Java | Store::Firefox)) => {
            format!("oriel ca install --store {}", store.name())
        }
        None => "eval \"$(oriel env)\"".to_owned(),
    }
}

impl Outcome {
    fn good(verdict: Verdict) -> Self {
        Self {
            verdict,
            state: State::Ok,
            why: None,
            fix: Vec::new(),
        }
    }
}

/// A reason that is known, and what helps.
fn known(
    verdict: Verdict,
    seen: &Observation,
    about: &Circumstances<'_>,
) -> Option<(String, Vec<String>)> {
    let wanted = match verdict {
        Verdict::Refused => OverrideKind::Roots,
        _ => OverrideKind::Proxy,
    };
    if let Some(found) = about.overrides.iter().find(|found| found.kind == wanted) {
        let why = format!("{} comes before the environment", found.text);
        return Some((why, vec![found.fix.clone()]));
    }
    if verdict == Verdict::Past
        && let Some(name) = ["NO_PROXY", "no_proxy"]
            .into_iter()
            .find(|name| lists_everything(about.environment, name))
    {
        let why = format!("{name} lists *, so that nothing goes through a proxy");
        return Some((why, vec!["unset NO_PROXY no_proxy".to_owned()]));
    }
    by_nature(verdict, seen, about)
}

pub(super) fn lists_everything(environment: &Environment, name: &str) -> bool {
    let list = environment.text(name).unwrap_or_default();
    list.split([',', ' ']).any(|entry| entry.trim() == "*")
}

/// What some tools never do.
fn by_nature(
    verdict: Verdict,
    seen: &Observation,
    about: &Circumstances<'_>,
) -> Option<(String, Vec<String>)> {
    let (why, fix) = match (about.tool.name, verdict) {
        ("node", Verdict::Past) => {
            let version = about.version.filter(|version| is_old_node(version))?;
            (
                format!("node {version} ignores HTTPS_PROXY"),
                "use node 24, or 22.21 and later: they honour NODE_USE_ENV_PROXY, which oriel sets",
            )
        }
        ("wget", Verdict::Refused) => (
            "wget reads no variable for trusted certificates".to_owned(),
            "oriel ca export --format bundle -o bundle.pem && wget --ca-certificate=bundle.pem …",
        ),
        ("java", Verdict::Past) => (
            "Java reads no variable for a proxy, nor one for trusted certificates".to_owned(),
            "oriel ca export --format java -o oriel.p12 && oriel run --listen 127.0.0.1:6799 -- \
             env JAVA_TOOL_OPTIONS=\"-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=6799 \
             -Djavax.net.ssl.trustStore=$PWD/oriel.p12\" java …",
        ),
        ("java", Verdict::Failed) if lacks_compiler(&seen.ran) => (
            "it was not tried: there is no compiler beside this Java".to_owned(),
            "install a JDK to have it tried",
        ),
        ("chromium", Verdict::Refused) => (
            "Chromium reads no variable for trusted certificates".to_owned(),
            "oriel ca export -o oriel.pem && certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n oriel \
             -i oriel.pem",
        ),
        _ => return None,
    };
    Some((why, fix.lines().map(str::to_owned).collect()))
}

fn lacks_compiler(ran: &Ran) -> bool {
    ["Could not find or load main class", "jdk.compiler"]
        .iter()
        .any(|words| ran.stderr.contains(words))
}

/// Node honours NODE_USE_ENV_PROXY from 22.21 and 24.0 on.
fn is_old_node(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => major < 22 || (major == 22 && minor < 21) || major == 23,
        _ => false,
    }
}

/// Variables that switch verifying off, with the tool that reads them.
const NO_VERIFYING: [(&str, &str); 3] = [
    ("node", "NODE_TLS_REJECT_UNAUTHORIZED"),
    ("npm", "NODE_TLS_REJECT_UNAUTHORIZED"),
    ("git", "GIT_SSL_NO_VERIFY"),
];

fn unverified_fix(about: &Circumstances<'_>) -> String {
    let name = about.tool.name;
    let set = NO_VERIFYING
        .iter()
        .find(|(tool, variable)| *tool == name && about.environment.is_set(variable));
    match (set, name) {
        (Some((_, variable)), _) => format!("unset {variable}"),
        (None, "git") => "git config --show-origin --get-all http.sslVerify".to_owned(),
        (None, "npm") => "npm config delete strict-ssl".to_owned(),
        (None, "curl") => "take `insecure` out of ~/.curlrc".to_owned(),
        (None, _) => format!("look in the settings of {name} for what switches verifying off"),
    }
}

#[cfg(test)]
mod tests;
