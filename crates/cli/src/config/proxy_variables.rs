//! The machine's own proxy variables as a source of settings, the weakest one: `HTTPS_PROXY`,
//! `ALL_PROXY` and `NO_PROXY`, in both cases.
//!
//! `HTTP_PROXY` alone is not taken: agents speak HTTPS, and there is one proxy for all.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proxy::UpstreamProxy;
use traffic::rules::no_proxy::NoProxy;

use super::file::ConfigFile;
use super::layer::{Layer, Origin, wrong_variable};
use super::values::ProxyChoice;
use crate::environment::Environment;
use crate::problem::Problem;

/// Variables that name a proxy; the first that is set counts.
pub(crate) const PROXY: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// Variables that name one for plain HTTP alone.
pub(crate) const HTTP_PROXY: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
/// Variables that name hosts which go past it.
pub(crate) const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// What the variables say; nothing if they name no proxy, or oriel itself, which `oriel env` made
/// them name: the service that listens at `service`.
pub(crate) fn proxy_variables(
    environment: &Environment,
    service: SocketAddr,
) -> Result<Option<Layer>, Problem> {
    let first = |names: &[&'static str]| {
        let mut names = names.iter().copied();
        names.find_map(|name| Some((name, environment.text(name)?)))
    };
    let Some((name, text)) = first(&PROXY) else {
        return Ok(None);
    };
    let proxy: UpstreamProxy = text.trim().parse().map_err(|error: proxy::ProxyUrlError| {
        wrong_variable(name, "…", &error.to_string()).fix("or go past it:  --upstream-proxy off")
    })?;
    if is_service(&proxy, service) {
        return Ok(None);
    }
    let mut values = ConfigFile::default();
    let mut origins = BTreeMap::new();
    let mut note = |path: &str, name| origins.insert(path.to_owned(), Origin::Variable(name));
    values.upstream_proxy.url = Some(ProxyChoice::At(Box::new(proxy)));
    note("upstream_proxy.url", name);
    if let Some((name, list)) = first(&NO_PROXY) {
        // Written for many programs: what is no entry here may be one elsewhere.
        let (_, problems) = NoProxy::parse_variable(list);
        for problem in &problems {
            tracing::warn!(variable = name, %problem, "an entry is left out");
        }
        let entries = NoProxy::entries(list)
            .filter(|entry| problems.iter().all(|problem| problem.text != *entry));
        values.upstream_proxy.no_proxy = Some(entries.map(str::to_owned).collect());
        note("upstream_proxy.no_proxy", name);
    }
    Ok(Some(Layer { values, origins }))
}

/// Whether the proxy is the service of this machine.
fn is_service(proxy: &UpstreamProxy, service: SocketAddr) -> bool {
    let address = &proxy.url.address;
    address.port == service.port() && address.host.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(variables: &[(&str, &str)]) -> Result<Option<Layer>, Problem> {
        let service = "127.0.0.1:6743".parse().unwrap();
        proxy_variables(&Environment::of(variables), service)
    }

    fn url(variables: &[(&str, &str)]) -> Option<(String, String)> {
        let layer = layer(variables).unwrap()?;
        let origin = layer.origins["upstream_proxy.url"].to_string();
        Some((layer.values.upstream_proxy.url?.to_string(), origin))
    }

    #[test]
    fn the_first_variable_that_is_set_counts() {
        for (variables, expected) in [
            (
                &[("HTTPS_PROXY", "http://p:1"), ("ALL_PROXY", "http://q:1")][..],
                "http://p:1 env HTTPS_PROXY",
            ),
            (&[("https_proxy", "p:1")], "http://p:1 env https_proxy"),
            (
                &[("all_proxy", "socks5h://p")],
                "socks5://p:1080 env all_proxy",
            ),
            (
                &[("HTTPS_PROXY", "http://me:secret@p:1")],
                "http://p:1 env HTTPS_PROXY",
            ),
            (&[("HTTP_PROXY", "http://p:1")], ""),
            (&[("HTTPS_PROXY", "")], ""),
            // The service that `oriel env` points at.
            (&[("HTTPS_PROXY", "http://127.0.0.1:6743")], ""),
            (&[("HTTPS_PROXY", "http://localhost:6743")], ""),
            (
                &[("HTTPS_PROXY", "http://127.0.0.1:6744")],
                "http://127.0.0.1:6744 env HTTPS_PROXY",
            ),
        ] {
            let got = url(variables).map(|(url, origin)| format!("{url} {origin}"));
            assert_eq!(got.unwrap_or_default(), expected, "{variables:?}");
        }
    }

    #[test]
    fn what_goes_past_it_is_taken_as_far_as_it_can_be_read() {
        let variables = [
            ("ALL_PROXY", "http://p:1"),
            ("NO_PROXY", "localhost, .corp,10.*,*"),
        ];
        let values = layer(&variables).unwrap().unwrap().values;
        let listed = values.upstream_proxy.no_proxy.unwrap();
        assert_eq!(listed, ["localhost", ".corp", "*"]);
    }

    #[test]
    fn a_variable_that_is_no_proxy_is_an_error_without_its_text() {
        let problem = layer(&[("HTTPS_PROXY", "ftp://me:secret@p")]).unwrap_err();
        assert_eq!(problem.code, "ORL0405");
        assert!(!format!("{problem:?}").contains("secret"), "{problem:?}");
    }
}
