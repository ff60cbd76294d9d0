//! `oriel stop`: the service ends in order, with all that it saw in the record. One that does not is
//! killed once its time is over.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::args::Stop;
use crate::context::Context;
use crate::exit::Exit;
use crate::limits::{KILL_AFTER, STATUS_TIMEOUT, STOP_FLUSH};
use crate::output::{print, print_json, say_line};
use crate::problem::Problem;
use crate::service::lock::{holder, wait_until_free};
use crate::service::{Place, ask};
use crate::settings::Purpose;
use crate::terminal::Glyph;

pub(crate) fn run(context: &Context, arguments: &Stop) -> Result<Exit, Problem> {
    let place = Place::of(&context.paths);
    let Some(pid) = holder(&place)? else {
        return tell(context, None, Ended::NotThere);
    };
    let drain = match (arguments.now, arguments.drain) {
        (true, _) => Some(Duration::ZERO),
        (false, drain) => drain.map(|drain| drain.0),
    };
    let target = match drain {
        Some(drain) => format!("/stop?drain_ms={}", drain.as_millis()),
        None => "/stop".to_owned(),
    };
    let asked = ask::order(&place, &target, STATUS_TIMEOUT);
    let flush = match asked {
        Ok(_) => STOP_FLUSH,
        // It answers nobody, so there is little hope that it stores anything.
        Err(_) => {
            signal(&place, pid, Signal::TERM)?;
            KILL_AFTER
        }
    };
    let patience = match drain {
        Some(drain) => drain,
        None => drain_of_settings(context),
    };
    if wait_until_free(&place, patience.saturating_add(flush))? {
        return tell(context, Some(pid), Ended::InOrder);
    }
    signal(&place, pid, Signal::KILL)?;
    match wait_until_free(&place, KILL_AFTER)? {
        true => tell(context, Some(pid), Ended::Killed),
        false => {
            let what = format!("the service (pid {pid}) cannot be ended");
            Err(Problem::new("ORL0902", Exit::Busy, what)
                .why("it got SIGKILL and is still there: it waits for a disk, most likely"))
        }
    }
}

/// The service may have read other settings; who asks for more time says so.
fn drain_of_settings(context: &Context) -> Duration {
    let settings = context.settings(Purpose::Serve, crate::config::layer::Layer::default());
    match settings {
        Ok(settings) => settings.timeout_drain.value.0,
        Err(_) => proxy::Timeouts::default().drain,
    }
}

/// Sends a signal to the holder of the lock. That it holds the lock is looked at right before, so
/// that a process that has its number by now is left alone.
fn signal(place: &Place, pid: u32, signal: Signal) -> Result<(), Problem> {
    if holder(place)? != Some(pid) {
        return Ok(());
    }
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let sent = process.map(|process| kill_process(process, signal));
    match sent {
        Some(Err(error)) if error != rustix::io::Errno::SRCH => {
            let what = format!("cannot send a signal to the service (pid {pid})");
            Err(Problem::new("ORL0902", Exit::Permission, what).why(error.to_string()))
        }
        _ => Ok(()),
    }
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    NotThere,
    InOrder,
    Killed,
}

fn tell(context: &Context, pid: Option<u32>, ended: Ended) -> Result<Exit, Problem> {
    if ended == Ended::Killed {
        say_line("oriel: it did not end in time and was killed; what it had not stored is lost");
    }
    if context.json() {
        print_json(&serde_json::json!({
            "schema": "oriel.stop/1",
            "pid": pid,
            "was_running": ended != Ended::NotThere,
            "killed": ended == Ended::Killed,
        }))?;
        return Ok(Exit::Success);
    }
    if context.global.quiet {
        return Ok(Exit::Success);
    }
    let pen = context.terminal.stdout.pen;
    let mark = pen.glyph(Glyph::Ok);
    print(&match pid {
        Some(pid) => format!("{mark} oriel stopped (pid {pid})\n"),
        None => format!("{mark} oriel does not run\n"),
    })?;
    Ok(Exit::Success)
}
