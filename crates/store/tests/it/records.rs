//! What is recorded comes back.

use oriel_store::{FlowState, Message, Query};

use crate::script::{Place, START, Script};

#[test]
fn a_flow_comes_back_whole() {
    let place = Place::new();
    let script = Script::new(1);
    place.record(script.events());
    let reader = place.reader();
    let page = reader.flows(&Query::default()).unwrap();
    assert_eq!(page.rows.len(), 1);
    let detail = reader.flow(place.flow(1)).unwrap();
    assert_eq!(detail.row, page.rows[0]);
    let row = &detail.row;
    assert_eq!(row.state, FlowState::Completed);
    assert_eq!(row.method, "POST");
    assert_eq!(row.url, "https://api.example.com/v1/messages?a=1");
    assert_eq!(row.path, "/v1/messages");
    assert_eq!((row.status, row.port), (Some(200), 443));
    assert_eq!((row.request_bytes, row.response_bytes), (Some(9), Some(11)));
    assert_eq!(row.duration_ms, Some(0.8));
    assert_eq!(row.first_byte_ms, Some(0.4));
    assert_eq!(row.started_at.0, START + 1000);
    assert!(!row.truncated && row.error.is_none());
    let response = detail.response.unwrap();
    assert_eq!(response.start_line, "HTTP/1.1 200 OK");
    assert_eq!(response.fields[1], ("X-Two".to_owned(), "1".to_owned()));
    assert_eq!(response.fields[2], ("x-two".to_owned(), "2".to_owned()));
    let upstream = detail.upstream.unwrap();
    assert_eq!(upstream.address, "192.0.2.7:443");
    let certificate = upstream.tls.unwrap().certificate.unwrap();
    assert_eq!(certificate.sha256, "ab".repeat(32));
    assert_eq!(detail.client.unwrap().front, "connect");
    for (message, expected) in [
        (Message::Request, script.request_body()),
        (Message::Response, script.response_body()),
    ] {
        let body = reader.body(place.flow(1), message).unwrap().unwrap();
        assert_eq!(body.bytes, expected);
        assert!(!body.truncated);
    }
    place.store.close().unwrap();
}
