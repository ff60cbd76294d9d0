//! Tables of requests, and what they are.

use std::io::Write as _;

use bytes::Bytes;
use proptest::prelude::*;
use traffic::{Head, Host, Version};

use super::*;
use crate::{Confidence, Method};

/// A request for tests; what is not set is that of a call by JSON.
struct Case<'a> {
    kind: FlowKind,
    method: &'a str,
    url: &'a str,
    fields: &'a str,
    content_type: Option<&'a str>,
    body: &'a [u8],
}

const POST: Case<'static> = Case {
    kind: FlowKind::Http,
    method: "POST",
    url: "https://example.com/",
    fields: "",
    content_type: Some("application/json"),
    body: b"",
};

impl Case<'_> {
    fn meaning_by(&self, interpreter: &Interpreter, pieces: &[Bytes]) -> Meaning {
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let port = if scheme == "http" { 80 } else { 443 };
        let target = Target::parse(authority, port).unwrap();
        let path = path.split('?').next().unwrap();
        let text = format!("{} {path} HTTP/1.1\r\n{}\r\n", self.method, self.fields);
        let head = Head {
            version: Version::Http11,
            text: text.into(),
        };
        interpreter.interpret(
            interpreter.host_class(&target),
            &Request {
                kind: self.kind,
                method: self.method,
                path,
                content_type: self.content_type,
                head: &head,
                glance: Glance::of(&head),
                body: Body { pieces, cut: false },
            },
        )
    }

    fn meaning(&self) -> Meaning {
        let body = Bytes::copy_from_slice(self.body);
        self.meaning_by(&Interpreter::default(), &[body])
    }

    fn identity(&self) -> Option<Identity> {
        self.meaning().identity
    }
}

/// A request to Anthropic with these fields and this body.
fn asked(fields: &str, body: &[u8]) -> Option<Identity> {
    Case {
        url: "https://api.anthropic.com/v1/messages",
        fields,
        body,
        ..POST
    }
    .identity()
}

fn session(fields: &str, body: &[u8]) -> Option<String> {
    asked(fields, body).map(|identity| identity.session)
}

#[test]
fn hosts_and_paths_tell_kinds_of_traffic() {
    use TrafficType::{Llm, Mcp, Other, Web};
    for (url, expected) in [
        ("https://api.anthropic.com/v1/messages", Llm),
        ("https://api.anthropic.com/api/event_logging/v2/batch", Llm),
        ("https://api.openai.com/v1/files", Llm),
        ("https://eu.api.openai.com/v1/files", Llm),
        ("https://api.openai.com./v1/files", Llm),
        ("https://API.OpenAI.com/", Llm),
        ("https://generativelanguage.googleapis.com/", Llm),
        ("https://api.cohere.ai/v1/chat", Llm),
        (
            "https://bedrock-runtime.us-east-1.amazonaws.com/model/a/invoke",
            Llm,
        ),
        (
            "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com/",
            Llm,
        ),
        (
            "https://bedrock.us-east-1.amazonaws.com/foundation-models",
            Llm,
        ),
        (
            "https://vpce-1.bedrock-runtime.eu-west-1.vpce.amazonaws.com/",
            Llm,
        ),
        ("https://bedrock-runtime.us-east-1.api.aws/", Llm),
        (
            "https://x.openai.azure.com/openai/deployments/d/chat/completions",
            Llm,
        ),
        ("https://x.cognitiveservices.azure.com/openai/v1/files", Llm),
        ("https://x.cognitiveservices.azure.com/vision/v3", Web),
        ("https://x.cognitiveservices.azure.com/openaix", Web),
        // A name is no model's because one is somewhere in it.
        ("https://evil-api.openai.com.attacker.example/", Web),
        ("https://api.openai.com.attacker.example/", Web),
        ("https://evil-api.openai.com/", Web),
        ("https://notapi.anthropic.com/", Web),
        ("https://bedrock.example.com/", Web),
        ("https://mybedrock.us-east-1.amazonaws.com/", Web),
        ("https://bedrock-runtime.amazonaws.com.example/", Web),
        ("https://openai.com/", Web),
        ("https://azure.com.example/openai/", Web),
        ("https://s3.amazonaws.com/bedrock", Web),
        // Gateways have the same ways on any host, this machine among them.
        ("http://localhost:4000/v1/chat/completions", Llm),
        ("http://127.0.0.1:4000/v1/messages", Llm),
        ("https://llm.corp.example/v1/responses", Llm),
        ("https://llm.corp.example/v1/models", Llm),
        ("https://chatgpt.com/backend-api/codex/responses", Llm),
        ("https://chatgpt.com/backend-api/settings", Web),
        (
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/models/m:streamGenerateContent",
            Llm,
        ),
        (
            "https://corp.example/model/us.anthropic.x/converse-stream",
            Llm,
        ),
        ("https://corp.example/invoke", Web),
        // Ways that others have too need a body that says so.
        ("https://graph.microsoft.com/v1.0/me/messages", Web),
        ("https://corp.example/api/chat", Web),
        // Tool servers, by name.
        ("https://mcp.linear.app/sse", Mcp),
        ("https://docs-mcp.example.com/", Mcp),
        ("http://localhost/mcp", Mcp),
        ("http://localhost:3000/mcp", Mcp),
        ("https://example.com/api/mcp/", Mcp),
        ("https://example.com/mcp-docs", Web),
        ("https://mcphee.example/", Web),
        // What is left.
        ("http://localhost:8080/", Other),
        ("http://a.localhost/", Other),
        ("http://127.3.2.1/", Other),
        ("http://[::1]/", Other),
        ("http://0.0.0.0:5000/", Other),
        ("http://localhost.example/", Web),
        ("http://192.168.1.1/", Web),
        ("https://example.com/", Web),
    ] {
        assert_eq!(
            Case { url, ..POST }.meaning().traffic_type,
            expected,
            "{url}"
        );
    }
}

#[test]
fn configured_hosts_are_asked_for_models() {
    let patterns = HostPatterns::parse(&["llm.corp.example", "*.models.example"]).unwrap();
    let interpreter = Interpreter::new(patterns);
    for (url, expected) in [
        ("https://llm.corp.example/any", TrafficType::Llm),
        ("https://a.models.example/any", TrafficType::Llm),
        ("https://x.llm.corp.example/any", TrafficType::Web),
        ("https://api.openai.com/any", TrafficType::Llm),
    ] {
        let meaning = Case { url, ..POST }.meaning_by(&interpreter, &[]);
        assert_eq!(meaning.traffic_type, expected, "{url}");
    }
}

#[test]
fn bodies_tell_calls_of_models_from_others() {
    use TrafficType::{Llm, Web};
    let json = Some("application/json; charset=utf-8");
    let form = Some("application/x-www-form-urlencoded");
    let call = r#"{"model":"m","messages":[]}"#;
    for (path, content_type, body, expected) in [
        ("/v1/messages", json, call, Llm),
        ("/v1/messages", json, r#"{"to":"+1","text":"hi"}"#, Web),
        ("/v1/messages", form, "To=1&Body=hi", Web),
        ("/v1/messages", json, r#"{"to":"+1","#, Web),
        (
            "/channels/7/messages",
            json,
            r#"{"content":"model messages"}"#,
            Web,
        ),
        (
            "/channels/7/messages",
            json,
            r#"{"content":{"model":"m","messages":[]}}"#,
            Web,
        ),
        ("/gateway/messages", json, call, Llm),
        ("/api/chat", json, call, Llm),
        ("/api/generate", json, r#"{"prompt":"p","model":"m"}"#, Llm),
        ("/api/generate", json, r#"{"prompt":"p","model":7}"#, Web),
        ("/responses", None, r#"{"input":"p","model":"m"}"#, Llm),
        ("/v1/chat/completions", json, "[]", Llm),
        ("/other", json, call, Web),
    ] {
        let url = format!("https://corp.example{path}");
        let case = Case {
            url: &url,
            content_type,
            body: body.as_bytes(),
            ..POST
        };
        assert_eq!(case.meaning().traffic_type, expected, "{path} {body}");
    }
}

#[test]
fn a_call_of_a_tool_server_is_known_by_fields_or_by_shape() {
    use TrafficType::{Mcp, Web};
    let call = r#"{"method":"tools/call","params":{"name":"x"},"jsonrpc":"2.0","id":1}"#;
    for (method, fields, body, expected) in [
        ("POST", "", call, Mcp),
        (
            "POST",
            "",
            r#" [ {"jsonrpc":"2.0","method":"notifications/initialized"} ]"#,
            Mcp,
        ),
        (
            "POST",
            "",
            r#"{"jsonrpc":"2.0","method":"initialize","id":0}"#,
            Mcp,
        ),
        // JSON-RPC of others, and talk about it.
        (
            "POST",
            "",
            r#"{"jsonrpc":"2.0","method":"eth_call","id":1}"#,
            Web,
        ),
        (
            "POST",
            "",
            r#"{"jsonrpc":"1.0","method":"tools/call","id":1}"#,
            Web,
        ),
        (
            "POST",
            "",
            r#"{"text":{"jsonrpc":"2.0","method":"tools/call"}}"#,
            Web,
        ),
        (
            "POST",
            "",
            r#"{"text":"\"jsonrpc\":\"2.0\",\"method\":\"ping\""}"#,
            Web,
        ),
        ("POST", "", r#"{"jsonrpc":"2.0","result":{},"id":1}"#, Web),
        ("PUT", "", call, Web),
        (
            "POST",
            "Mcp-Session-Id: s\r\n",
            r#"{"jsonrpc":"2.0","result":{},"id":1}"#,
            Mcp,
        ),
        (
            "GET",
            "a: b\r\nmcp-protocol-version: 2025-06-18\r\n",
            "",
            Mcp,
        ),
        ("POST", "Mcp-Method: x\r\n", "", Mcp),
        ("GET", "x-mcp-thing: 1\r\n", "", Web),
        ("GET", "Host: mcp-a\r\n", "", Web),
    ] {
        let case = Case {
            method,
            fields,
            body: body.as_bytes(),
            ..POST
        };
        assert_eq!(case.meaning().traffic_type, expected, "{fields} {body}");
    }
    let page = Case {
        method: "GET",
        url: "https://example.com/blog/mcp",
        fields: "Accept: text/html,*/*\r\n",
        ..POST
    };
    assert_eq!(page.meaning().traffic_type, Web);
}

#[test]
fn of_a_tunnel_only_the_host_is_known() {
    for (url, expected) in [
        ("https://api.openai.com", TrafficType::Llm),
        ("https://localhost", TrafficType::Other),
        ("https://example.com", TrafficType::Unknown),
    ] {
        let meaning = Case {
            kind: FlowKind::Tunnel,
            method: "CONNECT",
            url,
            fields: "X-Claude-Code-Session-Id: s\r\n",
            ..POST
        }
        .meaning();
        assert_eq!(meaning.traffic_type, expected, "{url}");
        assert_eq!(meaning.identity, None, "{url}");
    }
}

#[test]
fn claude_code_names_its_session_in_three_ways() {
    let old = br#"{"messages":[{"role":"user","content":"metadata"}],"metadata":{"user_id":"user_0a_account_1b_session_2c-3d"}}"#;
    assert_eq!(session("", old).as_deref(), Some("2c-3d"));
    let new = br#"{"metadata":{"user_id":"{\"device_id\":\"0a\",\"account_uuid\":\"\",\"session_id\":\"2c-3d\"}"}}"#;
    assert_eq!(session("", new).as_deref(), Some("2c-3d"));
    let object = br#"{"metadata":{"user_id":{"session_id":"2c-3d"}}}"#;
    let identity = asked("", object).unwrap();
    assert_eq!(identity.session, "2c-3d");
    assert_eq!(identity.method, Method::Body);
    assert_eq!(identity.method.confidence(), Confidence::Certain);
    assert_eq!(identity.agent, Some("claude-code"));
    let turned = br#"{"user":"user_0a_account_1b_session_2c-3d"}"#;
    assert_eq!(session("", turned).as_deref(), Some("2c-3d"));

    let fields = "User-Agent: claude-cli/2.1.329 (external, cli)\r\nx-claude-code-session-id: 2c-3d\r\n\
                  x-claude-code-agent-id: a3d8\r\nX-Claude-Code-Parent-Agent-Id: a111\r\n";
    assert_eq!(
        asked(fields, new),
        Some(Identity {
            session: "2c-3d".to_owned(),
            method: Method::Header,
            agent: Some("claude-code"),
            agent_id: Some("a3d8".to_owned()),
            parent_agent_id: Some("a111".to_owned()),
        })
    );
}

#[test]
fn what_is_no_session_is_none() {
    let long = format!(r#"{{"metadata":{{"session_id":"{}"}}}}"#, "a".repeat(257));
    for body in [
        &br#"{"metadata":{"user_id":"user_a_session_b_session_c"}}"#[..],
        br#"{"metadata":{"user_id":"someone"}}"#,
        br#"{"metadata":{"user_id":"user_a_session_"}}"#,
        br#"{"metadata":{"user_id":"{\"device_id\":\"a\"}"}}"#,
        br#"{"metadata":{"user_id":"{"}}"#,
        br#"{"metadata":{"user_id":7}}"#,
        br#"{"metadata":{"session_id":"a\nb"}}"#,
        br#"{"metadata":"user_a_session_b"}"#,
        br#"[{"metadata":{"user_id":"user_a_session_b"}}]"#,
        br#"{"messages":[{"metadata":{"user_id":"user_a_session_b"}}]}"#,
        br#"{"user":"someone"}"#,
        b"\xff\xfe{",
        b"metadata",
        b"",
        long.as_bytes(),
    ] {
        assert_eq!(asked("", body), None, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn other_agents_have_their_own_ways() {
    let turn =
        "x-codex-turn-metadata: {\"session_id\":\"r\",\"thread_id\":\"t\",\"turn_id\":\"u\"}\r\n";
    for (fields, body, agent, session, agent_id, parent) in [
        (
            "User-Agent: codex_exec/0.169\r\nsession-id: r\r\nthread-id: r\r\n",
            "",
            Some("codex"),
            "r",
            None,
            None,
        ),
        (
            "originator: codex_cli_rs\r\nsession-id: r\r\nthread-id: t\r\nx-codex-parent-thread-id: p\r\n",
            "",
            Some("codex"),
            "r",
            Some("t"),
            Some("p"),
        ),
        (turn, "", Some("codex"), "r", Some("t"), None),
        ("session_id: r\r\n", "", None, "r", None, None),
        ("conversation_id: r\r\n", "", None, "r", None, None),
        (
            "",
            r#"{"client_metadata":{"session_id":"r","thread_id":"t"}}"#,
            Some("codex"),
            "r",
            Some("t"),
            None,
        ),
        (
            "User-Agent: codex_cli_rs/1\r\n",
            r#"{"prompt_cache_key":"t"}"#,
            Some("codex"),
            "t",
            None,
            None,
        ),
        (
            "User-Agent: opencode/1.18 ai-sdk/5\r\nx-session-id: ses_1\r\nx-session-affinity: ses_1\r\n",
            "",
            Some("opencode"),
            "ses_1",
            None,
            None,
        ),
        (
            "User-Agent: opencode/1.18\r\nsession-id: ses_2\r\nx-session-id: ses_2\r\nx-parent-session-id: ses_1\r\n",
            "",
            Some("opencode"),
            "ses_1",
            Some("ses_2"),
            None,
        ),
        (
            "Copilot-Integration-Id: copilot-developer-cli\r\nX-Client-Session-Id: c\r\n",
            "",
            Some("copilot"),
            "c",
            None,
            None,
        ),
        (
            "User-Agent: GitHubCopilotChat/0.40\r\nx-interaction-id: i\r\n",
            "",
            Some("copilot"),
            "i",
            None,
            None,
        ),
        (
            "X-KILOCODE-TASKID: k\r\n",
            "",
            Some("kilo-code"),
            "k",
            None,
            None,
        ),
        (
            "User-Agent: GeminiCLI-tui/0.61\r\n",
            r#"{"model":"m","request":{"contents":[],"session_id":"g"}}"#,
            Some("gemini-cli"),
            "g",
            None,
            None,
        ),
        (
            "",
            r#"{"conversation":{"id":"conv_1"}}"#,
            None,
            "conv_1",
            None,
            None,
        ),
        (
            "",
            r#"{"metadata":{"session_id":"s"}}"#,
            None,
            "s",
            None,
            None,
        ),
        ("x-litellm-session-id: l\r\n", "", None, "l", None, None),
        (
            "baggage: user.id=u,session.id=b\r\n",
            "",
            None,
            "b",
            None,
            None,
        ),
    ] {
        let case = Case {
            url: "https://api.openai.com/v1/responses",
            fields,
            body: body.as_bytes(),
            ..POST
        };
        let found = case.identity().unwrap_or_else(|| panic!("{fields} {body}"));
        let ids = (
            &*found.session,
            found.agent_id.as_deref(),
            found.parent_agent_id.as_deref(),
        );
        assert_eq!(
            (found.agent, ids),
            (agent, (session, agent_id, parent)),
            "{fields} {body}"
        );
    }
    let none = "User-Agent: opencode/1\r\nsession-id: s\r\nsession: s\r\n";
    assert_eq!(
        asked(none, b"{}"),
        None,
        "a name that says nothing by itself"
    );
}

#[test]
fn a_tool_server_names_the_session_of_its_client() {
    let case = Case {
        fields: "Mcp-Session-Id: m\r\n",
        ..POST
    };
    let identity = case.identity().unwrap();
    assert_eq!(
        (&*identity.session, identity.method),
        ("m", Method::McpSession)
    );
    let response = Head {
        version: Version::Http11,
        text: Bytes::from_static(b"HTTP/1.1 200 OK\r\nmcp-session-id: m\r\n\r\n"),
    };
    let begun = Interpreter::default().session_begun(&response);
    assert_eq!(begun.map(|identity| identity.session), Some("m".to_owned()));
}

#[test]
fn a_call_of_a_tool_server_carries_the_tracing_of_its_agent() {
    let call = |meta: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","_meta":{meta}}}}}"#
        )
    };
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let both = call(&format!(
        r#"{{"progressToken":1,"baggage":"user.id=u,session.id=s","traceparent":"00-{trace}-00f067aa0ba902b7-01"}}"#
    ));
    let asked = |fields, body: &str| {
        let body = body.to_owned();
        let case = Case {
            url: "https://tools.example.com/rpc",
            fields,
            body: body.as_bytes(),
            ..POST
        };
        let Meaning {
            identity, links, ..
        } = case.meaning();
        let identity = identity.map(|identity| (identity.session, identity.method));
        (
            identity,
            links.into_iter().map(|link| link.id).collect::<Vec<_>>(),
        )
    };
    let by_baggage = Some(("s".to_owned(), Method::Baggage));
    let of_server = "Mcp-Session-Id: m\r\n";
    assert_eq!(
        asked(of_server, &both),
        (by_baggage.clone(), vec![trace.to_owned()])
    );
    assert_eq!(
        asked("", &format!("[{both}]")),
        (by_baggage, vec![trace.to_owned()])
    );
    // A field stands before the body, and a broken trace is none.
    let (identity, links) = asked(
        "baggage: session.id=f\r\n",
        &call(r#"{"baggage":"session.id=s","traceparent":"00-1-2-3"}"#),
    );
    assert_eq!(
        (identity, links),
        (Some(("f".to_owned(), Method::Baggage)), vec![])
    );
    for odd in [
        "[]",
        "null",
        r#""baggage""#,
        r#"{"baggage":["session.id=s"]}"#,
    ] {
        let by_server = Some(("m".to_owned(), Method::McpSession));
        assert_eq!(asked(of_server, &call(odd)), (by_server, vec![]), "{odd}");
    }
}

#[test]
fn requests_are_linked_by_trace_and_by_request_id() {
    let links = Case {
        url: "https://api.openai.com/v1/responses",
        fields: "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
                 x-request-id: 0123456789abcdef0123\r\nx-client-request-id: 0123456789abcdef0123\r\n\
                 request-id: short\r\n",
        ..POST
    }
    .meaning()
    .links;
    let ids: Vec<_> = links.iter().map(|link| (link.method, &*link.id)).collect();
    assert_eq!(
        ids,
        [
            (Method::Traceparent, "4bf92f3577b34da6a3ce929d0e0e4736"),
            (Method::RequestId, "0123456789abcdef0123"),
        ]
    );
    let web = Case {
        fields: "x-request-id: 0123456789abcdef0123\r\nx-claude-code-session-id: s\r\n",
        ..POST
    }
    .meaning();
    assert_eq!(
        (web.identity, web.links),
        (None, Vec::new()),
        "nobody looks there"
    );
}

#[test]
fn compressed_bodies_are_read() {
    let body = br#"{"model":"m","metadata":{"user_id":"user_0a_account_1b_session_2c"}}"#;
    let packed = zstd::bulk::compress(body, 3).unwrap();
    assert_eq!(
        session("Content-Encoding: zstd\r\n", &packed).as_deref(),
        Some("2c")
    );
    // One that is cut gives what can be read of it, one that is none gives nothing.
    assert_eq!(session("Content-Encoding: zstd\r\n", &packed[..9]), None);
    assert_eq!(session("Content-Encoding: gzip\r\n", &packed), None);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(body).unwrap();
    let gzip = gzip.finish().unwrap();
    assert_eq!(
        session("content-encoding: gzip\r\n", &gzip).as_deref(),
        Some("2c")
    );
}

#[test]
fn an_id_behind_twenty_megabytes_is_found_in_any_pieces() {
    let mut body = br#"{"messages":[{"role":"user","content":""#.to_vec();
    while body.len() < 20_000_000 {
        body.extend_from_slice(br#"line of text\n\"quoted\", {not} [json]: "#);
    }
    body.extend_from_slice(br#""}],"metadata":{"user_id":"user_0a_account_1b_session_2c"}}"#);
    let pieces: Vec<Bytes> = body.chunks(1_000_003).map(Bytes::copy_from_slice).collect();
    let case = Case {
        url: "http://localhost/v1/messages",
        ..POST
    };
    let meaning = case.meaning_by(&Interpreter::default(), &pieces);
    assert_eq!(
        meaning.identity.map(|identity| identity.session),
        Some("2c".to_owned())
    );
}

#[test]
fn an_address_has_no_names() {
    let target = Target {
        host: Host::parse("2001:db8::1").unwrap(),
        port: 443,
    };
    assert_eq!(HostClass::of(&target), HostClass::Any);
}

proptest! {
    #[test]
    fn no_request_is_too_odd(
        method in "[A-Z]{0,5}",
        path in "(/(v1|messages|mcp|responses|[a-z%:.]{0,5})){0,4}",
        fields in proptest::collection::vec(
            ("(mcp-session-id|traceparent|baggage|x-codex-turn-metadata|content-encoding|user-agent|[a-z-]{0,6})", any::<Vec<u8>>()),
            0..6,
        ),
        body in prop_oneof![
            any::<Vec<u8>>(),
            "[{\\[]?(\"(model|metadata|user_id|jsonrpc|method|messages)\":?[{\\[]?\"?[a-z_]{0,9}\"?[,}\\]]{0,2}){0,9}".prop_map(String::into_bytes),
        ],
        cut in any::<bool>(),
    ) {
        let mut text = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
        for (name, value) in &fields {
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b": ");
            text.extend(value.iter().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        let head = Head { version: Version::Http2, text: text.into() };
        let whole = [Bytes::from(body.clone())];
        let pieces: Vec<Bytes> = body.chunks(3).map(Bytes::copy_from_slice).collect();
        let interpreter = Interpreter::default();
        for class in [HostClass::Model, HostClass::Any, HostClass::Loopback] {
            let interpret = |pieces: &[Bytes]| interpreter.interpret(class, &Request {
                kind: FlowKind::Http,
                method: &method,
                path: &path,
                content_type: None,
                head: &head,
                glance: Glance::of(&head),
                body: Body { pieces, cut },
            });
            prop_assert_eq!(interpret(&whole), interpret(&pieces));
        }
    }
}
