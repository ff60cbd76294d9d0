//! Upstream proxies as an embedder names them: where they are, what they are told, what is believed
//! of them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use traffic::secret::Secret;
use traffic::wire::socks5;
use traffic::{Target, TargetError};

/// A proxy between oriel and upstreams.
#[derive(Clone, Debug)]
pub struct UpstreamProxy {
    /// Where it is and what is spoken with it.
    pub url: ProxyUrl,
    /// What it is told of us, and nobody else is.
    pub credentials: Option<ProxyCredentials>,
    /// Roots that are believed for what comes through it, besides those of
    /// [`UpstreamTrust`](super::UpstreamTrust): its own certificate if TLS is spoken with it, and
    /// those it shows in the name of upstreams. They are never believed for what is dialled
    /// directly or comes through another proxy.
    pub roots: Vec<CertificateDer<'static>>,
}

/// What an upstream proxy is told of us. Neither part appears in logs: some services take a token
/// for the user name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyCredentials {
    user: Secret<String>,
    password: Secret<String>,
}

/// Where a proxy is, without credentials: `http://proxy.example:3128`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProxyUrl {
    /// What is spoken with it.
    pub scheme: ProxyScheme,
    /// Where it is.
    pub address: Target,
}

/// What is spoken with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyScheme {
    /// HTTP/1.1: tunnels by CONNECT (RFC 9110 section 9.3.6), plain HTTP in absolute form.
    Http,
    /// The same within TLS.
    Https,
    /// SOCKS 5 (RFC 1928). Names are resolved by the proxy, as `socks5h` says elsewhere.
    Socks5,
}

/// Why a text is no upstream proxy. It does not quote the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyUrlError {
    /// Another scheme.
    #[error("an upstream proxy is http://, https:// or socks5:// and its host and port")]
    Scheme,
    /// It has a path, a query or a fragment.
    #[error("an upstream proxy has no path: http://proxy.example:3128")]
    More,
    /// A percent sign without two hexadecimal digits, or octets that are no UTF-8.
    #[error("the user name or the password of the upstream proxy is not percent-encoded UTF-8")]
    Encoding,
    /// `http://:@proxy`.
    #[error("the upstream proxy has neither a user name nor a password before its `@`")]
    NoCredentials,
    /// SOCKS counts both in one octet, and wants both (RFC 1929 section 2).
    #[error("SOCKS 5 wants a user name and a password of 1 to 255 octets each")]
    SocksCredentials,
    /// Its host or port is none.
    #[error("the upstream proxy: {0}")]
    Target(#[from] TargetError),
}

impl UpstreamProxy {
    /// With other credentials, or with some.
    ///
    /// # Errors
    /// If what is spoken with the proxy has no way to say them.
    pub fn with_credentials(self, credentials: ProxyCredentials) -> Result<Self, ProxyUrlError> {
        if self.url.scheme == ProxyScheme::Socks5 && credentials.socks5_message().is_none() {
            return Err(ProxyUrlError::SocksCredentials);
        }
        Ok(Self {
            credentials: Some(credentials),
            ..self
        })
    }
}

impl ProxyCredentials {
    /// A user name and a password; for HTTP either may be empty.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: Secret::new(user.into()),
            password: Secret::new(password.into()),
        }
    }

    /// The value of a `Proxy-Authorization` field that says them (RFC 7617 section 2).
    pub(crate) fn field_value(&self) -> Secret<String> {
        let plain = format!("{}:{}", self.user.reveal(), self.password.reveal());
        Secret::new(format!("Basic {}", STANDARD.encode(plain)))
    }

    /// The message that says them in SOCKS 5; `None` if it cannot.
    pub(crate) fn socks5_message(&self) -> Option<Secret<Vec<u8>>> {
        let (user, password) = (self.user.reveal(), self.password.reveal());
        socks5::credentials(user.as_bytes(), password.as_bytes()).map(Secret::new)
    }
}

impl ProxyScheme {
    /// The name in URLs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
        }
    }

    /// The port that a URL leaves out.
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 => 1080,
        }
    }
}

/// `http://user:password@host:port`, as in the variable `HTTPS_PROXY`; without a scheme it is
/// `http`.
impl FromStr for UpstreamProxy {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = match &*scheme.to_ascii_lowercase() {
            "http" => ProxyScheme::Http,
            "https" => ProxyScheme::Https,
            "socks5" | "socks5h" => ProxyScheme::Socks5,
            _ => return Err(ProxyUrlError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, authority) = match rest.rsplit_once('@') {
            Some((login, authority)) => (Some(login), authority),
            None => (None, rest),
        };
        if authority.contains(['/', '?', '#']) {
            return Err(ProxyUrlError::More);
        }
        let proxy = Self {
            url: ProxyUrl {
                scheme,
                address: Target::parse(authority, scheme.default_port())?,
            },
            credentials: None,
            roots: Vec::new(),
        };
        match login {
            Some(login) => proxy.with_credentials(parse_login(login)?),
            None => Ok(proxy),
        }
    }
}

/// Some services take a token for the user name, others for the password, so one of them will do.
fn parse_login(text: &str) -> Result<ProxyCredentials, ProxyUrlError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    match (decode(user)?, decode(password)?) {
        (user, password) if user.is_empty() && password.is_empty() => {
            Err(ProxyUrlError::NoCredentials)
        }
        (user, password) => Ok(ProxyCredentials::new(user, password)),
    }
}

/// Undoes percent-encoding (RFC 3986 section 2.1).
fn decode(text: &str) -> Result<String, ProxyUrlError> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((octet, after)) = rest.split_first() {
        rest = after;
        if *octet != b'%' {
            octets.push(*octet);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(ProxyUrlError::Encoding)?;
        let hexadecimal = |digit: &u8| digit.is_ascii_hexdigit();
        let digits = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.as_bytes().iter().all(hexadecimal));
        let octet = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        octets.push(octet.ok_or(ProxyUrlError::Encoding)?);
        rest = after;
    }
    String::from_utf8(octets).map_err(|_error| ProxyUrlError::Encoding)
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_url() {
        for (text, expected) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("HTTP://Proxy.example/", "http://proxy.example:80"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("https://proxy.example", "https://proxy.example:443"),
            ("socks5://127.0.0.1", "socks5://127.0.0.1:1080"),
            ("socks5h://[::1]:9050", "socks5://[::1]:9050"),
            ("http://me:secret@proxy.example:1", "http://proxy.example:1"),
        ] {
            let proxy: UpstreamProxy = text.parse().unwrap();
            assert_eq!(proxy.url.to_string(), expected);
        }
        for (text, expected) in [
            ("", "the upstream proxy: the host is empty"),
            ("ftp://proxy", "an upstream proxy is http://"),
            ("socks4://proxy", "an upstream proxy is http://"),
            ("http://proxy/path", "an upstream proxy has no path"),
            ("http://proxy:0", "the upstream proxy: the port"),
            ("http://:@proxy", "the upstream proxy has neither"),
            ("http://@proxy", "the upstream proxy has neither"),
            ("http://a%2:b@proxy", "the user name or the password"),
            ("http://a%+1:b@proxy", "the user name or the password"),
            ("http://a%ff:b@proxy", "the user name or the password"),
            ("socks5://me@proxy", "SOCKS 5 wants"),
        ] {
            let error = text.parse::<UpstreamProxy>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_are_read_and_not_printed() {
        for (text, user, password) in [
            ("http://me:se%3Acret@proxy", "me", "se:cret"),
            ("http://token@proxy", "token", ""),
            ("http://:token@proxy", "", "token"),
            ("http://a:b@c:d@proxy", "a", "b@c:d"),
        ] {
            let proxy: UpstreamProxy = text.parse().unwrap();
            let printed = format!("{proxy:?} {}", proxy.url);
            let credentials = proxy.credentials.unwrap();
            assert_eq!(
                (credentials.user.reveal(), credentials.password.reveal()),
                (&user.to_owned(), &password.to_owned())
            );
            assert!(
                !printed.contains("token") && !printed.contains("cret"),
                "{printed}"
            );
        }
        assert_eq!(
            ProxyCredentials::new("Aladdin", "open sesame")
                .field_value()
                .reveal(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
    }
}
