//! `oriel ca verify`: whether the authority can do its work. The answer is the exit code too.

use std::fmt::Write as _;

use proxy::Authority;
use proxy::tls::chain::{ChainFault, Link};
use serde_json::json;
use traffic::Timestamp;

use super::show::{link_document, signed_by};
use super::{day, hex, settings};
use crate::args::AuthorityFlags;
use crate::authority::load_or_make;
use crate::clock::now;
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::output::{print, print_json};
use crate::problem::Problem;
use crate::terminal::Glyph;

pub(super) fn run(context: &Context, authority: &AuthorityFlags) -> Result<Exit, Problem> {
    let settings = settings(context, authority)?;
    // A key that is not that of the certificate is refused here.
    let authority = load_or_make(&settings, now()).map_err(|problem| match problem.exit {
        Exit::Usage => problem.exit(Exit::Negative),
        _ => problem,
    })?;
    let checked = Checked::of(&authority, now());
    match context.json() {
        true => print_json(&checked.document(&authority))?,
        false => print(&checked.text(context, &authority))?,
    }
    Ok(match checked.faults.is_empty() {
        true => Exit::Success,
        false => Exit::Negative,
    })
}

/// What was found about the chain of an authority.
struct Checked {
    links: Vec<Link>,
    faults: Vec<ChainFault>,
}

impl Checked {
    fn of(authority: &Authority, now: Timestamp) -> Self {
        Self {
            links: authority.links(),
            faults: authority.check_chain(now),
        }
    }

    /// Who issued the last certificate of the chain, if that is not itself.
    fn absent_root(&self) -> Option<&str> {
        let last = self.links.last().filter(|last| !last.self_signed)?;
        Some(&last.issuer)
    }

    fn document(&self, authority: &Authority) -> serde_json::Value {
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
