//! The text that monitoring systems read.

use std::sync::Arc;
use std::time::Duration;

use traffic::{Action, Outcome};

use super::*;
use crate::metrics::{Counters, Protocol};

fn some() -> Metrics {
    let counters = Arc::new(Counters::default());
    let _open = counters.connection();
    drop(counters.connection());
    for _flow in 0..2 {
        counters.flow_begun();
    }
    counters.flow_ended(Action::Intercept, Protocol::Http2, &Outcome::Completed);
    counters.client_handshakes.count(true);
    counters.dials.count(false);
    counters.passed(3, 1000);
    counters.added(Duration::from_micros(30));
    counters.added(Duration::from_secs(9));
    counters.snapshot()
}

#[test]
fn the_text_says_what_was_counted() {
    let text = some().to_openmetrics("");
    for line in [
        "oriel_connections_active 1",
        "oriel_connections_total 2",
        "oriel_flows_active 1",
        "oriel_flows_total{route=\"intercept\",protocol=\"http2\",outcome=\"completed\"} 1",
        "oriel_payload_bytes_total{kind=\"response\"} 1000",
        "oriel_tls_handshakes_total{side=\"client\",outcome=\"succeeded\"} 1",
        "oriel_upstream_dials_total{outcome=\"failed\"} 1",
        "oriel_added_latency_seconds_bucket{le=\"2.5e-5\"} 0",
        "oriel_added_latency_seconds_bucket{le=\"5e-5\"} 1",
        "oriel_added_latency_seconds_bucket{le=\"5.0\"} 1",
        "oriel_added_latency_seconds_bucket{le=\"+Inf\"} 2",
        "oriel_added_latency_seconds_sum 9.00003",
        "oriel_added_latency_seconds_count 2",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
}

#[test]
fn each_family_is_described_once_and_the_text_ends() {
    let own = "# TYPE mine gauge\nmine 1\n";
    let text = some().to_openmetrics(own);
    assert!(text.ends_with("# TYPE mine gauge\nmine 1\n# EOF\n"));
    let mut families: Vec<&str> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["#", "TYPE", name, _kind] => {
                assert!(!families.contains(name), "{name} twice");
                families.push(name);
            }
            ["#", ..] => {}
            // A sample belongs to the family that was described last.
            [sample, value] => {
                let family = families.last().copied().unwrap_or_default();
                assert!(sample.starts_with(family), "{sample} after {family}");
                value.parse::<f64>().unwrap();
            }
            _ => panic!("{line}"),
        }
    }
}
