//! The filter language: no panic, and an error points into the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use traffic::Timestamp;
use traffic::rules::filter::Filter;

fuzz_target!(|text: &str| {
    if let Err(error) = Filter::parse(text, Timestamp(1_763_683_200_000_000)) {
        assert!(
            text.get(error.span.clone()).is_some(),
            "{:?} in {text:?}",
            error.span
        );
        assert!(!error.message.is_empty());
    }
});
