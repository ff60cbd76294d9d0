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

/// Of which rounds a figure is asked for.
#[derive(Clone, Copy)]
enum Of {
    All,
    /// Counted from 0.
    Round(usize),
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
    /// One figure: its median over all rounds, or that of one round.
    fn figure(&self, of: Of, figure: fn(&Sample) -> f64) -> f64 {
        match of {
            Of::All => self.median(figure),
            Of::Round(round) => self.samples.get(round).map_or(f64::NAN, figure),
        }
    }

    /// The median of one figure over all rounds.
    fn median(&self, figure: fn(&Sample) -> f64) -> f64 {
        let mut values: Vec<f64> = self.samples.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match (
            values.len() % 2,
            values.get(middle.wrapping_sub(1)),
            values.get(middle),
        ) {
            (0, Some(below), Some(above)) => (below + above) / 2.0,
            (_, _, Some(value)) => *value,
            _ => 0.0,
        }
    }

    fn cpu(&self, of: Of) -> f64 {
        self.figure(of, |sample| sample.cpu_microseconds)
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
    let share = |other| match cpu_share(rows, row.case.name, row.proxy, other, Of::All) {
        Some(share) => format!("{share:.2}"),
        None => "–".to_owned(),
    };
    let (of_floor, of_hudsucker) = (share(Proxy::Floor), share(Proxy::Hudsucker));
    let memory = row.median(|sample| sample.memory_mebibytes);
    format!(
        "| {name} | {cpu:.1} | {of_floor} | {of_hudsucker} | {per_second:.0} | {p50:.0} \
         | {p99:.0} | {stalls:.0} | {memory:.1} |",
        cpu = row.cpu(Of::All),
    )
}

/// The goals with what was reached, as far as it was measured.
pub(super) fn goals(rows: &[Row]) -> String {
    let mut text = String::from(
        "| case | figure | goal | reached | single rounds | |\n|---|---|---:|---:|---:|---|\n",
    );
    for goal in GOALS {
        let Some(reached) = goal.figure.value(rows, goal.case, Of::All) else {
            continue;
        };
        let (least, most_seen) = goal.range(rows);
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
            "| {case} | {figure} | ≤ {most} | {reached:.2} | {least:.2} to {most_seen:.2} | {verdict} |"
        );
    }
    text
}

impl Goal {
    /// The least and the most of what single rounds reached.
    fn range(&self, rows: &[Row]) -> (f64, f64) {
        let row = rows.iter().find(|row| row.case.name == self.case);
        let rounds = row.map_or(0, |row| row.samples.len());
        let values =
            (0..rounds).filter_map(|round| self.figure.value(rows, self.case, Of::Round(round)));
        values.fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(least, most), value| (least.min(value), most.max(value)),
        )
    }
}

impl Figure {
    fn name(&self) -> String {
        match self {
            Self::CpuShare(other) => format!("CPU, share of {}", other.name()),
            Self::CpuAdded { by, to } => format!("CPU of {} over {}, µs", by.name(), to.name()),
            Self::BytesEach => "bytes per connection".to_owned(),
            Self::Stalls => "stalls of 35 ms or more".to_owned(),
            Self::LatencyAdded => "p50 added to direct, µs".to_owned(),
        }
    }

    fn value(&self, rows: &[Row], case: &str, of: Of) -> Option<f64> {
        let row = |proxy| find(rows, case, proxy);
        let p50 = |row: &Row| row.figure(of, |sample| sample.p50_microseconds);
        Some(match *self {
            Self::CpuShare(other) => cpu_share(rows, case, Proxy::Oriel, other, of)?,
            Self::CpuAdded { by, to } => row(by)?.cpu(of) - row(to)?.cpu(of),
            Self::Stalls => row(Proxy::Oriel)?.figure(of, |sample| sample.stalls),
            Self::LatencyAdded => p50(row(Proxy::Oriel)?) - p50(row(Proxy::Direct)?),
            Self::BytesEach => row(Proxy::Oriel)?.figure(of, |sample| sample.further),
        })
    }
}

fn cpu_share(rows: &[Row], case: &str, proxy: Proxy, other: Proxy, of: Of) -> Option<f64> {
    let other = find(rows, case, other)?.cpu(of);
    (other > 0.0).then_some(find(rows, case, proxy)?.cpu(of) / other)
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
