//! The proxies between oriel and upstreams, as the settings say them. Files of certificates and
//! credentials are read here, at start and at every reload.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use proxy::{ProxyCredentials, UpstreamProxy};
use traffic::rules::no_proxy::NoProxy;
use traffic::rules::upstream_proxy::{ProxyRoute, ProxyRules, Via};

use crate::config::file;
use crate::config::layer::{Origin, Setting};
use crate::config::values::{ProxyChoice, ProxyLogin};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::wiring::{host_patterns, read_roots};

/// Octets of a file with credentials. A token has some hundred.
const CREDENTIALS_BYTES_MAX: u64 = 64 * 1024;

/// The way to each upstream.
pub(crate) fn upstream_proxies(
    settings: &Settings,
) -> Result<ProxyRules<Arc<UpstreamProxy>>, Problem> {
    let routes = &settings.upstream_proxy_routes;
    let route = |route: &file::ProxyRoute| {
        let hosts = host_patterns("upstream_proxy.routes", &route.hosts, &routes.origin)?;
        let parts = Parts {
            origin: &routes.origin,
            ca: route.ca.as_deref(),
            credentials: None,
            credentials_file: route.credentials_file.as_deref(),
        };
        let via = parts.via(&route.url)?;
        Ok(ProxyRoute { hosts, via })
    };
    let parts = Parts {
        origin: &settings.upstream_proxy.origin,
        ca: settings.upstream_proxy_ca.value.as_deref(),
        credentials: settings.upstream_proxy_credentials.value.as_ref(),
        credentials_file: settings.upstream_proxy_credentials_file.value.as_deref(),
    };
    Ok(ProxyRules {
        routes: routes.value.iter().map(route).collect::<Result<_, _>>()?,
        no_proxy: no_proxy(&settings.no_proxy)?,
        otherwise: parts.via(&settings.upstream_proxy.value)?,
    })
}

/// What belongs to one proxy besides its URL.
struct Parts<'s> {
    /// Where its URL is set.
    origin: &'s Origin,
    ca: Option<&'s Path>,
    credentials: Option<&'s ProxyLogin>,
    credentials_file: Option<&'s Path>,
}

impl Parts<'_> {
    fn via(&self, choice: &ProxyChoice) -> Result<Via<Arc<UpstreamProxy>>, Problem> {
        let ProxyChoice::At(proxy) = choice else {
            return Ok(Via::Direct);
        };
        let mut proxy = UpstreamProxy::clone(proxy);
        if let Some(ca) = self.ca {
            proxy.roots = read_roots(ca)?;
        }
        let credentials = match (self.credentials, self.credentials_file) {
            (Some(ProxyLogin(said)), _) => Some(said.clone()),
            (None, Some(path)) => Some(read_credentials(path)?),
            // Those in the URL, if it has some.
            (None, None) => None,
        };
        if let Some(credentials) = credentials {
            let url = proxy.url.to_string();
            proxy = proxy.with_credentials(credentials).map_err(|error| {
                Problem::new(
                    "ORL0108",
                    Exit::Usage,
                    format!("cannot use the proxy {url}"),
                )
                .why(format!("{error}; it is set by: {}", self.origin))
            })?;
        }
        Ok(Via::Proxy(Arc::new(proxy)))
    }
}

fn no_proxy(setting: &Setting<Vec<String>>) -> Result<NoProxy, Problem> {
    NoProxy::parse(&setting.value).map_err(|error| {
        Problem::new("ORL0105", Exit::Usage, error.to_string())
            .why(format!(
                "upstream_proxy.no_proxy is set so by: {}",
                setting.origin
            ))
            .fix_there()
    })
}

/// Reads a file with `user:password`, perhaps with an end of line after it.
fn read_credentials(path: &Path) -> Result<ProxyCredentials, Problem> {
    let unusable = |why: String| {
        let what = format!(
            "cannot read the proxy's credentials from {}",
            path.display()
        );
        Problem::new("ORL0108", Exit::Usage, what).why(why)
    };
    let facts = std::fs::metadata(path).map_err(|error| unusable(error.to_string()))?;
    if facts.mode() & 0o077 != 0 {
        return Err(
            unusable("others can read the file, or change it".to_owned())
                .fix(format!("chmod 600 {}", path.display())),
        );
    }
    if facts.len() > CREDENTIALS_BYTES_MAX {
        return Err(unusable("it is larger than any credentials".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    let line = text.trim_end_matches(['\r', '\n']);
    match line.parse() {
        Ok(ProxyLogin(credentials)) => Ok(credentials),
        Err(error) => Err(unusable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn credentials_are_in_a_file_of_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("login");
        let check = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read_credentials(&path).map_err(|problem| format!("{problem:?}"))
        };
        let expected = ProxyCredentials::new("me", "se:cret ");
        assert_eq!(check("me:se:cret \r\n", 0o600), Ok(expected));
        for (text, mode, why) in [
            ("me:secret", 0o640, "others can read"),
            ("me:secret", 0o602, "others can read"),
            ("secret", 0o600, "credentials are user:password"),
            (":\n", 0o600, "credentials are user:password"),
            (&"secret:".repeat(10_000), 0o600, "larger than any"),
        ] {
            let problem = check(text, mode).unwrap_err();
            assert!(
                problem.contains(why) && !problem.contains("secret"),
                "{problem}"
            );
        }
        assert!(read_credentials(&folder.path().join("none")).is_err());
    }
}
