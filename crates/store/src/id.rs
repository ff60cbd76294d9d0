//! Ids that people type: `k7q2` names a run, `k7q2.31` the 31st flow of it.

use std::fmt;
use std::str::FromStr;

/// Letters and digits of a run id: none that is taken for another (no `l`, `o`, `0`, `1`). There
/// are 32 of them, five bits each.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Names a run within one database: four characters, for example `k7q2`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId([u8; 4]);

/// Names a flow within one database, for example `k7q2.31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowRef {
    /// Its run.
    pub run: RunId,
    /// Its number within the run, from 1 on, in the order of starting.
    pub seq: u64,
}

/// Why an id that was typed names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownId {
    /// It has not the form of an id.
    #[error("{text:?} is not an id")]
    NotAnId {
        /// What was typed.
        text: String,
    },
    /// There is no such run.
    #[error("there is no run {text}")]
    NoRun {
        /// What was typed.
        text: String,
    },
    /// The run is known, the flow is not.
    #[error("{}", no_flow(*run, *flows))]
    NoFlow {
        /// The run.
        run: RunId,
        /// How many flows it has: they are numbered from 1 to this.
        flows: u64,
    },
    /// A run is named where a flow is asked for.
    #[error("{run} is a run{}", and_flows(*run, *flows))]
    RunNotFlow {
        /// The run.
        run: RunId,
        /// How many flows it has.
        flows: u64,
    },
    /// More than one run is meant.
    #[error("{text} may be any of {}", list(candidates))]
    Ambiguous {
        /// What was typed.
        text: String,
        /// What it may mean, at most eight of them.
        candidates: Vec<RunId>,
    },
}

impl RunId {
    /// An id from twenty random bits; the others are not used.
    pub(crate) fn from_random(bits: u64) -> Self {
        let letter = |shift: u32| {
            let index = (bits >> shift) & 31;
            ALPHABET[usize::try_from(index).expect("five bits fit")]
        };
        Self([letter(0), letter(5), letter(10), letter(15)])
    }

    /// The four characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl FromStr for RunId {
    type Err = UnknownId;

    fn from_str(text: &str) -> Result<Self, UnknownId> {
        let letters: Option<[u8; 4]> = text.as_bytes().try_into().ok();
        match letters {
            Some(letters) if letters.iter().all(|letter| ALPHABET.contains(letter)) => {
                Ok(Self(letters))
            }
            _ => Err(UnknownId::NotAnId {
                text: text.to_owned(),
            }),
        }
    }
}

impl FromStr for FlowRef {
    type Err = UnknownId;

    fn from_str(text: &str) -> Result<Self, UnknownId> {
        let not_an_id = || UnknownId::NotAnId {
            text: text.to_owned(),
        };
        let (run, seq) = text.split_once('.').ok_or_else(not_an_id)?;
        Ok(Self {
            run: run.parse().map_err(|_error| not_an_id())?,
            seq: seq.parse().map_err(|_error| not_an_id())?,
        })
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for FlowRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.run, self.seq))
    }
}

fn no_flow(run: RunId, flows: u64) -> String {
    match flows {
        0 => format!("run {run} has no flows"),
        1 => format!("run {run} has one flow, {run}.1"),
        _ => format!("run {run} has flows 1-{flows}"),
    }
}

fn and_flows(run: RunId, flows: u64) -> String {
    match flows {
        0 => ", and has no flows".to_owned(),
        1 => format!("; its flow is {run}.1"),
        _ => format!("; its flows are {run}.1 to {run}.{flows}"),
    }
}

fn list(candidates: &[RunId]) -> String {
    let names: Vec<&str> = candidates.iter().map(RunId::as_str).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let run = RunId::from_random(0x0003_5a7f);
        assert_eq!(run.to_string().parse(), Ok(run));
        let flow = FlowRef { run, seq: 31 };
        assert_eq!(flow.to_string().parse(), Ok(flow));
    }

    #[test]
    fn refuses_other_texts() {
        for text in [
            "", "k7q", "k7q22", "k7l2", "K7Q2", "k7q2.", "k7q2.x", "k7q2.-1", ".1",
        ] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
            assert!(text.parse::<FlowRef>().is_err(), "{text}");
        }
    }
}
