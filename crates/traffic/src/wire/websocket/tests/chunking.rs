//! The same is seen in any chunking.

use proptest::prelude::*;

use super::deflate::{Deflater, HELLO, deflate, text};
use super::*;

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
