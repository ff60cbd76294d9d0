//! `oriel ca show`: whose certificate it is, who signed it, for how long and for what.

use std::fmt::Write as _;

use proxy::Authority;
use proxy::tls::chain::Link;
use proxy::tls::pem;
use serde_json::{Value, json};

use super::stale::Stale;
use super::{day, days_left, hex, settings};
use crate::args::CaShow;
use crate::authority::{AuthorityFiles, load_or_make};
use crate::clock::now;
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::output::{print, print_json, print_line};
use crate::problem::Problem;
use crate::settings::Settings;
use crate::trust_store::journal::Journal;
use crate::trusted::earlier;

pub(super) fn run(context: &Context, arguments: &CaShow) -> Result<(), Problem> {
    let settings = settings(context, &arguments.authority)?;
    let authority = load_or_make(&settings, now())?;
    if !arguments.pem && !arguments.fingerprint {
        return show(context, &settings, &authority);
    }
    if context.json() {
        let what = "--json shows the whole certificate, not a part of it";
        return Err(Problem::new("ORL0001", Exit::Usage, what)
            .fix("oriel ca show --json      has the fingerprint: sha256")
            .fix("oriel ca show --pem"));
    }
    match arguments.pem {
        true => print(&pem::certificates(std::slice::from_ref(
            authority.certificate_der(),
        ))),
        false => print_line(&hex(&authority.sha256(), ":")),
    }
}

pub(super) fn show(
    context: &Context,
    settings: &Settings,
    authority: &Authority,
) -> Result<(), Problem> {
    let files = AuthorityFiles::of(settings)?;
    match context.json() {
        true => print_json(&document(settings, &files, authority)?),
        false => print(&text(settings, &files, authority)?),
    }
}

/// The same after it took the place of another.
pub(super) fn show_changed(
    context: &Context,
    settings: &Settings,
    authority: &Authority,
    stale: Option<&Stale>,
) -> Result<(), Problem> {
    let Some(stale) = stale else {
        return show(context, settings, authority);
    };
    let (files, data) = (AuthorityFiles::of(settings)?, &settings.data_folder.value);
    if context.json() {
        let mut document = document(settings, &files, authority)?;
        document["stale"] = stale.document(data);
        return print_json(&document);
    }
    let shown = text(settings, &files, authority)?;
    print(&format!("{shown}{}", stale.text(data)))
}

fn document(
    settings: &Settings,
    files: &AuthorityFiles,
    authority: &Authority,
) -> Result<Value, Problem> {
    let links = authority.links();
    let own = links.first();
    let earlier: Vec<_> = earlier(settings, now())
        .into_iter()
        .map(|earlier| {
            json!({
                "subject": earlier.subject,
                "sha256": hex(&earlier.sha256, ""),
                "trusted_until": store::json::rfc3339(earlier.until),
            })
        })
        .collect();
    Ok(json!({
        "schema": "oriel.ca/1",
        "subject": authority.subject(),
        "kind": own.map(kind),
        "issuer": own.map(|own| &own.issuer),
        "key": authority.key_kind(),
        "sha256": hex(&authority.sha256(), ""),
        "not_before": store::json::rfc3339(authority.not_before()),
        "not_after": store::json::rfc3339(authority.not_after()),
        "path_length": own.and_then(|own| own.path_length),
        "name_constraints": authority.constraints_text(),
        "chain": links.iter().map(link_document).collect::<Vec<_>>(),
        "earlier": earlier,
        "certificate_file": files.certificate,
        "key_file": files.key,
        "installed": installed(settings)?,
    }))
}

/// Where it was installed: each store of each root once.
fn installed(settings: &Settings) -> Result<Vec<Value>, Problem> {
    let journal = Journal::load(&settings.data_folder.value)?;
    let mut found: Vec<Value> = Vec::new();
    for entry in &journal.entries {
        let at = json!({"root": entry.root, "store": entry.store, "sha256": entry.sha256.to_ascii_uppercase()});
        if !found.contains(&at) {
            found.push(at);
        }
    }
    Ok(found)
}

/// One certificate of a chain as JSON.
pub(super) fn link_document(link: &Link) -> Value {
    json!({
        "subject": link.subject,
        "issuer": link.issuer,
        "kind": kind(link),
        "sha256": hex(&link.sha256, ""),
        "not_before": store::json::rfc3339(link.not_before),
        "not_after": store::json::rfc3339(link.not_after),
        "path_length": link.path_length,
    })
}

fn kind(link: &Link) -> &'static str {
    match link.self_signed {
        true => "self_signed",
        false => "cross_signed",
    }
}

/// Who signed it, for people.
pub(super) fn signed_by(link: &Link) -> String {
    match link.self_signed {
        true => "self-signed".to_owned(),
        false => format!("cross-signed by {}", link.issuer),
    }
}

fn text(
    settings: &Settings,
    files: &AuthorityFiles,
    authority: &Authority,
) -> Result<String, Problem> {
    let links = authority.links();
    let own = links.first();
    let files = match files.certificate == files.key {
        true => files.key.display().to_string(),
        false => format!(
            "{}, key {}",
            files.certificate.display(),
            files.key.display()
        ),
    };
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        let _infallible = writeln!(text, "{label:12} {}", escape_line(value));
    };
    line("subject", authority.subject());
    line("signed", &own.map(signed_by).unwrap_or_default());
    line("key", &authority.key_kind());
    line("sha256", &hex(&authority.sha256(), ":"));
    let (from, to) = (authority.not_before(), authority.not_after());
    let left = days_left(to, now());
    line(
        "valid",
        &format!("{} to {} ({left} days left)", day(from), day(to)),
    );
    line("signs", &signs(own));
    if let Some(constraints) = authority.constraints_text() {
        line("for", &constraints);
    }
    for link in links.iter().skip(1) {
        line("chain", &format!("{}, {}", link.subject, signed_by(link)));
    }
    for earlier in earlier(settings, now()) {
        let said = format!("{}, trusted until {}", earlier.subject, day(earlier.until));
        line("earlier", &said);
    }
    line("file", &files);
    for entry in installed(settings)? {
        let (store, root) = (entry["store"].as_str(), entry["root"].as_str());
        let at = format!(
            "{} of {}",
            store.unwrap_or_default(),
            root.unwrap_or_default()
        );
        let _infallible = writeln!(text, "{:12} {}", "installed", escape_line(&at));
    }
    text.push_str(
        "\ntrusted by   what `oriel run` starts, and shells with `oriel env`\n\
         install      oriel ca install, for all others\n\
         export       oriel ca export --format pem|chain|der|bundle|p12|java\n",
    );
    Ok(text)
}

fn signs(own: Option<&Link>) -> String {
    match own.and_then(|own| own.path_length) {
        Some(0) => "certificates of hosts, no other authority".to_owned(),
        Some(length) => format!("certificates of hosts, and authorities {length} deep"),
        None => "certificates of hosts, and authorities".to_owned(),
    }
}
