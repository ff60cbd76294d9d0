//! What people do to the sessions of agents in a file: name and join them. An archive takes it by
//! [`crate::Archive::rename_session`] and [`crate::Archive::merge_sessions`].
//! They are removed as other flows are: [`crate::Chosen::Sessions`].

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::{StoreError, database};

/// What people call a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionName {
    /// The id of the session.
    pub id: String,
    /// Its name, not empty.
    pub name: String,
}

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
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let changed = transaction
            .prepare_cached("UPDATE sessions SET name = ?2 WHERE id = ?1")?
            .execute((id, name))?;
        note_name(&transaction, id)?;
        transaction.commit()?;
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

/// Has archives that have all flows of a session hear of its name: it goes with the last of them.
fn note_name(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO flow_changes (flow)
         SELECT max(flows.id) FROM flows JOIN session_marks AS marks ON marks.id = flows.session
           JOIN sessions ON sessions.number = marks.session
         WHERE flows.session IS NOT NULL AND sessions.id = ?1
         HAVING max(flows.id) IS NOT NULL",
        [id],
    )?;
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

/// The names of those of these sessions that have one.
pub(crate) fn names_of<'i>(
    connection: &Connection,
    ids: impl IntoIterator<Item = &'i str>,
) -> Result<Vec<SessionName>, StoreError> {
    let ids: BTreeSet<&str> = ids.into_iter().collect();
    let mut statement = connection
        .prepare_cached("SELECT name FROM sessions WHERE id = ?1 AND name IS NOT NULL")?;
    let mut names = Vec::new();
    for id in ids {
        let name = statement.query_row([id], |row| row.get(0)).optional()?;
        names.extend(name.map(|name| SessionName {
            id: id.to_owned(),
            name,
        }));
    }
    Ok(names)
}

/// Names sessions that have no name here.
pub(crate) fn name_nameless(
    connection: &Connection,
    names: &[SessionName],
) -> Result<(), StoreError> {
    for SessionName { id, name } in names {
        connection
            .prepare_cached("UPDATE sessions SET name = ?2 WHERE id = ?1 AND name IS NULL")?
            .execute((id, name))?;
    }
    Ok(())
}
