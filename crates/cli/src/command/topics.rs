//! `oriel help topics`: what is the same for many commands, offline.

use std::fmt::Write as _;

use traffic::spelling::nearest;

use super::man::EXIT_STATUS;
use crate::config::keys::{KEYS, OTHER_VARIABLES};

/// A page: its name, what it is about, and what makes its text.
struct Topic {
    name: &'static str,
    about: &'static str,
    text: fn() -> String,
}

/// The word that lists them.
const LIST: &str = "topics";

const TOPICS: [Topic; 5] = [
    Topic {
        name: "filters",
        about: "the words that choose flows",
        text: filters,
    },
    Topic {
        name: "json",
        about: "what --json prints, and what of it stays",
        text: || JSON.to_owned(),
    },
    Topic {
        name: "exit-codes",
        about: "what the code of a command says",
        text: exit_codes,
    },
    Topic {
        name: "environment",
        about: "every variable that is read",
        text: environment,
    },
    Topic {
        name: "ids",
        about: "how flows and runs are named",
        text: || IDS.to_owned(),
    },
];

/// The page that `oriel help WORD` asks for, if it is one of these; commands have pages of their own.
pub(crate) fn page(word: &str) -> Option<String> {
    if word == LIST {
        return Some(list());
    }
    let topic = TOPICS.iter().find(|topic| topic.name == word)?;
    Some((topic.text)())
}

/// The topic that was probably meant.
pub(crate) fn meant(word: &str) -> Option<&'static str> {
    nearest(word, TOPICS.iter().map(|topic| topic.name))
}

fn list() -> String {
    let rows = TOPICS.iter().map(|topic| (topic.name, topic.about));
    format!("oriel help TOPIC shows one of these:\n\n{}", table(rows))
}

/// Two columns.
fn table<'t>(rows: impl Iterator<Item = (&'t str, &'t str)> + Clone) -> String {
    let width = rows.clone().map(|(left, _)| left.chars().count()).max();
    let width = width.unwrap_or_default();
    rows.fold(String::new(), |mut text, (left, right)| {
        let _infallible = writeln!(text, "  {left:width$}  {right}");
        text
    })
}

/// Examples of filters, each with what it chooses.
const FILTERS: [(&str, &str); 22] = [
    ("host:openai.com", "the host or a subdomain of it"),
    (
        "path:/v1/* -method:GET",
        "* is anything, - is not, a space is and",
    ),
    ("url:/v[12]\\/chat/", "a regular expression between slashes"),
    ("status:>=400 status:5xx", "> >= < <= and a..b, or a class"),
    (
        "dur:>1.5s size:>1MiB",
        "times in ms, s, m, h; sizes in k, KiB, MiB (req.size, resp.size too)",
    ),
    (
        "kind:http,tunnel",
        "http, websocket or tunnel; several with commas",
    ),
    ("state:open", "open, completed, failed or interrupted"),
    (
        "type:llm agent:codex",
        "what it is for (llm, mcp, web, other, unknown), and who sent it",
    ),
    (
        "session:k7q2 run:@last",
        "of a conversation of an agent, of a run",
    ),
    (
        "process:node pid:4711",
        "the client's program, where it was found",
    ),
    ("user:dana", "the name that the client said to the proxy"),
    ("front:socks5,reverse", "how the client said whom it wants"),
    (
        "proto:HTTP/2 route:tunnel",
        "the version of HTTP, what was done with it",
    ),
    (
        "sni:a.com tls:t13d1516h2*",
        "the name in the ClientHello, its JA3 or JA4",
    ),
    (
        "header.content-type:*json*",
        "a field of the request or the response",
    ),
    ("error:* -error:reset", "failed at all, and how not"),
    (
        "text:\"rm -rf\" text:dead*",
        "words in bodies, messages and URLs",
    ),
    (
        "tag:gold note:hang marked:no",
        "what people said about flows",
    ),
    (
        "since:1h until:2026-03-02",
        "times before now, dates, or RFC 3339; time:a..b",
    ),
    (
        "(error:* OR status:5xx)",
        "groups; OR binds less than the space",
    ),
    (
        "\"some words\" api",
        "other words are looked for in URL, method and error",
    ),
    ("id:k7q2.31", "one flow"),
];

fn filters() -> String {
    format!(
        "A filter is the same for flows, flows tail, flows search, export, stats and rm. Letters match in\n\
         either case. Quote it for the shell:  oriel flows 'type:llm status:>=400 since:1h'\n\n{}",
        table(FILTERS.into_iter())
    )
}

const JSON: &str = "\
--json prints one JSON document on stdout and nothing else there; ORIEL_OUTPUT=json asks for it always,
but for env, completions and man, whose output a shell or man reads.
Each document names its schema, for example oriel.flows.list/1. Within /1 fields are added, never
renamed, removed or given another meaning. The text for people may change at any time.

  lists      {\"schema\", \"items\": […], \"next\", \"total\"}; none found is an empty list and code 0
  streams    flows tail --json, logs --json: one object in each line; --jsonl does so for lists
  names      snake_case with the unit at the end: _ms, _bytes; times are RFC 3339, UTC
  unknown    null, never 0 and never left out
  bodies     never in lists; flows show --json --body has them as text, or as base64 where they are none
  fields     --fields id,status,route.action chooses some; --fields help lists them
  errors     stdout stays empty; stderr has one line of schema oriel.error/1 with code, message, why,
             fix and exit_code (oriel explain CODE says more)
";

const IDS: &str = "\
  k7q2       a run: one oriel run, serve, demo or import
  k7q2.31    its 31st flow
  @last      the newest run; @last.31 a flow of it
  @-2        the run before it; @-2.1 a flow of that
  NAME       a run by the name it was given: oriel run --name NAME
  UUID       as in JSON: the same in every database that a flow is copied to

Runs may be shortened as long as one alone is meant. A session is a conversation of an agent under the
agent's own id (oriel sessions); its flows may be of several runs, and a run may have several.
";

/// The section of the manual page, as plain text.
fn exit_codes() -> String {
    let mut text = String::new();
    for entry in EXIT_STATUS.split(".TP\n").skip(1) {
        let mut lines = entry.lines();
        let code = lines.next().unwrap_or_default();
        let said: Vec<&str> = lines.collect();
        let _infallible = writeln!(text, "  {code:13}  {}", said.join("\n                 "));
    }
    text
}

fn environment() -> String {
    let settings = KEYS
        .iter()
        .filter(|key| !key.variables.is_empty())
        .map(|key| {
            let about = format!("{} ({})", key.about, key.path);
            (key.variables.join(", "), about)
        });
    let others = OTHER_VARIABLES
        .iter()
        .map(|(name, about)| ((*name).to_owned(), (*about).to_owned()));
    let mut text = String::new();
    for (names, about) in settings.chain(others) {
        let _infallible = writeln!(text, "  {names}\n      {about}");
    }
    text
}

#[cfg(test)]
mod tests {
    use traffic::rules::filter::Filter;

    use super::*;
    use crate::clock::now;

    #[test]
    fn every_example_is_a_filter() {
        for (filter, _) in FILTERS {
            let parsed = Filter::parse(filter, now());
            assert!(parsed.is_ok(), "{filter}: {parsed:?}");
        }
    }

    #[test]
    fn pages_say_what_they_are_for() {
        assert!(
            page("exit-codes")
                .unwrap()
                .contains("\n  70             a mistake")
        );
        assert!(
            page("environment")
                .unwrap()
                .contains("  ORIEL_LISTEN, LISTEN_ADDR\n")
        );
        let list = page("topics").unwrap();
        assert!(
            TOPICS.iter().all(|topic| list.contains(topic.about)),
            "{list}"
        );
        assert!(page("run").is_none());
        assert_eq!(meant("filter"), Some("filters"));
    }
}
