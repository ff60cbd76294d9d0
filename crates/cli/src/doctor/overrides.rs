//! What in a tool's own configuration comes before the environment. It is read, never changed.

use std::path::Path;
use std::process::Command;

use super::process;
use super::verdict::{Override, OverrideKind};
use crate::environment::Environment;
use crate::limits::PROBE_VERSION_TIMEOUT;

/// The settings of a tool that decide which proxy it uses and whom it trusts, as far as they are
/// known for it.
pub(super) async fn find(name: &str, program: &Path, environment: &Environment) -> Vec<Override> {
    match name {
        "git" => of_git(program).await,
        "curl" => of_curl(environment),
        _ => Vec::new(),
    }
}

/// git takes its proxy from `http.proxy` first; `http.sslCAInfo` is used where GIT_SSL_CAINFO is not
/// set.
async fn of_git(program: &Path) -> Vec<Override> {
    let mut found = Vec::new();
    for (key, kind, form) in [
        ("http.proxy", OverrideKind::Proxy, "--no-type"),
        ("http.sslCAInfo", OverrideKind::Roots, "--type=path"),
    ] {
        let mut command = Command::new(program);
        command.args(["config", "--show-origin", form, "--get", key]);
        let ran = process::run(command, PROBE_VERSION_TIMEOUT).await;
        if !ran.succeeded() {
            continue;
        }
        let Some((origin, value)) = ran.stdout.trim_end().split_once('\t') else {
            continue;
        };
        let value = without_login(value);
        let config = match origin.strip_prefix("file:") {
            Some(path) => format!("git config --file {path}"),
            None => "git config".to_owned(),
        };
        let has_certificate = || {
            let text = std::fs::read_to_string(&value);
            text.is_ok_and(|text| text.contains("-----BEGIN CERTIFICATE-----"))
        };
        let fix = match kind {
            OverrideKind::Roots if has_certificate() => format!(
                "oriel ca export --format bundle --with {value} -o bundle.pem && \
                 {config} {key} \"$PWD/bundle.pem\""
            ),
            _ => format!("{config} --unset {key}"),
        };
        found.push(Override {
            kind,
            text: format!("{key}={value} ({origin})"),
            fix,
        });
    }
    found
}

/// curl reads one file before it looks at its arguments and variables (man curl, `--config`).
fn of_curl(environment: &Environment) -> Vec<Override> {
    let folders = ["CURL_HOME", "XDG_CONFIG_HOME", "HOME"];
    let paths = folders
        .iter()
        .filter_map(|name| environment.path(name))
        .map(|folder| folder.join(".curlrc"));
    let Some((path, text)) = paths.into_iter().find_map(|path| {
        let text = std::fs::read_to_string(&path).ok()?;
        Some((path, text))
    }) else {
        return Vec::new();
    };
    let settings = text.lines().filter_map(|line| of_curl_line(line, &path));
    settings.collect()
}

fn of_curl_line(line: &str, path: &Path) -> Option<Override> {
    let line = line.trim().trim_start_matches('-');
    let end = line
        .find(|letter: char| letter.is_whitespace() || matches!(letter, '=' | ':'))
        .unwrap_or(line.len());
    let (name, value) = line.split_at_checked(end)?;
    let value = value
        .trim_matches(|letter: char| letter.is_whitespace() || matches!(letter, '=' | ':' | '"'));
    let kind = match name {
        "proxy" | "x" | "noproxy" => OverrideKind::Proxy,
        "cacert" | "capath" => OverrideKind::Roots,
        _ => return None,
    };
    let place = path.display();
    Some(Override {
        kind,
        text: format!("{name}={} ({place})", without_login(value)),
        fix: format!("take `{name}` out of {place}"),
    })
}

/// A URL without a user and a password.
fn without_login(value: &str) -> String {
    let (scheme, rest) = value.split_once("://").unwrap_or(("", value));
    match (rest.rsplit_once('@'), scheme) {
        (Some((_login, host)), "") => host.to_owned(),
        (Some((_login, host)), scheme) => format!("{scheme}://{host}"),
        (None, _) => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_matters_in_a_curlrc() {
        let path = Path::new("/h/.curlrc");
        let check = |line: &str, expected: Option<&str>| {
            let found = of_curl_line(line, path).map(|found| found.text);
            assert_eq!(found.as_deref(), expected, "{line}");
        };
        check("cacert = \"/c.pem\"", Some("cacert=/c.pem (/h/.curlrc)"));
        check(
            "--proxy http://me:secret@p:1",
            Some("proxy=http://p:1 (/h/.curlrc)"),
        );
        check("noproxy: *", Some("noproxy=* (/h/.curlrc)"));
        check("# proxy = x", None);
        check("silent", None);
        check("", None);
    }
}
