//! The table and the list of differences, in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

use super::verdicts::{Difference, Verdict, Verdicts};
use crate::console;
use crate::failure::Failure;

/// How many cases with one reason are named in full, if what stands first tells them apart.
const NAMES_MAX: usize = 3;

/// One suite, direct and one way through oriel.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) suite: &'static str,
    pub(super) version: String,
    /// How it went through oriel.
    pub(super) way: &'static str,
    pub(super) direct: Verdicts,
    pub(super) through: Verdicts,
    /// How many requests oriel recorded meanwhile: none would mean that it saw nothing.
    pub(super) flows: u64,
    pub(super) reasons: &'static [Reason],
    /// Why cases differ whose differences a machine has looked at, by the case.
    pub(super) classed: BTreeMap<String, &'static str>,
}

/// Why cases differ.
#[derive(Debug)]
pub(super) struct Reason {
    /// Names of cases, whole or, with a `*` at the end, the beginning.
    pub(super) cases: &'static [&'static str],
    pub(super) why: &'static str,
}

impl Comparison {
    /// How many differences have no reason, and how many reasons no difference.
    pub(super) fn unexplained(&self) -> usize {
        let differences = self.direct.differences(&self.through);
        let without = differences
            .iter()
            .filter(|one| self.reason_of(one).is_none());
        let is_idle = |reason: &&Reason| !differences.iter().any(|one| reason.explains(one.case));
        let idle = self.reasons.iter().filter(is_idle);
        for reason in idle.clone() {
            let (suite, way) = (self.suite, self.way);
            console::complain(&format!("{suite}, {way}: nothing differs by {reason:?}"));
        }
        without.count() + idle.count() + usize::from(self.flows == 0)
    }

    fn reason_of(&self, difference: &Difference<'_>) -> Option<&'static str> {
        let mut reasons = self.reasons.iter();
        let listed = reasons.find(|reason| reason.explains(difference.case));
        let classed = || self.classed.get(difference.case).copied();
        listed.map(|reason| reason.why).or_else(classed)
    }
}

impl Reason {
    fn explains(&self, case: &str) -> bool {
        self.cases.iter().any(|name| match name.strip_suffix('*') {
            Some(start) => case.starts_with(start),
            None => case == *name,
        })
    }
}

/// The table, and under it what differs.
pub(super) fn results(comparisons: &[Comparison]) -> String {
    let mut text = String::from(
        "| suite | version | through oriel by | direct | through | flows recorded | same verdicts |\n\
         |---|---|---|---|---|---:|---|\n",
    );
    for one in comparisons {
        let same = match one.direct.differences(&one.through).len() {
            0 => "all".to_owned(),
            count => format!("all but {count}"),
        };
        let Comparison {
            suite,
            version,
            way,
            flows,
            ..
        } = one;
        let (direct, through) = (counts(&one.direct), counts(&one.through));
        text +=
            &format!("| {suite} | {version} | {way} | {direct} | {through} | {flows} | {same} |\n");
    }
    for one in comparisons {
        write_differences(&mut text, one);
    }
    text
}

fn counts(verdicts: &Verdicts) -> String {
    let mut text = String::new();
    for verdict in [Verdict::Passed, Verdict::Failed, Verdict::Skipped] {
        let count = verdicts.count(verdict);
        if count > 0 {
            let comma = if text.is_empty() { "" } else { ", " };
            text += &format!("{comma}{count} {}", verdict.word());
        }
    }
    text
}

fn write_differences(text: &mut String, one: &Comparison) {
    let differences = one.direct.differences(&one.through);
    if differences.is_empty() {
        return;
    }
    *text += &format!("\n### {}, {}\n\n", one.suite, one.way);
    *text += "| cases | direct | through | why |\n|---|---|---|---|\n";
    let mut groups: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
    for difference in &differences {
        let why = one.reason_of(difference).unwrap_or("**not explained**");
        let (direct, through) = (difference.direct.word(), difference.through.word());
        let group = groups.entry((why, direct, through)).or_default();
        group.push(difference.case);
    }
    for ((why, direct, through), cases) in groups {
        let cases = names(cases);
        *text += &format!("| {cases} | {direct} | {through} | {why} |\n");
    }
}

/// Their names, or for more than a few what stands first in those.
fn names(mut cases: Vec<&str>) -> String {
    let first = |case: &&str| case.split(' ').next().unwrap_or_default().to_owned();
    if cases.len() > NAMES_MAX && cases.iter().all(|case| case.contains(' ')) {
        // Most are numbers.
        cases.sort_by_key(|case| first(case).parse::<u32>().unwrap_or(u32::MAX));
        let cases: Vec<String> = cases.iter().map(first).collect();
        return format!("{} cases: {}", cases.len(), cases.join(", "));
    }
    let quoted = cases.iter().map(|case| format!("`{case}`"));
    quoted.collect::<Vec<_>>().join("<br>")
}

/// The whole page.
pub(super) fn document(results: &str) -> Result<String, Failure> {
    let mut text = String::new();
    write!(
        text,
        "# Conformance

This file is written by

    cargo xtask conformance

with {python} and Node {node}. It runs test suites that others wrote, direct and through oriel, and \
compares what they say about each case. They are fetched from the registries they are published in \
and run in a network namespace with nothing but loopback. CONTRIBUTING.md says what the command \
needs.

A case that fails both ways is no difference: most of those want the Internet. A difference without \
a reason fails the command, and so does a reason without a difference, or a row for which oriel \
recorded nothing.

## Verdicts

{results}",
        python = said_by("python3")?,
        node = said_by("node")?,
    )?;
    Ok(text)
}

fn said_by(program: &str) -> Result<String, Failure> {
    let output = Command::new(program).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
