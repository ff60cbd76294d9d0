//! Names that the system's hosts file gives one address: they are answered from memory.
//!
//! The system's resolver reads that file anew for each question, on a thread that the question is
//! handed to: much of what is not cryptography in the first contact with a host. Containers have
//! the names of their neighbours there, and developers those of their own services.
//!
//! The answer is given only where it can be none but the resolver's own: the file is asked first
//! (`nsswitch.conf(5)`) and has one address for the name (`hosts(5)`). All else is left to the
//! resolver. A file that changed is read again before the next answer, once its time can tell it from one that
//! is being changed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::limits::{HOSTS_FILE_BYTES_MAX, HOSTS_FILE_SETTLED};

/// The file, and what was read of it.
#[derive(Debug)]
pub(super) struct HostsFile {
    hosts: PathBuf,
    order: PathBuf,
    known: Mutex<Option<Known>>,
}

/// What two files said.
#[derive(Debug)]
struct Known {
    state: [State; 2],
    /// Of the names that can be answered.
    addresses: HashMap<Box<str>, IpAddr>,
}

/// What tells that a file is another than it was.
type State = Option<(SystemTime, u64)>;

impl Default for HostsFile {
    fn default() -> Self {
        Self::new("/etc/hosts".into(), "/etc/nsswitch.conf".into())
    }
}

impl HostsFile {
    fn new(hosts: PathBuf, order: PathBuf) -> Self {
        Self {
            hosts,
            order,
            known: Mutex::default(),
        }
    }

    /// The address of a name, if the file alone decides on it.
    pub(super) fn address(&self, name: &str) -> Option<IpAddr> {
        let state = [&self.hosts, &self.order].map(|path| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        });
        let is_settled = |(changed, _): &(SystemTime, u64)| {
            changed.elapsed().is_ok_and(|age| age >= HOSTS_FILE_SETTLED)
        };
        if !state.iter().flatten().all(is_settled) {
            return None;
        }
        let mut known = self.known.lock();
        if known.as_ref().is_none_or(|known| known.state != state) {
            let addresses = self.read(state).unwrap_or_default();
            *known = Some(Known { state, addresses });
        }
        let addresses = &known.as_ref()?.addresses;
        match addresses.get(name) {
            Some(address) => Some(*address),
            None if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                addresses.get(&*name.to_ascii_lowercase()).copied()
            }
            None => None,
        }
    }

    fn read(&self, [hosts, _]: [State; 2]) -> io::Result<HashMap<Box<str>, IpAddr>> {
        let is_small = hosts.is_some_and(|(_, bytes)| bytes <= HOSTS_FILE_BYTES_MAX);
        if !is_small || !is_asked_first(&fs::read_to_string(&self.order)?) {
            return Ok(HashMap::new());
        }
        Ok(single_addresses(&fs::read_to_string(&self.hosts)?))
    }
}

/// Whether the hosts file is asked before all else, and what it says counts.
fn is_asked_first(order: &str) -> bool {
    let line = order.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default().trim_start();
        line.strip_prefix("hosts:")
    });
    let mut sources = line.unwrap_or_default().split_whitespace();
    // In brackets stands what is done with an answer.
    sources.next() == Some("files") && !sources.next().is_some_and(|next| next.starts_with('['))
}

/// Names with one address, in lower case.
fn single_addresses(hosts: &str) -> HashMap<Box<str>, IpAddr> {
    let mut found: HashMap<Box<str>, Option<IpAddr>> = HashMap::new();
    for line in hosts.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        // Whatever the resolver makes of an address that we cannot read, it is for it to say.
        let address = words.next().and_then(|word| word.parse().ok());
        for name in words {
            let known = found.entry(name.to_ascii_lowercase().into());
            known
                .and_modify(|known| *known = known.filter(|known| Some(*known) == address))
                .or_insert(address);
        }
    }
    let single = |(name, address): (Box<str>, Option<IpAddr>)| Some((name, address?));
    found.into_iter().filter_map(single).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOSTS: &str = "127.0.0.1 localhost\n::1\tlocalhost ip6-localhost\n\
        10.0.0.7\tDB.internal db # the database\n10.0.0.7 db\n# 10.0.0.8 gone\n\
        10.0.0.1 twice\n10.0.0.2 twice\n10.0.0.1 twice\nfe80::1%lo0 scoped\n10.0.0.3\n\n";

    #[test]
    fn names_with_one_address_are_known() {
        let known = single_addresses(HOSTS);
        let mut names: Vec<String> = known
            .iter()
            .map(|(name, address)| format!("{name} {address}"))
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["db 10.0.0.7", "db.internal 10.0.0.7", "ip6-localhost ::1"]
        );
    }

    #[test]
    fn the_file_counts_where_it_is_asked_first() {
        for (order, is_first) in [
            ("passwd: files\nhosts:          files dns\n", true),
            ("hosts: files # dns\n", true),
            ("hosts: dns files\n", false),
            ("hosts: mymachines files dns\n", false),
            ("hosts: files [SUCCESS=merge] dns\n", false),
            ("# hosts: files\n", false),
            ("", false),
        ] {
            assert_eq!(is_asked_first(order), is_first, "{order}");
        }
    }

    /// Writes a file as if so many hours ago.
    fn write(path: &PathBuf, text: &str, hours: u64) {
        fs::write(path, text).unwrap();
        let then = fs::metadata(path).unwrap().modified().unwrap();
        let then = then - Duration::from_secs(hours * 3600);
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(then).unwrap();
    }

    #[test]
    fn a_file_that_changed_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (hosts, order) = (folder.path().join("hosts"), folder.path().join("order"));
        let file = HostsFile::new(hosts.clone(), order.clone());
        let address = |name| file.address(name).map(|address| address.to_string());
        assert_eq!(address("db"), None);
        write(&hosts, HOSTS, 9);
        assert_eq!(address("db"), None, "nothing says that the file is asked");
        write(&order, "hosts: files dns\n", 9);
        assert_eq!(address("db").unwrap(), "10.0.0.7");
        assert_eq!(address("Db.Internal").unwrap(), "10.0.0.7");
        assert_eq!(address("localhost"), None);
        write(&hosts, &HOSTS.replace("10.0.0.7", "10.0.0.9"), 8);
        assert_eq!(address("db").unwrap(), "10.0.0.9", "of the same length");
        write(&hosts, HOSTS, 0);
        assert_eq!(address("db"), None, "it may be changing");
        write(&hosts, HOSTS, 7);
        write(&order, "hosts: dns files\n", 7);
        assert_eq!(address("db"), None);
        write(&order, "hosts: files\n", 6);
        assert!(address("db").is_some());
        fs::remove_file(&hosts).unwrap();
        assert_eq!(address("db"), None);
        let lines = usize::try_from(HOSTS_FILE_BYTES_MAX).unwrap() / 12 + 1;
        write(&hosts, &"10.0.0.1 db\n".repeat(lines), 5);
        assert_eq!(address("db"), None);
    }
}
