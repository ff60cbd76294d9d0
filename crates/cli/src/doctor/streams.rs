//! Whether what streams comes through as it happens: an event of a stream before the stream ends, and
//! the messages of a WebSocket. The upstream is one of our own, on this machine, and so is the client.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use proxy::{Authority, ConnectPorts, Proxy};
use testbed::authority::client_config;
use testbed::client::{Client, Request};
use testbed::upstream::{Protocols, Upstream, UpstreamOptions};
use testbed::websocket::{Frame, TEXT};
use tokio::time::{Instant, timeout};

use super::bench::no_loopback;
use super::canary::{Canary, NAME};
use super::{Area, Check, State};
use crate::args::probe_layer;
use crate::clock::now;
use crate::context::Context;
use crate::limits::{RUN_DRAIN, STREAM_PROBE_TIMEOUT};
use crate::problem::Problem;
use crate::settings::Purpose;
use crate::wiring::{EnginePlan, engine_config};
use crate::{runtime, session_authority};

/// The second event comes when nobody waits any more: what is seen of the stream is seen before its end.
const EVENTS: &str = "/sse?events=2&delay_ms=3600000";
const SAID: &str = "is anybody there?";

/// Tries both through an engine that shows leaves of this authority, or of one made for it where it
/// may not sign for this machine: here it is not asked who trusts it.
pub(crate) fn checks(context: &Context, authority: &Arc<Authority>) -> Result<Vec<Check>, Problem> {
    let authority = match Canary::of(authority) {
        Some(Canary::Local) => Arc::clone(authority),
        Some(Canary::Led(_)) | None => Arc::new(session_authority::make(now())?),
    };
    let runtime = runtime::build()?;
    let checks = runtime.block_on(through_an_engine(context, &authority));
    runtime.shutdown_background();
    checks
}

async fn through_an_engine(
    context: &Context,
    authority: &Arc<Authority>,
) -> Result<Vec<Check>, Problem> {
    let issuer = testbed::authority::Authority::new("oriel doctor upstream");
    let options = UpstreamOptions::https(issuer.issue(&[NAME]), Protocols::Http1);
    let upstream = Upstream::start(options).await;
    let upstream = upstream.map_err(|error| no_loopback(&error))?;
    let plan = EnginePlan {
        connect_ports: ConnectPorts::Any,
        drain: Some(RUN_DRAIN),
        extra_roots: vec![issuer.certificate()],
    };
    let settings = context.settings(Purpose::Run, probe_layer())?;
    let config = engine_config(&settings, plan, Arc::clone(authority))?;
    let engine = Proxy::bind(config, None).await;
    let engine = engine.map_err(|error| no_loopback(&error))?;
    let proxy = engine.local_address();
    let proxy = proxy.ok_or_else(|| Problem::bug("the proxy has no address"))?;
    let target = format!("{NAME}:{}", upstream.address().port());
    let tls = client_config(&[authority.certificate_der().clone()], &["http/1.1"]);
    let connect = async || -> io::Result<Client> {
        let mut client = Client::connect_through(proxy, &target).await?;
        client.start_tls(NAME, Arc::clone(&tls)).await?;
        Ok(client)
    };
    let trying = async {
        let events = timed(async { first_event(connect().await?, &target).await });
        let words = timed(async { echo(connect().await?, &target).await });
        let (events, words) = tokio::join!(events, words);
        vec![
            check("an event stream", "its first event", events),
            check("a WebSocket", "its echo", words),
        ]
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = engine.serve(async {
        let _stopped = stopped.await;
    });
    let trying = async {
        let checks = trying.await;
        drop(stop);
        checks
    };
    let (_, checks) = tokio::join!(serving, trying);
    upstream.stop().await;
    Ok(checks)
}

async fn first_event(mut client: Client, target: &str) -> io::Result<()> {
    let request = Request::get(EVENTS).host(target);
    client.send(request.to_bytes()).await?;
    client.read_until("\n\n").await.map(|_event| ())
}

async fn echo(client: Client, target: &str) -> io::Result<()> {
    let mut socket = client
        .start_websocket("/websocket", &[("Host", target)])
        .await?;
    socket.send(&Frame::new(TEXT, SAID)).await?;
    match socket.read().await? {
        Some(frame) if frame.payload == SAID => Ok(()),
        other => Err(io::Error::other(format!("another answer came: {other:?}"))),
    }
}

/// How long it took, or why it did not come about.
async fn timed(trying: impl Future<Output = io::Result<()>>) -> Result<Duration, String> {
    let began = Instant::now();
    match timeout(STREAM_PROBE_TIMEOUT, trying).await {
        Ok(Ok(())) => Ok(began.elapsed()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => {
            let seconds = STREAM_PROBE_TIMEOUT.as_secs();
            Err(format!("nothing came within {seconds} s"))
        }
    }
}

fn check(what: &str, awaited: &str, came: Result<Duration, String>) -> Check {
    match came {
        Ok(after) => {
            let text = format!(
                "{what} comes through as it happens ({awaited} after {} ms)",
                after.as_millis()
            );
            Check::new(Area::Network, State::Ok, text)
        }
        Err(why) => {
            let text = format!("{what} does not come through oriel on this machine: {why}");
            Check::new(Area::Network, State::Failed, text)
                .code("ORL0228")
                .fix(
                    "look for a firewall or a virus scanner that reads connections of this machine",
                )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_breaks_is_told() {
        let broken = timed(async { Err(io::Error::other("cut")) }).await;
        let told = check("a WebSocket", "its echo", broken);
        assert_eq!(told.state, State::Failed);
        assert!(told.text.ends_with(": cut"), "{}", told.text);
    }
}
