//! The builder with all its analyzers, from a client's bytes to the lines of the log.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use oriel_proxy::analysis::{
    AnalysisCounts, AnalysisMsg, Analyzer, ChunkMerger, FileLogger, HttpParser, MitmProxyRunner,
    Next, RunError,
};
use oriel_proxy::{Drained, UpstreamTrust};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::authority::client_config;
use testbed::client::{Client, Request, Response};
use testbed::gate::Gate;
use testbed::upstream::{Protocols, Upstream};
use tokio::task::JoinSet;

use crate::running::{NAME, authority_of, https, upstream_authority};
use crate::soon;

/// What no line may hold.
const SECRET: &str = "sk-CANARY";

/// A runner with the usual three analyzers, and what it logged.
struct Station {
    folder: TempDir,
    address: std::net::SocketAddr,
    authority: rustls::pki_types::CertificateDer<'static>,
    counts: Arc<AnalysisCounts>,
    stop: Gate,
    serving: JoinSet<Drained>,
}

impl Station {
    async fn start(allowlist: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let logger = FileLogger::new(folder.path().join("traffic.log"))
            .rotate_at(16 * 1024)
            .keep_files(1000)
            .compress(true);
        let runner = MitmProxyRunner::builder()
            .listen_addr("127.0.0.1:0")
            .allowlist(allowlist.iter().copied())
            .ca_cert_path(folder.path().join("mitm-ca.crt"))
            .connect_ports(oriel_proxy::ConnectPorts::Any)
            .upstream_trust(UpstreamTrust {
                system_roots: false,
                extra_roots: vec![upstream_authority().certificate()],
                danger_accept_invalid: Vec::new(),
            })
            .add_analyzer(HttpParser::new())
            .add_analyzer(ChunkMerger::new())
            .add_analyzer(logger)
            .build();
        let bound = runner.bind().await.unwrap();
        let (stop, mut serving) = (Gate::new(), JoinSet::new());
        let (address, counts) = (bound.local_address(), bound.counts());
        let authority = bound.authority().certificate_der().clone();
        let asked = stop.clone();
        serving.spawn(async move { bound.run_until(async move { asked.wait().await }).await });
        Self {
            folder,
            address,
            authority,
            counts,
            stop,
            serving,
        }
    }

    async fn client(&self, upstream: &Upstream, alpn: &str) -> Client {
        let authority = authority_of(upstream);
        let mut client = soon(Client::connect_through(self.address, &authority))
            .await
            .unwrap();
        let config = client_config(std::slice::from_ref(&self.authority), &[alpn]);
        soon(client.start_tls(NAME, config)).await.unwrap();
        client
    }

    /// Stops the runner, and gives the lines it has written, the oldest first.
    async fn lines(mut self) -> Vec<Value> {
        self.stop.open();
        soon(self.serving.join_next()).await.unwrap().unwrap();
        let counts = [
            &self.counts.flows_lost,
            &self.counts.events_lost,
            &self.counts.panics,
            &self.counts.errors,
        ];
        assert_eq!(counts.map(|count| count.load(Ordering::Relaxed)), [0; 4]);
        let path = |number: usize| {
            let name = format!("traffic.log.{number}.gz");
            self.folder.path().join(name)
        };
        let rotated = (1..).map(path).take_while(|path| path.exists());
        let rotated: Vec<_> = rotated.collect();
        let mut text = String::new();
        for path in rotated.iter().rev() {
            text.push_str(&zcat(path));
        }
        text.push_str(&std::fs::read_to_string(self.folder.path().join("traffic.log")).unwrap());
        assert!(!text.contains(SECRET), "a credential was logged: {text}");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn zcat(path: &Path) -> String {
    let read = Command::new("zcat").arg(path).output().unwrap();
    assert!(read.status.success(), "{read:?}");
    String::from_utf8(read.stdout).unwrap()
}

/// The lines of each flow, in order.
fn by_flow(lines: Vec<Value>) -> Vec<Vec<Value>> {
    let mut flows: Vec<Vec<Value>> = Vec::new();
    for line in lines {
        let of =
            |flow: &&mut Vec<Value>| flow.first().is_some_and(|first| first["id"] == line["id"]);
        match flows.iter_mut().find(of) {
            Some(flow) => flow.push(line),
            None => flows.push(vec![line]),
        }
    }
    flows
}

fn sources(flow: &[Value]) -> Vec<&str> {
    flow.iter()
        .filter_map(|line| line["source"].as_str())
        .collect()
}

fn data<'f>(flow: &'f [Value], source: &str) -> &'f Value {
    let line = flow.iter().find(|line| line["source"] == source);
    &line.expect("the flow has a line of this source")["data"]
}

/// A chat in which the model calls the tool of this name.
fn chat(tool: &str, stream: bool) -> Request {
    let body = json!({
        "model": tool,
        "stream": stream,
        "stream_options": { "include_usage": true },
        "messages": [{ "role": "user", "content": "go" }],
        "tools": [{ "type": "function", "function": { "name": tool } }],
    });
    Request::post("/v1/chat/completions?key=sk-CANARY", body.to_string())
        .host(NAME)
        .header("Authorization", &format!("Bearer {SECRET}"))
        .header("Content-Type", "application/json")
}

/// The same over HTTP/2.
async fn chat_http2(client: &testbed::client::Http2Client, tool: &str, stream: bool) -> Response {
    let request = chat(tool, stream);
    let uri = format!("https://{NAME}{}", request.target);
    let mut http2 = http::Request::post(uri);
    for (name, value) in request.headers.0.iter().skip(1) {
        http2 = http2.header(name.as_str(), value.as_str());
    }
    client
        .request(http2.body(request.body).unwrap())
        .await
        .unwrap()
}

/// What the log has to say of a chat with this tool.
fn check_chat(flow: &[Value], tool: &str, streams: bool) {
    let mut expected = vec!["request", "http_parser"];
    if streams {
        expected.push("chunk_merger");
    }
    expected.extend(["http_parser", "response_done"]);
    assert_eq!(sources(flow), expected);
    let request = data(flow, "request");
    assert_eq!(request["tenant"], format!("mitm-{NAME}"));
    assert_eq!(request["endpoint"], "/v1/chat/completions");
    assert_eq!(
        (&request["model"], &request["stream"]),
        (&json!(tool), &json!(streams))
    );
    let done = data(flow, "response_done");
    assert_eq!(
        (&done["status"], &done["incomplete"]),
        (&json!(200), &Value::Null)
    );
    assert!(done["usage"]["total_tokens"].is_u64(), "{done}");
    let asked: Value =
        serde_json::from_str(data(flow, "http_parser")["body"].as_str().unwrap()).unwrap();
    assert_eq!(asked["tools"][0]["function"]["name"], tool);
    let call = match streams {
        true => data(flow, "chunk_merger")["tool_calls"][0].clone(),
        false => {
            let body = flow[2]["data"]["body"].as_str().unwrap();
            let body: Value = serde_json::from_str(body).unwrap();
            body["choices"][0]["message"]["tool_calls"][0]["function"].clone()
        }
    };
    assert_eq!(call["name"], tool);
    assert_eq!(call["arguments"], r#"{"command":"cargo test"}"#);
    if streams {
        let merged = data(flow, "chunk_merger");
        assert_eq!(
            (&merged["format"], &merged["incomplete"]),
            (&json!("openai_chat"), &json!(false))
        );
        assert_eq!(merged["event_count"], done["chunks"]);
    }
}

#[tokio::test]
async fn flows_side_by_side_are_told_apart() {
    let upstream = https(Protocols::Both).await;
    let station = Station::start(&["LOCALHOST"]).await;
    let mut direct = Client::connect(upstream.address()).await.unwrap();
    let config = upstream_authority().client_config(&["http/1.1"]);
    direct.start_tls(NAME, config).await.unwrap();

    // On connections of HTTP/1.1, and as streams of one connection of HTTP/2.
    let mut responses = JoinSet::new();
    for number in 0..8 {
        let mut client = station.client(&upstream, "http/1.1").await;
        let (tool, stream) = (format!("one-{number}"), number % 2 == 0);
        responses.spawn(async move {
            let response = client.request(&chat(&tool, stream)).await.unwrap();
            (tool, stream, response)
        });
    }
    let http2 = station.client(&upstream, "h2").await;
    let http2 = Arc::new(http2.start_http2().await.unwrap());
    for number in 0..8 {
        let (tool, stream) = (format!("two-{number}"), number % 2 == 0);
        let client = Arc::clone(&http2);
        responses.spawn(async move {
            let response = chat_http2(&client, &tool, stream).await;
            (tool, stream, response)
        });
    }
    let responses = soon(responses.join_all()).await;
    drop(http2);
    let flows = by_flow(station.lines().await);
    assert_eq!(flows.len(), 16);
    for (tool, stream, response) in responses {
        assert_eq!(response.head.status, 200);
        let untouched = soon(direct.request(&chat(&tool, stream))).await.unwrap();
        assert_eq!(
            response.body.kept, untouched.body.kept,
            "the bytes of {tool}"
        );
        let is_of = |flow: &&Vec<Value>| data(flow, "request")["model"] == *tool;
        let flow = flows.iter().find(is_of).unwrap();
        check_chat(flow, &tool, stream);
    }
}

#[tokio::test]
async fn a_coded_body_is_read_and_passes_as_it_came() {
    let upstream = https(Protocols::Http1).await;
    let station = Station::start(&["localhost"]).await;
    let mut client = station.client(&upstream, "http/1.1").await;
    let mut wire = Vec::new();
    for path in ["/gzip", "/sse?events=3&coding=gzip"] {
        let response = soon(client.request(&Request::get(path).host(NAME)))
            .await
            .unwrap();
        wire.push(response.body.kept);
    }
    drop(client);
    let flows = by_flow(station.lines().await);
    let [whole, streamed] = &flows[..] else {
        panic!("two flows: {flows:#?}");
    };
    let response = &whole[2]["data"];
    assert_eq!(response["body_size"], wire[0].len());
    assert!(
        wire[0].starts_with(&[0x1f, 0x8b]),
        "gzip went over the wire"
    );
    let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["encoding"], "gzip");
    let headers = response["headers"].as_array().unwrap();
    assert!(
        headers.contains(&json!(["content-encoding", "gzip"])),
        "{headers:?}"
    );

    let merged = data(streamed, "chunk_merger");
    assert_eq!(
        merged["merged_content"],
        r#"{"index":0}{"index":1}{"index":2}"#
    );
    assert_eq!(merged["event_count"], 3);
}

#[tokio::test]
async fn what_is_not_on_the_allowlist_passes_unopened_and_untold() {
    let upstream = https(Protocols::Http1).await;
    let station = Station::start(&["api.openai.com", ""]).await;
    let mut client = soon(Client::connect_through(
        station.address,
        &authority_of(&upstream),
    ))
    .await
    .unwrap();
    // The certificate is the upstream's own.
    let config = upstream_authority().client_config(&["http/1.1"]);
    soon(client.start_tls(NAME, config)).await.unwrap();
    let response = soon(client.request(&Request::get("/").host(NAME)))
        .await
        .unwrap();
    assert_eq!(response.head.status, 200);

    drop(client);

    // A request in clear shows that the log works.
    let clear = crate::running::http().await;
    let mut client = Client::connect(station.address).await.unwrap();
    let url = format!("http://{}/clear", authority_of(&clear));
    soon(client.request(&Request::get(&url).host(&authority_of(&clear))))
        .await
        .unwrap();
    drop(client);
    let flows = by_flow(station.lines().await);
    assert_eq!(flows.len(), 1, "{flows:#?}");
    assert_eq!(data(&flows[0], "request")["endpoint"], "/clear");
}

/// Never comes back.
struct Stuck(std::sync::mpsc::Receiver<()>);

impl Analyzer for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }

    fn analyze(&mut self, _message: AnalysisMsg, _next: &mut Next) {
        let _until_the_test_ends = self.0.recv();
    }
}

#[tokio::test]
async fn an_analyzer_that_is_stuck_is_not_noticed_on_the_wire() {
    let upstream = https(Protocols::Http1).await;
    let folder = TempDir::new().unwrap();
    let (hold, held) = std::sync::mpsc::channel();
    let bound = MitmProxyRunner::builder()
        .listen_addr("127.0.0.1:0")
        .allowlist(["localhost"])
        .ca_cert_path(folder.path().join("ca.crt"))
        .connect_ports(oriel_proxy::ConnectPorts::Any)
        .upstream_trust(UpstreamTrust {
            system_roots: false,
            extra_roots: vec![upstream_authority().certificate()],
            danger_accept_invalid: Vec::new(),
        })
        .add_analyzer(Stuck(held))
        .build()
        .bind()
        .await
        .unwrap();
    let (address, counts) = (bound.local_address(), bound.counts());
    let trust = client_config(
        &[bound.authority().certificate_der().clone()],
        &["http/1.1"],
    );
    let mut serving = JoinSet::new();
    serving.spawn(bound.run_until(std::future::pending()));
    let mut client = Client::connect_through(address, &authority_of(&upstream))
        .await
        .unwrap();
    client.start_tls(NAME, trust).await.unwrap();
    // More than the queue holds.
    let size = 4 * 1024 * 1024;
    for _ in 0..20 {
        let body = Bytes::from(vec![b'x'; size]);
        let request = Request::post("/upload", body).host(NAME);
        let response = soon(client.request(&request)).await.unwrap();
        assert_eq!(response.text(), format!("{{\"received\":{size}}}"));
    }
    let lost =
        counts.events_lost.load(Ordering::Relaxed) + counts.flows_lost.load(Ordering::Relaxed);
    assert!(lost > 0, "more was sent than is queued");
    drop(hold);
}

#[tokio::test]
async fn a_setting_that_is_wrong_is_named() {
    let folder = TempDir::new().unwrap();
    let runner = || MitmProxyRunner::builder().ca_cert_path(folder.path().join("ca.crt"));
    let error = runner()
        .listen_addr("here")
        .build()
        .run()
        .await
        .unwrap_err();
    assert!(matches!(error, RunError::ListenAddr { .. }), "{error}");
    let error = runner().allowlist(["a b"]).build().run().await.unwrap_err();
    assert!(matches!(error, RunError::Allowlist(_)), "{error}");
    let error = MitmProxyRunner::builder().build().run().await.unwrap_err();
    assert!(matches!(error, RunError::NoCaCertPath), "{error}");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing was written"
    );
}
