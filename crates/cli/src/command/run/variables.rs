//! The variables that lead a child to us.

use std::net::SocketAddr;

use crate::args::{Run, ShellName};
use crate::bundle::TrustFiles;
use crate::child_env::{Changes, Wishes, reachable};
use crate::command::env::{lasting_trust_files, print_changes};
use crate::context::Context;
use crate::exit::Exit;
use crate::limits::STATUS_TIMEOUT;
use crate::problem::Problem;
use crate::service::{Place, ask};
use crate::settings::Settings;

/// What the base URLs of model APIs are set to.
#[derive(Clone, Debug)]
pub(super) struct BaseUrl {
    pub(super) address: SocketAddr,
    /// The run of the service that records what comes there, if it is not ours.
    pub(super) session: Option<String>,
}

/// Prints the variables that a child would get.
pub(super) fn print_env(
    context: &Context,
    arguments: &Run,
    settings: &Settings,
) -> Result<(), Problem> {
    let files = match arguments.no_ca_env {
        true => None,
        false => Some(lasting_trust_files(context, settings)?),
    };
    let address = settings.listen.value.0;
    let base_url = base_url(context, arguments, settings)?.map(|base_url| base_url.address);
    let changes = changes(context, arguments, address, base_url, files.as_ref());
    let shell = ShellName::of_variable(context.environment.text("SHELL"));
    let remark = match address.port() {
        0 => "The port is chosen when the command starts; --listen ADDR gives a fixed one.",
        _ => "What a command would get from oriel run.",
    };
    print_changes(context, &changes, shell, &[remark.to_owned()])
}

/// What changes in the environment of a child.
pub(super) fn changes(
    context: &Context,
    arguments: &Run,
    address: SocketAddr,
    base_url: Option<SocketAddr>,
    trust: Option<&TrustFiles>,
) -> Changes {
    let sets_proxy = arguments.env_mode.sets_proxy();
    let wishes = Wishes {
        proxy: sets_proxy.then_some(address),
        trust: trust.filter(|_| sets_proxy),
        include_loopback: arguments.include_loopback,
        base_url,
    };
    Changes::new(&wishes, &context.environment)
}

/// Where base URLs are to lead: to our own place in front of a gateway, else to that of the service
/// in the background. `None` if they are not to be set.
pub(super) fn base_url(
    context: &Context,
    arguments: &Run,
    settings: &Settings,
) -> Result<Option<BaseUrl>, Problem> {
    if !arguments.env_mode.sets_base_urls() {
        return Ok(None);
    }
    let base_url = match settings.reverse.value.first() {
        Some(own) => BaseUrl {
            address: reachable(own.listen.0),
            session: None,
        },
        None => front_of_service(context)?,
    };
    Ok(Some(base_url))
}

fn front_of_service(context: &Context) -> Result<BaseUrl, Problem> {
    let status = ask::status(&Place::of(&context.paths), STATUS_TIMEOUT)?.unwrap_or_default();
    let listeners = status["listeners"].as_array().into_iter().flatten();
    let mut fronts = listeners.filter(|one| one["kind"] == "reverse");
    let Some(address) = fronts.find_map(|one| one["addr"].as_str()?.parse().ok()) else {
        return Err(Problem::new(
            "ORL0205",
            Exit::Usage,
            "oriel stands in front of no gateway",
        )
        .why("base URLs lead to a gateway, and neither --pair nor a service names one")
        .fix("oriel run --env-mode base-url --pair http://127.0.0.1:4000 -- COMMAND")
        .fix("oriel start --pair http://127.0.0.1:4000"));
    };
    let session = status["session"].as_str().unwrap_or_default();
    Ok(BaseUrl {
        address: reachable(address),
        session: Some(session.to_owned()),
    })
}
