//! The HTTP/1.1 head parser: no panic, the same end in any chunking, and what is sent on means
//! the same as what came, so that nobody behind can read it in another way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::http1::head::{self, LineEnd};

fuzz_target!(|bytes: &[u8]| {
    if let Some(end) = find_end(bytes, LineEnd::CrLf) {
        check_request(&bytes[..end]);
    }
    if let Some(end) = find_end(bytes, LineEnd::CrLfOrLf) {
        check_response(&bytes[..end]);
    }
});

fn find_end(bytes: &[u8], line_end: LineEnd) -> Option<usize> {
    let end = head::find_end(bytes, 0, line_end).ok()??;
    for scanned in 0..end {
        let early = head::find_end(&bytes[..end], scanned, line_end);
        // The end may lie before what was scanned only if a caller skipped it.
        assert_eq!(early, Ok(Some(end)), "after {scanned} bytes");
    }
    Some(end)
}

fn check_request(bytes: &[u8]) {
    let Ok(request) = head::parse_request(bytes, Vec::new()) else {
        return;
    };
    let version = if bytes.windows(9).any(|window| window == b" HTTP/1.0") {
        "1.0"
    } else {
        "1.1"
    };
    let (method, target) = (
        &bytes[request.method.clone()],
        &bytes[request.target.clone()],
    );
    let line = [method, b" ", target, b" HTTP/", version.as_bytes(), b"\r\n"];
    let mut sent = Vec::new();
    head::write_request(&request, bytes, &line, head::Replaced::default(), &mut sent);
    sent.extend_from_slice(b"\r\n");
    if version == "1.1" {
        let again = head::parse_request(&sent, Vec::new()).expect("what is sent on is a request");
        assert_eq!(
            again.body,
            request.body,
            "{:?}",
            String::from_utf8_lossy(&sent)
        );
    }
}

fn check_response(bytes: &[u8]) {
    let Ok(response) = head::parse_response(bytes, b"GET", Vec::new()) else {
        return;
    };
    let mut sent = Vec::new();
    head::write_response(&response, bytes, false, &mut sent);
    sent.extend_from_slice(b"\r\n");
    let bare = |pair: &[u8]| pair[1] == b'\n' && pair[0] != b'\r';
    assert!(!sent.windows(2).any(bare), "sent on with a bare LF");
    let again = head::parse_response(&sent, b"GET", Vec::new()).expect("sent on: a response");
    assert_eq!((again.status, again.body), (response.status, response.body));
}
