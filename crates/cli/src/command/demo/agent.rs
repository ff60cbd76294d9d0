//! A small agent: it asks two vendors' APIs, calls a tool, and forgets its key once.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use testbed::authority::client_config;
use testbed::client::{Client, Request};

/// The key that the agent sends. It is masked before anything is stored.
const KEY: &str = "sk-demo-not-a-real-key";

/// Who the agent is and whom it talks to.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) proxy: SocketAddr,
    pub(crate) upstream: SocketAddr,
    pub(crate) host: &'static str,
    pub(crate) roots: Vec<CertificateDer<'static>>,
}

/// One thing the agent does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) about: &'static str,
    speaks: Speaks,
    path: &'static str,
    vendor: Vendor,
    /// The body; a GET has none.
    body: Option<fn() -> Value>,
    status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
    /// HTTP/1.1 to an address, which oriel does not open.
    Http1Unopened,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vendor {
    Anthropic,
    OpenAi,
    /// Without a key.
    Nobody,
}

/// The conversation.
pub(crate) const STEPS: &[Step] = &[
    Step {
        about: "Anthropic, HTTP/2, streamed: the agent asks, the model calls a tool",
        speaks: Speaks::Http2,
        path: "/v1/messages",
        vendor: Vendor::Anthropic,
        body: Some(question),
        status: 200,
    },
    Step {
        about: "Anthropic, HTTP/2, streamed: the tool's result goes back, the model answers",
        speaks: Speaks::Http2,
        path: "/v1/messages",
        vendor: Vendor::Anthropic,
        body: Some(tool_result),
        status: 200,
    },
    Step {
        about: "OpenAI, HTTP/1.1: the list of models",
        speaks: Speaks::Http1,
        path: "/v1/models",
        vendor: Vendor::OpenAi,
        body: None,
        status: 200,
    },
    Step {
        about: "OpenAI, HTTP/1.1, whole: a chat completion",
        speaks: Speaks::Http1,
        path: "/v1/chat/completions",
        vendor: Vendor::OpenAi,
        body: Some(chat),
        status: 200,
    },
    Step {
        about: "OpenAI, HTTP/1.1, streamed: a response",
        speaks: Speaks::Http1,
        path: "/v1/responses",
        vendor: Vendor::OpenAi,
        body: Some(response),
        status: 200,
    },
    Step {
        about: "OpenAI, HTTP/1.1: the key was forgotten, the API says 401",
        speaks: Speaks::Http1,
        path: "/v1/chat/completions",
        vendor: Vendor::Nobody,
        body: Some(chat),
        status: 401,
    },
    Step {
        about: "a connection that is not opened passes as a tunnel",
        speaks: Speaks::Http1Unopened,
        path: "/v1/models",
        vendor: Vendor::OpenAi,
        body: None,
        status: 200,
    },
];

impl Agent {
    /// Sends the request of a step and checks that the answer is the expected one.
    pub(crate) async fn take(&self, step: &Step) -> io::Result<()> {
        let status = match step.speaks {
            Speaks::Http1 => self.ask_http1(step, self.host).await?,
            Speaks::Http2 => self.ask_http2(step).await?,
            Speaks::Http1Unopened => {
                self.ask_http1(step, &self.upstream.ip().to_string())
                    .await?
            }
        };
        match status == step.status {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "{} was answered with {status}, not {}",
                step.path, step.status
            ))),
        }
    }

    async fn ask_http1(&self, step: &Step, host: &str) -> io::Result<u16> {
        let mut client = self.connect(host, "http/1.1").await?;
        let authority = format!("{host}:{}", self.upstream.port());
        let body = step.body_bytes();
        let mut request = match step.body {
            Some(_) => Request::post(step.path, body),
            None => Request::get(step.path),
        }
        .host(&authority);
        for (name, value) in step.fields() {
            request = request.header(name, &value);
        }
        Ok(client.request(&request).await?.whole()?.head.status)
    }

    async fn ask_http2(&self, step: &Step) -> io::Result<u16> {
        let client = self.connect(self.host, "h2").await?.start_http2().await?;
        let port = self.upstream.port();
        let mut request = http::Request::builder()
            .method(if step.body.is_some() { "POST" } else { "GET" })
            .uri(format!("https://{}:{port}{}", self.host, step.path));
        for (name, value) in step.fields() {
            request = request.header(name, value);
        }
        let request = request.body(step.body_bytes()).map_err(io::Error::other)?;
        Ok(client.request(request).await?.head.status)
    }

    /// A connection through oriel, with TLS on it.
    async fn connect(&self, host: &str, alpn: &str) -> io::Result<Client> {
        let authority = format!("{host}:{}", self.upstream.port());
        let mut client = Client::connect_through(self.proxy, &authority).await?;
        let config = client_config(&self.roots, &[alpn]);
        client.start_tls(host, config).await?;
        Ok(client)
    }
}

impl Step {
    fn body_bytes(&self) -> Bytes {
        self.body
            .map(|body| body().to_string().into())
            .unwrap_or_default()
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("user-agent", "oriel-demo-agent/1".to_owned())];
        if self.body.is_some() {
            fields.push(("content-type", "application/json".to_owned()));
        }
        match self.vendor {
            Vendor::Anthropic => {
                fields.push(("x-api-key", KEY.to_owned()));
                fields.push(("anthropic-version", "2023-06-01".to_owned()));
            }
            Vendor::OpenAi => fields.push(("authorization", format!("Bearer {KEY}"))),
            Vendor::Nobody => {}
        }
        fields
    }
}

fn tools() -> Value {
    json!([{
        "name": "run_tests",
        "description": "Runs the tests and returns what they print.",
        "input_schema": {"type": "object", "properties": {"filter": {"type": "string"}}},
    }])
}

fn question() -> Value {
    json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 1024,
        "stream": true,
        "system": "You are a careful engineer.",
        "tools": tools(),
        "messages": [{"role": "user", "content": "Is the build green?"}],
    })
}

fn tool_result() -> Value {
    json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 1024,
        "stream": true,
        "system": "You are a careful engineer.",
        "tools": tools(),
        "messages": [
            {"role": "user", "content": "Is the build green?"},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "toolu_demo", "name": "run_tests", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_demo", "content": "42 passed"},
            ]},
        ],
    })
}

fn chat() -> Value {
    json!({
        "model": "gpt-5-mini",
        "messages": [{"role": "user", "content": "Say it in one sentence."}],
    })
}

fn response() -> Value {
    json!({
        "model": "gpt-5-mini",
        "stream": true,
        "input": "And what was the slowest test?",
    })
}
