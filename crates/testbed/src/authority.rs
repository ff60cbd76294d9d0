//! A certificate authority that is thrown away after the test: it issues good certificates and,
//! on request, flawed ones, and makes the rustls configurations that use them.
//!
//! Validity is a fixed range of years, so that nothing here reads the clock. Never use a key
//! made here for anything but loopback traffic.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A root certificate with its key.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate chain with its private key: what a TLS server shows.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    chain_pem: String,
    key_pem: String,
    /// What the certificates of clients must be issued by, where one is demanded.
    clients: Option<CertificateDer<'static>>,
    tls12_only: bool,
}

/// What is wrong with a certificate that a verifying client must refuse.
///
/// A wrong name needs no flaw: issue for another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Its validity ended in 2021.
    Expired,
    /// Its validity begins in 2100.
    NotYetValid,
    /// It is signed by its own key, not by the authority.
    SelfSigned,
    /// It may be used by clients only.
    WrongPurpose,
}

impl Authority {
    /// Makes a root with a fresh P-256 key.
    pub fn new(common_name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_years(&mut params, 2020, 2099);
        let issuer = CertifiedIssuer::self_signed(params, fresh_key())
            .expect("parameters of our own making are signable");
        Self { issuer }
    }

    /// Issues a good server certificate for these DNS names and IP addresses.
    pub fn issue(&self, names: &[&str]) -> Identity {
        let (params, key) = (server_params(names), fresh_key());
        self.sign(&params, &key)
    }

    /// Issues a good server certificate with this common name, which verifiers have no use for and
    /// people see.
    pub fn issue_titled(&self, names: &[&str], common_name: &str) -> Identity {
        let (mut params, key) = (server_params(names), fresh_key());
        params.distinguished_name = distinguished_name(common_name);
        self.sign(&params, &key)
    }

    /// Issues a good certificate for a client.
    pub fn issue_client(&self, name: &str) -> Identity {
        self.issue_flawed(&[name], Flaw::WrongPurpose)
    }

    /// Issues a server certificate that verification must refuse for this one reason.
    pub fn issue_flawed(&self, names: &[&str], flaw: Flaw) -> Identity {
        let (mut params, key) = (server_params(names), fresh_key());
        match flaw {
            Flaw::Expired => set_years(&mut params, 2020, 2021),
            Flaw::NotYetValid => set_years(&mut params, 2100, 2101),
            Flaw::WrongPurpose => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
            Flaw::SelfSigned => {
                let certificate = params
                    .self_signed(&key)
                    .expect("parameters of our own making are signable");
                return Identity::new(&certificate, &key);
            }
        }
        self.sign(&params, &key)
    }

    /// The root certificate, as a trust store wants it.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// The root certificate as PEM text.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// The root's private key as PKCS#8 PEM text, for a proxy that is to use this authority.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A client that verifies against this authority alone and offers these protocols.
    pub fn client_config(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        client_config(&[self.certificate()], alpn)
    }

    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Identity {
        let certificate = params
            .signed_by(key, &self.issuer)
            .expect("parameters of our own making are signable");
        Identity::new(&certificate, key)
    }
}

impl Identity {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            clients: None,
            tls12_only: false,
        }
    }

    /// As a server, it demands a certificate of its clients, issued by this authority.
    pub fn demanding_clients_of(mut self, authority: &Authority) -> Self {
        self.clients = Some(authority.certificate());
        self
    }

    /// As a server, it speaks TLS 1.2 and nothing newer.
    pub fn only_tls12(mut self) -> Self {
        self.tls12_only = true;
        self
    }

    /// The certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The certificates as PEM text, leaf first.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The private key as PKCS#8 PEM text.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A server that shows this identity and speaks these protocols, in order of preference.
    pub fn server_config(&self, alpn: &[&str]) -> Arc<ServerConfig> {
        self.server_config_with(alpn, crypto_provider())
    }

    /// The same, with what it may agree on said by the provider.
    pub fn server_config_with(
        &self,
        alpn: &[&str],
        provider: Arc<CryptoProvider>,
    ) -> Arc<ServerConfig> {
        let versions: &[_] = match self.tls12_only {
            true => &[&rustls::version::TLS12],
            false => rustls::ALL_VERSIONS,
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("the provider has suites for one of these versions");
        let config = match &self.clients {
            Some(root) => config.with_client_cert_verifier(client_verifier(root)),
            None => config.with_no_client_auth(),
        };
        let mut config = config
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .expect("the key was made for this certificate");
        config.alpn_protocols = protocol_names(alpn);
        Arc::new(config)
    }
}

fn client_verifier(root: &CertificateDer<'static>) -> Arc<dyn ClientCertVerifier> {
    let mut roots = RootCertStore::empty();
    roots
        .add(root.clone())
        .expect("a root made here is a certificate");
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto_provider())
        .build()
        .expect("there is a root, and no list of revocations")
}

/// A client that trusts exactly these roots and offers these protocols.
pub fn client_config(roots: &[CertificateDer<'static>], alpn: &[&str]) -> Arc<ClientConfig> {
    client_config_with(roots, alpn, crypto_provider())
}

/// The same, with what it offers said by the provider.
pub fn client_config_with(
    roots: &[CertificateDer<'static>],
    alpn: &[&str],
    provider: Arc<CryptoProvider>,
) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store
            .add(root.clone())
            .expect("a root made here is a certificate");
    }
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for one of TLS 1.2 and 1.3")
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = protocol_names(alpn);
    Arc::new(config)
}

/// A client that trusts exactly these roots and speaks TLS 1.2 and nothing newer.
pub fn client_config_tls12(roots: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store
            .add(root.clone())
            .expect("a root made here is a certificate");
    }
    let config = ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("the provider has suites for TLS 1.2");
    let config = config.with_root_certificates(store);
    Arc::new(config.with_no_client_auth())
}

/// Reads the certificates of a PEM file, for instance of a CA that a proxy wrote to disk.
pub fn certificates_from_pem(
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

/// The one cryptography provider, named explicitly: two linked providers would make rustls'
/// own default ambiguous.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn server_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let common_name = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names).expect("test names are ASCII");
    params.distinguished_name = distinguished_name(&common_name);
    // Strict verifiers (Python 3.13) want all of these on a leaf.
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    set_years(&mut params, 2020, 2099);
    params
}

fn set_years(params: &mut CertificateParams, first: i32, last: i32) {
    params.not_before = date_time_ymd(first, 1, 1);
    params.not_after = date_time_ymd(last, 12, 31);
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn fresh_key() -> KeyPair {
    KeyPair::generate().expect("the provider makes P-256 keys")
}

fn protocol_names(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}
