//! Reads a HAR entry by entry, so that memory holds one.

use std::fmt;
use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use traffic::Timestamp;

use crate::StreamMessage;
use crate::formats::draft::{Draft, DraftMessage, Url, at_seconds, length, message, version};
use crate::formats::opcode::kind;
use crate::formats::source::{Budget, Source};
use crate::formats::{Each, Found, Import, Place, ReadError};

/// Reads the entries of a file. What was read before it is damaged was given out.
pub(in crate::formats) fn read<R: Read>(
    source: &mut Source<R>,
    import: &mut Import,
    each: &mut Each<'_>,
) -> Result<(), ReadError> {
    let mut reading = Reading {
        budget: source.budget(),
        import,
        each,
        number: 0,
        has_entries: false,
        refused: None,
    };
    let mut json = serde_json::Deserializer::from_reader(source);
    let outcome = Level::File.deserialize_in(&mut reading, &mut json);
    if let Some(error) = reading.refused {
        return Err(error);
    }
    match outcome {
        Ok(()) if reading.has_entries => Ok(()),
        Ok(()) => Err(ReadError::Damaged {
            place: Place::Line(1),
            what: "it has no log with entries, as a HAR has".to_owned(),
        }),
        Err(error) => Err(read_error(&error, reading.number)),
    }
}

fn read_error(error: &serde_json::Error, entry: u64) -> ReadError {
    if error.io_error_kind() == Some(std::io::ErrorKind::FileTooLarge) {
        return ReadError::TooLarge {
            place: Place::Entry(entry + 1),
        };
    }
    ReadError::Damaged {
        place: Place::Line(length(error.line())),
        what: match error.is_eof() {
            true => "the file ends within an entry".to_owned(),
            false => error.to_string(),
        },
    }
}

struct Reading<'r, 'e> {
    budget: Budget,
    import: &'r mut Import,
    each: &'r mut Each<'e>,
    /// Entries so far.
    number: u64,
    has_entries: bool,
    /// What the taker of the flows said.
    refused: Option<ReadError>,
}

/// How deep the reader stands.
#[derive(Clone, Copy)]
enum Level {
    File,
    Log,
    Entries,
}

impl Level {
    fn deserialize_in<'de, D: serde::Deserializer<'de>>(
        self,
        reading: &mut Reading<'_, '_>,
        json: D,
    ) -> Result<(), D::Error> {
        let seed = Seed {
            level: self,
            reading,
        };
        seed.deserialize(json)
    }
}

struct Seed<'s, 'r, 'e> {
    level: Level,
    reading: &'s mut Reading<'r, 'e>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.level {
            Level::File | Level::Log => json.deserialize_map(self),
            Level::Entries => json.deserialize_seq(self),
        }
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.level {
            Level::File => "an object with a log",
            Level::Log => "a log with entries",
            Level::Entries => "a list of entries",
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (wanted, inner) = match self.level {
            Level::File => ("log", Level::Log),
            Level::Log | Level::Entries => ("entries", Level::Entries),
        };
        while let Some(name) = map.next_key::<String>()? {
            if name == wanted {
                map.next_value_seed(Seed {
                    level: inner,
                    reading: self.reading,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let reading = self.reading;
        reading.has_entries = true;
        reading.budget.begin();
        while let Some(entry) = entries.next_element::<Value>()? {
            reading.number += 1;
            let found = match draft(&entry) {
                Ok(draft) => Found::Flow(Box::new(draft.record(reading.import))),
                Err(what) => Found::LeftOut {
                    place: Place::Entry(reading.number),
                    what,
                },
            };
            if let Err(error) = (reading.each)(found) {
                reading.refused = Some(error);
                return Err(A::Error::custom("stopped"));
            }
            reading.budget.begin();
        }
        Ok(())
    }
}

fn draft(entry: &Value) -> Result<Draft, String> {
    let request = &entry["request"];
    let response = &entry["response"];
    let asked = text(&entry["_oriel"], "url");
    let url = asked
        .or_else(|| text(request, "url"))
        .ok_or("it has no URL")?;
    let started_at = text(entry, "startedDateTime")
        .and_then(|time| time.parse::<jiff::Timestamp>().ok())
        .map(|time| Timestamp(time.as_microsecond()))
        .ok_or("it has no time")?;
    let moments = Moments::new(entry, started_at);
    let status = response["status"]
        .as_u64()
        .and_then(|status| u16::try_from(status).ok());
    let status = status.filter(|status| *status > 0);
    let messages = messages(entry);
    let is_socket = url.starts_with("ws:") || url.starts_with("wss:");
    let own = &entry["_oriel"];
    let error = own["error"]["message"]
        .as_str()
        .or_else(|| response["_error"].as_str())
        .filter(|error| !error.is_empty());
    Ok(Draft {
        method: text(request, "method")
            .ok_or("it has no method")?
            .to_owned(),
        url: Url::parse(url).ok_or_else(|| format!("its URL is none of HTTP: {}", cut(url)))?,
        request: request_of(request, response)?,
        response: match status {
            Some(status) => {
                let reason = text(response, "statusText").unwrap_or_default();
                Some((status, reason.to_owned(), response_of(response)?))
            }
            None => None,
        },
        started_at,
        request_sent_at: moments.sent_at,
        response_started_at: moments.first_byte_at.filter(|_| status.is_some()),
        ended_at: moments.ended_at,
        error: error.map(str::to_owned),
        client: None,
        upstream: None,
        is_websocket: is_socket || entry["_resourceType"] == "websocket",
        messages,
        note: text(entry, "comment")
            .filter(|note| !note.is_empty())
            .map(str::to_owned),
        tags: texts(&own["tags"]),
    })
}

fn request_of(request: &Value, response: &Value) -> Result<DraftMessage, String> {
    let data = &request["postData"];
    let body = match text(data, "text") {
        Some(text) => {
            let encoding = data["_encoding"]
                .as_str()
                .or_else(|| data["encoding"].as_str());
            Some(bytes(text, encoding, "request")?)
        }
        None => form(&data["params"]),
    };
    let name = text(request, "httpVersion").unwrap_or_default();
    // Chrome leaves it empty for some; those of one exchange are mostly the same.
    let name = match name {
        "" => text(response, "httpVersion").unwrap_or_default(),
        name => name,
    };
    Ok(DraftMessage {
        version: version(name),
        fields: fields(&request["headers"], body.is_some()),
        trailers: Vec::new(),
        is_cut: is_cut(request, body.as_ref()),
        body_bytes: None,
        body,
    })
}

fn response_of(response: &Value) -> Result<DraftMessage, String> {
    let content = &response["content"];
    let body = match text(content, "text") {
        Some(text) => Some(bytes(text, content["encoding"].as_str(), "response")?),
        None => None,
    };
    let has_content = content["size"].as_i64().is_some_and(|size| size > 0);
    Ok(DraftMessage {
        version: version(text(response, "httpVersion").unwrap_or_default()),
        fields: fields(&response["headers"], body.is_some()),
        trailers: Vec::new(),
        is_cut: body.is_none() && has_content,
        body_bytes: match body {
            Some(_) => None,
            None => content["size"].as_u64(),
        },
        body,
    })
}

/// Whether the file says that a body was there which it does not have.
fn is_cut(message: &Value, body: Option<&Vec<u8>>) -> bool {
    body.is_none() && message["bodySize"].as_i64().is_some_and(|size| size > 0)
}

/// The bytes of a text.
fn bytes(text: &str, encoding: Option<&str>, message: &str) -> Result<Vec<u8>, String> {
    match encoding {
        Some("base64") => BASE64
            .decode(text.trim())
            .map_err(|_error| format!("the body of its {message} is no base64")),
        _ => Ok(text.as_bytes().to_vec()),
    }
}

/// A form that the file has in parts only.
fn form(params: &Value) -> Option<Vec<u8>> {
    let params = params.as_array().filter(|params| !params.is_empty())?;
    let pair = |param: &Value| {
        let name = text(param, "name").unwrap_or_default();
        format!("{name}={}", text(param, "value").unwrap_or_default())
    };
    let pairs: Vec<String> = params.iter().map(pair).collect();
    Some(pairs.join("&").into_bytes())
}

/// The fields. A body that is there is in no content coding any more.
fn fields(headers: &Value, is_decoded: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let headers = headers.as_array().map(Vec::as_slice).unwrap_or_default();
    let field = |header: &Value| {
        let name = text(header, "name")?;
        let value = text(header, "value")?;
        let is_coding = name.eq_ignore_ascii_case("content-encoding");
        (!(is_decoded && is_coding)).then(|| (name.into(), value.into()))
    };
    headers.iter().filter_map(field).collect()
}

fn messages(entry: &Value) -> Vec<StreamMessage> {
    let items = entry["_webSocketMessages"].as_array();
    let read = |(position, item): (usize, &Value)| {
        let kind = kind(item["opcode"].as_i64()?)?;
        let data = text(item, "data")?;
        let payload = match kind {
            "text" => data.as_bytes().to_vec(),
            // Chrome writes control frames as text, others do not.
            _ => BASE64
                .decode(data)
                .unwrap_or_else(|_| data.as_bytes().to_vec()),
        };
        let at = at_seconds(item["time"].as_f64()?);
        let is_from_client = item["type"] == "send";
        Some(message(position, is_from_client, kind, at, payload))
    };
    let items = items.map(Vec::as_slice).unwrap_or_default();
    items.iter().enumerate().filter_map(read).collect()
}

/// Moments from the lengths of the parts.
struct Moments {
    sent_at: Option<Timestamp>,
    first_byte_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

impl Moments {
    fn new(entry: &Value, start: Timestamp) -> Self {
        let timings = &entry["timings"];
        let part = |name: &str| timings[name].as_f64().filter(|part| *part > 0.0);
        let after = |millis: f64| Timestamp(start.0.saturating_add(at_seconds(millis / 1e3).0));
        let before = ["blocked", "dns", "connect", "send"];
        let sent: f64 = before.into_iter().filter_map(part).sum();
        let wait = part("wait").unwrap_or(0.0);
        let whole = entry["time"].as_f64().filter(|time| *time >= 0.0);
        let is_known = timings.is_object();
        Self {
            sent_at: is_known.then(|| after(sent)),
            first_byte_at: is_known.then(|| after(sent + wait)),
            ended_at: whole.map(after),
        }
    }
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value[name].as_str()
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = items.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// The beginning of a text, for a message.
fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
