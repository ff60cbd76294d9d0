//! Puts new words into their index on a connection of its own, while the first one writes on.
//!
//! What is written adds its words to a list beside the index (GIN's pending list; PostgreSQL's
//! documentation, "GIN Fast Update Technique"). Moving them from there is about half of what a flow with a
//! text costs the server, and one connection has one of its processors only. Nothing depends on it: where no
//! second connection is to be had, whoever writes moves them when the list is full, as ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::connect::Purpose;
use super::pool::{Connection, Pool};
use crate::StoreError;
use crate::limits::POSTGRES_LISTED_WORD_BYTES;

/// An insert empties a list above its limit, here the smallest there is (64 kB), and what an insert has
/// done to an index stays when the row is taken back. Unlike `gin_clean_pending_list` it is allowed to
/// who does not own the table, never waits for another that empties the list, and does not follow those
/// who go on filling it for longer than its memory reaches.
const EMPTY_LIST: &str =
    "SET LOCAL gin_pending_list_limit = '64kB'; SET LOCAL work_mem = '32MB';
     INSERT INTO flows (trace_id, batch, run_id, seq, tags, kind, state, proxy_direction, traffic_type, method,
       scheme, host, port, path, url, route_action, route_rule, request_headers, truncated, start_time,
       is_https, danger_unverified, redaction, flow_tags, detail)
     VALUES ('taken back by ' || pg_backend_pid(), 0, '', 0, '{}', '', '', 0, '', '', '', '', 0, '', '', '', '',
       '{}', FALSE, now(), FALSE, FALSE, '', '{}', '{}')";

/// Empties the list of one archive, when there is enough in it.
#[derive(Debug)]
pub(super) struct WordIndexer {
    /// Bytes that it takes until the thread begins.
    enough: usize,
    /// Bytes that came into the list since the thread looked.
    listed: Arc<AtomicUsize>,
    /// The last one that was started.
    thread: Option<JoinHandle<()>>,
}

impl Default for WordIndexer {
    fn default() -> Self {
        Self::new(POSTGRES_LISTED_WORD_BYTES)
    }
}

impl WordIndexer {
    fn new(enough: usize) -> Self {
        Self {
            enough,
            listed: Arc::default(),
            thread: None,
        }
    }

    /// Takes notice of words that were written. Does not wait.
    pub(super) fn add(&mut self, pool: &Arc<Pool>, bytes: usize) {
        let listed = self.listed.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let is_at_work = self
            .thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished());
        if listed < self.enough || is_at_work {
            return;
        }
        let (pool, enough, listed) = (Arc::clone(pool), self.enough, Arc::clone(&self.listed));
        let started = thread::Builder::new()
            .name("oriel-words".to_owned())
            .spawn(move || {
                if let Err(error) = empty_list(&pool, enough, &listed) {
                    let archive = pool.server().place();
                    tracing::debug!(archive, %error, "new words stay beside their index for now");
                }
            });
        self.thread = started.ok();
    }
}

/// Empties the list as often as there is enough in it.
fn empty_list(pool: &Arc<Pool>, enough: usize, listed: &AtomicUsize) -> Result<(), StoreError> {
    let Some(mut spare) = pool.spare(Purpose::Write)? else {
        return Ok(());
    };
    let (Connection { client, .. }, server) = spare.parts();
    let failed = |error| server.failed(error);
    loop {
        let found = listed.load(Ordering::Relaxed);
        if found < enough {
            return Ok(());
        }
        listed.fetch_sub(found, Ordering::Relaxed);
        let mut transaction = client.transaction().map_err(failed)?;
        transaction.batch_execute(EMPTY_LIST).map_err(failed)?;
        transaction.rollback().map_err(failed)?;
    }
}

#[cfg(test)]
mod tests {
    use testbed::postgres::PostgresCluster;

    use super::*;
    use crate::Archive;
    use crate::postgres::PostgresArchive;

    /// A hundred flows of a hundred words each; about 200 kB of the list.
    const FLOWS: &str = "INSERT INTO flows (trace_id, batch, run_id, seq, tags, kind, state, proxy_direction,
           traffic_type, method, scheme, host, port, path, url, route_action, route_rule, request_headers,
           truncated, start_time, is_https, danger_unverified, redaction, flow_tags, detail, words)
         SELECT flow, 0, '', flow, '{}', '', '', 0, '', '', '', '', 0, '', '', '', '', '{}', FALSE, now(), FALSE,
           FALSE, '', '{}', '{}', array_to_tsvector(ARRAY(
             SELECT 'word' || flow || 'x' || word FROM generate_series(1, 100) AS word))
         FROM generate_series(1, 100) AS flow;";

    fn listed_pages(cluster: &PostgresCluster) -> u64 {
        let sql =
            "SELECT n_pending_pages FROM gin_metapage_info(get_raw_page('flows_by_words', 0))";
        let pages = cluster.psql("postgres", sql).unwrap();
        pages.trim().parse().unwrap()
    }

    #[test]
    fn words_go_from_the_list_into_the_index() {
        let cluster = PostgresCluster::start().unwrap();
        let url = cluster.url("postgres");
        PostgresArchive::connect(&url).unwrap().migrate().unwrap();
        let roles = "CREATE EXTENSION pageinspect; CREATE ROLE writer LOGIN; GRANT INSERT ON flows TO writer;";
        cluster.psql("postgres", roles).unwrap();
        cluster.psql("postgres", FLOWS).unwrap();
        assert!(listed_pages(&cluster) > 10);

        // It needs to be nobody's owner.
        let pool = Pool::of(&url.replace("oriel@", "writer@")).unwrap();
        let mut indexer = WordIndexer::new(1000);
        indexer.add(&pool, 999);
        assert!(indexer.thread.is_none());
        indexer.add(&pool, 1);
        indexer.thread.take().unwrap().join().unwrap();
        assert_eq!(listed_pages(&cluster), 0);
        assert_eq!(indexer.listed.load(Ordering::Relaxed), 0);

        let found = "SET enable_seqscan = off;
            SELECT count(*), count(*) FILTER (WHERE words @@ 'word7x7'), max(length(trace_id)) FROM flows";
        let found = cluster.psql("postgres", found).unwrap();
        assert_eq!(found.trim(), "100|1|3");
    }

    #[test]
    fn without_a_second_connection_nothing_fails() {
        let mut cluster = PostgresCluster::start().unwrap();
        let pool = Pool::of(&cluster.url("postgres")).unwrap();
        cluster.stop().unwrap();
        let mut indexer = WordIndexer::new(1000);
        for listed in [1000, 2000] {
            indexer.add(&pool, 1000);
            indexer.thread.take().unwrap().join().unwrap();
            // It is tried again with the next batch.
            assert_eq!(indexer.listed.load(Ordering::Relaxed), listed);
        }
    }
}
