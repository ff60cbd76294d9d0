//! What a run is to fail on although its command succeeded (`--fail-on 'errors>0'`): conditions on what it sums
//! up to, for CI.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};
use traffic::spelling::nearest;

/// A figure that a condition may name.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    /// Where it is in the summary (RFC 6901).
    place: &'static str,
}

/// The figures, named as in the summary's line.
const FIGURES: [Figure; 15] = [
    figure("requests", "/requests/total"),
    figure("ok", "/requests/ok"),
    figure("errors", "/requests/error_status"),
    figure("failed", "/requests/failed"),
    figure("blocked", "/requests/blocked"),
    figure("tunnels", "/requests/tunnelled"),
    figure("sent_bytes", "/sizes/request_bytes"),
    figure("received_bytes", "/sizes/response_bytes"),
    figure("ttfb_p95_ms", "/latency_ms/ttfb/p95"),
    figure("total_p95_ms", "/latency_ms/total/p95"),
    figure("duration_ms", "/duration_ms"),
    figure("lost_events", "/capture/dropped_events"),
    figure("truncated", "/capture/truncated_bodies"),
    figure("unverified", "/capture/danger_unverified"),
    figure("not_seen", "/capture/direct_connections_seen"),
];

const fn figure(name: &'static str, place: &'static str) -> Figure {
    Figure { name, place }
}

/// Whether a figure and the number of a condition compare so.
type Comparison = fn(f64, f64) -> bool;

/// How a figure compares with the number of a condition. Those of two letters come first, so that they are
/// found first.
const COMPARISONS: [(&str, Comparison); 7] = [
    (">=", |value, bound| value >= bound),
    ("<=", |value, bound| value <= bound),
    ("!=", |value, bound| !is_same(value, bound)),
    ("==", is_same),
    (">", |value, bound| value > bound),
    ("<", |value, bound| value < bound),
    ("=", is_same),
];

fn is_same(value: f64, bound: f64) -> bool {
    (value - bound).abs() < f64::EPSILON
}

/// One condition: a figure, a comparison and a number.
#[derive(Clone)]
pub(crate) struct FailOn {
    text: String,
    figure: &'static Figure,
    holds: Comparison,
    bound: f64,
}

impl FromStr for FailOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape =
            || "a condition is a figure, a comparison and a number, as in errors>0".to_owned();
        let at = text.find(['<', '>', '=', '!']).ok_or_else(shape)?;
        let (name, rest) = text.split_at_checked(at).ok_or_else(shape)?;
        let (sign, holds) = COMPARISONS
            .iter()
            .find(|(sign, _)| rest.starts_with(sign))
            .ok_or_else(shape)?;
        let bound = rest.trim_start_matches(sign).trim();
        let bound = bound.parse().ok().filter(|bound: &f64| bound.is_finite());
        let name = name.trim();
        let names = || FIGURES.iter().map(|figure| figure.name);
        let Some(figure) = FIGURES.iter().find(|figure| figure.name == name) else {
            return Err(match nearest(name, names()) {
                Some(meant) => format!("no figure is called {name:?}; did you mean {meant}?"),
                None => {
                    let names: Vec<_> = names().collect();
                    format!(
                        "no figure is called {name:?}; there are {}",
                        names.join(", ")
                    )
                }
            });
        };
        Ok(Self {
            text: text.to_owned(),
            figure,
            holds: *holds,
            bound: bound.ok_or_else(shape)?,
        })
    }
}

impl fmt::Debug for FailOn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FailOn {
    /// What the figure is, and whether that is to fail the run. What is not known in full is, or a gap would
    /// pass for a success.
    fn judge(&self, summary: &Value) -> (Option<f64>, bool) {
        let value = summary.pointer(self.figure.place).and_then(Value::as_f64);
        let is_whole = summary["capture"]["why"].is_null() && !summary["requests"].is_null();
        let holds = value.is_some_and(|value| (self.holds)(value, self.bound));
        (value, holds || !is_whole)
    }
}

/// Adds to a summary what became of the conditions, and says of each that is to fail the run why.
pub(crate) fn judge(conditions: &[FailOn], summary: &mut Value) -> Vec<String> {
    let mut failed = Vec::new();
    let mut assertions = Vec::new();
    for condition in conditions {
        let (value, fails) = condition.judge(summary);
        assertions.push(json!({"fail_on": condition.text, "value": value, "failed": fails}));
        if fails {
            let name = condition.figure.name;
            let value = value.map(|value| value.to_string());
            let is = match (summary["capture"]["why"].as_str(), value) {
                (None, Some(value)) => value,
                (None, None) => "not known".to_owned(),
                (Some(why), Some(value)) => {
                    format!("at least {value}, and not known in full: {why}")
                }
                (Some(why), None) => format!("not known: {why}"),
            };
            failed.push(format!("{name} is {is} (--fail-on {:?})", condition.text));
        }
    }
    summary["assertions"] = Value::Array(assertions);
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str, summary: &Value) -> Vec<String> {
        let mut summary = summary.clone();
        judge(&[text.parse().unwrap()], &mut summary)
    }

    #[test]
    fn conditions_compare_figures() {
        let summary = json!({
            "requests": {"total": 3, "error_status": 2},
            "latency_ms": {"ttfb": null, "total": {"p50": 1.0, "p95": 12.5}},
            "capture": {"why": null},
        });
        for fails in [
            "errors>0",
            "errors > 1.5",
            "errors>=2",
            "errors=2",
            "errors==2",
            "errors!=3",
            "requests<4",
            "requests<=3",
            "total_p95_ms>12",
        ] {
            assert_eq!(judged(fails, &summary).len(), 1, "{fails}");
        }
        for passes in [
            "errors>2",
            "errors<2",
            "errors!=2",
            "requests=0",
            "total_p95_ms>12.5",
            // Of no request there is no latency.
            "ttfb_p95_ms>0",
        ] {
            assert!(judged(passes, &summary).is_empty(), "{passes}");
        }
        let mut summary = summary;
        let said = judge(&["errors>0".parse().unwrap()], &mut summary);
        assert_eq!(said, ["errors is 2 (--fail-on \"errors>0\")"]);
        let expected = json!([{"fail_on": "errors>0", "value": 2.0, "failed": true}]);
        assert_eq!(summary["assertions"], expected);
    }

    #[test]
    fn what_is_not_known_is_no_success() {
        let nothing = json!({"requests": null, "capture": {"why": "the disk is full"}});
        let said = judged("errors>0", &nothing);
        assert_eq!(
            said,
            ["errors is not known: the disk is full (--fail-on \"errors>0\")"]
        );
        let some = json!({"requests": {"error_status": 0}, "capture": {"why": "the disk is full"}});
        assert_eq!(judged("errors>0", &some).len(), 1);
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for (text, why) in [
            ("errors", "a condition is"),
            ("errors>", "a condition is"),
            ("errors>many", "a condition is"),
            ("errors>NaN", "a condition is"),
            ("errors!0", "a condition is"),
            ("error>0", "did you mean errors?"),
            ("money>0", "there are requests, ok,"),
            (">0", "there are requests"),
        ] {
            let error = text.parse::<FailOn>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
