//! `oriel ca verify`: whether the authority can do its work, and which tools take what it signs. The
//! answer is the exit code too.

use std::fmt::Write as _;
use std::sync::Arc;

use proxy::Authority;
use proxy::tls::chain::{ChainFault, Link};
use serde_json::json;
use traffic::{Host, Timestamp};

use super::show::{link_document, signed_by};
use super::{day, hex, settings};
use crate::args::CaVerify;
use crate::authority::load_or_make;
use crate::clock::now;
use crate::context::Context;
use crate::doctor::{
    Check, State, ToolReport, check_lines, examine, for_probes, matrix, tool_document,
};
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::output::{print, print_json};
use crate::problem::Problem;
use crate::terminal::Glyph;

pub(super) fn run(context: &Context, arguments: &CaVerify) -> Result<Exit, Problem> {
    let settings = settings(context, &arguments.authority)?;
    // A key that is not that of the certificate is refused here.
    let authority = load_or_make(&settings, now()).map_err(|problem| match problem.exit {
        Exit::Usage => problem.exit(Exit::Negative),
        _ => problem,
    })?;
    let host = arguments.host.as_deref().map(parse_host).transpose()?;
    let mut checked = Checked::of(&authority, now());
    checked.refused = host.filter(|host| !authority.permits(host));
    let (choice, clock) = (arguments.tools.choice(), now());
    let tools = match (choice.is_none(), for_probes(&settings, clock)) {
        (true, _) => Ok(Vec::new()),
        (false, Ok(authority)) => Ok(examine(context, &settings, Arc::new(authority), &choice)?),
        (false, Err(check)) => Err(check),
    };
    match context.json() {
        true => print_json(&checked.document(&authority, &tools))?,
        false => {
            let stdout = context.terminal.stdout;
            let tools = match &tools {
                Ok(tools) if tools.is_empty() => String::new(),
                Ok(tools) => format!("\n{}", matrix(tools, stdout.pen, stdout.width)),
                Err(check) => check_lines(check, stdout.pen),
            };
            print(&format!("{}{tools}", checked.text(context, &authority)))?;
        }
    }
    let failed = |tool: &ToolReport| tool.state() == State::Failed;
    let holds = checked.faults.is_empty() && checked.refused.is_none();
    Ok(match holds && !tools.iter().flatten().any(failed) {
        true => Exit::Success,
        false => Exit::Negative,
    })
}

fn parse_host(text: &str) -> Result<Host, Problem> {
    Host::parse(text).map_err(|error| {
        let what = format!("{} is no host", escape_line(text));
        Problem::new("ORL0001", Exit::Usage, what).why(error.to_string())
    })
}

/// What was found about the chain of an authority.
struct Checked {
    links: Vec<Link>,
    faults: Vec<ChainFault>,
    /// The host that was asked about and that it may not sign for.
    refused: Option<Host>,
}

impl Checked {
    fn of(authority: &Authority, now: Timestamp) -> Self {
        Self {
            links: authority.links(),
            faults: authority.check_chain(now),
            refused: None,
        }
    }

    /// What is to be known of a chain that holds.
    fn notes(&self) -> Vec<String> {
        let unchecked = self.links.iter().filter(|link| link.unchecked);
        let note = |link: &Link| {
            format!(
                "how {} signed itself is not checked (SHA-1 or the like); clients that trust it do not either",
                link.subject
            )
        };
        unchecked.map(note).collect()
    }

    /// Who issued the last certificate of the chain, if that is not itself.
    fn absent_root(&self) -> Option<&str> {
        let last = self.links.last().filter(|last| !last.self_signed)?;
        Some(&last.issuer)
    }

    fn document(
        &self,
        authority: &Authority,
        tools: &Result<Vec<ToolReport>, Box<Check>>,
    ) -> serde_json::Value {
        let faults: Vec<_> = self.faults.iter().map(ToString::to_string).collect();
        json!({
            "schema": "oriel.ca.verify/1",
            "subject": authority.subject(),
            "sha256": hex(&authority.sha256(), ""),
            "chain": self.links.iter().map(link_document).collect::<Vec<_>>(),
            "key_matches": true,
            "holds": self.faults.is_empty(),
            "root_in_chain": self.absent_root().is_none(),
            "faults": faults,
            "notes": self.notes(),
            "refused_host": self.refused.as_ref().map(ToString::to_string),
            "tools": tools.iter().flatten().map(tool_document).collect::<Vec<_>>(),
            "tools_not_tried": tools.as_ref().err().map(|check| &check.text),
        })
    }

    fn text(&self, context: &Context, authority: &Authority) -> String {
        let pen = context.terminal.stdout.pen;
        let mut text = String::new();
        for (position, link) in (1..).zip(&self.links) {
            let (subject, signed) = (&link.subject, signed_by(link));
            let line = format!("{subject}, {signed}, valid to {}", day(link.not_after));
            let _infallible = writeln!(text, "{position}  {}", escape_line(&line));
        }
        let mut say = |holds: bool, line: &str| {
            let mark = pen.glyph(if holds { Glyph::Ok } else { Glyph::Failed });
            let _infallible = writeln!(text, "{mark}  {}", escape_line(line));
        };
        let key = authority.key_kind();
        say(
            true,
            &format!("the key ({key}) belongs to the first certificate"),
        );
        for fault in &self.faults {
            say(false, &fault.to_string());
        }
        if self.faults.is_empty() {
            say(true, "the chain holds");
        }
        if let Some(host) = &self.refused {
            let only = authority.constraints_text().unwrap_or_default();
            say(false, &format!("it may not sign for {host}: {only}"));
        }
        for note in self.notes() {
            let _infallible = writeln!(text, "   {}", escape_line(&note));
        }
        let root = match (self.absent_root(), self.links.last()) {
            (Some(issuer), _) => {
                format!("clients have to trust {issuer}, which is not in the file, or one of these")
            }
            (None, Some(last)) => format!("clients have to trust {}", last.subject),
            (None, None) => String::new(),
        };
        let _infallible = writeln!(text, "   {}", escape_line(&root));
        text
    }
}
