//! What flows refer to: bodies, what these are made of, connections, places, kinds of responses and marks of
//! sessions.
//!
//! It is read once, in one pass over all flows, and kept up to date with what others write meanwhile;
//! one bit per row.

use std::collections::HashMap;
use std::ops::Range;

use rusqlite::{Connection, OptionalExtension};

use super::{Cut, REMOVABLE};
use crate::StoreError;
use crate::ingest::bodies::pieces::Pieces;
use crate::ingest::bodies::{Bodies, Remembered};

/// Rows that are referred to.
#[derive(Debug, Default)]
pub(super) struct Live {
    bodies: Bits,
    /// Of bodies that nothing but other bodies refers to: which of their own bytes these have.
    parts: HashMap<i64, Vec<Range<usize>>>,
    clients: Bits,
    upstreams: Bits,
    places: Bits,
    marks: Bits,
    response_kinds: Bits,
    /// Up to here all was seen; what is behind these is not swept.
    seen: Seen,
    /// The last rows that there were at first.
    last: Seen,
}

/// A table whose rows several flows refer to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shared {
    Clients,
    Upstreams,
    Places,
    Marks,
    ResponseKinds,
}

impl Shared {
    pub(super) const ALL: [Self; 5] = [
        Self::Clients,
        Self::Upstreams,
        Self::Places,
        Self::Marks,
        Self::ResponseKinds,
    ];
}

/// How far the tables were read.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    body: i64,
    client: i64,
    upstream: i64,
    place: i64,
    mark: i64,
    response_kind: i64,
    arrival: i64,
    change: i64,
}

/// A set of row numbers, which count from one on.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

/// What of a row of `flows` is followed.
const FOLLOWED: &str = "request_body, response_body, client_connection, upstream_connection, place, session, \
    response_kind";

/// The same, as if bodies were gone that go for their size.
fn followed(cut: Cut) -> String {
    let mut followed = FOLLOWED.to_owned();
    if cut.body_bytes == i64::MAX {
        return followed;
    }
    for column in ["request_body", "response_body"] {
        let smaller = format!(
            "(SELECT id FROM bodies WHERE bodies.id = {column}
               AND (size <= {} OR flows.id NOT IN (SELECT flow FROM temp.large)))",
            cut.body_bytes
        );
        followed = followed.replace(column, &smaller);
    }
    followed
}

impl Live {
    /// Reads what all flows refer to, as if the cut were made and what is doomed were gone.
    pub(super) fn read(connection: &Connection, cut: Cut) -> Result<Self, StoreError> {
        let mut live = Self::default();
        live.last = Seen::read(connection)?;
        live.seen = live.last;
        let bodies_before = cut.bodies.max(cut.flows);
        let followed = followed(cut);
        let sql = format!(
            "SELECT {followed} FROM flows
             WHERE NOT ({REMOVABLE}) AND id NOT IN (SELECT flow FROM temp.doomed)"
        );
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([bodies_before])?;
        while let Some(row) = rows.next()? {
            live.follow(row)?;
        }
        // Those whose bodies alone go keep what else they refer to.
        let sql = format!(
            "SELECT NULL, NULL, client_connection, upstream_connection, place, session, response_kind
             FROM flows WHERE {REMOVABLE} AND id >= ?2"
        );
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query((bodies_before, cut.flows))?;
        while let Some(row) = rows.next()? {
            live.follow(row)?;
        }
        let sql = format!(
            "SELECT body FROM messages WHERE body IS NOT NULL
               AND flow NOT IN (SELECT id FROM flows WHERE {REMOVABLE})
               AND flow NOT IN (SELECT flow FROM temp.doomed)
               AND NOT (kept > {} AND flow IN (SELECT flow FROM temp.large))",
            cut.body_bytes
        );
        live.follow_messages(connection, &sql, [bodies_before])?;
        live.follow_pieces(connection, 0)?;
        Ok(live)
    }

    /// Takes note of what was written since. To be called in a transaction that writes.
    pub(super) fn heed_changes(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let now = Seen::read(connection)?;
        let seen = std::mem::replace(&mut self.seen, now);
        for (sql, after) in [
            (
                format!(
                    "SELECT {FOLLOWED} FROM arrivals JOIN flows
                       ON flows.id BETWEEN arrivals.first_id AND arrivals.last_id
                     WHERE arrivals.number > ?1"
                ),
                seen.arrival,
            ),
            (
                format!(
                    "SELECT {FOLLOWED} FROM flow_changes JOIN flows ON flows.id = flow_changes.flow
                     WHERE change > ?1"
                ),
                seen.change,
            ),
        ] {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([after])?;
            while let Some(row) = rows.next()? {
                self.follow(row)?;
            }
        }
        // Messages that come to a flow which is open are in no log.
        for (sql, after) in [
            (
                "SELECT body FROM messages WHERE body IS NOT NULL
                   AND flow IN (SELECT id FROM flows WHERE state = 'open') AND ?1 IS NOT NULL",
                0,
            ),
            (
                "SELECT body FROM messages WHERE body IS NOT NULL
                   AND flow IN (SELECT flow FROM flow_changes WHERE change > ?1)",
                seen.change,
            ),
            (
                "SELECT body FROM arrivals JOIN messages
                   ON messages.flow BETWEEN arrivals.first_id AND arrivals.last_id
                 WHERE arrivals.number > ?1 AND body IS NOT NULL",
                seen.arrival,
            ),
        ] {
            self.follow_messages(connection, sql, [after])?;
        }
        self.follow_pieces(connection, seen.body)
    }

    fn follow(&mut self, row: &rusqlite::Row<'_>) -> rusqlite::Result<()> {
        for index in 0..2 {
            if let Some(body) = row.get(index)? {
                self.bodies.insert(body);
            }
        }
        let rest = [
            &mut self.clients,
            &mut self.upstreams,
            &mut self.places,
            &mut self.marks,
            &mut self.response_kinds,
        ];
        for (index, set) in (2..).zip(rest) {
            if let Some(referred) = row.get(index)? {
                set.insert(referred);
            }
        }
        Ok(())
    }

    fn follow_messages(
        &mut self,
        connection: &Connection,
        sql: &str,
        parameters: [i64; 1],
    ) -> Result<(), StoreError> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            self.bodies.insert(row.get(0)?);
        }
        Ok(())
    }

    /// Notes of what bodies are made that are referred to.
    fn follow_pieces(&mut self, connection: &Connection, after: i64) -> Result<(), StoreError> {
        let mut statement = connection.prepare_cached(
            "SELECT id, size, pieces FROM bodies WHERE id > ?1 AND pieces IS NOT NULL",
        )?;
        let mut rows = statement.query([after])?;
        while let Some(row) = rows.next()? {
            let body: i64 = row.get(0)?;
            if !self.bodies.contains(body) {
                continue;
            }
            let size: i64 = row.get(1)?;
            let list = row.get_ref(2)?.as_blob().unwrap_or_default();
            let pieces = usize::try_from(size)
                .ok()
                .and_then(|size| Pieces::read(list, size));
            // One that is damaged refers to nothing that can be found.
            let Some(pieces) = pieces else { continue };
            for (other, of_it) in pieces.others {
                if self.bodies.contains(other) {
                    continue;
                }
                let parts = self.parts.entry(other).or_default();
                for piece in of_it {
                    if !parts
                        .iter()
                        .any(|part| part.start <= piece.from.start && piece.from.end <= part.end)
                    {
                        parts.push(piece.from);
                    }
                }
            }
        }
        Ok(())
    }

    /// Bytes of bodies that nothing refers to.
    pub(super) fn dead_bytes(&self, connection: &Connection) -> Result<u64, StoreError> {
        let mut statement = connection.prepare("SELECT id, length(data) FROM bodies")?;
        let mut rows = statement.query(())?;
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            if !self.is_needed(row.get(0)?) {
                bytes += u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default();
            }
        }
        Ok(bytes)
    }

    fn is_needed(&self, body: i64) -> bool {
        self.bodies.contains(body) || self.parts.contains_key(&body)
    }

    /// Bodies that no flow refers to: those that others are made of are among them.
    pub(super) fn unneeded_bodies(&self, connection: &Connection) -> rusqlite::Result<Vec<i64>> {
        let mut statement = connection.prepare("SELECT id FROM bodies ORDER BY id")?;
        let mut rows = statement.query(())?;
        let mut unneeded = Vec::new();
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            if !self.bodies.contains(id) {
                unneeded.push(id);
            }
        }
        Ok(unneeded)
    }

    /// Of these bodies removes those that nothing refers to, and of those that only others are made of
    /// takes out what these do not have. Answers the bytes that were stored in what was removed.
    pub(super) fn sweep_bodies(
        &self,
        connection: &Connection,
        ids: &[i64],
    ) -> Result<u64, StoreError> {
        let mut bytes = 0;
        let mut changed = false;
        let mut remove =
            connection.prepare_cached("DELETE FROM bodies WHERE id = ?1 RETURNING length(data)")?;
        let mut bodies = Bodies::new(connection, Remembered::default())?;
        for id in ids {
            if self.bodies.contains(*id) {
                continue;
            }
            match self.parts.get(id) {
                Some(parts) => changed |= bodies.thin(*id, parts)?,
                None => {
                    let stored: Option<i64> =
                        remove.query_row([id], |row| row.get(0)).optional()?;
                    bytes += stored.unwrap_or_default().unsigned_abs();
                    changed = true;
                }
            }
        }
        if changed {
            tell_writers(connection)?;
        }
        Ok(bytes)
    }

    /// Rows of a table that no flow refers to.
    pub(super) fn unneeded(
        &self,
        connection: &Connection,
        table: Shared,
    ) -> rusqlite::Result<Vec<i64>> {
        let (name, live, last) = self.shared(table);
        let sql = format!("SELECT id FROM {name} WHERE id <= ?1 ORDER BY id");
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([last])?;
        let mut unneeded = Vec::new();
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            if !live.contains(id) {
                unneeded.push(id);
            }
        }
        Ok(unneeded)
    }

    /// Removes those of these rows of a table that no flow refers to. Those of a run that goes on are told to
    /// its writer.
    pub(super) fn sweep_shared(
        &self,
        connection: &Connection,
        table: Shared,
        rows: &[i64],
    ) -> Result<(), StoreError> {
        let (name, live, _) = self.shared(table);
        let sql = format!("DELETE FROM {name} WHERE id = ?1");
        let mut remove = connection.prepare_cached(&sql)?;
        for id in rows.iter().filter(|id| !live.contains(**id)) {
            remove.execute([id])?;
        }
        tell_writers(connection)
    }

    /// The name of a table, the rows of it that are needed, and the last one that there was at first.
    fn shared(&self, table: Shared) -> (&'static str, &Bits, i64) {
        match table {
            Shared::Clients => ("client_connections", &self.clients, self.last.client),
            Shared::Upstreams => ("upstream_connections", &self.upstreams, self.last.upstream),
            Shared::Places => ("places", &self.places, self.last.place),
            Shared::Marks => ("session_marks", &self.marks, self.last.mark),
            Shared::ResponseKinds => (
                "response_kinds",
                &self.response_kinds,
                self.last.response_kind,
            ),
        }
    }
}

/// Has writers forget what they remember as stored.
pub(super) fn tell_writers(connection: &Connection) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE upkeep SET removals = removals + 1")?
        .execute(())?;
    Ok(())
}

impl Seen {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let last = |sql: &str| connection.query_row(sql, (), |row| row.get(0));
        Ok(Self {
            body: last("SELECT coalesce(max(id), 0) FROM bodies")?,
            client: last("SELECT coalesce(max(id), 0) FROM client_connections")?,
            upstream: last("SELECT coalesce(max(id), 0) FROM upstream_connections")?,
            place: last("SELECT coalesce(max(id), 0) FROM places")?,
            mark: last("SELECT coalesce(max(id), 0) FROM session_marks")?,
            response_kind: last("SELECT coalesce(max(id), 0) FROM response_kinds")?,
            arrival: last("SELECT coalesce(max(number), 0) FROM arrivals")?,
            change: last("SELECT coalesce(max(change), 0) FROM flow_changes")?,
        })
    }
}

impl Bits {
    fn insert(&mut self, row: i64) {
        let Some((word, bit)) = Self::place(row) else {
            return;
        };
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    fn contains(&self, row: i64) -> bool {
        let place = Self::place(row);
        place.is_some_and(|(word, bit)| self.0.get(word).is_some_and(|word| word & bit != 0))
    }

    fn place(row: i64) -> Option<(usize, u64)> {
        let row = usize::try_from(row).ok()?;
        Some((row / 64, 1 << (row % 64)))
    }
}
