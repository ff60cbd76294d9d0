//! `oriel run`: a command with its traffic captured. Nothing of ours comes between it and the
//! terminal: its streams, its process group and its exit code are as they would be without us.

mod announce;
mod deadline;
mod finish;
mod summary_file;
mod supervise;
mod variables;

use std::convert::Infallible;
use std::sync::Arc;

use proxy::tls::authority::Authority;
use proxy::{ConnectPorts, Proxy};
use store::{NewRun, RunKind};
use tokio::sync::oneshot;

use crate::admin::{Admin, Status};
use crate::args::Run;
use crate::bundle::{self, TrustFiles};
use crate::child::Program;
use crate::clock::now;
use crate::context::Context;
use crate::exit::Exit;
use crate::limits::RUN_DRAIN;
use crate::own_folder::refuse_foreign;
use crate::problem::Problem;
use crate::run_folder::RunFolder;
use crate::service::handover::Sockets;
use crate::session_authority::SessionAuthority;
use crate::settings::{Purpose, Settings};
use crate::signals::Signals;
use crate::wiring::{AuthorityPlan, EnginePlan, Plan, Recording, Station, start};
use crate::{authority, logging, runtime, trusted};
use finish::abandon;
use summary_file::SummaryFile;
use supervise::Outcome;
use variables::{base_url, changes, print_env};

pub(crate) fn run(context: &Context, arguments: &Run) -> Result<Exit, Problem> {
    let summary_file = SummaryFile::new(context, arguments);
    let done = capture(context, arguments, &summary_file);
    if let Err(problem) = &done
        && !arguments.print_env
    {
        summary_file.write_failed(problem);
    }
    done
}

fn capture(
    context: &Context,
    arguments: &Run,
    summary_file: &SummaryFile<'_>,
) -> Result<Exit, Problem> {
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
        summary_file,
    };
    let exit = runtime.block_on(job.run());
    // A thread that still waits for the disk must not keep the person waiting.
    runtime.shutdown_background();
    exit
}

/// One run, from its settings to its summary.
struct Job<'a> {
    context: &'a Context,
    arguments: &'a Run,
    settings: &'a Settings,
    program: &'a Program,
    summary_file: &'a SummaryFile<'a>,
}

impl Job<'_> {
    async fn run(&self) -> Result<Exit, Problem> {
        // Before anything is begun that would have to be ended if it fails.
        let base_url =
            base_url(self.context, self.arguments, self.settings).map_err(before_child)?;
        let station = start(self.settings, self.plan())
            .await
            .map_err(before_child)?;
        let status = Arc::new(station.status(self.settings));
        let Station {
            proxy,
            address,
            admin,
            authority,
            session,
            recording,
            ..
        } = station;
        let runtime = &self.context.paths.runtime;
        refuse_foreign(runtime).map_err(before_child)?;
        let folder = RunFolder::new(runtime);
        let trust = self.trust_files(&folder, &authority)?;
        // Our own front, if there is one, has its port by now.
        let front = base_url
            .as_ref()
            .map(|base_url| status.fronts().next().unwrap_or(base_url.address));
        let changes = changes(self.context, self.arguments, address, front, trust.as_ref());
        let elsewhere = base_url.and_then(|base_url| base_url.session);
        self.announce(recording.as_ref());
        self.announce_elsewhere(elsewhere.as_deref());
        let mut signals = Signals::listen().map_err(before_child)?;
        let child = match self.program.start(&changes) {
            Ok(child) => child,
            Err(problem) => return Err(abandon(recording, problem)),
        };

        let recorder = recording.as_ref().map(Recording::recorder).cloned();
        let supervising = self.supervise(child, &mut signals, address, trust, recorder);
        let outcome = tokio::select! {
            outcome = serve_while(proxy, supervising) => outcome,
            never = keep(session) => match never {},
            () = answer(admin, status) => return Err(Problem::bug("the admin port ended by itself")),
        };
        drop(folder);
        self.finish(outcome, recording, &mut signals, elsewhere.is_some())
            .await
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

    /// What the child finds the authority in.
    fn trust_files(
        &self,
        folder: &RunFolder,
        authority: &Authority,
    ) -> Result<Option<TrustFiles>, Problem> {
        if self.arguments.no_ca_env || !self.arguments.env_mode.sets_proxy() {
            return Ok(None);
        }
        let trusted = match self.arguments.session_ca {
            true => authority.certificate_pem().to_owned(),
            false => trusted::certificates_pem(self.settings, authority, now()),
        };
        bundle::write(&folder.path, &trusted, &self.context.environment)
            .map(Some)
            .map_err(|error| before_child(authority::unwritable(&folder.path, &error)))
    }
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

/// Keeps the files of an authority of this run alone, if there is one.
async fn keep(session: Option<SessionAuthority>) -> Infallible {
    match session {
        Some(session) => session.keep().await,
        None => std::future::pending().await,
    }
}

/// Answers at the admin port, if there is one.
async fn answer(admin: Option<Admin>, status: Arc<Status>) {
    match admin {
        Some(admin) => admin.serve(status).await,
        None => std::future::pending().await,
    }
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
