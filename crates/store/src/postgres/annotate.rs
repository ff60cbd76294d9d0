//! Changes what people say about a flow of an archive.

use postgres::Client;

use super::connect::Server;
use super::copy::storable;
use super::write::{batch_ids, number};
use crate::{Annotate, AnnotateError, Annotation};

/// Changes it, and has who follows read the flow again. `None` if there is no flow with this UUID.
pub(super) fn annotate(
    client: &mut Client,
    server: &Server,
    uuid: &str,
    change: &Annotate,
) -> Result<Option<Annotation>, AnnotateError> {
    let failed = |error| server.failed(error);
    let mut transaction = client.transaction().map_err(failed)?;
    let sql = "SELECT flow_tags, note FROM flows WHERE trace_id = $1 FOR UPDATE";
    let found = transaction.query_opt(sql, &[&uuid]).map_err(failed)?;
    let Some(row) = found else {
        return Ok(None);
    };
    let mut annotation = Annotation {
        tags: row.try_get(0).map_err(failed)?,
        note: row.try_get(1).map_err(failed)?,
    };
    annotation.apply(change)?;
    let tags: Vec<_> = annotation.tags.iter().map(|tag| storable(tag)).collect();
    let note = annotation.note.as_deref().map(storable);
    let batches = batch_ids(&mut transaction, 1).map_err(failed)?;
    let batch = batches.first().copied().unwrap_or_default();
    transaction
        .execute(
            "UPDATE flows SET flow_tags = $2, note = $3, batch = $4 WHERE trace_id = $1",
            &[&uuid, &tags, &note, &batch],
        )
        .map_err(failed)?;
    number(&mut transaction, &batches, 1).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(Some(annotation))
}
