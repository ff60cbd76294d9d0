//! Changes what people say about a flow of an archive: its row is written again by the server, which has it.

use serde::Deserialize;

use super::columns::FLOWS;
use super::server::{Server, Value};
use crate::{Annotate, AnnotateError, Annotation, StoreError};

#[derive(Deserialize)]
struct Said {
    flow_tags: Vec<String>,
    note: Option<String>,
}

/// Changes it; `None` if there is no flow with this UUID. Of two who do so in the same moment one may be lost.
pub(super) fn annotate(
    server: &Server,
    uuid: &str,
    change: &Annotate,
) -> Result<Option<Annotation>, AnnotateError> {
    let sql = "SELECT flow_tags, note FROM flows WHERE trace_id = {p1:String} LIMIT 1";
    let found: Vec<Said> = server.rows(sql, &[Value::Text(uuid)])?;
    let Some(said) = found.into_iter().next() else {
        return Ok(None);
    };
    let mut annotation = Annotation {
        tags: said.flow_tags,
        note: said.note,
    };
    annotation.apply(change)?;
    let tags =
        serde_json::to_string(&annotation.tags).map_err(|error| StoreError::NotStorable {
            detail: error.to_string(),
        })?;
    let sql = FLOWS.again(
        &[
            ("flow_tags", "JSONExtract({p2:String}, 'Array(String)')"),
            ("note", "nullIf({p3:String}, '')"),
        ],
        "trace_id = {p1:String}",
    );
    let note = annotation.note.as_deref().unwrap_or_default();
    let values = [uuid, &tags, note].map(Value::Text);
    server.write_again(&sql, &values)?;
    Ok(Some(annotation))
}
