//! What went wrong with the store, in words for people.

use store::{StoreError, UnknownId};

use crate::exit::Exit;
use crate::problem::Problem;

/// The problem behind an error of the store.
pub(crate) fn store_problem(error: &StoreError) -> Problem {
    let what = error.to_string();
    match error {
        StoreError::NotWritable { source, .. } => Problem::new("ORL0702", Exit::Storage, what)
            .why(source.to_string())
            .fix("use another folder:  --data DIR"),
        StoreError::NotFound { .. } => Problem::new("ORL0005", Exit::Unknown, what)
            .why("nothing was captured here yet")
            .fix("oriel run -- COMMAND"),
        StoreError::Locked => Problem::new("ORL0703", Exit::Busy, what)
            .why("it stayed locked for longer than oriel waits")
            .fix("try again, or look who has it open:  fuser -v FILE (oriel db status names it)"),
        StoreError::NewerSchema { .. } => Problem::new("ORL0704", Exit::Storage, what)
            .why("a newer oriel wrote to it and changed its tables")
            .fix("update oriel, or use another folder:  --data DIR"),
        StoreError::Damaged { detail } => {
            Problem::new("ORL0705", Exit::Storage, "the database is damaged")
                .why(detail)
                .fix("move the file away, or use another folder:  --data DIR")
        }
        StoreError::DiskFull => Problem::new("ORL0706", Exit::Storage, what)
            .why("the system gave no room for the database: no free space, or a quota used up")
            .fix("free some space, or use another folder:  --data DIR"),
        StoreError::SpoolFull => Problem::new("ORL0706", Exit::Storage, what)
            .why("the database could not be written for long")
            .fix("look at what oriel status says of it, or allow more:  database.spool_bytes_max"),
        StoreError::UnknownId(unknown) => unknown_id(unknown),
        StoreError::BadCursor => Problem::new("ORL0001", Exit::Usage, what)
            .why("a cursor is good for the order, and at the place, that it was given out for")
            .fix("begin with the first page, without a cursor"),
        StoreError::NoTexts => Problem::new("ORL0711", Exit::Storage, what)
            .why("the archive was made by an oriel that had no words of flows")
            .fix("oriel db migrate"),
        StoreError::NoSizes => Problem::new("ORL0001", Exit::Usage, what)
            .why("many may write to an archive, and none of them knows how large it should be")
            .fix("oriel db prune --archive --bodies-older-than 7d"),
        StoreError::Deadline => Problem::new("ORL0707", Exit::Storage, what)
            .why("the disk did not take it within the deadline")
            .fix("look how busy and how full the disk is, then try again"),
        StoreError::Unavailable { source, .. } => Problem::new("ORL0708", Exit::Storage, what)
            .why(source.to_string())
            .fix("look at database.url, or read what this machine has:  --data DIR"),
        StoreError::BadUrl { place, detail } => {
            Problem::new("ORL0710", Exit::Usage, format!("{place} cannot be used"))
                .why(detail)
                .fix("look at database.url")
        }
        StoreError::NotStorable { detail } => {
            Problem::new("ORL0709", Exit::Storage, "a database refuses this content")
                .why(detail)
                .fix("keep the database it comes from, and please report this message")
        }
        StoreError::Io { source } => Problem::new("ORL0707", Exit::Storage, what)
            .why(source.to_string())
            .fix("oriel db check      says whether the database is whole"),
    }
}

/// The problem behind an error of a database that this option names, and no setting.
pub(crate) fn problem_of_option(error: &StoreError, option: &str) -> Problem {
    let problem = store_problem(error);
    match error {
        StoreError::Unavailable { .. } | StoreError::BadUrl { .. } => {
            problem.fix_alone(format!("look at {option}, and whether it can be reached"))
        }
        StoreError::NotWritable { .. }
        | StoreError::NotFound { .. }
        | StoreError::NewerSchema { .. }
        | StoreError::Damaged { .. }
        | StoreError::DiskFull => problem.fix_alone(format!("name another place:  {option} URL")),
        _ => problem,
    }
}

fn unknown_id(unknown: &UnknownId) -> Problem {
    let what = unknown.to_string();
    let problem = match unknown {
        UnknownId::Ambiguous { .. } => Problem::new("ORL0006", Exit::Unknown, what),
        _ => Problem::new("ORL0005", Exit::Unknown, what),
    };
    match unknown {
        UnknownId::NotAnId { .. } => problem
            .why(
                "an id looks like k7q2 (a run) or k7q2.31 (its 31st flow); @last is the newest run",
            )
            .fix("oriel flows"),
        UnknownId::NoRun { text } => problem
            .why(match text.starts_with('@') {
                true => "there are fewer runs than it counts back",
                false => "no run has this id or this name, and no id begins so",
            })
            .fix("oriel flows"),
        UnknownId::NoFlow { run, .. } => problem
            .why("it has no flow of the number that was asked for, or that flow was removed")
            .fix(format!("oriel flows --session {run}")),
        UnknownId::RunNotFlow { run, .. } => problem
            .why(format!("a flow is a run and a number, for example {run}.1"))
            .fix(format!("oriel flows --session {run}")),
        UnknownId::Ambiguous { candidates, .. } => {
            let problem = problem.why("more than one run begins or is called so");
            candidates.iter().fold(problem, |problem, run| {
                problem.fix(format!("oriel flows --session {run}"))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn each_has_a_reason_and_a_way_out() {
        let (path, place, detail) = (PathBuf::from("/d"), String::new(), String::from("because"));
        let system = || std::io::Error::other("because");
        for error in [
            StoreError::NotFound { path: path.clone() },
            StoreError::NotWritable {
                path,
                source: system(),
            },
            StoreError::Locked,
            StoreError::NewerSchema { found: 2, known: 1 },
            StoreError::Damaged {
                detail: detail.clone(),
            },
            StoreError::DiskFull,
            StoreError::SpoolFull,
            StoreError::UnknownId(UnknownId::NoRun {
                text: "k7q2".to_owned(),
            }),
            StoreError::BadCursor,
            StoreError::NoTexts,
            StoreError::NoSizes,
            StoreError::Deadline,
            StoreError::Unavailable {
                place: place.clone(),
                source: Box::new(system()),
            },
            StoreError::BadUrl {
                place,
                detail: detail.clone(),
            },
            StoreError::NotStorable { detail },
            StoreError::Io {
                source: Box::new(system()),
            },
        ] {
            let problem = store_problem(&error);
            assert!(
                problem.why.is_some() && !problem.fix.is_empty(),
                "{problem:?}"
            );
        }
    }
}
