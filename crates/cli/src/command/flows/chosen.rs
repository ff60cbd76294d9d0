//! Which flows words on a command line mean: ids, a run, or a filter.

use store::{FlowRef, Reader, RunId};
use traffic::rules::filter::Filter;

use crate::args::DataFlags;
use crate::command::flows::search::catch_up_for;
use crate::command::flows::{filter, nothing_there, open, resolve};
use crate::context::Context;
use crate::problem::Problem;
use crate::quantity::Period;
use crate::store_problem::store_problem;

/// Which flows.
#[derive(Debug)]
pub(super) enum Chosen {
    Named(Vec<FlowRef>),
    /// Those of a run, or those that match; all if it is neither.
    Found {
        run: Option<RunId>,
        filter: Option<Filter>,
    },
}

impl Chosen {
    /// Opens the record, and reads in it what the words mean.
    pub(super) fn open(
        context: &Context,
        data: &DataFlags,
        words: &[String],
        since: Option<Period>,
    ) -> Result<(Reader, Self), Problem> {
        let Some(reader) = open(context, data)? else {
            return Err(nothing_there(words.first().map_or("", |word| word)));
        };
        let chosen = Self::read(context, &reader, data, words, since)?;
        Ok((reader, chosen))
    }

    /// Words are ids if the first is one, a run if there is one word that is, and else a filter. If that
    /// asks for words, the index of texts is brought up to date.
    fn read(
        context: &Context,
        reader: &Reader,
        data: &DataFlags,
        words: &[String],
        since: Option<Period>,
    ) -> Result<Self, Problem> {
        if words.first().is_some_and(|word| is_flow_id(word)) {
            let flows: Result<Vec<FlowRef>, Problem> =
                words.iter().map(|word| resolve(reader, word)).collect();
            return flows.map(Self::Named);
        }
        let run = match words {
            [word] if word.starts_with('@') => Some(
                reader
                    .resolve_run(word)
                    .map_err(|error| store_problem(&error))?,
            ),
            // Four letters may be a word as well.
            [word] if word.len() == 4 => reader.resolve_run(word).ok(),
            _ => None,
        };
        let words = if run.is_some() { &[] } else { words };
        let filter = filter(words, since)?;
        catch_up_for(context, data, filter.as_ref())?;
        Ok(Self::Found { run, filter })
    }
}

/// `k7q2.31`, `@last.31` or a UUID. A host name has letters behind its last dot.
fn is_flow_id(word: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = word.rsplit_once('.');
    let is_run = |run: &str| {
        run.starts_with('@') || (run.len() == 4 && !run.contains(['.', ':']) && !is_number(run))
    };
    let is_uuid = word.len() == 36
        && word
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        && word.matches('-').count() == 4;
    is_uuid || numbered.is_some_and(|(run, number)| is_run(run) && is_number(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_words() {
        for word in [
            "k7q2.31",
            "@last.1",
            "@-2.4",
            "01a20057-d5e7-74c3-beb4-b87008db7e0b",
        ] {
            assert!(is_flow_id(word), "{word}");
        }
        for word in [
            "host:a.b",
            "10.0.0.1",
            "127.0.0.1",
            "api.example.com",
            "status:200",
            "",
            "a.1",
            "k7q2.",
        ] {
            assert!(!is_flow_id(word), "{word}");
        }
    }
}
