//! Which way leads to a target: directly, or through an upstream proxy.

use super::no_proxy::NoProxy;
use super::pattern::HostPatterns;
use crate::Target;

/// One way to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via<P> {
    /// The target is dialled.
    Direct,
    /// A proxy is dialled, and asked for the target.
    Proxy(P),
}

/// The ways to all targets. What a proxy is, is nobody's business here.
#[derive(Clone, Debug)]
pub struct ProxyRules<P> {
    /// For the hosts they name; the first that names a target counts.
    pub routes: Vec<ProxyRoute<P>>,
    /// Targets on no route that are reached directly.
    pub no_proxy: NoProxy,
    /// For all others, but this machine: see [`ProxyRules::via`].
    pub otherwise: Via<P>,
}

/// The way to some hosts.
#[derive(Clone, Debug)]
pub struct ProxyRoute<P> {
    /// Which hosts.
    pub hosts: HostPatterns,
    /// The way.
    pub via: Via<P>,
}

impl<P> ProxyRules<P> {
    /// The way to a target. To this machine (a loopback address, `localhost`) it is direct unless
    /// a route says otherwise: what a proxy would reach by such a name is itself.
    #[must_use]
    pub fn via(&self, target: &Target) -> &Via<P> {
        let named = |route: &&ProxyRoute<P>| route.hosts.matches(target).is_some();
        if let Some(route) = self.routes.iter().find(named) {
            return &route.via;
        }
        match &self.otherwise {
            Via::Proxy(_) if target.host.is_loopback() || self.no_proxy.covers(target) => {
                &Via::Direct
            }
            otherwise => otherwise,
        }
    }

    /// The same with other proxies, each made of one of these.
    ///
    /// # Errors
    /// With the first that cannot be made.
    pub fn try_map<Q, E>(
        self,
        mut make: impl FnMut(P) -> Result<Q, E>,
    ) -> Result<ProxyRules<Q>, E> {
        let mut turn = |via| match via {
            Via::Direct => Ok(Via::Direct),
            Via::Proxy(proxy) => make(proxy).map(Via::Proxy),
        };
        let routes = self.routes.into_iter().map(|route| {
            let via = turn(route.via)?;
            let hosts = route.hosts;
            Ok(ProxyRoute { hosts, via })
        });
        Ok(ProxyRules {
            routes: routes.collect::<Result<_, E>>()?,
            otherwise: turn(self.otherwise)?,
            no_proxy: self.no_proxy,
        })
    }
}

/// Everything is reached directly.
impl<P> Default for ProxyRules<P> {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            no_proxy: NoProxy::default(),
            otherwise: Via::Direct,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(hosts: &[&str], via: Via<&'static str>) -> ProxyRoute<&'static str> {
        let hosts = HostPatterns::parse(hosts).unwrap();
        ProxyRoute { hosts, via }
    }

    #[test]
    fn routes_come_first_then_the_list_then_the_rest() {
        let rules = ProxyRules {
            routes: vec![
                route(&["models.corp"], Via::Proxy("models")),
                route(&["*.corp:8443", "db.example"], Via::Direct),
                route(&["*.corp", "127.0.0.2"], Via::Proxy("corp")),
            ],
            no_proxy: NoProxy::parse(&["models.corp", "a.example", "10.0.0.0/8"]).unwrap(),
            otherwise: Via::Proxy("default"),
        };
        for (target, expected) in [
            ("models.corp", Via::Proxy("models")),
            ("models.corp:8443", Via::Proxy("models")),
            ("git.corp:8443", Via::Direct),
            ("git.corp", Via::Proxy("corp")),
            ("db.example", Via::Direct),
            ("a.example", Via::Direct),
            ("10.1.2.3", Via::Direct),
            ("b.example", Via::Proxy("default")),
            ("192.0.2.1", Via::Proxy("default")),
            // This machine, unless a route names it.
            ("localhost", Via::Direct),
            ("[::1]", Via::Direct),
            ("127.0.0.1", Via::Direct),
            ("127.0.0.2", Via::Proxy("corp")),
        ] {
            let target = Target::parse(target, 443).unwrap();
            assert_eq!(*rules.via(&target), expected, "{target}");
        }
    }

    #[test]
    fn without_rules_everything_is_direct() {
        let rules = ProxyRules::<()>::default();
        let target = Target::parse("a.example", 443).unwrap();
        assert_eq!(*rules.via(&target), Via::Direct);
    }

    #[test]
    fn proxies_are_made_of_others_or_not_at_all() {
        let rules = || ProxyRules {
            routes: vec![
                route(&["a.example"], Via::Proxy("1")),
                route(&["b.example"], Via::Direct),
            ],
            otherwise: Via::Proxy("2"),
            ..ProxyRules::default()
        };
        let numbers = rules().try_map(|text| text.parse::<u8>()).unwrap();
        let via = |host: &str| numbers.via(&Target::parse(host, 443).unwrap()).clone();
        assert_eq!(via("a.example"), Via::Proxy(1));
        assert_eq!(via("b.example"), Via::Direct);
        assert_eq!(via("c.example"), Via::Proxy(2));
        let refused = rules().try_map(|text| (text == "1").then_some(text).ok_or(text));
        assert_eq!(refused.unwrap_err(), "2");
    }
}
