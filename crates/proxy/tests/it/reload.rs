//! Another configuration while the engine runs: what begins afterwards follows it, what is under
//! way keeps the one it began with.

use oriel_proxy::{Listener, ReloadError};
use testbed::client::Request;
use testbed::gate::Gate;
use traffic::rules::route::Unlisted;

use crate::running::{NAME, Running, http, in_halves, rules, scripted};
use crate::soon;

#[tokio::test]
async fn what_begins_follows_the_new_rules_and_what_runs_finishes() {
    let (half, rest) = (Gate::new(), Gate::new());
    let (slow, plain) = (
        scripted(false, vec![in_halves(&half, &rest)]).await,
        http().await,
    );
    let running = Running::start().await;
    let mut under_way = running.through(&slow).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    under_way.send(request).await.unwrap();
    soon(half.wait()).await;
    let mut idle = running.through(&plain).await;
    let get = Request::get("/").host(NAME);
    soon(idle.request(&get)).await.unwrap();

    let mut config = running.config.clone();
    config.rules = rules(&[], &[], Unlisted::Block);
    running.control.reload(config).unwrap();

    // An idle connection ends, so that its next request is asked for anew.
    assert_eq!(soon(idle.read_to_end()).await.unwrap(), "");
    let mut refused = running.connect().await;
    let target = crate::running::authority_of(&plain);
    refused
        .send(format!("CONNECT {target} HTTP/1.1\r\n\r\n"))
        .await
        .unwrap();
    let answer = soon(refused.read_response("CONNECT")).await.unwrap();
    assert_eq!(answer.head.status, 403);
    rest.open();
    let answer = soon(under_way.read_response("GET")).await.unwrap();
    assert_eq!(answer.body.kept, "half");
    assert_eq!(soon(under_way.read_to_end()).await.unwrap(), "");
    let (drained, _) = running.stop().await;
    assert_eq!(drained.connections_cut, 0);
}

#[tokio::test]
async fn what_cannot_change_is_named_and_nothing_changes() {
    let plain = http().await;
    let running = Running::start().await;
    let mut config = running.config.clone();
    let elsewhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    config.listeners = vec![Listener::forward(elsewhere)];
    config.own_addresses = vec![elsewhere];
    config.rules = rules(&[], &[], Unlisted::Block);
    let error = running.control.reload(config).unwrap_err();
    assert!(
        matches!(&error, ReloadError::Fixed { names } if names == &["listeners", "own_addresses"]),
        "{error}"
    );
    let mut client = running.through(&plain).await;
    let get = Request::get("/").host(NAME);
    assert_eq!(soon(client.request(&get)).await.unwrap().head.status, 200);
}
