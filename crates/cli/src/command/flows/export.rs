//! `oriel export` and `oriel flows export`: flows into a file for other tools. Memory holds one flow.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use store::json::FlowItem;
use store::limits::PAGE_ROWS_MAX;
use store::{
    Body, FlowRecord, FlowRef, FlowWriter, Format, Order, Query, Reader, RunId, SortKey, StoreError,
};
use traffic::rules::filter::Filter;

use crate::args::{ExportForm, FlowsExport};
use crate::command::flows::chosen::Chosen;
use crate::command::flows::show::again::Again;
use crate::command::flows::show::curl;
use crate::command::flows::spooled::{Spool, tell};
use crate::context::Context;
use crate::csv::{self, Cells};
use crate::escape::{escape_json, escape_text};
use crate::exit::Exit;
use crate::fields;
use crate::flow_text::{has_secrets, secrets_warning};
use crate::output::{say, say_line};
use crate::output_file::{OutputFile, cannot_write};
use crate::problem::Problem;
use crate::progress::Progress;
use crate::quantity::count;
use crate::screen::Screen;
use crate::store_problem::store_problem;

pub(crate) fn run(context: &Context, arguments: &FlowsExport) -> Result<Exit, Problem> {
    let form = form(arguments);
    let cells = Cells::new(arguments.csv_raw);
    let to_stdout = arguments
        .output
        .as_deref()
        .is_none_or(|path| path == Path::new("-"));
    if form == ExportForm::Mitmproxy && to_stdout && context.terminal.stdout.is_terminal {
        return Err(Problem::new(
            "ORL0001",
            Exit::Usage,
            "a flow file of mitmproxy is not for a terminal",
        )
        .fix("oriel export --format mitmproxy -o flows.mitm"));
    }
    if arguments.csv_raw && form != ExportForm::Csv {
        return Err(Problem::new(
            "ORL0001",
            Exit::Usage,
            "--csv-raw is for --format csv alone",
        )
        .why("no other format has values that a spreadsheet computes"));
    }
    if form == ExportForm::Parquet {
        check_parquet(to_stdout)?;
    }
    let spooled = Spool::of(context, &arguments.data)?.flows();
    let (reader, chosen) =
        Chosen::open(context, &arguments.data, &arguments.what, arguments.since)?;
    let done = match arguments.output.as_deref().filter(|_| !to_stdout) {
        Some(path) => {
            let mut file = OutputFile::create(path, arguments.force)?;
            let out = Out::File(path, &mut file);
            let done = export(context, &reader, &chosen, (form, cells), out)?;
            file.finish()?;
            done
        }
        None => {
            let stdout = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
            let escape = match form {
                ExportForm::Jsonl | ExportForm::Har => escape_json,
                _ => escape_text,
            };
            let out = match context.terminal.stdout.is_terminal {
                true => Out::Terminal(Screen::new(stdout, escape)),
                false => Out::Stdout(stdout),
            };
            export(context, &reader, &chosen, (form, cells), out)?
        }
    };
    if done.secrets {
        say(&secrets_warning(context.terminal.stderr.pen));
    }
    if !context.global.quiet {
        if done.left_out > 0 {
            say_line(&format!(
                "tunnels left out, for which a HAR has no place: {}",
                count(done.left_out)
            ));
        }
        if let Some(path) = arguments.output.as_deref().filter(|_| !to_stdout) {
            say_line(&format!(
                "{} flows in {}",
                count(done.written),
                path.display()
            ));
        }
    }
    tell(context, spooled);
    Ok(Exit::Success)
}

/// It needs a part of oriel that is not always there, and a file.
fn check_parquet(to_stdout: bool) -> Result<(), Problem> {
    if !cfg!(feature = "parquet") {
        return Err(Problem::new(
            "ORL0001",
            Exit::Usage,
            "this oriel was built without Parquet",
        )
        .why("it would make every build longer for what few use")
        .fix("cargo install --path crates/cli --features parquet      builds one with it")
        .fix(
            "oriel export --format csv -o flows.csv      for the fields, --format jsonl for all",
        ));
    }
    if to_stdout {
        return Err(
            Problem::new("ORL0001", Exit::Usage, "Parquet goes into a file")
                .why("those who read it begin at its end")
                .fix("oriel export -o flows.parquet"),
        );
    }
    Ok(())
}

/// As asked for, else by the name of the file.
fn form(arguments: &FlowsExport) -> ExportForm {
    let extension = arguments.output.as_deref().and_then(Path::extension);
    let by_name = match extension.and_then(std::ffi::OsStr::to_str) {
        Some("har") => ExportForm::Har,
        Some("mitm" | "flow" | "flows" | "mitmproxy") => ExportForm::Mitmproxy,
        Some("sh") => ExportForm::Curl,
        Some("csv") => ExportForm::Csv,
        Some("parquet") => ExportForm::Parquet,
        _ => ExportForm::Jsonl,
    };
    arguments.format.unwrap_or(by_name)
}

/// Those that words mean, the oldest first.
fn oldest_first(run: Option<RunId>, filter: Option<Filter>) -> Query {
    Query {
        run,
        filter,
        order: Order {
            by: SortKey::Time,
            ascending: true,
        },
        limit: PAGE_ROWS_MAX,
        with_total: true,
        ..Query::default()
    }
}

/// Where the bytes go.
enum Out<'a> {
    File(&'a Path, &'a mut OutputFile),
    Stdout(BufWriter<io::StdoutLock<'a>>),
    Terminal(Screen<BufWriter<io::StdoutLock<'a>>>),
}

impl Out<'_> {
    fn problem(path: Option<&Path>, error: &io::Error) -> Problem {
        match path {
            Some(path) => cannot_write(path, error),
            None => Problem::from_stdout(error),
        }
    }
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(_, file) => file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::Terminal(screen) => screen.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(_, file) => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
            Self::Terminal(screen) => screen.flush(),
        }
    }
}

#[derive(Default)]
struct Done {
    written: u64,
    left_out: u64,
    /// Credentials are among them.
    secrets: bool,
}

fn export(
    context: &Context,
    reader: &Reader,
    chosen: &Chosen,
    (form, cells): (ExportForm, Cells),
    out: Out<'_>,
) -> Result<Done, Problem> {
    let path = match &out {
        Out::File(path, _) => Some(*path),
        Out::Stdout(_) | Out::Terminal(_) => None,
    };
    let problem = |error: io::Error| Out::problem(path, &error);
    let mut sink = Sink::begin(form, cells, out).map_err(problem)?;
    let mut done = Done::default();
    let mut read = 0;
    let mut each = |flow: FlowRef, progress: &mut Progress| -> Result<(), Problem> {
        let record = match reader.record(flow) {
            Ok(record) => record,
            // It was removed since it was found.
            Err(StoreError::UnknownId(_)) if matches!(chosen, Chosen::Found { .. }) => {
                return Ok(());
            }
            Err(error) => return Err(store_problem(&error)),
        };
        done.secrets |= has_secrets(&record.detail.row);
        match sink.write(&record).map_err(problem)? {
            true => done.written += 1,
            false => done.left_out += 1,
        }
        read += 1;
        progress.tell(read);
        Ok(())
    };
    match chosen {
        Chosen::Named(flows) => {
            let mut progress =
                Progress::begin(context, "exporting", "flows", Some(flows.len() as u64));
            for flow in flows {
                each(*flow, &mut progress)?;
            }
            progress.finish();
        }
        Chosen::Found { run, filter } => {
            let query = oldest_first(*run, filter.clone());
            find(context, reader, query, &mut each)?;
        }
    }
    sink.finish().map_err(problem)?;
    Ok(done)
}

fn find(
    context: &Context,
    reader: &Reader,
    mut query: Query,
    each: &mut dyn FnMut(FlowRef, &mut Progress) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut progress = None;
    loop {
        let page = reader
            .flows(&query)
            .map_err(|error| store_problem(&error))?;
        let progress = progress
            .get_or_insert_with(|| Progress::begin(context, "exporting", "flows", page.total));
        for row in &page.rows {
            each(row.id, progress)?;
        }
        query.with_total = false;
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(())
}

/// A format that is written.
enum Sink<'a> {
    File(FlowWriter<Out<'a>>),
    Curl(Out<'a>),
    Csv(Out<'a>, Cells),
    #[cfg(feature = "parquet")]
    Parquet(Box<store::ParquetWriter<&'a mut OutputFile>>),
}

impl<'a> Sink<'a> {
    fn begin(form: ExportForm, cells: Cells, mut out: Out<'a>) -> io::Result<Self> {
        let format = match form {
            ExportForm::Jsonl => Format::Jsonl,
            ExportForm::Har => Format::Har,
            ExportForm::Mitmproxy => Format::Mitmproxy,
            ExportForm::Curl => return Ok(Self::Curl(out)),
            ExportForm::Csv => {
                let names = FlowItem::FIELDS.iter().map(|(name, _)| *name);
                out.write_all(cells.line(names).as_bytes())?;
                return Ok(Self::Csv(out, cells));
            }
            ExportForm::Parquet => return Self::begin_parquet(out),
        };
        FlowWriter::begin(format, out).map(Self::File)
    }

    #[cfg(feature = "parquet")]
    fn begin_parquet(out: Out<'a>) -> io::Result<Self> {
        match out {
            Out::File(_, file) => {
                let writer = store::ParquetWriter::begin(file)?;
                Ok(Self::Parquet(Box::new(writer)))
            }
            Out::Stdout(_) | Out::Terminal(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Refused before: [`check_parquet`].
    #[cfg(not(feature = "parquet"))]
    fn begin_parquet(_out: Out<'a>) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write(&mut self, record: &FlowRecord) -> io::Result<bool> {
        match self {
            Self::File(writer) => writer.write(record),
            Self::Curl(out) => out
                .write_all(curl_command(record).as_bytes())
                .map(|()| true),
            Self::Csv(out, cells) => out
                .write_all(csv_line(record, *cells)?.as_bytes())
                .map(|()| true),
            #[cfg(feature = "parquet")]
            Self::Parquet(writer) => writer.write(record).map(|()| true),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::File(writer) => writer.finish().map(drop),
            Self::Curl(mut out) | Self::Csv(mut out, _) => out.flush(),
            #[cfg(feature = "parquet")]
            Self::Parquet(writer) => writer.finish().map(drop),
        }
    }
}

fn curl_command(record: &FlowRecord) -> String {
    let head = &record.detail.request;
    let field = |name: &str| {
        let mut fields = head.fields.iter();
        let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    };
    let body = record.request_body.as_ref().map(|bytes| Body {
        bytes: bytes.clone(),
        seen: record.detail.row.request_bytes,
        truncated: record.detail.row.request_bytes > Some(bytes.len() as u64),
        content_encoding: field("content-encoding"),
        content_type: field("content-type"),
    });
    curl::command(&Again::of(&record.detail, body.as_ref()))
}

/// The fields of a flow in a list, in their order.
fn csv_line(record: &FlowRecord, cells: Cells) -> io::Result<String> {
    let item = serde_json::to_value(FlowItem::new(&record.detail.row))?;
    let values: Vec<String> = FlowItem::FIELDS
        .iter()
        .map(|(name, _)| {
            let found = fields::find(&item, name);
            found.map(csv::text_of).unwrap_or_default()
        })
        .collect();
    Ok(cells.line(values.iter().map(String::as_str)))
}
