//! The content decoder: no panic, and never more bytes than were asked for, whatever a bomb says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use traffic::wire::encoding::decode;

const BYTES_MAX: usize = 64 * 1024;

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, body) = input;
    let encodings = match choice % 6 {
        0 => "gzip",
        1 => "deflate",
        2 => "br",
        3 => "zstd",
        4 => "gzip, br",
        _ => "zstd, identity, gzip, deflate",
    };
    assert!(decode(encodings, body, BYTES_MAX).bytes.len() <= BYTES_MAX);
});
