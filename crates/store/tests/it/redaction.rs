//! Credentials never reach the disk, unless that was asked for.

use std::fs;

use bytes::Bytes;
use oriel_store::{Redaction, StoreOptions};
use traffic::{Event, FlowId, Head, Timestamp, Version};

use crate::script::{Place, START, Script, head, new_run};

const SECRET: &str = "SECRETsk-ant-0123456789";

/// A flow with a secret in every place that is masked.
fn secret_flow(flow: u64) -> Vec<Event> {
    let mut script = Script::new(flow);
    script.request = format!(
        "GET http://me:{SECRET}@api.example.com/v1?key={SECRET}&a=1&access_token={SECRET} HTTP/1.1\r\n\
         Authorization: Bearer {SECRET}\r\nproxy-authorization: Basic {SECRET}\r\nCookie: a={SECRET}\r\n\
         x-api-key: {SECRET}\r\nAPI-KEY: {SECRET}\r\nX-Goog-Api-Key: {SECRET}\r\n\
         Referer: https://x/?token={SECRET}\r\nAccept: */*\r\n\r\n"
    )
    .into_bytes();
    script.response = Some(
        format!("HTTP/1.1 302 Found\r\nSet-Cookie: s={SECRET}; Path=/\r\nLocation: /?token={SECRET}\r\n\r\n")
            .into_bytes(),
    );
    let mut events = script.events();
    let informational = Event::Informational {
        flow: FlowId(flow),
        at: Timestamp(START),
        head: head(format!("HTTP/1.1 103 Early Hints\r\nSet-Cookie: {SECRET}\r\n\r\n").as_bytes()),
    };
    events.insert(4, informational);
    let trailers = format!("Set-Cookie: {SECRET}\r\n\r\n");
    for event in &mut events {
        if let Event::ResponseEnded {
            trailers: place, ..
        } = event
        {
            let head = Head::trailers(Version::Http11, trailers.as_bytes());
            *place = Some(Box::new(head));
        }
    }
    events
}

/// Whether a file of the database holds the secret.
fn is_on_disk(place: &Place) -> bool {
    let mut files = 0;
    let mut found = false;
    for file in fs::read_dir(place.folder.path().join("data")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        files += 1;
        found |= bytes.windows(6).any(|window| window == b"SECRET");
    }
    assert_eq!(files, 3, "database, -wal and -shm");
    found
}

#[test]
fn no_secret_reaches_the_disk() {
    let place = Place::new();
    let mut run = new_run(None);
    run.argv
        .push("-HAuthorization: Bearer ".to_owned() + SECRET);
    let other = place.store.begin_run(run).unwrap();
    assert_eq!(
        place.reader().run(other).unwrap().argv[2],
        "-HAuthorization: [redacted:authorization:30]"
    );
    place.record(secret_flow(1));
    // One that is stored while it is open, and changed afterwards.
    let mut late = secret_flow(2);
    let end = late.split_off(late.len() - 1);
    place.record(late);
    place.flush();
    assert!(!is_on_disk(&place));
    place.record(end);
    place.flush();
    assert!(!is_on_disk(&place));
    let detail = place.reader().flow(place.flow(1)).unwrap();
    assert_eq!(
        detail.row.url,
        "https://api.example.com/v1?key=[redacted:key:23]&a=1&access_token=[redacted:access_token:23]"
    );
    assert_eq!(detail.row.redaction, Redaction::Basic);
    let authorization = (
        "Authorization".to_owned(),
        "[redacted:authorization:30]".to_owned(),
    );
    assert_eq!(detail.request.fields[0], authorization);
    assert_eq!(detail.request.fields[7].1, "*/*");
    assert_eq!(detail.informational.len(), 1);
    assert_eq!(detail.response_trailers.len(), 1);
}

#[test]
fn what_was_asked_for_is_kept_and_marked() {
    let place = Place::with(StoreOptions::new(Redaction::None));
    place.record(secret_flow(1));
    place.flush();
    assert!(is_on_disk(&place));
    let detail = place.reader().flow(place.flow(1)).unwrap();
    assert_eq!(detail.row.redaction, Redaction::None);
    assert_eq!(detail.request.fields[0].1, format!("Bearer {SECRET}"));
}

#[test]
fn a_body_is_not_touched() {
    let place = Place::new();
    let mut script = Script::new(1);
    script.request_body = vec![Bytes::from_static(b"key=1&token=2")];
    place.record(script.events());
    let body = place
        .reader()
        .body(place.flow(1), oriel_store::Message::Request);
    assert_eq!(body.unwrap().unwrap().bytes, b"key=1&token=2");
}
