//! Binds the parameters of the statements that write rows of `flows`.
//!
//! A parameter stays bound from one row to the next. Texts that most flows share are remembered and
//! not bound again: SQLite copies each text that is bound, and that is a good part of what a row
//! costs. (Inserting several rows with one statement was measured and gains nothing.)

use rusqlite::types::Null;
use rusqlite::{Connection, Statement, ToSql};

/// The statements that write rows of `flows`.
pub(super) struct Statements<'c> {
    insert: Shared<'c>,
    update: Shared<'c>,
}

/// Which statement is meant.
#[derive(Clone, Copy)]
pub(super) enum Into {
    /// A new row: the first columns, then the later ones.
    New,
    /// A row that is stored already: the later columns, then its number.
    Stored,
}

/// A statement and the texts that are bound to it.
struct Shared<'c> {
    statement: Statement<'c>,
    bound: Vec<String>,
}

/// Binds parameters one after the other.
pub(super) struct Binder<'s, 'c> {
    shared: &'s mut Shared<'c>,
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
        let update = format!("UPDATE flows SET {} = ? WHERE id = ?", later.join(" = ?, "));
        Ok(Self {
            insert: Shared::prepare(connection, &insert)?,
            update: Shared::prepare(connection, &update)?,
        })
    }

    /// Binds from this column on, counted from zero.
    pub(super) fn binder(&mut self, into: Into, column: usize) -> Binder<'_, 'c> {
        Binder {
            shared: self.shared(into),
            index: column,
        }
    }

    /// Runs the statement, all parameters of which are bound.
    pub(super) fn execute(&mut self, into: Into) -> rusqlite::Result<()> {
        self.shared(into).statement.raw_execute().map(drop)
    }

    /// Forgets what is bound: a failure may have come between noting and binding.
    pub(super) fn forget(&mut self) {
        for shared in [&mut self.insert, &mut self.update] {
            shared.bound.iter_mut().for_each(String::clear);
        }
    }

    fn shared(&mut self, into: Into) -> &mut Shared<'c> {
        match into {
            Into::New => &mut self.insert,
            Into::Stored => &mut self.update,
        }
    }
}

impl<'c> Shared<'c> {
    fn prepare(connection: &'c Connection, sql: &str) -> rusqlite::Result<Self> {
        let statement = connection.prepare(sql)?;
        // Parameters are numbered from one on.
        let bound = vec![String::new(); statement.parameter_count() + 1];
        Ok(Self { statement, bound })
    }
}

impl Binder<'_, '_> {
    pub(super) fn put(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.index += 1;
        self.shared.statement.raw_bind_parameter(self.index, value)
    }

    pub(super) fn put_some(&mut self, value: Option<impl ToSql>) -> rusqlite::Result<()> {
        match value {
            Some(value) => self.put(value),
            None => self.skip(1),
        }
    }

    /// Puts a text that the flow before is likely to have had too. Its column is never put in
    /// another way; `skip` knows.
    pub(super) fn put_shared(&mut self, value: &str) -> rusqlite::Result<()> {
        if let Some(bound) = self.shared.bound.get_mut(self.index + 1) {
            // An empty text says that nothing is known to be bound.
            if !value.is_empty() && bound == value {
                self.index += 1;
                return Ok(());
            }
            bound.clear();
            bound.push_str(value);
        }
        self.put(value)
    }

    pub(super) fn put_some_shared(&mut self, value: Option<&str>) -> rusqlite::Result<()> {
        match value {
            Some(value) => self.put_shared(value),
            None => self.skip(1),
        }
    }

    /// Leaves columns NULL.
    pub(super) fn skip(&mut self, columns: usize) -> rusqlite::Result<()> {
        for _ in 0..columns {
            self.put(Null)?;
            if let Some(bound) = self.shared.bound.get_mut(self.index) {
                bound.clear();
            }
        }
        Ok(())
    }
}
