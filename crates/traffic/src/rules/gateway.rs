//! Which requests go to a gateway in the place of their upstream, and as what.
//!
//! A route names hosts, and may name methods and paths. The first route that a request matches
//! decides: it goes to the route's URL with what the client asked for put into it, or it is refused.
//! A request that matches none goes where it was meant to go.
//!
//! Paths are compared as most readers take them, with their needless percent-encoding undone, the
//! segments `.` and `..` resolved and several slashes as one (RFC 3986 section 6.2.2), and sent as they
//! came. A path that some readers take for another, for which another route decides, is [`Ambiguous`]. A path that a reader could climb out of with `..` is not put into a URL.

mod path;
mod url;

pub use path::{PathPattern, PathPatternError};
pub use url::{GatewayUrl, GatewayUrlError, NotRoutable};

use super::pattern::HostPatterns;
use crate::Target;
use crate::secret::Secret;

/// All routes; without any, every request goes where it was meant to go.
#[derive(Clone, Debug, Default)]
pub struct GatewayRoutes(Vec<GatewayRoute>);

/// What becomes of some requests.
#[derive(Clone, Debug)]
pub struct GatewayRoute {
    /// What people call it; recorded with each flow.
    pub name: String,
    /// The hosts that the client asks for.
    pub hosts: HostPatterns,
    /// The methods, in upper case as HTTP has them; empty for all.
    pub methods: Vec<String>,
    /// The paths, without query; empty for all.
    pub paths: Vec<PathPattern>,
    /// What becomes of them.
    pub action: GatewayAction,
}

/// What becomes of a request that a route matches.
#[derive(Clone, Debug)]
pub enum GatewayAction {
    /// It goes to a gateway.
    Send(Box<Gateway>),
    /// It is refused.
    Refuse,
}

/// How a request goes to a gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Where it goes.
    pub url: GatewayUrl,
    /// What says to the gateway who asks.
    pub token: GatewayToken,
    /// What becomes of the credentials that the client has for the upstream it meant.
    pub client_credentials: ClientCredentials,
    /// The field, in lower case, that carries an id of the request to the gateway. What the client
    /// says in it goes no further.
    pub request_id_field: Option<String>,
    /// Dialled without an upstream proxy, whatever the rules about those say of its host.
    pub direct: bool,
}

/// What says to a gateway who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayToken {
    /// Nothing.
    None,
    /// The password by which the client was admitted to the proxy, in this field (lower case).
    OfLogin {
        /// In `authorization` it is a Bearer token (RFC 6750), in others it stands alone.
        field: String,
    },
    /// One that everybody shares.
    Shared {
        /// As above.
        field: String,
        /// The token.
        token: Secret<String>,
    },
}

/// What becomes of a client's own credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCredentials {
    /// They stay behind: [`CREDENTIAL_FIELDS`], and the query parameters that are credentials
    /// ([`without_secret_parameters`](super::redact::without_secret_parameters)).
    Drop,
    /// They go to the gateway: clients bring their own keys.
    Keep,
}

/// Fields that carry credentials of a client for an upstream, in lower case.
pub const CREDENTIAL_FIELDS: [&str; 5] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
];

/// Two readers may take the path of a request for two paths, for which different routes decide, as for
/// `/public/..%2fv1/files`. Clients in use resolve the segments `.` and `..` before they ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its path can be read in two ways, for which different routes decide: it has `.`, `..`, `;`, `\\` or an encoded slash in it"
)]
pub struct Ambiguous;

impl GatewayToken {
    /// The field that carries it, in lower case.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::OfLogin { field } | Self::Shared { field, .. } => Some(field),
        }
    }
}

impl GatewayRoutes {
    /// Routes, of which the first that a request matches decides.
    #[must_use]
    pub fn new(routes: Vec<GatewayRoute>) -> Self {
        Self(routes)
    }

    /// Whether every request goes where it was meant to go.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first gateway that requests for a target may go to.
    #[must_use]
    pub fn of_host(&self, target: &Target) -> Option<&Gateway> {
        self.0.iter().find_map(|route| match &route.action {
            GatewayAction::Send(gateway) if route.hosts.matches(target).is_some() => {
                Some(&**gateway)
            }
            GatewayAction::Send(_) | GatewayAction::Refuse => None,
        })
    }

    /// The route of a request for a target; `path` may have a query.
    ///
    /// # Errors
    /// If that depends on who reads the path.
    pub fn find(
        &self,
        target: &Target,
        method: &str,
        path: &str,
    ) -> Result<Option<&GatewayRoute>, Ambiguous> {
        let mut routes = self.0.iter().filter(|route| {
            route.hosts.matches(target).is_some()
                && (route.methods.is_empty() || route.methods.iter().any(|known| known == method))
        });
        let Some(first) = routes.next() else {
            return Ok(None);
        };
        // Paths are looked at only where a route names some.
        if first.paths.is_empty() {
            return Ok(Some(first));
        }
        let candidates = || std::iter::once(first).chain(routes.clone());
        let normal = path::normal(path);
        let found = candidates().find(|route| route.takes(&normal));
        let same = |other: &String| {
            let other = candidates().find(|route| route.takes(other));
            other.map(std::ptr::from_ref) == found.map(std::ptr::from_ref)
        };
        match path::otherwise(path).iter().all(same) {
            true => Ok(found),
            false => Err(Ambiguous),
        }
    }
}

impl GatewayRoute {
    /// Whether it takes a path, as it is compared.
    fn takes(&self, path: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(path))
    }
}

#[cfg(test)]
mod tests;
