//! `oriel man`: manual pages, made from the same definition that the command line is parsed by.

use std::path::Path;

use clap::CommandFactory;

use crate::args::Arguments;
use crate::authority::unwritable;
use crate::config::keys::{KEYS, OTHER_VARIABLES};
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{print_bytes, print_json};
use crate::problem::Problem;
use traffic::spelling::nearest;

pub(crate) fn run(
    context: &Context,
    page: Option<&str>,
    out: Option<&Path>,
) -> Result<Exit, Problem> {
    let pages = pages();
    if let Some(folder) = out {
        write_all(folder, &pages)?;
        if context.json() {
            let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
            print_json(&serde_json::json!({
                "schema": "oriel.man.pages/1",
                "folder": folder,
                "items": names,
            }))?;
        }
        return Ok(Exit::Success);
    }
    let wanted = match page {
        Some(name) => format!("oriel-{}", name.trim_start_matches("oriel-")),
        None => "oriel".to_owned(),
    };
    let Some((_, text)) = pages.iter().find(|(name, _)| *name == wanted) else {
        return Err(no_page(&wanted, &pages));
    };
    match context.json() {
        true => print_json(&serde_json::json!({
            "schema": "oriel.man/1",
            "page": wanted,
            "text": String::from_utf8_lossy(text),
        }))?,
        false => print_bytes(text)?,
    }
    Ok(Exit::Success)
}

/// Every page: its name and its text.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut command = Arguments::command();
    command.build();
    let mut pages = Vec::new();
    push_pages(&mut pages, "oriel", &command);
    pages
}

fn push_pages(pages: &mut Vec<(String, Vec<u8>)>, name: &str, command: &clap::Command) {
    let title = command.clone().display_name(name.to_owned());
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _infallible = clap_mangen::Man::new(title).render(&mut text);
    if name == "oriel" {
        text.extend(environment_section().into_bytes());
        text.extend_from_slice(EXIT_STATUS.as_bytes());
    }
    pages.push((name.to_owned(), text));
    for below in command
        .get_subcommands()
        .filter(|below| below.get_name() != "help")
    {
        push_pages(pages, &format!("{name}-{}", below.get_name()), below);
    }
}

fn environment_section() -> String {
    let mut text = ".SH ENVIRONMENT\n".to_owned();
    let settings = KEYS.iter().map(|key| {
        let about = format!("{} ({})", key.about, key.path);
        (key.variables.join(", "), about)
    });
    let others = OTHER_VARIABLES
        .iter()
        .map(|(name, about)| ((*name).to_owned(), (*about).to_owned()));
    for (names, about) in settings.chain(others) {
        text.push_str(&format!(
            ".TP\n\\fB{}\\fR\n{}\n",
            roff(&names),
            roff(&about)
        ));
    }
    text
}

/// A dash is a hyphen unless it is escaped, and a line must not begin with a control character.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

pub(crate) const EXIT_STATUS: &str = r".SH EXIT STATUS
.TP
0
success; a list may be empty
.TP
1
it worked, and the answer is no (config check)
.TP
2
wrong usage, or a wrong setting
.TP
3
the service does not run (status)
.TP
4
a permission or credentials are missing
.TP
5
no such flow or run, or more than one
.TP
6
busy: a port in use, a locked database
.TP
7
the store failed
.TP
8
the network failed
.TP
70
a mistake in oriel
.TP
99
run only: the command succeeded, and a condition of --fail-on held
.TP
125, 126, 127
run only: oriel failed before the command, or capturing broke in a strict run; it cannot be
executed; it was not found
.TP
128+n
run only: the command died of signal n
.TP
other
run only: the code of the command
";

fn write_all(folder: &Path, pages: &[(String, Vec<u8>)]) -> Result<(), Problem> {
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    for (name, text) in pages {
        let path = folder.join(format!("{name}.1"));
        std::fs::write(&path, text).map_err(|error| unwritable(&path, &error))?;
    }
    Ok(())
}

fn no_page(wanted: &str, pages: &[(String, Vec<u8>)]) -> Problem {
    let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
    let problem = Problem::new("ORL0001", Exit::Usage, format!("there is no page {wanted}"));
    match nearest(wanted, names) {
        Some(name) => problem.fix(format!("oriel man {}", name.trim_start_matches("oriel-"))),
        None => problem.fix("oriel man"),
    }
}
