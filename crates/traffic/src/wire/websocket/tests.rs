//! The examples of the RFCs, every rule that can be broken, every window, and bounds that hold.

mod chunking;
mod deflate;

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
