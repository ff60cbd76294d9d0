//! What stands in the files afterwards.

use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::analysis::Record;
use crate::analysis::samples::AT;

/// Writes records with these numbers, and gives what went wrong.
fn write(logger: &mut FileLogger, numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    let mut next = Next::new();
    let mut passed = 0;
    for number in numbers {
        let record = Record {
            source: "test",
            id: Uuid::nil(),
            at: AT,
            data: number.into(),
        };
        logger.analyze(AnalysisMsg::Record(Box::new(record)), &mut next);
        passed += 1;
    }
    assert_eq!(next.messages().len(), passed, "all of them go on");
    next.errors().to_vec()
}

/// The numbers in a text of lines.
fn numbers(text: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(text).unwrap();
    let number = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["data"].as_u64().unwrap()
    };
    text.lines().map(number).collect()
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A line of these tests has between 100 and 130 octets.
const THREE_LINES: u64 = 400;

#[test]
fn a_line_is_an_object_with_time_source_id_and_data() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.log");
    assert!(write(&mut FileLogger::new(&path), [7]).is_empty());
    let line = fs::read_to_string(&path).unwrap();
    assert_eq!(
        line,
        "{\"data\":7,\"id\":\"00000000-0000-0000-0000-000000000000\",\
         \"source\":\"test\",\"timestamp\":1767225600000}\n"
    );
    // It goes on where it was.
    assert!(write(&mut FileLogger::new(&path), [8]).is_empty());
    assert_eq!(numbers(&fs::read(&path).unwrap()), [7, 8]);
}

#[cfg(unix)]
#[test]
fn rotated_files_are_bounded_in_size_and_count_and_are_read_with_zcat() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.log");
    let mut logger = FileLogger::new(&path)
        .rotate_at(THREE_LINES)
        .keep_files(2)
        .compress(true);
    assert!(write(&mut logger, 0..100).is_empty());
    assert_eq!(names(&folder), ["x.log", "x.log.1.gz", "x.log.2.gz"]);
    let mut kept = Vec::new();
    for name in ["x.log.2.gz", "x.log.1.gz"] {
        let file = folder.path().join(name);
        assert_eq!(mode(&file), 0o600);
        let read = Command::new("zcat").arg(&file).output().unwrap();
        assert!(read.status.success(), "{read:?}");
        assert!(read.stdout.len() as u64 <= THREE_LINES);
        kept.extend(numbers(&read.stdout));
    }
    assert_eq!(mode(&path), 0o600);
    let last = fs::read(&path).unwrap();
    assert!(last.len() as u64 <= THREE_LINES);
    kept.extend(numbers(&last));
    let expected: Vec<u64> = (100 - kept.len() as u64..100).collect();
    assert!(kept.len() > 6, "{kept:?}");
    assert_eq!(kept, expected, "the youngest, without a gap");
}

#[test]
fn without_compression_files_keep_their_text() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.log");
    let mut logger = FileLogger::new(&path).rotate_at(1).keep_files(2);
    assert!(write(&mut logger, 0..4).is_empty());
    let of = |name: &str| numbers(&fs::read(folder.path().join(name)).unwrap());
    assert_eq!(
        (of("x.log"), of("x.log.1"), of("x.log.2")),
        (vec![3], vec![2], vec![1])
    );
    assert_eq!(names(&folder).len(), 3);

    // Compressed ones and others are one sequence.
    let mut logger = FileLogger::new(&path)
        .rotate_at(1)
        .keep_files(2)
        .compress(true);
    assert!(write(&mut logger, [4]).is_empty());
    assert_eq!(names(&folder), ["x.log", "x.log.1.gz", "x.log.2"]);
    assert_eq!(of("x.log.2"), [2]);
    let mut logger = FileLogger::new(&path).rotate_at(1).keep_files(1);
    assert!(write(&mut logger, [5]).is_empty());
    assert_eq!((of("x.log"), of("x.log.1")), (vec![5], vec![4]));
}

#[test]
fn none_kept_is_none_left() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.log");
    let mut logger = FileLogger::new(&path)
        .rotate_at(1)
        .keep_files(0)
        .compress(true);
    assert!(write(&mut logger, 0..3).is_empty());
    assert_eq!(names(&folder), ["x.log"]);
    assert_eq!(numbers(&fs::read(&path).unwrap()), [2]);
}

#[test]
fn half_a_line_of_a_process_that_was_killed_is_ended() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.log");
    fs::write(&path, "{\"data\":").unwrap();
    assert!(write(&mut FileLogger::new(&path), [1]).is_empty());
    let text = fs::read_to_string(&path).unwrap();
    let (torn, whole) = text.split_once('\n').unwrap();
    assert_eq!(torn, "{\"data\":");
    assert_eq!(numbers(whole.as_bytes()), [1]);
}

#[test]
fn what_cannot_be_written_is_told_and_the_next_line_is_tried() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("later/x.log");
    let mut logger = FileLogger::new(&path);
    let errors = write(&mut logger, [1, 2]);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with("cannot open "), "{errors:?}");
    fs::create_dir(folder.path().join("later")).unwrap();
    assert!(write(&mut logger, [3]).is_empty());
    assert_eq!(numbers(&fs::read(&path).unwrap()), [3]);
}
