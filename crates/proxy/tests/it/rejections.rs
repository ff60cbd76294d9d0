//! Clients that will not take the proxy's certificate.

use std::num::NonZeroU32;
use std::sync::Arc;

use oriel_proxy::handler::InterceptHandler;
use oriel_proxy::{AutoBypass, Proxy, ProxyConfig, Watcher};
use testbed::authority::{Authority, client_config};
use testbed::client::{Client, Request};
use testbed::upstream::{Protocols, Upstream};
use traffic::{CertificateRefused, Event, FailureKind, FlowKind};

use crate::recorder::Recorder;
use crate::running::{NAME, Running, config, https, upstream_authority};
use crate::soon;

fn counting(auto_bypass: AutoBypass) -> impl FnOnce(&mut ProxyConfig) {
    move |config: &mut ProxyConfig| {
        config.attribution = Some(oriel_proxy::limits::PROCESS_LOOKUP);
        config.rejections.times = NonZeroU32::new(2).unwrap();
        config.rejections.auto_bypass = auto_bypass;
    }
}

/// More than the refusals that count here: of the first, which comes without warning, the process
/// may be gone before it is found.
const TIMES: usize = 4;

/// A client that trusts the upstream's authority and not the proxy's.
async fn ask(running: &Running, upstream: &Upstream) -> std::io::Result<Client> {
    let mut client = running.through(upstream).await;
    let trusts = client_config(&[upstream_authority().certificate()], &["http/1.1"]);
    soon(client.start_tls(NAME, trusts)).await?;
    soon(client.request(&Request::get("/bytes/4").host(NAME))).await?;
    Ok(client)
}

fn told(recorder: &Recorder) -> Vec<CertificateRefused> {
    let told = |event: Event| match event {
        Event::CertificateRefused(told) => Some(*told),
        _ => None,
    };
    recorder.events().into_iter().filter_map(told).collect()
}

#[tokio::test]
async fn a_client_that_will_not_take_the_certificate_is_told_of_once() {
    let upstream = https(Protocols::Http1).await;
    let running = Running::with(counting(AutoBypass::Off)).await;
    for time in 1..=TIMES {
        ask(&running, &upstream).await.unwrap_err();
        soon(running.recorder.ended(time)).await;
    }
    let (_drained, recorder) = running.stop().await;
    let told = told(&recorder);
    let [told] = &*told else {
        panic!("it is told once: {told:?}");
    };
    assert_eq!((told.host.to_string(), told.times), (NAME.to_owned(), 2));
    assert_eq!(told.bypassed_until, None);
    if cfg!(target_os = "linux") {
        let own = std::env::current_exe().unwrap();
        assert_eq!(told.program.as_deref(), own.to_str());
    }
}

/// Decides nothing, and watches nothing.
#[derive(Debug)]
struct Indifferent;

impl InterceptHandler for Indifferent {}

#[tokio::test]
async fn who_watches_no_flows_is_told_of_it_and_of_nothing_else() {
    let upstream = https(Protocols::Http1).await;
    for with_handler in [false, true] {
        let mut config = config();
        counting(AutoBypass::Off)(&mut config);
        let recorder = Arc::new(Recorder::of_no_flows());
        let watcher: Option<Arc<dyn Watcher>> = Some(Arc::clone(&recorder) as _);
        let proxy = match with_handler {
            true => Proxy::bind_with_handler(config.clone(), Indifferent, watcher).await,
            false => Proxy::bind(config.clone(), watcher).await,
        };
        let running = Running::serve(proxy.unwrap(), config, recorder);
        for _time in 0..TIMES {
            ask(&running, &upstream).await.unwrap_err();
        }
        let (_drained, recorder) = running.stop().await;
        // Twice if the process was not found for half of them.
        let told = told(&recorder).len();
        assert!((1..=2).contains(&told), "{with_handler}: {told}");
        assert_eq!(recorder.events().len(), told, "{with_handler}");
    }
}

#[tokio::test]
async fn an_automatic_bypass_begins_after_the_refusals_and_names_itself() {
    for scope in [AutoBypass::Process, AutoBypass::Host] {
        let upstream = https(Protocols::Http1).await;
        let running = Running::with(counting(scope)).await;
        let mut refusals = 0;
        while ask(&running, &upstream).await.is_err() {
            refusals += 1;
            soon(running.recorder.ended(refusals)).await;
            assert!(refusals < TIMES, "{scope:?}");
        }
        assert!(refusals >= 2, "{scope:?}");
        let (_drained, recorder) = running.stop().await;
        let flows = recorder.flows();
        let last = flows.last().unwrap();
        assert_eq!(last.started.kind, FlowKind::Tunnel);
        let rule = &last.started.route.rule;
        assert!(rule.starts_with("intercept.auto_bypass until 2"), "{rule}");
        assert!(
            told(&recorder)
                .iter()
                .all(|told| told.bypassed_until.is_some())
        );
    }
}

#[tokio::test]
async fn a_process_that_takes_it_for_one_host_and_refuses_it_for_another_pins() {
    let upstream = https(Protocols::Http1).await;
    let running = Running::with(counting(AutoBypass::Off)).await;
    let mut trusting = running.through_tls(&upstream, &["http/1.1"]).await;
    soon(trusting.request(&Request::get("/").host(NAME)))
        .await
        .unwrap();
    let pinning = Authority::new("the one it knows").client_config(&["http/1.1"]);
    for time in 1..=2 {
        let mut client = running.through(&upstream).await;
        let refused = client.start_tls(NAME, Arc::clone(&pinning));
        soon(refused).await.unwrap_err();
        // The request of the client that trusts is a flow too.
        soon(running.recorder.ended(1 + time)).await;
    }
    drop(trusting);
    let (_drained, recorder) = running.stop().await;
    let flows = recorder.flows();
    assert_eq!(
        flows.last().unwrap().failure().0.kind,
        FailureKind::ClientPinned
    );
}
