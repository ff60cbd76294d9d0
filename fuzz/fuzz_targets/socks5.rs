//! The readers of SOCKS 5 messages: no panic, and an answer once given does not change with more
//! bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use traffic::wire::socks5::{
    Parsed, parse_credentials, parse_credentials_answer, parse_greeting, parse_method, parse_reply,
    parse_request,
};

fn check<T: PartialEq + std::fmt::Debug>(read: fn(&[u8]) -> Parsed<T>, bytes: &[u8]) {
    let whole = read(bytes);
    for length in 0..bytes.len() {
        let early = read(&bytes[..length]);
        if early != Parsed::Incomplete {
            assert_eq!(early, whole, "after {length} of {} bytes", bytes.len());
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    check(parse_greeting, bytes);
    check(parse_credentials, bytes);
    check(parse_request, bytes);
    // As a client of an upstream proxy.
    check(parse_method, bytes);
    check(parse_credentials_answer, bytes);
    check(parse_reply, bytes);
});
