//! Every reply that oriel makes itself: turns a failure into what the client sees.
//!
//! A reply says what failed, why, and how to allow or mend it; `Proxy-Status` (RFC 9209) says it
//! to programs. The text may quote bytes of a peer, so it is always plain text and every control
//! character is made visible.

use crate::limits::{ATTEMPTS_WINDOW, DETAILS_BYTES_MAX, RETRY_AFTER_SECONDS};
use traffic::{Failure, FailureKind, Side, Stage, Target};

/// A reply of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The value of the Proxy-Status field.
    pub(crate) proxy_status: String,
    /// The value of the Retry-After field, in seconds, where a later try may pass.
    pub(crate) retry_after: Option<u64>,
    /// What a client has to say who it is for, where it did not say it rightly.
    pub(crate) realm: Option<String>,
    pub(crate) body: String,
}

impl Refusal {
    /// What a client is told about a failure.
    pub(crate) fn new(failure: &Failure, target: Option<&Target>) -> Self {
        Self::with_status(failure, target, status(failure))
    }

    /// The same with a status that is known better, for a head that cannot be read.
    pub(crate) fn with_status(failure: &Failure, target: Option<&Target>, status: u16) -> Self {
        let text = visible(&failure.text);
        let details: String = text
            .chars()
            .filter(char::is_ascii)
            .take(DETAILS_BYTES_MAX)
            .flat_map(escape_quoted)
            .collect();
        let proxy_status = format!(
            "oriel; error={}; details=\"{details}\"",
            error_type(failure)
        );
        let mut body = format!("oriel: {text}\n");
        if let Some(fix) = fix(failure, target) {
            body.push_str("fix: ");
            body.push_str(&visible(&fix));
            body.push('\n');
        }
        Self {
            status,
            proxy_status,
            retry_after: match failure.kind {
                FailureKind::Busy | FailureKind::VerifierFailed => Some(RETRY_AFTER_SECONDS),
                FailureKind::TooManyAttempts => Some(ATTEMPTS_WINDOW.as_secs()),
                _ => None,
            },
            realm: None,
            body,
        }
    }

    /// Names what the client has to say who it is for.
    pub(crate) fn in_realm(mut self, realm: &str) -> Self {
        self.realm = Some(realm.to_owned());
        self
    }

    /// The whole reply in HTTP/1.1, for a connection that is closed afterwards or kept.
    pub(crate) fn write(&self, keep_alive: bool, with_body: bool, out: &mut Vec<u8>) {
        let start = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        out.extend_from_slice(start.as_bytes());
        for (name, value) in self.fields() {
            write_capitalised(name, out);
            out.extend_from_slice(format!(": {value}\r\n").as_bytes());
        }
        if !keep_alive {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if with_body {
            out.extend_from_slice(self.body.as_bytes());
        }
    }

    /// The fields of the reply besides the status, with names as HTTP/2 has them.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        // How a client is to say who it is, where that is what it did not do (RFC 9110 section
        // 11.7.1).
        let realm = self.realm.as_ref().filter(|_| self.status == 407);
        let challenge = realm.map(|realm| {
            let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
            ("proxy-authenticate", challenge)
        });
        let fields = [
            ("content-type", "text/plain; charset=utf-8".to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
            ("proxy-status", self.proxy_status.clone()),
            ("content-length", self.body.len().to_string()),
        ];
        let retry = self.retry_after;
        let retry = retry.map(|seconds| ("retry-after", seconds.to_string()));
        fields.into_iter().chain(retry).chain(challenge)
    }
}

/// The name of a field as people write it, for HTTP/1.1.
fn write_capitalised(name: &str, out: &mut Vec<u8>) {
    let mut begins = true;
    out.extend(name.bytes().map(|byte| {
        let begun = std::mem::replace(&mut begins, byte == b'-');
        if begun {
            byte.to_ascii_uppercase()
        } else {
            byte
        }
    }));
}

/// The status a failure is answered with.
pub(crate) fn status(failure: &Failure) -> u16 {
    match (failure.side, failure.kind) {
        (_, FailureKind::Loop) => 508,
        (
            _,
            FailureKind::PortNotAllowed
            | FailureKind::Blocked
            | FailureKind::RequestBlocked
            | FailureKind::AddressDenied
            | FailureKind::SniMismatch,
        ) => 403,
        (_, FailureKind::Unauthorized) => 407,
        (_, FailureKind::TooManyAttempts) => 429,
        (_, FailureKind::VerifierFailed) => 503,
        (_, FailureKind::Unsupported) => 501,
        (_, FailureKind::ShuttingDown | FailureKind::HandlerFailed | FailureKind::Busy) => 503,
        (Side::Client, FailureKind::TimedOut) => 408,
        (Side::Client, FailureKind::TooLarge) if failure.stage == Stage::Request => 413,
        (Side::Client, FailureKind::TooLarge) => 431,
        (Side::Client, _) => 400,
        (_, FailureKind::TimedOut) => 504,
        _ => 502,
    }
}

/// The error type of RFC 9209 section 2.3.
fn error_type(failure: &Failure) -> &'static str {
    match (failure.side, failure.kind) {
        (_, FailureKind::Loop) => "proxy_loop_detected",
        (
            _,
            FailureKind::PortNotAllowed
            | FailureKind::Blocked
            | FailureKind::RequestBlocked
            | FailureKind::SniMismatch,
        ) => "http_request_denied",
        (_, FailureKind::Unauthorized | FailureKind::TooManyAttempts) => "http_request_denied",
        (_, FailureKind::VerifierFailed) => "proxy_internal_error",
        (_, FailureKind::Unsupported | FailureKind::UpstreamProxyUnauthorized) => {
            "proxy_configuration_error"
        }
        (_, FailureKind::UpstreamProxyDenied | FailureKind::UpstreamProxyFailed) => {
            "destination_unavailable"
        }
        (_, FailureKind::ShuttingDown | FailureKind::HandlerFailed) => "proxy_internal_error",
        (_, FailureKind::Busy) => "connection_limit_reached",
        (Side::Client, _) => "http_request_error",
        (_, FailureKind::AddressDenied) => "destination_ip_prohibited",
        (_, FailureKind::NameNotResolved) => "dns_error",
        (_, FailureKind::Unreachable) => "destination_ip_unroutable",
        (_, FailureKind::Refused) => "connection_refused",
        (_, FailureKind::TimedOut) => match failure.stage {
            Stage::Resolve => "dns_timeout",
            Stage::Dial | Stage::UpstreamProxy | Stage::Tls => "connection_timeout",
            _ => "http_response_timeout",
        },
        (_, FailureKind::Reset | FailureKind::ClosedEarly | FailureKind::Io) => {
            match failure.stage {
                Stage::Response => "http_response_incomplete",
                _ => "connection_terminated",
            }
        }
        (_, FailureKind::ClientCertificateRequired | FailureKind::ClientCertificateRejected) => {
            "tls_alert_received"
        }
        (_, FailureKind::TlsVersion | FailureKind::TlsProtocol) => "tls_protocol_error",
        (
            _,
            FailureKind::CertificateExpired
            | FailureKind::CertificateNotYetValid
            | FailureKind::CertificateUnknownIssuer
            | FailureKind::CertificateWrongName
            | FailureKind::CertificateRevoked
            | FailureKind::CertificateInvalid,
        ) => "tls_certificate_error",
        (_, FailureKind::Malformed | FailureKind::TooLarge) => "http_protocol_error",
        _ => "proxy_internal_error",
    }
}

/// How to mend it, where there is a way.
fn fix(failure: &Failure, target: Option<&Target>) -> Option<String> {
    let host = target.map_or_else(|| "HOST".to_owned(), |target| target.host.to_string());
    if failure.stage == Stage::UpstreamProxy {
        return fix_of_proxy(failure, &host);
    }
    Some(match failure.kind {
        FailureKind::CertificateUnknownIssuer => format!(
            "if {host} uses a private authority, give its certificate: --upstream-ca FILE; if a \
             proxy on the way issued this one, give that proxy's: --upstream-proxy-ca FILE; or leave the connection closed to oriel: --bypass {host}"
        ),
        FailureKind::CertificateExpired
        | FailureKind::CertificateNotYetValid
        | FailureKind::CertificateWrongName
        | FailureKind::CertificateRevoked
        | FailureKind::CertificateInvalid => format!(
            "mend the certificate of {host}; or accept it for this host alone: \
             upstream.danger_accept_invalid = [\"{host}\"]; or do not open it: --bypass {host}"
        ),
        FailureKind::PortNotAllowed => {
            let port = target.map_or(0, |target| target.port);
            format!(
                "ask who runs this proxy to allow the port: proxy.connect_ports = [443, 80, {port}]"
            )
        }
        // An agent reads it: it is to ask, and not to look for a way round.
        FailureKind::Blocked => format!(
            "do not try again or another way; who runs this proxy may allow the host: \
             intercept.hosts or intercept.bypass = [\"{host}\"]"
        ),
        FailureKind::ClientCertificateRequired | FailureKind::ClientCertificateRejected => format!(
            "give oriel a certificate for it: [[upstream.client_certificates]] with \
             hosts = [\"{host}\"], certificate = \"FILE\" and key = \"FILE\"; or let the client show \
             its own: --bypass {host}"
        ),
        FailureKind::TlsVersion if failure.side == Side::Upstream => format!(
            "tls.min_version says what is allowed, and nothing below 1.2 is; or do not open it: \
             --bypass {host}"
        ),
        FailureKind::AddressDenied => {
            format!("ask who runs this proxy to allow it: upstream.private_allow = [\"{host}\"]")
        }
        FailureKind::Loop => "ask for another address; this one is oriel's own".to_owned(),
        _ => return None,
    })
}

/// How to mend what an upstream proxy is in the way of.
fn fix_of_proxy(failure: &Failure, host: &str) -> Option<String> {
    Some(match failure.kind {
        FailureKind::UpstreamProxyUnauthorized => {
            "tell oriel what the proxy wants to hear: upstream_proxy.credentials_file = \"FILE\", \
             or ORIEL_UPSTREAM_PROXY_CREDENTIALS=user:password"
                .to_owned()
        }
        FailureKind::UpstreamProxyDenied | FailureKind::UpstreamProxyFailed => format!(
            "the proxy's own log says why; to go past it: upstream_proxy.no_proxy = [\"{host}\"]"
        ),
        FailureKind::CertificateUnknownIssuer => {
            "give the certificate of the authority that issued the proxy's: \
             --upstream-proxy-ca FILE"
                .to_owned()
        }
        FailureKind::Loop => {
            "name another proxy (upstream_proxy.url): this one is oriel itself, or leads back to it"
                .to_owned()
        }
        _ => format!(
            "see that the proxy can be reached; to go past it: upstream_proxy.no_proxy = \
             [\"{host}\"]"
        ),
    })
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error")
}

fn escape_quoted(character: char) -> impl Iterator<Item = char> {
    let escape = matches!(character, '"' | '\\').then_some('\\');
    escape.into_iter().chain([character])
}

/// The text with every control and direction-changing character written out.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let turns_direction = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || turns_direction {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: FailureKind, text: &str) -> Refusal {
        let failure = Failure {
            side: Side::Upstream,
            stage: Stage::Tls,
            kind,
            text: text.to_owned(),
        };
        Refusal::new(&failure, Some(&Target::parse("a.example", 443).unwrap()))
    }

    #[test]
    fn says_what_and_how_to_mend() {
        let refusal = refusal(FailureKind::CertificateExpired, "the certificate expired");
        assert_eq!(refusal.status, 502);
        assert_eq!(
            refusal.proxy_status,
            "oriel; error=tls_certificate_error; details=\"the certificate expired\""
        );
        assert!(
            refusal
                .body
                .contains("danger_accept_invalid = [\"a.example\"]")
        );
    }

    #[test]
    fn who_is_blocked_is_sent_to_ask() {
        for kind in [
            FailureKind::Blocked,
            FailureKind::PortNotAllowed,
            FailureKind::AddressDenied,
        ] {
            let refusal = refusal(kind, "a rule says so");
            assert_eq!(refusal.status, 403);
            assert!(
                refusal.body.contains("who runs this proxy"),
                "{}",
                refusal.body
            );
            assert!(!refusal.body.contains("--"), "{}", refusal.body);
        }
    }

    #[test]
    fn bytes_of_a_peer_stay_inert() {
        let refusal = refusal(FailureKind::Io, "a\"b\\c\r\nX: y\u{1b}[31m\u{202e}é");
        assert!(!refusal.proxy_status.contains(['\r', '\n', '\u{1b}']));
        assert!(refusal.proxy_status.contains("a\\\"b\\\\c"));
        assert!(!refusal.body.contains(['\u{1b}', '\u{202e}']));
    }

    #[test]
    fn details_are_bounded() {
        let refusal = refusal(FailureKind::Io, &"\"".repeat(10_000));
        // Each quote is two octets.
        assert!(refusal.proxy_status.len() < 2 * DETAILS_BYTES_MAX + 64);
    }
}
