//! What is stored comes back, and of what repeats little is stored.

use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::database;

fn open() -> (TempDir, Connection) {
    let folder = TempDir::new().unwrap();
    let connection = database::open_for_writing(&folder.path().join("oriel.db")).unwrap();
    (folder, connection)
}

fn bodies(connection: &Connection) -> Bodies<'_> {
    Bodies::new(connection, Remembered::default()).unwrap()
}

/// Text that hardly compresses and does not repeat.
fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_le_bytes());
    let mut text = vec![0; bytes];
    hash.finalize_xof().fill(&mut text);
    for byte in &mut text {
        *byte = b' ' + *byte % 64;
    }
    text
}

fn stored_bytes(connection: &Connection) -> i64 {
    let sql = "SELECT sum(length(data) + coalesce(length(pieces), 0)) FROM bodies";
    connection.query_row(sql, (), |row| row.get(0)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // Contents put together from stretches of a few texts, as conversations are.
    #[test]
    fn what_is_stored_comes_back(
        contents in prop::collection::vec(
            prop::collection::vec((0_u64..4, 0_usize..30_000, 0_usize..20_000), 1..6),
            1..12,
        ),
    ) {
        let (_folder, connection) = open();
        let mut bodies = bodies(&connection);
        let texts: Vec<Vec<u8>> = (0..4).map(|seed| text(seed, 50_000)).collect();
        let mut rows = Vec::new();
        for stretches in contents {
            let parts = stretches.iter().map(|(text, start, length)| {
                let text = &texts[usize::try_from(*text).unwrap()];
                Bytes::copy_from_slice(&text[*start..start + length])
            });
            let parts: Vec<Bytes> = parts.collect();
            let row = bodies.store(Message::Request, &parts).unwrap().unwrap();
            rows.push((row, parts.concat()));
        }
        for (row, content) in rows {
            prop_assert!(read_body(&connection, row).unwrap() == content);
        }
    }
}

#[test]
fn a_conversation_takes_what_is_new_in_it() {
    let (_folder, connection) = open();
    let mut bodies = bodies(&connection);
    let mut said = text(0, 60_000);
    let mut rows = Vec::new();
    for turn in 1..=300 {
        said.extend_from_slice(&text(turn, 1000));
        let mut content = format!("{{\"turn\":{turn},").into_bytes();
        content.extend_from_slice(&said);
        content.extend_from_slice(b",\"max_tokens\":32000}");
        let row = bodies.store_bytes(Message::Request, &content).unwrap();
        rows.push((row, content));
    }
    let raw: i64 = rows.iter().map(|(_, content)| content.len() as i64).sum();
    let stored = stored_bytes(&connection);
    assert!(stored * 20 < raw, "{stored} of {raw}");
    for (row, content) in rows {
        assert!(read_body(&connection, row).unwrap() == content);
    }
}

#[test]
fn only_texts_of_requests_are_taken_apart() {
    let (_folder, connection) = open();
    let mut bodies = bodies(&connection);
    let mut other = text(1, 100_000);
    other.extend_from_slice(b"another end");
    let mut binary = vec![0; 10];
    binary.extend_from_slice(&other);
    for (message, content) in [
        (Message::Request, text(1, 100_000)),
        (Message::Response, other),
        (Message::Request, binary),
    ] {
        bodies.store_bytes(message, &content).unwrap();
    }
    let sql = "SELECT count(*) FROM bodies WHERE pieces IS NOT NULL";
    let pieced: i64 = connection.query_row(sql, (), |row| row.get(0)).unwrap();
    assert_eq!(pieced, 0);
}

#[test]
fn bodies_that_were_removed_are_not_referred_to() {
    let (_folder, connection) = open();
    let mut bodies = bodies(&connection);
    let first = text(1, 50_000);
    let mut second = first.clone();
    second.extend_from_slice(b"more");
    bodies.heed_removals().unwrap();
    bodies.store_bytes(Message::Request, &first).unwrap();
    connection
        .execute_batch("DELETE FROM bodies; UPDATE upkeep SET removals = removals + 1")
        .unwrap();
    bodies.heed_removals().unwrap();
    let row = bodies.store_bytes(Message::Request, &second).unwrap();
    assert!(read_body(&connection, row).unwrap() == second);
}

#[test]
fn a_list_that_is_damaged_is_an_error() {
    let (_folder, connection) = open();
    let mut bodies = bodies(&connection);
    let first = text(1, 50_000);
    bodies.store_bytes(Message::Request, &first).unwrap();
    let second = [&first[..], b"more"].concat();
    let row = bodies.store_bytes(Message::Request, &second).unwrap();
    for damage in [
        "UPDATE bodies SET pieces = x'00' WHERE pieces IS NOT NULL",
        "UPDATE bodies SET pieces = x'ffffffffffffffffff01' WHERE pieces IS NOT NULL",
        "DELETE FROM bodies WHERE pieces IS NULL",
    ] {
        connection.execute_batch(damage).unwrap();
        let read = read_body(&connection, row);
        assert!(matches!(read, Err(StoreError::Damaged { .. })), "{damage}");
    }
}

#[test]
fn a_large_body_that_lies_where_it_lay_is_known() {
    let (_folder, connection) = open();
    let mut bodies = bodies(&connection);
    let (one, other) = (Bytes::from(text(0, 50_000)), Bytes::from(text(1, 50_000)));
    let mut store = |parts: &[Bytes]| bodies.store(Message::Response, parts).unwrap();
    let cut = |whole: &Bytes, at: usize| vec![whole.slice(..at), whole.slice(at..)];
    let row = store(&cut(&one, 20_000));
    assert_eq!(store(&cut(&one, 20_000)), row);
    // Now it is held, and known however it is cut.
    assert_eq!(store(&cut(&one, 30_000)), row);
    assert_eq!(store(std::slice::from_ref(&one)), row);
    // What begins where it lies is not it.
    let shorter = store(&cut(&one.slice(..49_999), 20_000));
    assert_ne!(shorter, row);
    let mixed = store(&[one.slice(..20_000), other.slice(20_000..)]);
    assert_ne!(mixed, row);
    assert_ne!(mixed, shorter);
    for (row, content) in [
        (row, one.to_vec()),
        (shorter, one[..49_999].to_vec()),
        (mixed, [&one[..20_000], &other[20_000..]].concat()),
    ] {
        assert_eq!(read_body(&connection, row.unwrap()).unwrap(), content);
    }
}

#[test]
fn what_is_held_of_large_bodies_is_bounded() {
    let (_folder, connection) = open();
    let mut bodies = bodies(&connection);
    let mut is_held = |content: &Bytes, piece: usize| {
        let starts = (0..content.len()).step_by(piece);
        let parts = starts.map(|at| content.slice(at..content.len().min(at + piece)));
        let parts: Vec<Bytes> = parts.collect();
        for _ in 0..2 {
            bodies.store(Message::Response, &parts).unwrap();
        }
        drop(parts);
        // Nobody else has it.
        !content.is_unique()
    };
    let piece = REMEMBERED_LARGE_BODY_BYTES_MAX / REMEMBERED_LARGE_BODY_PIECES_MAX;
    let body = |seed, bytes| Bytes::from(text(seed, bytes));
    let largest = REMEMBERED_LARGE_BODY_BYTES_MAX;
    assert!(is_held(&body(0, largest), piece));
    assert!(!is_held(&body(1, largest + 1), 2 * piece));
    assert!(!is_held(&body(2, largest), piece - 1));
    let many: Vec<Bytes> = (3..67).map(|seed| body(seed, 10_000)).collect();
    for body in &many {
        assert!(is_held(body, 5000));
    }
    let held = many.iter().filter(|body| !body.is_unique()).count();
    assert!(held <= REMEMBERED_LARGE_BODIES_MAX, "{held}");
}
