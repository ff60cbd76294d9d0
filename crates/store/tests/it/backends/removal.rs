//! The same flows go from each kind of database, and the same of them stays.

use oriel_store::{
    Archive, Choice, Chosen, Doomed, FlowRef, FlowRow, FlowState, Keep, Location, Message, Query,
    Reader, Removal, StoreError,
};
use tempfile::TempDir;
use traffic::Timestamp;

use super::{Original, text};
use crate::script::START;
use crate::search::{filter, search};

/// A file beside an archive, with the same flows.
struct Pair<'a> {
    original: Original,
    file: Box<dyn Archive>,
    of_file: Reader,
    archive: &'a mut dyn Archive,
    of_archive: &'a Reader,
    _folder: TempDir,
}

/// When a flow of this number began.
fn at(flow: i64) -> Timestamp {
    Timestamp(START + flow * 1000)
}

/// Removes the same from a file and from an archive, step by step until nothing is left.
pub(crate) fn compare(archive: &mut dyn Archive, of_archive: &Reader) {
    let original = Original::new();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("copy.db");
    let mut file = Location::File(path.clone()).open_archive().unwrap();
    original.copy_to(&mut *file);
    original.copy_to(archive);
    let mut pair = Pair {
        of_file: Reader::open_at(&Location::File(path)).unwrap(),
        original,
        file,
        archive,
        of_archive,
        _folder: folder,
    };
    pair.compare_left();
    pair.remove_what_is_tagged();
    pair.remove_what_is_old();
    pair.remove_what_is_chosen();
    pair.remove_all();
}

impl Pair<'_> {
    fn remove_what_is_chosen(&mut self) {
        let [first, second] = self.original.runs;
        let of = |run, seq| FlowRef { run, seq };
        let named = Chosen::Flows(vec![
            of(second, 20),
            of(first, 6),
            of(second, 3),
            of(second, 15),
        ]);
        let removal = self.remove_chosen(named, false);
        assert_eq!(
            (removal.flows, removal.open),
            (3, 1),
            "one is marked, and one open"
        );
        let found = |text| Chosen::Found {
            run: Some(second),
            filter: Some(filter(text)),
        };
        let removal = self.remove_chosen(found("method:POST"), false);
        assert!(removal.flows > 5 && removal.marked > 0, "{removal:?}");
        let removal = self.remove_chosen(found("method:POST"), true);
        assert!(removal.flows > 0 && removal.marked == 0, "{removal:?}");
        let removal = self.remove_chosen(Chosen::Sessions(vec!["it's none".to_owned()]), false);
        assert_eq!(removal, Removal::default());
    }

    fn remove_what_is_tagged(&mut self) {
        // All tags of a flow have to say that it goes.
        for (tags, flows) in [(&["gold", "keep"][..], 0), (&["gold", "keep", "über"], 1)] {
            let tags = tags.iter().map(|tag| ((*tag).to_owned(), at(1000)));
            let removal = self.remove_old(&Keep {
                tags: tags.collect(),
                ..Keep::default()
            });
            assert_eq!(removal.flows, flows, "{removal:?}");
        }
    }

    fn remove_what_is_old(&mut self) {
        let old = |keep: Keep| Keep {
            matching: Some(filter("status:404 OR kind:tunnel")),
            ..keep
        };
        // Of some the bodies go, and others go whole at once.
        let removal = self.remove_old(&old(Keep {
            bodies_since: Some(at(30)),
            flows_since: Some(at(5)),
            ..Keep::default()
        }));
        assert!(removal.flows > 2 && removal.bodiless > 10, "{removal:?}");
        assert!(removal.matching > 2 && removal.marked > 0, "{removal:?}");
        self.compare_bodies();
        // A second time there is nothing to do.
        let removal = self.remove_old(&Keep {
            bodies_since: Some(at(3)),
            ..Keep::default()
        });
        assert_eq!((removal.flows, removal.bodiless), (0, 0), "{removal:?}");
    }

    fn remove_all(&mut self) {
        self.remove_old(&Keep {
            flows_since: Some(at(1000)),
            ..Keep::default()
        });
        let left = rows(self.of_archive);
        assert!(
            left.iter()
                .all(|row| row.note.is_some() || row.state == FlowState::Open)
        );
        assert!(left.len() > 2, "{}", left.len());
        let sizes = Keep {
            bytes_max: Some(1),
            ..Keep::default()
        };
        let refused = self.archive.plan_removal(&Doomed::Old(&sizes));
        assert!(matches!(refused, Err(StoreError::NoSizes)), "{refused:?}");
    }

    fn remove_chosen(&mut self, chosen: Chosen, forced: bool) -> Removal {
        self.remove(&Doomed::Chosen(&Choice { chosen, forced }))
    }

    fn remove_old(&mut self, keep: &Keep) -> Removal {
        self.remove(&Doomed::Old(keep))
    }

    /// Plans, removes, and compares each.
    fn remove(&mut self, doomed: &Doomed<'_>) -> Removal {
        // What bodies take differs with how they are stored.
        let counts = |removal: Removal| Removal {
            body_bytes: 0,
            ..removal
        };
        let planned = self.archive.plan_removal(doomed).unwrap();
        let of_file = self.file.plan_removal(doomed).unwrap();
        assert_eq!(counts(planned), counts(of_file), "{doomed:?}");
        let (mut told, all) = (Vec::new(), planned.flows + planned.bodiless);
        let removed = self.archive.remove(doomed, &mut |progress| {
            assert_eq!(progress.all, all);
            told.push(progress.done);
            true
        });
        assert_eq!(removed.unwrap(), planned, "{doomed:?}");
        assert_eq!(told.last().copied().unwrap_or(0), all);
        let removed = self.file.remove(doomed, &mut |_progress| true).unwrap();
        assert_eq!(counts(removed), counts(planned), "{doomed:?}");
        self.compare_left();
        planned
    }

    /// The flows that are there are the same, as lists show them.
    fn compare_left(&self) {
        assert_eq!(rows(self.of_archive), rows(&self.of_file));
    }

    /// So is what is left of their bodies, and what is found in them.
    fn compare_bodies(&self) {
        let left = rows(&self.of_file);
        let flows: Vec<FlowRef> = left.iter().map(|row| row.id).collect();
        for id in flows.iter().copied() {
            for message in [Message::Request, Message::Response] {
                let (found, expected) = (
                    self.of_archive.body(id, message),
                    self.of_file.body(id, message),
                );
                assert_eq!(text(&found), text(&expected), "{id} {message:?}");
            }
            let messages = |reader: &Reader| text(&reader.messages(id, 0, 100));
            assert_eq!(messages(self.of_archive), messages(&self.of_file), "{id}");
        }
        // Words go with the bodies that they stood in; those of URLs stay. An open flow has none yet.
        for word in ["hello", "messages"] {
            let has_it = |flow: &&FlowRef| {
                let row = self.of_file.flow(**flow).unwrap().row;
                let body = self.of_file.body(**flow, Message::Response).unwrap();
                let body = body.map_or_else(Vec::new, |body| body.bytes);
                let text = row.url.to_ascii_lowercase() + &String::from_utf8_lossy(&body);
                row.state != FlowState::Open && text.contains(word)
            };
            let hits = self.of_archive.search(&search(word)).unwrap();
            let mut hits: Vec<FlowRef> = hits.hits.iter().map(|hit| hit.row.id).collect();
            hits.sort_unstable();
            let mut expected: Vec<FlowRef> = flows.iter().filter(has_it).copied().collect();
            expected.sort_unstable();
            assert_eq!(hits, expected, "{word}");
        }
    }
}

fn rows(reader: &Reader) -> Vec<FlowRow> {
    let query = Query {
        limit: 1000,
        ..Query::default()
    };
    reader.flows(&query).unwrap().rows
}
