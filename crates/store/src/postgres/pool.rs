//! Connections to one database that are used again and again: of all of this process together, as many at a
//! time as the URL allows.
//!
//! Whoever copies, puts words into their index, reads or removes takes a connection for as long as that lasts
//! and gives it back. An idle one serves every purpose; so one is enough for everything, one after the other.
//! Connections end with the last that holds their pool.

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use postgres::Client;

use super::connect::{Purpose, Server};
use crate::StoreError;
use crate::limits::{POSTGRES_IDLE_CHECK_TIMEOUT, POSTGRES_IDLE_MAX, POSTGRES_IDLE_TRUSTED};
use crate::shipper::instant;

/// The pools of this process, by the URL.
static POOLS: Mutex<Vec<(String, Weak<Pool>)>> = Mutex::new(Vec::new());

/// The connections to one database.
pub(super) struct Pool {
    server: Server,
    state: Mutex<State>,
    /// Wakes one who waits for a connection.
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Idle>,
    /// Connections in use, about to be made, and idle.
    open: usize,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection of a pool.
pub(super) struct Connection {
    pub(super) client: Client,
    purpose: Purpose,
    /// Whether it has the tables that rows are copied into.
    pub(super) is_prepared: bool,
}

/// A connection that is in use; goes back when it is dropped.
pub(super) struct Pooled {
    pool: Arc<Pool>,
    /// `None`: the place of one, to be made or gone.
    connection: Option<Connection>,
}

/// The place of one connection among those that may be open: of an idle one, or free for a new one.
struct Place(Option<Idle>);

impl Pool {
    /// The pool of the database that a URL names. Connects nowhere.
    pub(super) fn of(url: &str) -> Result<Arc<Self>, StoreError> {
        let server = Server::parse(url)?;
        let mut pools = POOLS.lock();
        pools.retain(|(_, pool)| pool.strong_count() > 0);
        let known = pools.iter().find(|(known, _)| known == url);
        if let Some(pool) = known.and_then(|(_, pool)| pool.upgrade()) {
            return Ok(pool);
        }
        let pool = Arc::new(Self {
            server,
            state: Mutex::default(),
            returned: Condvar::new(),
        });
        pools.push((url.to_owned(), Arc::downgrade(&pool)));
        Ok(pool)
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// A connection for a purpose. Waits for one as long as the URL allows when all are in use.
    pub(super) fn get(self: &Arc<Self>, purpose: Purpose) -> Result<Pooled, StoreError> {
        let limit = self.server.connection_limit();
        let timeout = self.server.pool_timeout();
        let deadline = timeout.map(|timeout| instant() + timeout);
        let mut state = self.state.lock();
        loop {
            if let Some(place) = state.take(purpose, limit) {
                drop(state);
                return self.fill(place, purpose);
            }
            match deadline {
                None => self.returned.wait(&mut state),
                // What was given back just then is taken all the same.
                Some(deadline) => {
                    let late = self.returned.wait_until(&mut state, deadline).timed_out();
                    if late && state.idle.is_empty() && state.open >= limit {
                        return Err(self.server.exhausted());
                    }
                }
            }
        }
    }

    /// A connection that nobody uses at this moment; `None` if there is none, or none but one is allowed.
    pub(super) fn spare(self: &Arc<Self>, purpose: Purpose) -> Result<Option<Pooled>, StoreError> {
        let limit = self.server.connection_limit();
        let place = match limit > 1 {
            true => self.state.lock().take(purpose, limit),
            false => None,
        };
        place.map(|place| self.fill(place, purpose)).transpose()
    }

    /// Closes what is idle: it is of a schema that has changed.
    pub(super) fn close_idle(&self) {
        let mut state = self.state.lock();
        let idle = std::mem::take(&mut state.idle);
        state.open -= idle.len();
        drop(state);
        self.returned.notify_all();
        // Each tells the server, which others need not wait for.
        drop(idle);
    }

    fn fill(self: &Arc<Self>, place: Place, purpose: Purpose) -> Result<Pooled, StoreError> {
        // The place is given back if nothing comes of it.
        let mut pooled = Pooled {
            pool: Arc::clone(self),
            connection: None,
        };
        let known = place.0.and_then(|idle| self.reuse(idle, purpose));
        pooled.connection = Some(match known {
            Some(connection) => connection,
            None => Connection {
                client: self.server.connect(purpose)?,
                purpose,
                is_prepared: false,
            },
        });
        Ok(pooled)
    }

    /// A connection that was idle, if it lives.
    fn reuse(&self, idle: Idle, purpose: Purpose) -> Option<Connection> {
        let Idle {
            mut connection,
            since,
        } = idle;
        // The server may have gone meanwhile, or something between here and there have forgotten of it.
        if since.elapsed() > POSTGRES_IDLE_TRUSTED
            && let Err(error) = connection.client.is_valid(POSTGRES_IDLE_CHECK_TIMEOUT)
        {
            let archive = self.server.place();
            tracing::debug!(archive, %error, "an idle connection is gone; another one is made");
            return None;
        }
        if connection.purpose != purpose {
            let sql = format!("RESET ALL; {}", self.server.session(purpose));
            connection.client.batch_execute(&sql).ok()?;
            connection.purpose = purpose;
        }
        Some(connection)
    }
}

impl State {
    /// The place of a connection: first of one that has the purpose, last of one that has another.
    fn take(&mut self, purpose: Purpose, limit: usize) -> Option<Place> {
        let fits = |idle: &Idle| idle.connection.purpose == purpose;
        if let Some(place) = self.idle.iter().rposition(fits) {
            return Some(Place(Some(self.idle.remove(place))));
        }
        if self.open < limit {
            self.open += 1;
            return Some(Place(None));
        }
        self.idle.pop().map(|idle| Place(Some(idle)))
    }
}

impl Pooled {
    /// The connection, and the server that says what its errors mean.
    pub(super) fn parts(&mut self) -> (&mut Connection, &Server) {
        let connection = self.connection.as_mut();
        let connection = connection.expect("a connection that was given out");
        (connection, &self.pool.server)
    }

    /// Closes the connection; its place is free.
    pub(super) fn close(mut self) {
        self.connection = None;
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let living = |connection: &Connection| !connection.client.is_closed();
        let connection = self.connection.take().filter(living);
        let since = instant();
        let mut state = self.pool.state.lock();
        match connection {
            Some(connection) => state.idle.push(Idle { connection, since }),
            None => state.open -= 1,
        }
        let is_old = |idle: &mut Idle| since - idle.since > POSTGRES_IDLE_MAX;
        let old: Vec<Idle> = state.idle.extract_if(.., is_old).collect();
        state.open -= old.len();
        drop(state);
        self.pool.returned.notify_one();
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use testbed::postgres::PostgresCluster;

    use super::*;

    fn ask(pooled: &mut Pooled, sql: &str) -> Result<String, StoreError> {
        let (connection, server) = pooled.parts();
        let row = connection.client.query_one(sql, &[]);
        row.map(|row| row.get(0))
            .map_err(|error| server.failed(error))
    }

    fn backend(pooled: &mut Pooled) -> String {
        ask(pooled, "SELECT pg_backend_pid()::text").unwrap()
    }

    #[test]
    fn no_more_connections_than_the_url_allows() {
        let cluster = PostgresCluster::start().unwrap();
        let pool = Pool::of(&format!("{}?connection_limit=2", cluster.url("postgres"))).unwrap();
        let most = thread::scope(|scope| {
            let asking = (0..12).map(|_| {
                scope.spawn(|| {
                    let mut pooled = pool.get(Purpose::Write).unwrap();
                    let sql = "SELECT count(*)::text FROM pg_stat_activity
                        WHERE application_name = 'oriel' AND pg_sleep(0.05) IS NOT NULL";
                    ask(&mut pooled, sql).unwrap().parse::<usize>().unwrap()
                })
            });
            let asking: Vec<_> = asking.collect();
            let counts = asking.into_iter().map(|asking| asking.join().unwrap());
            counts.max().unwrap()
        });
        assert_eq!(most, 2);
        let state = pool.state.lock();
        assert_eq!((state.open, state.idle.len()), (2, 2));
    }

    #[test]
    fn who_waits_in_vain_is_told_what_to_change() {
        let cluster = PostgresCluster::start().unwrap();
        let url = format!(
            "{}?connection_limit=1&pool_timeout=1",
            cluster.url("postgres")
        );
        let pool = Pool::of(&url).unwrap();
        let mut only = pool.get(Purpose::Write).unwrap();
        let before = backend(&mut only);
        let error = pool.get(Purpose::Read).err().unwrap();
        let said = crate::error::in_one_line(&error);
        assert!(
            said.contains("the one connection to it was in use for 1 s")
                && said.contains("connection_limit and pool_timeout"),
            "{said}"
        );
        assert!(pool.spare(Purpose::Write).unwrap().is_none());
        drop(only);
        assert_eq!(backend(&mut pool.get(Purpose::Write).unwrap()), before);
        // The one connection is not for what can wait.
        assert!(pool.spare(Purpose::Write).unwrap().is_none());
    }

    #[test]
    fn one_connection_serves_every_purpose_in_turn() {
        let cluster = PostgresCluster::start().unwrap();
        let pool = Pool::of(&format!("{}?connection_limit=1", cluster.url("postgres"))).unwrap();
        let settings = "SELECT concat_ws(' ', current_setting('default_transaction_read_only'),
            current_setting('enable_seqscan'), current_setting('statement_timeout'))";
        let mut backends = Vec::new();
        for (purpose, expected) in [
            (Purpose::Write, "off off 2min"),
            (Purpose::Read, "on on 2min"),
            (Purpose::Remove, "off on 0"),
            (Purpose::Write, "off off 2min"),
        ] {
            let mut pooled = pool.get(purpose).unwrap();
            assert_eq!(ask(&mut pooled, settings).unwrap(), expected, "{purpose:?}");
            backends.push(backend(&mut pooled));
        }
        backends.dedup();
        assert_eq!(backends.len(), 1);
    }

    #[test]
    fn an_idle_connection_that_died_is_replaced() {
        let cluster = PostgresCluster::start().unwrap();
        let pool = Pool::of(&cluster.url("postgres")).unwrap();
        let before = backend(&mut pool.get(Purpose::Write).unwrap());
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'oriel'";
        cluster.psql("postgres", kill).unwrap();
        thread::sleep(POSTGRES_IDLE_TRUSTED + Duration::from_millis(100));
        let mut pooled = pool.get(Purpose::Write).unwrap();
        assert_ne!(backend(&mut pooled), before);
        assert_eq!(pool.state.lock().open, 1);
        // One that is not to be had takes no place.
        drop(pooled);
        pool.close_idle();
        drop(cluster);
        assert!(pool.get(Purpose::Read).is_err());
        assert_eq!(pool.state.lock().open, 0);
    }

    #[test]
    fn those_who_name_the_same_url_share_their_connections() {
        let url = "postgresql://someone@db.test/shared";
        let pool = Pool::of(url).unwrap();
        assert!(Arc::ptr_eq(&pool, &Pool::of(url).unwrap()));
        let other = Pool::of("postgresql://someone@db.test/other").unwrap();
        assert!(!Arc::ptr_eq(&pool, &other));
        let gone = Arc::downgrade(&pool);
        drop(pool);
        assert!(gone.upgrade().is_none());
    }
}
