//! What a client is offered by ALPN: what it asks for, if its upstream speaks that.

use traffic::Failure;
use traffic::wire::client_hello::ClientHello;

use crate::connection::Engine;
use crate::tls::client_side::ClientAlpn;
use crate::upstream::{Lease, Offer, Speaks, Upstream};

/// Finds out what the upstream speaks, by dialling it if it is not known, and so what the client
/// is offered. A connection may be opened by this; no byte of a request is sent.
pub(crate) async fn agree(
    hello: &ClientHello,
    upstream: &Upstream,
    engine: &Engine,
) -> (ClientAlpn, Option<Failure>) {
    let offered = offered(hello);
    if offered != ClientAlpn::Both || !offers(hello, b"http/1.1") {
        // There is no choice that the upstream could decide: what it does not speak is translated.
        return (offered, None);
    }
    match upstream.speaks() {
        Speaks::Http1 => (ClientAlpn::Http11, None),
        Speaks::Http2 | Speaks::OnlyHttp2 => (ClientAlpn::Both, None),
        Speaks::Unknown => match engine.upstreams.acquire(upstream, Offer::Any).await {
            Ok(Lease::Http1(mut lease)) => {
                // Its first request comes once the client has shaken hands with us.
                let ended = lease.http1.end_handshake(engine.timeouts.tls).await;
                if ended.is_ok() {
                    engine.upstreams.give_back(upstream, lease);
                }
                (ClientAlpn::Http11, None)
            }
            Ok(Lease::Http2(_)) => (ClientAlpn::Both, None),
            Err(failure) => (ClientAlpn::Both, Some(failure)),
        },
    }
}

/// What the client offers of what we speak.
pub(crate) fn offered(hello: &ClientHello) -> ClientAlpn {
    match (offers(hello, b"h2"), offers(hello, b"http/1.1")) {
        (true, _) => ClientAlpn::Both,
        (false, true) => ClientAlpn::Http11,
        // A client of HTTP/1.0 is served without a word about it.
        (false, false) => ClientAlpn::None,
    }
}

fn offers(hello: &ClientHello, protocol: &[u8]) -> bool {
    hello.alpn.iter().any(|name| name == protocol)
}
