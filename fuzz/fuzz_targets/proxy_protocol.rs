//! The reader of PROXY protocol headers: no panic, and an answer once given does not change with
//! more bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use traffic::wire::proxy_protocol::{Parsed, parse};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    if let Parsed::Whole { length, .. } = whole {
        assert!(length <= bytes.len());
    }
    for length in 0..bytes.len() {
        let early = parse(&bytes[..length]);
        if early != Parsed::Incomplete {
            assert_eq!(early, whole, "after {length} of {} bytes", bytes.len());
        }
    }
});
