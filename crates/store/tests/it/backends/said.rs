//! What people say about flows and sessions is the same in each kind of database, whoever says it.

use oriel_store::{
    Annotate, AnnotateError, Archive, ArchiveBatch, Location, Query, Reader, SessionEditor,
    SessionName,
};
use tempfile::TempDir;

use super::copy_to;
use crate::copies::record_all_sorts;
use crate::script::{Place, new_run};
use crate::search::filter;
use crate::sessions::record_two_sessions;

/// A file beside an archive, with the same flows.
struct Pair<'a> {
    place: Place,
    file: Box<dyn Archive>,
    of_file: Reader,
    archive: &'a mut dyn Archive,
    of_archive: &'a Reader,
    _folder: TempDir,
}

/// Says the same in a file and in an archive.
pub(crate) fn compare(archive: &mut dyn Archive, of_archive: &Reader) {
    let mut place = Place::new();
    record_two_sessions(&place);
    place.run = place.store.begin_run(new_run(None)).unwrap();
    place.recorder = place.store.recorder(place.run);
    record_all_sorts(&place);
    place.flush();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("copy.db");
    let mut pair = Pair {
        file: Location::File(path.clone()).open_archive().unwrap(),
        archive,
        of_archive,
        of_file: {
            let mut made = Location::File(path.clone()).open_archive().unwrap();
            made.migrate().unwrap();
            Reader::open(&path).unwrap()
        },
        place,
        _folder: folder,
    };
    pair.copy();
    pair.compare();
    pair.annotate();
    pair.name();
    pair.join();
}

impl Pair<'_> {
    fn copy(&mut self) {
        let reader = self.place.reader();
        copy_to(&reader, &mut *self.file);
        copy_to(&reader, self.archive);
    }

    fn both(&mut self) -> [&mut dyn Archive; 2] {
        [&mut *self.file, self.archive]
    }

    /// Both give the same answers.
    fn compare(&self) {
        let sessions = self.of_file.sessions(10).unwrap();
        assert_eq!(self.of_archive.sessions(10).unwrap(), sessions);
        let query = |text: &str| Query {
            filter: (!text.is_empty()).then(|| filter(text)),
            ..Query::default()
        };
        let mut filters = vec![String::new()];
        for text in [
            "tag:seen",
            "note:eye",
            "marked:*",
            "session:mine",
            "session:m*e",
            "-session:mine",
            "session:/^mi/",
        ] {
            filters.push(text.to_owned());
        }
        filters.extend(
            sessions
                .iter()
                .map(|session| format!("session:\"{}\"", session.id)),
        );
        for text in &filters {
            let rows = |reader: &Reader| {
                let mut rows = reader.flows(&query(text)).unwrap().rows;
                // Of two runs, some began at the same time.
                rows.sort_by_key(|row| row.uuid.clone());
                rows
            };
            assert_eq!(rows(self.of_archive), rows(&self.of_file), "{text}");
        }
    }

    fn annotate(&mut self) {
        let flow = self.place.flow(1);
        let uuid = self.of_file.flow(flow).unwrap().row.uuid;
        let change = Annotate {
            add_tags: vec!["seen".to_owned(), "über".to_owned()],
            note: Some("by eye,\n\"twice\"".to_owned()),
            ..Annotate::default()
        };
        let bad = Annotate {
            add_tags: vec!["a b".to_owned()],
            ..Annotate::default()
        };
        let less = Annotate {
            remove_tags: vec!["über".to_owned()],
            note: Some(String::new()),
            ..Annotate::default()
        };
        let since = self.of_archive.marker().unwrap();
        for archive in self.both() {
            let said = archive.annotate(&uuid, &change).unwrap().unwrap();
            assert_eq!(said.tags, ["seen", "über"]);
            let refused = archive.annotate(&uuid, &bad);
            assert!(matches!(refused, Err(AnnotateError::NotATag { .. })));
            let nothing = "01900000-0000-7000-8000-000000000001";
            assert_eq!(archive.annotate(nothing, &change).unwrap(), None);
        }
        self.compare();
        assert_eq!(self.of_archive.flow(flow).unwrap().row.note, change.note);
        // Who follows hears of it: an archive may tell it with a delay.
        let heard = || self.of_archive.changes_since(since, None).unwrap().rows;
        for _attempt in 0..300 {
            if heard()
                .iter()
                .any(|row| row.uuid == uuid && row.note.is_some())
            {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert!(
            heard()
                .iter()
                .any(|row| row.uuid == uuid && row.note.is_some())
        );
        for archive in self.both() {
            let said = archive.annotate(&uuid, &less).unwrap().unwrap();
            assert_eq!((said.tags, said.note), (vec!["seen".to_owned()], None));
        }
        self.compare();
        assert_eq!(self.of_archive.flow(flow).unwrap().row.tags, ["seen"]);
    }

    fn name(&mut self) {
        let ids: Vec<String> = self.ids();
        let name = |archive: &mut dyn Archive, name: &str| {
            let names = ArchiveBatch {
                sessions: vec![SessionName {
                    id: ids[1].clone(),
                    name: name.to_owned(),
                }],
                ..ArchiveBatch::default()
            };
            archive.write(&names).unwrap();
        };
        for archive in self.both() {
            assert!(archive.rename_session(&ids[0], "mine").unwrap());
            assert!(!archive.rename_session("it's none", "mine").unwrap());
            // One that comes with flows is taken where none was given.
            name(archive, "of its machine");
        }
        self.compare();
        let names = |reader: &Reader| -> Vec<Option<String>> {
            let sessions = reader.sessions(10).unwrap();
            sessions.into_iter().map(|session| session.name).collect()
        };
        let named = [Some("mine".to_owned()), Some("of its machine".to_owned())];
        assert_eq!(names(self.of_archive), named);
        for archive in self.both() {
            assert!(archive.rename_session(&ids[1], "of people").unwrap());
            name(archive, "of its machine");
        }
        self.compare();
        assert_eq!(names(self.of_archive)[1].as_deref(), Some("of people"));
        for archive in self.both() {
            assert!(archive.rename_session(&ids[1], "").unwrap());
        }
        self.compare();
        assert_eq!(names(self.of_archive)[1], None);
    }

    fn ids(&self) -> Vec<String> {
        let sessions = self.of_archive.sessions(10).unwrap();
        assert_eq!(sessions.len(), 2);
        sessions.into_iter().map(|session| session.id).collect()
    }

    fn join(&mut self) {
        let ids = self.ids();
        for archive in self.both() {
            assert!(!archive.merge_sessions(&ids[0], "it's none").unwrap());
            assert!(archive.merge_sessions(&ids[0], &ids[1]).unwrap());
        }
        self.compare();
        let joined = self.of_archive.sessions(10).unwrap();
        assert_eq!(joined.len(), 1);
        assert_eq!(joined[0].id, ids[0]);
        // What comes of it later, from a machine that knows nothing of that, goes there too.
        self.copy();
        self.compare();
        assert_eq!(self.of_archive.sessions(10).unwrap(), joined);
        // The machine itself says the same.
        let mut editor = SessionEditor::open(&self.place.path()).unwrap();
        assert!(editor.merge(&ids[0], &ids[1]).unwrap());
        self.copy();
        self.compare();
        assert_eq!(self.of_archive.sessions(10).unwrap(), joined);
    }
}
