//! `oriel run`: a command with its traffic captured. Nothing of ours comes between it and the
//! terminal: its streams, its process group and its exit code are as they would be without us.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proxy::{ConnectPorts, Proxy};
use rustix::process::Signal;
use store::{EndRun, NewRun, Recorder, RunKind, StoreError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::args::{EnvMode, Run, ShellName, SummaryForm};
use crate::bundle::{self, TrustFiles};
use crate::child::{Child, Ended, Program};
use crate::child_env::{Changes, Wishes, reachable};
use crate::clock::now;
use crate::command::env::{lasting_trust_files, print_changes};
use crate::config::values::Redact;
use crate::context::Context;
use crate::diagnosis::{self, Circumstances};
use crate::direct::Sightings;
use crate::exit::Exit;
use crate::limits::{
    KILL_AFTER, RUN_DRAIN, SAMPLE_EVERY, SAMPLE_LATER_EVERY, SAMPLE_OFTEN_FOR, STATUS_TIMEOUT,
    STORE_FLUSH,
};
use crate::output::{report, say, say_line};
use crate::problem::Problem;
use crate::quantity::plural;
use crate::run_folder::RunFolder;
use crate::service::handover::Sockets;
use crate::service::{Place, ask};
use crate::settings::{Purpose, Settings};
use crate::signals::{Came, Signals};
use crate::store_problem::store_problem;
use crate::summary::Summary;
use crate::terminal::Colour;
use crate::wiring::{AuthorityPlan, EnginePlan, Plan, Recording, Station, start};
use crate::{authority, logging, runtime, trusted};

pub(crate) fn run(context: &Context, arguments: &Run) -> Result<Exit, Problem> {
    let settings = context
        .settings(Purpose::Run, arguments.layer())
        .map_err(before_child)?;
    if arguments.print_env {
        print_env(context, arguments, &settings)?;
        return Ok(Exit::Success);
    }
    logging::start(context, &settings).map_err(before_child)?;
    let program = Program {
        command: arguments.command.clone(),
        folder: arguments.cwd.clone(),
    };
    refuse_what_is_nowhere(context, &program)?;
    let runtime = runtime::build().map_err(before_child)?;
    let job = Job {
        context,
        arguments,
        settings: &settings,
        program: &program,
    };
    let exit = runtime.block_on(job.run());
    // A thread that still waits for the disk must not keep the person waiting.
    runtime.shutdown_background();
    exit
}

/// A failure before the child was started has a code of its own, as in `docker run`.
fn before_child(problem: Problem) -> Problem {
    problem.exit(Exit::BeforeChild)
}

/// Looks for the program before anything is begun for it.
fn refuse_what_is_nowhere(context: &Context, program: &Program) -> Result<(), Problem> {
    let name = program.command.first().and_then(|name| name.to_str());
    match name {
        // A path is taken as it is, in the folder that the child runs in.
        Some(name) if !name.contains('/') && context.environment.find_program(name).is_none() => {
            Err(program.not_found())
        }
        _ => Ok(()),
    }
}

/// Prints the variables that a child would get.
fn print_env(context: &Context, arguments: &Run, settings: &Settings) -> Result<(), Problem> {
    let files = match arguments.no_ca_env {
        true => None,
        false => Some(lasting_trust_files(context, settings)?),
    };
    let address = settings.listen.value.0;
    let own = settings.reverse.value.first().map(|one| one.listen.0);
    let base_url = base_url(context, arguments, own)?.map(|base_url| base_url.address);
    let changes = Changes::new(
        &wishes(arguments, address, base_url, files.as_ref()),
        &context.environment,
    );
    let shell = ShellName::of_variable(context.environment.text("SHELL"));
    let remark = match address.port() {
        0 => "# The port is chosen when the command starts; --listen ADDR gives a fixed one.",
        _ => "# What a command would get from oriel run.",
    };
    print_changes(context, &changes, shell, &[remark.to_owned()])
}

fn wishes<'a>(
    arguments: &Run,
    address: SocketAddr,
    base_url: Option<SocketAddr>,
    trust: Option<&'a TrustFiles>,
) -> Wishes<'a> {
    let sets_proxy = arguments.env_mode.sets_proxy();
    Wishes {
        proxy: sets_proxy.then_some(address),
        trust: trust.filter(|_| sets_proxy),
        include_loopback: arguments.include_loopback,
        base_url,
    }
}

/// What the base URLs of model APIs are set to.
#[derive(Clone, Debug)]
struct BaseUrl {
    address: SocketAddr,
    /// The run of the service that records what comes there, if it is not ours.
    session: Option<String>,
}

/// Where base URLs are to lead: to our own place in front of a gateway, else to that of the service
/// in the background. `None` if they are not to be set.
fn base_url(
    context: &Context,
    arguments: &Run,
    own: Option<SocketAddr>,
) -> Result<Option<BaseUrl>, Problem> {
    if !arguments.env_mode.sets_base_urls() {
        return Ok(None);
    }
    if let Some(address) = own {
        return Ok(Some(BaseUrl {
            address: reachable(address),
            session: None,
        }));
    }
    let status = ask::status(&Place::of(&context.paths), STATUS_TIMEOUT)?.unwrap_or_default();
    let listeners = status["listeners"].as_array().into_iter().flatten();
    let mut fronts = listeners.filter(|one| one["kind"] == "reverse");
    let address = fronts.find_map(|one| one["addr"].as_str()?.parse().ok());
    let session = status["session"].as_str().unwrap_or_default();
    match address {
        Some(address) => Ok(Some(BaseUrl {
            address: reachable(address),
            session: Some(session.to_owned()),
        })),
        None => Err(Problem::new(
            "ORL0205",
            Exit::Usage,
            "oriel stands in front of no gateway",
        )
        .why("base URLs lead to a gateway, and neither --pair nor a service names one")
        .fix("oriel run --env-mode base-url --pair http://127.0.0.1:4000 -- COMMAND")
        .fix("oriel start --pair http://127.0.0.1:4000")),
    }
}

/// One run, from its settings to its summary.
struct Job<'a> {
    context: &'a Context,
    arguments: &'a Run,
    settings: &'a Settings,
    program: &'a Program,
}

/// What a child left behind.
struct Outcome {
    ended: Ended,
    /// Why it was ended, if it did not end by itself.
    stopped: Option<Stop>,
    sightings: Sightings,
}

/// Why a child is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stop {
    /// Its time is over.
    Timeout,
    /// Capturing broke, for this reason, and `--strict` was asked for.
    Broken(String),
}

impl Job<'_> {
    async fn run(&self) -> Result<Exit, Problem> {
        // Before anything is begun that would have to be ended if it fails.
        let own = self.settings.reverse.value.first().map(|one| one.listen.0);
        let base_url = base_url(self.context, self.arguments, own).map_err(before_child)?;
        let station = start(self.settings, self.plan())
            .await
            .map_err(before_child)?;
        let address = station.address;
        let status = Arc::new(station.status(self.settings));
        let Station {
            proxy,
            admin,
            authority,
            session,
            recording,
            ..
        } = station;
        let folder = RunFolder::new(&self.context.paths.runtime);
        let trusted = match self.arguments.session_ca {
            true => authority.certificate_pem().to_owned(),
            false => trusted::certificates_pem(self.settings, &authority, now()),
        };
        let files = self.trust_files(&folder, &trusted)?;
        let front = status
            .fronts()
            .next()
            .or_else(|| base_url.as_ref().map(|one| one.address));
        let front = front.filter(|_| base_url.is_some());
        let changes = Changes::new(
            &wishes(self.arguments, address, front, files.as_ref()),
            &self.context.environment,
        );
        self.announce(recording.as_ref());
        let elsewhere = base_url.and_then(|base_url| base_url.session);
        self.announce_elsewhere(elsewhere.as_deref());
        let mut signals = Signals::listen().map_err(before_child)?;
        let started = self.program.start(&changes);
        let child = match started {
            Ok(child) => child,
            Err(problem) => return Err(abandon(recording, problem)),
        };

        let recorder = recording.as_ref().map(Recording::recorder).cloned();
        let supervising = self.supervise(child, &mut signals, address, recorder);
        let outcome = {
            let admin = async {
                match admin {
                    Some(admin) => admin.serve(status).await,
                    None => std::future::pending().await,
                }
            };
            let keeping = async {
                match session {
                    Some(session) => session.keep().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                outcome = serve_while(proxy, supervising) => outcome,
                never = keeping => match never {},
                () = admin => return Err(Problem::bug("the admin port ended by itself")),
            }
        };
        drop(folder);
        self.finish(outcome, recording, &mut signals, elsewhere.is_some())
            .await
    }

    /// Who looks for the requests of this command looks for this run first.
    fn announce_elsewhere(&self, session: Option<&str>) {
        let is_told = self.context.terminal.stderr.is_terminal && !self.context.global.quiet;
        if let Some(session) = session.filter(|_| is_told) {
            say_line(&format!(
                "oriel  requests to the gateway are recorded by the service, in {session}"
            ));
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            run: NewRun {
                name: self.arguments.name.clone(),
                argv: self.program.words(),
                started_at: now(),
                kind: RunKind::Run,
            },
            authority: match self.arguments.session_ca {
                true => AuthorityPlan::Session,
                false => AuthorityPlan::Lasting,
            },
            engine: EnginePlan {
                connect_ports: ConnectPorts::Any,
                drain: Some(RUN_DRAIN.min(self.settings.timeout_drain.value.0)),
                extra_roots: Vec::new(),
            },
            sockets: Sockets::default(),
        }
    }

    fn trust_files(
        &self,
        folder: &RunFolder,
        certificate_pem: &str,
    ) -> Result<Option<TrustFiles>, Problem> {
        if self.arguments.no_ca_env || !self.arguments.env_mode.sets_proxy() {
            return Ok(None);
        }
        bundle::write(&folder.path, certificate_pem, &self.context.environment)
            .map(Some)
            .map_err(|error| before_child(authority::unwritable(&folder.path, &error)))
    }

    /// The start line, for people only.
    fn announce(&self, recording: Option<&Recording>) {
        let stream = self.context.terminal.stderr;
        if !stream.is_terminal || self.context.global.quiet {
            return;
        }
        let pen = stream.pen;
        let session = match recording {
            Some(recording) => format!("{} {}", pen.arrow(), recording.run()),
            None => format!("{} nothing is stored (--no-capture)", pen.arrow()),
        };
        let opened = match self.settings.hosts.value.as_slice() {
            [all] if all == "*" => "decrypting every host".to_owned(),
            hosts => format!("decrypting {} known hosts; rest tunnelled", hosts.len()),
        };
        let name = crate::escape::escape_line(&self.program.name()).into_owned();
        say_line(&pen.paint(
            Colour::Dim,
            &format!("oriel  capturing {name} {session}   ({opened})"),
        ));
        if let Some(why) = recording.and_then(Recording::detour) {
            let why = crate::escape::escape_line(&why).into_owned();
            say_line(&format!("oriel  flows wait in the spool: {why}"));
        }
    }

    /// Lives with the child until it ends.
    async fn supervise(
        &self,
        mut child: Child,
        signals: &mut Signals,
        proxy: SocketAddr,
        recorder: Option<Recorder>,
    ) -> Outcome {
        let pid = child.pid();
        let began = Instant::now();
        let mut deadline = Deadline::new(self.arguments.timeout.map(|period| period.0), began);
        let mut sightings = Sightings::default();
        let mut next_look = began + SAMPLE_EVERY / 8;
        let mut stopped = None;
        let ended = loop {
            tokio::select! {
                ended = child.ended() => break ended,
                came = signals.next() => {
                    if let Came::ForChild(signal) = came {
                        child.signal(signal);
                    }
                }
                () = deadline.passed() => {
                    stopped.get_or_insert(Stop::Timeout);
                    child.signal(deadline.next_signal());
                }
                () = tokio::time::sleep_until(next_look) => {
                    sightings = look(sightings, pid, proxy).await;
                    next_look = Instant::now() + pause_after(began.elapsed());
                    if self.arguments.strict && stopped.is_none()
                        && let Some(why) = recorder.as_ref().and_then(broken)
                    {
                        stopped = Some(Stop::Broken(why));
                        deadline.end_now();
                    }
                }
            }
        };
        Outcome {
            ended,
            stopped,
            sightings,
        }
    }

    /// Makes everything durable and says what it was. A second Ctrl-C skips it.
    async fn finish(
        &self,
        outcome: Outcome,
        recording: Option<Recording>,
        signals: &mut Signals,
        elsewhere: bool,
    ) -> Result<Exit, Problem> {
        let exit = outcome.ended.exit();
        let Some(recording) = recording else {
            return Ok(exit);
        };
        let recorder = recording.recorder().clone();
        let closing = tokio::task::spawn_blocking(move || close(recording, outcome.ended));
        let figures = tokio::select! {
            figures = closing => match figures {
                Ok(figures) => figures,
                Err(error) => Err(Problem::bug(format!("the store ended by itself: {error}"))),
            },
            came = skip(signals) => {
                tracing::debug!(?came, "the summary was skipped");
                return Ok(exit);
            }
            () = tokio::time::sleep(STORE_FLUSH) => Err(unsettled(&recorder)),
        };
        let hole = match (&outcome.stopped, &figures) {
            (Some(Stop::Broken(why)), _) => Some(why.clone()),
            (_, Err(problem)) => Some(problem.what.clone()),
            (_, Ok(_)) => broken(&recorder),
        };
        if let Ok(figures) = &figures {
            self.tell(&outcome, figures, elsewhere);
        }
        match (hole, figures) {
            (Some(why), _) if self.arguments.strict => return Err(self.incomplete(&outcome, why)),
            (_, Err(problem)) => report(self.context, &problem),
            (_, Ok(_)) => {}
        }
        Ok(exit)
    }

    /// The problem of a strict run whose record has a hole.
    fn incomplete(&self, outcome: &Outcome, why: String) -> Problem {
        let name = self.program.name();
        let what = match outcome.stopped {
            Some(Stop::Broken(_)) => format!("capturing broke, so {name} was stopped"),
            Some(Stop::Timeout) | None => format!("capturing broke while {name} ran"),
        };
        Problem::new("ORL0204", Exit::BeforeChild, what)
            .why(why)
            .fix("let it go on with what can be recorded: leave out --strict")
    }

    fn tell(&self, outcome: &Outcome, figures: &store::RunSummary, elsewhere: bool) {
        let program = self.program.name();
        let circumstances = Circumstances {
            environment: &self.context.environment,
            sightings: &outcome.sightings,
            program: &program,
            proxy_set: self.arguments.env_mode != EnvMode::None,
            trust_set: !self.arguments.no_ca_env,
            include_loopback: self.arguments.include_loopback,
        };
        let mut findings = diagnosis::distrusted(figures, &circumstances);
        findings.extend(diagnosis::unverified(figures, &circumstances));
        findings.extend(diagnosis::upstream_proxy(figures, &circumstances));
        // What goes to the gateway of a service is in the service's run.
        if figures.run.flows == 0 && !elsewhere {
            findings.push(diagnosis::nothing_captured(&circumstances));
        }
        let summary = Summary {
            figures,
            ended: Some(outcome.ended),
            timed_out: outcome.stopped == Some(Stop::Timeout),
            findings: &findings,
            direct: outcome.sightings.outward(),
            secrets_stored: self.settings.redact.value == Redact::None,
        };
        if let Some(path) = &self.arguments.summary_file {
            write_summary(path, &summary, self.context);
        }
        let form = self.arguments.summary;
        let wanted = !(self.context.global.quiet && form == SummaryForm::Auto);
        if !wanted {
            return;
        }
        match self.context.json() && form == SummaryForm::Auto {
            true => say_line(&summary.to_json().to_string()),
            false => say(&summary.render(form, self.context.terminal.stderr)),
        }
    }
}

/// The child was not started: its run has ended before it began.
fn abandon(recording: Option<Recording>, problem: Problem) -> Problem {
    if let Some(recording) = recording {
        let ended = recording.end(EndRun {
            ended_at: now(),
            exit_code: Some(i32::from(problem.exit.code())),
            signal: None,
        });
        if let Err(error) = ended {
            tracing::warn!(error = %error.what, "the run could not be ended");
        }
    }
    problem
}

/// Why the record has a hole, or will have one if this goes on.
fn broken(recorder: &Recorder) -> Option<String> {
    let lost = recorder.losses().events;
    if lost > 0 {
        return Some(format!("{} could not be stored", plural(lost, "event")));
    }
    recorder.trouble().map(|trouble| trouble.to_string())
}

/// The problem of a store that did not take what was queued.
fn unsettled(recorder: &Recorder) -> Problem {
    store_problem(&recorder.trouble().unwrap_or(StoreError::Deadline))
}

/// Serves as long as a child is supervised.
async fn serve_while(proxy: Proxy, supervising: impl Future<Output = Outcome>) -> Outcome {
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = proxy.serve(async {
        // Stops as well if the other end is dropped.
        let _stopped = stopped.await;
    });
    let supervising = async {
        let outcome = supervising.await;
        drop(stop);
        outcome
    };
    let (_, outcome) = tokio::join!(serving, supervising);
    outcome
}

/// Ends the run in the store and reads what it sums up to.
fn close(recording: Recording, ended: Ended) -> Result<store::RunSummary, Problem> {
    recording.sum_up(EndRun {
        ended_at: now(),
        exit_code: ended.code(),
        signal: ended.signal(),
    })
}

/// Done when the person does not want to wait.
async fn skip(signals: &mut Signals) -> Came {
    loop {
        let came = signals.next().await;
        if matches!(came, Came::Interrupt | Came::ForChild(Signal::TERM)) {
            return came;
        }
    }
}

/// Looks at the child's processes beside the traffic, since it reads files of the kernel.
async fn look(sightings: Sightings, child: u32, proxy: SocketAddr) -> Sightings {
    let before = sightings.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let mut sightings = sightings;
        sightings.look(child, proxy);
        sightings
    });
    looking.await.unwrap_or(before)
}

fn pause_after(running: Duration) -> Duration {
    match running < SAMPLE_OFTEN_FOR {
        true => SAMPLE_EVERY,
        false => SAMPLE_LATER_EVERY,
    }
}

fn write_summary(path: &Path, summary: &Summary<'_>, context: &Context) {
    let text = format!("{}\n", summary.to_json());
    if let Err(error) = std::fs::write(path, text) {
        // The child has ended; its code is what counts now.
        let problem = Problem::new(
            "ORL0008",
            Exit::Storage,
            format!("cannot write the summary to {}", path.display()),
        )
        .why(error.to_string());
        report(context, &problem);
    }
}

/// When the child is to be ended: with SIGTERM first, with SIGKILL if that does not help.
struct Deadline {
    at: Option<Instant>,
    signalled: bool,
}

impl Deadline {
    fn new(timeout: Option<Duration>, began: Instant) -> Self {
        Self {
            at: timeout.map(|timeout| began + timeout),
            signalled: false,
        }
    }

    fn end_now(&mut self) {
        if !self.signalled {
            self.at = Some(Instant::now());
        }
    }

    async fn passed(&self) {
        match self.at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn next_signal(&mut self) -> Signal {
        match std::mem::replace(&mut self.signalled, true) {
            false => {
                self.at = Some(Instant::now() + KILL_AFTER);
                Signal::TERM
            }
            true => {
                self.at = None;
                Signal::KILL
            }
        }
    }
}
