//! `oriel flows list`.

use std::fmt::Write as _;

use store::json::{FLOWS_LIST, FlowItem};
use store::limits::PAGE_ROWS_MAX;
use store::{Order, Page, Query, Reader, SortKey};

use crate::args::{FlowsList, Sort};
use crate::command::flows::columns::{self, Columns};
use crate::command::flows::search::catch_up_for;
use crate::command::flows::spooled::{Spool, tell};
use crate::command::flows::{empty_last, filter, open};
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::fields::{self, Fields};
use crate::flow_text::{has_secrets, secrets_warning};
use crate::output::{print, print_line, say, say_line, to_json};
use crate::problem::Problem;
use crate::quantity::count;
use crate::settings::Purpose;
use crate::store_problem::store_problem;
use crate::table::render;

pub(crate) fn run(context: &Context, arguments: &FlowsList) -> Result<Exit, Problem> {
    // Mistakes in the filter are told even where there is nothing to filter.
    let filter = filter(&arguments.filter, arguments.since)?;
    let fields = Fields::chosen(&arguments.form, &[])?;
    if fields.wants_help() {
        return fields::print_help(context);
    }
    if fields::wants_help(&arguments.columns) {
        return columns::print_help();
    }
    let columns = Columns::chosen(&arguments.columns)?;
    catch_up_for(context, &arguments.data, filter.as_ref())?;
    let spooled = Spool::of(context, &arguments.data)?.flows();
    let mut pages = Pages {
        reader: open(context, &arguments.data)?,
        query: Query {
            filter,
            run: None,
            order: order(arguments),
            limit: 0,
            after: None,
            with_total: true,
        },
        left: match arguments.all {
            true => usize::MAX,
            false => arguments.limit,
        },
        total: None,
        begun: false,
    };
    if let (Some(reader), Some(session)) = (&pages.reader, &arguments.session) {
        let run = reader.resolve_run(session);
        pages.query.run = Some(run.map_err(|error| store_problem(&error))?);
    }
    match (context.json() || fields.are_chosen(), arguments.form.jsonl) {
        (_, true) => print_lines(&mut pages, &fields)?,
        (true, false) => print_document(&mut pages, &fields, spooled)?,
        (false, false) => print_table(context, arguments, (&mut pages, &columns), spooled)?,
    }
    tell(context, spooled);
    Ok(Exit::Success)
}

fn order(arguments: &FlowsList) -> Order {
    Order {
        by: match arguments.sort {
            Sort::Time => SortKey::Time,
            Sort::Dur => SortKey::Duration,
            Sort::Size => SortKey::Size,
        },
        ascending: arguments.reverse,
    }
}

/// Reads a list page by page, so that a million flows need no more memory than ten thousand.
struct Pages {
    reader: Option<Reader>,
    query: Query,
    /// How many flows are still wanted.
    left: usize,
    total: Option<u64>,
    begun: bool,
}

impl Pages {
    /// The next page; `None` at the end.
    fn next(&mut self) -> Result<Option<Page>, Problem> {
        let over = self.begun && self.query.after.is_none();
        let Some(reader) = self.reader.as_ref().filter(|_| !over && self.left > 0) else {
            return Ok(None);
        };
        self.query.limit = self.left.min(PAGE_ROWS_MAX);
        self.query.with_total = !self.begun;
        let page = reader
            .flows(&self.query)
            .map_err(|error| store_problem(&error))?;
        self.begun = true;
        self.total = self.total.or(page.total);
        self.query.after = page.next;
        self.left = self.left.saturating_sub(page.rows.len());
        Ok(Some(page))
    }

    fn total(&self) -> u64 {
        self.total.unwrap_or_default()
    }
}

fn print_lines(pages: &mut Pages, fields: &Fields) -> Result<(), Problem> {
    while let Some(page) = pages.next()? {
        let mut text = String::new();
        for row in &page.rows {
            text.push_str(&fields.json(&FlowItem::new(row))?);
            text.push('\n');
        }
        print(&text)?;
    }
    Ok(())
}

/// One document, written as it is read.
fn print_document(pages: &mut Pages, fields: &Fields, spooled: u64) -> Result<(), Problem> {
    let mut text = format!("{{\"schema\":\"{FLOWS_LIST}\",\"items\":[");
    let mut separator = "";
    while let Some(page) = pages.next()? {
        for row in &page.rows {
            text.push_str(separator);
            text.push_str(&fields.json(&FlowItem::new(row))?);
            separator = ",";
        }
        print(&std::mem::take(&mut text))?;
    }
    let next = pages.query.after.map(|cursor| cursor.to_string());
    let _infallible = write!(
        text,
        "],\"next\":{},\"total\":{},\"spooled\":{spooled}}}",
        to_json(&next)?,
        pages.total()
    );
    print_line(&text)
}

fn print_table(
    context: &Context,
    arguments: &FlowsList,
    (pages, columns): (&mut Pages, &Columns),
    spooled: u64,
) -> Result<(), Problem> {
    let stdout = context.terminal.stdout;
    let mut shown = 0;
    let mut secrets = false;
    while let Some(page) = pages.next()? {
        if page.rows.is_empty() {
            break;
        }
        shown += page.rows.len();
        secrets |= page.rows.iter().any(has_secrets);
        let rows = page.rows.iter().map(|row| columns.cells(context, row));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        print(&render(columns.heads(), &rows, stdout.width, stdout.pen))?;
    }
    let stderr = context.terminal.stderr;
    if secrets {
        say(&secrets_warning(stderr.pen));
    }
    if context.global.quiet {
        return Ok(());
    }
    match (shown as u64, pages.total()) {
        (0, _) if spooled == 0 => {
            say_line(&nothing(context, arguments, pages.reader.as_ref())?);
        }
        (shown, total) if shown < total && stdout.is_terminal => {
            say_line(&format!(
                "{} of {}; all of them: --all",
                count(shown),
                count(total)
            ));
        }
        (_, _) => {}
    }
    Ok(())
}

fn nothing(
    context: &Context,
    arguments: &FlowsList,
    reader: Option<&Reader>,
) -> Result<String, Problem> {
    let last = reader.zip(arguments.session.as_deref());
    if let Some(text) = last.and_then(|(reader, session)| empty_last(reader, session)) {
        return Ok(text);
    }
    let narrowed =
        !arguments.filter.is_empty() || arguments.since.is_some() || arguments.session.is_some();
    let mut text = match narrowed {
        true => "no flow matches".to_owned(),
        false => "nothing was captured yet. Begin with: oriel run -- COMMAND".to_owned(),
    };
    let settings = context.settings(Purpose::Serve, arguments.data.layer())?;
    let excluded = settings.excluded_hosts.value;
    if !excluded.is_empty() {
        let hosts = escape_line(&excluded.join(", ")).into_owned();
        write!(
            text,
            "\nnothing is stored of {hosts} (capture.excluded_hosts)"
        )
        .expect("a String takes all");
    }
    Ok(text)
}
