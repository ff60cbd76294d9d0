//! How values of records stand in JSON that is read back: times as RFC 3339 in UTC with microseconds, ids
//! and words as texts, bytes as text where they are UTF-8 and else in base64.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use traffic::Timestamp;
use traffic::rules::redact::Redaction;

use crate::json::exact_rfc3339;
use crate::{FlowRef, RunId, SessionMethod, TrafficType};

/// Bytes in JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Plain<'a> {
    Text(Cow<'a, str>),
    Base64(Cow<'a, str>),
}

/// A time.
pub(crate) mod time {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&exact_rfc3339(*at))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        parse_time(&text).map_err(D::Error::custom)
    }
}

/// A time that may be absent.
pub(crate) mod some_time {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        at: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(exact_rfc3339).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let at = text.map(|text| parse_time(&text)).transpose();
        at.map_err(D::Error::custom)
    }
}

/// Bytes.
pub(crate) mod bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        Plain::of(bytes).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Plain::deserialize(from)?.bytes().map_err(D::Error::custom)
    }
}

/// Bytes that may be absent.
pub(crate) mod some_bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        bytes: &Option<Cow<'_, [u8]>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_deref().map(Plain::of).serialize(to)
    }

    pub(crate) fn deserialize<'de, 'a, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Cow<'a, [u8]>>, D::Error> {
        let plain = Option::<Plain<'_>>::deserialize(from)?;
        let bytes = plain.map(Plain::bytes).transpose();
        Ok(bytes.map_err(D::Error::custom)?.map(Cow::Owned))
    }
}

/// How much was masked.
pub(crate) mod redaction {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(of: &Redaction, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(of.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Redaction, D::Error> {
        match &*Cow::<'de, str>::deserialize(from)? {
            "basic" => Ok(Redaction::Basic),
            "none" => Ok(Redaction::None),
            other => Err(D::Error::custom(format!(
                "{other:?} says not what is masked"
            ))),
        }
    }
}

/// What a flow is for.
pub(crate) mod traffic_type {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(of: &TrafficType, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(of.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TrafficType, D::Error> {
        Ok(TrafficType::from_name(&Cow::<'de, str>::deserialize(from)?))
    }
}

/// How a session is known.
pub(crate) mod session_method {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(of: &SessionMethod, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(of.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<SessionMethod, D::Error> {
        let name = Cow::<'de, str>::deserialize(from)?;
        let unknown = || D::Error::custom(format!("{name:?} says not how a session is known"));
        SessionMethod::from_name(&name).ok_or_else(unknown)
    }
}

impl<'a> Plain<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(Cow::Borrowed(text)),
            Err(_) => Self::Base64(Cow::Owned(BASE64.encode(bytes))),
        }
    }

    fn bytes(self) -> Result<Vec<u8>, base64::DecodeError> {
        match self {
            Self::Text(text) => Ok(text.into_owned().into_bytes()),
            Self::Base64(text) => BASE64.decode(&*text),
        }
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => Ok(Timestamp(at.as_microsecond())),
        Err(error) => Err(format!("{text:?} is no time: {error}")),
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Serialize for FlowRef {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FlowRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}
