//! oriel's own diagnostics: on stderr, or in the log of a detached service.

use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock::now;
use crate::config::values::LogFormat;
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::service::log_file::LogFile;
use crate::settings::Settings;

/// Writes times like everything else does: RFC 3339, UTC, milliseconds.
struct Clock;

impl FormatTime for Clock {
    fn format_time(
        &self,
        writer: &mut tracing_subscriber::fmt::format::Writer<'_>,
    ) -> std::fmt::Result {
        writer.write_str(&store::json::rfc3339(now()))
    }
}

/// Starts logging for the rest of the process. Global options win over the settings.
pub(crate) fn start(context: &Context, settings: &Settings) -> Result<(), Problem> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(context, settings)?)
        .with_timer(Clock)
        .with_writer(std::io::stderr)
        // A line that cannot be written would be told on stderr as well, and panic.
        .log_internal_errors(false)
        .with_ansi(context.terminal.stderr.is_terminal && !context.terminal.stderr.pen.ascii());
    let started = match settings.log_format.value {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Problem::bug(error.to_string()))
}

/// The same into a file. It holds JSON whatever the settings say, as `oriel logs` reads it.
pub(crate) fn start_in_file(
    context: &Context,
    settings: &Settings,
    file: Arc<LogFile>,
) -> Result<(), Problem> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(context, settings)?)
        .with_timer(Clock)
        .with_writer(file)
        .log_internal_errors(false)
        .json()
        .flatten_event(true);
    lines
        .try_init()
        .map_err(|error| Problem::bug(error.to_string()))
}

fn filter(context: &Context, settings: &Settings) -> Result<EnvFilter, Problem> {
    let level = match (context.global.quiet, context.global.verbose) {
        (true, _) => "error",
        (_, 0) => settings.log_level.value.as_str(),
        (_, 1) => "debug,h2=info,rustls=info",
        (_, _) => "trace",
    };
    EnvFilter::try_new(level).map_err(|error| {
        Problem::new(
            "ORL0403",
            Exit::Usage,
            format!("log.level cannot be read: {error}"),
        )
        .why(format!("it is set by: {}", settings.log_level.origin))
        .fix("a level is off, error, warn, info, debug or trace, or MODULE=LEVEL with commas")
    })
}
