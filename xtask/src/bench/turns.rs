//! Contestants that are measured side by side: all of them run, and each is loaded for a tenth of a
//! second at a time while the others wait.
//!
//! A virtual machine is faster in one second than in the next, by more than what is to be told
//! apart. Taking turns that fast, all contestants get the same of both.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::cases::{Case, Load, Pace, Sample};
use super::load::{self, Aim, Seen};
use super::material::{Material, many_names};
use super::proxies::{Proxy, Running};
use super::upstream::Upstream;
use super::usage::CpuTime;
use crate::failure::Failure;

/// How long a turn is. Enough for some thousand requests, so that what the others left in the caches
/// is gone after a small part of it.
const TURN: Duration = Duration::from_millis(100);
/// How long a proxy may take after its last answer for what it does behind the answers. That is
/// measured too.
const BEHIND: Duration = Duration::from_millis(100);

/// Runs a case once against each of these proxies.
pub(super) async fn round(
    case: &Case,
    proxies: &[Proxy],
    pace: Pace,
    material: &Material,
    upstream: &Upstream,
) -> Result<Vec<Sample>, Failure> {
    let mut contestants = Vec::new();
    for &proxy in proxies {
        let running = proxy.start(case, material, upstream).await?;
        let aim = case.aim(&running, material, upstream)?;
        let work = Work::begin(case, aim, pace)
            .await
            .map_err(|failure| case.failed_with(proxy, &failure))?;
        contestants.push(Contestant {
            proxy,
            running,
            work,
            before: None,
            active: Duration::ZERO,
            seen: Seen::default(),
        });
    }
    for is_measured in [false, true] {
        let length = if is_measured {
            pace.length
        } else {
            pace.warm_up
        };
        for contestant in &mut contestants {
            contestant.before = contestant.running.cpu_time()?;
        }
        for turn in turns_within(length) {
            for next in order(turn, contestants.len()) {
                let Some(contestant) = contestants.get_mut(next) else {
                    continue;
                };
                contestant
                    .take(turn, is_measured)
                    .await
                    .map_err(|failure| case.failed_with(contestant.proxy, &failure))?;
            }
        }
    }
    sleep(BEHIND).await;
    let mut samples = Vec::new();
    for contestant in contestants {
        let proxy = contestant.proxy;
        let sample = contestant.end().await;
        samples.push(sample.map_err(|failure| case.failed_with(proxy, &failure))?);
    }
    Ok(samples)
}

/// One of several turns.
#[derive(Clone, Copy, Debug)]
struct Turn {
    number: usize,
    of: usize,
}

fn turns_within(length: Duration) -> impl Iterator<Item = Turn> {
    let of = usize::try_from(length.as_millis() / TURN.as_millis()).unwrap_or(usize::MAX);
    let of = of.max(1);
    (0..of).map(move |number| Turn { number, of })
}

/// Who takes a turn after whom, as indexes of the contestants. What one leaves in the caches another
/// finds there: over as many turns as there are contestants each has each place once, and, where their
/// number is even, each of the others before it once (a Williams design).
fn order(turn: Turn, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |place| {
        let from_below = place.is_multiple_of(2);
        let base = match from_below {
            true => place / 2,
            false => count - place.div_ceil(2),
        };
        (base + turn.number) % count
    })
}

/// A proxy under load.
struct Contestant {
    proxy: Proxy,
    running: Running,
    work: Work,
    /// What it had used when measuring began.
    before: Option<CpuTime>,
    /// How long its turns took.
    active: Duration,
    seen: Seen,
}

/// What a contestant is asked in its turns.
enum Work {
    /// Requests on connections that stay, or each on a new one.
    Workers(Workers),
    /// One connection to each name.
    Names(Aim, Vec<String>),
    /// So many streams with one event, one after the other.
    Events(Aim, usize),
}

impl Contestant {
    async fn take(&mut self, turn: Turn, is_measured: bool) -> Result<(), Failure> {
        let began = Instant::now();
        let seen = match &mut self.work {
            Work::Workers(workers) => workers.run(is_measured).await?,
            // One request warms up, which is for none of the names.
            work if !is_measured => work.warm_up(turn).await?,
            Work::Names(aim, names) => {
                let part = names.len().div_ceil(turn.of);
                let part = names.chunks(part).nth(turn.number).unwrap_or_default();
                load::new_names(aim, part).await?
            }
            Work::Events(aim, count) => load::events(aim, count.div_ceil(turn.of)).await?,
        };
        if is_measured {
            self.seen.merge(seen);
            self.active += began.elapsed();
        }
        Ok(())
    }

    async fn end(mut self) -> Result<Sample, Failure> {
        let after = self.running.cpu_time()?;
        if let Work::Workers(workers) = self.work {
            self.seen.merge(workers.end().await?);
        }
        let nanoseconds = CpuTime::between(self.before.as_ref(), after.as_ref());
        let units = self.seen.latencies.len() as f64;
        Sample::new(self.seen, nanoseconds, units, self.active, &self.running)
    }
}

impl Work {
    async fn begin(case: &Case, aim: Aim, pace: Pace) -> Result<Self, Failure> {
        Ok(match case.load {
            Load::NewNames | Load::NewNamesAnyKey => Self::Names(aim, many_names()),
            Load::Events => Self::Events(aim, pace.events),
            _ => {
                let (mut workers, place) = Workers::new();
                load::spawn_workers(case.load, &aim, &place, &mut workers.tasks).await?;
                drop(place);
                workers.wait_until_idle().await?;
                Self::Workers(workers)
            }
        })
    }

    async fn warm_up(&self, turn: Turn) -> Result<Seen, Failure> {
        if let (Self::Names(aim, _) | Self::Events(aim, _), 0) = (self, turn.number) {
            let small = Aim {
                path: "/1k",
                ..aim.clone()
            };
            load::new_names(&small, std::slice::from_ref(&aim.name)).await?;
        }
        Ok(Seen::default())
    }
}

/// What workers are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Wait,
    WarmUp,
    Measured,
    Over,
}

/// Tasks that ask when it is their turn.
struct Workers {
    tasks: JoinSet<io::Result<Seen>>,
    phase: watch::Sender<Phase>,
    busy: watch::Receiver<usize>,
}

/// A place among the workers: tells whose turn it is, and is told who is busy. One that is new is busy.
#[derive(Debug)]
pub(super) struct Place {
    phase: watch::Receiver<Phase>,
    busy: Arc<watch::Sender<usize>>,
    is_busy: bool,
}

impl Workers {
    fn new() -> (Self, Place) {
        let (phase, told) = watch::channel(Phase::Wait);
        let (count, busy) = watch::channel(1);
        let workers = Self {
            tasks: JoinSet::new(),
            phase,
            busy,
        };
        let place = Place {
            phase: told,
            busy: Arc::new(count),
            is_busy: true,
        };
        (workers, place)
    }

    /// Lets them ask for the time of a turn, and waits until all is answered.
    async fn run(&mut self, is_measured: bool) -> Result<Seen, Failure> {
        let phase = if is_measured {
            Phase::Measured
        } else {
            Phase::WarmUp
        };
        self.phase.send_replace(phase);
        sleep(TURN).await;
        self.phase.send_replace(Phase::Wait);
        self.wait_until_idle().await?;
        // What they saw they keep until the end.
        Ok(Seen::default())
    }

    async fn wait_until_idle(&mut self) -> Result<(), Failure> {
        // None is there any more if all have failed.
        let _all_gone = self.busy.wait_for(|busy| *busy == 0).await;
        match self.tasks.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended??;
                Err(Failure::new("a worker ended before its time"))
            }
        }
    }

    async fn end(mut self) -> Result<Seen, Failure> {
        self.phase.send_replace(Phase::Over);
        let mut all = Seen::default();
        while let Some(worker) = self.tasks.join_next().await {
            all.merge(worker??);
        }
        Ok(all)
    }
}

impl Place {
    /// Waits for its turn, and tells whether that is measured; `None` when all is over.
    pub(super) async fn turn(&mut self) -> Option<bool> {
        loop {
            let phase = *self.phase.borrow_and_update();
            match phase {
                Phase::WarmUp | Phase::Measured => {
                    self.note(true);
                    return Some(phase == Phase::Measured);
                }
                Phase::Wait => {
                    self.note(false);
                    self.phase.changed().await.ok()?;
                }
                Phase::Over => return None,
            }
        }
    }

    fn note(&mut self, is_busy: bool) {
        if self.is_busy != is_busy {
            self.is_busy = is_busy;
            self.busy.send_modify(|count| match is_busy {
                true => *count += 1,
                false => *count -= 1,
            });
        }
    }
}

impl Clone for Place {
    fn clone(&self) -> Self {
        self.busy.send_modify(|count| *count += 1);
        Self {
            phase: self.phase.clone(),
            busy: Arc::clone(&self.busy),
            is_busy: true,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.note(false);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    async fn ask(mut place: Place) -> io::Result<Seen> {
        let mut seen = Seen::default();
        while let Some(is_measured) = place.turn().await {
            sleep(Duration::from_millis(30)).await;
            if is_measured {
                seen.push(Duration::from_millis(30));
            }
        }
        Ok(seen)
    }

    #[tokio::test(start_paused = true)]
    async fn workers_ask_in_their_turns_alone() {
        let (mut workers, place) = Workers::new();
        for _ in 0..2 {
            workers.tasks.spawn(ask(place.clone()));
        }
        drop(place);
        workers.wait_until_idle().await.unwrap();
        sleep(TURN).await;
        for is_measured in [false, true, true] {
            let began = Instant::now();
            workers.run(is_measured).await.unwrap();
            assert_eq!(
                began.elapsed().as_millis(),
                120,
                "what is asked is waited for"
            );
            sleep(TURN).await;
        }
        let seen = workers.end().await.unwrap();
        assert_eq!(seen.latencies.len(), 2 * 2 * 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_fails_is_told() {
        let (mut workers, place) = Workers::new();
        workers.tasks.spawn(async move {
            let mut place = place;
            place.turn().await;
            Err(io::Error::other("reset"))
        });
        workers.wait_until_idle().await.unwrap();
        let failure = workers.run(true).await.unwrap_err();
        assert_eq!(failure.to_string(), "reset");
    }

    #[test]
    fn each_has_each_place_and_follows_each_other() {
        let (mut places, mut pairs) = (HashSet::new(), HashSet::new());
        for number in 0..6 {
            let turn = Turn { number, of: 6 };
            let order: Vec<usize> = order(turn, 6).collect();
            places.extend(order.iter().copied().enumerate());
            pairs.extend(order.windows(2).map(|pair| (pair[0], pair[1])));
        }
        assert_eq!((places.len(), pairs.len()), (6 * 6, 6 * 5));
        assert_eq!(order(Turn { number: 1, of: 3 }, 1).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn turns_fill_the_time() {
        let count = |millis| turns_within(Duration::from_millis(millis)).count();
        assert_eq!((count(1000), count(400), count(50)), (10, 4, 1));
    }
}
