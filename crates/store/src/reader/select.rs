//! Turns a filter into SQL. Text of the user only ever becomes a bound value.
//!
//! Every test is written so that it is never NULL: what is not known does not match, and its
//! opposite does.

use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use traffic::rules::filter::{Bounds, Expression, Filter, NumberKey, Pattern, Test, TextKey};

use crate::StoreError;

/// Bytes of both bodies, or of the tunnel; what is not known counts as zero.
pub(super) const SIZE: &str = "(coalesce(tunnel_bytes_sent, request_body_size, 0) \
    + coalesce(tunnel_bytes_received, response_body_size, 0))";

/// Conditions that all hold, with their values in order.
#[derive(Debug, Default)]
pub(super) struct Conditions {
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
    /// Adds a condition with `?` for each of its values.
    pub(super) fn add(&mut self, sql: &str, values: impl IntoIterator<Item = Value>) {
        if !self.sql.is_empty() {
            self.sql.push_str(" AND ");
        }
        self.sql.push_str(sql);
        self.values.extend(values);
    }

    /// Adds what a filter asks for.
    pub(super) fn add_filter(&mut self, filter: &Filter) {
        if !self.sql.is_empty() {
            self.sql.push_str(" AND ");
        }
        self.write(filter.expression());
    }

    /// The conditions as one expression.
    pub(super) fn sql(&self) -> &str {
        match self.sql.is_empty() {
            true => "TRUE",
            false => &self.sql,
        }
    }

    /// The values.
    pub(super) fn values(&self) -> &[Value] {
        &self.values
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
            TextKey::Session => {
                self.write_session(pattern);
                return;
            }
            TextKey::Id => &[
                ("(run_id || '.' || seq)", Plain::Whole),
                ("trace_id", Plain::Whole),
            ],
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

    /// A run by its id or name, or by its place from the end.
    fn write_session(&mut self, pattern: &Pattern) {
        if let Pattern::Plain(text) = pattern
            && let Some(back) = place_from_end(text)
        {
            self.sql
                .push_str("(run_id = coalesce((SELECT id FROM runs ORDER BY number DESC LIMIT 1 OFFSET ?), ''))");
            self.values.push(Value::from(back - 1));
            return;
        }
        self.sql.push_str("(run_id IN (SELECT id FROM runs WHERE ");
        self.write_any(pattern, &[("id", Plain::Whole), ("name", Plain::Whole)]);
        self.sql.push_str("))");
    }

    fn write_header(&mut self, name: &str, pattern: &Pattern) {
        self.sql.push('(');
        for (position, column) in ["request_headers", "response_headers"].iter().enumerate() {
            if position > 0 {
                self.sql.push_str(" OR ");
            }
            self.sql.push_str("EXISTS (SELECT 1 FROM json_each(");
            self.sql.push_str(column);
            self.sql
                .push_str(") WHERE lower(json_extract(value, '$[0]')) = ? AND ");
            self.values.push(Value::from(name.to_owned()));
            self.write_match("json_extract(value, '$[1]')", Plain::Part, pattern);
            self.sql.push(')');
        }
        self.sql.push(')');
    }

    /// One text column and one pattern.
    fn write_match(&mut self, column: &str, plain: Plain, pattern: &Pattern) {
        let like = match pattern {
            Pattern::Regex(regex) => {
                self.sql
                    .push_str(&format!("coalesce(regexp(?, {column}), FALSE)"));
                self.values.push(Value::from(regex.clone()));
                return;
            }
            Pattern::Plain(text) if plain == Plain::Part => format!("%{}%", escaped(text)),
            Pattern::Plain(text) => escaped(text),
            Pattern::Glob(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| escaped(part)).collect();
                parts.join("%")
            }
        };
        let test = format!("coalesce({column} LIKE ? ESCAPE '\\', FALSE)");
        if plain == Plain::Domain && matches!(pattern, Pattern::Plain(_)) {
            self.sql.push_str(&format!("({test} OR {test})"));
            self.values.push(Value::from(format!("%.{like}")));
        } else {
            self.sql.push_str(&test);
        }
        self.values.push(Value::from(like));
    }

    fn write_number(&mut self, key: NumberKey, bounds: Bounds) {
        let number = match key {
            NumberKey::Status => "status_code",
            NumberKey::Size => SIZE,
            NumberKey::RequestSize => "coalesce(tunnel_bytes_sent, request_body_size)",
            NumberKey::ResponseSize => "coalesce(tunnel_bytes_received, response_body_size)",
            NumberKey::Duration => "(end_time - start_time)",
            NumberKey::Time => "start_time",
        };
        // Not `coalesce` around the whole: an index is of use only to a bare comparison. IS NOT
        // NULL makes it FALSE where the number is not known.
        self.sql.push_str(&format!("({number} IS NOT NULL"));
        for (comparison, bound) in [(">=", bounds.min), ("<=", bounds.max)] {
            if let Some(bound) = bound {
                self.sql.push_str(&format!(" AND {number} {comparison} ?"));
                self.values.push(Value::from(bound));
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

/// Adds the functions that the SQL of filters needs: `regexp(pattern, text)`.
pub(super) fn add_functions(connection: &Connection) -> Result<(), StoreError> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("regexp", 2, flags, regexp)?;
    Ok(())
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
