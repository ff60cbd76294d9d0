//! `oriel env`: the variables that point a shell at `oriel serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use proxy::tls::authority::{AuthorityError, read_certificates};
use proxy::tls::pem;

use crate::args::{Env, ShellName};
use crate::authority::{AuthorityFiles, load_or_make, to_read, unwritable};
use crate::bundle::{self, TrustFiles};
use crate::child_env::{Changes, Wishes, reachable};
use crate::clock::now;
use crate::context::Context;
use crate::exit::Exit;
use crate::limits::STATUS_TIMEOUT;
use crate::output::{print, print_json};
use crate::paths::ca_folder;
use crate::problem::Problem;
use crate::service::{Place, ask};
use crate::settings::{Purpose, Settings};
use crate::trusted;

pub(crate) fn run(context: &Context, arguments: &Env) -> Result<Exit, Problem> {
    let shell = arguments
        .shell
        .unwrap_or_else(|| ShellName::of_variable(context.environment.text("SHELL")));
    if arguments.unset {
        let changes = Changes {
            set: Vec::new(),
            unset: Changes::names().map(str::to_owned).collect(),
        };
        print_changes(context, &changes, shell, &[])?;
        return Ok(Exit::Success);
    }
    let settings = context.settings(Purpose::Serve, arguments.layer())?;
    let files = lasting_trust_files(context, &settings)?;
    let service = match arguments.listen {
        None => service_address(context)?,
        Some(_) => None,
    };
    let address = reachable(service.unwrap_or(settings.listen.value.0));
    let changes = Changes::new(
        &Wishes {
            proxy: Some(address),
            trust: Some(&files),
            include_loopback: false,
            base_url: None,
        },
        &context.environment,
    );
    print_changes(
        context,
        &changes,
        shell,
        &[
            format!(
                "Points this shell at oriel on {address}. Use it:  {}",
                shell.hint("")
            ),
            format!("Undo it:  {}", shell.hint(" --unset")),
        ],
    )?;
    Ok(Exit::Success)
}

/// Where the service that runs listens, whatever the settings say by now.
fn service_address(context: &Context) -> Result<Option<SocketAddr>, Problem> {
    let status = ask::status(&Place::of(&context.paths), STATUS_TIMEOUT)?;
    let listeners = status
        .as_ref()
        .and_then(|status| status["listeners"].as_array());
    let mut addresses = listeners.into_iter().flatten().filter_map(|listener| {
        let is_proxy = listener["kind"] == "proxy";
        let address = listener["addr"].as_str().filter(|_| is_proxy)?;
        address.parse().ok()
    });
    Ok(addresses.next())
}

/// Prints changes as commands of a shell with remarks before them, or as JSON.
pub(crate) fn print_changes(
    context: &Context,
    changes: &Changes,
    shell: ShellName,
    remarks: &[String],
) -> Result<(), Problem> {
    if context.json() {
        let set: serde_json::Map<String, serde_json::Value> = changes
            .set
            .iter()
            .map(|(name, value)| (name.clone(), value.to_string_lossy().into()))
            .collect();
        return print_json(&serde_json::json!({
            "schema": "oriel.env/1",
            "set": set,
            "unset": changes.unset,
        }));
    }
    let remarks = remarks.iter().map(|remark| shell.remark(remark) + "\n");
    print(&(remarks.collect::<String>() + &changes.to_shell(shell)))
}

/// Files of trust that stay, for shells that outlive this command.
pub(crate) fn lasting_trust_files(
    context: &Context,
    settings: &Settings,
) -> Result<TrustFiles, Problem> {
    let folder = ca_folder(&settings.data_folder.value);
    let certificate = certificate_pem(settings)?;
    bundle::write(&folder, &certificate, &context.environment)
        .map_err(|error| unwritable(&folder, &error))
}

/// The certificate alone: of an authority that lies elsewhere the key is not needed here.
fn certificate_pem(settings: &Settings) -> Result<String, Problem> {
    let elsewhere: Option<&PathBuf> = settings.ca_certificate.value.as_ref();
    match elsewhere {
        Some(path) => read(path),
        None => {
            AuthorityFiles::of(settings)?;
            Ok(trusted::certificates_pem(
                settings,
                &load_or_make(settings, now())?,
                now(),
            ))
        }
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    let certificates = read_certificates(path).map_err(|error| {
        let what = format!("cannot read the authority's certificate {}", path.display());
        let problem = Problem::new("ORL0302", Exit::Usage, what);
        match error {
            AuthorityError::Read { source, .. } => {
                problem.why(source.to_string()).fix(to_read(path))
            }
            other => problem
                .why(other.to_string())
                .fix("name a file with a certificate in PEM or DER:  --ca-cert FILE"),
        }
    })?;
    Ok(pem::certificates(&certificates))
}
