//! Tells a service manager how it goes (sd_notify(3)): a datagram to the socket that it named.
//! Without one nobody is told.

use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::environment::Environment;

/// Who is told.
#[derive(Debug)]
pub(crate) struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    /// How often the manager wants to hear that we live.
    watchdog: Option<Duration>,
}

impl Notifier {
    pub(crate) fn of(environment: &Environment) -> Self {
        let manager = environment.raw("NOTIFY_SOCKET").and_then(|name| {
            let socket = UnixDatagram::unbound().ok()?;
            Some((socket, address(name)?))
        });
        Self {
            watchdog: watchdog(environment).filter(|_| manager.is_some()),
            manager,
        }
    }

    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is taken anew; `ready` follows.
    pub(crate) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Another process is the service from now on, and is ready.
    pub(crate) fn replaced_by(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}\nREADY=1"));
    }

    /// Whether a service manager waits to hear from us.
    pub(crate) fn is_managed(&self) -> bool {
        self.manager.is_some()
    }

    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says that we live as often as it is asked for; never done.
    pub(crate) async fn keep_alive(&self) {
        let Some(every) = self.watchdog else {
            return std::future::pending().await;
        };
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, state: &str) {
        let Some((socket, manager)) = &self.manager else {
            return;
        };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), manager) {
            tracing::warn!(%error, "cannot tell the service manager");
        }
    }
}

/// A path, or with `@` in front a name of the abstract namespace (unix(7)).
fn address(name: &std::ffi::OsStr) -> Option<SocketAddr> {
    use std::os::unix::ffi::OsStrExt;
    match name.as_bytes().strip_prefix(b"@") {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Some(rest) => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(rest).ok()
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        Some(_) => None,
        None => SocketAddr::from_pathname(name).ok(),
    }
}

/// Half the time after which the manager gives us up (sd_watchdog_enabled(3)), if that is about this
/// process.
fn watchdog(environment: &Environment) -> Option<Duration> {
    let about_us = environment
        .text("WATCHDOG_PID")
        .is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let micros: u64 = environment.text("WATCHDOG_USEC")?.parse().ok()?;
    Some(Duration::from_micros(micros / 2)).filter(|half| about_us && !half.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn tells_the_socket_that_was_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::of(&Environment::of(&[(
            "NOTIFY_SOCKET",
            path.to_str().unwrap(),
        )]));
        notifier.ready();
        assert_eq!(received(&manager), "READY=1");
        notifier.reloading();
        assert!(received(&manager).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        Notifier::of(&Environment::of(&[])).ready();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_name_is_understood() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("oriel-notify-{}", std::process::id());
        let own = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&own).unwrap();
        let named = format!("@{name}");
        Notifier::of(&Environment::of(&[("NOTIFY_SOCKET", &named)])).stopping();
        assert_eq!(received(&manager), "STOPPING=1");
    }

    #[test]
    fn the_watchdog_is_fed_in_half_its_time_if_it_is_ours() {
        let us = std::process::id().to_string();
        let check = |variables: &[(&str, &str)], expected: Option<u64>| {
            let period = watchdog(&Environment::of(variables));
            assert_eq!(period, expected.map(Duration::from_millis), "{variables:?}");
        };
        check(&[], None);
        check(&[("WATCHDOG_USEC", "2000000")], Some(1000));
        check(
            &[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", &us)],
            Some(1000),
        );
        check(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "1")], None);
        check(&[("WATCHDOG_USEC", "x")], None);
    }
}
