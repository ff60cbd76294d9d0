//! `oriel logs`: what the service said about itself. What it captured is `oriel flows`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};
use traffic::Timestamp;

use crate::args::{LogLevel, Logs};
use crate::clock::now;
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::flow_text::{Clock, moment};
use crate::limits::FOLLOW_EVERY;
use crate::output::{print, print_json, say_line};
use crate::problem::Problem;
use crate::service::Place;
use crate::service::log_file::files;
use crate::terminal::Colour;

pub(crate) fn run(context: &Context, arguments: &Logs) -> Result<Exit, Problem> {
    let place = Place::of(&context.paths);
    let printer = Printer {
        context,
        level: arguments.level,
        since: arguments.since.map(|period| since(period.0)),
    };
    // Before the lines are read: what comes meanwhile is in what follows.
    let mut tail = Tail::at_end(&place.log);
    let mut lines = Vec::new();
    for file in files(&place.log) {
        let mut earlier: Vec<String> = read_lines(&file)?;
        earlier.retain(|line| printer.wants(&Line::parse(line)));
        earlier.append(&mut lines);
        lines = earlier;
        if lines.len() >= arguments.limit {
            break;
        }
    }
    if lines.is_empty() && !arguments.follow && !place.log.exists() {
        say_line("there is no log: the service was never started by oriel start");
        say_line("the log of oriel serve goes to its stderr, or to its service manager");
        return Ok(Exit::Success);
    }
    let first = lines.len().saturating_sub(arguments.limit);
    for line in lines.iter().skip(first) {
        printer.print(line)?;
    }
    if !arguments.follow {
        return Ok(Exit::Success);
    }
    loop {
        for line in tail.read(&place.log)? {
            if printer.wants(&Line::parse(&line)) {
                printer.print(&line)?;
            }
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
}

fn since(period: Duration) -> Timestamp {
    let micros = i64::try_from(period.as_micros()).unwrap_or(i64::MAX);
    Timestamp(now().0.saturating_sub(micros))
}

fn read_lines(path: &Path) -> Result<Vec<String>, Problem> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(path, &error)),
    };
    let lines = BufReader::new(file).split(b'\n');
    lines
        .map(|line| Ok(String::from_utf8_lossy(&line?).into_owned()))
        .collect::<std::io::Result<_>>()
        .map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    let what = format!("cannot read {}", path.display());
    Problem::new("ORL0901", Exit::Storage, what).why(error.to_string())
}

/// Reads on where a file ended, and goes over to the next one when it was put aside.
struct Tail {
    file: Option<BufReader<File>>,
    inode: u64,
    /// A line whose end has not come yet.
    begun: Vec<u8>,
}

impl Tail {
    fn at_end(path: &Path) -> Self {
        let mut tail = Self {
            file: None,
            inode: 0,
            begun: Vec::new(),
        };
        tail.open(path);
        if let Some(file) = &mut tail.file {
            use std::io::Seek;
            // A file that cannot be positioned is read from its beginning.
            let _at = file.seek(std::io::SeekFrom::End(0));
        }
        tail
    }

    fn open(&mut self, path: &Path) {
        let file = File::open(path).ok();
        let inode = file.as_ref().and_then(|file| file.metadata().ok());
        self.inode = inode.map_or(0, |facts| facts.ino());
        self.file = file.map(BufReader::new);
    }

    /// The whole lines that came since the last time.
    fn read(&mut self, path: &Path) -> Result<Vec<String>, Problem> {
        let mut lines = Vec::new();
        // What was put aside is read to its end first.
        let named = std::fs::metadata(path).ok().map(|facts| facts.ino());
        self.read_file(&mut lines, path)?;
        if named.is_some_and(|named| named != self.inode) {
            self.open(path);
            self.read_file(&mut lines, path)?;
        }
        Ok(lines)
    }

    fn read_file(&mut self, lines: &mut Vec<String>, path: &Path) -> Result<(), Problem> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        loop {
            let read = file.read_until(b'\n', &mut self.begun);
            if read.map_err(|error| unreadable(path, &error))? == 0 || !self.begun.ends_with(b"\n")
            {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&self.begun).trim_end().to_owned();
            self.begun.clear();
            lines.push(line);
        }
    }
}

/// A line of the log. One that is no JSON is what a panic said.
struct Line {
    at: Option<Timestamp>,
    level: LogLevel,
    fields: Map<String, Value>,
    text: String,
}

impl Line {
    fn parse(line: &str) -> Self {
        let mut fields = match serde_json::from_str(line) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let mut take = |key: &str| match fields.remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let at = take("timestamp").and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let level = match take("level").as_deref() {
            Some("TRACE") => LogLevel::Trace,
            Some("DEBUG") => LogLevel::Debug,
            Some("INFO") => LogLevel::Info,
            Some("WARN") => LogLevel::Warn,
            _ => LogLevel::Error,
        };
        let text = take("message");
        take("target");
        Self {
            at: at.map(|at| Timestamp(at.as_microsecond())),
            level,
            text: match (text, fields.is_empty()) {
                (Some(text), _) => text,
                (None, true) => line.to_owned(),
                (None, false) => String::new(),
            },
            fields,
        }
    }
}

/// A line as JSON that says what it is.
fn document(line: &str) -> Value {
    let mut fields = match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::from_iter([
            ("level".to_owned(), "ERROR".into()),
            ("message".to_owned(), line.into()),
        ]),
    };
    fields.insert("type".to_owned(), "log".into());
    Value::Object(fields)
}

struct Printer<'a> {
    context: &'a Context,
    level: Option<LogLevel>,
    since: Option<Timestamp>,
}

impl Printer<'_> {
    fn wants(&self, line: &Line) -> bool {
        self.level.is_none_or(|level| line.level >= level)
            && self
                .since
                .is_none_or(|since| line.at.is_none_or(|at| at >= since))
    }

    fn print(&self, line: &str) -> Result<(), Problem> {
        match self.context.json() {
            true => print_json(&document(line)),
            false => print(&self.render(&Line::parse(line))),
        }
    }

    fn render(&self, line: &Line) -> String {
        let pen = self.context.terminal.stdout.pen;
        let (word, colour) = match line.level {
            LogLevel::Trace => ("trace", Colour::Dim),
            LogLevel::Debug => ("debug", Colour::Dim),
            LogLevel::Info => ("info ", Colour::Green),
            LogLevel::Warn => ("warn ", Colour::Yellow),
            LogLevel::Error => ("error", Colour::Red),
        };
        let mut text = match line.at {
            Some(at) => moment(at, now(), &self.context.zone(), Clock::Exact),
            None => String::new(),
        };
        let _infallible = write!(
            text,
            "  {}  {}",
            pen.paint(colour, word),
            escape_line(&line.text)
        );
        for (name, value) in &line.fields {
            let value = match value {
                Value::String(value) => value.clone(),
                value => value.to_string(),
            };
            let _infallible = write!(text, "  {}={}", escape_line(name), escape_line(&value));
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart_and_words_that_are_no_json_stay() {
        let line = Line::parse(
            r#"{"timestamp":"2026-03-02T09:02:11.114Z","level":"WARN","message":"hm","host":"a","target":"t"}"#,
        );
        assert_eq!((line.level, line.text.as_str()), (LogLevel::Warn, "hm"));
        assert_eq!(line.at, Some(Timestamp(1_772_442_131_114_000)));
        assert_eq!(line.fields.keys().collect::<Vec<_>>(), ["host"]);
        let panic = Line::parse("thread 'main' panicked");
        assert_eq!(panic.text, "thread 'main' panicked");
        assert_eq!((panic.level, panic.at), (LogLevel::Error, None));
    }

    #[test]
    fn a_tail_follows_into_the_next_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("oriel.log");
        std::fs::write(&path, "before\n").unwrap();
        let mut tail = Tail::at_end(&path);
        assert!(tail.read(&path).unwrap().is_empty());
        let append = |text: &str| {
            use std::io::Write as _;
            let mut file = File::options()
                .append(true)
                .create(true)
                .open(&path)
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("one\ntw");
        assert_eq!(tail.read(&path).unwrap(), ["one"]);
        append("o\nthree\n");
        std::fs::rename(&path, folder.path().join("oriel.log.1")).unwrap();
        append("four\n");
        assert_eq!(tail.read(&path).unwrap(), ["two", "three", "four"]);
    }
}
