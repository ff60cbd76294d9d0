//! The thread of the analyzers: takes events, makes messages, hands each through the chain.

use std::error::Error;
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::assembly::Assembly;
use super::queue::{Queue, Queued};
use super::{AnalysisMsg, Analyzer};
use crate::limits::ANALYSIS_FINISH;

/// What went wrong beside the traffic, counted since the start.
#[derive(Debug, Default)]
pub struct AnalysisCounts {
    /// Flows of which nothing was told, because the analyzers had fallen too far behind.
    pub flows_lost: AtomicU64,
    /// Events of other flows that were lost for the same reason.
    pub events_lost: AtomicU64,
    /// Analyzers that panicked.
    pub panics: AtomicU64,
    /// What analyzers could not do, as they told by [`Next::fail`]: lines that were not written.
    pub errors: AtomicU64,
}

/// Where an analyzer hands on.
#[derive(Debug, Default)]
pub struct Next {
    messages: Vec<AnalysisMsg>,
    errors: Vec<String>,
}

impl Next {
    /// Nothing handed on yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands a message to the next analyzer.
    pub fn pass(&mut self, message: AnalysisMsg) {
        self.messages.push(message);
    }

    /// Says that something could not be done. It is counted, and logged at once if it is the
    /// first time or the thousandth, not each time.
    pub fn fail(&mut self, error: &dyn Error) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        self.errors.push(text);
    }

    /// What was handed on so far.
    #[must_use]
    pub fn messages(&self) -> &[AnalysisMsg] {
        &self.messages
    }

    /// What could not be done so far.
    #[must_use]
    pub fn errors(&self) -> &[String] {
        &self.errors
    }
}

/// The analyzers, in order.
pub(super) struct Chain {
    analyzers: Vec<Box<dyn Analyzer>>,
    counts: Arc<AnalysisCounts>,
}

/// Errors between two that are logged.
const LOGGED_EVERY: u64 = 1000;

impl Chain {
    pub(super) fn new(analyzers: Vec<Box<dyn Analyzer>>, counts: Arc<AnalysisCounts>) -> Self {
        Self { analyzers, counts }
    }

    /// Hands a message through all analyzers.
    pub(super) fn handle(&mut self, message: AnalysisMsg) {
        self.hand_on(0, vec![message]);
    }

    /// Lets each hand on what it held back, the first one first.
    pub(super) fn finish(&mut self) {
        for index in 0..self.analyzers.len() {
            let held = self.call(index, |analyzer, next| analyzer.finish(next));
            self.hand_on(index + 1, held);
        }
    }

    /// Hands messages to the analyzers from this one on.
    fn hand_on(&mut self, first: usize, messages: Vec<AnalysisMsg>) {
        let mut messages = messages;
        for index in first..self.analyzers.len() {
            let mut passed = Vec::new();
            for message in messages {
                let given = self.call(index, |analyzer, next| analyzer.analyze(message, next));
                passed.extend(given);
            }
            messages = passed;
        }
    }

    fn call(
        &mut self,
        index: usize,
        callback: impl FnOnce(&mut dyn Analyzer, &mut Next),
    ) -> Vec<AnalysisMsg> {
        let Some(analyzer) = self.analyzers.get_mut(index) else {
            return Vec::new();
        };
        let mut next = Next::new();
        let called = std::panic::catch_unwind(AssertUnwindSafe(|| {
            callback(&mut **analyzer, &mut next);
        }));
        let name = analyzer.name();
        if called.is_err() {
            let before = self.counts.panics.fetch_add(1, Ordering::Relaxed);
            if before.is_multiple_of(LOGGED_EVERY) {
                tracing::error!(analyzer = name, "an analyzer panicked");
            }
            // What it had handed on may be half of something.
            next.messages.clear();
        }
        for error in next.errors {
            let before = self.counts.errors.fetch_add(1, Ordering::Relaxed);
            if before.is_multiple_of(LOGGED_EVERY) {
                tracing::error!(analyzer = name, error, errors = before + 1, "not analyzed");
            }
        }
        next.messages
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.analyzers.iter().map(|analyzer| analyzer.name());
        out.debug_list().entries(names).finish()
    }
}

/// A chain that runs. If it is dropped, it ends once it has handled what is queued.
#[derive(Debug)]
pub(super) struct Pipeline {
    queue: Arc<Queue>,
    ended: oneshot::Receiver<()>,
}

impl Pipeline {
    /// Starts the thread.
    pub(super) fn start(queue: Arc<Queue>, mut chain: Chain) -> io::Result<Self> {
        let (end, ended) = oneshot::channel();
        let source = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("analysis".to_owned())
            .spawn(move || {
                let mut assembly = Assembly::default();
                while let Some(events) = source.take() {
                    for Queued { event, lost } in events {
                        assembly.handle(event, lost, &mut |message| chain.handle(message));
                    }
                }
                chain.finish();
                // Nobody may be waiting for it.
                let _nobody = end.send(());
            })?;
        Ok(Self { queue, ended })
    }

    /// Waits until everything queued has been handled, at most [`ANALYSIS_FINISH`]; false if that
    /// was not enough.
    ///
    /// Dropping it leaves the thread to finish on its own.
    pub(super) async fn finish(mut self) -> bool {
        self.queue.close();
        tokio::time::timeout(ANALYSIS_FINISH, &mut self.ended)
            .await
            .is_ok()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[cfg(test)]
mod tests;
