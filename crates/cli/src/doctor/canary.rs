//! The name of the upstream that tools are made to ask. It is `localhost`, which means this machine
//! everywhere, unless the authority may sign for some other names alone: then it is one below those,
//! which the engine leads to the upstream. A tool is only given that one after it was seen to ask the
//! proxy for `localhost`, so that none asks the network for it.

use proxy::Authority;
use traffic::Host;

use crate::config::file::GatewayRoute;
use crate::settings::Settings;

/// The name of all upstreams.
pub(super) const NAME: &str = "localhost";
/// What a name begins with that nobody has.
const LABEL: &str = "oriel-canary";

/// Which name is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Canary {
    /// This machine's own.
    Local,
    /// One that the engine leads to the upstream.
    Led(Host),
}

impl Canary {
    /// One that an authority may sign for; `None` if it may sign for addresses alone.
    pub(super) fn of(authority: &Authority) -> Option<Self> {
        match Host::parse(NAME).is_ok_and(|host| authority.permits(&host)) {
            true => Some(Self::Local),
            false => authority.name_permitted(LABEL).map(Self::Led),
        }
    }

    /// The name in a URL.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Local => NAME.to_owned(),
            Self::Led(host) => host.to_string(),
        }
    }

    /// Whether a flow to this host is one to the upstream.
    pub(super) fn is(&self, host: &Host) -> bool {
        host.is_loopback() || matches!(self, Self::Led(own) if own == host)
    }

    /// The settings of an engine that leads it to the upstream at a port.
    pub(super) fn settings(&self, settings: &Settings, port: u16) -> Settings {
        let mut settings = settings.clone();
        if let Self::Led(host) = self {
            settings.gateway_routes.value = vec![GatewayRoute {
                hosts: vec![host.to_string()],
                to: Some(format!("https://{NAME}:{port}{{path}}")),
                ..GatewayRoute::default()
            }];
        }
        settings
    }
}
