//! What people do to the sessions of agents: name and join them. Only a file of this machine takes it.
//! They are removed as other flows are: [`crate::Chosen::Sessions`].

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::{StoreError, database};

/// Changes sessions. Others may write to the same database meanwhile.
#[derive(Debug)]
pub struct SessionEditor {
    connection: Connection,
}

impl SessionEditor {
    /// Opens an existing database.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = database::open_existing(path)?;
        Ok(Self { connection })
    }

    /// Gives a session a name; an empty one takes it away. Answers whether there is such a session.
    pub fn rename(&mut self, id: &str, name: &str) -> Result<bool, StoreError> {
        let name = Some(name).filter(|name| !name.is_empty());
        let changed = self
            .connection
            .prepare_cached("UPDATE sessions SET name = ?2 WHERE id = ?1")?
            .execute((id, name))?;
        Ok(changed > 0)
    }

    /// Makes one session of two: what is of `other`, and will come of it, belongs to `into`. Answers
    /// whether there are both.
    pub fn merge(&mut self, into: &str, other: &str) -> Result<bool, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (Some(into), Some(other)) = (number(&transaction, into)?, number(&transaction, other)?)
        else {
            return Ok(false);
        };
        if into == other {
            return Ok(true);
        }
        note_changes(&transaction, other)?;
        // A running writer remembers rows of marks: these stay, and lead elsewhere.
        transaction.execute(
            "UPDATE session_marks SET session = ?1 WHERE session = ?2",
            (into, other),
        )?;
        transaction.execute(
            "UPDATE sessions SET merged_into = ?1 WHERE number = ?2 OR merged_into = ?2",
            (into, other),
        )?;
        forget_marks(&transaction)?;
        transaction.execute(
            "UPDATE sessions SET agent = coalesce(agent, (SELECT agent FROM sessions WHERE number = ?2))
             WHERE number = ?1",
            (into, other),
        )?;
        transaction.commit()?;
        Ok(true)
    }
}

/// The row of a session.
fn number(connection: &Connection, id: &str) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection
        .prepare_cached("SELECT coalesce(merged_into, number) FROM sessions WHERE id = ?1")?;
    let mut rows = statement.query([id])?;
    rows.next()?.map(|row| row.get(0)).transpose()
}

/// Has writers forget which marks and sessions are stored.
fn forget_marks(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE upkeep SET removals = removals + 1", ())?;
    Ok(())
}

/// Has followers look at the flows of a session again.
fn note_changes(connection: &Connection, session: i64) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO flow_changes (flow) SELECT id FROM flows
         WHERE session IN (SELECT id FROM session_marks WHERE session = ?1)",
        [session],
    )?;
    Ok(())
}
