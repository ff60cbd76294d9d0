//! What a suite says about its cases, and how two such lists differ.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::failure::Failure;

/// What is said about one case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed,
    /// The suite itself left it out.
    Skipped,
    /// It does not appear.
    Absent,
}

/// What a suite says about all of its cases, by their names.
#[derive(Debug, Default)]
pub(super) struct Verdicts(BTreeMap<String, Verdict>);

/// A case about which the two ways disagree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference<'a> {
    pub(super) case: &'a str,
    pub(super) direct: Verdict,
    pub(super) through: Verdict,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Absent => "absent",
        }
    }
}

impl Verdicts {
    /// Reads a file with a line `verdict<TAB>case` for each case.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            Failure::new(format!("the suite has left no verdicts in {path}: {error}"))
        })?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let mut verdicts = Self::default();
        for line in text.lines() {
            let verdict = match line.split_once('\t') {
                Some(("passed", case)) => (case, Verdict::Passed),
                Some(("failed", case)) => (case, Verdict::Failed),
                Some(("skipped", case)) => (case, Verdict::Skipped),
                _ => return Err(Failure::new(format!("not a verdict: {line}"))),
            };
            verdicts.add(verdict.0, verdict.1);
        }
        Ok(verdicts)
    }

    pub(super) fn add(&mut self, case: impl Into<String>, verdict: Verdict) {
        self.0.insert(case.into(), verdict);
    }

    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.0.values().filter(|other| **other == verdict).count()
    }

    /// The cases that `self`, the direct way, and `through` disagree about.
    pub(super) fn differences<'a>(&'a self, through: &'a Self) -> Vec<Difference<'a>> {
        let cases: BTreeSet<&String> = self.0.keys().chain(through.0.keys()).collect();
        let pairs = cases.into_iter().map(|case| Difference {
            case,
            direct: self.of(case),
            through: through.of(case),
        });
        pairs.filter(|pair| pair.direct != pair.through).collect()
    }

    fn of(&self, case: &str) -> Verdict {
        self.0.get(case).copied().unwrap_or(Verdict::Absent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_one_way_only_is_a_difference() {
        let direct = Verdicts::parse("passed\ta\nfailed\tb\nskipped\tc\npassed\td\n").unwrap();
        let through = Verdicts::parse("passed\ta\npassed\tb\nskipped\tc\npassed\te\n").unwrap();
        let differences = direct.differences(&through);
        let shown: Vec<_> = differences
            .iter()
            .map(|one| (one.case, one.direct.word(), one.through.word()))
            .collect();
        assert_eq!(
            shown,
            [
                ("b", "failed", "passed"),
                ("d", "passed", "absent"),
                ("e", "absent", "passed"),
            ]
        );
        assert_eq!(direct.count(Verdict::Passed), 2);
    }

    #[test]
    fn a_line_that_is_no_verdict_is_refused() {
        assert!(Verdicts::parse("passed a\n").is_err());
        assert!(Verdicts::parse("error\ta\n").is_err());
    }
}
