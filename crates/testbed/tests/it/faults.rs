//! Bad network between client and upstream.

use std::io;
use std::time::Duration;

use oriel_testbed::client::{Client, Request, Response};
use oriel_testbed::faults::{BadNetwork, BreakAt, Fault, Faults};

use crate::{NAME, start_http};

async fn download(to_client: Fault) -> io::Result<Response> {
    let (upstream, _direct) = start_http().await;
    let faults = Faults {
        to_client,
        ..Faults::default()
    };
    let network = BadNetwork::start(upstream.address(), faults).await?;
    let mut client = Client::connect(network.address()).await?;
    let request = Request::get("/bytes/100000")
        .host(NAME)
        .header("Connection", "close");
    client.send(request.to_bytes()).await?;
    client.read_response("GET").await
}

#[tokio::test]
async fn no_fault_passes_everything() {
    let response = download(Fault::default()).await.unwrap();
    assert_eq!((response.body.seen, response.body.broken), (100_000, None));
}

#[tokio::test]
async fn cut_and_reset_break_the_body_where_they_should() {
    for (break_at, kind) in [
        (BreakAt::Cut(5000), io::ErrorKind::UnexpectedEof),
        (BreakAt::Reset(5000), io::ErrorKind::ConnectionReset),
    ] {
        let fault = Fault {
            break_at: Some(break_at),
            ..Fault::default()
        };
        let Ok(response) = download(fault).await else {
            // A reset may overtake the bytes before it.
            assert_eq!(break_at, BreakAt::Reset(5000));
            continue;
        };
        assert_eq!(response.body.broken, Some(kind));
        assert!(response.body.seen < 5000);
    }
}

#[tokio::test]
async fn a_stall_neither_sends_nor_closes() {
    let fault = Fault {
        break_at: Some(BreakAt::Stall(5000)),
        ..Fault::default()
    };
    let waited = tokio::time::timeout(Duration::from_millis(50), download(fault)).await;
    assert!(waited.is_err());
}

#[tokio::test]
async fn delay_and_throttle_take_their_time() {
    let delay = Fault {
        delay: Duration::from_millis(30),
        ..Fault::default()
    };
    assert!(download(delay).await.unwrap().timing.head >= Duration::from_millis(25));
    let throttle = Fault {
        bytes_per_second: Some(1_000_000),
        ..Fault::default()
    };
    assert!(download(throttle).await.unwrap().timing.complete >= Duration::from_millis(80));
}
