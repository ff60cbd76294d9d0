//! Reads a file of any format twice: as it is, and what was found in it written as JSON lines. The flows
//! are the same ones.

use std::sync::Arc;

use store::{
    FlowRecord, FlowWriter, Format, Found, Import, Origin, Redaction, RunId, RunKind, RunRecord,
};
use traffic::Timestamp;

pub(crate) fn read_back(expected: Format, file: &[u8]) {
    let (format, flows) = read(file);
    if format != Some(expected) {
        return;
    }
    let mut lines = Vec::new();
    let mut writer = FlowWriter::begin(Format::Jsonl, &mut lines).expect("memory takes all");
    for flow in &flows {
        assert!(writer.write(flow).expect("memory takes all"));
    }
    writer.finish().expect("memory takes all");
    if !flows.is_empty() {
        let (format, again) = read(&lines);
        assert_eq!(format, Some(Format::Jsonl));
        assert_eq!(again, flows);
    }
}

/// The format, if the file was read to its end, and the flows.
fn read(file: &[u8]) -> (Option<Format>, Vec<FlowRecord>) {
    let run = RunRecord {
        uuid: "0195559f-6a00-7000-8000-000000000000".to_owned(),
        id: "k7q2".parse::<RunId>().expect("it is one"),
        name: None,
        argv: Vec::new(),
        kind: RunKind::Import,
        pid: 1,
        started_at: Timestamp(0),
        ended_at: None,
        exit_code: None,
        signal: None,
        origin: Origin::default(),
    };
    let mut flows = Vec::new();
    let mut import = Import::new(Arc::new(run), Redaction::None);
    let format = import.read(file, |found| {
        if let Found::Flow(flow) = found {
            flows.push(*flow);
        }
        Ok(())
    });
    (format.ok(), flows)
}
