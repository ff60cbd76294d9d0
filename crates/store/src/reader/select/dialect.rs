//! How the kinds of databases say the same thing. Column names are the same on all of them.

use rusqlite::types::Value;

use crate::postgres::regex::translated;
use crate::search::Wanted;

/// A kind of database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dialect {
    #[default]
    Sqlite,
    Postgres,
    ClickHouse,
}

impl Dialect {
    /// What stands for a value: the first has the number 1. PostgreSQL and ClickHouse
    /// (`param_p1=…` of a request) want to know its type.
    pub(super) fn place(self, number: usize, value: &Value) -> String {
        let is_text = matches!(value, Value::Text(_));
        match self {
            Self::Sqlite => "?".to_owned(),
            Self::Postgres => {
                let of = if is_text { "text" } else { "bigint" };
                format!("${number}::{of}")
            }
            Self::ClickHouse => {
                let of = if is_text { "String" } else { "Int64" };
                format!("{{p{number}:{of}}}")
            }
        }
    }

    /// The id of a flow as people type it.
    pub(super) fn flow_id(self) -> &'static str {
        match self {
            Self::Sqlite | Self::Postgres => "(run_id || '.' || seq)",
            Self::ClickHouse => "concat(run_id, '.', toString(seq))",
        }
    }

    /// The order of runs.
    pub(crate) fn newest_run_first(self) -> &'static str {
        match self {
            Self::Sqlite | Self::Postgres => "number DESC",
            Self::ClickHouse => "started_at DESC, uuid DESC",
        }
    }

    /// A test of a column against a pattern of LIKE; see [`Self::like_pattern`].
    pub(super) fn is_like(self, column: &str) -> String {
        match self {
            Self::Sqlite => format!("{column} LIKE ? ESCAPE '\\'"),
            // ILIKE would take letters beyond ASCII for equal too, and which depends on the locale.
            Self::Postgres => format!("lower({column} COLLATE \"C\") LIKE ? ESCAPE '\\'"),
            // Its escape character is the backslash; `lower` knows ASCII only.
            Self::ClickHouse => format!("lower({column}) LIKE ?"),
        }
    }

    /// The pattern for [`Self::is_like`].
    pub(super) fn like_pattern(self, mut pattern: String) -> String {
        // LIKE of SQLite compares without regard to the case of ASCII letters.
        if self != Self::Sqlite {
            pattern.make_ascii_lowercase();
        }
        pattern
    }

    /// A test of a column against a regular expression; see [`Self::regex`].
    pub(super) fn matches(self, column: &str) -> String {
        match self {
            Self::Sqlite => format!("regexp(?, {column})"),
            Self::Postgres => format!("{column} ~ ?"),
            Self::ClickHouse => format!("match({column}, ?)"),
        }
    }

    /// A regular expression of Rust that ignores case, for [`Self::matches`].
    pub(super) fn regex(self, regex: &str) -> String {
        match self {
            Self::Sqlite => regex.to_owned(),
            Self::Postgres => translated(regex),
            // RE2, whose dot matches line feeds in ClickHouse.
            Self::ClickHouse => format!("(?i-s){regex}"),
        }
    }

    /// What stands before and behind a test of `value` to ask it of each value of a field in a JSON
    /// object of fields, `?` being its name. A value is a text, or an array of texts where the field
    /// came more than once.
    pub(super) fn any_value_of(self, column: &str) -> (String, String) {
        match self {
            // Here fields are packed: `has_field` reads them.
            Self::Sqlite => ("FALSE AND (".to_owned(), ")".to_owned()),
            Self::Postgres => (
                format!("EXISTS (SELECT FROM oriel_field_values({column}, ?) AS value WHERE "),
                ")".to_owned(),
            ),
            Self::ClickHouse => (
                "arrayExists(value -> ".to_owned(),
                format!(
                    ", multiIf(JSONType({column}, ?) = 'Array', JSONExtract({column}, ?, 'Array(String)'), \
                     JSONHas({column}, ?), [JSONExtractString({column}, ?)], []))"
                ),
            ),
        }
    }

    /// A test whether the column `words` has all of these, and its values.
    pub(super) fn has_words(self, wanted: Wanted) -> (String, Vec<String>) {
        let Wanted { words, beginning } = wanted;
        match self {
            // Here texts have an index of their own.
            Self::Sqlite => ("FALSE".to_owned(), Vec::new()),
            Self::Postgres => {
                // Words have letters and digits only.
                let words = words.into_iter().map(|word| format!("'{word}'"));
                let beginning = beginning.map(|beginning| format!("'{beginning}':*"));
                let query: Vec<String> = words.chain(beginning).collect();
                ("(words @@ ?::tsquery)".to_owned(), vec![query.join(" & ")])
            }
            Self::ClickHouse => {
                let tests = words.iter().map(|_| "hasToken(words, ?)");
                let begins = beginning.iter().map(|_| "position(words, ?) > 0");
                let tests: Vec<&str> = tests.chain(begins).collect();
                // There is a space before each word.
                let beginning = beginning.map(|beginning| format!(" {beginning}"));
                let values = words.into_iter().chain(beginning).collect();
                (format!("({})", tests.join(" AND ")), values)
            }
        }
    }

    /// What stands before and behind a test of `tag` to ask it of each tag of a flow. Archives have them
    /// in the array `flow_tags`.
    pub(super) fn any_tag(self) -> (&'static str, &'static str) {
        match self {
            // Few flows have tags: they are found once, not asked for with each flow.
            Self::Sqlite => (
                "(id IN (SELECT flow FROM (
                   SELECT flow, value AS tag FROM annotations, json_each(annotations.tags)
                 ) WHERE ",
                "))",
            ),
            Self::Postgres => ("EXISTS (SELECT FROM unnest(flow_tags) AS tag WHERE ", ")"),
            Self::ClickHouse => ("arrayExists(tag -> ", ", flow_tags)"),
        }
    }

    /// What stands before and behind a test of `tag` to ask whether a flow of an archive has tags and it
    /// holds for all of them.
    pub(crate) fn all_tags(self) -> (&'static str, &'static str) {
        match self {
            // Here tags are in a table of their own, which who asks reads.
            Self::Sqlite => ("(FALSE AND (", "))"),
            Self::Postgres => (
                "(cardinality(flow_tags) > 0
                   AND NOT EXISTS (SELECT FROM unnest(flow_tags) AS tag WHERE NOT (",
                ")))",
            ),
            Self::ClickHouse => (
                "(notEmpty(flow_tags) AND arrayAll(tag -> (",
                "), flow_tags))",
            ),
        }
    }

    /// Whether nobody gave a flow tags or a note.
    pub(crate) fn is_unmarked(self) -> &'static str {
        match self {
            Self::Sqlite => "(id NOT IN (SELECT flow FROM annotations))",
            Self::Postgres => "(cardinality(flow_tags) = 0 AND note IS NULL)",
            Self::ClickHouse => "(empty(flow_tags) AND note IS NULL)",
        }
    }

    /// `yes` for a flow that has tags, else `no`.
    pub(super) fn is_marked(self) -> &'static str {
        match self {
            Self::Sqlite => "iif(coalesce(tags, '[]') = '[]', 'no', 'yes')",
            Self::Postgres => "(CASE WHEN cardinality(flow_tags) = 0 THEN 'no' ELSE 'yes' END)",
            Self::ClickHouse => "if(empty(flow_tags), 'no', 'yes')",
        }
    }

    /// A point in time from a number of microseconds.
    pub(crate) fn time(self) -> &'static str {
        match self {
            Self::Sqlite => "?",
            Self::Postgres => "(timestamp 'epoch' + ? * interval '1 microsecond')",
            Self::ClickHouse => "fromUnixTimestamp64Micro(?, 'UTC')",
        }
    }
}
