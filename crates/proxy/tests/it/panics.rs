//! What becomes of a connection when a callback of the handler panics.

use bytes::Bytes;
use testbed::client::Client;
use testbed::upstream::Protocols;

use crate::embedded::Embedded;
use crate::running::{NAME, http, https};
use crate::soon;
use crate::told::{Does, Told, get, greet_by_websocket, stop};

/// The stream of events that stands still after its first.
const STILL: &str = "/sse?events=2&delay_ms=600000";

/// Has the callback called on this connection, and waits until the connection has ended.
pub(crate) async fn run_into(callback: &str, client: &mut Client) {
    let path = match callback {
        "chunk" => STILL,
        "end" => "/sse?events=1&delay_ms=0",
        _ => "/bytes/5",
    };
    // It may be gone before it is asked.
    let _sent = client.send(get(path).to_bytes()).await;
    let _ended = soon(client.read_to_end()).await;
}

#[tokio::test]
async fn a_panic_that_is_not_to_stay_in_its_callback_ends_its_connection_and_no_other() {
    let upstream = http().await;
    for callback in ["open", "response", "chunk", "end", "websocket"] {
        let told = Told::default();
        let proxy = Embedded::start(told.clone(), |config| {
            config.handler.recover_from_panics = false;
        })
        .await;
        let mut other = proxy.through(&upstream).await;
        soon(other.request(&get("/"))).await.unwrap();
        told.reached("response", 1).await;
        *told.fails.lock() = (callback, Does::Panics);
        match callback {
            "open" => {
                let mut client = proxy.connect().await;
                run_into(callback, &mut client).await;
            }
            "websocket" => {
                let client = proxy.through(&upstream).await;
                let socket = client.start_websocket("/websocket", &[("Host", NAME)]);
                // The answer may have been on its way.
                if let Ok(mut socket) = soon(socket).await {
                    let ended = soon(socket.read()).await;
                    assert!(matches!(ended, Err(_) | Ok(None)), "{ended:?}");
                }
            }
            _ => {
                let mut client = proxy.through(&upstream).await;
                run_into(callback, &mut client).await;
            }
        }
        told.reached("close", 1).await;
        told.recovers();
        // The other one notices nothing.
        assert_eq!(
            soon(other.request(&get("/"))).await.unwrap().head.status,
            200
        );
        stop(&proxy).await;
        told.check();
        let metrics = proxy.handle.metrics();
        assert_eq!(metrics.handler_panic_count, 1, "{callback}");
        assert_eq!(metrics.active_connections, 0, "{callback}");
    }
}

#[tokio::test]
async fn such_a_panic_on_a_stream_ends_the_connection_that_carries_it() {
    let (upstream, told) = (https(Protocols::Both).await, Told::default());
    let proxy = Embedded::start(told.clone(), |config| {
        config.handler.recover_from_panics = false;
    })
    .await;
    let client = proxy.through_tls(&upstream, &["h2"]).await;
    let client = client.start_http2().await.unwrap();
    let url = |path: &str| format!("https://{NAME}{path}");
    let still = http::Request::get(url(STILL)).body(()).unwrap();
    let still = client.open(still, true).await.unwrap();
    told.reached("chunk", 1).await;
    *told.fails.lock() = ("response", Does::Panics);
    let request = http::Request::get(url("/bytes/5")).body(Bytes::new());
    let _answered = soon(client.request(request.unwrap())).await;
    let broken = soon(still.read_response()).await;
    assert!(broken.and_then(testbed::client::Response::whole).is_err());
    // The connection and its two streams.
    told.reached("close", 3).await;
    told.recovers();
    stop(&proxy).await;
    told.check();
}

#[tokio::test]
async fn a_panic_that_stays_in_its_callback_ends_nothing() {
    let upstream = http().await;
    for (callback, panics) in [
        ("open", 2),
        ("response", 3),
        ("chunk", 4),
        ("end", 2),
        ("websocket", 1),
        ("close", 2),
    ] {
        let told = Told::failing(callback, Does::Panics);
        let proxy = Embedded::start(told.clone(), |_| ()).await;
        let mut client = proxy.through(&upstream).await;
        for path in ["/bytes/5", "/sse?events=2&delay_ms=0", "/bytes/5"] {
            let response = soon(client.request(&get(path))).await.unwrap();
            assert_eq!(response.head.status, 200, "{callback} {path}");
        }
        drop(client);
        let client = proxy.through(&upstream).await;
        greet_by_websocket(client).await;
        stop(&proxy).await;
        told.check();
        let metrics = proxy.handle.metrics();
        assert_eq!(metrics.handler_panic_count, panics, "{callback}");
    }
}

#[tokio::test]
async fn panics_in_a_close_or_about_a_handshake_are_caught_or_end_the_connection() {
    let upstream = https(Protocols::Http1).await;
    for recovers in [true, false] {
        for callback in ["close", "tls"] {
            let told = Told::failing(callback, Does::Panics);
            let proxy = Embedded::start(told.clone(), |config| {
                config.handler.recover_from_panics = recovers;
                config.upstream.verify_upstream_tls = true;
            })
            .await;
            let mut client = proxy.through_tls(&upstream, &["http/1.1"]).await;
            let refused = soon(client.request(&get("/"))).await.unwrap();
            assert_eq!(refused.head.status, 502);
            let goes_on = recovers || callback == "close";
            let next = soon(client.request(&get("/"))).await;
            assert_eq!(next.is_ok(), goes_on, "{recovers} {callback}");
            drop(client);
            told.reached("close", 1).await;
            stop(&proxy).await;
            let calls = told.calls.lock().clone();
            let of_ids = calls.iter().filter(|(id, _)| !id.is_nil());
            let of_ids: Vec<&str> = of_ids.map(|(_, call)| *call).collect();
            let requests = if goes_on { 2 } else { 1 };
            let expected = [&["open"][..], &["request"; 2][..requests], &["close"]].concat();
            assert_eq!(of_ids, expected);
            let panics = if callback == "tls" { requests } else { 1 };
            assert_eq!(proxy.handle.metrics().handler_panic_count, panics as u64);
        }
    }
}
