//! Who does not trust an authority that has taken the place of another: the stores that the other
//! was installed in, and what has them trust the new one.

use std::path::{Path, PathBuf};

use proxy::Authority;
use serde_json::{Value, json};
use traffic::Timestamp;

use super::{day, hex};
use crate::escape::escape_line;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::trust_store::Store;
use crate::trust_store::journal::{Journal, Keeper};

/// What trusts the authority before and not the one in use.
#[derive(Clone, Debug)]
pub(super) struct Stale {
    subject: String,
    places: Vec<Place>,
    /// Until when it takes the new one's leaves all the same, as the old one has signed that.
    signed_until: Option<Timestamp>,
}

/// One store that the one before is installed in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    root: PathBuf,
    store: Store,
    /// Whether root has to install the new one.
    by_root: bool,
}

impl Stale {
    /// Looks up where the authority before was installed.
    pub(super) fn of(
        settings: &Settings,
        before: &Authority,
        signed_until: Option<Timestamp>,
    ) -> Result<Self, Problem> {
        let sha256 = hex(&before.sha256(), "").to_ascii_lowercase();
        let mut places: Vec<Place> = Vec::new();
        for entry in Journal::load(&settings.data_folder.value)?.entries {
            let place = Place {
                by_root: entry.origin.keeper == Keeper::Root || entry.store == Store::System,
                root: entry.root,
                store: entry.store,
            };
            if entry.sha256 == sha256 && !places.contains(&place) {
                places.push(place);
            }
        }
        Ok(Self {
            subject: before.subject().to_owned(),
            places,
            signed_until,
        })
    }

    /// The commands that install the new one.
    fn commands(&self, data: &Path) -> Vec<String> {
        let command = |place: &Place| {
            let (sudo, data) = match place.by_root {
                true => ("sudo ", format!(" --data {}", data.display())),
                false => ("", String::new()),
            };
            let root = match place.root == Path::new("/") {
                true => String::new(),
                false => format!(" --root {}", place.root.display()),
            };
            let store = place.store.name();
            format!("{sudo}oriel ca install --store {store}{root}{data}")
        };
        self.places.iter().map(command).collect()
    }

    pub(super) fn document(&self, data: &Path) -> Value {
        let places = self.places.iter().zip(self.commands(data));
        let places = places.map(|(place, command)| {
            json!({"root": place.root, "store": place.store, "command": command})
        });
        json!({
            "subject": self.subject,
            "signed_until": self.signed_until.map(store::json::rfc3339),
            "installed": places.collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub(super) fn text(&self, data: &Path) -> String {
        let subject = escape_line(&self.subject);
        let mut text = match self.signed_until {
            Some(until) => format!(
                "\n{subject} has signed this one: who trusts it alone takes certificates of this one \
                 until {}.\nInstall this one before, wherever that one is:\n",
                day(until)
            ),
            None => format!(
                "\nWho trusts {subject} alone does not take certificates of this one.\nInstall this \
                 one wherever that one is:\n"
            ),
        };
        for command in self.commands(data) {
            text.push_str(&format!("  {}\n", escape_line(&command)));
        }
        text.push_str(
            "  where it was put by hand (phones, images): http://oriel.proxy/ or oriel ca export\n",
        );
        text
    }
}
