//! Serves one client connection that speaks HTTP/1.1: reads its requests one after the other,
//! finds whom each wants, and has it carried there.

use std::sync::Arc;

use futures_util::FutureExt as _;
use traffic::{FailureKind, FlowKind, Head, Side, Target};

use crate::admission::Login;
use crate::connection::Engine;
use crate::destination::Scope;
use crate::handler::Interests;
use crate::http1::answer::{
    Next, answer, answer_for_upstream, broken_off, drain, finish, refuse_early, refuse_unread,
    respond, write_local,
};
use crate::http1::asked::{Asked, connect_target, plan, write_head};
use crate::http1::connection::{Http1, ReadError};
use crate::http1::head::{self, Line, RequestHead};
use crate::http1::relay::{Broken, Relay, Relayed};
use crate::http1::shown::Shown;
use crate::http1::verdict::{self, Verdict};
use crate::limits::{FIRST_REQUEST_WAIT, LINGER};
use crate::max_forwards::MaxForwards;
use crate::tap::{Flow, Reporter};
use crate::translate;
use crate::upstream::{Lease, Offer};
use crate::websocket::{self, End, Ends};

/// What a served connection ended with.
pub(crate) enum Served {
    /// It is closed.
    Closed,
    /// The client asked for a tunnel to a target; its head was consumed.
    Connect {
        client: Box<Http1>,
        target: Target,
        head: Head,
        /// By what the client was admitted, where it had to say who it is.
        login: Option<Arc<Login>>,
    },
}

/// Serves the connection to its end, or to a CONNECT.
pub(crate) async fn serve(
    mut client: Box<Http1>,
    scope: Scope,
    engine: &Arc<Engine>,
    reporter: &mut Reporter,
) -> Served {
    let mut idle = engine.timeouts.head;
    let mut shown = Shown::default();
    let mut stop = std::pin::pin!(engine.stop.asked().fuse());
    let mut is_fresh = true;
    loop {
        let mut read = tokio::select! {
            biased;
            read = client.read_head(idle, engine.timeouts.head) => Some(read),
            () = &mut stop => None,
        };
        if read.is_none() && is_fresh {
            let first = client.read_head(idle, engine.timeouts.head);
            read = tokio::time::timeout(FIRST_REQUEST_WAIT, first).await.ok();
        }
        let length = match read {
            Some(Ok(length)) => length,
            Some(Err(error)) => {
                refuse_unread(*client, error).await;
                return Served::Closed;
            }
            // It idles, and we go.
            None => {
                client.close(LINGER).await;
                return Served::Closed;
            }
        };
        is_fresh = false;
        idle = engine.timeouts.idle_client;
        let lines = std::mem::take(&mut client.lines);
        let bytes = client.input.get(..length).unwrap_or_default();
        let request = match head::parse_request(bytes, lines) {
            Ok(request) => request,
            Err(error) => {
                refuse_unread(*client, ReadError::Head(error)).await;
                return Served::Closed;
            }
        };
        // Kept for as long as the request may have to be sent again.
        let bytes = client.take_head(length);
        let said = || proxy_authorization(&request, &bytes);
        let login = match scope.admit(said).await {
            Ok(login) => login,
            Err(refusal) => {
                refusal.write(false, true, &mut client.output);
                client.close(LINGER).await;
                return Served::Closed;
            }
        };
        if bytes.get(request.method.clone()) == Some(b"CONNECT") {
            match connect_target(&scope, &request, &bytes) {
                Ok(target) => {
                    let head = Head {
                        version: request.version,
                        text: bytes.into(),
                    };
                    return Served::Connect {
                        client,
                        target,
                        head,
                        login,
                    };
                }
                Err(failure) => {
                    refuse_early(*client, &failure, None).await;
                    return Served::Closed;
                }
            }
        }
        let by = (login.as_deref(), &**engine);
        let plan = match plan(&scope, &request, &bytes, by) {
            Ok(plan) => plan,
            Err(failure) => {
                refuse_early(*client, &failure, None).await;
                return Served::Closed;
            }
        };
        let asked = Asked {
            request,
            bytes,
            plan,
            login,
            hold: None,
        };
        match forward(&mut client, asked, &mut shown, &scope, engine, reporter).await {
            Next::Request => {}
            Next::Close => {
                client.close(LINGER).await;
                return Served::Closed;
            }
            Next::Cut => return Served::Closed,
        }
    }
}

/// Who the client says it is.
fn proxy_authorization<'b>(request: &RequestHead, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let is_it = |line: &&Line| {
        let name = bytes.get(line.start..line.name_end).unwrap_or_default();
        name.eq_ignore_ascii_case(b"proxy-authorization")
    };
    let line = request.lines.iter().find(is_it)?;
    bytes.get(line.value.clone())
}

/// Decides on one request, and has it carried to its upstream and its response back.
async fn forward(
    client: &mut Http1,
    mut asked: Asked,
    shown: &mut Shown,
    scope: &Scope,
    engine: &Arc<Engine>,
    reporter: &mut Reporter,
) -> Next {
    let stall = engine.timeouts.idle_body;
    if let Some(site) = asked.plan.to.local_site(scope, engine) {
        let method = asked.bytes.get(asked.request.method.clone());
        let page = site.answer(method.unwrap_or_default(), &asked.path_text());
        write_local(client, &asked, &page);
        return drain(client, &asked, stall).await.unwrap_or(Next::Cut);
    }
    let mut opening = asked.plan.to.opening();
    if asked.upgrade().is_some() {
        opening.kind = FlowKind::WebSocket;
    }
    let wanted = scope
        .subject()
        .map(|subject| verdict::wanted(&asked, subject));
    reporter.want(wanted.unwrap_or(Interests::NONE));
    let mut flow = reporter.start(&opening, |told| Head {
        version: asked.request.version,
        text: told.head(&asked.bytes),
    });
    let dial_failure = scope.take_dial_failure();
    let refused = asked.plan.to.refused(engine);
    if let Some(failure) = refused.or_else(|| asked.comes_back(engine)) {
        return answer(client, &asked, flow, failure, stall).await;
    }
    let forwards = asked.max_forwards();
    if let Some(MaxForwards::Answer(what)) = forwards {
        return answer_for_upstream(client, &asked, flow, what, stall).await;
    }
    if let (Some(subject), Some(wanted)) = (scope.subject(), wanted)
        && wanted.requests
        && !asked.plan.to.bypassed
    {
        flow.hand_over();
        let by = (&*subject.identified().await, wanted);
        match verdict::ask(client, &mut asked, shown, by, engine).await {
            Verdict::Pass => {}
            Verdict::Respond(response, failure) => {
                return respond(client, &asked, flow, (&response, failure), stall).await;
            }
            Verdict::Refuse(failure) => return answer(client, &asked, flow, failure, stall).await,
        }
    }
    match asked.reroute(engine) {
        Ok(Some(told)) => flow.rerouted(told),
        Ok(None) => {}
        Err(failure) => return answer(client, &asked, flow, failure, stall).await,
    }
    if let Some(failure) = dial_failure.filter(|_| asked.plan.to.is_as_opened(scope)) {
        return answer(client, &asked, flow, failure, stall).await;
    }
    carry(client, asked, forwards, flow, engine).await
}

/// Carries a request that may pass to its upstream, and its response back.
async fn carry(
    client: &mut Http1,
    mut asked: Asked,
    forwards: Option<MaxForwards>,
    mut flow: Flow<'_>,
    engine: &Arc<Engine>,
) -> Next {
    let upgrade = asked.upgrade();
    if upgrade.is_some() {
        head::pass_upgrade(&mut asked.request.lines, &asked.bytes);
    }
    let Asked { request, plan, .. } = &asked;
    let stall = engine.timeouts.idle_body;
    let now = flow.turn_to_upstream();
    let for_websocket;
    let upstream = match upgrade {
        None => &plan.to.upstream,
        Some(_) => {
            for_websocket = engine.upstreams.for_websocket(&plan.to.upstream);
            &for_websocket
        }
    };
    let ready = engine.upstreams.ready(upstream, Offer::Http1, now);
    let mut stood_ready = ready.is_some();
    let mut lease = match ready {
        Some(lease) => Ok(lease),
        None => {
            flow.hand_over();
            engine.upstreams.connect(upstream, Offer::Http1).await
        }
    };
    let mut repeated = false;
    loop {
        let mut held = match lease {
            Ok(Lease::Http1(held)) => held,
            Ok(other) => {
                let mut message = asked.message(forwards, repeated);
                message.upgrade = upgrade.as_ref();
                let carried =
                    translate::from_http1(client, message, other, upstream, &mut flow, engine);
                // In a box, as below, so that connections which never need it hold no room for it.
                return match Box::pin(carried).await {
                    Ok(reuse) => finish(client, asked, flow, reuse),
                    Err(broken) => broken_off(client, &asked, flow, broken, stall).await,
                };
            }
            Err(failure) => return answer(client, &asked, flow, failure, stall).await,
        };
        match std::mem::take(&mut stood_ready) {
            true => flow.upstream_ready(&held.facts, held.served),
            false => flow.upstream(&held.facts, held.served),
        }
        let reused = std::mem::replace(&mut held.served, true);
        write_head(&asked, upstream.forwarded.as_ref(), &mut held.http1.output);
        let stays = request.keep_alive && !engine.stop.is_asked();
        let relay = Relay::new(
            client,
            &mut held.http1,
            &mut flow,
            request,
            asked.is_head(),
            stall,
            stays,
        );
        let relay = relay.hiding_http3(upstream.hides_http3);
        let relay = relay.forwarded(upstream.forwarded.as_ref());
        match relay.asking_for(upgrade.as_ref()).run().await {
            Ok(Relayed::Switched(accepted)) => {
                flow.websocket_opened(&accepted);
                let ends = Ends {
                    client: End::Http1(client),
                    upstream: End::Http1(&mut held.http1),
                };
                let carried = websocket::run(ends, &mut flow, stall);
                return match Box::pin(carried).await {
                    Ok(()) => {
                        flow.complete();
                        Next::Close
                    }
                    Err(broken) => broken_off(client, &asked, flow, broken, stall).await,
                };
            }
            Ok(Relayed::Whole(reuse)) => {
                if reuse.upstream {
                    engine.upstreams.give_back(upstream, held);
                }
                return finish(client, asked, flow, reuse);
            }
            Err(broken) if reused && !repeated && asked.may_be_repeated() && is_stale(&broken) => {
                repeated = true;
                // It is of no use any more, and another may need its place.
                drop(held);
                lease = engine.upstreams.connect(upstream, Offer::Http1).await;
            }
            Err(broken) => return broken_off(client, &asked, flow, broken, stall).await,
        }
    }
}

/// True if a kept connection was closed by the upstream before it saw the request, as far as can
/// be known: nothing of an answer came. The request is safe to repeat (RFC 9110 section 9.2.2).
fn is_stale(broken: &Broken) -> bool {
    let closed = matches!(
        broken.failure.kind,
        FailureKind::Reset | FailureKind::ClosedEarly
    );
    closed && !broken.answered && broken.failure.side == Side::Upstream
}
