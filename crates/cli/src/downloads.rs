//! The authority's certificate for those who are to trust it: as files that browsers, phones and
//! programs take, and a page that says what to do with them. They are at `http://oriel.proxy/` for
//! clients of the proxy, and the files on the admin port.
//!
//! There is nothing but certificates in them: they are made from what was read of the certificate
//! file, not copied from it, so a key that lies in that file stays there.

mod mobileconfig;
mod page;

use std::sync::Arc;

use http::HeaderMap;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
    HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use parking_lot::RwLock;
use proxy::tls::pem;
use proxy::{Authority, LocalResponse, LocalSite};
use rustls_pki_types::CertificateDer;
use traffic::{Host, Timestamp};

pub(crate) use mobileconfig::mobileconfig;

/// The name under which clients of the proxy reach the page. Nobody else can have it: `.proxy` is
/// no domain.
pub(crate) const HOST: &str = "oriel.proxy";

/// One file to be downloaded.
#[derive(Clone, Debug)]
pub(crate) struct Download {
    /// Path, and the query where it is for one.
    pub(crate) path: &'static str,
    pub(crate) content_type: &'static str,
    /// What it is to be called where it is saved.
    pub(crate) file_name: &'static str,
    pub(crate) body: Vec<u8>,
}

/// What is told of an authority.
#[derive(Clone, Debug)]
pub(crate) struct AuthorityFacts {
    pub(crate) subject: String,
    pub(crate) not_after: Timestamp,
}

/// The authority that there is at present, and its files: another one takes its place while the
/// program runs. Those who share this see the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf(Arc<RwLock<OnShow>>);

#[derive(Debug, Default)]
struct OnShow {
    authority: Option<AuthorityFacts>,
    files: Vec<Download>,
}

impl OnShow {
    fn of(authority: &Authority, files: Vec<Download>) -> Self {
        Self {
            authority: Some(AuthorityFacts {
                subject: authority.subject().to_owned(),
                not_after: authority.not_after(),
            }),
            files,
        }
    }
}

impl Shelf {
    pub(crate) fn of(authority: &Authority, files: Vec<Download>) -> Self {
        Self(Arc::new(RwLock::new(OnShow::of(authority, files))))
    }

    /// Puts these in the place of those that are there.
    pub(crate) fn put(&self, authority: &Authority, files: Vec<Download>) {
        *self.0.write() = OnShow::of(authority, files);
    }

    pub(crate) fn find(&self, path: &str) -> Option<Download> {
        let shown = self.0.read();
        shown.files.iter().find(|file| file.path == path).cloned()
    }

    /// Whose certificates clients see.
    pub(crate) fn authority(&self) -> Option<AuthorityFacts> {
        self.0.read().authority.clone()
    }
}

/// The files of an authority; `chain` is what clients may be given in the place of
/// its own certificate alone.
pub(crate) fn downloads(authority: &Authority, chain: &[CertificateDer<'_>]) -> Vec<Download> {
    let own = authority.certificate_der();
    let pem = pem::certificates(std::slice::from_ref(own)).into_bytes();
    let chain = pem::certificates(chain).into_bytes();
    let file = |path, content_type, file_name, body| Download {
        path,
        content_type,
        file_name,
        body,
    };
    vec![
        file("/ca.pem", PEM, "oriel-ca.pem", pem),
        file("/ca.pem?chain=1", PEM, "oriel-ca-chain.pem", chain),
        file(
            "/ca.der",
            "application/x-x509-ca-cert",
            "oriel-ca.crt",
            own.to_vec(),
        ),
        file(
            "/ca.mobileconfig",
            "application/x-apple-aspen-config",
            "oriel-ca.mobileconfig",
            mobileconfig(authority).into_bytes(),
        ),
    ]
}

const PEM: &str = "application/x-pem-file";
const STYLE: &str = "\
body{max-width:44rem;margin:2rem auto;padding:0 1rem;font:16px/1.5 system-ui,sans-serif}\
pre,code{font:14px/1.5 ui-monospace,monospace}pre{white-space:pre-wrap;overflow-wrap:anywhere;padding:.5rem;border:1px solid}\
";

/// The page and the files, for the engine to answer with.
pub(crate) fn site(authority: &Authority, chain: &[CertificateDer<'_>]) -> Option<LocalSite> {
    let mut site = LocalSite::new(Host::parse(HOST).ok()?)
        .with_page(
            "/",
            response(
                "text/html; charset=utf-8",
                None,
                page::html(authority).into_bytes(),
            ),
        )
        .with_page("/style.css", response("text/css", None, STYLE.into()));
    for download in downloads(authority, chain) {
        let page = response(
            download.content_type,
            Some(download.file_name),
            download.body,
        );
        site = site.with_page(download.path, page);
    }
    Some(site)
}

/// The value of a Content-Disposition field (RFC 6266) that has a file saved under this name.
pub(crate) fn attachment(file_name: &str) -> String {
    format!("attachment; filename=\"{file_name}\"")
}

fn response(content_type: &str, file_name: Option<&str>, body: Vec<u8>) -> LocalResponse {
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(CONTENT_TYPE, content_type);
    if let Some(file_name) = file_name {
        set(CONTENT_DISPOSITION, &attachment(file_name));
    }
    // Another oriel has another certificate under the same name.
    set(CACHE_CONTROL, "no-store");
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "no-referrer");
    set(
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    );
    LocalResponse {
        status: 200,
        headers,
        body: body.into(),
    }
}

/// Makes text that stands for itself in HTML and XML.
fn escape_markup(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML 1.0 has no way to write them.
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    #[test]
    fn a_name_cannot_become_markup() {
        let name = "<script>alert('1')</script> & \"\u{7}";
        let authority = Authority::generate(name, now()).unwrap();
        for text in [page::html(&authority), mobileconfig(&authority)] {
            assert!(!text.contains("<script"), "{text}");
            assert!(text.contains("&lt;script"), "{text}");
        }
    }

    #[test]
    fn a_key_beside_the_certificate_is_in_no_file() {
        let made = Authority::generate("a", now()).unwrap();
        let both = format!("{}{}", made.key_pem(), made.certificate_pem());
        let authority = Authority::from_pem(&both, &both).unwrap();
        for download in downloads(&authority, authority.chain()) {
            let text = String::from_utf8_lossy(&download.body);
            assert!(!text.contains("PRIVATE"), "{}", download.path);
            assert!(!text.is_empty());
        }
    }
}
