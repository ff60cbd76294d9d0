//! Flows are found by what stands in them.

use bytes::Bytes;
use oriel_store::{
    Choice, Chosen, Hits, Keep, Query, Reader, Remover, Search, StoreError, TextIndex, TextPart,
    back_up,
};
use rusqlite::Connection;
use traffic::Timestamp;
use traffic::rules::filter::{Filter, Words};

use crate::script::{Place, START, Script};

pub(crate) fn search(text: &str) -> Search {
    Search {
        words: Words::parse(text).unwrap(),
        parts: Vec::new(),
        filter: None,
        run: None,
        limit: 100,
        context: 10,
        after: None,
    }
}

pub(crate) fn filter(text: &str) -> Filter {
    Filter::parse(text, Timestamp(START)).unwrap()
}

pub(crate) fn index(place: &Place) {
    place.flush();
    let mut index = TextIndex::open(&place.path()).unwrap();
    while index.step().unwrap() > 0 {}
    assert_eq!(index.behind().unwrap(), 0);
}

fn found(hits: &Hits) -> Vec<u64> {
    hits.hits.iter().map(|hit| hit.row.id.seq).collect()
}

fn asked(reader: &Reader, text: &str) -> Vec<u64> {
    found(&reader.search(&search(text)).unwrap())
}

#[test]
fn texts_are_taken_while_another_writes() {
    let place = place();
    place.flush();
    let writer = Connection::open(place.path()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    index(&place);
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(asked(&place.reader(), "before"), [2]);
}

#[test]
fn a_record_may_be_called_anything() {
    let place = place();
    place.flush();
    let path = place
        .path()
        .with_file_name("50% of ä?mode=memory#1&file:.db");
    back_up(&place.path(), &path, |_, _| {}).unwrap();
    let mut index = TextIndex::open(&path).unwrap();
    while index.step().unwrap() > 0 {}
    assert_eq!(asked(&Reader::open(&path).unwrap(), "before"), [2]);
}

fn place() -> Place {
    let place = Place::new();
    record_texts(&place);
    place
}

/// Four flows, the second one with a compressed body.
pub(crate) fn record_texts(place: &Place) {
    let mut one = Script::new(1);
    one.request_body = vec![Bytes::from_static(br#"{"ask":"run rm\n-rf \u00dcber"}"#)];
    place.record(one.events());
    let mut two = Script::new(2);
    two.response = Some(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n".to_vec());
    two.response_body = vec![Bytes::from(gzip(b"the rf comes before rm here"))];
    place.record(two.events());
    let mut three = Script::new(3);
    three.request = b"GET /flow-control?q=rm HTTP/1.1\r\n\r\n".to_vec();
    three.request_body.clear();
    three.response_body = vec![Bytes::from_static(b"\x00binary rm rf")];
    place.record(three.events());
    let mut four = Script::new(4);
    four.response_body = vec![Bytes::from_static(
        b"data: {\"delta\":{\"text\":\"a dead\"}}\n\ndata: {\"delta\":{\"text\":\"lock here\"}}\n\n",
    )];
    place.record(four.events());
}

/// RFC 1952 with one stored block (RFC 1951 section 3.2.4), which needs no compressor.
fn gzip(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let mut crc = u32::MAX;
    for byte in text {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1];
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(text);
    out.extend((!crc).to_le_bytes());
    out.extend(u32::from(length).to_le_bytes());
    out
}

#[test]
fn words_are_found_in_every_part() {
    let place = place();
    index(&place);
    let reader = place.reader();
    assert_eq!(asked(&reader, "rm"), [3, 2, 1]);
    assert_eq!(asked(&reader, "RM -RF"), [1]);
    assert_eq!(asked(&reader, "über"), [1]);
    assert_eq!(asked(&reader, "rf comes before"), [2]);
    assert_eq!(asked(&reader, "deadlock here"), [4]);
    assert_eq!(asked(&reader, "dead*"), [4]);
    assert_eq!(asked(&reader, "dead"), [4]);
    assert_eq!(asked(&reader, "flow control"), [3]);
    assert!(asked(&reader, "binary").is_empty());
    assert!(asked(&reader, "nowhere").is_empty());

    let hits = reader.search(&search("rm -rf")).unwrap();
    let excerpt = &hits.hits[0].excerpts[0];
    assert_eq!(excerpt.part, TextPart::Request);
    assert_eq!(
        (&*excerpt.before, &*excerpt.found, &*excerpt.behind),
        ("ask\":\"run ", "rm -rf", " Über\"}")
    );
    let mut narrow = search("rm");
    narrow.parts = vec![TextPart::Url, TextPart::Request];
    assert_eq!(found(&reader.search(&narrow).unwrap()), [3, 1]);
    narrow.filter = Some(filter("method:post"));
    assert_eq!(found(&reader.search(&narrow).unwrap()), [1]);
}

#[test]
fn a_search_goes_on_where_it_was() {
    let place = place();
    index(&place);
    let reader = place.reader();
    let mut page = search("rm");
    page.limit = 2;
    let first = reader.search(&page).unwrap();
    assert_eq!(found(&first), [3, 2]);
    let text = first.next.unwrap().to_string();
    page.after = Some(text.parse().unwrap());
    let second = reader.search(&page).unwrap();
    assert_eq!(found(&second), [1]);
    assert!(second.next.is_none());
    assert!("s_".parse::<oriel_store::SearchCursor>().is_err());
}

#[test]
fn a_filter_asks_for_words() {
    let place = place();
    let reader = place.reader();
    let list = |text: &str| {
        let query = Query {
            filter: Some(filter(text)),
            ..Query::default()
        };
        let page = reader.flows(&query)?;
        Ok::<Vec<u64>, StoreError>(page.rows.iter().map(|row| row.id.seq).collect())
    };
    assert!(matches!(list("text:rm"), Err(StoreError::NoTexts)));
    assert!(matches!(
        reader.search(&search("rm")),
        Err(StoreError::NoTexts)
    ));
    index(&place);
    assert_eq!(list("text:rm").unwrap(), [3, 2, 1]);
    assert_eq!(list("text:\"rf rm\"").unwrap(), [2, 1]);
    assert_eq!(list("-text:rm status:200").unwrap(), [4]);
    assert_eq!(list("(text:dead* OR path:/flow*)").unwrap(), [4, 3]);
}

#[test]
fn flows_are_indexed_once_they_have_ended() {
    let place = Place::new();
    let mut events = Script::new(1).events();
    let end = events.split_off(3);
    place.record(events);
    index(&place);
    let reader = place.reader();
    assert!(asked(&reader, "hello").is_empty());
    place.record(end);
    place.record(Script::new(2).events());
    index(&place);
    assert_eq!(asked(&reader, "hello world"), [2, 1]);
}

#[test]
fn an_index_is_made_anew_where_it_is_of_no_use() {
    let place = place();
    index(&place);
    let path = place.path().with_extension("search.db");
    for odd in [
        &b"no database at all, but a text that is long enough to be one".repeat(20)[..],
        b"",
    ] {
        for end in ["", "-wal", "-shm"] {
            let _missing = std::fs::remove_file(format!("{}{end}", path.display()));
        }
        std::fs::write(&path, odd).unwrap();
        index(&place);
        assert_eq!(asked(&place.reader(), "rm"), [3, 2, 1]);
    }
    // Of another record of the same name nothing is found.
    let other = Place::new();
    other.record(Script::new(1).events());
    other.flush();
    std::fs::copy(&path, other.path().with_extension("search.db")).unwrap();
    index(&other);
    assert!(asked(&other.reader(), "rm").is_empty());
    assert_eq!(asked(&other.reader(), "hello"), [1]);
}

#[test]
fn removed_flows_leave_the_index_and_it_shrinks() {
    let place = Place::new();
    for flow in 1..=3000 {
        let mut script = Script::new(flow);
        let words: String = (0..60)
            .map(|word| format!("w{} ", (flow * 7919 + word * 104_729) % 50_000))
            .collect();
        script.response_body = vec![Bytes::from(format!("common {words}"))];
        place.record(script.events());
    }
    index(&place);
    let path = place.path().with_extension("search.db");
    let entries = || -> i64 {
        let connection = Connection::open(&path).unwrap();
        let sql = "SELECT count(*) FROM texts WHERE texts MATCH 'common'";
        connection.query_row(sql, (), |row| row.get(0)).unwrap()
    };
    let pages = || -> i64 {
        let connection = Connection::open(&path).unwrap();
        connection
            .query_row("SELECT page_count FROM pragma_page_count", (), |row| {
                row.get(0)
            })
            .unwrap()
    };
    let pages_before = pages();
    assert_eq!(entries(), 3000);
    let mut remover = Remover::open(&place.path()).unwrap();
    let old = Keep {
        flows_since: Some(Timestamp(START + 2701 * 1000 - 1)),
        ..Keep::default()
    };
    assert_eq!(remover.remove(&old, |_| true).unwrap().flows, 2700);
    assert_eq!(entries(), 300);
    assert!(pages() * 4 < pages_before, "{} of {pages_before}", pages());

    // What words name goes too, and the index follows.
    let choice = Choice {
        chosen: Chosen::Found {
            run: None,
            filter: Some(filter("text:common")),
        },
        forced: false,
    };
    assert_eq!(remover.remove(&choice, |_| true).unwrap().flows, 300);
    assert_eq!(entries(), 0);
    assert_eq!(asked(&place.reader(), "common"), [0_u64; 0]);
    let mut after = Script::new(3001);
    after.response_body = vec![Bytes::from_static(b"common")];
    place.record(after.events());
    index(&place);
    assert_eq!(asked(&place.reader(), "common"), [3001]);
}
