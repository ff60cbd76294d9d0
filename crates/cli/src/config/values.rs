//! The types of single settings, parsed once from the text people write.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use proxy::{ProxyCredentials, ProxyUrlError, ReverseTo, ReverseToError, UpstreamProxy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{Location, UnknownLocation};
use traffic::rules::redact::Redaction;
use traffic::secret::Secret;

use crate::quantity::{Period, as_text};

/// An address to listen on: `127.0.0.1:6743`, `localhost:6743`, or `:6743` for every interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) SocketAddr);

/// Where the admin port listens, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdminListen {
    Off,
    At(SocketAddr),
}

/// The upstream of a reverse listener: a scheme, a host and perhaps a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamUrl(pub(crate) ReverseTo);

/// `user:password`. It is read from such a text and written as `user:***`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Secret<String>,
}

/// Why a text is no user name with a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("credentials are user:password, and neither is empty")]
    Form,
    #[error("a user name and a password have at most 255 bytes each")]
    TooLong,
}

/// The archive that flows are copied to, or none. It may hold a password, and is written without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveChoice {
    /// Flows stay in the file of this machine.
    Local,
    At(Location),
}

/// Why a text names no archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error(transparent)]
    Unknown(#[from] UnknownLocation),
    #[error("an archive is postgres://…, clickhouse://…, clickhouses://…, sqlite:/… or local")]
    Form,
    #[error("the path of a file is given from the root on: sqlite:/mnt/team/oriel.db")]
    Relative,
}

/// An upstream proxy as a URL, or none. It may hold credentials, and is written without.
#[derive(Clone, Debug)]
pub(crate) enum ProxyChoice {
    Off,
    At(Box<UpstreamProxy>),
}

/// `user:password` for an upstream proxy, of which one may be empty. It is read from such a text
/// and written as `***`: some take a token for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyLogin(pub(crate) ProxyCredentials);

/// Why a text is no login for an upstream proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("credentials are user:password, and not both are empty")]
pub(crate) struct ProxyLoginError;
/// Who may have addresses dialled that are not of the public network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PrivateReach {
    /// Clients on this machine.
    Local,
    /// Every client.
    All,
    /// No client.
    None,
}

/// Where the token for a gateway comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TokenFrom {
    /// There is none.
    None,
    /// The password by which the client was admitted to the proxy.
    Login,
    /// The file that `token_file` names.
    File,
}

/// What becomes of something of the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeepOrDrop {
    /// It goes on.
    Keep,
    /// It stays behind.
    Drop,
}

/// What happens when neither the database nor the spool takes what is seen, and the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Overflow {
    /// It is dropped and counted.
    Drop,
    /// Traffic waits for a while first.
    Block,
}

/// What happens to hosts on no list.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unlisted {
    /// Their bytes pass unopened.
    Tunnel,
    /// They are refused.
    Block,
}

/// What becomes of a client whose ClientHello names another host than its CONNECT request.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SniMismatch {
    /// It goes on, and its flows say so.
    Allow,
    /// It is ended.
    Deny,
}

/// How long flows with a tag are kept: `scratch=7d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagPeriod {
    pub(crate) tag: String,
    pub(crate) keep: Period,
}

/// Why a text does not say how long a tag keeps flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("how long a tag keeps flows is written so: scratch=7d")]
pub(crate) struct TagPeriodError;

/// For whom a host passes unopened whose certificate was refused again and again.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AutoBypass {
    /// For nobody.
    Off,
    /// For the program that refused it.
    Process,
    /// For everybody.
    Host,
}

/// A version of TLS.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize, JsonSchema,
)]
pub(crate) enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Which credentials are masked before anything is stored.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Redact {
    /// Known credentials in header fields, query parameters and user information.
    Basic,
    /// Nothing: credentials are stored as they came.
    None,
}

/// How log lines are written.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Why a text is no address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("an address is IP:PORT, localhost:PORT or :PORT, for example 127.0.0.1:6743")]
    Form,
    #[error("it is either \"off\" or IP:PORT, for example 127.0.0.1:6744")]
    AdminForm,
}

impl FromStr for TagPeriod {
    type Err = TagPeriodError;

    fn from_str(text: &str) -> Result<Self, TagPeriodError> {
        let (tag, keep) = text.split_once('=').ok_or(TagPeriodError)?;
        let (tag, keep) = (tag.trim(), keep.parse().map_err(|_error| TagPeriodError)?);
        match tag.is_empty() {
            true => Err(TagPeriodError),
            false => Ok(Self {
                tag: tag.to_owned(),
                keep,
            }),
        }
    }
}

impl fmt::Display for TagPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.tag, self.keep)
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let text = text.trim();
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or(ListenError::Form)?;
        let port = port.parse().map_err(|_error| ListenError::Form)?;
        let host: IpAddr = match host {
            "" => Ipv4Addr::UNSPECIFIED.into(),
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            _ => return Err(ListenError::Form),
        };
        Ok(Self(SocketAddr::new(host, port)))
    }
}

impl FromStr for AdminListen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        if text.trim().eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        let Listen(address) = text.parse().map_err(|_error| ListenError::AdminForm)?;
        Ok(Self::At(address))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl FromStr for UpstreamUrl {
    type Err = ReverseToError;

    fn from_str(text: &str) -> Result<Self, ReverseToError> {
        text.trim().parse().map(Self)
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Login {
    type Err = LoginError;

    fn from_str(text: &str) -> Result<Self, LoginError> {
        let (user, password) = text.split_once(':').ok_or(LoginError::Form)?;
        // RFC 1929 counts both in one octet.
        let longest = user.len().max(password.len());
        match (user.is_empty() || password.is_empty(), longest) {
            (true, _) => Err(LoginError::Form),
            (false, 0..=255) => Ok(Self {
                user: user.to_owned(),
                password: Secret::new(password.to_owned()),
            }),
            (false, _) => Err(LoginError::TooLong),
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.password)
    }
}

impl FromStr for ArchiveChoice {
    type Err = ArchiveError;

    fn from_str(text: &str) -> Result<Self, ArchiveError> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("local") {
            return Ok(Self::Local);
        }
        if !text.contains(':') {
            return Err(ArchiveError::Form);
        }
        match text.parse()? {
            Location::File(path) if !path.is_absolute() => Err(ArchiveError::Relative),
            location => Ok(Self::At(location)),
        }
    }
}

impl fmt::Display for ArchiveChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::At(Location::File(path)) => write!(f, "sqlite:{}", path.display()),
            Self::At(location) => location.fmt(f),
        }
    }
}

impl FromStr for ProxyChoice {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        Ok(Self::At(Box::new(text.parse()?)))
    }
}

impl fmt::Display for ProxyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(proxy) => proxy.url.fmt(f),
        }
    }
}

impl FromStr for ProxyLogin {
    type Err = ProxyLoginError;

    fn from_str(text: &str) -> Result<Self, ProxyLoginError> {
        match text.split_once(':') {
            Some(("", "")) | None => Err(ProxyLoginError),
            Some((user, password)) => Ok(Self(ProxyCredentials::new(user, password))),
        }
    }
}

impl fmt::Display for ProxyLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

as_text!(TagPeriod);
as_text!(ProxyChoice);
as_text!(ArchiveChoice);
as_text!(ProxyLogin);
as_text!(UpstreamUrl);
as_text!(Login);
as_text!(Listen);
as_text!(AdminListen);

impl From<Redact> for Redaction {
    fn from(redact: Redact) -> Self {
        match redact {
            Redact::Basic => Self::Basic,
            Redact::None => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let got = match text.parse::<Listen>() {
            Ok(listen) => listen.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(got.starts_with(expected), "{text:?} gives {got}");
    }

    #[test]
    fn parses_addresses() {
        check("127.0.0.1:0", "127.0.0.1:0");
        check("[::1]:6743", "[::1]:6743");
        check("localhost:6743", "127.0.0.1:6743");
        check(":6743", "0.0.0.0:6743");
        for text in ["", "6743", "host:1", "127.0.0.1", "127.0.0.1:70000"] {
            check(text, "an address is");
        }
    }

    #[test]
    fn a_password_is_read_and_not_written() {
        let login: Login = "me:se:cret".parse().unwrap();
        assert_eq!(
            (&*login.user, &**login.password.reveal()),
            ("me", "se:cret")
        );
        assert_eq!(format!("{login} {login:?}").matches("cret").count(), 0);
        for text in ["", "me", "me:", ":secret"] {
            assert_eq!(text.parse::<Login>(), Err(LoginError::Form), "{text}");
        }
        let long = format!("me:{}", "x".repeat(256));
        assert_eq!(long.parse::<Login>(), Err(LoginError::TooLong));
    }

    #[test]
    fn an_upstream_is_a_url_without_a_path() {
        for (text, expected) in [
            ("https://API.openai.com", "https://api.openai.com"),
            ("https://a.example:443/", "https://a.example"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("a.example", "an upstream begins with"),
            ("ftp://a.example", "an upstream begins with"),
            ("https://a.example/v1", "an upstream is a scheme"),
            ("https://me@a.example", "an upstream is a scheme"),
        ] {
            let got = match text.parse::<UpstreamUrl>() {
                Ok(url) => url.to_string(),
                Err(error) => error.to_string(),
            };
            assert!(got.starts_with(expected), "{text}: {got}");
        }
    }

    #[test]
    fn an_upstream_proxy_is_written_without_its_credentials() {
        for (text, expected) in [
            (" http://me:secret@p.example:3128 ", "http://p.example:3128"),
            ("OFF", "off"),
            ("socks4://p", "an upstream proxy is"),
        ] {
            let got = match text.parse::<ProxyChoice>() {
                Ok(choice) => format!("{choice} {choice:?}"),
                Err(error) => error.to_string(),
            };
            assert!(
                got.starts_with(expected) && !got.contains("secret"),
                "{got}"
            );
        }
        for text in ["me:secret", "me:", ":secret"] {
            let login: ProxyLogin = text.parse().unwrap();
            assert_eq!(format!("{login} {login:?}").matches("secret").count(), 0);
        }
        for text in ["", ":", "me"] {
            assert_eq!(text.parse::<ProxyLogin>(), Err(ProxyLoginError), "{text}");
        }
    }

    #[test]
    fn the_admin_port_may_be_off() {
        assert_eq!("off".parse(), Ok(AdminListen::Off));
        let address = "127.0.0.1:6744".parse().unwrap();
        assert_eq!("127.0.0.1:6744".parse(), Ok(AdminListen::At(address)));
        assert_eq!("no".parse::<AdminListen>(), Err(ListenError::AdminForm));
    }
}
