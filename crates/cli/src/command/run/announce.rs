//! What is said before the child starts, to people only.

use super::Job;
use crate::config::values::Unlisted;
use crate::escape::escape_line;
use crate::output::say_line;
use crate::quantity::plural;
use crate::settings::Settings;
use crate::terminal::Colour;
use crate::wiring::Recording;

impl Job<'_> {
    /// The start line.
    pub(super) fn announce(&self, recording: Option<&Recording>) {
        if !self.talks() {
            return;
        }
        let pen = self.context.terminal.stderr.pen;
        let session = match recording {
            Some(recording) => format!("{} {}", pen.arrow(), recording.run()),
            None => format!("{} nothing is stored (--no-capture)", pen.arrow()),
        };
        let opened = opened(self.settings);
        let name = escape_line(&self.program.name()).into_owned();
        say_line(&pen.paint(
            Colour::Dim,
            &format!("oriel  capturing {name} {session}   ({opened})"),
        ));
        if let Some(why) = recording.and_then(Recording::detour) {
            say_line(&format!(
                "oriel  flows wait in the spool: {}",
                escape_line(&why)
            ));
        }
    }

    /// Who looks for the requests of this command looks for this run first.
    pub(super) fn announce_elsewhere(&self, session: Option<&str>) {
        if let Some(session) = session.filter(|_| self.talks()) {
            say_line(&format!(
                "oriel  requests to the gateway are recorded by the service, in {session}"
            ));
        }
    }

    fn talks(&self) -> bool {
        self.context.terminal.stderr.is_terminal && !self.context.global.quiet
    }
}

/// What is opened, and what becomes of the rest.
fn opened(settings: &Settings) -> String {
    let rest = match settings.unlisted.value {
        Unlisted::Tunnel => "tunnelled",
        Unlisted::Block => "blocked",
    };
    let opened = match settings.hosts.value.as_slice() {
        [all] if all == "*" => "every host".to_owned(),
        hosts => format!("{}; rest {rest}", plural(hosts.len() as u64, "known host")),
    };
    match settings.bypass.value.len() {
        0 => format!("decrypting {opened}"),
        passed => format!(
            "decrypting {opened}; {} bypassed",
            plural(passed as u64, "host")
        ),
    }
}
