//! `oriel config`: what is set, where, and what is wrong with it.

mod set;

use std::path::Path;

use crate::args::ConfigCommand;
use crate::authority::{make_private_folder, unwritable};
use crate::config::file::ConfigFile;
use crate::config::keys;
use crate::config::layer::{Layer, Origin};
use crate::config::project;
use crate::config::read::read_named;
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::fields::unknown;
use crate::output::{print, print_json, print_line, say};
use crate::paths;
use crate::problem::Problem;
use crate::settings::{Purpose, Row, Settings, Sources};
use crate::terminal::{Colour, Glyph, Pen};
use crate::wiring::mistakes;

/// Items of a list that `config show` prints.
const LISTED_MAX: usize = 6;

pub(crate) fn run(context: &Context, command: &ConfigCommand) -> Result<Exit, Problem> {
    match command {
        ConfigCommand::Path => path(context),
        ConfigCommand::Show { effective, origin } => show(context, *effective, *origin),
        ConfigCommand::Get { key, origin } => get(context, key, *origin),
        ConfigCommand::Set { change, value } => set::set(context, change, value.as_deref()),
        ConfigCommand::Unset { key } => set::unset(context, key),
        ConfigCommand::Check { file } => check(context, file.as_deref()),
        ConfigCommand::Schema => schema(),
        ConfigCommand::Init => init(context),
    }
}

fn path(context: &Context) -> Result<Exit, Problem> {
    let settings = context.settings(Purpose::Serve, Layer::default())?;
    let data = settings.data_folder.value;
    let folder = |path: &Path| path.display().to_string();
    let mut rows = vec![
        ("config", folder(&context.paths.user_config)),
        ("system", folder(&context.paths.system_config)),
    ];
    if let Some(found) = project::find(&context.folder) {
        rows.push(("project", folder(&found)));
    }
    rows.push(("data", folder(&data)));
    rows.push(("database", folder(&paths::database(&data))));
    rows.push(("ca", folder(&paths::ca_folder(&data))));
    rows.push(("cache", folder(&context.paths.cache)));
    rows.push(("state", folder(&context.paths.state)));
    rows.push(("runtime", folder(&context.paths.runtime)));
    if context.json() {
        let mut document = serde_json::Map::new();
        document.insert("schema".to_owned(), "oriel.config.path/1".into());
        document.extend(
            rows.into_iter()
                .map(|(name, path)| (name.to_owned(), path.into())),
        );
        print_json(&document)?;
    } else {
        let lines = rows
            .iter()
            .map(|(name, path)| format!("{name:9}  {}\n", escape_line(path)));
        print(&lines.collect::<String>())?;
    }
    Ok(Exit::Success)
}

fn show(context: &Context, effective: bool, origin: bool) -> Result<Exit, Problem> {
    let settings = context.settings(Purpose::Serve, Layer::default())?;
    let rows: Vec<Row> = settings
        .rows()
        .into_iter()
        .filter(|row| effective || row.origin != Origin::Default)
        .collect();
    if context.json() {
        let items: Vec<_> = rows.iter().map(row_to_json).collect();
        let document = serde_json::json!({"schema": "oriel.config.show/1", "items": items});
        print_json(&document)?;
        return Ok(Exit::Success);
    }
    let widest = |text: fn(&Row) -> String| rows.iter().map(|row| text(row).len()).max();
    let name_width = widest(|row| row.path.to_owned()).unwrap_or_default();
    let value_width = widest(value_text).unwrap_or_default().min(40);
    let mut text = String::new();
    for row in &rows {
        let value = value_text(row);
        let value = escape_line(&value);
        let line = match origin {
            true => {
                let from = row.origin.to_string();
                let warning = warning(row, &settings);
                format!(
                    "{:name_width$}  {value:value_width$}  {}{warning}",
                    row.path,
                    escape_line(&from)
                )
            }
            false => format!("{:name_width$}  {value}", row.path),
        };
        text.push_str(line.trim_end());
        text.push('\n');
    }
    print(&text)?;
    Ok(Exit::Success)
}

/// Prints a value as it is, for a script: a text without quotes, all else as the config file has it.
fn get(context: &Context, name: &str, origin: bool) -> Result<Exit, Problem> {
    let settings = context.settings(Purpose::Serve, Layer::default())?;
    let rows = settings.rows();
    let Some(row) = rows.iter().find(|row| row.path == name) else {
        let known = rows.iter().map(|row| row.path);
        return Err(unknown("setting", name, known)
            .fix("oriel config show --effective      lists all settings"));
    };
    if context.json() {
        let mut document = row_to_json(row);
        document["schema"] = "oriel.config.get/1".into();
        print_json(&document)?;
        return Ok(Exit::Success);
    }
    let value = match &row.value {
        toml::Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let value = escape_line(&value);
    match origin {
        true => {
            let from = row.origin.to_string();
            print_line(&format!("{value}  {}", escape_line(&from)))?;
        }
        false => print_line(&value)?,
    }
    Ok(Exit::Success)
}

/// The value for people; a long list is cut, `--json` has it whole.
fn value_text(row: &Row) -> String {
    match &row.value {
        toml::Value::Array(items) if items.len() > LISTED_MAX => {
            let first: Vec<String> = items
                .iter()
                .take(LISTED_MAX)
                .map(ToString::to_string)
                .collect();
            format!(
                "[{}, … {} more]",
                first.join(", "),
                items.len() - LISTED_MAX
            )
        }
        value => value.to_string(),
    }
}

fn row_to_json(row: &Row) -> serde_json::Value {
    let key = keys::find(row.path);
    serde_json::json!({
        "key": row.path,
        "value": row.value,
        "origin": row.origin.to_string(),
        "about": key.map(|key| key.about),
        "variables": key.map(|key| key.variables),
        "flag": key.and_then(|key| key.flag),
    })
}

/// What a person should notice about a value.
fn warning(row: &Row, settings: &Settings) -> &'static str {
    match row.path {
        "proxy.listen" if !settings.listen.value.0.ip().is_loopback() => {
            "  ! reachable from the network"
        }
        "capture.redact" if row.value.as_str() == Some("none") => {
            "  ! credentials are stored as they came"
        }
        "upstream.danger_accept_invalid" if !settings.danger_accept_invalid.value.is_empty() => {
            "  ! certificates are not verified"
        }
        _ => "",
    }
}

fn check(context: &Context, file: Option<&Path>) -> Result<Exit, Problem> {
    let problems = match file {
        Some(path) => check_file(context, path),
        None => match context.settings_or_all_problems(Purpose::Serve, Layer::default()) {
            Ok(settings) => mistakes(&settings),
            Err(problems) => problems,
        },
    };
    for (name, meant) in keys::unknown_variables(context.environment.names()) {
        let meant = meant.map(|meant| format!("; did you mean {meant}?"));
        say(&format!(
            "warning: {} is no setting of oriel{}\n",
            escape_line(name),
            meant.unwrap_or_default()
        ));
    }
    if context.json() {
        let items: Vec<_> = problems.iter().map(Problem::document).collect();
        print_json(&serde_json::json!({
            "schema": "oriel.config.check/1",
            "ok": problems.is_empty(),
            "items": items,
        }))?;
    } else if problems.is_empty() {
        let pen = context.terminal.stdout.pen;
        print_line(&format!("{} no mistakes", pen.glyph(Glyph::Ok)))?;
    } else {
        let pen = context.terminal.stdout.pen;
        let found: String = problems
            .iter()
            .map(|problem| render(problem, pen))
            .collect();
        print(&found)?;
        let noun = if problems.len() == 1 {
            "problem"
        } else {
            "problems"
        };
        say(&format!(
            "{} {noun}. Nothing was changed.\n",
            problems.len()
        ));
    }
    Ok(match problems.is_empty() {
        true => Exit::Success,
        false => Exit::Negative,
    })
}

/// A named file may be a project's: then it may only tighten.
fn check_file(context: &Context, path: &Path) -> Vec<Problem> {
    if path.file_name().is_some_and(|name| name == project::NAME) {
        return project::read(path).problems;
    }
    let problems = read_named(path).problems;
    if !problems.is_empty() {
        return problems;
    }
    let sources = Sources {
        config: Some(path),
        ..context.sources()
    };
    // What is wrong elsewhere is not said of this file.
    let settings = Settings::load(&sources, Purpose::Serve, Layer::default());
    settings.map_or(Vec::new(), |settings| mistakes(&settings))
}

fn render(problem: &Problem, pen: Pen) -> String {
    let mark = pen.paint(Colour::Red, pen.glyph(Glyph::Failed));
    let Some(excerpt) = &problem.excerpt else {
        let why = problem
            .why
            .iter()
            .map(|why| format!("    {}\n", escape_line(why)));
        let what = escape_line(&problem.what);
        return format!(
            "{mark} {}  {what}\n{}",
            problem.code,
            why.collect::<String>()
        );
    };
    let position = excerpt.position();
    let head = format!(
        "{mark} {}   {}  {}\n",
        escape_line(&position),
        problem.code,
        escape_line(&problem.what)
    );
    head + &excerpt.render_line(pen)
}

fn schema() -> Result<Exit, Problem> {
    let schema = schemars::schema_for!(ConfigFile);
    let text =
        serde_json::to_string_pretty(&schema).map_err(|error| Problem::bug(error.to_string()))?;
    print_line(&text)?;
    Ok(Exit::Success)
}

fn init(context: &Context) -> Result<Exit, Problem> {
    let path = &context.paths.user_config;
    if let Some(folder) = path.parent() {
        make_private_folder(folder).map_err(|error| unwritable(folder, &error))?;
    }
    let mut file = match std::fs::File::create_new(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let what = format!("{} is there already", path.display());
            return Err(Problem::new("ORL0406", Exit::Negative, what)
                .why("it is never overwritten")
                .fix("oriel config show      what it sets")
                .fix("oriel config check     whether it is right"));
        }
        Err(error) => return Err(unwritable(path, &error)),
    };
    std::io::Write::write_all(&mut file, STARTER.as_bytes())
        .map_err(|error| unwritable(path, &error))?;
    let shown = path.display().to_string();
    match context.json() {
        true => print_json(&serde_json::json!({
            "schema": "oriel.config.init/1",
            "path": shown,
        }))?,
        false => print_line(&format!("wrote {}", escape_line(&shown)))?,
    }
    Ok(Exit::Success)
}

/// The file that `init` writes: everything in it is a comment, so that it changes nothing.
const STARTER: &str = r#"# The configuration of oriel. Every line below is a comment that shows a default.
# Check it: oriel config check      See what is in force: oriel config show --effective --origin

[proxy]
# listen = "127.0.0.1:6743"

[intercept]
# Hosts that `oriel serve` opens; in place of the known model APIs and agents.
# hosts = ["api.openai.com", "*.example.com"]
# Hosts that are never opened.
# bypass = []
# What happens to hosts on no list: "tunnel" or "block".
# unlisted = "tunnel"

[upstream]
# Certificates that are trusted besides the system's.
# ca_files = ["/etc/ssl/corporate.pem"]

[capture]
# Bytes kept of each body, from its start on; the wire is never cut.
# body_bytes_kept = "4MiB"
# Credentials that are masked before anything is stored: "basic" or "none".
# redact = "basic"
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::parse;

    #[test]
    fn the_starter_is_right_and_changes_nothing() {
        let file = parse(Path::new("config.toml"), STARTER.to_owned())
            .file
            .unwrap();
        assert!(file.spans.is_empty(), "{:?}", file.spans);
    }

    #[test]
    fn what_the_starter_shows_is_right_too() {
        let shown: String = STARTER
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let file = parse(Path::new("config.toml"), shown);
        assert!(file.problems.is_empty(), "{:?}", file.problems);
        let file = file.file.unwrap();
        assert_eq!(file.spans.len(), 7);
    }
}
