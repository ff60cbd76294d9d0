//! What is said when something goes wrong: a code to search for, one sentence of what, why with
//! the values that were found, and how to fix it as commands to paste.

use std::fmt::Write as _;

use crate::command::explain::ENTRIES;
use crate::escape::{escape_json, escape_line};
use crate::exit::Exit;
use crate::terminal::{Colour, Pen};

/// Why a command did not do what it was asked. Boxed, as it is the rare half of every result.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Details>);

/// What is said about it.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    pub(crate) code: &'static str,
    pub(crate) what: String,
    pub(crate) excerpt: Option<Excerpt>,
    pub(crate) why: Option<String>,
    /// What is worth knowing besides.
    pub(crate) note: Option<String>,
    pub(crate) fix: Vec<String>,
    pub(crate) exit: Exit,
}

/// A line of a text, with a part of it marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// Where the text comes from, for example a file name.
    pub(crate) place: String,
    pub(crate) line_number: usize,
    /// The column of the marked part, counted in characters from 1 on.
    pub(crate) column: usize,
    pub(crate) line: String,
    /// How many characters are marked; at least one caret is shown.
    pub(crate) marked: usize,
    /// What stands behind the carets.
    pub(crate) hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(code: &'static str, exit: Exit, what: impl Into<String>) -> Self {
        Self(Box::new(Details {
            code,
            what: what.into(),
            excerpt: None,
            why: None,
            note: None,
            fix: Vec::new(),
            exit,
        }))
    }

    /// What [`Self::document`] made, perhaps in another process; `None` if its code is not known here.
    pub(crate) fn of_json(document: &serde_json::Value) -> Option<Self> {
        let text = |key: &str| document[key].as_str();
        let code = text("code")?;
        let entry = ENTRIES.iter().find(|entry| entry.code == code)?;
        let exit = document["exit_code"].as_u64()?;
        let exit = Exit::Child(u8::try_from(exit).ok()?);
        let what = match text("place") {
            Some(place) => format!("{} ({place})", text("message")?),
            None => text("message")?.to_owned(),
        };
        let mut problem = Self::new(entry.code, exit, what);
        problem.0.why = text("why").map(str::to_owned);
        problem.0.note = text("note").map(str::to_owned);
        let fixes = document["fix"].as_array();
        for fix in fixes.into_iter().flatten().filter_map(|fix| fix.as_str()) {
            problem = problem.fix(fix);
        }
        Some(problem)
    }

    /// Something that cannot be, unless oriel is wrong.
    pub(crate) fn bug(what: impl Into<String>) -> Self {
        Self::new("ORL7000", Exit::Internal, what)
            .why("this is a mistake in oriel, not in how it was called")
            .fix("please report it, with the command and this message")
    }

    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.0.why = Some(why.into());
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.0.note = Some(note.into());
        self
    }

    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.0.fix.push(fix.into());
        self
    }

    /// The fix of a setting whose reason names its place.
    pub(crate) fn fix_there(self) -> Self {
        self.fix("change it there, then look for more:  oriel config check")
    }

    /// This in the place of every other fix.
    pub(crate) fn fix_alone(mut self, fix: impl Into<String>) -> Self {
        self.0.fix = vec![fix.into()];
        self
    }

    pub(crate) fn excerpt(mut self, excerpt: Excerpt) -> Self {
        self.0.excerpt = Some(excerpt);
        self
    }

    /// Without the line of the text, which may hold a secret.
    pub(crate) fn without_excerpt(mut self) -> Self {
        self.0.excerpt = None;
        self
    }

    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.0.exit = exit;
        self
    }

    /// The form for people.
    pub(crate) fn render(&self, pen: Pen) -> String {
        let mut text = format!(
            "{}: {}\n",
            pen.paint(Colour::Red, &format!("error[{}]", self.code)),
            escape_line(&self.what)
        );
        if let Some(excerpt) = &self.excerpt {
            text.push_str(&excerpt.render(pen));
        }
        if let Some(why) = &self.why {
            push_labelled(&mut text, "why", std::slice::from_ref(why));
        }
        if let Some(note) = &self.note {
            push_labelled(&mut text, "note", std::slice::from_ref(note));
        }
        push_labelled(&mut text, "fix", &self.fix);
        text
    }

    /// The form for programs, on one line.
    pub(crate) fn to_json(&self) -> String {
        escape_json(&self.document().to_string()).into_owned()
    }

    /// The form for programs.
    pub(crate) fn document(&self) -> serde_json::Value {
        serde_json::json!({
            "schema": "oriel.error/1",
            "code": self.code,
            "message": self.what,
            "place": self.excerpt.as_ref().map(Excerpt::position),
            "hint": self.excerpt.as_ref().and_then(|excerpt| excerpt.hint.as_ref()),
            "why": self.why,
            "note": self.note,
            "fix": self.fix,
            "docs": format!("oriel explain {}", self.code),
            "exit_code": self.exit.code(),
        })
    }
}

impl std::ops::Deref for Problem {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl Excerpt {
    /// Marks the bytes `span` of `text`.
    pub(crate) fn of(place: &str, text: &str, span: std::ops::Range<usize>) -> Self {
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end.max(start));
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text.get(line_start..).unwrap_or_default();
        let line = line.lines().next().unwrap_or_default();
        let line_end = line_start + line.len();
        let count = |from: usize, to: usize| text.get(from..to).unwrap_or_default().chars().count();
        Self {
            place: place.to_owned(),
            line_number: before.matches('\n').count() + 1,
            column: count(line_start, start) + 1,
            line: line.to_owned(),
            marked: count(start, end.min(line_end)),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// `file:line:column`.
    pub(crate) fn position(&self) -> String {
        format!("{}:{}:{}", self.place, self.line_number, self.column)
    }

    /// The place, the line and the carets, each on its own line.
    pub(crate) fn render(&self, pen: Pen) -> String {
        let mut text = format!("  {}\n", escape_line(&self.position()));
        text.push_str(&self.render_line(pen));
        text
    }

    /// The line and the carets.
    pub(crate) fn render_line(&self, pen: Pen) -> String {
        let number = self.line_number.to_string();
        let bar = if pen.ascii() { '|' } else { '│' };
        let carets = "^".repeat(self.marked.max(1));
        let hint = self.hint.as_deref().unwrap_or_default();
        let mut text = format!("   {number} {bar} {}\n", escape_line(&self.line));
        let marks = format!("{carets} {}", escape_line(hint));
        let _infallible = writeln!(
            text,
            "   {blank:width$} {bar} {blank:indent$}{}",
            pen.paint(Colour::Yellow, marks.trim_end()),
            blank = "",
            width = number.len(),
            indent = self.column - 1,
        );
        text
    }
}

/// The last character boundary not after `index`.
fn floor_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

fn push_labelled(text: &mut String, label: &str, lines: &[String]) {
    let mut label = label;
    for line in lines.iter().flat_map(|line| line.lines()) {
        let _infallible = writeln!(text, "  {label:6}{}", escape_line(line));
        label = "";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_where_why_and_how_to_fix() {
        let text = "[proxy]\nlistn = \"é\"\n";
        let problem = Problem::new("ORL0402", Exit::Usage, "unknown key `listn`")
            .excerpt(
                Excerpt::of("config.toml", text, 8..13).hint(Some("did you mean `listen`?".into())),
            )
            .why("because")
            .note("besides")
            .fix("one")
            .fix("two");
        insta::assert_snapshot!(problem.render(Pen::plain()), @r#"
        error[ORL0402]: unknown key `listn`
          config.toml:2:1
           2 │ listn = "é"
             │ ^^^^^ did you mean `listen`?
          why   because
          note  besides
          fix   one
                two
        "#);
    }

    #[test]
    fn a_problem_of_another_process_is_told_as_there() {
        let problem = Problem::new("ORL0103", Exit::Busy, "port 1 is in use")
            .why("because")
            .note("besides")
            .fix("one");
        let told: serde_json::Value = serde_json::from_str(&problem.to_json()).unwrap();
        let heard = Problem::of_json(&told).unwrap();
        assert_eq!(heard.render(Pen::plain()), problem.render(Pen::plain()));
        assert_eq!(heard.exit.code(), 6);
        assert!(Problem::of_json(&serde_json::json!({"code": "none of ours"})).is_none());
    }

    #[test]
    fn an_excerpt_stays_within_its_line_and_its_text() {
        let excerpt = Excerpt::of("f", "a = é\nb", 4..7);
        assert_eq!(
            (excerpt.line_number, excerpt.column, excerpt.marked),
            (1, 5, 1)
        );
        let beyond = Excerpt::of("f", "é", 1..99);
        assert_eq!((beyond.line_number, beyond.column), (1, 1));
        assert_eq!(Excerpt::of("f", "", 0..0).line, "");
    }
}
