//! TLS towards upstreams: which certificates are believed, and what is said when one is not.

use std::fmt;
use std::io;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError,
    RootCertStore, SignatureScheme,
};
use traffic::rules::pattern::{HostPatterns, PatternError};
use traffic::{FailureKind, Target, Timestamp};

use super::der::Civil;
use super::identity::Identity;
use super::{alert_name, certificate, is_about_version, verified};
use crate::config::{ClientCertificate, MinTlsVersion, UpstreamTrust};

/// Sessions remembered for resumption, per configuration. rustls keeps up to 8 per name, so this
/// is for 512 names.
const SESSIONS_MAX: usize = 4096;

/// As for clients, but with the post-quantum key exchange first: what a client was promised by its
/// own TLS must not be recorded today and read in ten years on our way to the upstream. The share
/// for X25519 is sent along, so upstreams without it take no round trip more.
///
/// What signed the certificates of a chain is checked once (`tls/verified.rs`); a handshake always.
fn provider() -> Arc<CryptoProvider> {
    use rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768;

    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = CryptoProvider::clone(&super::provider());
        provider
            .kx_groups
            .sort_by_key(|group| group.name() != X25519MLKEM768.name());
        let algorithms = &mut provider.signature_verification_algorithms;
        algorithms.all = verified::remembering(algorithms.all);
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// What we offer an upstream by ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamAlpn {
    /// `http/1.1`.
    Http11,
    /// `h2`.
    Http2,
    /// `h2`, then `http/1.1`.
    Both,
    /// Nothing.
    None,
}

/// The configurations for TLS towards upstreams, one for each (certificate of ours,
/// verification, ALPN). Each has its
/// own memory of sessions: one that was never verified is never resumed as a verified one.
#[derive(Debug)]
pub struct UpstreamTls {
    danger_accept_invalid: HostPatterns,
    /// For hosts that are shown a certificate of ours.
    identified: Vec<(HostPatterns, ConfigPair)>,
    anonymous: ConfigPair,
}

/// What differs by whether the upstream is verified.
#[derive(Debug)]
struct ConfigPair {
    verified: Configs,
    danger_unverified: Configs,
}

/// Why the trust in upstreams cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// An extra root is not a certificate.
    #[error("extra root {position} cannot be used as a trusted root")]
    BadRoot {
        /// Counted from 1.
        position: usize,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// Nothing is trusted at all.
    #[error("no root certificates: the system's are turned off and there is no other")]
    NoRoots,
    /// An entry of `danger_accept_invalid` is not a pattern.
    #[error("danger_accept_invalid_upstream: {0}")]
    BadPattern(#[source] PatternError),
    /// The verifier refused the roots.
    #[error("the root certificates cannot be used")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
}

impl UpstreamTls {
    /// Loads the roots. It reads files where the system's are asked for, and is to be called once.
    pub fn new(trust: &UpstreamTrust) -> Result<Self, TrustError> {
        Self::with_system(&SystemRoots::load(trust), trust)
    }

    /// The same with system roots that were loaded for several of these.
    pub(crate) fn with_system(
        system: &SystemRoots,
        trust: &UpstreamTrust,
    ) -> Result<Self, TrustError> {
        let danger_accept_invalid =
            HostPatterns::parse(&trust.danger_accept_invalid).map_err(TrustError::BadPattern)?;
        let roots = with_extra(system, &trust.extra_roots)?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        let verifier = verifier.map_err(TrustError::Verifier)?;
        let verifier = Verifier {
            verifier,
            extra_roots: trust.extra_roots.clone(),
        };
        Ok(Self {
            danger_accept_invalid,
            identified: Vec::new(),
            anonymous: ConfigPair {
                verified: Configs::new(Arc::new(verifier)),
                danger_unverified: Configs::new(Arc::new(DangerousVerifier)),
            },
        })
    }

    /// Speaks no version below `min`.
    #[must_use]
    pub fn at_least(mut self, min: MinTlsVersion) -> Self {
        self.anonymous.verified.min = min;
        self.anonymous.danger_unverified.min = min;
        self
    }

    /// Shows these certificates to upstreams that ask for one. To be called after
    /// [`UpstreamTls::at_least`].
    #[must_use]
    pub fn showing(mut self, certificates: Vec<ClientCertificate>) -> Self {
        let with = |own: ClientCertificate| {
            let pair = ConfigPair {
                verified: self.anonymous.verified.showing(&own.identity),
                danger_unverified: self.anonymous.danger_unverified.showing(&own.identity),
            };
            (own.hosts, pair)
        };
        self.identified = certificates.into_iter().map(with).collect();
        self
    }

    /// The configuration for a target, and whether it leaves the certificate unverified.
    #[must_use]
    pub fn client_config(&self, target: &Target, alpn: UpstreamAlpn) -> (Arc<ClientConfig>, bool) {
        let danger_unverified = self.danger_accept_invalid.matches(target).is_some();
        let mut identified = self.identified.iter();
        let pair = match identified.find(|(hosts, _)| hosts.matches(target).is_some()) {
            Some((_, pair)) => pair,
            None => &self.anonymous,
        };
        let configs = if danger_unverified {
            &pair.danger_unverified
        } else {
            &pair.verified
        };
        (configs.for_alpn(alpn), danger_unverified)
    }
}

/// One configuration for each ALPN choice, made when first needed.
#[derive(Debug)]
struct Configs {
    verifier: Arc<dyn ServerCertVerifier>,
    min: MinTlsVersion,
    identity: Option<Identity>,
    http11: OnceLock<Arc<ClientConfig>>,
    http2: OnceLock<Arc<ClientConfig>>,
    both: OnceLock<Arc<ClientConfig>>,
    none: OnceLock<Arc<ClientConfig>>,
}

impl Configs {
    fn new(verifier: Arc<dyn ServerCertVerifier>) -> Self {
        Self {
            verifier,
            min: MinTlsVersion::default(),
            identity: None,
            http11: OnceLock::new(),
            http2: OnceLock::new(),
            both: OnceLock::new(),
            none: OnceLock::new(),
        }
    }

    /// The same with a certificate of ours, and with sessions of its own.
    fn showing(&self, identity: &Identity) -> Self {
        Self {
            identity: Some(identity.clone()),
            min: self.min,
            ..Self::new(Arc::clone(&self.verifier))
        }
    }

    fn for_alpn(&self, alpn: UpstreamAlpn) -> Arc<ClientConfig> {
        let (config, names): (_, &[&[u8]]) = match alpn {
            UpstreamAlpn::Http11 => (&self.http11, &[b"http/1.1"]),
            UpstreamAlpn::Http2 => (&self.http2, &[b"h2"]),
            UpstreamAlpn::Both => (&self.both, &[b"h2", b"http/1.1"]),
            UpstreamAlpn::None => (&self.none, &[]),
        };
        Arc::clone(config.get_or_init(|| self.make(names)))
    }

    fn make(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(self.min.versions())
            .expect("the provider has suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&self.verifier))
            .with_no_client_auth();
        if let Some(identity) = &self.identity {
            config.client_auth_cert_resolver = identity.resolver();
        }
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Arc::new(config)
    }
}

/// The roots that the system trusts, as far as they are to be trusted here.
#[derive(Debug)]
pub(crate) struct SystemRoots(RootCertStore);

impl SystemRoots {
    /// Reads files, unless the system's roots are turned off.
    pub(crate) fn load(trust: &UpstreamTrust) -> Self {
        let mut roots = RootCertStore::empty();
        if !trust.system_roots {
            return Self(roots);
        }
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "some of the system's root certificates cannot be read");
        }
        let (added, ignored) = roots.add_parsable_certificates(system.certs);
        tracing::debug!(added, ignored, "loaded the system's root certificates");
        if added == 0 {
            tracing::warn!(
                "the system has no root certificates; using the bundled ones of Mozilla"
            );
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Self(roots)
    }
}

fn with_extra(
    system: &SystemRoots,
    extra: &[CertificateDer<'static>],
) -> Result<RootCertStore, TrustError> {
    let mut roots = system.0.clone();
    for (index, root) in extra.iter().enumerate() {
        let position = index + 1;
        roots
            .add(root.clone())
            .map_err(|source| TrustError::BadRoot { position, source })?;
    }
    if roots.is_empty() {
        return Err(TrustError::NoRoots);
    }
    Ok(roots)
}

/// Verifies as rustls does and remembers, where it refuses, what the certificate said: after the
/// handshake failed nobody has the certificate any more.
#[derive(Debug)]
struct Verifier {
    verifier: Arc<WebPkiServerVerifier>,
    extra_roots: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .or_else(|error| match error {
                // A refusal without a name of its own, as for an authority that is a server.
                rustls::Error::InvalidCertificate(CertificateError::Other(_))
                    if self.extra_roots.contains(end_entity) =>
                {
                    verify_trusted_itself(end_entity, server_name, now)
                }
                other => Err(other),
            })
            .map_err(|error| match error {
                rustls::Error::InvalidCertificate(error) => {
                    let refused = Refused::new(&error, end_entity, intermediates.len());
                    let refused = CertificateError::Other(OtherError(Arc::new(refused)));
                    rustls::Error::InvalidCertificate(refused)
                }
                other => other,
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Verifies a certificate that is trusted as a root and shown by the upstream itself. There is no
/// chain to check: the operator named this very certificate. Its time and its name still count.
fn verify_trusted_itself(
    end_entity: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    let facts = certificate::facts(std::slice::from_ref(end_entity));
    let facts = facts.ok_or(CertificateError::BadEncoding)?;
    let seconds = |moment: Timestamp| u64::try_from(moment.0 / 1_000_000).unwrap_or(0);
    let not_before = UnixTime::since_unix_epoch(Duration::from_secs(seconds(facts.not_before)));
    let not_after = UnixTime::since_unix_epoch(Duration::from_secs(seconds(facts.not_after)));
    if now < not_before {
        let time = now;
        return Err(CertificateError::NotValidYetContext { time, not_before }.into());
    }
    if not_after < now {
        let time = now;
        return Err(CertificateError::ExpiredContext { time, not_after }.into());
    }
    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
    Ok(ServerCertVerified::assertion())
}

/// Believes every certificate. The handshake must still be signed by the key in it, so that a
/// broken peer is told from an unverified one.
#[derive(Debug)]
struct DangerousVerifier;

impl ServerCertVerifier for DangerousVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_key_only(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_key_only(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Checks that the key in a certificate signed the handshake, and nothing else of the certificate:
/// the verifier of rustls refuses those of X.509 version 1, which old appliances have.
fn verify_key_only(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let certificate = certificate::parse(certificate).ok_or(CertificateError::BadEncoding)?;
    let key = &certificate.public_key().subject_public_key.data;
    let supported = provider().signature_verification_algorithms;
    let for_scheme = supported
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == signed.scheme);
    let valid = for_scheme
        .flat_map(|(_, algorithms)| algorithms.iter())
        .any(|algorithm| {
            let verified = algorithm.verify_signature(key, message, signed.signature());
            verified.is_ok()
        });
    if !valid {
        return Err(CertificateError::BadSignature.into());
    }
    Ok(HandshakeSignatureValid::assertion())
}

/// Which check a certificate failed, in words.
#[derive(Debug)]
struct Refused {
    kind: FailureKind,
    text: String,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Refused {
    fn new(error: &CertificateError, leaf: &CertificateDer<'_>, intermediates: usize) -> Self {
        let unknown_issuer = match error {
            CertificateError::UnknownIssuer => true,
            // What is refused for being an authority would be refused for its issuer next. A root
            // that happens to have the same name was tried with its key, and is not the issuer.
            CertificateError::Other(_)
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                is_self_issued(leaf)
            }
            _ => false,
        };
        let (kind, text) = if unknown_issuer {
            (
                FailureKind::CertificateUnknownIssuer,
                describe_unknown_issuer(leaf, intermediates),
            )
        } else {
            describe_certificate(error)
        };
        Self { kind, text }
    }
}

fn is_self_issued(leaf: &CertificateDer<'_>) -> bool {
    certificate::parse(leaf).is_some_and(|leaf| leaf.issuer().as_raw() == leaf.subject().as_raw())
}

fn describe_unknown_issuer(leaf: &CertificateDer<'_>, intermediates: usize) -> String {
    let Some(facts) = certificate::facts(std::slice::from_ref(leaf)) else {
        return "the upstream's certificate is from an issuer that is not trusted".to_owned();
    };
    let (subject, issuer) = (facts.subject, facts.issuer);
    if is_self_issued(leaf) {
        return format!("the upstream's certificate is self-signed and not trusted: {subject}");
    }
    let sent = match intermediates {
        0 => "; the upstream sent no intermediate certificate",
        _ => "",
    };
    format!(
        "the upstream's certificate for {subject} was issued by {issuer}, which is not \
         trusted{sent}"
    )
}

/// Says which kind of failure an error of a handshake with an upstream is, and in words what was
/// checked and found. For any input or output error: those of TLS are found in it.
#[must_use]
pub fn describe(error: &io::Error) -> (FailureKind, String) {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(tls) = tls {
        return describe_tls(tls);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => (
            FailureKind::ClosedEarly,
            "the upstream closed the connection during the TLS handshake".to_owned(),
        ),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => (
            FailureKind::Reset,
            "the upstream reset the connection during the TLS handshake".to_owned(),
        ),
        io::ErrorKind::TimedOut => (
            FailureKind::TimedOut,
            "the TLS handshake with the upstream took too long".to_owned(),
        ),
        _ => (
            FailureKind::Io,
            format!("the TLS handshake with the upstream failed: {error}"),
        ),
    }
}

/// As [`describe`], for an error of rustls itself.
#[must_use]
pub fn describe_tls(error: &rustls::Error) -> (FailureKind, String) {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            match other.downcast_ref::<Refused>() {
                Some(refused) => (refused.kind, refused.text.clone()),
                None => (
                    FailureKind::CertificateInvalid,
                    format!("the upstream's certificate cannot be accepted: {other}"),
                ),
            }
        }
        rustls::Error::InvalidCertificate(error) => describe_certificate(error),
        rustls::Error::NoCertificatesPresented => (
            FailureKind::CertificateInvalid,
            "the upstream sent no certificate".to_owned(),
        ),
        rustls::Error::AlertReceived(alert) => describe_alert(*alert),
        rustls::Error::PeerIncompatible(reason) if is_about_version(reason) => (
            FailureKind::TlsVersion,
            "the upstream speaks no version of TLS that is allowed (tls.min_version)".to_owned(),
        ),
        rustls::Error::InvalidMessage(_) => (
            FailureKind::TlsProtocol,
            format!("the upstream did not answer in TLS: {error}"),
        ),
        other => (
            FailureKind::TlsProtocol,
            format!("no TLS with the upstream: {other}"),
        ),
    }
}

/// What an upstream says with an alert. With TLS 1.3 it sees our certificate after the handshake
/// is over for us, so that this one may come in the place of a response.
#[must_use]
pub fn describe_alert(alert: AlertDescription) -> (FailureKind, String) {
    let name = alert_name(alert);
    match alert {
        AlertDescription::CertificateRequired => (
            FailureKind::ClientCertificateRequired,
            format!("the upstream wants a certificate of the client (alert {name})"),
        ),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => (
            FailureKind::ClientCertificateRejected,
            format!("the upstream does not accept the certificate of the client (alert {name})"),
        ),
        AlertDescription::ProtocolVersion => (
            FailureKind::TlsVersion,
            format!(
                "the upstream speaks no version of TLS that is allowed (alert {name}, \
                 tls.min_version)"
            ),
        ),
        _ => (
            FailureKind::TlsProtocol,
            format!("the upstream ended the TLS handshake (alert {name})"),
        ),
    }
}

fn describe_certificate(error: &CertificateError) -> (FailureKind, String) {
    match error {
        CertificateError::ExpiredContext { time, not_after } => (
            FailureKind::CertificateExpired,
            format!(
                "the upstream's certificate expired at {} (it is {} now)",
                civil(*not_after),
                civil(*time)
            ),
        ),
        CertificateError::Expired => (
            FailureKind::CertificateExpired,
            "the upstream's certificate has expired".to_owned(),
        ),
        CertificateError::NotValidYetContext { time, not_before } => (
            FailureKind::CertificateNotYetValid,
            format!(
                "the upstream's certificate is valid from {} on (it is {} now)",
                civil(*not_before),
                civil(*time)
            ),
        ),
        CertificateError::NotValidYet => (
            FailureKind::CertificateNotYetValid,
            "the upstream's certificate is not valid yet".to_owned(),
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => (
            FailureKind::CertificateWrongName,
            wrong_name(&expected.to_str(), presented),
        ),
        CertificateError::NotValidForName => (
            FailureKind::CertificateWrongName,
            "the upstream's certificate is for another name".to_owned(),
        ),
        CertificateError::UnknownIssuer => (
            FailureKind::CertificateUnknownIssuer,
            "the upstream's certificate is from an issuer that is not trusted".to_owned(),
        ),
        CertificateError::Revoked => (
            FailureKind::CertificateRevoked,
            "the upstream's certificate was revoked".to_owned(),
        ),
        CertificateError::BadSignature => (
            FailureKind::CertificateInvalid,
            "a signature of the upstream's certificate or handshake is wrong".to_owned(),
        ),
        CertificateError::BadEncoding => (
            FailureKind::CertificateInvalid,
            "the upstream's certificate cannot be read".to_owned(),
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => (
            FailureKind::CertificateInvalid,
            "the upstream's certificate is not one for servers".to_owned(),
        ),
        other => (
            FailureKind::CertificateInvalid,
            format!("the upstream's certificate cannot be accepted: {other}"),
        ),
    }
}

fn wrong_name(expected: &str, presented: &[String]) -> String {
    const SHOWN_MAX: usize = 5;

    // webpki names them as `DnsName("a.com")`.
    let plain = |name: &String| match name.split('"').nth(1) {
        Some(inside) => inside.to_owned(),
        None => name.clone(),
    };
    let shown: Vec<_> = presented.iter().take(SHOWN_MAX).map(plain).collect();
    let more = presented.len().saturating_sub(SHOWN_MAX);
    let names = match (shown.is_empty(), more) {
        (true, _) => "no name at all".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    };
    format!("the upstream's certificate is for {names} and not for {expected}")
}

fn civil(time: UnixTime) -> Civil {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Civil::from(certificate::timestamp(seconds))
}

#[cfg(test)]
mod tests;
