//! Reads the command line; answers with help, or with what is wrong about it.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};

use crate::args::{Arguments, Command, Global};
use crate::command::{topics, version};
use crate::context::Context;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::output::{print, say, to_json};
use crate::problem::Problem;

/// What is said in place of running a command.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A help text or the version, for stdout.
    Text(String),
    /// The command line is wrong.
    Wrong(Problem),
}

/// The command, or what to answer instead.
pub(crate) fn parse(
    words: &[OsString],
    environment: &Environment,
) -> Result<Arguments, Box<Answer>> {
    let asks_short_help = match words {
        [] | [_] => true,
        [_, flag] => flag == "-h",
        _ => false,
    };
    if asks_short_help {
        return Err(Box::new(Answer::Text(SHORT_HELP.to_owned())));
    }
    if let Some(page) = asked_topic(words) {
        return Err(Box::new(page.map_or_else(Answer::Wrong, Answer::Text)));
    }
    let mut arguments = parsed(words).map_err(|error| {
        Box::new(match error.kind() {
            ErrorKind::DisplayVersion if wants_json(words, environment) => version_document(),
            _ => answer_to(&error, environment),
        })
    })?;
    let asks_json = asks_json(environment).map_err(|problem| Box::new(Answer::Wrong(problem)))?;
    arguments.global.json |= asks_json && !is_for_a_program(&arguments.command);
    Ok(arguments)
}

/// Whether what a command prints is meant for a shell, or for man, to read: a variable that is set for good must
/// not take it from them.
fn is_for_a_program(command: &Command) -> bool {
    matches!(
        command,
        Command::Env(_) | Command::Completions { .. } | Command::Man { .. }
    )
}

/// What ORIEL_OUTPUT asks for, which `--json` does for one command.
fn asks_json(environment: &Environment) -> Result<bool, Problem> {
    if !environment.is_set("ORIEL_OUTPUT") {
        return Ok(false);
    }
    match environment.text("ORIEL_OUTPUT") {
        Some("json") => Ok(true),
        Some("text" | "") => Ok(false),
        other => {
            let what = format!("ORIEL_OUTPUT has a wrong value: {:?}", other.unwrap_or("…"));
            Err(Problem::new("ORL0405", Exit::Usage, what)
                .why("it is json, as --json asks for, or text")
                .fix("unset ORIEL_OUTPUT"))
        }
    }
}

/// Global options that a value follows.
const WITH_VALUE: [&str; 3] = ["--color", "--config", "--timezone"];

/// The page of `oriel help TOPIC`, whatever global options stand around it.
fn asked_topic(words: &[OsString]) -> Option<Result<String, Problem>> {
    let mut named = Vec::new();
    let mut json = false;
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        let word = word.to_str()?;
        if WITH_VALUE.contains(&word) {
            rest.next()?;
        } else if word.starts_with('-') {
            json |= word == "--json";
        } else {
            named.push(word);
        }
    }
    let &["help", topic] = named.as_slice() else {
        return None;
    };
    let page = topics::page(topic)?;
    if !json {
        return Some(Ok(page));
    }
    let document = serde_json::json!({"schema": "oriel.help/1", "topic": topic, "text": page});
    Some(to_json(&document).map(|text| text + "\n"))
}

/// Gives the answer.
pub(crate) fn answer(answer: Answer, words: &[OsString], environment: Environment) -> Exit {
    match answer {
        Answer::Text(text) => match print(&text) {
            Ok(()) => Exit::Success,
            Err(problem) => problem.exit,
        },
        Answer::Wrong(problem) => {
            let json = wants_json(words, &environment);
            let context = Context::new(environment, Global::default());
            match json {
                true => say(&format!("{}\n", problem.to_json())),
                false => say(&problem.render(context.terminal.stderr.pen)),
            }
            problem.exit
        }
    }
}

/// Whether JSON is asked for by a command line that could not be parsed: its global options are looked
/// for.
fn wants_json(words: &[OsString], environment: &Environment) -> bool {
    let mut options = words.iter().take_while(|word| *word != "--");
    environment.text("ORIEL_OUTPUT") == Some("json") || options.any(|word| word == "--json")
}

fn version_document() -> Answer {
    match to_json(&version::document()) {
        Ok(text) => Answer::Text(text + "\n"),
        Err(problem) => Answer::Wrong(problem),
    }
}

fn answer_to(error: &clap::Error, environment: &Environment) -> Answer {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Answer::Text(error.render().to_string())
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Answer::Wrong(missing_command(error))
        }
        ErrorKind::InvalidSubcommand => Answer::Wrong(unknown_command(error, environment)),
        _ => Answer::Wrong(wrong_usage(error)),
    }
}

/// A word that is no command of ours. Nothing is run by guessing.
fn unknown_command(error: &clap::Error, environment: &Environment) -> Problem {
    let word = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => word.as_str(),
        _ => "",
    };
    let suggestions = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(words)) => words.as_slice(),
        Some(ContextValue::String(word)) => std::slice::from_ref(word),
        _ => &[],
    };
    let text = error.render().to_string();
    let command = asked_command(&text);
    let what = format!("{command} has no command `{word}`");
    let is_first = command == "oriel";
    if is_first && (AGENTS.contains(&word) || environment.find_program(word).is_some()) {
        return Problem::new("ORL0002", Exit::Usage, what)
            .why(format!(
                "{word} is a program; oriel runs one only when told to"
            ))
            .fix(format!("oriel run -- {word}"));
    }
    let mut problem = Problem::new("ORL0001", Exit::Usage, what);
    // The last one is the nearest.
    if let Some(suggestion) = suggestions.last() {
        problem = problem.fix(format!("{command} {suggestion}"));
    }
    if let Some(topic) = topics::meant(word).filter(|_| is_first) {
        problem = problem.fix(format!("oriel help {topic}"));
    } else if suggestions.is_empty() {
        problem = problem.fix(format!("{command} --help"));
    }
    problem
}

/// A group of commands without one of them.
fn missing_command(error: &clap::Error) -> Problem {
    let text = error.render().to_string();
    let command = asked_command(&text);
    let what = format!("{command} needs a command of its own");
    let problem = Problem::new("ORL0001", Exit::Usage, what).fix(format!("{command} --help"));
    let commands = text
        .split_once("\nCommands:\n")
        .map_or("", |(_, rest)| rest);
    let names: Vec<&str> = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();
    match names.is_empty() {
        true => problem,
        false => problem.why(format!("it has {}", names.join(", "))),
    }
}

/// The words of the usage that name the command.
fn asked_command(text: &str) -> String {
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
    let words = usage.unwrap_or("oriel").split_whitespace();
    let command: Vec<&str> = words
        .take_while(|word| {
            word.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
                && !word.starts_with('-')
        })
        .collect();
    command.join(" ")
}

/// Takes clap's text apart: a sentence, tips, the usage.
fn wrong_usage(error: &clap::Error) -> Problem {
    let text = error.render().to_string();
    let (message, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let message = message.trim_start_matches("error: ");
    let message: Vec<&str> = message.lines().map(str::trim).collect();
    let usage = rest.lines().find_map(|line| line.strip_prefix("Usage: "));
    let tips = rest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tip: "));
    let mut what = message.join(" ");
    for tip in tips {
        // The other tips are no help: none of them is a command.
        if let Some(meant) = tip.trim().strip_prefix("a similar argument exists: ") {
            what = format!("{what}; did you mean {meant}?");
        }
    }
    let mut problem = Problem::new("ORL0001", Exit::Usage, what);
    if let Some(usage) = usage {
        problem = problem.why(format!("usage: {}", usage.trim()));
        problem = problem.fix(format!("{} --help", asked_command(&text)));
    }
    problem
}

fn parsed(words: &[OsString]) -> Result<Arguments, clap::Error> {
    let matches = Arguments::command()
        .mut_subcommands(with_examples_first)
        .try_get_matches_from(words)?;
    Arguments::from_arg_matches(&matches)
}

/// Help that begins with what to type.
fn with_examples_first(command: clap::Command) -> clap::Command {
    command
        .help_template("{about}{after-help}\n\n{usage-heading} {usage}\n\n{all-args}")
        .mut_subcommands(with_examples_first)
}

/// Programs that people mean when they type them here, found or not.
const AGENTS: [&str; 10] = [
    "aider",
    "claude",
    "codex",
    "copilot",
    "cursor-agent",
    "gemini",
    "goose",
    "node",
    "opencode",
    "python",
];

const SHORT_HELP: &str = concat!(
    "oriel ",
    env!("CARGO_PKG_VERSION"),
    " — see, understand and govern what your AI agents send

Usage: oriel <command> [options]

Start here
  oriel run -- claude -p \"hi\"       run an agent with its traffic captured
  oriel flows                       look at what it sent
  oriel demo                        see it work, offline
  oriel doctor                      something not captured? ask here

Capture   run  start  stop  restart  status  logs  serve  env  demo
Look      flows  sessions  stats
Govern    ca  auth
Operate   config  db  doctor
More      export  import  explain  completions  man  version  help

Global    --json  --color <when>  -q/--quiet  -v/--verbose  --config <file>
More      oriel --help      oriel <command> --help      oriel help topics      oriel man
"
);
