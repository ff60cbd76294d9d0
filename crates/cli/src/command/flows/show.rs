//! `oriel flows show`: one flow, as much of it as was asked for.

pub(crate) mod again;
pub(crate) mod curl;
mod http_file;
mod javascript;
mod literal;
mod messages;
mod python;

use std::fmt::Write as _;

use store::json::FlowDocument;
use store::{
    Body, ConnectionView, ErrorView, FlowDetail, FlowKind, FlowRef, FlowWriter, Format, HeadView,
    Message, Reader, SessionMark, TlsView, TrafficType,
};
use traffic::Timestamp;

use self::again::Again;
use crate::args::{FlowsShow, Part, ShowAs};
use crate::body_text::{Style, body_text};
use crate::clock::now;
use crate::command::flows::{nothing_there, open, resolve};
use crate::context::Context;
use crate::escape::{escape_json, escape_line};
use crate::exit::Exit;
use crate::flow_text::{Clock, has_secrets, moment, request, secrets_warning, tags};
use crate::output::{print, print_bytes, print_json, say, say_line};
use crate::problem::Problem;
use crate::quantity::{bytes, count, millis};
use crate::store_problem::store_problem;
use crate::terminal::{Colour, Glyph, Pen};

pub(crate) fn run(context: &Context, arguments: &FlowsShow) -> Result<Exit, Problem> {
    let reader = open(context, &arguments.data)?.ok_or_else(|| nothing_there(&arguments.id))?;
    let problem = |error| store_problem(&error);
    let flow = resolve(&reader, &arguments.id)?;
    if arguments.raw {
        return print_raw(context, arguments, &reader, flow);
    }
    let detail = reader.flow(flow).map_err(problem)?;
    let view = View {
        context,
        arguments,
        reader: &reader,
        detail: &detail,
    };
    match (arguments.form, context.json()) {
        (Some(form), _) => print(&view.in_form(form)?)?,
        (None, true) => view.print_document()?,
        (None, false) => print(&view.text()?)?,
    }
    if has_secrets(&detail.row) && !context.json() {
        say(&secrets_warning(context.terminal.stderr.pen));
    }
    Ok(Exit::Success)
}

/// Writes the stored bytes of a body. A terminal would obey what is in them.
fn print_raw(
    context: &Context,
    arguments: &FlowsShow,
    reader: &Reader,
    flow: FlowRef,
) -> Result<Exit, Problem> {
    if context.terminal.stdout.is_terminal && !arguments.force {
        return Err(
            Problem::new("ORL0001", Exit::Usage, "raw bytes are not for a terminal")
                .why("a terminal would obey control sequences in captured bytes")
                .fix(format!("oriel flows show {} --raw > FILE", arguments.id))
                .fix(format!("oriel flows show {} --raw --force", arguments.id)),
        );
    }
    let message = match arguments.part {
        Some(Part::Request) => Message::Request,
        _ => Message::Response,
    };
    let body = reader
        .body(flow, message)
        .map_err(|error| store_problem(&error))?;
    print_bytes(&body.map(|body| body.bytes).unwrap_or_default())?;
    Ok(Exit::Success)
}

struct View<'a> {
    context: &'a Context,
    arguments: &'a FlowsShow,
    reader: &'a Reader,
    detail: &'a FlowDetail,
}

impl View<'_> {
    fn print_document(&self) -> Result<(), Problem> {
        let (request, response) = match self.wants_bodies() {
            true => (self.body(Message::Request)?, self.body(Message::Response)?),
            false => (None, None),
        };
        let bodies = self
            .wants_bodies()
            .then_some((request.as_ref(), response.as_ref()));
        let document = FlowDocument::new(self.detail, bodies);
        print_json(&match self.detail.messages {
            Some(counts) => document.with_messages(counts, &self.messages()?, self.wants_bodies()),
            None => document,
        })
    }

    /// As other tools read it.
    fn in_form(&self, form: ShowAs) -> Result<String, Problem> {
        let body = self.body(Message::Request)?;
        let again = Again::of(self.detail, body.as_ref());
        Ok(match form {
            ShowAs::Curl => curl::command(&again),
            ShowAs::Python => python::program(&again),
            ShowAs::Js => javascript::module(&again),
            ShowAs::Http => http_file::request(&again),
            ShowAs::Har => self.har()?,
        })
    }

    /// A HAR of this flow alone. Of a tunnel it is empty, and that is said.
    fn har(&self) -> Result<String, Problem> {
        let record = self.reader.record(self.detail.row.id);
        let record = record.map_err(|error| store_problem(&error))?;
        let mut document = Vec::new();
        let mut write = || {
            let mut writer = FlowWriter::begin(Format::Har, &mut document)?;
            writer.write(&record)?;
            writer.finish()
        };
        let written = write().expect("memory takes all that is written");
        if written == 0 && !self.context.global.quiet {
            say_line("a HAR has no place for a tunnel: there is nothing in it");
        }
        Ok(escape_json(&String::from_utf8_lossy(&document)).into_owned())
    }

    fn wants_bodies(&self) -> bool {
        self.arguments.body || self.arguments.full
    }

    fn body(&self, message: Message) -> Result<Option<Body>, Problem> {
        self.reader
            .body(self.detail.row.id, message)
            .map_err(|error| store_problem(&error))
    }

    /// The first field of this name in a message's head; empty without one.
    fn field(&self, message: Message, name: &str) -> &str {
        let head = match message {
            Message::Request => Some(&self.detail.request),
            Message::Response => self.detail.response.as_ref(),
        };
        let fields = head.map_or(&[][..], |head| &head.fields);
        let mut values = fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        values.next().map_or("", |(_, value)| value)
    }

    fn text(&self) -> Result<String, Problem> {
        let mut text = String::new();
        match self.arguments.part {
            Some(Part::Overview) => self.push_overview(&mut text),
            Some(Part::Request) => self.push_message(&mut text, Message::Request)?,
            Some(Part::Response) => self.push_message(&mut text, Message::Response)?,
            Some(Part::Messages) => self.push_messages(&mut text)?,
            Some(Part::Timing) => self.push_timing(&mut text),
            Some(Part::Tls) => self.push_tls(&mut text),
            Some(Part::Raw) => self.push_wire(&mut text)?,
            None => self.push_all(&mut text)?,
        }
        Ok(text)
    }

    fn push_all(&self, text: &mut String) -> Result<(), Problem> {
        self.push_overview(text);
        if self.arguments.full {
            text.push('\n');
            self.push_timing(text);
            text.push('\n');
            self.push_tls(text);
        }
        text.push('\n');
        self.push_message(text, Message::Request)?;
        if self.detail.response.is_some() {
            text.push('\n');
            self.push_message(text, Message::Response)?;
        }
        self.push_messages(text)?;
        let stdout = self.context.terminal.stdout;
        if stdout.is_terminal && !self.arguments.full {
            let id = self.detail.row.id;
            let more = format!(
                "more   --body   --part request|response|timing|tls|raw   oriel flows show {id} --as curl"
            );
            let _infallible = writeln!(text, "\n{}", stdout.pen.paint(Colour::Dim, &more));
        }
        Ok(())
    }

    fn pen(&self) -> Pen {
        self.context.terminal.stdout.pen
    }

    fn push_overview(&self, text: &mut String) {
        let row = &self.detail.row;
        self.push_headline(text);
        self.push_way(text);
        if let Some(error) = &row.error {
            self.push_error(text, error);
        }
        if let Some(client) = &self.detail.client {
            self.push_client(text, client);
        }
        self.push_sizes(text);
        if let Some(gateway) = &self.detail.gateway {
            let line = format!("{} {} {}", gateway.route, self.pen().arrow(), gateway.url);
            push_fact(text, "gateway", &escape_line(&line));
            if let Some(id) = &gateway.request_id {
                push_fact(text, "as", &escape_line(&format!("request {id}")));
            }
        }
        push_fact(text, "time", &self.time_line());
        if !row.tags.is_empty() {
            push_fact(text, "tags", tags(row).trim_start());
        }
        if let Some(note) = &row.note {
            push_fact(text, "note", &escape_line(note));
        }
        if row.danger_unverified {
            let mark = self.pen().glyph(Glyph::Warning);
            push_fact(
                text,
                "danger",
                &self.pen().paint(
                    Colour::Yellow,
                    &format!("{mark} the upstream's certificate was not verified"),
                ),
            );
        }
    }

    /// What was asked and answered, and the flow's names.
    fn push_headline(&self, text: &mut String) {
        let pen = self.pen();
        let row = &self.detail.row;
        let dot = pen.dot();
        let mut facts = Vec::new();
        if let Some(status) = row.status {
            facts.push(status.to_string());
        }
        facts.extend(
            row.client_version
                .iter()
                .map(|version| escape_line(version).into_owned()),
        );
        if row.upstream_version != row.client_version {
            facts.extend(
                row.upstream_version
                    .iter()
                    .map(|version| format!("upstream {}", escape_line(version))),
            );
        }
        let facts = facts.join(&format!(" {dot} "));
        let _infallible = writeln!(text, "{}   {facts}", pen.paint(Colour::Bold, &request(row)));
        let at = moment(row.started_at, now(), &self.context.zone(), Clock::Exact);
        let _infallible = writeln!(
            text,
            "flow {} {dot} run {} {dot} {at} {dot} {}",
            row.id,
            row.id.run,
            row.state.as_str()
        );
    }

    /// Where it went, and as what.
    fn push_way(&self, text: &mut String) {
        let row = &self.detail.row;
        push_fact(
            text,
            "route",
            &format!(
                "{}   {}",
                escape_line(&row.route_action),
                escape_line(&row.route_rule)
            ),
        );
        if matches!(row.traffic_type, TrafficType::Llm | TrafficType::Mcp) {
            push_fact(text, "type", row.traffic_type.as_str());
        }
        if let Some(mark) = &row.session {
            push_fact(text, "session", &session_line(mark, self.pen().dot()));
        }
        let upstream = self.detail.upstream.as_ref();
        if let Some(proxy) = upstream.and_then(|upstream| upstream.proxy.as_deref()) {
            push_fact(text, "through", &escape_line(proxy));
        }
    }

    fn push_error(&self, text: &mut String, error: &ErrorView) {
        let pen = self.pen();
        let replied = error
            .replied_status
            .map(|status| format!("   (oriel answered {status})"));
        let line = format!(
            "{} {} {} {}: {}{}",
            pen.glyph(Glyph::Failed),
            escape_line(&error.side),
            escape_line(&error.stage),
            escape_line(&error.kind),
            escape_line(&error.text),
            replied.unwrap_or_default()
        );
        push_fact(text, "failed", &pen.paint(Colour::Red, &line));
    }

    fn push_sizes(&self, text: &mut String) {
        let pen = self.pen();
        let row = &self.detail.row;
        let (sent, received) = match row.kind {
            FlowKind::Http => ("request", "response"),
            FlowKind::WebSocket | FlowKind::Tunnel => ("sent", "received"),
        };
        let size = |count: Option<u64>| count.map_or_else(|| pen.unknown().to_owned(), bytes);
        let cut = match row.truncated {
            true => "   not all of it kept",
            false => "",
        };
        push_fact(
            text,
            "size",
            &format!(
                "{sent} {}   {received} {}{cut}",
                size(row.request_bytes),
                size(row.response_bytes)
            ),
        );
    }

    /// Which program asked, and what is odd about how it did.
    fn push_client(&self, text: &mut String, client: &ConnectionView) {
        // The others are how a proxy is commonly asked.
        let front = match client.front.as_str() {
            "socks5" => Some("SOCKS 5"),
            "reverse" => Some("a reverse listener"),
            _ => None,
        };
        if let Some(front) = front {
            push_fact(text, "front", front);
        }
        if let Some(user) = &client.user {
            push_fact(text, "user", &escape_line(user));
        }
        if let Some(process) = &client.process {
            let parents = process.ancestors.iter();
            let chain: String = parents
                .map(|parent| format!(" < {}", parent.name))
                .collect();
            let line = format!("{} (pid {}){chain}", process.name, process.pid);
            push_fact(text, "process", &escape_line(&line));
            if let Some(container) = &process.container {
                push_fact(text, "in", &escape_line(&format!("container {container}")));
            }
        }
        if client.sni_differs {
            let mark = self.pen().glyph(Glyph::Warning);
            let sni = client.sni.as_deref().unwrap_or_default();
            let line = format!("{mark} the ClientHello names {sni}, not the host asked for");
            push_fact(
                text,
                "sni",
                &self.pen().paint(Colour::Yellow, &escape_line(&line)),
            );
        }
    }

    /// How long connecting to the upstream took, which may have been done before the flow began.
    fn connected(&self) -> Option<String> {
        let started = self.detail.row.started_at;
        let upstream = self.detail.upstream.as_ref();
        let done = upstream.map(|upstream| upstream.tls_done_at.unwrap_or(upstream.connected_at));
        if let (Some(upstream), Some(done)) = (upstream, done.filter(|done| *done <= started)) {
            let took = since(upstream.dial_started_at, done);
            return Some(format!("connected before, in {took}"));
        }
        let ready = self.detail.upstream_ready_at?;
        Some(format!("connected after {}", since(started, ready)))
    }

    fn time_line(&self) -> String {
        let row = &self.detail.row;
        let mut parts = Vec::new();
        match self.detail.upstream_reused {
            Some(true) => parts.push("connection reused".to_owned()),
            Some(false) => parts.extend(self.connected()),
            None => {}
        }
        parts.extend(
            row.first_byte_ms
                .map(|first| format!("first byte {}", millis(first))),
        );
        parts.extend(
            row.duration_ms
                .map(|whole| format!("whole {}", millis(whole))),
        );
        parts.join("   ")
    }

    fn push_message(&self, text: &mut String, message: Message) -> Result<(), Problem> {
        let (head, trailers) = match message {
            Message::Request => (Some(&self.detail.request), &self.detail.request_trailers),
            Message::Response => (
                self.detail.response.as_ref(),
                &self.detail.response_trailers,
            ),
        };
        if message == Message::Response {
            for interim in &self.detail.informational {
                self.push_head(text, interim);
                text.push('\n');
            }
        }
        let Some(head) = head else {
            text.push_str("no response\n");
            return Ok(());
        };
        self.push_head(text, head);
        if self.wants_bodies() {
            self.push_body(text, message)?;
        }
        self.push_fields(text, trailers);
        Ok(())
    }

    fn push_head(&self, text: &mut String, head: &HeadView) {
        let line = escape_line(&head.start_line).into_owned();
        let _infallible = writeln!(text, "{}", self.pen().paint(Colour::Bold, &line));
        self.push_fields(text, &head.fields);
    }

    fn push_fields(&self, text: &mut String, fields: &[(String, String)]) {
        for (name, value) in fields {
            let name = self.pen().paint(Colour::Cyan, &escape_line(name));
            let _infallible = writeln!(text, "{name}: {}", escape_line(value));
        }
    }

    fn push_body(&self, text: &mut String, message: Message) -> Result<(), Problem> {
        let Some(body) = self.body(message)? else {
            return Ok(());
        };
        let style = Style {
            pretty: self.context.terminal.stdout.is_terminal,
            full: self.arguments.full,
            message_coding: self.field(message, "grpc-encoding"),
        };
        let shown = body_text(&body, style);
        text.push('\n');
        text.push_str(&shown.text);
        if !shown.text.is_empty() && !shown.text.ends_with('\n') {
            text.push('\n');
        }
        for note in &shown.notes {
            let mark = self.pen().glyph(Glyph::Truncated);
            let note = format!("({mark} {})", escape_line(note));
            let _infallible = writeln!(text, "{}", self.pen().paint(Colour::Dim, &note));
        }
        Ok(())
    }

    /// Heads and bodies as they were on the wire, codings and all, escaped.
    fn push_wire(&self, text: &mut String) -> Result<(), Problem> {
        for message in [Message::Request, Message::Response] {
            let (head, trailers) = match message {
                Message::Request => (Some(&self.detail.request), &self.detail.request_trailers),
                Message::Response => (
                    self.detail.response.as_ref(),
                    &self.detail.response_trailers,
                ),
            };
            let Some(head) = head else { continue };
            let _infallible = writeln!(text, "{}", escape_line(&head.start_line));
            self.push_fields(text, &head.fields);
            text.push('\n');
            if let Some(body) = self.body(message)? {
                text.push_str(&crate::escape::escape_bytes(&body.bytes));
                text.push('\n');
            }
            self.push_fields(text, trailers);
        }
        Ok(())
    }

    /// Every moment that is known, after the start of the flow.
    fn push_timing(&self, text: &mut String) {
        let detail = self.detail;
        let start = detail.row.started_at;
        let client = detail.client.as_ref();
        let upstream = detail.upstream.as_ref();
        let moments = [
            ("accepted", client.map(|client| client.accepted_at)),
            ("client TLS", client.and_then(|client| client.tls_done_at)),
            ("started", Some(start)),
            (
                "dialling",
                upstream.map(|upstream| upstream.dial_started_at),
            ),
            ("connected", upstream.map(|upstream| upstream.connected_at)),
            (
                "upstream TLS",
                upstream.and_then(|upstream| upstream.tls_done_at),
            ),
            ("ready", detail.upstream_ready_at),
            ("sent", detail.request_sent_at),
            ("first byte", detail.response_started_at),
            ("last byte", detail.response_ended_at),
            ("ended", detail.row.ended_at),
        ];
        let mut known: Vec<(&str, Timestamp)> = moments
            .into_iter()
            .filter_map(|(name, at)| Some((name, at?)))
            .collect();
        known.sort_by_key(|(_, at)| *at);
        for (name, at) in known {
            let _infallible = writeln!(text, "{name:13} {:>12}", since(start, at));
        }
        if detail.upstream_reused == Some(true) {
            text.push_str("the upstream connection had served before\n");
        }
    }

    fn push_tls(&self, text: &mut String) {
        if let Some(client) = &self.detail.client {
            let _infallible = writeln!(
                text,
                "client {} {} {}",
                escape_line(&client.client_address),
                self.pen().arrow(),
                escape_line(&client.proxy_address)
            );
            match &client.tls {
                Some(tls) => push_tls_facts(text, tls),
                None => push_fact(
                    text,
                    "tls",
                    &format!(
                        "none: {}",
                        escape_line(client.no_tls.as_deref().unwrap_or("not known"))
                    ),
                ),
            }
            for (name, fingerprint) in [("ja3", &client.ja3), ("ja4", &client.ja4)] {
                if let Some(fingerprint) = fingerprint {
                    push_fact(text, name, &escape_line(fingerprint));
                }
            }
        }
        if let Some(upstream) = &self.detail.upstream {
            let _infallible = writeln!(
                text,
                "upstream {} {} {}",
                escape_line(&upstream.local_address),
                self.pen().arrow(),
                escape_line(&upstream.address)
            );
            if let Some(proxy) = &upstream.proxy {
                push_fact(text, "through", &escape_line(proxy));
            }
            match &upstream.tls {
                Some(tls) => push_tls_facts(text, tls),
                None => push_fact(text, "tls", "none"),
            }
        }
    }
}

fn push_fact(text: &mut String, name: &str, value: &str) {
    let _infallible = writeln!(text, "{name:8} {value}");
}

/// The session of a flow, which agent in it asked, and how that is known.
fn session_line(mark: &SessionMark, dot: &str) -> String {
    let mut line = escape_line(&mark.id).into_owned();
    for (before, text) in [
        ("", &mark.agent),
        ("agent ", &mark.agent_id),
        ("child of ", &mark.parent_agent_id),
    ] {
        if let Some(text) = text {
            let _infallible = write!(line, " {dot} {before}{}", escape_line(text));
        }
    }
    let method = mark.method;
    let _infallible = write!(
        line,
        " {dot} {} by {}",
        method.confidence().as_str(),
        method.as_str()
    );
    line
}

fn push_tls_facts(text: &mut String, tls: &TlsView) {
    let mut facts = vec![
        escape_line(&tls.version).into_owned(),
        escape_line(&tls.cipher).into_owned(),
    ];
    facts.extend(
        tls.alpn
            .iter()
            .map(|alpn| format!("alpn {}", escape_line(alpn))),
    );
    facts.extend(
        tls.sni
            .iter()
            .map(|sni| format!("sni {}", escape_line(sni))),
    );
    push_fact(text, "tls", &facts.join("   "));
    if let Some(certificate) = &tls.certificate {
        push_fact(text, "subject", &escape_line(&certificate.subject));
        push_fact(text, "issuer", &escape_line(&certificate.issuer));
        let day = |micros: i64| {
            store::json::rfc3339(Timestamp(micros))
                .chars()
                .take(10)
                .collect::<String>()
        };
        push_fact(
            text,
            "valid",
            &format!(
                "{} to {}",
                day(certificate.not_before),
                day(certificate.not_after)
            ),
        );
        push_fact(text, "names", &escape_line(&certificate.names.join(", ")));
        push_fact(text, "sha256", &escape_line(&certificate.sha256));
        push_fact(text, "chain", &count(certificate.chain_length as u64));
    }
    if tls.danger_unverified {
        push_fact(text, "danger", "the certificate was not verified");
    }
}

/// From one moment to another; what was before has a minus.
fn since(from: Timestamp, to: Timestamp) -> String {
    let micros = to.micros_since(from);
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let length = millis(micros.unsigned_abs() as f64 / 1000.0);
    match micros < 0 {
        true => format!("-{length}"),
        false => length,
    }
}
