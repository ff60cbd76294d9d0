//! Answers that stream, message by message.

use std::io::{Read, Write};

use bytes::Bytes;
use oriel_testbed::client::Request;

use crate::{NAME, start_http, start_http2};

async fn body_of(path: &str) -> (Option<String>, Vec<u8>) {
    let (_upstream, mut client) = start_http().await;
    let response = client
        .request(&Request::get(path).host(NAME))
        .await
        .unwrap();
    assert_eq!(response.head.status, 200, "{path}");
    let coding = response.head.headers.get("content-encoding");
    (coding.map(str::to_owned), response.body.kept.to_vec())
}

fn decode(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        "gzip" => {
            let mut decoder = flate2::write::GzDecoder::new(&mut plain);
            decoder.write_all(body).unwrap();
            decoder.finish().unwrap();
        }
        "deflate" => {
            let mut decoder = flate2::write::ZlibDecoder::new(&mut plain);
            decoder.write_all(body).unwrap();
            decoder.finish().unwrap();
        }
        "br" => {
            let mut decoder = brotli::Decompressor::new(body, 4096);
            decoder.read_to_end(&mut plain).unwrap();
        }
        _ => plain = zstd::decode_all(body).unwrap(),
    }
    plain
}

#[tokio::test]
async fn events_end_their_lines_as_asked() {
    for (ending, line) in [("lf", "\n"), ("cr", "\r"), ("crlf", "\r\n")] {
        let (_, body) = body_of(&format!("/sse?events=2&ending={ending}")).await;
        let expected = "id: 0|data: {\"index\":0}||id: 1|data: {\"index\":1}||";
        assert_eq!(
            String::from_utf8(body).unwrap(),
            expected.replace('|', line)
        );
    }
}

#[tokio::test]
async fn streams_come_in_the_coding_asked_for() {
    let (_, plain) = body_of("/ndjson?events=50").await;
    assert!(plain.ends_with(b"{\"index\":48}\n{\"index\":49}\n"));
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let (named, body) = body_of(&format!("/ndjson?events=50&coding={coding}")).await;
        assert_eq!(named.as_deref(), Some(coding));
        assert_eq!(decode(coding, &body), plain, "{coding}");
    }
}

#[tokio::test]
async fn event_stream_messages_have_their_lengths_and_checksums() {
    let (_, body) = body_of("/eventstream?events=3").await;
    let mut rest = &body[..];
    for index in 0..3 {
        let total = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let (message, after) = rest.split_at(total);
        rest = after;
        let (covered, checksum) = message.split_at(total - 4);
        let mut expected = flate2::Crc::new();
        expected.update(covered);
        assert_eq!(checksum, expected.sum().to_be_bytes());
        assert!(covered.ends_with(format!("{{\"index\":{index}}}").as_bytes()));
    }
    assert!(rest.is_empty());
}

#[tokio::test]
async fn grpc_messages_are_echoed_with_trailers() {
    let (_upstream, client) = start_http2().await;
    let messages = b"\0\0\0\0\x03one\0\0\0\0\0\x01\0\0\0\x03two";
    let request = http::Request::post(format!("https://{NAME}/grpc?copies=2"))
        .header("content-type", "application/grpc")
        .header("grpc-encoding", "gzip")
        .body(Bytes::from_static(messages))
        .unwrap();
    let response = client.request(request).await.unwrap();
    let expected =
        b"\0\0\0\0\x03one\0\0\0\0\x03one\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x03two\x01\0\0\0\x03two";
    assert_eq!(response.body.kept, &expected[..]);
    assert_eq!(response.body.trailers.get("grpc-status"), Some("0"));
    assert_eq!(response.head.headers.get("grpc-encoding"), Some("gzip"));
}
