//! Turns a filter into SQL. Text of the user only ever becomes a bound value.
//!
//! Every test is written so that it is never NULL: what is not known does not match, and its
//! opposite does. A filter gives the same flows on each kind of database: of letters only those of
//! ASCII match in either case, and a regular expression means what it means in Rust, as far as the
//! database has its parts.

mod dialect;

use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use traffic::Timestamp;
use traffic::rules::filter::{
    Bounds, Expression, Filter, NumberKey, Pattern, Test, TextKey, Words,
};

pub(crate) use self::dialect::Dialect;
use super::packed::Detail;
use crate::limits::{READ_HEAD_BYTES_MAX, REGEX_BYTES_MAX};
use crate::row_number::{first_row_at, last_row_at};
use crate::{RunId, StoreError, head_delta, head_text, search};

/// Bytes of both bodies, or of the tunnel; what is not known counts as zero.
pub(crate) const SIZE: &str = "(coalesce(tunnel_bytes_sent, request_body_size, 0) \
    + coalesce(tunnel_bytes_received, response_body_size, 0))";

/// Conditions that all hold, with their values in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    dialect: Dialect,
    /// Whether the database has no names of sessions.
    is_nameless: bool,
    sql: String,
    values: Vec<Value>,
}

/// What a plain pattern means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    /// The whole text.
    Whole,
    /// A part of it.
    Part,
    /// The whole text, or its end behind a dot.
    Domain,
}

impl Conditions {
    /// None, for a database of this kind.
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            ..Self::default()
        }
    }

    /// The same for a database that has no names of sessions, if so: an archive as an older oriel left it.
    pub(crate) fn nameless(self, is_nameless: bool) -> Self {
        Self {
            is_nameless,
            ..self
        }
    }

    /// Adds a condition with `?` for each of its values.
    pub(crate) fn add(&mut self, sql: &str, values: impl IntoIterator<Item = Value>) {
        if !self.sql.is_empty() {
            self.sql.push_str(" AND ");
        }
        self.put(sql, values);
    }

    /// Adds that flows are of this run, if there is one.
    pub(crate) fn add_run(&mut self, run: Option<RunId>) {
        let Some(run) = run else {
            return;
        };
        let run = || Value::from(run.as_str().to_owned());
        match self.dialect {
            // They lie between the first and the last that came of it.
            Dialect::Sqlite => self.add(
                "run_id = ? AND id BETWEEN (SELECT min(first_id) FROM arrivals WHERE run_id = ?)
                   AND (SELECT max(last_id) FROM arrivals WHERE run_id = ?)",
                [run(), run(), run()],
            ),
            Dialect::Postgres | Dialect::ClickHouse => self.add("run_id = ?", [run()]),
        }
    }

    /// Adds what a filter asks for, if there is one.
    pub(crate) fn add_filter(&mut self, filter: Option<&Filter>) {
        let Some(filter) = filter else {
            return;
        };
        if !self.sql.is_empty() {
            self.sql.push_str(" AND ");
        }
        self.write(filter.expression());
    }

    /// Adds that a filter asks for something else.
    pub(crate) fn add_unless(&mut self, filter: &Filter) {
        self.add("NOT ", []);
        self.write(filter.expression());
    }

    /// Adds that flows have all these words.
    pub(crate) fn add_words(&mut self, words: &Words) {
        if !self.sql.is_empty() {
            self.sql.push_str(" AND ");
        }
        self.write_words(words);
    }

    /// The conditions as one expression.
    pub(crate) fn sql(&self) -> &str {
        match self.sql.is_empty() {
            true => "TRUE",
            false => &self.sql,
        }
    }

    /// The values, in the order of their places.
    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }

    /// Appends SQL with `?` for each of its values, which become places as the dialect has them.
    fn put(&mut self, sql: &str, values: impl IntoIterator<Item = Value>) {
        let mut parts = sql.split('?');
        self.sql.push_str(parts.next().unwrap_or_default());
        for (part, value) in parts.zip(values) {
            let place = self.dialect.place(self.values.len() + 1, &value);
            self.sql.push_str(&place);
            self.sql.push_str(part);
            self.values.push(value);
        }
    }

    fn write(&mut self, expression: &Expression) {
        match expression {
            Expression::All(parts) => self.write_all(parts, " AND ", "TRUE"),
            Expression::Any(parts) => self.write_all(parts, " OR ", "FALSE"),
            Expression::Not(inner) => {
                self.sql.push_str("NOT ");
                self.write(inner);
            }
            Expression::Test(test) => self.write_test(test),
        }
    }

    fn write_all(&mut self, parts: &[Expression], between: &str, empty: &str) {
        self.sql.push('(');
        for (position, part) in parts.iter().enumerate() {
            if position > 0 {
                self.sql.push_str(between);
            }
            self.write(part);
        }
        if parts.is_empty() {
            self.sql.push_str(empty);
        }
        self.sql.push(')');
    }

    fn write_test(&mut self, test: &Test) {
        match test {
            Test::Anywhere(pattern) => self.write_any(
                pattern,
                &[
                    ("url", Plain::Part),
                    ("method", Plain::Part),
                    ("error_message", Plain::Part),
                ],
            ),
            Test::Text(key, pattern) => self.write_text(*key, pattern),
            Test::Header(name, pattern) => self.write_header(name, pattern),
            Test::Number(key, bounds) => self.write_number(*key, *bounds),
            Test::Words(words) => self.write_words(words),
        }
    }

    fn write_text(&mut self, key: TextKey, pattern: &Pattern) {
        let columns: &[(&str, Plain)] = match key {
            TextKey::Url => &[("url", Plain::Part)],
            TextKey::Host => &[("host", Plain::Domain)],
            TextKey::Path => &[("path", Plain::Part)],
            TextKey::Method => &[("method", Plain::Whole)],
            TextKey::Kind => &[("kind", Plain::Whole)],
            TextKey::State => &[("state", Plain::Whole)],
            TextKey::Proto => &[("request_version", Plain::Whole)],
            TextKey::Route => &[("route_action", Plain::Whole), ("route_rule", Plain::Part)],
            TextKey::Error => &[
                ("error_side", Plain::Whole),
                ("error_stage", Plain::Whole),
                ("error_type", Plain::Whole),
                ("error_message", Plain::Part),
            ],
            TextKey::TrafficType => &[("traffic_type", Plain::Whole)],
            TextKey::Agent => &[("agent", Plain::Whole), ("agent_id", Plain::Whole)],
            TextKey::Run => return self.write_run(pattern),
            TextKey::Session => return self.write_session(pattern),
            TextKey::Id => &[
                (self.dialect.flow_id(), Plain::Whole),
                ("trace_id", Plain::Whole),
            ],
            TextKey::Process => {
                let columns = [
                    ("process_name", Plain::Whole),
                    ("process_path", Plain::Whole),
                ];
                return self.write_of_client(pattern, &columns);
            }
            TextKey::User => {
                return self.write_of_client(pattern, &[("client_user", Plain::Whole)]);
            }
            TextKey::Instance => return self.write_of_origin(pattern, "instance"),
            TextKey::Owner => return self.write_of_origin(pattern, "user"),
            TextKey::Front => return self.write_of_client(pattern, &[("front", Plain::Whole)]),
            TextKey::Sni => return self.write_of_client(pattern, &[("tls_sni", Plain::Domain)]),
            TextKey::Tag => return self.write_tag(pattern),
            TextKey::Note => &[("note", Plain::Part)],
            TextKey::Marked => &[(self.dialect.is_marked(), Plain::Whole)],
            TextKey::Fingerprint => {
                let columns = [("ja3", Plain::Whole), ("ja4", Plain::Whole)];
                return self.write_of_client(pattern, &columns);
            }
        };
        self.write_any(pattern, columns);
    }

    fn write_any(&mut self, pattern: &Pattern, columns: &[(&str, Plain)]) {
        self.sql.push('(');
        for (position, (column, plain)) in columns.iter().enumerate() {
            if position > 0 {
                self.sql.push_str(" OR ");
            }
            self.write_match(column, *plain, pattern);
        }
        self.sql.push(')');
    }

    /// What is known of the client's connection. An archive has it beside the flow.
    fn write_of_client(&mut self, pattern: &Pattern, columns: &[(&str, Plain)]) {
        if self.dialect != Dialect::Sqlite {
            self.write_any(pattern, columns);
            return;
        }
        self.sql
            .push_str("(client_connection IN (SELECT id FROM client_connections WHERE ");
        self.write_any(pattern, columns);
        self.sql.push_str("))");
    }

    /// What is known of whose run it is. An archive has it beside the flow; `user` is a word of SQL.
    fn write_of_origin(&mut self, pattern: &Pattern, name: &str) {
        if self.dialect != Dialect::Sqlite {
            self.write_any(pattern, &[(&format!("\"{name}\""), Plain::Whole)]);
            return;
        }
        let column = format!("json_extract(origin, '$.{name}')");
        self.sql.push_str("(run_id IN (SELECT id FROM runs WHERE ");
        self.write_any(pattern, &[(&column, Plain::Whole)]);
        self.sql.push_str("))");
    }

    fn write_tag(&mut self, pattern: &Pattern) {
        let (before, after) = self.dialect.any_tag();
        self.sql.push_str(before);
        self.write_any(pattern, &[("tag", Plain::Whole)]);
        self.sql.push_str(after);
    }

    /// A run, or the session of an agent, by its id or the name that people gave it.
    fn write_session(&mut self, pattern: &Pattern) {
        if matches!(pattern, Pattern::Plain(text) if place_from_end(text).is_some()) {
            return self.write_run(pattern);
        }
        self.sql.push('(');
        self.write_run(pattern);
        self.sql.push_str(" OR ");
        let by_id = ("session_id", Plain::Whole);
        match self.dialect {
            Dialect::Sqlite => self.write_any(pattern, &[by_id, ("session_name", Plain::Whole)]),
            Dialect::Postgres | Dialect::ClickHouse => {
                self.write_any(pattern, &[by_id]);
                self.write_session_name(pattern);
            }
        }
        self.sql.push(')');
    }

    /// An archive has the names of sessions in a table of their own.
    fn write_session_name(&mut self, pattern: &Pattern) {
        if self.is_nameless {
            return;
        }
        self.sql.push_str(
            " OR coalesce(session_id IN (SELECT session_id FROM session_names WHERE name <> '' AND ",
        );
        self.write_any(pattern, &[("name", Plain::Whole)]);
        self.sql.push_str("), FALSE)");
    }

    /// A run by its id or name, or by its place from the end.
    fn write_run(&mut self, pattern: &Pattern) {
        if let Pattern::Plain(text) = pattern
            && let Some(back) = place_from_end(text)
        {
            let sql = format!(
                "(run_id = coalesce((SELECT id FROM runs ORDER BY {} LIMIT 1 OFFSET ?), ''))",
                self.dialect.newest_run_first()
            );
            self.put(&sql, [Value::from(back - 1)]);
            return;
        }
        self.sql.push_str("(run_id IN (SELECT id FROM runs WHERE ");
        self.write_any(pattern, &[("id", Plain::Whole), ("name", Plain::Whole)]);
        self.sql.push_str("))");
    }

    fn write_header(&mut self, name: &str, pattern: &Pattern) {
        if self.dialect != Dialect::Sqlite {
            return self.write_header_of_json(name, pattern);
        }
        // As with LIKE, only letters of ASCII match in either case.
        let whole = |regex: String| format!("(?s-u){regex}");
        let regex = match pattern {
            Pattern::Regex(regex) => regex.clone(),
            Pattern::Plain(text) => whole(regex::escape(text)),
            Pattern::Glob(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| regex::escape(part)).collect();
                whole(format!("^{}$", parts.join(".*")))
            }
        };
        self.put(
            "has_field(detail, (SELECT head FROM client_connections WHERE id = client_connection), \
             (SELECT head FROM upstream_connections WHERE id = upstream_connection), ?, ?)",
            [Value::from(name.to_owned()), Value::from(regex)],
        );
    }

    /// Archives have the fields in JSON objects, the names in lower case.
    fn write_header_of_json(&mut self, name: &str, pattern: &Pattern) {
        for (start, column) in [("(", "request_headers"), (" OR ", "response_headers")] {
            self.sql.push_str(start);
            let (before, after) = self.dialect.any_value_of(column);
            let names = |sql: &str| {
                let count = sql.matches('?').count();
                std::iter::repeat_n(Value::from(name.to_owned()), count)
            };
            self.put(&before, names(&before));
            self.write_match("value", Plain::Part, pattern);
            self.put(&after, names(&after));
        }
        self.sql.push(')');
    }

    /// Flows that have words. In a file the index of texts names them, which is attached: `crate::Reader`
    /// sees to that. In an archive their words stand beside them.
    fn write_words(&mut self, words: &Words) {
        if self.dialect == Dialect::Sqlite {
            match search::matching(words) {
                Some(matching) => self.put(
                    "(id IN (SELECT rowid FROM texts WHERE texts MATCH ?))",
                    [Value::from(matching)],
                ),
                None => self.sql.push_str("FALSE"),
            }
            return;
        }
        match search::wanted(words) {
            Some(wanted) => {
                let (sql, values) = self.dialect.has_words(wanted);
                self.put(&sql, values.into_iter().map(Value::from));
            }
            None => self.sql.push_str("FALSE"),
        }
    }

    /// One text column and one pattern.
    fn write_match(&mut self, column: &str, plain: Plain, pattern: &Pattern) {
        let like = match pattern {
            Pattern::Regex(regex) => {
                let test = self.dialect.matches(column);
                let regex = self.dialect.regex(regex);
                self.put(&format!("coalesce({test}, FALSE)"), [Value::from(regex)]);
                return;
            }
            Pattern::Plain(text) if plain == Plain::Part => format!("%{}%", escaped(text)),
            Pattern::Plain(text) => escaped(text),
            Pattern::Glob(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| escaped(part)).collect();
                parts.join("%")
            }
        };
        let like = self.dialect.like_pattern(like);
        let test = format!("coalesce({}, FALSE)", self.dialect.is_like(column));
        if plain == Plain::Domain && matches!(pattern, Pattern::Plain(_)) {
            let below = format!("%.{like}");
            let values = [Value::from(below), Value::from(like)];
            self.put(&format!("({test} OR {test})"), values);
        } else {
            self.put(&test, [Value::from(like)]);
        }
    }

    fn write_number(&mut self, key: NumberKey, bounds: Bounds) {
        let number = match key {
            NumberKey::Status => "status_code",
            NumberKey::Size => SIZE,
            NumberKey::RequestSize => "coalesce(tunnel_bytes_sent, request_body_size)",
            NumberKey::ResponseSize => "coalesce(tunnel_bytes_received, response_body_size)",
            NumberKey::Duration => "duration_us",
            NumberKey::Pid if self.dialect == Dialect::Sqlite => {
                "(SELECT pid FROM client_connections WHERE id = client_connection)"
            }
            NumberKey::Pid => "pid",
            NumberKey::Time => {
                self.write_time(bounds);
                return;
            }
        };
        // Not `coalesce` around the whole: an index is of use only to a bare comparison. IS NOT
        // NULL makes it FALSE where the number is not known.
        self.write_bounds(number, "?", bounds);
    }

    /// In SQLite the number of a row holds its time, and rows lie in that order.
    fn write_time(&mut self, bounds: Bounds) {
        if self.dialect != Dialect::Sqlite {
            return self.write_bounds("start_time", self.dialect.time(), bounds);
        }
        let rows = Bounds {
            min: bounds.min.map(|at| first_row_at(Timestamp(at))),
            max: bounds.max.map(|at| last_row_at(Timestamp(at))),
        };
        self.write_bounds("id", "?", rows);
    }

    /// `place` is what a bound is written as, with `?` for its value.
    fn write_bounds(&mut self, number: &str, place: &str, bounds: Bounds) {
        self.sql.push_str(&format!("({number} IS NOT NULL"));
        for (comparison, bound) in [(">=", bounds.min), ("<=", bounds.max)] {
            if let Some(bound) = bound {
                let sql = format!(" AND {number} {comparison} {place}");
                self.put(&sql, [Value::from(bound)]);
            }
        }
        self.sql.push(')');
    }
}

/// `@last` is the first from the end, `@-2` the second.
fn place_from_end(text: &str) -> Option<i64> {
    match text.strip_prefix('@')? {
        "last" => Some(1),
        place => {
            let back = place.strip_prefix('-')?.parse().ok()?;
            (1..=i64::from(u32::MAX)).contains(&back).then_some(back)
        }
    }
}

/// A text in which LIKE finds nothing special.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// Adds the functions that the SQL of filters needs: `regexp(pattern, text)`, and `has_field(detail,
/// request head base, response head base, name, pattern)`.
pub(crate) fn add_functions(connection: &Connection) -> Result<(), StoreError> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("regexp", 2, flags, regexp)?;
    connection.create_scalar_function("has_field", 5, flags, has_field)?;
    Ok(())
}

/// Whether a field of this name in one of the two heads matches. Heads that cannot be read do not.
fn has_field(context: &Context<'_>) -> rusqlite::Result<bool> {
    let regex: Arc<regex::bytes::Regex> = context.get_or_create_aux(4, |pattern| {
        let pattern = pattern.as_str()?;
        let regex = regex::bytes::RegexBuilder::new(pattern)
            .case_insensitive(true)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .build();
        regex.map_err(boxed)
    })?;
    let detail = Detail::read(context.get_raw(0).as_blob()?).unwrap_or_default();
    let name = context.get_raw(3).as_str()?;
    for (steps, base) in [
        (detail.request_head, context.get_raw(1)),
        (detail.response_head, context.get_raw(2)),
    ] {
        let base = base.as_blob_or_null()?.unwrap_or_default();
        let head = steps.and_then(|steps| head_delta::read(base, steps, READ_HEAD_BYTES_MAX));
        let head = head.unwrap_or_default();
        let mut fields = head_text::fields(&head);
        if fields.any(|(known, value)| {
            known.eq_ignore_ascii_case(name) && regex.is_match(value.as_bytes())
        }) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn regexp(context: &Context<'_>) -> rusqlite::Result<Option<bool>> {
    // Compiled once per statement: SQLite keeps it beside the constant argument.
    let regex: Arc<regex::Regex> = context.get_or_create_aux(0, |pattern| {
        Pattern::compile(pattern.as_str()?).map_err(boxed)
    })?;
    match context.get_raw(1) {
        ValueRef::Text(text) => Ok(Some(
            std::str::from_utf8(text).is_ok_and(|text| regex.is_match(text)),
        )),
        _ => Ok(None),
    }
}

fn boxed(error: regex::Error) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(error)
}

#[cfg(test)]
mod tests;
