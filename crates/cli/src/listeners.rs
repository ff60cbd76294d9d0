//! Where the engine listens, as the settings say it. Certificates are read here, at start and at
//! every reload, so that a renewed one is taken.

use std::net::SocketAddr;

use proxy::tls::identity::Identity;
use proxy::{Listener, ListenerTls};
use traffic::{Host, ListenAddress};

use crate::admission::{admission, keeps_strangers_out};
use crate::config::file::ListenTls;
use crate::config::layer::Origin;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::settings::Settings;

/// All listeners: the proxy itself first, then its Unix-domain socket, then those that stand in
/// front of an upstream.
pub(crate) fn listeners(settings: &Settings) -> Result<Vec<Listener>, Problem> {
    let address = settings.listen.value.0;
    let mut main = Listener::forward(address);
    main.tls = match &settings.tls.value {
        Some(tls) => Some(listener_tls(
            tls,
            address,
            "proxy.tls",
            &settings.tls.origin,
        )?),
        None => None,
    };
    main.proxy_protocol = settings.proxy_protocol.value;
    main.admission = admission(settings)?;
    let mut listeners = vec![main];
    // Nobody else can connect to it, so nobody is asked who they are.
    let unix = settings.unix.value.iter().cloned();
    listeners.extend(unix.map(|path| Listener::forward(ListenAddress::Unix(path))));
    for reverse in &settings.reverse.value {
        let address = reverse.listen.0;
        let mut listener = Listener::reverse(address, reverse.to.0.clone());
        listener.tls = match &reverse.tls {
            Some(tls) => {
                let origin = &settings.reverse.origin;
                Some(listener_tls(tls, address, "proxy.reverse", origin)?)
            }
            None => None,
        };
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The upstream that each of the listeners stands in front of, in the same order; none for a proxy.
pub(crate) fn upstreams(settings: &Settings) -> impl Iterator<Item = Option<String>> {
    let unix = settings.unix.value.iter().map(|_path| None);
    let reverse = settings.reverse.value.iter();
    std::iter::once(None)
        .chain(unix)
        .chain(reverse.map(|reverse| Some(reverse.to.to_string())))
}

/// Off loopback nobody is served who does not say who they are, unless the settings name that
/// danger. A reverse listener asks nobody.
pub(crate) fn refuse_exposure(settings: &Settings) -> Result<(), Problem> {
    if settings.danger_listen_without_credentials.value {
        return Ok(());
    }
    let main = (
        settings.listen.value.0,
        &settings.listen.origin,
        "proxy.listen",
    );
    let reverse = settings.reverse.value.iter();
    let reverse = reverse.map(|one| (one.listen.0, &settings.reverse.origin, "proxy.reverse"));
    let asks = keeps_strangers_out(settings);
    let mut open = (!asks).then_some(main).into_iter().chain(reverse);
    let Some((address, origin, key)) = open.find(|(address, ..)| !address.ip().is_loopback())
    else {
        return Ok(());
    };
    let what =
        format!("{address} is reachable from the network, and nobody would be asked who they are");
    let problem = Problem::new("ORL0102", Exit::Permission, what)
        .why(format!("{key} is set so by: {origin}"));
    let problem = match key {
        "proxy.listen" => problem
            .fix(format!(
                "listen on this machine only:  --listen 127.0.0.1:{}",
                address.port()
            ))
            .fix("or ask for a password:  ORIEL_PROXY_CREDENTIALS=user:password"),
        _ => problem.fix(format!(
            "listen on this machine only:  listen = \"127.0.0.1:{}\"",
            address.port()
        )),
    };
    Err(problem
        .fix("or accept it:  ORIEL_DANGER_LISTEN_WITHOUT_CREDENTIALS=true before the command"))
}

/// A given certificate, or one for the names of the listener.
fn listener_tls(
    tls: &ListenTls,
    address: SocketAddr,
    key: &str,
    origin: &Origin,
) -> Result<ListenerTls, Problem> {
    let wrong = |what: String| {
        Problem::new("ORL0106", Exit::Usage, what)
            .why(format!("{key} is set so by: {origin}"))
            .fix_there()
    };
    match (&tls.certificate, &tls.key, &tls.names) {
        (Some(certificate), Some(key), None) => Identity::load(certificate, key)
            .map(ListenerTls::Given)
            .map_err(|error| {
                let (certificate, key) = (certificate.display(), key.display());
                wrong(format!("cannot use {certificate} with {key}: {error}"))
            }),
        (None, None, Some(names)) if names.is_empty() => {
            Err(wrong("tls.names names nobody".to_owned()))
        }
        (None, None, Some(names)) => {
            let parse = |name: &String| {
                Host::parse(name).map_err(|error| wrong(format!("tls.names: {name:?}: {error}")))
            };
            names
                .iter()
                .map(parse)
                .collect::<Result<_, _>>()
                .map(ListenerTls::Minted)
        }
        (None, None, None) => Ok(ListenerTls::Minted(own_names(address))),
        _ => Err(
            wrong("tls takes certificate and key together, or names alone".to_owned())
                .fix("tls = { certificate = \"chain.pem\", key = \"key.pem\" }")
                .fix("tls = { names = [\"proxy.example\"] }      signed by oriel's authority"),
        ),
    }
}

/// What a client on this machine, or one that knows the address, calls the listener.
fn own_names(address: SocketAddr) -> Vec<Host> {
    let mut names = Vec::new();
    names.extend(Host::parse("localhost").ok());
    names.push(Host::Ip([127, 0, 0, 1].into()));
    names.push(Host::Ip(std::net::Ipv6Addr::LOCALHOST.into()));
    if !address.ip().is_loopback() && !address.ip().is_unspecified() {
        names.push(Host::Ip(address.ip()));
    }
    names
}
