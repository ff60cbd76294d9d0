//! Who is at the client's end of a connection.

use std::sync::Arc;

use oriel_proxy::handler::{
    HandlerDecision, InterceptHandler, Interests, ProcessInfo, RawRequest, RawResponse,
};
use parking_lot::Mutex;
use testbed::client::Request;
use testbed::upstream::Protocols;
use traffic::{AttributionError, ProcessAnswer};

use crate::running::{NAME, Running, http, https};
use crate::soon;

/// Notes the process of each callback that names one.
#[derive(Clone, Debug, Default)]
struct Asks(Arc<Mutex<Vec<Asked>>>);

/// The callback, and the process it was told.
type Asked = (&'static str, Option<u32>);

impl Asks {
    fn note(&self, callback: &'static str, process: Option<&ProcessInfo>) {
        let pid = process.map(|process| process.pid);
        self.0.lock().push((callback, pid));
    }
}

impl InterceptHandler for Asks {
    fn interests(&self) -> Interests {
        Interests {
            response_bodies: false,
            stream_chunks: false,
            ..Interests::ALL
        }
    }

    fn should_intercept_tls(&self, _host: &str, process: Option<&ProcessInfo>) -> bool {
        self.note("should_intercept_tls", process);
        true
    }

    async fn on_request(&self, request: &RawRequest) -> HandlerDecision {
        if let Some(process) = &request.connection_meta.process_info {
            let arguments: Vec<String> = std::env::args().collect();
            assert_eq!(process.command_line, arguments);
            let parent = process.ancestors.first().map(|ancestor| ancestor.pid);
            assert_eq!(parent, process.parent_pid);
            assert_eq!(process.uid, Some(rustix::process::getuid().as_raw()));
        }
        self.note("on_request", request.connection_meta.process_info.as_ref());
        HandlerDecision::Allow
    }

    async fn on_response(&self, response: &RawResponse) {
        self.note(
            "on_response",
            response.connection_meta.process_info.as_ref(),
        );
    }
}

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
    let running =
        Running::with(|config| config.attribution = Some(oriel_proxy::limits::PROCESS_LOOKUP))
            .await;
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

#[tokio::test]
async fn a_handler_is_asked_with_the_process() {
    let own = cfg!(target_os = "linux").then(std::process::id);
    for http2 in [false, true] {
        let upstream = https(Protocols::Both).await;
        let asks = Asks::default();
        let attribution = |config: &mut oriel_proxy::ProxyConfig| {
            config.attribution = Some(oriel_proxy::limits::PROCESS_LOOKUP);
        };
        let running = Running::with_handler(asks.clone(), attribution).await;
        if http2 {
            let client = running.through_tls(&upstream, &["h2"]).await;
            let client = client.start_http2().await.unwrap();
            let request = http::Request::get(format!("https://{NAME}/"));
            let request = request.body(bytes::Bytes::new()).unwrap();
            soon(client.request(request)).await.unwrap();
        } else {
            let mut client = running.through_tls(&upstream, &["http/1.1"]).await;
            let request = Request::get("/").host(NAME);
            soon(client.request(&request)).await.unwrap();
        }
        let (_drained, _recorder) = running.stop().await;
        let expected = ["should_intercept_tls", "on_request", "on_response"];
        assert_eq!(*asks.0.lock(), expected.map(|callback| (callback, own)));
    }
}
