//! Takes the configuration anew while a service runs: when it is asked to, and when a file that it
//! was read from changes. A configuration is taken as a whole or not at all; the one before stays
//! in force until then.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use proxy::{Authority, Control};

use super::engine_plan;
use crate::args::Serve;
use crate::authority::{AuthorityFiles, load_for_use};
use crate::clock::now;
use crate::context::Context;
use crate::downloads::Shelf;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::limits::CONFIG_LOOK_EVERY;
use crate::listeners::refuse_exposure;
use crate::problem::{Excerpt, Problem};
use crate::service::notify::Notifier;
use crate::service::orders::Orders;
use crate::settings::{Purpose, Row, Settings};
use crate::wiring::{Station, downloads_of, engine_config, own_addresses, reload_problem};

/// Settings that are looked at once, when the service starts.
pub(crate) const FIXED: &[&str] = &[
    "proxy.listen",
    "proxy.unix",
    "admin.listen",
    "capture.enabled",
    "capture.body_limits",
    "capture.excluded_hosts",
    "capture.redact",
    "capture.llm_hosts",
    "store.data_folder",
    "retention.keep",
    "retention.keep_bodies",
    "retention.max_size",
    "retention.tags",
    "database.url",
    "database.instance",
    "database.user",
    "database.tags",
    "database.local_keep",
    "database.overflow",
    "database.spool_bytes_max",
    "log.level",
    "log.format",
];

/// A running service, as far as its configuration goes.
pub(super) struct Reloader<'a> {
    context: &'a Context,
    arguments: &'a Serve,
    control: Control,
    own_addresses: Vec<SocketAddr>,
    authority: Arc<Authority>,
    /// What the admin port gives of it.
    downloads: Shelf,
    in_force: Settings,
    /// The files as they were when they were last read.
    seen: Vec<Stamp>,
}

/// What tells that a file is another than before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    /// Device, inode, size, and time of the last change in seconds and nanoseconds; nothing where
    /// no file is.
    state: Option<(u64, u64, u64, i64, i64)>,
}

impl<'a> Reloader<'a> {
    pub(super) fn new(
        context: &'a Context,
        arguments: &'a Serve,
        in_force: Settings,
        station: &Station,
    ) -> Self {
        Self {
            seen: stamps(files(context, &in_force)),
            context,
            arguments,
            control: station.proxy.control(),
            own_addresses: own_addresses(station.admin.as_ref()),
            authority: Arc::clone(&station.authority),
            downloads: station.downloads.clone(),
            in_force,
        }
    }

    /// Reloads whenever it is asked to and whenever a file changes.
    pub(super) async fn run(mut self, orders: &Orders, notifier: &Notifier) {
        loop {
            tokio::select! {
                () = orders.reload_asked() => {}
                () = self.change() => {}
            }
            notifier.reloading();
            // Before they are read: what changes meanwhile is seen next time.
            self.seen = stamps(files(self.context, &self.in_force));
            match self.reload() {
                Ok(changed) if changed.is_empty() => {
                    tracing::info!("took the configuration anew: no setting changed");
                }
                Ok(changed) => {
                    tracing::info!(changed = changed.join(", "), "took the new configuration");
                }
                Err(problem) => tell(&problem),
            }
            notifier.ready();
        }
    }

    /// Waits until a file is another than the one that was read, and has stayed as it is for a
    /// moment: an editor may write it in several steps.
    async fn change(&self) {
        let mut before = self.seen.clone();
        loop {
            tokio::time::sleep(CONFIG_LOOK_EVERY).await;
            let files = files(self.context, &self.in_force);
            let looking = tokio::task::spawn_blocking(|| stamps(files));
            // It does not panic.
            let Ok(current) = looking.await else { continue };
            if current == before && current != self.seen {
                return;
            }
            before = current;
        }
    }

    /// Takes what the sources say now, and gives the names of the settings that changed.
    fn reload(&mut self) -> Result<Vec<&'static str>, Problem> {
        let settings = self
            .context
            .settings(Purpose::Serve, self.arguments.layer())?;
        let changed = changed(&self.in_force.rows(), &settings.rows());
        refuse_fixed(&changed)?;
        refuse_exposure(&settings)?;
        let authority = self.authority(&settings)?;
        let mut config = engine_config(&settings, engine_plan(&settings), Arc::clone(&authority))?;
        config.own_addresses.clone_from(&self.own_addresses);
        self.control
            .reload(config)
            .map_err(|error| reload_problem(&error))?;
        self.downloads
            .put(&authority, downloads_of(&settings, &authority));
        self.authority = authority;
        self.in_force = settings;
        Ok(changed.into_iter().map(|row| row.path).collect())
    }

    /// The one in use if it is still the same: leaves that it signed are then kept.
    fn authority(&self, settings: &Settings) -> Result<Arc<Authority>, Problem> {
        let authority = load_for_use(settings, now())?;
        if authority.certificate_pem() == self.authority.certificate_pem() {
            return Ok(Arc::clone(&self.authority));
        }
        tracing::info!("the certificate authority is another one: clients must trust it");
        Ok(Arc::new(authority))
    }
}

/// Every file that the settings come from or name.
fn files(context: &Context, settings: &Settings) -> Vec<PathBuf> {
    let mut files = context.sources().files();
    let auth = settings.auth.value.as_ref();
    files.extend(auth.and_then(|auth| auth.users_file.clone()));
    let routes = settings.gateway_routes.value.iter();
    files.extend(routes.filter_map(|route| route.token_file.clone()));
    if let Ok(authority) = AuthorityFiles::of(settings) {
        files.extend([authority.certificate, authority.key]);
    }
    let own = settings.tls.value.iter();
    let reverse = settings.reverse.value.iter();
    for tls in own.chain(reverse.filter_map(|reverse| reverse.tls.as_ref())) {
        files.extend([&tls.certificate, &tls.key].into_iter().flatten().cloned());
    }
    for shown in &settings.client_certificates.value {
        files.extend([shown.certificate.clone(), shown.key.clone()]);
    }
    files.extend(settings.upstream_ca_files.value.iter().cloned());
    files.extend(settings.upstream_proxy_ca.value.clone());
    files.extend(settings.upstream_proxy_credentials_file.value.clone());
    for route in &settings.upstream_proxy_routes.value {
        files.extend(
            [&route.ca, &route.credentials_file]
                .into_iter()
                .flatten()
                .cloned(),
        );
    }
    files
}

fn stamps(files: Vec<PathBuf>) -> Vec<Stamp> {
    files
        .into_iter()
        .map(|path| Stamp {
            // Links are followed: a mounted configuration changes by another target.
            state: std::fs::metadata(&path).ok().map(|file| {
                let (seconds, nanoseconds) = (file.mtime(), file.mtime_nsec());
                (file.dev(), file.ino(), file.len(), seconds, nanoseconds)
            }),
            path,
        })
        .collect()
}

/// Settings whose value is another, with the new one.
fn changed(before: &[Row], after: &[Row]) -> Vec<Row> {
    let same = |(before, after): &(&Row, &Row)| before.value == after.value;
    let pairs = before.iter().zip(after);
    pairs
        .filter(|pair| !same(pair))
        .map(|(_, after)| after.clone())
        .collect()
}

fn refuse_fixed(changed: &[Row]) -> Result<(), Problem> {
    let fixed: Vec<_> = changed
        .iter()
        .filter(|row| FIXED.contains(&row.path))
        .collect();
    if fixed.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = fixed.iter().map(|row| row.path).collect();
    let origins: Vec<_> = fixed
        .iter()
        .map(|row| format!("{} is now {} ({})", row.path, row.value, row.origin))
        .collect();
    let what = format!("{} cannot change while oriel runs", names.join(", "));
    Err(Problem::new("ORL0407", Exit::Usage, what)
        .why(origins.join("\n"))
        .fix("restart oriel, or undo the change"))
}

/// A log line: what ran before runs on.
fn tell(problem: &Problem) {
    tracing::error!(
        code = problem.code,
        place = problem.excerpt.as_ref().map(Excerpt::position),
        why = problem
            .why
            .as_deref()
            .map(|why| escape_line(why).into_owned()),
        "the configuration in force stays: {}",
        // A project's file is the agent's to write.
        escape_line(&problem.what)
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;
    use crate::config::layer::Origin;

    fn row(path: &'static str, value: impl Into<toml::Value>) -> Row {
        Row {
            path,
            value: value.into(),
            origin: Origin::Default,
        }
    }

    #[test]
    fn what_is_fixed_is_a_setting() {
        for path in FIXED {
            assert!(keys::find(path).is_some(), "{path}");
        }
    }

    #[test]
    fn what_cannot_change_is_named() {
        let before = [
            row("proxy.listen", "a"),
            row("log.level", "info"),
            row("pool.idle", "1s"),
        ];
        let after = [
            row("proxy.listen", "b"),
            row("log.level", "warn"),
            row("pool.idle", "2s"),
        ];
        let problem = refuse_fixed(&changed(&before, &after)).unwrap_err();
        assert_eq!(
            problem.what,
            "proxy.listen, log.level cannot change while oriel runs"
        );
        let why = problem.why.as_deref().unwrap();
        assert!(why.contains("proxy.listen is now \"b\" (default)"), "{why}");
        let may = [
            row("proxy.listen", "a"),
            row("log.level", "info"),
            row("pool.idle", "2s"),
        ];
        let changed = changed(&before, &may);
        assert_eq!(changed.len(), 1);
        assert!(refuse_fixed(&changed).is_ok());
    }
}
