//! What is told of a body is what passed, whatever came before; and where the same came before, it lies in
//! the same memory.

use proptest::prelude::*;

use super::*;

/// Has a body pass in pieces of these sizes, the last for the rest; answers what is told of it.
fn pass(bodies: &LargeBodies, content: &[u8], sizes: &[usize], whole: bool) -> Vec<Bytes> {
    let (mut passing, mut told) = (Passing::default(), Vec::new());
    let mut rest = Bytes::copy_from_slice(content);
    let mut sizes = sizes.iter().copied();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let piece = rest.split_to(size);
        if told.is_empty() {
            passing.begin(&piece, bodies);
        }
        passing.handle(&piece, bodies, |data| told.push(data));
    }
    passing.end(whole, bodies);
    told
}

fn content(seed: u8, length: usize) -> Vec<u8> {
    let steps = (0..=250_u8).cycle().map(|step| step.wrapping_mul(31));
    let rows = (0..=255_u8).cycle().flat_map(|row| [row; 251]);
    let numbers = steps
        .zip(rows)
        .map(|(step, row)| step.wrapping_add(row) ^ seed);
    numbers.take(length).collect()
}

/// Where it lies, put together where a piece follows the one before it.
fn memory(told: &[Bytes]) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for piece in told {
        let begin = piece.as_ptr().addr();
        match ranges.last_mut() {
            Some((_, end)) if *end == begin => *end += piece.len(),
            _ => ranges.push((begin, begin + piece.len())),
        }
    }
    ranges
}

#[test]
fn what_comes_again_is_one_memory() {
    let bodies = LargeBodies::default();
    let body = content(0, 50_000);
    let first = pass(&bodies, &body, &[16_000, 16_000], true);
    let second = pass(&bodies, &body, &[16_000, 16_000], true);
    assert_ne!(memory(&first), memory(&second), "kept only now");
    // Cut elsewhere, it is the same still.
    let third = pass(&bodies, &body, &[10_000, 3, 30_000], true);
    assert_eq!(memory(&third), memory(&second));
    assert_eq!(third.concat(), body);
    let fourth = pass(&bodies, &body, &[], true);
    assert_eq!(memory(&fourth), memory(&second));
    assert_eq!(fourth.concat(), body);
}

#[test]
fn one_that_only_begins_alike_is_told_as_it_is() {
    let bodies = LargeBodies::default();
    let body = content(0, 50_000);
    let mut other = body.clone();
    other[40_000] ^= 1;
    pass(&bodies, &body, &[16_000], true);
    pass(&bodies, &body, &[16_000], true);
    assert_eq!(pass(&bodies, &other, &[16_000], true).concat(), other);
    // Nothing is kept of either now, until one comes again.
    assert_eq!(bodies.0.lock().bytes, 0);
    assert_eq!(pass(&bodies, &other, &[16_000], true).concat(), other);
    assert_eq!(bodies.0.lock().bytes, other.len());
    // A shorter one, and a longer one.
    let shorter = pass(&bodies, &other[..30_000], &[16_000], true);
    assert_eq!(shorter.concat(), other[..30_000]);
    assert_eq!(bodies.0.lock().bytes, 0);
    pass(&bodies, &other[..30_000], &[16_000], true);
    assert_eq!(pass(&bodies, &other, &[16_000], true).concat(), other);
}

#[test]
fn what_is_cut_or_small_is_not_kept() {
    let bodies = LargeBodies::default();
    let body = content(0, 50_000);
    for _ in 0..3 {
        pass(&bodies, &body, &[16_000], false);
        assert_eq!(bodies.0.lock().bytes, 0);
    }
    let small = content(1, COPIED_BYTES_MAX - 1);
    for _ in 0..3 {
        pass(&bodies, &small, &[], true);
    }
    assert_eq!(bodies.0.lock().order.len(), 1);
    assert_eq!(bodies.0.lock().collected, 0);
}

#[test]
fn memory_is_bounded() {
    let bodies = LargeBodies::default();
    let seeded = |number: usize, length| {
        let mut body = content(0, length);
        body[..8].copy_from_slice(&number.to_le_bytes());
        body
    };
    for number in 0..2 * KNOWN_BODIES_BYTES_MAX / KNOWN_BODY_BYTES_MAX {
        let body = seeded(number, KNOWN_BODY_BYTES_MAX);
        pass(&bodies, &body, &[16_000], true);
        pass(&bodies, &body, &[16_000], true);
        let state = bodies.0.lock();
        assert!(state.bytes <= KNOWN_BODIES_BYTES_MAX);
        assert!(number > 0 || state.bytes > 0);
    }
    for number in 0..2 * KNOWN_BODIES_MAX {
        pass(&bodies, &seeded(1000 + number, 5000), &[], true);
        assert!(bodies.0.lock().order.len() <= KNOWN_BODIES_MAX);
    }
    assert_eq!(bodies.0.lock().bytes, 0, "all of them are older");
    // One that is too large is given up.
    let large = seeded(0, KNOWN_BODY_BYTES_MAX + 1);
    for _ in 0..3 {
        assert_eq!(pass(&bodies, &large, &[16_000], true).concat(), large);
    }
    assert_eq!(bodies.0.lock().bytes, 0);
    // No more are collected at once than that.
    let many = (0..2 * BODIES_COLLECTED_MAX).map(|number| seeded(5000 + number, 5000));
    let many: Vec<Vec<u8>> = many.collect();
    let mut open: Vec<Passing> = Vec::new();
    for body in many.iter().chain(&many) {
        let mut passing = Passing::default();
        passing.begin(body, &bodies);
        open.push(passing);
    }
    let is_collected = |passing: &&Passing| matches!(passing, Passing::Collected(_));
    assert_eq!(
        open.iter().filter(is_collected).count(),
        BODIES_COLLECTED_MAX
    );
    for mut passing in open {
        passing.end(false, &bodies);
    }
    assert_eq!(bodies.0.lock().collected, 0);
}

proptest! {
    #[test]
    fn told_is_what_passed(
        courses in prop::collection::vec(
            (0_u8..2, 1_usize..20_000, prop::collection::vec(1_usize..9000, 0..6), any::<bool>(), 0_usize..20_000),
            1..12,
        ),
    ) {
        let bodies = LargeBodies::default();
        for (seed, length, sizes, whole, change) in courses {
            let mut body = content(seed, length);
            // Mostly beyond the end, so that nothing is changed.
            if let Some(byte) = body.get_mut(change) {
                *byte ^= 0x55;
            }
            prop_assert_eq!(pass(&bodies, &body, &sizes, whole).concat(), body);
        }
    }
}
