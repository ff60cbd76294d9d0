//! The programs that made a format read what is written in it, and what they write is read: mitmproxy its
//! flow files and HAR, and the JSON schema of HAR that others validate with.

use std::path::{Path, PathBuf};
use std::process::Command;

use oriel_store::{FlowKind, FlowRecord, Format};
use serde_json::{Value, json};

use crate::formats::{all_sorts, flows, written};

/// What mitmproxy reads in a file, as JSON.
const READ: &str = "
import json, sys
from mitmproxy import http, io

def text(content):
    return None if content is None else content.hex()

flows = []
for flow in io.FlowReader(open(sys.argv[1], 'rb')).stream():
    if not isinstance(flow, http.HTTPFlow):
        flows.append({'type': flow.type, 'address': list(flow.server_conn.address)})
        continue
    messages = flow.websocket.messages if flow.websocket else []
    flows.append({
        'type': flow.type,
        'method': flow.request.method,
        'url': flow.request.url,
        'started_at': round(flow.request.timestamp_start * 1000),
        'request': [list(map(lambda part: part.decode('utf-8', 'replace'), field)) for field in flow.request.headers.fields],
        'request_body': text(flow.request.raw_content),
        'status': flow.response.status_code if flow.response else None,
        'response': [list(map(lambda part: part.decode('utf-8', 'replace'), field)) for field in flow.response.headers.fields]
            if flow.response else None,
        'response_body': text(flow.response.raw_content) if flow.response else None,
        'messages': [[message.from_client, message.is_text, message.content.hex()] for message in messages],
        'error': flow.error.msg if flow.error else None,
    })
print(json.dumps(flows))
";

/// Has mitmproxy write flows of its own, and says what they are.
const WRITE: &str = "
import gzip, json, sys
from mitmproxy import connection, flow, http, io, websocket
from wsproto.frame_protocol import Opcode

def http_flow(request, response, started):
    client = connection.Client(peername=('127.0.0.1', 50000), sockname=('127.0.0.1', 8080), timestamp_start=started)
    server = connection.Server(address=(request.host, request.port))
    made = http.HTTPFlow(client, server)
    request.timestamp_start = started
    request.timestamp_end = started + 0.25
    made.request = request
    if response:
        response.timestamp_start = started + 0.5
        response.timestamp_end = started + 1
        made.response = response
    return made

plain = http_flow(
    http.Request.make('POST', 'https://api.example.com:8443/v1/messages?a=1&b=%20', b'{\"ask\":1}',
                      http.Headers([(b'Host', b'api.example.com:8443'), (b'X-Odd', b'one'), (b'X-Odd', b'two')])),
    http.Response.make(200, b'hello \\xff world', {'Content-Type': 'application/octet-stream'}),
    1767225600.5)
packed = http_flow(
    http.Request.make('GET', 'http://example.com/packed'),
    http.Response(b'HTTP/1.1', 404, b'Not Found',
                  http.Headers([(b'Content-Encoding', b'gzip'), (b'Content-Type', b'text/plain')]),
                  gzip.compress(b'a' * 5000, mtime=0), None, 0, 0),
    1767225601)
failed = http_flow(http.Request.make('GET', 'https://nowhere.example.com/'), None, 1767225602)
failed.error = flow.Error('connection refused', 1767225602.5)
socket = http_flow(
    http.Request.make('GET', 'https://chat.example.com/socket', b'',
                      {'Connection': 'Upgrade', 'Upgrade': 'websocket', 'Sec-WebSocket-Version': '13',
                       'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ=='}),
    http.Response.make(101, b'', {'Connection': 'Upgrade', 'Upgrade': 'websocket'}),
    1767225603)
socket.websocket = websocket.WebSocketData()
socket.websocket.messages = [
    websocket.WebSocketMessage(Opcode.TEXT, True, 'grün'.encode(), 1767225603.6),
    websocket.WebSocketMessage(Opcode.BINARY, False, bytes(range(256)), 1767225603.7),
]
socket.websocket.close_code = 1000
flows = [plain, packed, failed, socket]
with open(sys.argv[1], 'wb') as out:
    writer = io.FlowWriter(out)
    for made in flows:
        writer.add(made)
";

/// Validates a file as HAR 1.2 with the schema that validators of others use.
const VALIDATE: &str = "
const [folder, file] = process.argv.slice(1)
const validator = require(folder + '/node_modules/har-validator/lib/promise.js')
const har = JSON.parse(require('fs').readFileSync(file, 'utf8'))
validator.har(har).then(
  () => console.log(`${har.log.entries.length} entries`),
  (error) => { console.error(JSON.stringify(error.errors, null, 1)); process.exit(1) }
)
";

fn target(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target")
        .join(path);
    assert!(
        path.exists(),
        "{} is missing; .ci/run installs it",
        path.display()
    );
    path
}

/// What a program of others prints, which succeeds.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

fn mitmproxy(script: &str, file: &Path) -> String {
    let python = target("mitmproxy/bin/python");
    printed(Command::new(python).args(["-c", script]).arg(file))
}

/// What mitmproxy reads in what was written.
fn read_by_mitmproxy(name: &str, content: &[u8]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, content).unwrap();
    serde_json::from_str(&mitmproxy(READ, &file)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The messages of a WebSocket as mitmproxy has them.
fn messages(record: &FlowRecord) -> Value {
    let messages = record
        .messages
        .iter()
        .filter(|message| message.kind == "text" || message.kind == "binary")
        .map(|message| {
            json!([
                message.sender == "client",
                message.kind == "text",
                hex(&message.payload)
            ])
        });
    messages.collect()
}

/// The URL as it goes over the wire, without the fragment.
fn url(record: &FlowRecord) -> String {
    let url = record.detail.row.url.split('#').next().unwrap_or_default();
    url.to_owned()
}

fn fields(fields: &[(String, String)]) -> Value {
    let kept = fields.iter().filter(|(name, _)| !name.starts_with(':'));
    kept.map(|(name, value)| json!([name, value])).collect()
}

#[test]
fn mitmproxy_reads_its_flow_files() {
    let records = all_sorts();
    let read = read_by_mitmproxy("flows.mitm", &written(Format::Mitmproxy, &records));
    assert_eq!(read.len(), records.len());
    let mut sockets = 0;
    for (read, record) in read.iter().zip(&records) {
        let row = &record.detail.row;
        if row.kind == FlowKind::Tunnel {
            assert_eq!(read["type"], "tcp");
            assert_eq!(read["address"], json!([row.host, row.port]));
            continue;
        }
        sockets += usize::from(row.kind == FlowKind::WebSocket && !record.messages.is_empty());
        assert_eq!(read["method"], row.method);
        if row.path != "*" {
            assert_eq!(read["url"], url(record));
        }
        assert_eq!(read["started_at"], row.started_at.0 / 1000);
        assert_eq!(read["request"], fields(&record.detail.request.fields));
        let body = |body: &Option<Vec<u8>>| body.as_deref().map(hex).unwrap_or_default();
        let found = |name: &str| read[name].as_str().unwrap_or_default();
        assert_eq!(found("request_body"), body(&record.request_body));
        assert_eq!(read["status"], json!(row.status));
        if let Some(response) = &record.detail.response {
            assert_eq!(read["response"], fields(&response.fields));
            assert_eq!(found("response_body"), body(&record.response_body));
        }
        assert_eq!(read["messages"], messages(record));
        let error = row.error.as_ref().map(|error| &*error.text);
        assert_eq!(read["error"].as_str(), error);
    }
    assert!(sockets > 0);
}

#[test]
fn mitmdump_lists_our_flow_files() {
    let records = all_sorts();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flows.mitm");
    std::fs::write(&file, written(Format::Mitmproxy, &records)).unwrap();
    let mut mitmdump = Command::new(target("mitmproxy/bin/mitmdump"));
    let listed = mitmdump
        .args(["--set", "flow_detail=1", "-nr"])
        .arg(&file)
        .env("HOME", folder.path())
        .env("PYTHONUTF8", "1");
    let listed = printed(listed);
    for record in &records {
        let row = &record.detail.row;
        if row.kind == FlowKind::Http && row.path != "*" {
            let line = format!("{} {}", row.method, url(record));
            let line = line.get(..40).unwrap_or(&line);
            assert!(listed.contains(line), "{line}: {listed}");
        }
    }
}

#[test]
fn what_mitmproxy_writes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("theirs.mitm");
    mitmproxy(WRITE, &file);
    let content = std::fs::read(&file).unwrap();
    let theirs: Vec<Value> = serde_json::from_str(&mitmproxy(READ, &file)).unwrap();
    let ours = flows(&content);
    assert_eq!((theirs.len(), ours.len()), (4, 4));
    for (record, theirs) in ours.iter().zip(&theirs) {
        let row = &record.detail.row;
        let found = |name: &str| theirs[name].as_str().unwrap_or_default();
        let body = |body: &Option<Vec<u8>>| body.as_deref().map(hex).unwrap_or_default();
        assert_eq!(theirs["method"], row.method);
        assert_eq!(theirs["url"], row.url);
        assert_eq!(theirs["status"], json!(row.status));
        assert_eq!(theirs["started_at"], row.started_at.0 / 1000);
        assert_eq!(theirs["request"], fields(&record.detail.request.fields));
        assert_eq!(found("request_body"), body(&record.request_body));
        if let Some(response) = &record.detail.response {
            assert_eq!(theirs["response"], fields(&response.fields));
        }
        assert_eq!(found("response_body"), body(&record.response_body));
        assert_eq!(theirs["messages"], messages(record));
        let error = row.error.as_ref().map(|error| &*error.text);
        assert_eq!(theirs["error"].as_str(), error);
    }
    let kinds: Vec<FlowKind> = ours.iter().map(|record| record.detail.row.kind).collect();
    assert_eq!(kinds[3], FlowKind::WebSocket);
    assert_eq!(ours[3].messages.len(), 2);
}

#[test]
fn mitmproxy_reads_our_har() {
    let records = all_sorts();
    let read = read_by_mitmproxy("flows.har", &written(Format::Har, &records));
    let kept: Vec<&FlowRecord> = records
        .iter()
        .filter(|record| record.detail.row.kind != FlowKind::Tunnel)
        .collect();
    assert_eq!(read.len(), kept.len());
    for (read, record) in read.iter().zip(kept) {
        let row = &record.detail.row;
        assert_eq!(read["method"], row.method);
        if row.path != "*" {
            // The URL of a HAR is one by its standard.
            assert_eq!(read["url"], url(record).replace('é', "%C3%A9"));
        }
        assert_eq!(read["started_at"], row.started_at.0 / 1000);
        // Of itself it tells the host of the URL, and the length of what it takes for a body.
        let told = |fields: &Value| -> Vec<Value> {
            let mut fields = fields.as_array().unwrap().clone();
            fields.retain(|field| {
                let name = field[0].as_str().unwrap().to_ascii_lowercase();
                !["host", "content-length"].contains(&&*name)
            });
            fields
        };
        let ours = fields(&record.detail.request.fields);
        assert_eq!(told(&read["request"]), told(&ours));
        let body = record.request_body.as_deref().map(hex);
        assert_eq!(
            read["request_body"].as_str().unwrap_or_default(),
            body.unwrap_or_default()
        );
        assert_eq!(read["status"], json!(row.status.unwrap_or_default()));
    }
}

#[test]
fn our_har_is_what_its_schema_demands() {
    let records = all_sorts();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flows.har");
    std::fs::write(&file, written(Format::Har, &records)).unwrap();
    let validator = target("har-validator");
    target("har-validator/node_modules/har-validator");
    let mut node = Command::new("node");
    let valid = node.args(["-e", VALIDATE]).arg(validator).arg(&file);
    assert_eq!(printed(valid), format!("{} entries\n", records.len() - 1));
}
