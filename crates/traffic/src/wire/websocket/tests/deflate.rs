//! Compressed messages (RFC 7692).

use flate2::{Compress, Compression as Level, FlushCompress};

use super::super::extensions::Compression;
use super::super::limits::INFLATED_BYTES_FREE;
use super::*;

pub(super) fn deflate(context_takeover: bool) -> Extensions {
    let compression = Compression {
        context_takeover,
        window_bits: 15,
    };
    Extensions {
        deflate: Some(Deflate {
            client: compression,
            upstream: compression,
        }),
        unknown: false,
    }
}

/// A sender of compressed messages.
pub(super) struct Deflater {
    compress: Compress,
    context_takeover: bool,
}

impl Deflater {
    pub(super) fn new(context_takeover: bool, window_bits: u8) -> Self {
        Self {
            compress: Compress::new_with_window_bits(Level::default(), false, window_bits),
            context_takeover,
        }
    }

    /// RFC 7692 section 7.2.1.
    pub(super) fn deflate(&mut self, message: &[u8]) -> Vec<u8> {
        if !self.context_takeover {
            self.compress.reset();
        }
        let mut deflated = Vec::with_capacity(message.len() + 1024);
        let read_before = self.compress.total_in();
        self.compress
            .compress_vec(message, &mut deflated, FlushCompress::Sync)
            .unwrap();
        assert_eq!(self.compress.total_in() - read_before, message.len() as u64);
        assert!(deflated.ends_with(&[0, 0, 0xff, 0xff]));
        deflated.truncate(deflated.len() - 4);
        deflated
    }
}

fn inflate(context_takeover: bool, kept: usize, bytes: &[u8]) -> Vec<Observation> {
    let observer = Observer::new(Sender::Upstream, &deflate(context_takeover), kept);
    observe(observer, &[bytes])
}

/// RFC 7692 section 7.2.3.
#[test]
fn reads_the_examples_of_rfc_7692() {
    let cases: [(&str, &[u8], u64); 6] = [
        ("one frame", b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", 1),
        (
            "two frames",
            b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00",
            2,
        ),
        (
            "a block without compression",
            b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
            1,
        ),
        (
            "a last block",
            b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
            1,
        ),
        (
            "a last block and nothing after it",
            b"\xc1\x07\xf3\x48\xcd\xc9\xc9\x07\x00",
            1,
        ),
        (
            "two blocks",
            b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
            1,
        ),
    ];
    for (name, bytes, frames) in cases {
        for context_takeover in [false, true] {
            let seen = inflate(context_takeover, KEPT, &[bytes, bytes].concat());
            assert_eq!(notes(&seen), [], "{name}");
            assert_eq!(seen.len(), 2);
            for message in messages(&seen) {
                assert_eq!(message.payload, "Hello", "{name}");
                assert_eq!(message.coding, Coding::Inflated);
                assert_eq!((message.frames, message.payload_bytes), (frames, 5));
            }
        }
    }
    // The second message refers to the first.
    let sharing = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\xc1\x05\xf2\x00\x11\x00\x00";
    let seen = inflate(true, KEPT, sharing);
    assert_eq!(notes(&seen), []);
    assert_eq!(messages(&seen)[1].payload, "Hello");
    let seen = inflate(false, KEPT, sharing);
    assert_eq!(notes(&seen), [Problem::DeflateCorrupt]);
    assert_eq!(messages(&seen)[1].coding, Coding::InflatedInPart);
}

#[test]
fn messages_without_octets_are_read() {
    for empty in [&b"\xc1\x01\x00"[..], b"\xc1\x00"] {
        let seen = inflate(true, KEPT, &[empty, &deflated_frame(HELLO), empty].concat());
        assert_eq!(notes(&seen), []);
        let payloads: Vec<_> = messages(&seen).iter().map(|one| &*one.payload).collect();
        assert_eq!(payloads, [&b""[..], b"Hello", b""]);
    }
}

pub(super) const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";

/// Lines that repeat at distances up to 40 kB.
pub(super) fn text(start: u32) -> Vec<u8> {
    let line = |number: u32| format!("{:x} ", (number % 4000).wrapping_mul(2_654_435_761));
    (start..start + 6000)
        .map(line)
        .collect::<String>()
        .into_bytes()
}

#[test]
fn every_window_is_read_with_and_without_takeover() {
    for window_bits in 9..=15 {
        for context_takeover in [false, true] {
            let mut deflater = Deflater::new(context_takeover, window_bits);
            let texts: Vec<_> = (0..4).map(|number| text(number * 500)).collect();
            let mut bytes = Vec::new();
            for text in &texts {
                let deflated = deflater.deflate(text);
                let (first, second) = deflated.split_at(deflated.len() / 2);
                let mut start = frame(false, Opcode::Text, first);
                start[0] |= RSV1;
                bytes.extend([start, frame(true, Opcode::Continuation, second)].concat());
                // Between them, one that is not compressed.
                bytes.extend(frame(true, Opcode::Text, b"plain"));
            }
            for kept in [KEPT, 10] {
                let seen = inflate(context_takeover, kept, &bytes);
                assert_eq!(notes(&seen), [], "{window_bits} {context_takeover}");
                let seen = messages(&seen);
                assert_eq!(seen.len(), 8);
                for (text, pair) in texts.iter().zip(seen.chunks(2)) {
                    assert!(pair[0].payload == text[..text.len().min(kept)]);
                    assert_eq!(pair[0].payload_bytes, text.len() as u64);
                    assert_eq!(pair[0].coding, Coding::Inflated);
                    assert_eq!(
                        (&*pair[1].payload, pair[1].coding),
                        (&b"plain"[..], Coding::Plain)
                    );
                }
            }
        }
    }
}

#[test]
fn the_client_is_inflated_through_its_mask() {
    let mut deflater = Deflater::new(true, 15);
    let mut bytes = Vec::new();
    for number in 0..3 {
        let header = Header {
            reserved: RSV1,
            mask: Some(KEY),
            ..Header::new(Opcode::Text, 0)
        };
        header.write_frame(&deflater.deflate(&text(number)), &mut bytes);
    }
    let observer = Observer::new(Sender::Client, &deflate(true), KEPT);
    let seen = observe(observer, &[&bytes]);
    assert_eq!(notes(&seen), []);
    for (number, message) in (0..3).zip(messages(&seen)) {
        assert!(message.payload == text(number), "{number}");
    }
}

#[test]
fn nothing_is_inflated_for_nobody() {
    let seen = inflate(
        true,
        0,
        &[deflated_frame(HELLO), deflated_frame(b"\xff")].concat(),
    );
    assert_eq!(notes(&seen), []);
    for message in messages(&seen) {
        assert_eq!(
            (message.coding, message.payload.len()),
            (Coding::Deflated, 0)
        );
        assert_eq!(message.payload_bytes, message.wire_bytes);
    }
}

#[test]
fn damage_loses_the_context_if_it_is_taken_over() {
    let damaged = deflated_frame(b"\xf2\x48\xcd\xff\xff\xff\xff\xff");
    let bytes = [
        deflated_frame(HELLO),
        damaged,
        deflated_frame(HELLO),
        deflated_frame(HELLO),
        frame(true, Opcode::Text, b"plain"),
    ]
    .concat();
    let codings = |seen: &[Observation]| -> Vec<Coding> {
        messages(seen)
            .iter()
            .map(|message| message.coding)
            .collect()
    };
    let seen = inflate(true, KEPT, &bytes);
    assert_eq!(
        notes(&seen),
        [Problem::DeflateCorrupt, Problem::ContextLost]
    );
    assert_eq!(
        codings(&seen),
        [
            Coding::Inflated,
            Coding::InflatedInPart,
            Coding::Deflated,
            Coding::Deflated,
            Coding::Plain
        ]
    );
    assert_eq!(messages(&seen)[2].payload, HELLO);

    let seen = inflate(false, KEPT, &bytes);
    assert_eq!(notes(&seen), [Problem::DeflateCorrupt]);
    assert_eq!(codings(&seen)[2..4], [Coding::Inflated, Coding::Inflated]);
    assert_eq!(messages(&seen)[3].payload, "Hello");
}

#[test]
fn a_bomb_is_inflated_no_further_than_is_bearable() {
    let zeros = vec![0; 2 * usize::try_from(INFLATED_BYTES_FREE).unwrap()];
    let bomb = Deflater::new(false, 15).deflate(&zeros);
    let bytes = [deflated_frame(&bomb), deflated_frame(HELLO)].concat();
    for context_takeover in [false, true] {
        let seen = inflate(context_takeover, KEPT, &bytes);
        let cut = messages(&seen)[0];
        assert_eq!(cut.coding, Coding::InflatedInPart);
        assert_eq!(cut.payload.len(), KEPT);
        assert_eq!(cut.wire_bytes, bomb.len() as u64);
        let bearable = INFLATED_BYTES_FREE..=INFLATED_BYTES_FREE + cut.wire_bytes * 128;
        assert!(bearable.contains(&cut.payload_bytes));
        if context_takeover {
            let expected = [Problem::InflatesTooFar, Problem::ContextLost];
            assert_eq!(notes(&seen), expected);
        } else {
            assert_eq!(notes(&seen), [Problem::InflatesTooFar]);
        }
    }
}

#[test]
fn many_small_bombs_are_inflated_no_further_than_one() {
    let bomb = Deflater::new(false, 15).deflate(&vec![0; 1 << 20]);
    let bytes = deflated_frame(&bomb).repeat(64);
    let seen = inflate(false, 10, &bytes);
    assert_eq!(notes(&seen), [Problem::InflatesTooFar]);
    let inflated: u64 = messages(&seen).iter().map(|one| one.payload_bytes).sum();
    let bearable = INFLATED_BYTES_FREE..=INFLATED_BYTES_FREE + bytes.len() as u64 * 128;
    assert!(bearable.contains(&inflated), "{inflated}");
    let octets: Vec<_> = bytes.chunks(1).collect();
    let observer = Observer::new(Sender::Upstream, &deflate(false), 10);
    assert_eq!(observe(observer, &octets), seen);
}

#[test]
fn reserved_bits_of_an_unknown_extension_are_left_alone() {
    let unknown = Extensions {
        unknown: true,
        ..deflate(true)
    };
    let mut both = deflated_frame(HELLO);
    both[0] |= 0x20;
    let bytes = [
        deflated_frame(HELLO),
        both,
        deflated_frame(HELLO),
        frame(true, Opcode::Reserved(3), b"x"),
    ]
    .concat();
    let seen = observe(Observer::new(Sender::Upstream, &unknown, KEPT), &[&bytes]);
    assert_eq!(
        notes(&seen),
        [Problem::ExtensionUnknown, Problem::ContextLost]
    );
    let codings: Vec<_> = messages(&seen).iter().map(|one| one.coding).collect();
    assert_eq!(
        codings,
        [Coding::Inflated, Coding::Unknown, Coding::Deflated]
    );
}
