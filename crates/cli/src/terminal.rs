//! What the two output streams can show: colours, glyphs, how many columns.

use std::io::IsTerminal;

use crate::environment::Environment;

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum When {
    /// Where the stream is a terminal and the environment does not object.
    #[default]
    Auto,
    Always,
    Never,
}

/// Both output streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    pub(crate) stdout: Stream,
    pub(crate) stderr: Stream,
}

/// One output stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// Whether a person looks at it.
    pub(crate) is_terminal: bool,
    /// How text for it is coloured.
    pub(crate) pen: Pen,
    /// Columns; `None` where lines are not to be cut.
    pub(crate) width: Option<usize>,
}

/// Colours text and picks glyphs, as far as the stream takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pen {
    colour: bool,
    ascii: bool,
}

/// The colours in use: of the sixteen that follow the theme of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
    Magenta,
    Cyan,
    Dim,
    Bold,
}

/// A state that is shown as a glyph. The word or the colour beside it never stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Glyph {
    Ok,
    Warning,
    Failed,
    Blocked,
    Tunnel,
    Live,
    Truncated,
    Stored,
}

impl Terminal {
    /// Looks at the streams of this process.
    pub(crate) fn detect(environment: &Environment, when: When, ascii: bool) -> Self {
        let ascii = ascii || environment.wants_ascii();
        let stream = |is_terminal: bool, width: Option<u16>| Stream {
            is_terminal,
            pen: Pen {
                colour: wants_colour(environment, when, is_terminal),
                ascii,
            },
            width: width.filter(|_| is_terminal).map(usize::from),
        };
        let stdout = std::io::stdout();
        let stderr = std::io::stderr();
        Self {
            stdout: stream(stdout.is_terminal(), columns(&stdout)),
            stderr: stream(stderr.is_terminal(), columns(&stderr)),
        }
    }
}

impl Pen {
    /// Neither colours nor restrictions on glyphs.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self {
            colour: false,
            ascii: false,
        }
    }

    pub(crate) fn ascii(self) -> bool {
        self.ascii
    }

    /// The text in a colour, where colours are wanted.
    pub(crate) fn paint(self, colour: Colour, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Magenta => 35,
            Colour::Cyan => 36,
            Colour::Dim => 2,
            Colour::Bold => 1,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// The glyph without colour.
    pub(crate) fn glyph(self, glyph: Glyph) -> &'static str {
        let (unicode, ascii) = match glyph {
            Glyph::Ok => ("✓", "ok"),
            Glyph::Warning => ("!", "!"),
            Glyph::Failed => ("✗", "x"),
            Glyph::Blocked => ("⊘", "BLOCK"),
            Glyph::Tunnel => ("⇢", "->"),
            Glyph::Live => ("●", "*"),
            Glyph::Truncated => ("…", "~"),
            Glyph::Stored => ("▒", "###"),
        };
        if self.ascii { ascii } else { unicode }
    }

    /// A piece of a horizontal rule.
    pub(crate) fn rule(self, columns: usize) -> String {
        if self.ascii { "-" } else { "─" }.repeat(columns)
    }

    /// What stands between two facts of one line.
    pub(crate) fn dot(self) -> &'static str {
        if self.ascii { "-" } else { "·" }
    }

    /// What stands for a value that is not known.
    pub(crate) fn unknown(self) -> &'static str {
        if self.ascii { "-" } else { "—" }
    }

    pub(crate) fn arrow(self) -> &'static str {
        if self.ascii { "->" } else { "→" }
    }
}

/// Flag, then NO_COLOR, then the variables that force colours, then whether it is a terminal.
fn wants_colour(environment: &Environment, when: When, is_terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            if environment.is_set("NO_COLOR") {
                return false;
            }
            if environment.forces_colour() {
                return true;
            }
            is_terminal && environment.text("TERM") != Some("dumb")
        }
    }
}

fn columns(stream: &impl std::os::fd::AsFd) -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], when: When, is_terminal: bool, expected: bool) {
        let environment = Environment::of(variables);
        assert_eq!(
            wants_colour(&environment, when, is_terminal),
            expected,
            "{variables:?} {when:?} {is_terminal}"
        );
    }

    #[test]
    fn colour_follows_flag_then_environment_then_terminal() {
        check(&[], When::Auto, true, true);
        check(&[], When::Auto, false, false);
        check(&[("NO_COLOR", "1")], When::Auto, true, false);
        check(&[("NO_COLOR", "")], When::Auto, true, true);
        check(&[("NO_COLOR", "1")], When::Always, false, true);
        check(&[("CLICOLOR_FORCE", "1")], When::Auto, false, true);
        check(&[("CLICOLOR_FORCE", "0")], When::Auto, false, false);
        let both = [("FORCE_COLOR", "1"), ("NO_COLOR", "1")];
        check(&both, When::Auto, false, false);
        check(&[("TERM", "dumb")], When::Auto, true, false);
        check(&[("FORCE_COLOR", "1")], When::Never, true, false);
    }
}
