//! The reader of WebSocket messages: no panic, never more of a message than was asked for, and the
//! same observations in any chunking.
#![no_main]

use libfuzzer_sys::fuzz_target;
use traffic::wire::websocket::{Extensions, Observation, Observer, Sender};

const KEPT: usize = 4096;

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (choice, piece, bytes) = input;
    let sender = match choice % 2 {
        0 => Sender::Client,
        _ => Sender::Upstream,
    };
    let extensions = match choice / 2 % 4 {
        0 => &b""[..],
        1 => b"permessage-deflate",
        2 => b"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        // Whatever the bytes are taken for: it must only not panic.
        _ => bytes,
    };
    let observer = || Observer::new(sender, &Extensions::parse([extensions]), KEPT);
    let whole = observe(observer(), bytes, bytes.len().max(1));
    assert_eq!(observe(observer(), bytes, 1), whole);
    assert_eq!(observe(observer(), bytes, usize::from(piece).max(1)), whole);
});

fn observe(mut observer: Observer, bytes: &[u8], piece: usize) -> Vec<Observation> {
    let mut seen = Vec::new();
    let mut tell = |observation| {
        if let Observation::Message(message) = &observation {
            assert!(message.payload.len() <= KEPT);
            assert!(message.payload.len() as u64 <= message.payload_bytes);
        }
        seen.push(observation);
    };
    for piece in bytes.chunks(piece) {
        observer.handle_bytes(piece, &mut tell);
    }
    observer.handle_end(&mut tell);
    seen
}
