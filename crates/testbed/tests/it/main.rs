//! The testbed against itself: what a fake client sees of a fake upstream, with nothing or bad
//! network in between.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod models;
mod routes;
mod streams;
mod trust;
mod websocket;

use std::io;

use oriel_testbed::authority::Authority;
use oriel_testbed::client::{Client, Http2Client};
use oriel_testbed::upstream::{Protocols, Upstream, UpstreamOptions};

const NAME: &str = "upstream.test";

async fn start_https(authority: &Authority, protocols: Protocols) -> Upstream {
    let options = UpstreamOptions::https(authority.issue(&[NAME]), protocols);
    Upstream::start(options).await.unwrap()
}

async fn start_http() -> (Upstream, Client) {
    let upstream = Upstream::start(UpstreamOptions::http()).await.unwrap();
    let client = Client::connect(upstream.address()).await.unwrap();
    (upstream, client)
}

async fn start_http2() -> (Upstream, Http2Client) {
    let authority = Authority::new("test");
    let upstream = start_https(&authority, Protocols::Both).await;
    let client = connect_tls(&authority, &upstream, NAME, &["h2"])
        .await
        .unwrap();
    assert_eq!(client.wire().unwrap().alpn(), Some(&b"h2"[..]));
    (upstream, client.start_http2().await.unwrap())
}

async fn connect_tls(
    authority: &Authority,
    upstream: &Upstream,
    name: &str,
    alpn: &[&str],
) -> io::Result<Client> {
    let mut client = Client::connect(upstream.address()).await?;
    client
        .start_tls(name, authority.client_config(alpn))
        .await?;
    Ok(client)
}
