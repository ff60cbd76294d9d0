//! Binds the parameters of the statements that write rows of `flows`.
//!
//! A parameter stays bound from one row to the next. What is bound is remembered, and a value that
//! the flow before had too is not bound again: most are such, and binding is a good part of what a
//! row costs. (Inserting several rows with one statement was measured and gains nothing.)

use rusqlite::types::Null;
use rusqlite::{Connection, Statement};

/// The statements that write rows of `flows`.
pub(super) struct Statements<'c> {
    insert: Remembering<'c>,
    update: Remembering<'c>,
}

/// Which statement is meant.
#[derive(Clone, Copy)]
pub(super) enum Into {
    /// A new row: the first columns, then the later ones.
    New,
    /// A row that is stored already: the later columns, then its number.
    Stored,
}

/// A statement and what is bound to it.
struct Remembering<'c> {
    statement: Statement<'c>,
    /// By the number of the parameter; these are counted from one on.
    bound: Vec<Bound>,
}

/// What is bound to a parameter.
#[derive(Clone, Debug, Default)]
enum Bound {
    #[default]
    Unknown,
    Null,
    Integer(i64),
    Text(String),
}

/// Binds parameters one after the other.
pub(super) struct Binder<'s, 'c> {
    to: &'s mut Remembering<'c>,
    index: usize,
}

impl<'c> Statements<'c> {
    /// Prepares them for these columns.
    pub(super) fn prepare(
        connection: &'c Connection,
        first: &[&str],
        later: &[&str],
    ) -> rusqlite::Result<Self> {
        let columns: Vec<&str> = first.iter().chain(later).copied().collect();
        let places = vec!["?"; columns.len()].join(", ");
        let insert = format!(
            "INSERT INTO flows ({}) VALUES ({places})",
            columns.join(", ")
        );
        // A session may be known from elsewhere.
        let change = |column: &&str| match *column {
            "session" => "session = coalesce(?, session)".to_owned(),
            column => format!("{column} = ?"),
        };
        let changes: Vec<String> = later.iter().map(change).collect();
        let update = format!("UPDATE flows SET {} WHERE id = ?", changes.join(", "));
        Ok(Self {
            insert: Remembering::prepare(connection, &insert)?,
            update: Remembering::prepare(connection, &update)?,
        })
    }

    /// Binds from this column on, counted from zero.
    pub(super) fn binder(&mut self, into: Into, column: usize) -> Binder<'_, 'c> {
        Binder {
            to: self.statement(into),
            index: column,
        }
    }

    /// Runs the statement, all parameters of which are bound.
    pub(super) fn execute(&mut self, into: Into) -> rusqlite::Result<()> {
        self.statement(into).statement.raw_execute().map(drop)
    }

    /// Forgets what is bound: a failure may have come between noting and binding.
    pub(super) fn forget(&mut self) {
        for statement in [&mut self.insert, &mut self.update] {
            statement.bound.fill(Bound::Unknown);
        }
    }

    fn statement(&mut self, into: Into) -> &mut Remembering<'c> {
        match into {
            Into::New => &mut self.insert,
            Into::Stored => &mut self.update,
        }
    }
}

impl<'c> Remembering<'c> {
    fn prepare(connection: &'c Connection, sql: &str) -> rusqlite::Result<Self> {
        let statement = connection.prepare(sql)?;
        let bound = vec![Bound::Unknown; statement.parameter_count() + 1];
        Ok(Self { statement, bound })
    }
}

impl Binder<'_, '_> {
    pub(super) fn put_integer(&mut self, number: i64) -> rusqlite::Result<()> {
        let bound = self.next()?;
        if !matches!(bound, Bound::Integer(known) if *known == number) {
            *bound = Bound::Integer(number);
            self.bind(number)?;
        }
        Ok(())
    }

    pub(super) fn put_text(&mut self, text: &str) -> rusqlite::Result<()> {
        let bound = self.next()?;
        match bound {
            Bound::Text(known) if known == text => return Ok(()),
            Bound::Text(known) => {
                known.clear();
                known.push_str(text);
            }
            other => *other = Bound::Text(text.to_owned()),
        }
        self.bind(text)
    }

    pub(super) fn put_bytes(&mut self, bytes: &[u8]) -> rusqlite::Result<()> {
        *self.next()? = Bound::Unknown;
        self.bind(bytes)
    }

    pub(super) fn put_null(&mut self) -> rusqlite::Result<()> {
        let bound = self.next()?;
        if !matches!(bound, Bound::Null) {
            *bound = Bound::Null;
            self.bind(Null)?;
        }
        Ok(())
    }

    pub(super) fn put_nulls(&mut self, columns: usize) -> rusqlite::Result<()> {
        (0..columns).try_for_each(|_| self.put_null())
    }

    pub(super) fn put_some_integer(&mut self, number: Option<i64>) -> rusqlite::Result<()> {
        match number {
            Some(number) => self.put_integer(number),
            None => self.put_null(),
        }
    }

    fn next(&mut self) -> rusqlite::Result<&mut Bound> {
        self.index += 1;
        let index = self.index;
        let bound = self.to.bound.get_mut(index);
        bound.ok_or_else(|| rusqlite::Error::InvalidParameterCount(index, 0))
    }

    fn bind(&mut self, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
        self.to.statement.raw_bind_parameter(self.index, value)
    }
}
