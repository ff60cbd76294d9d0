//! Who may use a forward listener: what a client says of itself, who decides on it, and how often
//! one may be wrong.
//!
//! A client says a name and a password, in HTTP by `Proxy-Authorization: Basic` (RFC 7617), in
//! SOCKS 5 by RFC 1929. A [`Verifier`] decides; a yes is remembered for a while, a no is counted
//! against the address that it came from.

mod attempts;
mod gatekeeper;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use traffic::secret::Secret;

pub(crate) use attempts::Attempts;
pub(crate) use gatekeeper::{Door, Gatekeeper, Guest};

use crate::limits::{ADMITTED_FOR, USER_CHARS_MAX};

/// Decides who may use a forward listener.
pub trait Verifier: fmt::Debug + Send + Sync + 'static {
    /// Whether this client may use the proxy. It is asked anew once an earlier yes is out of date,
    /// for at most four clients at once; an answer that takes longer than ten seconds is an error.
    ///
    /// # Errors
    /// If it cannot be found out: then the client is refused with 503, and may come again.
    fn verify<'a>(&'a self, login: &'a Login) -> BoxFuture<'a, Result<bool, VerifierError>>;

    /// Whether a yes is also one to the name. Only then flows tell it: where nobody looks at the name,
    /// clients put tokens there.
    fn checks_name(&self) -> bool {
        true
    }
}

/// Why it could not be found out whether a client may use the proxy. It is logged, not shown to the
/// client.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct VerifierError(pub String);

/// What a client says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name; may be empty.
    pub user: String,
    /// The password, or a token in its place.
    pub password: Secret<String>,
    /// A verifier that looks at names said yes.
    has_checked_name: bool,
}

/// How clients of a forward listener are admitted.
#[derive(Clone, Debug)]
pub struct Admission {
    verifier: Arc<dyn Verifier>,
    realm: String,
    kept_for: Duration,
}

/// The realm that clients are told where none is set.
const REALM: &str = "oriel";

/// A user name and its password: the one login that is right.
#[derive(Clone, Debug)]
pub struct Credentials(Login);

/// Admits everybody who brings a password, whatever it is: for tokens that only the upstream can
/// check. A client without one, or with an empty one, is refused.
#[derive(Clone, Copy, Debug)]
pub struct AnyPassword;

impl Admission {
    /// Has a verifier decide. A yes holds for five minutes.
    #[must_use]
    pub fn by(verifier: impl Verifier) -> Self {
        Self {
            verifier: Arc::new(verifier),
            realm: REALM.to_owned(),
            kept_for: ADMITTED_FOR,
        }
    }

    /// What clients are told that they are asked for (RFC 9110 section 11.5). Characters that a
    /// field cannot carry are left out.
    #[must_use]
    pub fn realm(mut self, realm: &str) -> Self {
        let fits =
            |character: &char| matches!(character, ' '..='~') && !"\"\\".contains(*character);
        self.realm = realm.chars().filter(fits).collect();
        self
    }

    /// How long a yes of the verifier holds. Zero asks it every time.
    #[must_use]
    pub fn kept_for(mut self, kept_for: Duration) -> Self {
        self.kept_for = kept_for;
        self
    }
}

impl From<Credentials> for Admission {
    fn from(credentials: Credentials) -> Self {
        Self::by(credentials)
    }
}

impl Login {
    /// A name and a password. The password does not appear in logs.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: Secret::new(password.into()),
            has_checked_name: false,
        }
    }

    /// The name, as flows tell it: none if it is empty or nobody checked it, and as much of a long one
    /// as is told.
    pub(crate) fn told_name(&self) -> Option<&str> {
        if !self.has_checked_name {
            return None;
        }
        Some(self.short_name()).filter(|name| !name.is_empty())
    }

    /// As much of the name as is told of a long one.
    fn short_name(&self) -> &str {
        let mut ends = self.user.char_indices().map(|(at, _)| at);
        let end = ends.nth(USER_CHARS_MAX).unwrap_or(self.user.len());
        self.user.get(..end).unwrap_or_default()
    }

    /// Reads the value of a `Proxy-Authorization` field: `Basic`, in whatever case, and the base64
    /// of name, colon and password in UTF-8 (RFC 7617 section 2).
    pub(crate) fn from_field(value: &[u8]) -> Option<Self> {
        let (scheme, said) = value.split_at_checked("Basic ".len())?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let plain = STANDARD.decode(said.trim_ascii()).ok()?;
        let (user, password) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
        Some(Self::new(user, password))
    }

    /// Reads what SOCKS 5 carries; in UTF-8, as over HTTP.
    pub(crate) fn from_bytes(user: &[u8], password: &[u8]) -> Option<Self> {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        Some(Self::new(text(user)?, text(password)?))
    }
}

impl Credentials {
    /// The password does not appear in logs.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self(Login::new(user, password))
    }
}

impl Verifier for Credentials {
    fn verify<'a>(&'a self, login: &'a Login) -> BoxFuture<'a, Result<bool, VerifierError>> {
        let Self(known) = self;
        let password = login.password.reveal().as_bytes();
        let same_user = same(known.user.as_bytes(), login.user.as_bytes());
        let right = same(known.password.reveal().as_bytes(), password) & same_user;
        Box::pin(std::future::ready(Ok(right)))
    }
}

impl Verifier for AnyPassword {
    fn verify<'a>(&'a self, login: &'a Login) -> BoxFuture<'a, Result<bool, VerifierError>> {
        let brings_one = !login.password.reveal().is_empty();
        Box::pin(std::future::ready(Ok(brings_one)))
    }

    fn checks_name(&self) -> bool {
        false
    }
}

/// Looks at all bytes, whichever differ first: it takes as long for what is wrong as for what is
/// right of the same length.
fn same(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.iter().zip(other);
    let differ = pairs.fold(0, |differ, (one, other)| differ | (one ^ other));
    std::hint::black_box(differ) == 0 && one.len() == other.len()
}

#[cfg(test)]
mod tests;
