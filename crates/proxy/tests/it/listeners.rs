//! The places where an engine listens: several at once, Unix-domain sockets among them.

use std::path::{Path, PathBuf};

use oriel_proxy::{BindError, Listener, Proxy};
use testbed::client::{Client, Request};
use testbed::wire::Wire;
use traffic::{ClientAddress, ListenAddress};

use crate::running::{Running, any_port, authority_of, config, http};
use crate::soon;

fn unix(path: &Path) -> Listener {
    Listener::forward(ListenAddress::Unix(path.to_owned()))
}

/// A folder and a path for a socket in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oriel.sock");
    (folder, path)
}

#[tokio::test]
async fn every_listener_is_a_way_in() {
    let (upstream, (_folder, path)) = (http().await, place());
    let running = Running::with(|config| {
        config.listeners = vec![unix(&path), any_port(), any_port()];
        config.attribution = Some(oriel_proxy::limits::PROCESS_LOOKUP);
    });
    let running = running.await;
    let bound = running.control.addresses().to_vec();
    assert_eq!(bound[0], ListenAddress::Unix(path.clone()));
    let url = format!("http://{}/bytes/7", authority_of(&upstream));
    for address in &bound {
        let mut client = match address {
            ListenAddress::Tcp(address) => Client::connect(*address).await.unwrap(),
            ListenAddress::Unix(path) => Client::on(Wire::dial_unix(path).await.unwrap()),
        };
        let answer = soon(client.request(&Request::get(&url).host("a"))).await;
        assert_eq!(answer.unwrap().body.seen, 7);
    }
    let flows = running.recorder.ended(3).await;
    for (flow, address) in flows.iter().zip(&bound) {
        assert_eq!(flow.started.connection.proxy_address, *address);
    }
    let ClientAddress::Unix(peer) = flows[0].started.connection.client_address else {
        panic!("{:?}", flows[0].started.connection);
    };
    assert_eq!(peer.pid, Some(std::process::id()));
    running.stop().await;
    assert!(!path.exists(), "the socket goes with the engine");
    let process = flows[0].started.connection.process.as_ref().unwrap();
    assert_eq!(
        process.get().unwrap().as_ref().unwrap().pid,
        std::process::id()
    );
}

#[tokio::test]
async fn no_listener_is_reached_through_another() {
    let running = Running::with(|config| config.listeners = vec![any_port(), any_port()]).await;
    let addresses = running.control.addresses().to_vec();
    for target in &addresses {
        let mut client = running.connect().await;
        let text = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        client.send(text).await.unwrap();
        let answer = soon(client.read_response("GET")).await.unwrap();
        assert_eq!(answer.head.status, 508, "{target}");
    }
}

#[tokio::test]
async fn a_tunnel_leads_through_a_unix_socket() {
    let (upstream, (_folder, path)) = (http().await, place());
    let running = Running::with(|config| {
        config.listeners = vec![any_port(), unix(&path)];
        config.rules = crate::running::rules(&[], &[], traffic::rules::route::Unlisted::Tunnel);
    });
    let running = running.await;
    let mut client = Client::on(Wire::dial_unix(&path).await.unwrap());
    let host = authority_of(&upstream);
    let connect = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.send(connect).await.unwrap();
    assert_eq!(soon(client.read_head()).await.unwrap().status, 200);
    let get = Request::get("/bytes/300000").host(&host);
    assert_eq!(soon(client.request(&get)).await.unwrap().body.seen, 300_000);
    drop(client);
    assert!(running.recorder.only_flow().await.started.kind == traffic::FlowKind::Tunnel);
}

#[tokio::test]
async fn a_place_that_is_taken_is_named() {
    let (_folder, path) = place();
    let listening = |listeners: Vec<Listener>| async {
        let mut config = config();
        config.listeners = listeners;
        Proxy::bind(config, None).await
    };
    let first = listening(vec![any_port(), unix(&path)]).await.unwrap();
    let taken = ListenAddress::Unix(path.clone());
    match listening(vec![any_port(), unix(&path)]).await.unwrap_err() {
        BindError::Listen { address, source } => {
            assert_eq!(address, taken);
            assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
        }
        other => panic!("{other}"),
    }
    drop(first);
    listening(vec![unix(&path)]).await.unwrap();
    let none = listening(Vec::new()).await.unwrap_err();
    assert!(matches!(none, BindError::NoListener), "{none}");
}
