//! Who is at the client's end of a connection.

use testbed::client::Request;
use traffic::{AttributionError, ProcessAnswer};

use crate::running::{NAME, Running, http};
use crate::soon;

/// The answer about the client of a flow, once it is there.
async fn process_of(running: &Running) -> ProcessAnswer {
    let flow = running.recorder.only_flow().await;
    let cell = flow.started.connection.process.clone().unwrap();
    soon(async {
        loop {
            match cell.get() {
                Some(answer) => return answer.clone(),
                None => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_process_of_a_client_is_found_beside_its_traffic() {
    let upstream = http().await;
    let running = Running::with(|config| config.attribution = true).await;
    let mut client = running.through(&upstream).await;
    let request = Request::get("/").host(NAME);
    soon(client.request(&request)).await.unwrap();
    let found = process_of(&running).await;
    if cfg!(target_os = "linux") {
        assert_eq!(found.unwrap().pid, std::process::id());
    } else {
        assert_eq!(found.unwrap_err(), AttributionError::Unsupported);
    }
}

#[tokio::test]
async fn nobody_looks_where_it_is_off() {
    let (upstream, running) = (http().await, Running::start().await);
    let mut client = running.through(&upstream).await;
    soon(client.request(&Request::get("/").host(NAME)))
        .await
        .unwrap();
    let flow = running.recorder.only_flow().await;
    assert!(flow.started.connection.process.is_none());
}
