//! The archive that flows are copied to: which one, whose flows they are, how copying goes.

use serde_json::{Value, json};
use store::json::rfc3339;
use store::{Archive, Location, Origin, Shipper, ShipperOptions, ShipperState, ShipperStatus};

use crate::config::database_variable::DATABASE_URL;
use crate::config::layer;
use crate::config::values::ArchiveChoice;
use crate::exit::Exit;
use crate::limits::ARCHIVE_STOP;
use crate::paths::database;
use crate::problem::Problem;
use crate::settings::Settings;
use crate::store_problem::store_problem;

/// The archive of the settings.
pub(crate) fn of(settings: &Settings) -> Option<&Location> {
    match &settings.archive.value {
        ArchiveChoice::Local => None,
        ArchiveChoice::At(location) => Some(location),
    }
}

/// Where flows are looked for: in the archive, if there is one. What DATABASE_URL names is written to
/// by a service and not read for that: it may be there for any program.
pub(crate) fn to_read(settings: &Settings) -> Location {
    let is_everybodys = settings.archive.origin == layer::Origin::Variable(DATABASE_URL);
    match of(settings) {
        Some(location) if !is_everybodys => location.clone(),
        _ => Location::File(database(&settings.data_folder.value)),
    }
}

/// Opens an archive to change what is in it; `None` if nothing was ever stored there.
pub(crate) fn open(location: &Location) -> Result<Option<Box<dyn Archive>>, Problem> {
    let problem = |error| store_problem(&error);
    let mut archive = location.open_archive().map_err(problem)?;
    let status = archive.status().map_err(problem)?;
    match status.schema {
        0 => Ok(None),
        schema if schema < status.known => {
            let what = format!("the tables of {location} are those of an older oriel");
            Err(Problem::new("ORL0713", Exit::Storage, what)
                .why(format!("they have schema {schema} of {}", status.known))
                .fix("oriel db migrate"))
        }
        _ => Ok(Some(archive)),
    }
}

/// Starts to copy, if there is an archive.
pub(crate) fn start(settings: &Settings) -> Result<Option<Shipper>, Problem> {
    let Some(archive) = of(settings) else {
        return Ok(None);
    };
    let shipper = Shipper::start(ShipperOptions {
        file: database(&settings.data_folder.value),
        archive: archive.clone(),
        origin: Origin {
            instance: settings.instance.value.clone().or_else(machine),
            user: settings.user.value.clone(),
            tags: settings.tags.value.clone(),
        },
    });
    shipper.map(Some).map_err(|error| store_problem(&error))
}

/// The name of this machine.
fn machine() -> Option<String> {
    let node = rustix::system::uname();
    let name = node.nodename().to_string_lossy();
    (!name.is_empty()).then(|| name.into_owned())
}

/// Copies what is left, and says if that does not go.
pub(crate) fn stop(shipper: Shipper) {
    let status = shipper.stop(ARCHIVE_STOP);
    if status.depth > 0 {
        tracing::warn!(
            archive = status.archive,
            flows = status.depth,
            error = status.last_error.as_ref().map(|(_, error)| error.as_str()),
            "flows wait in the file of this machine until an oriel can copy them"
        );
    }
}

/// What `/status` tells.
pub(crate) fn to_json(status: &ShipperStatus) -> Value {
    let error = status.last_error.as_ref();
    json!({
        "url": status.archive,
        "state": status.state.as_str(),
        "waiting_flows": status.depth,
        "outbox_bytes": status.outbox_bytes,
        "copied_flows": status.copied,
        "refused_flows": status.refused,
        "unreadable_flows": status.unreadable,
        "acknowledged_at": status.acknowledged_at.map(rfc3339),
        "last_error": error.map(|(_, error)| error),
        "last_error_at": error.map(|(at, _)| rfc3339(*at)),
    })
}

/// What `/metrics` tells.
pub(crate) fn to_openmetrics(status: &ShipperStatus) -> String {
    let up = u8::from(!matches!(
        status.state,
        ShipperState::Failing | ShipperState::Starting
    ));
    format!(
        "# TYPE oriel_archive_up gauge\n\
         # HELP oriel_archive_up 1 if the archive took what was sent last.\n\
         oriel_archive_up {up}\n\
         # TYPE oriel_archive_waiting_flows gauge\n\
         # HELP oriel_archive_waiting_flows Flows that the archive does not have as they are now.\n\
         oriel_archive_waiting_flows {}\n\
         # TYPE oriel_archive_outbox_bytes gauge\n\
         # UNIT oriel_archive_outbox_bytes bytes\n\
         # HELP oriel_archive_outbox_bytes Size of the file that holds them.\n\
         oriel_archive_outbox_bytes {}\n\
         # TYPE oriel_archive_copied_flows counter\n\
         # HELP oriel_archive_copied_flows Flows copied, those that changed again.\n\
         oriel_archive_copied_flows_total {}\n\
         # TYPE oriel_archive_refused_flows counter\n\
         # HELP oriel_archive_refused_flows Flows that the archive refuses for what is in them.\n\
         oriel_archive_refused_flows_total {}\n\
         # TYPE oriel_archive_unreadable_flows counter\n\
         # HELP oriel_archive_unreadable_flows Flows of the file that cannot be read, and are not copied.\n\
         oriel_archive_unreadable_flows_total {}\n",
        status.depth, status.outbox_bytes, status.copied, status.refused, status.unreadable,
    )
}
