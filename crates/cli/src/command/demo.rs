//! `oriel demo`: the real thing without a network. A model that answers from this machine, a small
//! agent that talks to it through a running engine, and the record of what was said.

mod agent;

use std::net::SocketAddr;

use proxy::ConnectPorts;
use rustls_pki_types::CertificateDer;
use store::{EndRun, NewRun, RunKind, RunSummary};
use testbed::upstream::{Protocols, Upstream, UpstreamOptions};
use tokio::sync::oneshot;

use crate::args::{Demo, SummaryForm};
use crate::clock::now;
use crate::command::demo::agent::Agent;
use crate::context::Context;
use crate::exit::Exit;
use crate::limits::RUN_DRAIN;
use crate::output::{print, print_json};
use crate::problem::Problem;
use crate::runtime;
use crate::service::handover::Sockets;
use crate::settings::{Purpose, Settings};
use crate::summary::Summary;
use crate::wiring::{AuthorityPlan, EnginePlan, Plan, Recording, start};

/// The name that the model's upstream answers to: the only one that needs no resolver.
const HOST: &str = "localhost";

pub(crate) fn run(context: &Context, arguments: &Demo) -> Result<Exit, Problem> {
    let settings = context.settings(Purpose::Run, arguments.layer())?;
    let figures = runtime::build()?.block_on(play(context, &settings))?;
    tell(context, &figures)?;
    Ok(Exit::Success)
}

async fn play(context: &Context, settings: &Settings) -> Result<RunSummary, Problem> {
    say_step(
        context,
        "starting a model API on this machine and oriel before it",
    )?;
    let authority = testbed::authority::Authority::new("oriel demo upstream");
    let identity = authority.issue(&[HOST, "127.0.0.1"]);
    let upstream = Upstream::start(UpstreamOptions::https(identity, Protocols::Both))
        .await
        .map_err(|error| network("cannot start the model API", &error))?;
    let station = start(settings, plan(authority.certificate())).await?;
    let agent = Agent {
        proxy: station.address,
        upstream: SocketAddr::new(upstream.address().ip(), upstream.address().port()),
        host: HOST,
        roots: trusted(station.authority.certificate_pem(), authority.certificate())?,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = station.proxy.serve(async {
        let _stopped = stopped.await;
    });
    let talking = async {
        let talked = talk(context, &agent).await;
        drop(stop);
        talked
    };
    let (_, talked) = tokio::join!(serving, talking);
    upstream.stop().await;
    let Some(recording) = station.recording else {
        return Err(Problem::bug("the demo was not recorded"));
    };
    let figures = close(recording)?;
    talked.map(|()| figures)
}

fn plan(root: CertificateDer<'static>) -> Plan {
    Plan {
        run: NewRun {
            name: Some("demo".to_owned()),
            argv: vec!["oriel".to_owned(), "demo".to_owned()],
            started_at: now(),
            kind: RunKind::Demo,
        },
        authority: AuthorityPlan::Lasting,
        engine: EnginePlan {
            connect_ports: ConnectPorts::Any,
            drain: Some(RUN_DRAIN),
            extra_roots: vec![root],
        },
        sockets: Sockets::default(),
    }
}

/// The agent trusts oriel, as `oriel run` would have it, and for its tunnel the model's authority.
fn trusted(
    certificate_pem: &str,
    upstream: CertificateDer<'static>,
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let mut roots = testbed::authority::certificates_from_pem(certificate_pem.as_bytes())
        .map_err(|error| Problem::bug(error.to_string()))?;
    roots.push(upstream);
    Ok(roots)
}

async fn talk(context: &Context, agent: &Agent) -> Result<(), Problem> {
    for step in agent::STEPS {
        say_step(context, step.about)?;
        agent
            .take(step)
            .await
            .map_err(|error| network("the agent's request did not get through", &error))?;
    }
    Ok(())
}

fn network(what: &str, error: &std::io::Error) -> Problem {
    Problem::new("ORL0801", Exit::Network, what).why(error.to_string())
}

fn close(recording: Recording) -> Result<RunSummary, Problem> {
    let end = EndRun {
        ended_at: now(),
        exit_code: None,
        signal: None,
    };
    recording.sum_up(end).map_err(|unsummed| unsummed.problem)
}

fn say_step(context: &Context, about: &str) -> Result<(), Problem> {
    match context.json() || context.global.quiet {
        true => Ok(()),
        false => print(&format!("{} {about}\n", context.terminal.stdout.pen.dot())),
    }
}

fn tell(context: &Context, figures: &RunSummary) -> Result<(), Problem> {
    let summary = Summary {
        figures,
        gap: None,
        ended: None,
        timed_out: false,
        findings: &[],
        direct: 0,
        secrets_stored: false,
    };
    if context.json() {
        return print_json(&summary.to_json());
    }
    let text = summary.render(SummaryForm::Compact, context.terminal.stdout);
    let run = figures.run.id;
    print(&format!(
        "\n{text}\nWhat to type next\n  oriel flows --session {run}        the requests above\n  \
         oriel flows show {run}.1 --body    one of them, with what was said\n  \
         oriel run -- claude -p \"hi\"       the same with an agent of yours\n"
    ))
}
