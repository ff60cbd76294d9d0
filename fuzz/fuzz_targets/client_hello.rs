//! The ClientHello reader: no panic, and an answer once given does not change with more bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use traffic::wire::client_hello::{HelloReader, Parsed, parse};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    let mut reader = Some(HelloReader::default());
    for length in 0..bytes.len() {
        let early = parse(&bytes[..length]);
        if let Some(reading) = &mut reader {
            assert_eq!(reading.read(&bytes[..length]), early);
        }
        if early != Parsed::Incomplete {
            reader = None;
            assert_eq!(early, whole, "after {length} of {} bytes", bytes.len());
        }
    }
});
