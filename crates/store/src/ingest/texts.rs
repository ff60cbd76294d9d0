//! Texts that are stored of connections, made once where one connection after the other says the same.

use std::fmt::Write as _;
use std::sync::Arc;

use rusqlite::ToSql;
use traffic::rules::redact::Redaction;
use traffic::wire::client_hello::ClientHello;
use traffic::wire::fingerprint;
use traffic::{CertificateFacts, ProcessAnswer, ProcessInfo};

use super::recent::Recent;
use crate::limits::REMEMBERED_CERTIFICATES_MAX;
use crate::{AncestorView, CertificateView};

/// Of the process that connected last.
#[derive(Debug, Default)]
pub(crate) struct ProcessTexts(Option<OfProcess>);

/// Of the ClientHello that came last.
#[derive(Debug, Default)]
pub(crate) struct HelloTexts(Option<OfHello>);

/// Of certificates, as JSON, by their hashes.
#[derive(Debug)]
pub(crate) struct CertificateTexts(Recent<[u8; 32], (CertificateFacts, String)>);

/// What is stored of a process as JSON.
#[derive(Debug)]
struct OfProcess {
    process: Arc<ProcessInfo>,
    command_line: String,
    ancestors: String,
}

/// The columns of `client_connections` that tell of its process. All are `NULL` as long as there is
/// no answer.
#[derive(Debug, Default)]
pub(crate) struct ProcessColumns<'a> {
    pid: Option<u32>,
    name: Option<&'a str>,
    path: Option<&'a str>,
    command_line: Option<&'a str>,
    ancestors: Option<&'a str>,
    container: Option<&'a str>,
    /// Why it is not known.
    missing: Option<&'static str>,
}

/// The fingerprints of a ClientHello.
#[derive(Debug)]
pub(crate) struct OfHello {
    hello: Arc<ClientHello>,
    pub(crate) ja3: String,
    pub(crate) ja4: String,
}

impl ProcessColumns<'_> {
    /// For the columns `pid`, `process_name`, `process_path`, `command_line`, `ancestors`, `container`
    /// and `no_process`.
    pub(crate) fn values(&self) -> [&dyn ToSql; 7] {
        [
            &self.pid,
            &self.name,
            &self.path,
            &self.command_line,
            &self.ancestors,
            &self.container,
            &self.missing,
        ]
    }
}

impl ProcessTexts {
    pub(crate) fn columns<'a>(
        &'a mut self,
        answer: &'a ProcessAnswer,
        redaction: Redaction,
    ) -> ProcessColumns<'a> {
        let process = match answer {
            Ok(process) => process,
            Err(reason) => {
                return ProcessColumns {
                    missing: Some(reason.as_str()),
                    ..ProcessColumns::default()
                };
            }
        };
        let texts = self.of(process, redaction);
        let container = process.container.as_ref();
        ProcessColumns {
            pid: Some(process.pid),
            name: Some(&process.exe_name),
            path: process.exe_path.as_deref(),
            command_line: Some(&texts.command_line),
            ancestors: Some(&texts.ancestors),
            container: container.map(|container| &*container.id),
            missing: None,
        }
    }

    fn of(&mut self, process: &Arc<ProcessInfo>, redaction: Redaction) -> &OfProcess {
        let known = self.0.take();
        let known = known.filter(|known| Arc::ptr_eq(&known.process, process));
        let known = known.unwrap_or_else(|| OfProcess::new(process, redaction));
        self.0.insert(known)
    }
}

impl HelloTexts {
    pub(crate) fn of(&mut self, hello: &Arc<ClientHello>) -> &OfHello {
        let known = match self.0.take() {
            Some(known) if known.hello.offers_the_same(hello) => known,
            Some(known) if known.hello.offers_the_same_shuffled(hello) => {
                OfHello::new(hello, known.ja4)
            }
            _ => OfHello::new(hello, fingerprint::ja4(hello)),
        };
        self.0.insert(known)
    }
}

impl CertificateTexts {
    pub(crate) fn of(&mut self, facts: &CertificateFacts) -> Option<&str> {
        let known = self.0.find(&facts.sha256);
        if known.is_none_or(|(known, _)| known != facts) {
            let text = (facts.clone(), json(&certificate_view(facts)));
            self.0.insert(facts.sha256, text);
        }
        self.0.find(&facts.sha256).map(|(_, text)| &**text)
    }
}

impl Default for CertificateTexts {
    fn default() -> Self {
        Self(Recent::new(REMEMBERED_CERTIFICATES_MAX))
    }
}

impl OfProcess {
    fn new(process: &Arc<ProcessInfo>, redaction: Redaction) -> Self {
        let ancestors = process.ancestors.iter().map(|ancestor| AncestorView {
            pid: ancestor.pid,
            name: ancestor.exe_name.clone(),
        });
        Self {
            process: Arc::clone(process),
            command_line: json(&process.masked_command_line(redaction)),
            ancestors: json(&ancestors.collect::<Vec<_>>()),
        }
    }
}

impl OfHello {
    fn new(hello: &Arc<ClientHello>, ja4: String) -> Self {
        Self {
            hello: Arc::clone(hello),
            ja3: fingerprint::ja3(hello).hash,
            ja4,
        }
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers are JSON")
}

fn certificate_view(certificate: &CertificateFacts) -> CertificateView {
    let mut sha256 = String::with_capacity(64);
    for byte in certificate.sha256 {
        write!(sha256, "{byte:02x}").expect("a String takes all");
    }
    CertificateView {
        subject: certificate.subject.clone(),
        issuer: certificate.issuer.clone(),
        not_before: certificate.not_before.0,
        not_after: certificate.not_after.0,
        names: certificate.names.clone(),
        sha256,
        chain_length: certificate.chain_length,
    }
}

#[cfg(test)]
mod tests {
    use traffic::Timestamp;

    use super::*;

    #[test]
    fn a_certificate_is_told_as_it_is() {
        let facts = |subject: &str, chain_length| CertificateFacts {
            subject: subject.to_owned(),
            issuer: "CN=issuer".to_owned(),
            not_before: Timestamp(1),
            not_after: Timestamp(2),
            names: vec!["a.test".to_owned()],
            sha256: [0xab; 32],
            chain_length,
        };
        let mut texts = CertificateTexts::default();
        for facts in [
            facts("CN=a", 1),
            facts("CN=a", 1),
            facts("CN=a", 2),
            facts("CN=b", 2),
        ] {
            let expected = json(&certificate_view(&facts));
            assert_eq!(texts.of(&facts), Some(&*expected));
        }
    }

    #[test]
    fn a_hello_has_its_own_fingerprints() {
        let hello = |sni: &str, cipher, extensions: [u16; 2]| ClientHello {
            sni: Some(sni.to_owned()),
            legacy_version: 0x0303,
            ciphers: vec![cipher],
            extensions: extensions.to_vec(),
            ..ClientHello::default()
        };
        let mut texts = HelloTexts::default();
        for hello in [
            hello("a.test", 0x1301, [0, 10]),
            hello("b.test", 0x1301, [0, 10]),
            hello("b.test", 0x1301, [10, 0]),
            hello("b.test", 0x1301, [10, 11]),
            hello("b.test", 0x1302, [10, 11]),
            hello("a.test", 0x1301, [0, 10]),
        ] {
            let hello = Arc::new(hello);
            let told = texts.of(&hello);
            assert_eq!(told.ja3, fingerprint::ja3(&hello).hash);
            assert_eq!(told.ja4, fingerprint::ja4(&hello));
        }
    }
}
