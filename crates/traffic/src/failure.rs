//! Why a flow did not complete: whose side, at which step, what kind. The lists are closed and
//! their names are stable: records, JSON and metrics carry them.

/// On whose side something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Between the client and oriel.
    Client,
    /// Between oriel and the upstream.
    Upstream,
    /// In oriel itself, by its own decision.
    Oriel,
}

/// At which step something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading whom the client wants.
    Front,
    /// Deciding what may pass.
    Route,
    /// Resolving the name.
    Resolve,
    /// Connecting.
    Dial,
    /// Reaching the upstream proxy, and asking it for the target.
    UpstreamProxy,
    /// The TLS handshake.
    Tls,
    /// The request on its way.
    Request,
    /// The response on its way.
    Response,
    /// A tunnel while open.
    Tunnel,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The peer refused the connection.
    Refused,
    /// The peer reset the connection or the stream.
    Reset,
    /// A deadline passed.
    TimedOut,
    /// The peer closed before the message was whole.
    ClosedEarly,
    /// No route to the peer.
    Unreachable,
    /// The name has no address.
    NameNotResolved,
    /// A certificate has expired.
    CertificateExpired,
    /// A certificate is not valid yet.
    CertificateNotYetValid,
    /// A certificate is from an issuer that is not trusted; a self-signed one too.
    CertificateUnknownIssuer,
    /// A certificate is for another name.
    CertificateWrongName,
    /// A certificate was revoked.
    CertificateRevoked,
    /// A certificate is broken in another way.
    CertificateInvalid,
    /// The client does not trust the certificate that oriel showed it: it said so in an alert.
    ClientDistrusts,
    /// The client refused the certificate for this host, though it takes those for others: it knows
    /// the one it expects (pinning).
    ClientPinned,
    /// The upstream wants a certificate of the client, and there is none for it.
    ClientCertificateRequired,
    /// The upstream does not accept the certificate it was shown.
    ClientCertificateRejected,
    /// There is no version of TLS that both sides speak and that is allowed.
    TlsVersion,
    /// TLS could not be agreed on, or the peer broke its rules.
    TlsProtocol,
    /// The client names another host in its ClientHello than in its CONNECT request.
    SniMismatch,
    /// The peer broke the rules of HTTP.
    Malformed,
    /// A limit on size was passed.
    TooLarge,
    /// The target is oriel itself.
    Loop,
    /// The port is not on the list of allowed ports.
    PortNotAllowed,
    /// A rule blocks it.
    Blocked,
    /// The address is none of the public network, and this client may not have such dialled.
    AddressDenied,
    /// A route refuses the request, or cannot send it to its gateway.
    RequestBlocked,
    /// The client has not said who it is, or not rightly.
    Unauthorized,
    /// The upstream proxy wants to know who asks, and was not told or not convinced.
    UpstreamProxyUnauthorized,
    /// The upstream proxy does not allow the target.
    UpstreamProxyDenied,
    /// The upstream proxy did not reach the target, or its answer cannot be understood.
    UpstreamProxyFailed,
    /// The client was wrong about who it is too often of late.
    TooManyAttempts,
    /// Who may use the proxy could not be found out.
    VerifierFailed,
    /// Something oriel does not speak.
    Unsupported,
    /// The handler that the engine asks did not answer, or its answer cannot be used.
    HandlerFailed,
    /// More is going on than the configured limits allow; later it may pass.
    Busy,
    /// oriel is stopping.
    ShuttingDown,
    /// An input or output error of another kind.
    Io,
}

/// Why a flow did not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// On whose side.
    pub side: Side,
    /// At which step.
    pub stage: Stage,
    /// What kind.
    pub kind: FailureKind,
    /// One sentence for people, lower case, without a full stop.
    pub text: String,
}

impl Side {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Oriel => "oriel",
        }
    }
}

impl Stage {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Route => "route",
            Self::Resolve => "resolve",
            Self::Dial => "dial",
            Self::UpstreamProxy => "upstream_proxy",
            Self::Tls => "tls",
            Self::Request => "request",
            Self::Response => "response",
            Self::Tunnel => "tunnel",
        }
    }
}

impl FailureKind {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::TimedOut => "timed_out",
            Self::ClosedEarly => "closed_early",
            Self::Unreachable => "unreachable",
            Self::NameNotResolved => "name_not_resolved",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateNotYetValid => "certificate_not_yet_valid",
            Self::CertificateUnknownIssuer => "certificate_unknown_issuer",
            Self::CertificateWrongName => "certificate_wrong_name",
            Self::CertificateRevoked => "certificate_revoked",
            Self::CertificateInvalid => "certificate_invalid",
            Self::ClientDistrusts => "client_distrusts",
            Self::ClientPinned => "client_pinned",
            Self::ClientCertificateRequired => "client_certificate_required",
            Self::ClientCertificateRejected => "client_certificate_rejected",
            Self::TlsVersion => "tls_version",
            Self::TlsProtocol => "tls_protocol",
            Self::SniMismatch => "sni_mismatch",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Loop => "loop",
            Self::PortNotAllowed => "port_not_allowed",
            Self::Blocked => "blocked",
            Self::AddressDenied => "address_denied",
            Self::RequestBlocked => "request_blocked",
            Self::Unauthorized => "unauthorized",
            Self::UpstreamProxyUnauthorized => "upstream_proxy_unauthorized",
            Self::UpstreamProxyDenied => "upstream_proxy_denied",
            Self::UpstreamProxyFailed => "upstream_proxy_failed",
            Self::TooManyAttempts => "too_many_attempts",
            Self::VerifierFailed => "verifier_failed",
            Self::Unsupported => "unsupported",
            Self::HandlerFailed => "handler_failed",
            Self::Busy => "busy",
            Self::ShuttingDown => "shutting_down",
            Self::Io => "io",
        }
    }
}
