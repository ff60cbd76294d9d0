//! Removes what is old while a service runs, as `[retention]` and `database.local_keep` say: on a thread of its own, again and
//! again, in small steps.

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};

use store::{Keep, Location, Remover, StoreError, file_status};
use traffic::Timestamp;

use crate::archive;
use crate::clock::now;
use crate::config::values::TagPeriod;
use crate::limits::RETENTION_EVERY;
use crate::paths::database;
use crate::problem::Problem;
use crate::quantity::{Period, Size};
use crate::settings::Settings;

/// The thread; it ends when this is dropped, after the step that it is at.
#[derive(Debug)]
pub(crate) struct Retention {
    /// Nothing is sent: that it is closed says to end.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How long flows are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) flows: Option<Period>,
    pub(crate) bodies: Option<Period>,
    pub(crate) max_size: Option<Size>,
    /// Bodies that go for their size.
    pub(crate) larger_than: Option<Size>,
    pub(crate) tags: Vec<TagPeriod>,
    /// Those that the archive has.
    pub(crate) archived: Option<Period>,
}

impl Rules {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            flows: settings.retention_keep.value,
            bodies: settings.retention_keep_bodies.value,
            max_size: settings.retention_max_size.value,
            larger_than: None,
            tags: settings.retention_tags.value.clone(),
            archived: archive::of(settings).and(settings.local_keep.value),
        }
    }

    /// What they mean at this time.
    pub(crate) fn at(&self, now: Timestamp) -> Keep {
        let since = |period: Period| {
            let micros = i64::try_from(period.0.as_micros()).unwrap_or(i64::MAX);
            Timestamp(now.0.saturating_sub(micros))
        };
        let tag = |rule: &TagPeriod| (rule.tag.clone(), since(rule.keep));
        Keep {
            flows_since: self.flows.map(since),
            bodies_since: self.bodies.map(since),
            archived_since: self.archived.map(since),
            bytes_max: self.max_size.map(|size| size.0),
            tags: self.tags.iter().map(tag).collect(),
            body_bytes_max: self.larger_than.map(|size| size.0),
            matching: None,
        }
    }
}

impl Retention {
    /// Starts it, if the settings say that anything ever goes.
    pub(crate) fn start(settings: &Settings) -> Result<Option<Self>, Problem> {
        let rules = Rules::of(settings);
        if rules == Rules::default() || !settings.capture_enabled.value {
            return Ok(None);
        }
        let path = database(&settings.data_folder.value);
        let archive = archive::of(settings).map(Location::to_string);
        let (stop, stopped) = mpsc::channel::<()>();
        let is_stopped =
            move |wait| !matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
        let thread = thread::Builder::new()
            .name("oriel-retention".to_owned())
            .spawn(move || {
                let mut told = HashSet::new();
                loop {
                    let awaited = remove(&path, &rules.at(now()), || {
                        is_stopped(std::time::Duration::ZERO)
                    });
                    if awaited > 0 {
                        tell_stale(&path, archive.as_deref(), &mut told);
                    }
                    if is_stopped(RETENTION_EVERY) {
                        return;
                    }
                }
            })
            .map_err(|error| Problem::bug(format!("cannot start a thread: {error}")))?;
        Ok(Some(Self {
            stop: Some(stop),
            thread: Some(thread),
        }))
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that removes old flows panicked");
        }
    }
}

/// Says once for which archives flows stay that nothing is copied to any more.
fn tell_stale(path: &Path, in_use: Option<&str>, told: &mut HashSet<String>) {
    let Ok(status) = file_status(path) else {
        return;
    };
    for archive in status.awaiting().filter(|name| Some(*name) != in_use) {
        if told.insert(archive.to_owned()) {
            tracing::warn!(
                archive,
                "old flows stay, since an archive that is no longer set does not have them: see `oriel db forget`"
            );
        }
    }
}

/// Removes what is old; answers how many flows stay for an archive.
fn remove(path: &Path, keep: &Keep, is_stopped: impl Fn() -> bool) -> u64 {
    let removed =
        Remover::open(path).and_then(|mut remover| remover.remove(keep, |_progress| !is_stopped()));
    let awaited = removed.as_ref().map_or(0, |removed| removed.awaited);
    match removed {
        Ok(removed) if removed.flows + removed.bodiless == 0 => {}
        Ok(removed) => tracing::info!(
            flows = removed.flows,
            flows_without_bodies = removed.bodiless,
            body_bytes = removed.body_bytes,
            "removed what was old"
        ),
        // It is tried again.
        Err(StoreError::Locked) => {
            tracing::debug!("old flows stay for now: the database is locked");
        }
        Err(error) => tracing::warn!(%error, "old flows could not be removed"),
    }
    awaited
}
