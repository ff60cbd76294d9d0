//! The examples of the RFCs, every rule that can be broken, every window, and bounds that hold.

use flate2::{Compress, Compression as Level, FlushCompress};
use proptest::prelude::*;

use super::extensions::Compression;
use super::limits::INFLATED_BYTES_FREE;
use super::*;

const KEPT: usize = 100_000;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

impl Observer {
    /// Octets that it holds but for the decoder.
    fn bytes_held(&self) -> usize {
        let message = self.message.as_ref();
        self.header.capacity()
            + self.control.capacity()
            + message.map_or(0, |message| message.payload.capacity())
    }
}

fn observe(mut observer: Observer, pieces: &[&[u8]]) -> Vec<Observation> {
    let mut seen = Vec::new();
    for piece in pieces {
        observer.handle_bytes(piece, &mut |observation| seen.push(observation));
    }
    observer.handle_end(&mut |observation| seen.push(observation));
    seen
}

fn from_upstream(bytes: &[u8]) -> Vec<Observation> {
    let observer = Observer::new(Sender::Upstream, &Extensions::default(), KEPT);
    observe(observer, &[bytes])
}

fn from_client(bytes: &[u8]) -> Vec<Observation> {
    let observer = Observer::new(Sender::Client, &Extensions::default(), KEPT);
    observe(observer, &[bytes])
}

fn notes(seen: &[Observation]) -> Vec<Problem> {
    let note = |observation: &Observation| match observation {
        Observation::Note(problem) => Some(*problem),
        _ => None,
    };
    seen.iter().filter_map(note).collect()
}

fn messages(seen: &[Observation]) -> Vec<&Message> {
    let mut found = Vec::new();
    for observation in seen {
        if let Observation::Message(message) = observation {
            found.push(message);
        }
    }
    found
}

fn plain(kind: MessageKind, payload: &[u8], frames: u64) -> Observation {
    Observation::Message(Message {
        kind,
        payload: Bytes::copy_from_slice(payload),
        payload_bytes: payload.len() as u64,
        wire_bytes: payload.len() as u64,
        frames,
        coding: Coding::Plain,
        complete: true,
    })
}

fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = Header::new(opcode, 0);
    Header { fin, ..header }.write_frame(payload, &mut bytes);
    bytes
}

fn deflated_frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(true, Opcode::Text, payload);
    bytes[0] |= RSV1;
    bytes
}

/// RFC 6455 section 5.7.
#[test]
fn reads_the_examples_of_rfc_6455() {
    let hello = [plain(MessageKind::Text, b"Hello", 1)];
    assert_eq!(from_upstream(b"\x81\x05Hello"), hello);
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(from_client(masked), hello);
    assert_eq!(
        from_upstream(b"\x01\x03Hel\x80\x02lo"),
        [plain(MessageKind::Text, b"Hello", 2)]
    );
    assert_eq!(
        from_upstream(b"\x89\x05Hello"),
        [Observation::Ping(Bytes::from_static(b"Hello"))]
    );
    assert_eq!(
        from_client(b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
        [Observation::Pong(Bytes::from_static(b"Hello"))]
    );
    for (header, length) in [
        (&b"\x82\x7e\x01\x00"[..], 256),
        (b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 65_536),
    ] {
        let payload = vec![7; length];
        assert_eq!(
            from_upstream(&[header, &payload].concat()),
            [plain(MessageKind::Binary, &payload, 1)]
        );
    }
}

#[test]
fn control_frames_stand_between_fragments() {
    let bytes = b"\x02\x01a\x89\x00\x00\x00\x8a\x01p\x80\x01b\x88\x05\x03\xe8bye";
    assert_eq!(
        from_upstream(bytes),
        [
            Observation::Ping(Bytes::new()),
            Observation::Pong(Bytes::from_static(b"p")),
            plain(MessageKind::Binary, b"ab", 3),
            Observation::Close(Close {
                code: Some(1000),
                reason: Bytes::from_static(b"bye"),
            }),
        ]
    );
    assert_eq!(
        from_upstream(b"\x88\x00"),
        [Observation::Close(Close {
            code: None,
            reason: Bytes::new(),
        })]
    );
}

#[test]
fn what_breaks_the_rules_is_noted_and_observation_goes_on() {
    let long_ping = [&b"\x89\x7e\x00\x7e"[..], &[b'p'; 126]].concat();
    let cases: [(Problem, &[u8]); 16] = [
        (Problem::Masked, b"\x82\x80\x01\x02\x03\x04"),
        (Problem::ReservedBits, b"\xc2\x00"),
        (Problem::ReservedBits, b"\x02\x00\xa0\x00"),
        (Problem::ReservedBits, b"\x99\x00"),
        (Problem::ReservedOpcode, b"\x83\x02xx"),
        (Problem::ReservedOpcode, b"\x8b\x02xx"),
        (Problem::LengthNotMinimal, b"\x82\x7e\x00\x01x"),
        (Problem::ControlFragmented, b"\x09\x00"),
        (Problem::ControlTooLong, &long_ping),
        (Problem::ContinuationWithoutStart, b"\x80\x02xx"),
        (Problem::MessageInMessage, b"\x02\x01x\x82\x01y"),
        (Problem::CloseTooShort, b"\x88\x01x"),
        (Problem::CloseCode, b"\x88\x02\x03\xed"),
        (Problem::TextNotUtf8, b"\x81\x02\xc3\x28"),
        (Problem::TextNotUtf8, b"\x81\x01\xc3"),
        (Problem::TextNotUtf8, b"\x88\x03\x03\xe8\xff"),
    ];
    for (problem, bytes) in cases {
        // Twice: it is told once.
        let seen = from_upstream(&[bytes, bytes, b"\x81\x05after"].concat());
        let expected =
            if matches!(problem, Problem::CloseTooShort | Problem::CloseCode) || bytes[0] == 0x88 {
                vec![problem, Problem::FrameAfterClose]
            } else {
                vec![problem]
            };
        assert_eq!(notes(&seen), expected, "{bytes:02x?}");
        assert_eq!(
            seen.last(),
            Some(&plain(MessageKind::Text, b"after", 1)),
            "{bytes:02x?}"
        );
    }
    assert_eq!(notes(&from_client(b"\x82\x00")), [Problem::NotMasked]);
}

#[test]
fn close_codes_are_those_that_may_be_sent() {
    for (codes, good) in [
        (0..=999, false),
        (1000..=1003, true),
        (1004..=1006, false),
        (1007..=1014, true),
        (1015..=2999, false),
        (3000..=4999, true),
        (5000..=u16::MAX, false),
    ] {
        for code in codes {
            assert_eq!(is_close_code(code), good, "{code}");
        }
    }
}

#[test]
fn a_length_that_cannot_be_ends_the_observation() {
    let bytes = b"\x01\x01x\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x81\x01x";
    let mut observer = Observer::new(Sender::Upstream, &Extensions::default(), KEPT);
    let mut seen = Vec::new();
    observer.handle_bytes(bytes, &mut |observation| seen.push(observation));
    assert!(observer.is_lost());
    observer.handle_bytes(b"\x81\x01x", &mut |observation| seen.push(observation));
    observer.handle_end(&mut |observation| seen.push(observation));
    assert_eq!(notes(&seen), [Problem::FramingLost]);
    let [cut] = messages(&seen)[..] else {
        panic!("{seen:?}")
    };
    assert_eq!((&*cut.payload, cut.complete), (&b"x"[..], false));
}

#[test]
fn what_is_there_at_the_end_is_told() {
    for (bytes, payload) in [
        (&b"\x01\x02He"[..], "He"),
        (b"\x01\x02He\x80\x05l", "Hel"),
        (b"\x01\x02He\x80", "He"),
    ] {
        let seen = from_upstream(bytes);
        assert_eq!(notes(&seen), [Problem::EndedEarly]);
        let [cut] = messages(&seen)[..] else {
            panic!("{seen:?}")
        };
        assert_eq!((&*cut.payload, cut.complete), (payload.as_bytes(), false));
    }
    assert_eq!(
        from_upstream(b"\x81"),
        [Observation::Note(Problem::EndedEarly)]
    );
    assert_eq!(from_upstream(b""), []);
}

#[test]
fn text_that_is_cut_within_a_letter_is_text() {
    let bytes = frame(true, Opcode::Text, "aé".as_bytes());
    for kept in 0..4 {
        let observer = Observer::new(Sender::Upstream, &Extensions::default(), kept);
        assert_eq!(notes(&observe(observer, &[&bytes])), []);
    }
}

#[test]
fn a_tebibyte_announced_takes_no_memory() {
    let mut observer = Observer::new(Sender::Client, &Extensions::default(), KEPT);
    let mut header = Vec::new();
    let announced = Header {
        mask: Some(KEY),
        ..Header::new(Opcode::Binary, 1 << 40)
    };
    announced.write(&mut header);
    let mut seen = Vec::new();
    observer.handle_bytes(&header, &mut |observation| seen.push(observation));
    let chunk = vec![0; 64 * 1024];
    for _ in 0..256 {
        observer.handle_bytes(&chunk, &mut |observation| seen.push(observation));
        assert!(observer.bytes_held() <= 2 * KEPT + 256);
    }
    assert_eq!(seen, []);
    observer.handle_end(&mut |observation| seen.push(observation));
    let [cut] = messages(&seen)[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(
        (cut.payload.len(), cut.payload_bytes),
        (KEPT, 256 * 64 * 1024)
    );
    assert_eq!(cut.payload[..8], [KEY, KEY].concat());
}

#[test]
fn hundreds_of_thousands_of_fragments_take_no_memory() {
    let mut observer = Observer::new(Sender::Upstream, &Extensions::default(), 1000);
    let mut seen = Vec::new();
    observer.handle_bytes(b"\x01\x00", &mut |observation| seen.push(observation));
    for _ in 0..400_000 {
        observer.handle_bytes(b"\x00\x01x", &mut |observation| seen.push(observation));
    }
    assert!(observer.bytes_held() <= 2 * 1000 + 256);
    observer.handle_bytes(b"\x80\x00", &mut |observation| seen.push(observation));
    let [message] = messages(&seen)[..] else {
        panic!("{seen:?}")
    };
    assert_eq!((message.frames, message.payload_bytes), (400_002, 400_000));
    assert_eq!(message.payload.len(), 1000);
}

// Compressed messages.

fn deflate(context_takeover: bool) -> Extensions {
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
struct Deflater {
    compress: Compress,
    context_takeover: bool,
}

impl Deflater {
    fn new(context_takeover: bool, window_bits: u8) -> Self {
        Self {
            compress: Compress::new_with_window_bits(Level::default(), false, window_bits),
            context_takeover,
        }
    }

    /// RFC 7692 section 7.2.1.
    fn deflate(&mut self, message: &[u8]) -> Vec<u8> {
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

const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";

/// Lines that repeat at distances up to 40 kB.
fn text(start: u32) -> Vec<u8> {
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

#[test]
fn problems_have_stable_names_and_bits_of_their_own() {
    let mut names: Vec<_> = Problem::ALL.iter().map(|problem| problem.code()).collect();
    insta::assert_snapshot!(names.join(" "), @"not_masked masked reserved_bits reserved_opcode length_not_minimal framing_lost control_fragmented control_too_long continuation_without_start message_in_message close_too_short close_code text_not_utf8 frame_after_close ended_early extension_unknown deflate_corrupt inflates_too_far context_lost accept_wrong");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Problem::ALL.len());
    let bits = Problem::ALL
        .iter()
        .fold(0, |bits, problem| bits | problem.bit());
    assert_eq!(bits.count_ones() as usize, Problem::ALL.len());
}

// The same in any chunking.

/// A frame, honest or not.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        4 => Just(0_u8),
        4 => Just(1),
        2 => Just(2),
        3 => 8_u8..11,
        1 => 0_u8..16,
    ];
    let reserved = prop_oneof![6 => Just(0_u8), 4 => Just(RSV1), 1 => 0_u8..8];
    let payload = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..200),
        3 => Just(HELLO.to_vec()),
        2 => (0..6000_u32).prop_map(|start| Deflater::new(false, 15).deflate(&text(start))),
        1 => "[a-zé]{0,50}".prop_map(String::into_bytes),
    ];
    let mask = prop::option::weighted(0.5, any::<[u8; 4]>());
    (any::<bool>(), reserved, opcode, mask, payload).prop_map(
        |(fin, reserved, opcode, mask, payload)| {
            let reserved = if reserved == RSV1 {
                RSV1
            } else {
                reserved << 4
            };
            let header = Header {
                fin,
                reserved,
                opcode: Opcode::from_bits(opcode),
                mask,
                length: 0,
            };
            let mut bytes = Vec::new();
            header.write_frame(&payload, &mut bytes);
            bytes
        },
    )
}

/// Compressed messages that refer to each other, with damage.
fn any_conversation() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (prop::collection::vec(0..6000_u32, 1..4), damage).prop_map(|(starts, damage)| {
        let mut deflater = Deflater::new(true, 15);
        let message = |start| deflated_frame(&deflater.deflate(&text(start)));
        let mut bytes = starts.into_iter().map(message).collect::<Vec<_>>().concat();
        for (index, octet) in damage {
            let index = index.index(bytes.len());
            bytes[index] = octet;
        }
        bytes
    })
}

fn any_observer() -> impl Strategy<Value = (Sender, Extensions, usize)> {
    let sender = prop_oneof![Just(Sender::Client), Just(Sender::Upstream)];
    let extensions = prop_oneof![
        Just(Extensions::default()),
        Just(deflate(false)),
        Just(deflate(true)),
        Just(Extensions {
            unknown: true,
            ..deflate(true)
        }),
    ];
    let kept = prop_oneof![Just(0_usize), Just(10), Just(30_000), Just(KEPT)];
    (sender, extensions, kept)
}

fn check_chunking(
    bytes: &[u8],
    cuts: Vec<prop::sample::Index>,
    (sender, extensions, kept): (Sender, Extensions, usize),
) {
    let new = || Observer::new(sender, &extensions, kept);
    let whole = observe(new(), &[bytes]);
    for message in messages(&whole) {
        assert!(message.payload.len() <= kept);
        assert!(message.payload.len() as u64 <= message.payload_bytes);
    }
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for cut in cuts {
        pieces.push(&bytes[start..cut]);
        start = cut;
    }
    pieces.push(&bytes[start..]);
    assert_eq!(observe(new(), &pieces), whole);
    let octets: Vec<_> = bytes.chunks(1).collect();
    assert_eq!(observe(new(), &octets), whole);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_are_the_same_in_any_chunking(
        frames in prop::collection::vec(any_frame(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        observer in any_observer(),
    ) {
        check_chunking(&frames.concat(), cuts, observer);
    }

    #[test]
    fn compressed_messages_are_the_same_in_any_chunking(
        bytes in any_conversation(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        observer in any_observer(),
    ) {
        check_chunking(&bytes, cuts, observer);
    }

    #[test]
    fn any_bytes_are_the_same_in_any_chunking(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        observer in any_observer(),
    ) {
        check_chunking(&bytes, cuts, observer);
    }
}
