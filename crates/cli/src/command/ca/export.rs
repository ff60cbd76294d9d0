//! `oriel ca export`: the certificate in the forms that clients take; never the key.

use std::path::Path;

use proxy::tls::{pem, pkcs12};
use rustls_pki_types::CertificateDer;

use super::{java, settings, write};
use crate::args::{CaExport, ExportFormat};
use crate::authority::load_or_make;
use crate::bundle::{concatenate, system_roots};
use crate::clock::now;
use crate::context::Context;
use crate::downloads::mobileconfig;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::trusted;

pub(super) fn run(context: &Context, arguments: &CaExport) -> Result<(), Problem> {
    if arguments.with.is_some() && arguments.format != ExportFormat::Bundle {
        return Err(
            Problem::new("ORL0001", Exit::Usage, "--with is for bundles")
                .fix("oriel ca export --format bundle --with FILE"),
        );
    }
    let settings = settings(context, &arguments.authority)?;
    let authority = load_or_make(&settings, now())?;
    let certificates = trusted::certificates(&settings, &authority, now());
    let bytes = match arguments.format {
        ExportFormat::Pem => pem::certificates(&certificates).into_bytes(),
        ExportFormat::Chain => authority.certificate_pem().as_bytes().to_vec(),
        ExportFormat::Der => authority.certificate_der().to_vec(),
        ExportFormat::Mobileconfig => mobileconfig(&authority).into_bytes(),
        ExportFormat::Bundle => bundle(context, &certificates, arguments.with.as_deref())?,
        ExportFormat::P12 => pkcs12::trust_store(&certificates, &arguments.password)
            .map_err(|error| Problem::bug(error.to_string()))?,
        ExportFormat::Java => java::trust_store(context, &certificates)?,
    };
    write(arguments.output.as_deref(), &bytes)
}

fn bundle(
    context: &Context,
    certificates: &[CertificateDer<'_>],
    with: Option<&Path>,
) -> Result<Vec<u8>, Problem> {
    let added = with.map(read_certificates).transpose()?.unwrap_or_default();
    let roots = system_roots(&context.environment);
    let ours = pem::certificates(certificates);
    Ok(concatenate(&[&roots, &added, &ours]).into_bytes())
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
