//! Where the engine reports: events leave here and the engine goes on.

use traffic::Event;

/// Takes what the engine reports.
pub trait Watcher: Send + Sync + std::fmt::Debug + 'static {
    /// Takes a batch of events. Events of one flow come in order and in order of batches.
    ///
    /// It is called on the engine's own tasks and must return at once: queue, never wait. What
    /// cannot be queued is to be dropped, counted, and told as [`Event::Lost`].
    fn handle_events(&self, events: Vec<Event>);
}
