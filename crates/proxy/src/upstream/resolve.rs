//! Asks the system's resolver for the addresses of names. Who asks for a name while it is being
//! looked up gets that answer: the resolver takes a thread for each question, and a burst of
//! connections to one host would keep a hundred of them busy with the same one.
//!
//! Nothing is remembered: an answer is given to those who asked before it was there, to nobody else. On Linux
//! the resolver is not asked for names that the hosts file alone decides on.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

#[cfg(target_os = "linux")]
use super::hosts_file::HostsFile;

/// The addresses, in the order of the resolver and without a port, or why there are none.
pub(super) type Answer = Result<Arc<[SocketAddr]>, Arc<io::Error>>;

type Lookup = BoxFuture<'static, Answer>;

/// What looks names up.
#[derive(Default)]
pub(super) struct Resolver {
    /// By name. There are at most as many as dials under way, and about as many that are over.
    lookups: Mutex<HashMap<Arc<str>, WeakShared<Lookup>>>,
    #[cfg(target_os = "linux")]
    hosts_file: HostsFile,
}

impl Resolver {
    /// The addresses of a name. There is no deadline; dropping it leaves the answer to the others
    /// who wait for it.
    pub(super) async fn addresses(&self, name: &Arc<str>) -> Answer {
        #[cfg(target_os = "linux")]
        if let Some(address) = self.hosts_file.address(name) {
            return Ok([SocketAddr::new(address, 0)].into());
        }
        let lookup = self.lookup(name);
        lookup.await
    }

    fn lookup(&self, name: &Arc<str>) -> Shared<Lookup> {
        let mut lookups = self.lookups.lock();
        let known = lookups.get(name).and_then(WeakShared::upgrade);
        if let Some(under_way) = known.filter(|lookup| lookup.peek().is_none()) {
            return under_way;
        }
        if lookups.len() == lookups.capacity() {
            // Before it grows, those go that nobody waits for any more.
            lookups.retain(|_name, lookup| lookup.upgrade().is_some());
        }
        let lookup = ask(Arc::clone(name)).boxed().shared();
        if let Some(shared) = lookup.downgrade() {
            lookups.insert(Arc::clone(name), shared);
        }
        lookup
    }
}

async fn ask(name: Arc<str>) -> Answer {
    // The port plays no part in the question.
    Ok(tokio::net::lookup_host((&*name, 0)).await?.collect())
}

impl fmt::Debug for Resolver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Resolver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_ask_at_once_share_the_answer_and_those_after_them_do_not() {
        let resolver = Resolver::default();
        let (name, other): (Arc<str>, Arc<str>) = ("localhost".into(), "127.0.0.1".into());
        let (first, second) = (resolver.lookup(&name), resolver.lookup(&name));
        assert!(first.ptr_eq(&second) && !first.ptr_eq(&resolver.lookup(&other)));
        // Who leaves does not take the answer along.
        drop(first);
        let answer = second.clone().await.unwrap();
        assert!(!answer.is_empty() && answer.iter().all(|address| address.ip().is_loopback()));
        assert!(!second.ptr_eq(&resolver.lookup(&name)));
    }

    #[tokio::test]
    async fn names_that_were_looked_up_are_forgotten() {
        let resolver = Resolver::default();
        for number in 0..1000 {
            drop(resolver.lookup(&format!("host-{number}.test").into()));
        }
        assert!(resolver.lookups.lock().capacity() < 10);
    }
}
