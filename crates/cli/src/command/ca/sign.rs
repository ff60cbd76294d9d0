//! `oriel ca csr` and `oriel ca cross-sign`: an authority asks another to sign it, so that who
//! trusts the other takes its certificates.

use std::path::Path;

use proxy::Authority;
use proxy::tls::authority::{AuthorityError, CrossSigning};
use proxy::tls::pem;
use proxy::tls::request::CertificateRequest;

use super::init::subtrees;
use super::{settings, write};
use crate::args::{CaCrossSign, CaCsr};
use crate::authority::{AuthorityFiles, cannot_make, load, load_or_make};
use crate::clock::now;
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;

pub(super) fn csr(context: &Context, arguments: &CaCsr) -> Result<(), Problem> {
    let settings = settings(context, &arguments.authority)?;
    let authority = load_or_make(&settings, now())?;
    let request = authority
        .request(arguments.name.as_deref())
        .map_err(|error| cannot_make(&error))?;
    write(arguments.output.as_deref(), request.as_bytes())
}

pub(super) fn cross_sign(context: &Context, arguments: &CaCrossSign) -> Result<(), Problem> {
    let own = || {
        let settings = settings(context, &arguments.authority)?;
        load_or_make(&settings, now())
    };
    let issuer = match (&arguments.issuer_cert, &arguments.issuer_key) {
        (Some(certificate), Some(key)) => load(&AuthorityFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        })?,
        _ => own()?,
    };
    let request = match &arguments.request {
        Some(path) => read_request(path)?,
        None => own_request(&own()?)?,
    };
    let terms = CrossSigning {
        days: arguments.days,
        path_length: arguments.path_length,
        only: subtrees(&arguments.only)?,
    };
    let signed = issuer.cross_sign(&request, &terms, now());
    let signed = signed.map_err(|error| cannot_sign(&error, request.subject()))?;
    let mut text = pem::certificates(&[signed]);
    if !arguments.no_chain {
        text.push_str(issuer.certificate_pem());
    }
    write(arguments.output.as_deref(), text.as_bytes())
}

fn read_request(path: &Path) -> Result<CertificateRequest, Problem> {
    let bad = |why: String| {
        let what = format!("cannot take the certificate request {}", path.display());
        Problem::new("ORL0308", Exit::Usage, what).why(why)
    };
    let bytes = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
    CertificateRequest::from_bytes(&bytes).map_err(|error| bad(error.to_string()))
}

fn own_request(own: &Authority) -> Result<CertificateRequest, Problem> {
    let request = own.request(None).map_err(|error| cannot_make(&error))?;
    CertificateRequest::from_bytes(request.as_bytes())
        .map_err(|error| Problem::bug(error.to_string()))
}

fn cannot_sign(error: &AuthorityError, subject: &str) -> Problem {
    let what = format!("cannot sign {subject}");
    let problem = Problem::new("ORL0308", Exit::Usage, what).why(error.to_string());
    match error {
        AuthorityError::PathTooLong { .. } => problem.fix(
            "make one that may sign authorities:  oriel ca init --path-length 1 --ca-cert FILE --ca-key FILE",
        ),
        _ => problem,
    }
}
