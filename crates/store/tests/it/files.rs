//! The files: who may read them, what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use oriel_store::{Reader, Redaction, Store, StoreError, StoreOptions};
use rusqlite::Connection;

use crate::script::{Place, Script, new_run};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn open(path: &std::path::Path) -> Result<Store, StoreError> {
    Store::open(path, StoreOptions::new(Redaction::Basic))
}

#[test]
fn only_the_owner_may_read() {
    let place = Place::new();
    place.record(Script::new(1).events());
    place.flush();
    let folder = place.folder.path().join("data");
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().collect();
    assert_eq!(files.len(), 3, "database, -wal and -shm: {files:?}");
    for file in files {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_file_that_others_could_read_is_closed_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oriel.db");
    fs::write(&path, b"").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    open(&path).unwrap().close().unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_closed_store_leaves_one_whole_file() {
    let place = Place::new();
    place.record(Script::new(1).events());
    let path = place.path();
    place.store.close().unwrap();
    let connection = Connection::open(&path).unwrap();
    let check: String = connection
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn a_missing_database_is_not_made_by_reading() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oriel.db");
    assert!(matches!(
        Reader::open(&path),
        Err(StoreError::NotFound { .. })
    ));
    assert!(!path.exists());
    // Another process may just have made it.
    fs::write(&path, b"").unwrap();
    assert!(matches!(
        Reader::open(&path),
        Err(StoreError::NotFound { .. })
    ));
}

#[test]
fn a_newer_schema_is_refused() {
    let place = Place::new();
    let path = place.path();
    place.store.close().unwrap();
    let connection = Connection::open(&path).unwrap();
    connection
        .execute(
            "INSERT INTO schema_migrations VALUES (1000, '1000_later', 'x', 0)",
            (),
        )
        .unwrap();
    for error in [open(&path).unwrap_err(), Reader::open(&path).unwrap_err()] {
        assert!(
            matches!(error, StoreError::NewerSchema { found: 1000, .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_changed_schema_step_is_refused() {
    let place = Place::new();
    let path = place.path();
    place.store.close().unwrap();
    let connection = Connection::open(&path).unwrap();
    connection
        .execute("UPDATE schema_migrations SET checksum = 'x'", ())
        .unwrap();
    assert!(matches!(open(&path), Err(StoreError::Damaged { .. })));
}

#[test]
fn what_is_no_database_of_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let noise = folder.path().join("noise.db");
    fs::write(&noise, b"this is not a database, it is a text ".repeat(100)).unwrap();
    assert!(matches!(open(&noise), Err(StoreError::Damaged { .. })));
    assert!(matches!(
        Reader::open(&noise),
        Err(StoreError::Damaged { .. })
    ));
    let other = folder.path().join("other.db");
    let connection = Connection::open(&other).unwrap();
    connection.execute("CREATE TABLE other (x)", ()).unwrap();
    assert!(matches!(open(&other), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    // Works for root too, unlike taking permissions away.
    let error = open(&file.join("oriel.db")).unwrap_err();
    assert!(matches!(error, StoreError::NotWritable { .. }), "{error:?}");
}

#[test]
fn a_folder_that_is_there_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
    let store = open(&shared.join("oriel.db")).unwrap();
    store.begin_run(new_run(None)).unwrap();
    store.close().unwrap();
    assert_eq!(mode(&shared), 0o755);
    assert_eq!(mode(&shared.join("oriel.db")), 0o600);
}

#[test]
fn many_may_make_the_same_file_at_once() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/oriel.db");
        let runs: Vec<_> = std::thread::scope(|scope| {
            let opened: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let store = open(&path).unwrap();
                        let run = store.begin_run(new_run(None)).unwrap();
                        store
                            .recorder(run)
                            .handle_events(&mut Script::new(1).events());
                        store.close().unwrap();
                        run
                    })
                })
                .collect();
            opened
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let reader = Reader::open(&path).unwrap();
        for run in runs {
            assert_eq!(reader.summary(run).unwrap().ok, 1);
        }
    }
}
