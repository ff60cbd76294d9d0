//! What happens when analyzers are slow, panic, or hold something back.

use std::sync::atomic::Ordering;
use std::sync::mpsc;

use traffic::{Event, FlowKind};

use super::*;
use crate::analysis::samples::{ended, request_data, request_ended, started};
use crate::analysis::{Record, ResponseDone};
use crate::limits::{ANALYSIS_EVENTS_MAX, ANALYSIS_QUEUE_BYTES_MAX};
use crate::tap::Watcher;

const GET: &str = "GET /a HTTP/1.1\r\n\r\n";

fn count(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

/// Hands what it gets to a test, each time it is allowed to.
struct Probe {
    told: mpsc::Sender<AnalysisMsg>,
    allowed: Option<mpsc::Receiver<()>>,
}

impl Analyzer for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn analyze(&mut self, message: AnalysisMsg, _next: &mut Next) {
        if let Some(allowed) = &self.allowed {
            // The test that has dropped its end allows everything.
            let _go_on = allowed.recv();
        }
        self.told.send(message).unwrap();
    }
}

/// Panics at every request, passes everything else, and hands on a record at the end.
struct Broken;

impl Analyzer for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn analyze(&mut self, message: AnalysisMsg, next: &mut Next) {
        let is_request = matches!(message, AnalysisMsg::Request(_));
        next.pass(message);
        if is_request {
            std::panic::resume_unwind(Box::new("this analyzer is broken"));
        }
        next.fail(&io::Error::other("and complains"));
    }

    fn finish(&mut self, next: &mut Next) {
        next.pass(AnalysisMsg::Record(Box::new(Record {
            source: "broken",
            id: uuid::Uuid::nil(),
            at: traffic::Timestamp(0),
            data: "held back".into(),
        })));
    }
}

#[tokio::test]
async fn one_that_panics_loses_its_message_and_nothing_else() {
    let counts = Arc::new(AnalysisCounts::default());
    let queue = Arc::new(Queue::new(Arc::clone(&counts)));
    let (told, messages) = mpsc::channel();
    let probe = Probe {
        told,
        allowed: None,
    };
    let chain = Chain::new(vec![Box::new(Broken), Box::new(probe)], Arc::clone(&counts));
    let pipeline = Pipeline::start(Arc::clone(&queue), chain).unwrap();
    queue.handle_events(&mut vec![started(1, FlowKind::Http, GET), ended(1)]);
    assert!(pipeline.finish().await);
    let messages: Vec<AnalysisMsg> = messages.iter().collect();
    assert!(
        matches!(messages[0], AnalysisMsg::ResponseDone(_)),
        "{messages:?}"
    );
    assert!(
        matches!(messages[1], AnalysisMsg::Record(_)),
        "{messages:?}"
    );
    assert_eq!(messages.len(), 2);
    assert_eq!((count(&counts.panics), count(&counts.errors)), (1, 1));
}

/// Fills the queue while the analyzers stand still, and gives what they got in the end.
async fn overrun(mut events: Vec<Event>) -> (Arc<AnalysisCounts>, Vec<AnalysisMsg>) {
    let counts = Arc::new(AnalysisCounts::default());
    let queue = Arc::new(Queue::new(Arc::clone(&counts)));
    let (told, messages) = mpsc::channel();
    let (allow, allowed) = mpsc::channel();
    let probe = Probe {
        told,
        allowed: Some(allowed),
    };
    let chain = Chain::new(vec![Box::new(probe)], Arc::clone(&counts));
    let pipeline = Pipeline::start(Arc::clone(&queue), chain).unwrap();
    // One flow keeps the thread busy; its first message shows that the queue was emptied for it.
    queue.handle_events(&mut vec![started(1, FlowKind::Http, GET), ended(1)]);
    allow.send(()).unwrap();
    messages.recv().unwrap();
    queue.handle_events(&mut events);
    drop(allow);
    assert!(pipeline.finish().await);
    let messages = messages.iter().skip(1).collect();
    (counts, messages)
}

fn done(message: Option<&AnalysisMsg>) -> &ResponseDone {
    match message {
        Some(AnalysisMsg::ResponseDone(done)) => done,
        other => panic!("no end: {other:?}"),
    }
}

#[tokio::test]
async fn too_many_bytes_are_lost_and_counted() {
    let half = ANALYSIS_QUEUE_BYTES_MAX / 2;
    let (counts, messages) = overrun(vec![
        started(2, FlowKind::Http, GET),
        request_data(2, vec![b'x'; half]),
        request_data(2, vec![b'x'; half]),
        request_data(2, vec![b'x'; half]),
        // A small one still fits.
        request_ended(2, 3 * half, 3 * half),
        ended(2),
    ])
    .await;
    assert_eq!(
        (count(&counts.events_lost), count(&counts.flows_lost)),
        (2, 0)
    );
    let AnalysisMsg::Request(request) = &messages[0] else {
        panic!("no request: {messages:?}");
    };
    assert!(request.body.truncated);
    let done = done(messages.get(1));
    assert_eq!(done.incomplete.as_deref(), Some("2 events were lost"));
}

#[tokio::test]
async fn too_many_events_lose_whole_flows_but_no_end() {
    let mut events = vec![started(2, FlowKind::Http, GET)];
    events.extend((1..ANALYSIS_EVENTS_MAX).map(|_| request_data(2, "x")));
    events.push(started(3, FlowKind::Http, GET));
    events.push(request_data(3, "of a flow that nobody knows"));
    events.push(ended(3));
    events.push(ended(2));
    let (counts, messages) = overrun(events).await;
    assert_eq!(
        (count(&counts.events_lost), count(&counts.flows_lost)),
        (0, 1)
    );
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(done(messages.get(1)).incomplete, None);
}

#[tokio::test]
async fn tunnels_are_not_told() {
    let (counts, messages) = overrun(vec![started(2, FlowKind::Tunnel, GET), ended(2)]).await;
    assert!(messages.is_empty(), "{messages:?}");
    assert_eq!(
        (count(&counts.events_lost), count(&counts.flows_lost)),
        (0, 0)
    );
}
