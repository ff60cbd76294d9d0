//! Words of flows are found in every kind of database as in a file.

use bytes::Bytes;
use oriel_store::{Archive, Hit, Query, Reader, TextPart};
use traffic::wire::websocket::{Coding, Message, MessageKind, Observation};
use traffic::{Event, FlowId, FlowKind, Sender, Streamed, Timestamp};

use super::copy_to;
use crate::script::{Place, START, Script, new_run};
use crate::search::{filter, index, record_texts, search};

/// Texts of all sorts, in two runs of the file of a machine.
pub(super) struct Spoken {
    _place: Place,
    reader: Reader,
}

impl Spoken {
    pub(super) fn new() -> Self {
        let mut place = Place::new();
        record_texts(&place);
        place.record(socket(5));
        // Not everybody writes in words, nor ends them.
        let mut long = Script::new(6);
        let text = format!("rm {} {} end", "語".repeat(500), "0x".repeat(200));
        long.response_body = vec![Bytes::from(text)];
        place.record(long.events());
        let mut open = Script::new(7).events();
        open.pop();
        place.record(open);
        place.flush();
        place.run = place.store.begin_run(new_run(Some("named"))).unwrap();
        place.recorder = place.store.recorder(place.run);
        // More flows with both words than are read at once, few of which have the phrase.
        for flow in 1..=70 {
            let mut script = Script::new(flow);
            let said = ["red green", "green red", "red, red", "GREEN"][(flow % 4) as usize];
            script.response_body = vec![Bytes::from(format!("it is {said} number{flow}"))];
            place.record(script.events());
        }
        index(&place);
        let reader = place.reader();
        Self {
            _place: place,
            reader,
        }
    }

    /// A copy of all flows answers all searches alike.
    pub(super) fn compare(&self, archive: &mut dyn Archive, other: &Reader) {
        copy_to(&self.reader, archive);
        for (text, hits) in [
            ("rm", 4),
            ("RM -rf", 1),
            ("rf rm", 0),
            ("über", 1),
            ("Ü*", 1),
            ("deadlock here", 1),
            ("dead*", 1),
            ("dead", 1),
            ("flow control", 1),
            ("asked in a socket", 1),
            ("answ*", 1),
            ("binary", 0),
            ("nowhere", 0),
            ("red green", 17),
            ("green red", 18),
            ("number7*", 2),
            ("its' 100% \\ \"q\"", 0),
            (&"語".repeat(500), 1),
            (&format!("{}*", "語".repeat(400)), 1),
            ("hello world", 1),
        ] {
            for limit in [3, 1000] {
                let found = all(other, text, limit);
                assert_eq!(found, all(&self.reader, text, limit), "{text}");
                assert_eq!(found.len(), hits, "{text}");
            }
        }
        self.compare_narrowed(other);
        self.compare_filters(other);
    }

    fn compare_narrowed(&self, other: &Reader) {
        for parts in [
            vec![TextPart::Url],
            vec![TextPart::Request],
            vec![TextPart::Response],
            vec![TextPart::Url, TextPart::Request],
        ] {
            for (run, text) in [
                (None, ""),
                (None, "method:get"),
                (Some("@-2"), ""),
                (Some("@last"), ""),
            ] {
                let mut asked = search("rm");
                asked.parts.clone_from(&parts);
                asked.filter = (!text.is_empty()).then(|| filter(text));
                asked.run = run.map(|run| other.resolve_run(run).unwrap());
                let found = other.search(&asked).unwrap();
                let expected = self.reader.search(&asked).unwrap();
                assert_eq!(found.hits, expected.hits, "{asked:?}");
                assert!(found.next.is_none());
            }
        }
    }

    /// Words of a filter need not stand beside each other.
    fn compare_filters(&self, other: &Reader) {
        for (text, flows) in [
            ("text:rm", 4),
            ("text:\"rf rm\"", 2),
            ("-text:rm run:@-2", 3),
            ("(text:dead* OR path:/flow*)", 2),
            ("text:\"green RED\"", 35),
            ("text:number1*", 11),
        ] {
            let ids = |reader: &Reader| {
                let query = Query {
                    filter: Some(filter(text)),
                    limit: 1000,
                    with_total: true,
                    ..Query::default()
                };
                let page = reader.flows(&query).unwrap();
                let ids: Vec<_> = page.rows.iter().map(|row| row.id).collect();
                assert_eq!(page.total, Some(ids.len() as u64), "{text}");
                ids
            };
            let found = ids(other);
            assert_eq!(found, ids(&self.reader), "{text}");
            assert_eq!(found.len(), flows, "{text}");
        }
    }
}

/// Everything that is found, so many at once.
fn all(reader: &Reader, text: &str, limit: usize) -> Vec<Hit> {
    let mut asked = search(text);
    asked.limit = limit;
    let mut all = Vec::new();
    loop {
        let found = reader.search(&asked).unwrap();
        assert!(found.hits.len() <= limit);
        all.extend(found.hits);
        // As it travels: as text.
        match found.next {
            Some(next) => asked.after = Some(next.to_string().parse().unwrap()),
            None => return all,
        }
    }
}

/// A WebSocket with a question and an answer.
fn socket(flow: u64) -> Vec<Event> {
    let mut script = Script::new(flow);
    script.kind = FlowKind::WebSocket;
    script.request_body.clear();
    script.response_body.clear();
    let mut events = script.events();
    for (place, (sender, kind, text)) in [
        (
            Sender::Client,
            MessageKind::Text,
            r#"{"q":"asked\nin a socket"}"#,
        ),
        (Sender::Upstream, MessageKind::Text, "answered"),
        (Sender::Upstream, MessageKind::Binary, "answering"),
    ]
    .into_iter()
    .enumerate()
    {
        let streamed = Event::Streamed {
            flow: FlowId(flow),
            at: Timestamp(START + 9000),
            sender,
            item: Box::new(Streamed::WebSocket(Observation::Message(Message {
                kind,
                payload: Bytes::copy_from_slice(text.as_bytes()),
                payload_bytes: text.len() as u64,
                wire_bytes: 10,
                frames: 1,
                coding: Coding::Plain,
                complete: true,
            }))),
        };
        events.insert(3 + place, streamed);
    }
    events
}
