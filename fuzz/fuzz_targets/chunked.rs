//! The reader of chunked bodies: no panic, and the same payload, end and error in any chunking.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::http1::body::{BodyError, Framing};
use proxy::http1::head::BodyLength;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(read(bytes, 1), whole);
    assert_eq!(read(bytes, usize::from(piece).max(1)), whole);
});

#[derive(Debug, PartialEq)]
struct Read {
    consumed: usize,
    payload: Vec<u8>,
    trailers: Vec<u8>,
    done: bool,
    error: Option<BodyError>,
}

fn read(bytes: &[u8], piece: usize) -> Read {
    let mut framing = Framing::new(BodyLength::Chunked);
    let mut read = Read {
        consumed: 0,
        payload: Vec::new(),
        trailers: Vec::new(),
        done: false,
        error: None,
    };
    'pieces: for piece in bytes.chunks(piece) {
        let mut rest = piece;
        while !rest.is_empty() && !framing.is_done() {
            match framing.decode(rest) {
                Ok(step) => {
                    read.payload.extend_from_slice(&rest[step.payload]);
                    read.consumed += step.consumed;
                    rest = &rest[step.consumed..];
                }
                Err(error) => {
                    // How much of a broken body was taken depends on the pieces; nothing uses it.
                    read.consumed = 0;
                    read.error = Some(error);
                    break 'pieces;
                }
            }
        }
    }
    read.done = framing.is_done();
    read.trailers = framing.trailers().to_vec();
    if read.error.is_some() {
        read.trailers.clear();
    }
    read
}
