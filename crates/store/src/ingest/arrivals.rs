//! Notes which flows a batch brought, in rows of `arrivals`: the index over run and number of a flow,
//! at a fraction of what one entry per flow costs.

use rusqlite::Connection;

use crate::RunId;
use crate::limits::ARRIVAL_FLOWS_MAX;

/// What arrived in a batch.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    flows: Vec<Arrival>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    run: RunId,
    seq: u64,
    row: i64,
}

impl Arrivals {
    pub(crate) fn clear(&mut self) {
        self.flows.clear();
    }

    pub(crate) fn note(&mut self, run: RunId, seq: u64, row: i64) {
        self.flows.push(Arrival { run, seq, row });
    }

    /// Stores them: one row for flows of one run whose numbers follow each other.
    pub(crate) fn store(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.flows.sort_unstable();
        let mut statement = connection.prepare_cached(
            "INSERT INTO arrivals (run_id, first_seq, last_seq, first_id, last_id)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let follows = |left: &Arrival, right: &Arrival| {
            left.run == right.run && left.seq.checked_add(1) == Some(right.seq)
        };
        let chunks = self.flows.chunk_by(follows);
        for flows in chunks.flat_map(|flows| flows.chunks(ARRIVAL_FLOWS_MAX)) {
            let (Some(first), Some(last)) = (flows.first(), flows.last()) else {
                continue;
            };
            let rows = flows.iter().map(|flow| flow.row);
            statement.execute((
                first.run.as_str(),
                i64::try_from(first.seq).unwrap_or(i64::MAX),
                i64::try_from(last.seq).unwrap_or(i64::MAX),
                rows.clone().min(),
                rows.max(),
            ))?;
        }
        Ok(())
    }
}
