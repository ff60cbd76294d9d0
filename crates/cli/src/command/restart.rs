//! `oriel restart`: another process takes the place of the service, without a connection refused.

use std::time::Duration;

use crate::args::Restart;
use crate::command::status::{pid_of, places};
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::limits::{START_TIMEOUT, STATUS_TIMEOUT};
use crate::output::{print, print_json};
use crate::problem::Problem;
use crate::service::lock::holder;
use crate::service::{Place, ask};
use crate::terminal::Glyph;

pub(crate) fn run(context: &Context, arguments: &Restart) -> Result<Exit, Problem> {
    let place = Place::of(&context.paths);
    let Some(before) = holder(&place)? else {
        return Err(
            Problem::new("ORL0905", Exit::NotRunning, "oriel does not run").fix("oriel start"),
        );
    };
    let target = match arguments.drain {
        Some(drain) => format!("/restart?drain_ms={}", drain.0.as_millis()),
        None => "/restart".to_owned(),
    };
    let patience: Duration = START_TIMEOUT.saturating_add(STATUS_TIMEOUT);
    let reply = ask::order(&place, &target, patience).map_err(|error| {
        let what = format!("the service (pid {before}) does not answer");
        Problem::new("ORL0902", Exit::Busy, what)
            .why(error.to_string())
            .fix("oriel stop; oriel start")
    })?;
    if reply.status != 200 {
        return Err(Problem::of_json(&reply.body).unwrap_or_else(|| {
            let what = format!("the service answered {} to a restart", reply.status);
            Problem::new("ORL0902", Exit::Busy, what).fix("oriel stop; oriel start")
        }));
    }
    if context.json() {
        print_json(&reply.body)?;
        return Ok(Exit::Success);
    }
    let pen = context.terminal.stdout.pen;
    let (mark, pid) = (pen.glyph(Glyph::Ok), pid_of(&reply.body));
    let version = escape_line(reply.body["version"].as_str().unwrap_or_default());
    let mut text = format!(
        "{mark} oriel {version} restarted (pid {pid}; {before} goes when what it carries has ended)\n"
    );
    text.push_str(&places(&reply.body));
    print(&text)?;
    Ok(Exit::Success)
}
