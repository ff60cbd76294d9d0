//! The request's body, on its way from the client to the upstream.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::body::{BodyEnd, Sink, Source, carry};
use super::course::Course;
use super::fault::Fault;

/// Passes the body on to its end.
pub(super) async fn upload(
    source: Source<'_, '_>,
    sink: Sink<'_, '_>,
    course: &Course<'_, '_>,
) -> Result<(), Fault> {
    if let Source::Later = source {
        return sink.flush_head().await;
    }
    if source.is_ended() {
        sink.flush_head().await?;
        course.flow.lock().request_ended(None);
        return Ok(());
    }
    let seen = |data: &Bytes| {
        course.flow.lock().request_bytes(data);
        course.note_progress();
    };
    let turns_to = |end| {
        let source = end == BodyEnd::Source;
        course.awaits_client.store(source, Ordering::Relaxed);
    };
    let trailers = carry(source, sink, seen, turns_to).await?;
    course.flow.lock().request_ended(trailers);
    Ok(())
}
