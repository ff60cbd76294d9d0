//! Variables that fight each other, or oriel: for those who call programs without `oriel run`, and
//! for what a run keeps of them. Values of proxies are told without their passwords.

use proxy::UpstreamProxy;
use traffic::Target;
use traffic::rules::no_proxy::NoProxy;

use super::verdict::lists_everything;
use super::{Area, Check, State};
use crate::args::CaptureWhich;
use crate::child_env::{ADDING, REPLACING};
use crate::environment::Environment;
use crate::escape::escape_line;
use crate::settings::Settings;

/// Variables with the case that other programs read.
const PAIRS: [(&str, &str); 4] = [
    ("HTTP_PROXY", "http_proxy"),
    ("HTTPS_PROXY", "https_proxy"),
    ("ALL_PROXY", "all_proxy"),
    ("NO_PROXY", "no_proxy"),
];

/// Variables that switch the verifying of certificates off, with the value that does.
const NO_VERIFYING: [(&str, &str); 3] = [
    ("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
    ("PYTHONHTTPSVERIFY", "0"),
    ("GIT_SSL_NO_VERIFY", ""),
];

pub(super) fn checks(environment: &Environment, settings: &Settings) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(elsewhere(environment, settings));
    checks.extend(PAIRS.iter().filter_map(|pair| differ(environment, *pair)));
    for name in ["NO_PROXY", "no_proxy"] {
        checks.extend(past(environment, settings, name));
    }
    checks.extend(node_told_not_to(environment));
    let roots = REPLACING.iter().chain(ADDING).chain(&["SSL_CERT_DIR"]);
    checks.extend(roots.filter_map(|name| roots_of(environment, name)));
    let off = NO_VERIFYING.iter();
    checks.extend(off.filter_map(|(name, value)| not_verifying(environment, name, value)));
    if checks.is_empty() {
        let text = "no variable leads past oriel or replaces what it sets";
        checks.push(Check::new(Area::Environment, State::Ok, text));
    }
    checks
}

/// A proxy that is not oriel: a run goes through it, and what is started without one goes past oriel.
fn elsewhere(environment: &Environment, settings: &Settings) -> Option<Check> {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let name = names.into_iter().find(|name| environment.is_set(name))?;
    let warn = |text: String| Check::new(Area::Environment, State::Warning, text).code("ORL0220");
    let Ok(proxy) = environment.text(name)?.trim().parse::<UpstreamProxy>() else {
        let text = format!("{name} is not the URL of a proxy");
        return Some(warn(text).fix(format!("unset {name}")));
    };
    let address = &proxy.url.address;
    let own = settings.listen.value.0.port() == address.port && address.host.is_loopback();
    if own {
        let text = format!("{name} names oriel serve ({})", proxy.url);
        return Some(Check::new(Area::Environment, State::Ok, text));
    }
    let text = format!(
        "{name} names {}, which is not oriel serve: oriel run reaches upstreams through it, and \
         what is started without oriel run goes past oriel",
        proxy.url
    );
    Some(warn(text).fix("for this shell: eval \"$(oriel env)\""))
}

fn differ(environment: &Environment, (upper, lower): (&str, &str)) -> Option<Check> {
    let (one, other) = (environment.text(upper)?, environment.text(lower)?);
    (one != other).then(|| {
        let text = format!("{upper} and {lower} differ, and programs read one or the other");
        Check::new(Area::Environment, State::Warning, text)
            .code("ORL0220")
            .fix(format!("export {lower}=\"${upper}\""))
    })
}

/// Hosts that are to be seen and go past any proxy.
fn past(environment: &Environment, settings: &Settings, name: &str) -> Option<Check> {
    let warn = |text: String| {
        Check::new(Area::Environment, State::Warning, text)
            .code("ORL0221")
            .fix(format!(
                "unset {name}, or for one run: {name}= oriel run -- COMMAND"
            ))
    };
    if lists_everything(environment, name) {
        return Some(warn(format!("{name} lists *: every call goes past oriel")));
    }
    let (list, _problems) = NoProxy::parse_variable(environment.text(name)?);
    let wanted = CaptureWhich::Llm.hosts();
    let wanted = wanted.iter().chain(&settings.hosts.value);
    let host = wanted
        .filter_map(|pattern| pattern.strip_prefix("*.").or(Some(pattern)))
        .find(|host| Target::parse(host, 443).is_ok_and(|target| list.covers(&target)))?;
    Some(warn(format!(
        "{name} covers {}: calls to it go past oriel",
        escape_line(host)
    )))
}

fn node_told_not_to(environment: &Environment) -> Option<Check> {
    let value = environment.text("NODE_USE_ENV_PROXY")?;
    (value != "1").then(|| {
        let value = escape_line(value);
        let text = format!(
            "NODE_USE_ENV_PROXY={value}: Node heeds the proxy variables for 1 alone (oriel run sets it)"
        );
        Check::new(Area::Environment, State::Warning, text)
            .code("ORL0220")
            .fix("unset NODE_USE_ENV_PROXY")
    })
}

/// Roots that are named and cannot be read. oriel's own variables take the place of most, but what
/// they named is to be in its bundle too.
fn roots_of(environment: &Environment, name: &str) -> Option<Check> {
    let path = environment.path(name)?;
    let wrong = match std::fs::metadata(&path) {
        Err(error) => error.to_string(),
        Ok(facts) if facts.is_dir() == (name == "SSL_CERT_DIR") => match facts.is_dir() {
            true => return None,
            false => without_certificate(&path)?,
        },
        Ok(facts) if facts.is_dir() => "it is a folder".to_owned(),
        Ok(_) => "it is not a folder".to_owned(),
    };
    let path = path.display().to_string();
    let text = format!("{name} names {}: {wrong}", escape_line(&path));
    Some(
        Check::new(Area::Environment, State::Warning, text)
            .code("ORL0222")
            .fix(format!("unset {name}")),
    )
}

fn without_certificate(path: &std::path::Path) -> Option<String> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let mark = b"-----BEGIN";
            let found = bytes.windows(mark.len()).any(|part| part == mark);
            (!found).then(|| "there is no certificate in PEM form in it".to_owned())
        }
        Err(error) => Some(error.to_string()),
    }
}

fn not_verifying(environment: &Environment, name: &str, value: &str) -> Option<Check> {
    let set = environment.text(name)?;
    (value.is_empty() || set == value).then(|| {
        let text = format!("{name} is set: certificates are not verified at all");
        Check::new(Area::Environment, State::Warning, text)
            .code("ORL0223")
            .fix(format!("unset {name}"))
    })
}
