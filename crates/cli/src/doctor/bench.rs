//! Makes tools send a request through an engine of ours to an upstream of ours, and looks at what
//! arrives. Each request has an engine and an upstream of its own, so that nothing has to be told
//! apart; the engine has the real authority and keeps nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use proxy::tls::pem;
use proxy::{Authority, ConnectPorts, Proxy, Watcher};
use testbed::upstream::{Protocols, Upstream, UpstreamOptions};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use traffic::{Event, Failure, FlowId, FlowKind, Outcome as Ending, Scheme, Timestamp};

use super::canary::{Canary, NAME};
use super::process::{self, Ended, Ran};
use super::tools::{Choice, Errand, TOOLS, Tool};
use super::verdict::{Circumstances, Observation, Outcome, system_wide, with_run};
use super::{Area, Check, State, overrides};
use crate::args::probe_layer;
use crate::authority::{
    AuthorityFiles, cannot_make, common_name, is_own, load, make_private_folder, unwritable,
};
use crate::bundle::{self, TrustFiles};
use crate::child_env::{ADDING, Changes, REPLACING, Wishes};
use crate::clock::now;
use crate::context::Context;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::limits::{
    PROBE_SETTLE, PROBE_TIMEOUT, PROBE_VERSION_TIMEOUT, PROBES_AT_ONCE, RUN_DRAIN,
};
use crate::problem::Problem;
use crate::run_folder::RunFolder;
use crate::settings::{Purpose, Settings};
use crate::wiring::{EnginePlan, engine_config};
use crate::{runtime, session_authority, trusted};

/// Their address, for who sends no SNI for such a name.
const ADDRESS: &str = "127.0.0.1";

/// What was found out about a tool.
#[derive(Debug)]
pub(crate) struct ToolReport {
    pub(crate) name: &'static str,
    pub(crate) decides: &'static str,
    /// `None` if it is not on this machine.
    pub(crate) tried: Option<Tried>,
}

/// What a tool did that is on this machine.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) program: PathBuf,
    pub(crate) version: Option<String>,
    /// With the environment that `oriel run` gives.
    pub(crate) with_run: Outcome,
    /// With the proxy alone: whom the system trusts, and the tool's own configuration, decide.
    pub(crate) system_wide: Outcome,
}

impl ToolReport {
    /// The worse of what its two columns say.
    pub(crate) fn state(&self) -> State {
        let tried = self.tried.as_ref();
        tried.map_or(State::Note, |tried| {
            tried.with_run.state.max(tried.system_wide.state)
        })
    }
}

/// The authority that tools are tried with: the one in use, or one of the same kind where there is
/// none yet, since a look at a machine is not to leave one behind. Where it cannot be used, why.
pub(crate) fn for_probes(settings: &Settings, now: Timestamp) -> Result<Authority, Box<Check>> {
    let not_tried = |why: String| {
        let text = format!("no tool was tried: {why}");
        Box::new(Check::new(Area::Trust, State::Note, text))
    };
    let files = AuthorityFiles::of(settings).map_err(|problem| not_tried(problem.what.clone()))?;
    let authority = match is_own(settings) && !files.key.exists() {
        true => Authority::generate(&common_name(), now).map_err(|error| cannot_make(&error)),
        false => load(&files),
    };
    let authority = authority.map_err(|problem| not_tried(problem.what.clone()))?;
    if now < authority.not_before() || authority.not_after() <= now {
        return Err(not_tried("the authority is not valid today".to_owned()));
    }
    if Canary::of(&authority).is_none() {
        let only = authority.constraints_text().unwrap_or_default();
        return Err(not_tried(format!("the authority signs for {only} alone")));
    }
    Ok(authority)
}

/// Tries the chosen tools. `settings` say whom clients are given to trust besides `authority`.
pub(crate) fn examine(
    context: &Context,
    settings: &Settings,
    authority: Arc<Authority>,
    choice: &Choice,
) -> Result<Vec<ToolReport>, Problem> {
    if choice.is_none() {
        return Ok(Vec::new());
    }
    let folder = RunFolder::new(&context.paths.runtime);
    let trusted = trusted::certificates(settings, &authority, now());
    let files = make_private_folder(&folder.path)
        .and_then(|()| {
            bundle::write(
                &folder.path,
                &pem::certificates(&trusted),
                &context.environment,
            )
        })
        .map_err(|error| unwritable(&folder.path, &error))?;
    let runtime = runtime::build()?;
    let reports = runtime.block_on(at_the_bench(
        context,
        authority,
        settings.data_folder.value.clone(),
        &folder.path,
        files,
        choice,
    ));
    runtime.shutdown_background();
    reports
}

async fn at_the_bench(
    context: &Context,
    authority: Arc<Authority>,
    data_folder: PathBuf,
    folder: &Path,
    files: TrustFiles,
    choice: &Choice,
) -> Result<Vec<ToolReport>, Problem> {
    let bench = Arc::new(Bench {
        issuer: testbed::authority::Authority::new("oriel doctor upstream"),
        settings: context.settings(Purpose::Run, probe_layer())?,
        canary: Canary::of(&authority).unwrap_or(Canary::Local),
        authority,
        stranger: Arc::new(session_authority::make(now())?),
        files,
        environment: context.environment.clone(),
        home: context.paths.home.clone(),
        data_folder,
        folder: folder.to_owned(),
        turns: Semaphore::new(PROBES_AT_ONCE),
    });
    bench.try_all(choice).await
}

/// What the engine of one request saw.
#[derive(Debug)]
struct Journal {
    canary: Canary,
    seen: watch::Sender<Seen>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    opened: bool,
    failure: Option<Failure>,
    /// The flows to the upstream that have not ended.
    under_way: BTreeSet<FlowId>,
    begun: bool,
    /// The rule by which a flow was left unopened.
    unopened: Option<String>,
    /// Something else was asked for.
    elsewhere: bool,
}

impl Watcher for Journal {
    fn handle_events(&self, events: &mut Vec<Event>) {
        self.seen.send_modify(|seen| {
            for event in events.drain(..) {
                seen.note(event, &self.canary);
            }
        });
    }
}

impl Journal {
    /// What was seen once all flows have ended, or a deadline has passed.
    async fn settled(&self) -> Seen {
        let mut seen = self.seen.subscribe();
        let over = |seen: &Seen| seen.opened || (seen.begun && seen.under_way.is_empty());
        // What was seen until then counts.
        let _deadline = tokio::time::timeout(PROBE_SETTLE, seen.wait_for(over)).await;
        self.seen.borrow().clone()
    }
}

impl Seen {
    /// Flows elsewhere, which are blocked, are no concern: a browser has errands of its own.
    fn note(&mut self, event: Event, canary: &Canary) {
        match event {
            Event::FlowStarted(started) if canary.is(&started.target.host) => {
                self.begun = true;
                self.opened |= started.kind == FlowKind::Http && started.scheme == Scheme::Https;
                if started.kind == FlowKind::Tunnel {
                    self.unopened = Some(started.route.rule.clone());
                }
                self.under_way.insert(started.flow);
            }
            Event::FlowStarted(_) => self.elsewhere = true,
            Event::FlowEnded { flow, outcome, .. } => {
                let ours = self.under_way.remove(&flow);
                if let (true, Ending::Failed { failure, .. }) = (ours, outcome) {
                    self.failure = Some(*failure);
                }
            }
            _ => {}
        }
    }
}

/// Everything that a tool is tried with.
#[derive(Debug)]
struct Bench {
    /// Who vouches for the upstreams.
    issuer: testbed::authority::Authority,
    /// Those of the engines.
    settings: Settings,
    /// The name that `authority` may sign for.
    canary: Canary,
    authority: Arc<Authority>,
    /// An authority that nobody can know.
    stranger: Arc<Authority>,
    files: TrustFiles,
    environment: Environment,
    home: PathBuf,
    data_folder: PathBuf,
    folder: PathBuf,
    turns: Semaphore,
}

/// What a tool is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// What `oriel run` gives.
    Everything,
    /// The proxy alone.
    Proxy,
    /// A proxy alone whose authority nobody can know.
    Stranger,
}

impl Bench {
    async fn try_all(self: &Arc<Self>, choice: &Choice) -> Result<Vec<ToolReport>, Problem> {
        let chosen = TOOLS.into_iter().filter(|tool| choice.includes(tool));
        let mut trying = JoinSet::new();
        for (position, tool) in chosen.enumerate() {
            let bench = Arc::clone(self);
            trying.spawn(async move {
                // The semaphore is never closed.
                let _turn = bench.turns.acquire().await;
                let tried = bench.try_tool(&tool).await;
                (position, tool, tried)
            });
        }
        let mut all = Vec::new();
        while let Some(tried) = trying.join_next().await {
            let (position, tool, tried) = tried
                .map_err(|error| Problem::bug(format!("trying a tool ended by itself: {error}")))?;
            all.push((position, tool, tried?));
        }
        all.sort_by_key(|(position, ..)| *position);
        let reports = all.into_iter().map(|(_, tool, tried)| ToolReport {
            name: tool.name,
            decides: tool.decides,
            tried,
        });
        let named = matches!(choice, Choice::Named(_));
        Ok(reports
            .filter(|report| named || report.tried.is_some())
            .collect())
    }

    /// `None` if it is not on this machine.
    async fn try_tool(&self, tool: &Tool) -> Result<Option<Tried>, Problem> {
        let mut programs = tool.programs.iter();
        let Some(program) = programs.find_map(|name| self.environment.find_program(name)) else {
            return Ok(None);
        };
        let mut asked = Command::new(&program);
        // Go counts even this one beside its configuration.
        asked
            .args(tool.version)
            .env("XDG_CONFIG_HOME", &self.folder);
        let answer = process::run(asked, PROBE_VERSION_TIMEOUT).await;
        if !answer.succeeded() && !matches!(answer.ended, Ended::TimedOut) {
            return Ok(None);
        }
        let version = version_in(&answer);
        let overrides = overrides::find(tool.name, &program, &self.environment).await;
        let about = Circumstances {
            tool,
            program: &program,
            version: version.as_deref(),
            environment: &self.environment,
            overrides: &overrides,
            data_folder: &self.data_folder,
        };
        let everything = self.observe(tool, &program, Given::Everything).await?;
        let alone = self.observe(tool, &program, Given::Proxy).await?;
        let takes_any = alone.opened && {
            let stranger = self.observe(tool, &program, Given::Stranger).await?;
            stranger.opened
        };
        let (with_run, system_wide) = (
            with_run(&everything, &about),
            system_wide(&alone, takes_any, &about),
        );
        Ok(Some(Tried {
            program,
            version,
            with_run,
            system_wide,
        }))
    }

    /// Has a tool make its request. For a name that is not this machine's it does so if it asked the
    /// proxy for `localhost`: one that does not would ask the network.
    async fn observe(
        &self,
        tool: &Tool,
        program: &Path,
        given: Given,
    ) -> Result<Observation, Problem> {
        let canary = &self.canary;
        if *canary != Canary::Local {
            let (first, came) = self.ask(tool, program, given, &Canary::Local).await?;
            if !came {
                return Ok(first);
            }
        }
        let (observation, _came) = self.ask(tool, program, given, canary).await?;
        Ok(observation)
    }

    /// Has a tool make its request for a name, through an engine and to an upstream of its own; says
    /// whether it came to the engine at all.
    async fn ask(
        &self,
        tool: &Tool,
        program: &Path,
        given: Given,
        canary: &Canary,
    ) -> Result<(Observation, bool), Problem> {
        let folder = self.folder.join(format!("{}-{given:?}", tool.name));
        make_private_folder(&folder).map_err(|error| unwritable(&folder, &error))?;
        let options = UpstreamOptions::https(self.issuer.issue(&[NAME, ADDRESS]), Protocols::Both);
        let upstream = Upstream::start(options)
            .await
            .map_err(|error| no_loopback(&error))?;
        let journal = Arc::new(Journal {
            canary: canary.clone(),
            seen: watch::Sender::default(),
        });
        let port = upstream.address().port();
        let engine = self.engine(given, &journal, port).await?;
        let (address, name) = (engine.local_address(), canary.name());
        let errand = Errand {
            host: &name,
            port,
            proxy: address.ok_or_else(|| Problem::bug("the proxy has no address"))?,
            folder: &folder,
            home: &self.home,
            environment: &self.environment,
        };
        let command = self.command(tool, program, given, &errand)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let control = engine.control();
        let trying = async {
            let ran = process::run(command, PROBE_TIMEOUT).await;
            let seen = journal.settled().await;
            drop(stop);
            (ran, seen)
        };
        let serving = engine.serve(async {
            let _stopped = stopped.await;
        });
        let (_, (ran, seen)) = tokio::join!(serving, trying);
        let (came, arrived) = (
            control.metrics().total_connections > 0,
            upstream.connection_count() > 0,
        );
        upstream.stop().await;
        let silent = !seen.opened && seen.failure.is_none();
        let observation = Observation {
            opened: seen.opened,
            failure: seen.failure,
            past: silent && arrived && !came,
            left: silent && came && !seen.begun && !seen.elsewhere,
            unopened: seen.unopened,
            ran,
        };
        Ok((observation, came))
    }

    async fn engine(
        &self,
        given: Given,
        journal: &Arc<Journal>,
        port: u16,
    ) -> Result<Proxy, Problem> {
        let plan = EnginePlan {
            connect_ports: ConnectPorts::Any,
            drain: Some(RUN_DRAIN),
            extra_roots: vec![self.issuer.certificate()],
        };
        let authority = match given {
            Given::Everything | Given::Proxy => &self.authority,
            Given::Stranger => &self.stranger,
        };
        let settings = journal.canary.settings(&self.settings, port);
        let config = engine_config(&settings, plan, Arc::clone(authority))?;
        let watcher = Arc::clone(journal) as Arc<dyn Watcher>;
        let bound = Proxy::bind(config, Some(watcher)).await;
        bound.map_err(|error| no_loopback(&error))
    }

    fn command(
        &self,
        tool: &Tool,
        program: &Path,
        given: Given,
        errand: &Errand<'_>,
    ) -> Result<Command, Problem> {
        let invocation = (tool.ask)(errand);
        for (name, content) in &invocation.files {
            let path = errand.folder.join(name);
            std::fs::write(&path, content).map_err(|error| unwritable(&path, &error))?;
        }
        let wishes = Wishes {
            proxy: Some(errand.proxy),
            trust: (given == Given::Everything).then_some(&self.files),
            include_loopback: true,
            base_url: None,
        };
        let changes = Changes::new(&wishes, &self.environment);
        let mut command = Command::new(program);
        command
            .args(invocation.arguments)
            .current_dir(errand.folder);
        if given != Given::Everything {
            for name in REPLACING.iter().chain(ADDING).chain(&["SSL_CERT_DIR"]) {
                command.env_remove(name);
            }
        }
        let set = changes.set.into_iter();
        command.envs(set.map(|(name, value)| (OsString::from(name), value)));
        for name in &changes.unset {
            command.env_remove(name);
        }
        command.envs(invocation.variables);
        Ok(command)
    }
}

pub(super) fn no_loopback(error: &dyn std::error::Error) -> Problem {
    Problem::new("ORL0801", Exit::Network, "cannot listen on loopback").why(error.to_string())
}

/// The first word that looks like a version: `curl 8.7.1`, `v22.4.0`, `go1.22`, `"17.0.2"`.
fn version_in(answer: &Ran) -> Option<String> {
    let words = [&answer.stdout, &answer.stderr];
    let mut words = words.iter().flat_map(|text| text.split_whitespace());
    words.find_map(|word| {
        let word = word.trim_matches('"');
        let word = word.strip_prefix("go").unwrap_or(word);
        let word = word.strip_prefix('v').unwrap_or(word);
        let fits = word.starts_with(|letter: char| letter.is_ascii_digit())
            && word.contains('.')
            && word.chars().all(|letter| letter.is_ascii_graphic())
            && word.len() <= 24;
        fits.then(|| word.trim_end_matches([',', ')']).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_versions() {
        for (said, version) in [
            ("curl 8.7.1 (x86_64) libcurl/8.7.1", Some("8.7.1")),
            ("v22.4.0\n", Some("22.4.0")),
            ("go version go1.22.3 linux/amd64", Some("1.22.3")),
            ("openjdk version \"17.0.15\" 2025-04-15", Some("17.0.15")),
            ("git version 2.47.3", Some("2.47.3")),
            ("\u{1b}[1m and nothing", None),
        ] {
            let ran = Ran {
                ended: Ended::TimedOut,
                stdout: String::new(),
                stderr: said.to_owned(),
            };
            assert_eq!(version_in(&ran).as_deref(), version, "{said}");
        }
    }
}
