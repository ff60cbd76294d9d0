//! `oriel ca import`: an authority from elsewhere takes the place of the installation's own.

use std::time::Duration;

use proxy::Authority;
use proxy::tls::authority::{AuthorityError, read_certificates, read_key};
use traffic::Timestamp;

use super::show;
use super::stale::Stale;
use crate::args::CaImport;
use crate::authority::{AuthorityFiles, broken, is_own, load, store_over, unwritable};
use crate::clock::now;
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::settings::{Purpose, Settings};
use crate::trusted;

pub(super) fn run(context: &Context, arguments: &CaImport) -> Result<(), Problem> {
    let settings = context.settings(Purpose::Serve, arguments.data.layer())?;
    refuse_configured(&settings)?;
    let files = AuthorityFiles::of(&settings)?;
    let current = match files.key.exists() {
        true => Some(load(&files)?),
        false => None,
    };
    let imported = read(arguments, current.as_ref())?;
    let faults = imported.check_chain(now());
    if !faults.is_empty() {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let what = format!(
            "clients would not take certificates of {}",
            imported.subject()
        );
        return Err(Problem::new("ORL0309", Exit::Usage, what).why(faults.join("\n")));
    }
    if let Some(current) = &current {
        if current.key_pem() != imported.key_pem() && !arguments.replace {
            let path = files.key.display();
            let what = format!("there is a certificate authority with another key in {path}");
            return Err(Problem::new("ORL0307", Exit::Usage, what)
                .why("its key would be gone, and whoever trusts it trusts no other")
                .fix("import it all the same:  --replace     (it stays trusted for --overlap)"));
        }
        if current.sha256() != imported.sha256() {
            keep(&files, current, arguments.overlap.0)?;
        }
    }
    store_over(&files, &imported)?;
    let before = current.filter(|current| current.key_pem() != imported.key_pem());
    let stale = before.map(|before| Stale::of(&settings, &before, None));
    let stale = stale.transpose()?;
    show::show_changed(context, &settings, &imported, stale.as_ref())
}

fn read(arguments: &CaImport, current: Option<&Authority>) -> Result<Authority, Problem> {
    let named = AuthorityFiles {
        certificate: arguments.certificate.clone(),
        key: arguments.key.clone().unwrap_or_default(),
    };
    let refused = |error: AuthorityError| broken(&error, &named);
    let mut certificates = read_certificates(&arguments.certificate).map_err(refused)?;
    if let Some(chain) = &arguments.chain {
        certificates.extend(read_certificates(chain).map_err(refused)?);
    }
    let key = match (&arguments.key, current) {
        (Some(path), _) => read_key(path).map_err(refused)?,
        (None, Some(current)) => current.key_pem().as_bytes().to_vec(),
        (None, None) => {
            let what = "there is no key for the certificate";
            return Err(Problem::new("ORL0304", Exit::Usage, what)
                .why("no --key is given, and no authority is there whose key it could have")
                .fix("oriel ca import CERT --key FILE"));
        }
    };
    Authority::from_certificates(certificates, &key).map_err(refused)
}

/// Keeps the authority that makes place among those that clients are to trust.
pub(super) fn keep(
    files: &AuthorityFiles,
    current: &Authority,
    overlap: Duration,
) -> Result<(), Problem> {
    if overlap.is_zero() {
        return Ok(());
    }
    let until = window(current, overlap);
    let folder = files
        .key
        .parent()
        .unwrap_or_else(|| std::path::Path::new("."));
    trusted::keep(folder, current, until, now()).map_err(|error| unwritable(folder, &error))
}

/// Until when the authority that makes place is trusted.
pub(super) fn window(current: &Authority, overlap: Duration) -> Timestamp {
    let overlap = i64::try_from(overlap.as_micros()).unwrap_or(i64::MAX);
    Timestamp(now().0.saturating_add(overlap)).min(current.not_after())
}

/// What is configured to lie elsewhere is not ours to change.
pub(super) fn refuse_configured(settings: &Settings) -> Result<(), Problem> {
    if is_own(settings) {
        return Ok(());
    }
    let path = settings.ca_certificate.value.as_deref();
    let path = path.map(|path| path.display().to_string());
    let what = "the authority in use is not that of the data folder";
    Err(Problem::new("ORL0307", Exit::Usage, what)
        .why(format!(
            "ca.certificate is {} ({})",
            path.unwrap_or_default(),
            settings.ca_certificate.origin
        ))
        .fix("change those files, or take ca.certificate and ca.key out of the configuration"))
}
