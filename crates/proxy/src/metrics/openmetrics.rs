//! Metrics as text that monitoring systems read (OpenMetrics 1.0, `prometheus.io/docs/specs/om`).

use std::fmt::Write;

use super::{Attempts, Histogram, Metrics};

impl Metrics {
    /// The Content-Type of [`Metrics::to_openmetrics`].
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// The metrics as OpenMetrics text, with the `# EOF` that ends it. `families` are further
    /// metric families as whole lines, for a program that has some of its own; mostly empty.
    #[must_use]
    pub fn to_openmetrics(&self, families: &str) -> String {
        let mut text = Text(String::with_capacity(4096));
        self.connections(&mut text);
        self.upstreams(&mut text);
        self.handler(&mut text);
        text.0.push_str(families);
        text.0.push_str("# EOF\n");
        text.0
    }

    fn connections(&self, text: &mut Text) {
        text.gauge(
            "oriel_connections_active",
            "Client connections that are open.",
            &[("", self.active_connections)],
        );
        text.counter(
            "oriel_connections",
            "Client connections accepted.",
            &[("", self.total_connections)],
        );
        text.counter(
            "oriel_connections_refused",
            "Client connections refused because their client had too many.",
            &[("", self.refused_connections)],
        );
        text.counter(
            "oriel_logins_refused",
            "Logins of clients that were wrong, and those not looked at because of that.",
            &[
                ("reason=\"wrong\"", self.refused_logins),
                ("reason=\"too_many\"", self.barred_logins),
            ],
        );
        text.counter(
            "oriel_process_lookup_failures",
            "Processes of clients that were not found.",
            &[
                ("kind=\"unknown\"", self.process_attribution_failure_count),
                ("kind=\"timeout\"", self.process_attribution_timeout_count),
            ],
        );
        text.gauge(
            "oriel_flows_active",
            "Requests, WebSockets and tunnels under way.",
            &[("", self.active_flows)],
        );
        let flows: Vec<(String, u64)> = self
            .flows
            .iter()
            .map(|group| {
                let labels = format!(
                    "route=\"{}\",protocol=\"{}\",outcome=\"{}\"",
                    group.route.as_str(),
                    group.protocol.as_str(),
                    group.outcome.as_str()
                );
                (labels, group.count)
            })
            .collect();
        text.counter("oriel_flows", "Flows that have ended.", &flows);
        text.counter_of(
            ("oriel_payload_bytes", Some("bytes")),
            "Payload that passed; of tunnels when they end.",
            &[
                ("kind=\"request\"", self.bytes.requests),
                ("kind=\"response\"", self.bytes.responses),
                ("kind=\"tunnel_client\"", self.bytes.tunnelled_from_clients),
                (
                    "kind=\"tunnel_upstream\"",
                    self.bytes.tunnelled_from_upstreams,
                ),
            ],
        );
        text.histogram(
            "oriel_added_latency_seconds",
            "Time a request was here before its upstream was turned to.",
            &self.added_latency,
        );
    }

    fn upstreams(&self, text: &mut Text) {
        let mut handshakes = attempts("side=\"client\",", self.client_handshakes).to_vec();
        handshakes.extend(attempts("side=\"upstream\",", self.upstream_handshakes));
        text.counter("oriel_tls_handshakes", "TLS handshakes.", &handshakes);
        text.counter(
            "oriel_upstream_dials",
            "TCP connections to upstreams, name resolution included.",
            &attempts("", self.dials),
        );
        text.counter(
            "oriel_upstream_timeouts",
            "Flows that failed because an upstream took too long.",
            &[("", self.upstream_timeout_count)],
        );
        text.gauge(
            "oriel_upstream_connections",
            "Connections to upstreams.",
            &[
                ("state=\"in_use\"", self.pool.in_use),
                ("state=\"idle\"", self.pool.idle),
            ],
        );
        text.counter(
            "oriel_leaf_lookups",
            "Look-ups of leaf certificates.",
            &[
                ("result=\"found\"", self.leaves.found),
                ("result=\"made\"", self.leaves.made),
            ],
        );
        text.gauge(
            "oriel_leaves",
            "Leaf certificates held.",
            &[("", self.leaves.held)],
        );
    }

    fn handler(&self, text: &mut Text) {
        text.counter(
            "oriel_handler_failures",
            "Callbacks of the handler that failed.",
            &[
                ("kind=\"panic\"", self.handler_panic_count),
                ("kind=\"timeout\"", self.handler_timeout_count),
            ],
        );
        text.counter(
            "oriel_handler_dropped",
            "Callbacks dropped because the handler was too far behind.",
            &[("", self.dropped_dispatch_work_count)],
        );
        text.gauge(
            "oriel_handler_queued",
            "Callbacks that wait for the handler.",
            &[("", self.queued_callbacks)],
        );
        text.gauge(
            "oriel_held_bytes",
            "Bytes held for the handler.",
            &[("", self.held_bytes)],
        );
    }
}

fn attempts(before: &str, attempts: Attempts) -> [(String, u64); 2] {
    [
        (format!("{before}outcome=\"succeeded\""), attempts.succeeded),
        (format!("{before}outcome=\"failed\""), attempts.failed),
    ]
}

/// Metric families, one after the other. Labels are of our own making: nothing in them needs to be
/// escaped.
struct Text(String);

impl Text {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _written = self.0.write_fmt(line);
        self.0.push('\n');
    }

    fn describe(&mut self, name: &str, kind: &str, unit: Option<&str>, help: &str) {
        self.line(format_args!("# TYPE {name} {kind}"));
        if let Some(unit) = unit {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {help}"));
    }

    fn samples(&mut self, name: &str, samples: &[(impl AsRef<str>, u64)]) {
        for (labels, value) in samples {
            match labels.as_ref() {
                "" => self.line(format_args!("{name} {value}")),
                labels => self.line(format_args!("{name}{{{labels}}} {value}")),
            }
        }
    }

    fn gauge(&mut self, name: &str, help: &str, samples: &[(impl AsRef<str>, u64)]) {
        self.describe(name, "gauge", None, help);
        self.samples(name, samples);
    }

    fn counter(&mut self, name: &str, help: &str, samples: &[(impl AsRef<str>, u64)]) {
        self.counter_of((name, None), help, samples);
    }

    fn counter_of(
        &mut self,
        (name, unit): (&str, Option<&str>),
        help: &str,
        samples: &[(impl AsRef<str>, u64)],
    ) {
        self.describe(name, "counter", unit, help);
        self.samples(&format!("{name}_total"), samples);
    }

    /// Buckets count all that is not above their bound, so each contains those before it.
    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.describe(name, "histogram", Some("seconds"), help);
        let mut count = 0;
        for bucket in &histogram.buckets {
            count += bucket.count;
            match bucket.up_to.is_finite() {
                true => self.line(format_args!(
                    "{name}_bucket{{le=\"{:?}\"}} {count}",
                    bucket.up_to
                )),
                false => self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}")),
            }
        }
        self.line(format_args!("{name}_sum {:?}", histogram.sum));
        self.line(format_args!("{name}_count {count}"));
    }
}

#[cfg(test)]
mod tests;
