//! `oriel ca`: the certificate of our authority. Its key never leaves the data folder.

use std::path::Path;

use proxy::Authority;
use traffic::Timestamp;

use crate::args::{CaCommand, DataFlags, ExportFormat};
use crate::authority::{AuthorityFiles, load_or_make, unwritable};
use crate::bundle::{concatenate, system_roots};
use crate::clock::now;
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::output::{print, print_bytes, print_json};
use crate::problem::Problem;
use crate::settings::{Purpose, Settings};

pub(crate) fn run(context: &Context, command: &CaCommand) -> Result<Exit, Problem> {
    match command {
        CaCommand::Show { data } => {
            let settings = settings(context, data)?;
            show(context, &settings, &load_or_make(&settings, now())?)?;
        }
        CaCommand::Export {
            format,
            output,
            with,
            data,
        } => {
            let settings = settings(context, data)?;
            let authority = load_or_make(&settings, now())?;
            let roots = || system_roots(&context.environment);
            let bytes = export(&authority, *format, with.as_deref(), roots)?;
            match output {
                Some(path) => {
                    std::fs::write(path, bytes).map_err(|error| unwritable(path, &error))?;
                }
                None => print_bytes(&bytes)?,
            }
        }
    }
    Ok(Exit::Success)
}

fn settings(context: &Context, data: &DataFlags) -> Result<Settings, Problem> {
    context.settings(Purpose::Serve, data.layer())
}

fn show(context: &Context, settings: &Settings, authority: &Authority) -> Result<(), Problem> {
    let files = AuthorityFiles::of(settings)?;
    if context.json() {
        return print_json(&serde_json::json!({
            "schema": "oriel.ca/1",
            "subject": authority.subject(),
            "sha256": hex(&authority.sha256(), ""),
            "not_before": store::json::rfc3339(authority.not_before()),
            "not_after": store::json::rfc3339(authority.not_after()),
            "certificate_file": files.certificate,
            "key_file": files.key,
            "installed": [],
        }));
    }
    let files = match files.certificate == files.key {
        true => files.key.display().to_string(),
        false => format!(
            "{}, key {}",
            files.certificate.display(),
            files.key.display()
        ),
    };
    print(&format!(
        "subject      {}\nsha256       {}\nvalid        {} to {} ({} days left)\nfile         {}\n\n\
         trusted by   what `oriel run` starts, and shells with `oriel env`; oriel installs it nowhere\n\
         export       oriel ca export --format pem|der|bundle\n",
        escape_line(authority.subject()),
        hex(&authority.sha256(), ":"),
        day(authority.not_before()),
        day(authority.not_after()),
        days_left(authority.not_after(), now()),
        escape_line(&files),
    ))
}

fn export(
    authority: &Authority,
    format: ExportFormat,
    with: Option<&Path>,
    system_roots: impl FnOnce() -> String,
) -> Result<Vec<u8>, Problem> {
    if with.is_some() && format != ExportFormat::Bundle {
        return Err(
            Problem::new("ORL0001", Exit::Usage, "--with is for bundles")
                .fix("oriel ca export --format bundle --with FILE"),
        );
    }
    Ok(match format {
        ExportFormat::Pem => authority.certificate_pem().as_bytes().to_vec(),
        ExportFormat::Der => authority.certificate_der().to_vec(),
        ExportFormat::Bundle => {
            let added = with.map(read_certificates).transpose()?.unwrap_or_default();
            concatenate(&[&system_roots(), &added, authority.certificate_pem()]).into_bytes()
        }
    })
}

fn read_certificates(path: &Path) -> Result<String, Problem> {
    let what = || format!("cannot read certificates from {}", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Problem::new("ORL0305", Exit::Usage, what()).why(error.to_string()))?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Problem::new("ORL0305", Exit::Usage, what())
            .why("there is no certificate in PEM form in it"));
    }
    Ok(text)
}

fn hex(bytes: &[u8], between: &str) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(between)
}

fn day(at: Timestamp) -> String {
    store::json::rfc3339(at).chars().take(10).collect()
}

fn days_left(not_after: Timestamp, now: Timestamp) -> i64 {
    not_after.micros_since(now) / 86_400_000_000
}
