//! Who may use the proxy, as the settings say it: one login, a file of users, a program or a URL
//! that is asked, or everybody who brings a password.

mod asked_command;
mod asked_url;
mod users;

use proxy::{Admission, AnyPassword, Credentials};
use rustls_pki_types::CertificateDer;

use crate::config::file::Auth;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::wiring::read_roots;

pub(crate) use users::hash;

/// How clients of the proxy's main listener are admitted; `None` asks nobody.
pub(crate) fn admission(settings: &Settings) -> Result<Option<Admission>, Problem> {
    let wrong = |what: String, fix: &str| {
        let origin = match settings.auth.value {
            Some(_) => &settings.auth.origin,
            None => &settings.credentials.origin,
        };
        Problem::new("ORL0107", Exit::Usage, what)
            .why(format!("set so by: {origin}"))
            .fix(fix)
    };
    let Some(auth) = &settings.auth.value else {
        let login = settings.credentials.value.as_ref();
        return Ok(login.map(|login| Credentials::new(&login.user, login.password.reveal()).into()));
    };
    if settings.credentials.value.is_some() {
        let what = "proxy.credentials and proxy.auth both say who may use the proxy".to_owned();
        return Err(wrong(what, "leave one of them out"));
    }
    let Auth {
        users_file,
        command,
        url,
        header,
        any_password,
        realm,
        cache_for,
    } = auth;
    if header.is_some() && url.is_none() {
        let what = "proxy.auth.header is for proxy.auth.url, which is not set".to_owned();
        return Err(wrong(what, "leave header out, or set url"));
    }
    let any_password = any_password.unwrap_or_default().then_some(());
    let admission = match (users_file, command, url, any_password) {
        (Some(path), None, None, None) => Admission::by(users::Users::read(path)?),
        (None, Some(command), None, None) => {
            let asked = asked_command::AskedCommand::new(command);
            Admission::by(asked.ok_or_else(|| {
                wrong(
                    "proxy.auth.command names no program".to_owned(),
                    "command = [\"/usr/local/bin/check-token\"]",
                )
            })?)
        }
        (None, None, Some(url), None) => {
            let asked = asked_url::AskedUrl::new(url, header.as_deref(), &roots(settings)?);
            Admission::by(asked.map_err(|what| wrong(what, "url = \"https://…\""))?)
        }
        (None, None, None, Some(())) => Admission::by(AnyPassword),
        _ => {
            let what = "proxy.auth wants exactly one of users_file, command, url and any_password";
            return Err(wrong(what.to_owned(), "users_file = \"users\""));
        }
    };
    let admission = match realm {
        Some(realm) => admission.realm(realm),
        None => admission,
    };
    Ok(Some(match cache_for {
        Some(period) => admission.kept_for(period.0),
        None => admission,
    }))
}

/// The roots that upstreams are verified by, for a URL that is asked.
fn roots(settings: &Settings) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let mut roots = Vec::new();
    if settings.upstream_system_roots.value {
        roots.extend(rustls_native_certs::load_native_certs().certs);
    }
    for path in &settings.upstream_ca_files.value {
        roots.extend(read_roots(path)?);
    }
    Ok(roots)
}

/// Whether the settings keep out whoever knows nothing.
pub(crate) fn keeps_strangers_out(settings: &Settings) -> bool {
    let auth = settings.auth.value.as_ref();
    let any = auth.is_some_and(|auth| auth.any_password == Some(true));
    settings.credentials.value.is_some() || auth.is_some() && !any
}
