//! What the rows of all archives have in common.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::{FlowRecord, HeadView, RunId, RunRecord};

/// The values of a field of a head: one, or in order.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Values {
    One(String),
    More(Vec<String>),
}

/// The fields of a head by their names in lower case. `clean` makes a text one that the archive can hold.
pub(crate) fn fields_object<'h>(
    head: &'h HeadView,
    clean: impl Fn(&'h str) -> Cow<'h, str>,
) -> BTreeMap<String, Values> {
    let mut object: BTreeMap<String, Values> = BTreeMap::new();
    for (name, value) in &head.fields {
        let value = clean(value).into_owned();
        let name = clean(name).to_ascii_lowercase();
        match object.get_mut(&name) {
            None => drop(object.insert(name, Values::One(value))),
            Some(Values::More(values)) => values.push(value),
            Some(one) => {
                let Values::One(first) = std::mem::replace(one, Values::More(Vec::new())) else {
                    continue;
                };
                *one = Values::More(vec![first, value]);
            }
        }
    }
    object
}

/// Each flow once, as it came last.
pub(crate) fn latest(flows: &[FlowRecord]) -> Vec<&FlowRecord> {
    let mut seen = HashSet::new();
    let mut latest: Vec<&FlowRecord> = flows
        .iter()
        .rev()
        .filter(|flow| seen.insert(&*flow.detail.row.uuid))
        .collect();
    latest.reverse();
    latest
}

/// The id of a run, and what is tried where it is taken: the same for the same run.
pub(crate) fn run_id_candidate(run: &RunRecord, attempt: u32) -> RunId {
    if attempt == 0 {
        return run.id;
    }
    let hash = blake3::hash(format!("{}.{attempt}", run.uuid).as_bytes());
    let bits = hash.as_bytes().first_chunk::<8>();
    RunId::from_random(bits.map_or(0, |bits| u64::from_le_bytes(*bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_came_repeatedly_is_an_array() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let head = HeadView {
            start_line: String::new(),
            fields: vec![
                field("Vary", "a"),
                field("x", "1"),
                field("VARY", "b"),
                field("vary", "c"),
            ],
            bytes: 0,
        };
        let object = fields_object(&head, Cow::Borrowed);
        let json = serde_json::to_string(&object).unwrap();
        assert_eq!(json, r#"{"vary":["a","b","c"],"x":"1"}"#);
    }
}
