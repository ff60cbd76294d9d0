//! Entries of journals that an earlier oriel wrote. They have whole commands and texts in them, which
//! are passed over: what they say beyond that becomes an entry of today, which is looked at like any
//! other.

use serde_json::{Value, json};

use crate::trust_store::known::name_of;
use crate::trust_store::linux::Family;

pub(super) const SCHEMA: &str = "oriel.trust/1";

/// The entry of today that says the same; as it is where there is none.
pub(super) fn mapped(entry: &Value) -> Value {
    let mut mapped = entry.clone();
    if let (Some(change), Some(place)) = (change(entry), mapped.get_mut("change")) {
        *place = change;
    }
    mapped
}

fn change(entry: &Value) -> Option<Value> {
    let change = entry.get("change")?;
    let sha256 = entry.get("sha256")?.as_str()?;
    Some(match change.get("kind")?.as_str()? {
        "append" => {
            let ends_line = change.get("text")?.as_str()?.starts_with('\n');
            let (path, pem, name) = (change.get("path")?, change.get("pem")?, name_of(sha256)?);
            json!({"kind": "append", "path": path, "name": name, "pem": pem, "ends_line": ends_line})
        }
        "refresh" => {
            let family = Family::of_bundle(change.get("bundle")?.as_str()?)?;
            let (pem, name) = (change.get("pem")?, change.get("name")?);
            json!({"kind": "refresh", "family": family, "pem": pem, "name": name})
        }
        "command" => {
            let mut words = change.get("install")?.as_array()?.iter().rev();
            let (file, keychain) = (words.next()?, words.next()?.as_str()?);
            let home = keychain.split_once("/Library/").map(|(home, _)| home)?;
            let store = entry.get("store")?;
            json!({"kind": "keychain", "store": store, "home": home, "file": file, "sha256": sha256})
        }
        _ => return None,
    })
}
