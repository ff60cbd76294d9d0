//! One JSON object in a line per flow, with everything that is known of it: what is read back is equal.
//! The names are those of the types of this crate.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use traffic::rules::redact::Redaction;

use super::source::Source;
use super::{Each, Found, Import, Place, ReadError};
use crate::{FlowDetail, FlowRecord, HeadView, RunRecord, StreamMessage};

/// The schema of a line. Fields are only ever added within a number.
const SCHEMA: &str = "oriel.record/1";
/// How a line begins.
pub(super) const BEGINNING: &str = "{\"schema\":\"oriel.record/";

#[derive(Serialize)]
struct Written<'a> {
    schema: &'static str,
    run: &'a RunRecord,
    flow: &'a FlowDetail,
    #[serde(with = "crate::plain::some_bytes")]
    request_body: Option<Cow<'a, [u8]>>,
    #[serde(with = "crate::plain::some_bytes")]
    response_body: Option<Cow<'a, [u8]>>,
    messages: &'a [StreamMessage],
}

#[derive(Deserialize)]
struct Line {
    schema: String,
    run: RunRecord,
    flow: FlowDetail,
    #[serde(with = "crate::plain::some_bytes")]
    request_body: Option<Cow<'static, [u8]>>,
    #[serde(with = "crate::plain::some_bytes")]
    response_body: Option<Cow<'static, [u8]>>,
    messages: Vec<StreamMessage>,
}

/// Writes a line.
pub(super) fn write(record: &FlowRecord, out: &mut impl Write) -> io::Result<()> {
    let line = Written {
        schema: SCHEMA,
        run: &record.run,
        flow: &record.detail,
        request_body: record.request_body.as_deref().map(Cow::Borrowed),
        response_body: record.response_body.as_deref().map(Cow::Borrowed),
        messages: &record.messages,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Reads lines. One that is wrong is left out.
pub(super) fn read<R: Read>(
    source: &mut Source<R>,
    import: &Import,
    each: &mut Each<'_>,
) -> Result<(), ReadError> {
    let mut line = Vec::new();
    let mut number = 0;
    let mut run: Option<Arc<RunRecord>> = None;
    loop {
        let place = Place::Line(number + 1);
        match source.line(&mut line) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(ReadError::TooLarge { place });
            }
            Err(error) => return Err(error.into()),
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let found = match serde_json::from_slice::<Line>(&line) {
            Ok(line) if line.schema == SCHEMA => {
                // Most lines are of the run of the line before.
                let same = run.take().filter(|run| **run == line.run);
                let same = same.unwrap_or_else(|| Arc::new(line.run.clone()));
                run = Some(Arc::clone(&same));
                Found::Flow(Box::new(line.record(same, import.redaction)))
            }
            Ok(line) => Found::LeftOut {
                place,
                what: format!("its schema {:?} is not known", line.schema),
            },
            Err(error) => Found::LeftOut {
                place,
                what: error.to_string(),
            },
        };
        each(found)?;
    }
}

impl Line {
    fn record(self, run: Arc<RunRecord>, redaction: Redaction) -> FlowRecord {
        let mut detail = self.flow;
        // What was masked when it was recorded is masked.
        if redaction == Redaction::Basic && detail.row.redaction == Redaction::None {
            mask(&mut detail);
        }
        FlowRecord {
            run,
            detail,
            request_body: self.request_body.map(Cow::into_owned),
            response_body: self.response_body.map(Cow::into_owned),
            messages: self.messages,
        }
    }
}

/// Masks the credentials of a flow that was recorded with them.
fn mask(detail: &mut FlowDetail) {
    let redaction = Redaction::Basic;
    let heads = [Some(&mut detail.request), detail.response.as_mut()];
    let heads = heads.into_iter().flatten();
    for head in heads.chain(&mut detail.informational) {
        let masked = masked(&head.start_line, &head.fields);
        *head = HeadView::new(&masked, head.bytes);
    }
    for trailers in [&mut detail.request_trailers, &mut detail.response_trailers] {
        *trailers = HeadView::new(&masked("", trailers), 0).fields;
    }
    let url = |url: &str| {
        let masked = redaction.mask_url(url.as_bytes());
        String::from_utf8_lossy(&masked).into_owned()
    };
    detail.row.url = url(&detail.row.url);
    if let Some(gateway) = &mut detail.gateway {
        gateway.url = url(&gateway.url);
    }
    if let Some(process) = detail
        .client
        .as_mut()
        .and_then(|client| client.process.as_mut())
    {
        process.command_line = redaction.mask_arguments(&process.command_line);
    }
    detail.row.redaction = redaction;
}

fn masked(start_line: &str, fields: &[(String, String)]) -> Vec<u8> {
    let mut text = format!("{start_line}\r\n");
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    Redaction::Basic.mask_head(text.as_bytes()).into_owned()
}
