//! Medians, ratios and the goals, as tables in Markdown.

use std::fmt::Write;

use super::cases::{CASES, Case, Sample};
use super::engine::Handling;
use super::proxies::Proxy;

/// All samples of one case with one proxy.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) case: &'static Case,
    pub(super) proxy: Proxy,
    pub(super) samples: Vec<Sample>,
}

/// What the project wants to reach, as a bound on a figure of one case.
struct Goal {
    case: &'static str,
    figure: Figure,
    most: f64,
}

enum Figure {
    /// CPU per request as a share of another proxy's.
    CpuShare(Proxy),
    /// CPU per request where capture is on as a share of that where it is off.
    CaptureShare,
    /// Microseconds of CPU per request that one contestant needs more than another.
    CpuAdded { by: Proxy, to: Proxy },
    /// Bytes that an idle connection holds.
    BytesEach,
    /// Requests that took as long as a delayed acknowledgement.
    Stalls,
    /// Microseconds of median latency added to going direct.
    LatencyAdded,
}

const CAPTURE_ADDS: Figure = Figure::CpuAdded {
    by: Proxy::OrielCapture,
    to: Proxy::Oriel,
};
const HEADS_ADD: Figure = Figure::CpuAdded {
    by: Proxy::Engine(Handling::Heads),
    to: Proxy::Engine(Handling::None),
};

const GOALS: &[Goal] = &[
    goal("intercept-h1-1k", Figure::CpuShare(Proxy::Hudsucker), 0.75),
    goal("intercept-h1-1k", Figure::CpuShare(Proxy::Floor), 1.25),
    goal("intercept-h2-1k", Figure::CpuShare(Proxy::Hudsucker), 0.85),
    goal("intercept-h1-64k", Figure::CpuShare(Proxy::Hudsucker), 1.0),
    goal("intercept-h2-64k", Figure::CpuShare(Proxy::Hudsucker), 1.0),
    goal("download", Figure::CpuShare(Proxy::Hudsucker), 1.05),
    goal("new-hot", Figure::CpuShare(Proxy::Hudsucker), 0.7),
    goal("new-hot", Figure::Stalls, 0.0),
    goal("new-names", Figure::CpuShare(Proxy::Hudsucker), 0.55),
    goal("tunnel-64k", Figure::CpuShare(Proxy::Hudsucker), 0.8),
    goal("first-event", Figure::LatencyAdded, 150.0),
    goal("intercept-h1-1k", CAPTURE_ADDS, 3.0),
    goal("intercept-h1-1k", Figure::CaptureShare, 1.25),
    goal("intercept-h1-64k", Figure::CaptureShare, 1.25),
    goal("intercept-h2-1k", Figure::CaptureShare, 1.25),
    goal("intercept-h2-64k", Figure::CaptureShare, 1.25),
    goal("new-hot", Figure::CaptureShare, 1.25),
    goal("sse-100", Figure::CpuShare(Proxy::Hudsucker), 1.0),
    goal("sse-100", Figure::LatencyAdded, 60.0),
    goal("idle-10k", Figure::BytesEach, 20_000.0),
    goal("ws-echo", Figure::CpuShare(Proxy::Mitmproxy), 0.1),
    goal("handlers", HEADS_ADD, 1.0),
];

const fn goal(case: &'static str, figure: Figure, most: f64) -> Goal {
    Goal { case, figure, most }
}

impl Row {
    /// The median of one figure over all rounds.
    fn median(&self, figure: fn(&Sample) -> f64) -> f64 {
        quartile(self.samples.iter().map(figure).collect(), 2)
    }
}

/// The value that so many quarters of the values do not exceed: 1 the lower quartile, 2 the median.
/// Between two values where it falls there; zero of no values.
fn quartile(mut values: Vec<f64>, quarters: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let steps = values.len().saturating_sub(1) * quarters;
    let (below, above) = (values.get(steps / 4), values.get(steps.div_ceil(4)));
    match (below, above) {
        (Some(below), Some(above)) => below + (above - below) * (steps % 4) as f64 / 4.0,
        _ => 0.0,
    }
}

/// The measurements, a table per case.
pub(super) fn results(rows: &[Row]) -> String {
    let mut text = String::new();
    for case in CASES {
        let of_case: Vec<&Row> = rows
            .iter()
            .filter(|row| row.case.name == case.name)
            .collect();
        if of_case.is_empty() {
            continue;
        }
        text += &format!("### {}\n\n{}.\n\n", case.name, sentence(case.about));
        text += "| proxy | CPU µs | of floor | of hudsucker | per second | p50 µs | p99 µs \
                 | stalls | peak MiB |";
        text += &case
            .further()
            .map_or_else(String::new, |name| format!(" {name} |"));
        text += "\n|---|---:|---:|---:|---:|---:|---:|---:|---:|";
        text += if case.further().is_some() {
            "---:|\n"
        } else {
            "\n"
        };
        for row in &of_case {
            text += &result_line(row, rows);
            if case.further().is_some() {
                text += &format!(" {:.0} |", row.median(|sample| sample.further));
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn result_line(row: &Row, rows: &[Row]) -> String {
    let name = row.proxy.name();
    let per_second = row.median(|sample| sample.per_second);
    let p50 = row.median(|sample| sample.p50_microseconds);
    let p99 = row.median(|sample| sample.p99_microseconds);
    let stalls = row.median(|sample| sample.stalls);
    if row.proxy == Proxy::Direct {
        return format!(
            "| {name} | – | – | – | {per_second:.0} | {p50:.0} | {p99:.0} | {stalls:.0} | – |"
        );
    }
    let share = |other| {
        find(rows, row.case.name, other).map_or_else(
            || "–".to_owned(),
            |other| format!("{:.2}", quartile(cpu_shares(row, other), 2)),
        )
    };
    let (of_floor, of_hudsucker) = (share(Proxy::Floor), share(Proxy::Hudsucker));
    let memory = row.median(|sample| sample.memory_mebibytes);
    format!(
        "| {name} | {cpu:.1} | {of_floor} | {of_hudsucker} | {per_second:.0} | {p50:.0} \
         | {p99:.0} | {stalls:.0} | {memory:.1} |",
        cpu = row.median(cpu),
    )
}

/// The goals with what was reached, as far as it was measured.
pub(super) fn goals(rows: &[Row]) -> String {
    let mut text = String::from(
        "| case | figure | goal | reached | half of the rounds | |\n|---|---|---:|---:|---:|---|\n",
    );
    for goal in GOALS {
        let Some(values) = goal.figure.of_each_round(rows, goal.case) else {
            continue;
        };
        let [lower, reached, upper] = [1, 2, 3].map(|quarters| quartile(values.clone(), quarters));
        let verdict = if reached <= goal.most {
            "met"
        } else {
            "missed"
        };
        let (case, most) = (goal.case, goal.most);
        let figure = goal.figure.name();
        // Writing to a String cannot fail.
        let _written = writeln!(
            text,
            "| {case} | {figure} | ≤ {most} | {reached:.2} | {lower:.2} to {upper:.2} | {verdict} |"
        );
    }
    text
}

impl Figure {
    fn name(&self) -> String {
        match self {
            Self::CpuShare(other) => format!("CPU, share of {}", other.name()),
            Self::CaptureShare => "CPU of capture on, share of off".to_owned(),
            Self::CpuAdded { by, to } => format!("CPU of {} over {}, µs", by.name(), to.name()),
            Self::BytesEach => "bytes per connection".to_owned(),
            Self::Stalls => "stalls of 35 ms or more".to_owned(),
            Self::LatencyAdded => "p50 added to direct, µs".to_owned(),
        }
    }

    /// The figure in each round by itself: what two contestants did within the same seconds says
    /// more about them than what each did in the middle of all rounds.
    fn of_each_round(&self, rows: &[Row], case: &str) -> Option<Vec<f64>> {
        let row = |proxy| find(rows, case, proxy);
        let of_oriel = |figure: fn(&Sample) -> f64| {
            let samples = &row(Proxy::Oriel)?.samples;
            Some(samples.iter().map(figure).collect())
        };
        match *self {
            Self::CpuShare(other) => Some(cpu_shares(row(Proxy::Oriel)?, row(other)?)),
            Self::CaptureShare => Some(cpu_shares(row(Proxy::OrielCapture)?, row(Proxy::Oriel)?)),
            Self::CpuAdded { by, to } => Some(pairs(row(by)?, row(to)?, |by, to| {
                by.cpu_microseconds - to.cpu_microseconds
            })),
            Self::LatencyAdded => Some(pairs(
                row(Proxy::Oriel)?,
                row(Proxy::Direct)?,
                |oriel, direct| oriel.p50_microseconds - direct.p50_microseconds,
            )),
            Self::Stalls => of_oriel(|sample| sample.stalls),
            Self::BytesEach => of_oriel(|sample| sample.further),
        }
    }
}

/// What of one round's samples with two contestants comes out, for each round.
fn pairs(one: &Row, other: &Row, figure: fn(&Sample, &Sample) -> f64) -> Vec<f64> {
    let both = one.samples.iter().zip(&other.samples);
    both.map(|(one, other)| figure(one, other)).collect()
}

fn cpu_shares(one: &Row, other: &Row) -> Vec<f64> {
    pairs(one, other, |one, other| cpu(one) / cpu(other))
}

fn cpu(sample: &Sample) -> f64 {
    sample.cpu_microseconds
}

fn find<'a>(rows: &'a [Row], case: &str, proxy: Proxy) -> Option<&'a Row> {
    rows.iter()
        .find(|row| row.case.name == case && row.proxy == proxy)
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_where_they_are_said_to() {
        for (values, quartiles) in [
            (vec![], [0.0, 0.0, 0.0]),
            (vec![7.0], [7.0, 7.0, 7.0]),
            (vec![4.0, 1.0], [1.75, 2.5, 3.25]),
            (vec![5.0, 1.0, 4.0, 2.0, 3.0], [2.0, 3.0, 4.0]),
        ] {
            let found = [1, 2, 3].map(|quarters| quartile(values.clone(), quarters));
            assert_eq!(
                found.map(f64::to_bits),
                quartiles.map(f64::to_bits),
                "{values:?}"
            );
        }
    }
}
