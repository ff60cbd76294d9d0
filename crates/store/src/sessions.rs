//! What people do to the sessions of agents: name, join and remove them. Only a file of this machine
//! takes it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use crate::retention::Remover;
use crate::{StoreError, database};

/// Changes sessions. Others may write to the same database meanwhile.
#[derive(Debug)]
pub struct SessionEditor {
    connection: Connection,
    path: PathBuf,
}

impl SessionEditor {
    /// Opens an existing database.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::NotFound {
                path: path.to_owned(),
            });
        }
        let connection = database::open_for_writing(path)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
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

    /// Removes a session with its flows that have ended, their bodies and messages. Answers how many
    /// flows were removed; `None` if there is no such session.
    pub fn remove(&mut self, id: &str) -> Result<Option<u64>, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some(session) = number(&transaction, id)? else {
            return Ok(None);
        };
        // A flow that is open is written again when it ends.
        transaction.execute(
            "CREATE TEMP TABLE removed AS SELECT id FROM flows
             WHERE state <> 'open'
               AND session IN (SELECT id FROM session_marks WHERE session = ?1)",
            [session],
        )?;
        transaction.execute_batch(
            "DELETE FROM messages WHERE flow IN (SELECT id FROM removed);
             DELETE FROM body_parts WHERE flow IN (SELECT id FROM removed);
             DELETE FROM endings WHERE flow IN (SELECT id FROM removed);
             DELETE FROM annotations WHERE flow IN (SELECT id FROM removed);
             DELETE FROM flows WHERE id IN (SELECT id FROM removed);",
        )?;
        let removed: i64 =
            transaction.query_row("SELECT count(*) FROM removed", (), |row| row.get(0))?;
        transaction.execute_batch("DROP TABLE removed;")?;
        transaction.execute(
            "DELETE FROM session_marks WHERE session = ?1
               AND id NOT IN (SELECT session FROM flows WHERE session IS NOT NULL)",
            [session],
        )?;
        transaction.execute(
            "DELETE FROM sessions WHERE (number = ?1 OR merged_into = ?1)
               AND NOT EXISTS (SELECT 1 FROM session_marks WHERE session = ?1)",
            [session],
        )?;
        forget_marks(&transaction)?;
        transaction.commit()?;
        // Others may have the same bodies, or be made of them.
        Remover::sweep_all(&self.path)?;
        Ok(Some(u64::try_from(removed).unwrap_or(0)))
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
