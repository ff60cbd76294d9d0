//! Each kind of database gives the same answers to the same questions about the same flows. The
//! SQLite file of a machine is what the others are compared with.

mod clickhouse;
mod postgres;
mod removal;
mod said;
mod sums;
mod words;

use std::collections::BTreeSet;
use std::path::Path;

use oriel_store::{
    Annotate, Annotator, Archive, ArchiveBatch, FlowRecord, FlowRef, Marker, Message, Order, Query,
    Reader, RunId, SortKey,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rusqlite::Connection;
use traffic::Timestamp;
use traffic::rules::filter::Filter;

use crate::copies::{record_all_sorts, records};
use crate::filters::{filter, record_sixty, regex};
use crate::script::{Place, START, new_run};

/// The folder of Python clients, which has the engine of ClickHouse.
pub(crate) fn clients() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/clients"))
}

/// Two runs in the file of a machine, with flows of all sorts.
pub(crate) struct Original {
    place: Place,
    reader: Reader,
    /// The run with seven flows of different sorts, and the one with sixty.
    runs: [RunId; 2],
}

impl Original {
    pub(crate) fn new() -> Self {
        let mut place = Place::new();
        record_all_sorts(&place);
        let first = place.run;
        place.run = place.store.begin_run(new_run(Some("named"))).unwrap();
        place.recorder = place.store.recorder(place.run);
        record_sixty(&place);
        place.flush();
        let note = Annotate {
            add_tags: vec!["keep".to_owned(), "über".to_owned()],
            note: Some("seen by eye".to_owned()),
            ..Annotate::default()
        };
        let mut annotator = Annotator::open(&place.path()).unwrap();
        annotator.annotate(place.flow(4), &note).unwrap();
        make_different(&place, first);
        let reader = place.reader();
        let runs = [first, place.run];
        Self {
            place,
            reader,
            runs,
        }
    }

    pub(crate) fn copy_to(&self, archive: &mut dyn Archive) {
        copy_to(&self.reader, archive);
    }

    /// Asks both everything that a reader can be asked; `least` is how little is asked for at once.
    pub(crate) fn compare(&self, other: &Reader, least: usize) {
        self.compare_runs(other);
        self.compare_flows(other);
        self.compare_pages(other, least);
        self.compare_ids(other);
        self.compare_records(other, least);
    }

    fn compare_runs(&self, other: &Reader) {
        assert_eq!(other.runs(10).unwrap(), self.reader.runs(10).unwrap());
        assert_eq!(other.runs(1).unwrap().len(), 1);
        for run in self.runs {
            assert_eq!(other.run(run).unwrap(), self.reader.run(run).unwrap());
            let summary = other.summary(run).unwrap();
            assert_eq!(summary, self.reader.summary(run).unwrap());
        }
        let unknown = "aaaa".parse().unwrap();
        assert_eq!(text(&other.run(unknown)), text(&self.reader.run(unknown)));
    }

    fn flows(&self) -> Vec<FlowRef> {
        let of = |run, last| (1..=last).map(move |seq| FlowRef { run, seq });
        of(self.runs[0], 7).chain(of(self.runs[1], 60)).collect()
    }

    fn compare_flows(&self, other: &Reader) {
        let unknown = FlowRef {
            run: self.runs[0],
            seq: 8,
        };
        for flow in self.flows().into_iter().chain([unknown]) {
            assert_eq!(text(&other.flow(flow)), text(&self.reader.flow(flow)));
            for message in [Message::Request, Message::Response] {
                let (found, expected) =
                    (other.body(flow, message), self.reader.body(flow, message));
                assert_eq!(text(&found), text(&expected), "{flow} {message:?}");
            }
            // Of those that can have messages, in more than one way.
            let pages = match flow.run == self.runs[0] {
                true => &[(0, 10), (0, 1), (1, 10), (2, 10)][..],
                false => &[(0, 10)],
            };
            for &(after, limit) in pages {
                let found = other.messages(flow, after, limit);
                let expected = self.reader.messages(flow, after, limit);
                assert_eq!(text(&found), text(&expected), "{flow} after {after}");
            }
        }
    }

    fn compare_pages(&self, other: &Reader, least: usize) {
        for by in [SortKey::Time, SortKey::Duration, SortKey::Size] {
            for ascending in [true, false] {
                for limit in [least, 7, 1000] {
                    let query = Query {
                        run: Some(self.runs[1]),
                        order: Order { by, ascending },
                        limit,
                        with_total: true,
                        ..Query::default()
                    };
                    let (found, expected) = (pages(other, &query), pages(&self.reader, &query));
                    assert_eq!(found, expected, "{query:?}");
                    assert_eq!(found.len(), 60);
                }
            }
        }
        let all = Query {
            limit: 9,
            ..Query::default()
        };
        assert_eq!(pages(other, &all), pages(&self.reader, &all));
        let first = other.flows(&all).unwrap();
        let wrong = Query {
            after: first.next,
            order: Order {
                by: SortKey::Size,
                ascending: true,
            },
            ..all
        };
        assert!(other.flows(&wrong).is_err());
    }

    fn compare_ids(&self, other: &Reader) {
        let run = self.runs[1];
        let uuid = self.reader.flow(self.flows()[20]).unwrap().row.uuid;
        let start: String = run.as_str().chars().take(3).collect();
        for id in [
            format!("{run}.31"),
            format!("{run}.61"),
            format!("{run}.0"),
            format!("{}.3", run.as_str().to_uppercase()),
            run.to_string(),
            format!("{start}.2"),
            "named.1".to_owned(),
            "Named.1".to_owned(),
            "@last.31".to_owned(),
            "@-2.7".to_owned(),
            "@-3".to_owned(),
            "@-0".to_owned(),
            "@first".to_owned(),
            uuid.to_uppercase(),
            "01900000-0000-7000-8000-000000000001".to_owned(),
            "%.1".to_owned(),
            "a\0.1".to_owned(),
            String::new(),
            ".1".to_owned(),
        ] {
            let (found, expected) = (other.resolve(&id), self.reader.resolve(&id));
            assert_eq!(text(&found), text(&expected), "{id:?}");
            let (found, expected) = (other.resolve_run(&id), self.reader.resolve_run(&id));
            assert_eq!(text(&found), text(&expected), "{id:?}");
        }
    }

    /// What is copied back is what was copied.
    fn compare_records(&self, other: &Reader, least: usize) {
        for limit in [least, 30, 1000] {
            let (mut found, mut marker) = (Vec::<FlowRecord>::new(), Marker::default());
            loop {
                let look = other.records(marker, limit).unwrap();
                if look.marker == marker {
                    break;
                }
                assert!(look.flows.len() <= 2 * limit);
                found.extend(look.flows);
                marker = look.marker;
            }
            let id = |record: &FlowRecord| record.detail.row.uuid.clone();
            let mut expected = records(&self.place.path(), 1000);
            found.sort_by_key(id);
            expected.sort_by_key(id);
            assert_eq!(found, expected);
            assert_eq!(marker, other.marker().unwrap());
        }
        let (mut seen, mut marker) = (BTreeSet::new(), Marker::default());
        loop {
            let changes = other.changes_since(marker, None).unwrap();
            if changes.marker == marker {
                break;
            }
            seen.extend(changes.rows.iter().map(|row| row.id));
            marker = changes.marker;
        }
        assert_eq!(seen, self.flows().into_iter().collect());
    }

    /// Filters select the same flows: those of the list, and so many random ones.
    pub(crate) fn compare_filters(&self, other: &Reader, random: u32) {
        for text in FILTERS {
            let found = self.compare_filter(other, text);
            assert!((1..67).contains(&found), "{text} matches {found}");
        }
        for text in [
            "\"' OR 1=1 --\"",
            "path:\"'; DROP TABLE flows; --\"",
            "\"?1\"",
            "\"$1\"",
            "host:%",
        ] {
            self.compare_filter(other, text);
        }
        let mut runner = TestRunner::new(ProptestConfig::with_cases(random));
        let compare = |text: String| {
            self.compare_filter(other, &text);
            Ok(())
        };
        runner
            .run(&prop_oneof![2 => filter(), 1 => regex()], compare)
            .unwrap();
    }

    /// Compares the answers; says how many flows matched.
    fn compare_filter(&self, other: &Reader, text: &str) -> usize {
        let filter = Filter::parse(text, Timestamp(START + 3_600_000_000)).unwrap();
        let query = Query {
            filter: Some(filter.clone()),
            limit: 1000,
            with_total: true,
            ..Query::default()
        };
        let ids = |reader: &Reader| {
            let page = reader.flows(&query).unwrap();
            let ids: Vec<FlowRef> = page.rows.iter().map(|row| row.id).collect();
            assert_eq!(page.total, Some(ids.len() as u64), "{text}");
            ids
        };
        let found = ids(other);
        assert_eq!(found, ids(&self.reader), "{text}");
        let changes = other
            .changes_since(Marker::default(), Some(&filter))
            .unwrap();
        assert!(
            changes.rows.iter().all(|row| found.contains(&row.id)),
            "{text}"
        );
        found.len()
    }
}

/// Gives some flows what those of the scripts have in common: whose they are, who sent them, and how.
fn make_different(place: &Place, first: RunId) {
    let changes = format!(
        "UPDATE runs SET origin = '{{\"instance\":\"laptop\",\"user\":\"dana\",\"tags\":[\"a\"]}}'
           WHERE id = '{first}';
         UPDATE client_connections SET front = 'socks5', tls_sni = 'cdn.example.net',
           ja3 = 'cd08e31494f9531f560d64c695473da9', ja4 = 't13d1516h2_8daaf6152771_02713d6af862'
           WHERE client_user = 'alice';
         UPDATE places SET request_version = 'HTTP/2' WHERE method = 'OPTIONS';
         UPDATE places SET traffic_type = 'llm' WHERE method = 'POST';
         INSERT INTO sessions (id, agent) VALUES ('a-session', 'codex');
         INSERT INTO session_marks (session, method, confidence, agent, agent_id, parent_agent_id)
           SELECT number, 'header', 'certain', 'codex', 'helper-1', NULL FROM sessions WHERE id = 'a-session';
         UPDATE flows SET session = (SELECT max(id) FROM session_marks) WHERE seq = 3;"
    );
    let connection = Connection::open(place.path()).unwrap();
    connection.execute_batch(&changes).unwrap();
}

/// Copies everything, in the order in which it came.
fn copy_to(reader: &Reader, archive: &mut dyn Archive) {
    let mut marker = Marker::default();
    loop {
        let found = reader.records(marker, 25).unwrap();
        if found.marker == marker {
            return;
        }
        let batch = ArchiveBatch {
            flows: found.flows,
            ..ArchiveBatch::default()
        };
        archive.write(&batch).unwrap();
        marker = found.marker;
    }
}

/// Each matches some flows and not all.
const FILTERS: [&str; 74] = [
    "host:example.com",
    "host:*.example.com",
    "host:EXAMPLE.com",
    "-host:127.0.0.1",
    "host:/^(api|not)/",
    "path:/v1/",
    "path:/v1/*",
    "path:\"a%20b_c\"",
    "path:/a.20B/",
    "url:*x=1",
    "url:/V[12]\\/\\bmess(?:ages){1,3}\\b/",
    "url:/\\d{3}\\.0\\.[[:digit:]]+\\D/",
    "url:/(?-i)\\/V1/",
    "url:/(?m)^https:..api.*(?P<end>a=1|messages)$/",
    "url:/\\A\\p{Ll}+:[^\\s\\w]{2}e/",
    "path:/^.$/",
    "-path:/[^\\/]/",
    "method:GET,DELETE",
    "-method:g*",
    "method:/^(?:get|\\x50OST)$/",
    "status:404",
    "-status:404",
    "status:>=400 -status:503",
    "kind:tunnel",
    "kind:websocket",
    "state:open",
    "size:>20k",
    "req.size:<=9",
    "resp.size:1k..10KiB",
    "dur:>=300ms",
    "-dur:>=300ms",
    "time:>2026-03-02T09:00:00.03Z",
    "until:2026-03-02T09:00:00.03Z",
    "error:*",
    "-error:*",
    "error:timed_out within",
    "error:upstream messages",
    "route:tunnel",
    "header.x-odd:7",
    "header.X-Odd:answer*",
    "header.x-odd:/^1\\d$/",
    "header.a:/^2$/",
    "-header.accept:*",
    "process:node",
    "pid:4711",
    "user:alice",
    "user:A*",
    "-user:/^al/",
    "agent:codex",
    "agent:HELPER-*",
    "-agent:codex",
    "front:socks5",
    "-front:/^conn/",
    "sni:example.net",
    "sni:CDN.*",
    "tls:t13d*",
    "tls:cd08e31494f9531f560d64c695473da9",
    "-tls:/_02713d6af862$/",
    "marked:yes",
    "marked:no",
    "proto:HTTP/2",
    "-proto:http/2",
    "type:llm",
    "-type:llm,unknown",
    "instance:LAPTOP",
    "-instance:lap*",
    "owner:dana",
    "owner:/^d.na$/",
    "session:named",
    "session:@-2",
    "tag:keep",
    "note:EYE",
    "delete",
    "(status:200 OR status:404) host:notexample.com",
];

/// All rows of a list, page by page.
fn pages(reader: &Reader, query: &Query) -> Vec<oriel_store::FlowRow> {
    let (mut query, mut rows) = (query.clone(), Vec::new());
    loop {
        let page = reader.flows(&query).unwrap();
        assert!(page.rows.len() <= query.limit);
        if let Some(total) = page.total {
            assert_eq!(total, 60);
        }
        rows.extend(page.rows);
        // As it travels: as text.
        match page.next {
            Some(next) => query.after = Some(next.to_string().parse().unwrap()),
            None => return rows,
        }
    }
}

/// An answer, or what was wrong with the question.
fn text<T: std::fmt::Debug>(answer: &Result<T, oriel_store::StoreError>) -> String {
    format!("{answer:#?}")
}
