//! What a request to a model means: no panic, the same in any chunking, and never more than the limits.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use llm::limits::ID_BYTES_MAX;
use llm::{Body, Glance, HostClass, Interpreter, Request};
use traffic::{FlowKind, Head, Version};

const PATHS: [&str; 6] = [
    "/v1/messages",
    "/v1/responses",
    "/v1/chat/completions",
    "/v1beta/models/m:generateContent",
    "/mcp",
    "/rpc",
];

fuzz_target!(|input: (u8, u8, &[u8], &[u8])| {
    let (choice, piece, fields, body) = input;
    let path = PATHS[usize::from(choice) % PATHS.len()];
    let text = [b"POST / HTTP/1.1\r\n", fields, b"\r\n\r\n"].concat();
    let head = Head {
        version: Version::Http11,
        text: Bytes::from(text),
    };
    let interpreter = Interpreter::default();
    let meaning = |pieces: &[Bytes], cut| {
        let request = Request {
            kind: FlowKind::Http,
            method: "POST",
            path,
            content_type: Some("application/json"),
            head: &head,
            glance: Glance::of(&head),
            body: Body { pieces, cut },
        };
        interpreter.interpret(HostClass::Any, &request)
    };
    let whole = meaning(&[Bytes::copy_from_slice(body)], false);
    let pieces: Vec<Bytes> = body
        .chunks(usize::from(piece).max(1))
        .map(Bytes::copy_from_slice)
        .collect();
    assert_eq!(meaning(&pieces, false), whole);
    let _less = meaning(&pieces, true);
    let _answer = interpreter.session_begun(&head);
    for id in whole
        .identity
        .iter()
        .flat_map(|identity| [Some(&identity.session), identity.agent_id.as_ref()])
        .flatten()
        .chain(whole.links.iter().map(|link| &link.id))
    {
        assert!(!id.is_empty() && id.len() <= ID_BYTES_MAX);
    }
});
