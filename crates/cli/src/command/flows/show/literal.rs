//! Texts as string literals of programming languages. What was captured is hostile: nothing in it ends
//! the literal, and what a terminal would obey is escaped.

use std::fmt::Write as _;

use super::again::{Piece, is_ascii, is_plain};

/// A language with strings in double quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    JavaScript,
}

impl Language {
    /// A text in double quotes.
    pub(super) fn literal(self, text: &str) -> String {
        let mut literal = String::with_capacity(text.len() + 2);
        literal.push('"');
        for letter in text.chars() {
            match letter {
                '"' => literal.push_str("\\\""),
                '\\' => literal.push_str("\\\\"),
                '\n' => literal.push_str("\\n"),
                '\r' => literal.push_str("\\r"),
                '\t' => literal.push_str("\\t"),
                letter if is_plain(letter.encode_utf8(&mut [0; 4])) => literal.push(letter),
                letter => self.push_escaped(&mut literal, letter),
            }
        }
        literal.push('"');
        literal
    }

    fn push_escaped(self, literal: &mut String, letter: char) {
        let _infallible = match self {
            Self::Python => write!(literal, "\\U{:08x}", u32::from(letter)),
            Self::JavaScript => write!(literal, "\\u{{{:x}}}", u32::from(letter)),
        };
    }

    /// Texts and variables of the environment, as one expression.
    pub(super) fn expression(self, pieces: &[Piece]) -> String {
        let pieces = pieces.iter().filter(|piece| !piece.is_empty());
        let words: Vec<String> = pieces
            .map(|piece| match piece {
                Piece::Text(text) => self.literal(text),
                Piece::Variable(name) => match self {
                    Self::Python => format!("os.environ[{}]", self.literal(name)),
                    Self::JavaScript => format!("variable({})", self.literal(name)),
                },
            })
            .collect();
        match words.is_empty() {
            true => self.literal(""),
            false => words.join(" + "),
        }
    }
}

impl Language {
    /// The value of a field. Text is sent in Latin-1 by either language, and what was captured is read as
    /// UTF-8.
    pub(super) fn value(self, pieces: &[Piece]) -> String {
        let written = self.expression(pieces);
        match (is_ascii(pieces), self) {
            (true, _) => written,
            (false, Self::Python) => format!("({written}).encode()"),
            (false, Self::JavaScript) => format!("Buffer.from({written}).toString(\"latin1\")"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_literal() {
        let hostile = "a\"b\\\n\r\t\u{1b}\u{2028}\u{e0001}é🦀${x}";
        assert_eq!(
            Language::Python.literal(hostile),
            r#""a\"b\\\n\r\t\U0000001b\U00002028\U000e0001é🦀${x}""#
        );
        assert_eq!(
            Language::JavaScript.literal(hostile),
            r#""a\"b\\\n\r\t\u{1b}\u{2028}\u{e0001}é🦀${x}""#
        );
    }

    #[test]
    fn variables_stand_beside_literals() {
        let pieces = [
            Piece::Text("Bearer ".to_owned()),
            Piece::Variable("OPENAI_API_KEY".to_owned()),
        ];
        assert_eq!(
            Language::Python.expression(&pieces),
            r#""Bearer " + os.environ["OPENAI_API_KEY"]"#
        );
        assert_eq!(
            Language::JavaScript.expression(&pieces),
            r#""Bearer " + variable("OPENAI_API_KEY")"#
        );
        let empty = [Piece::Text(String::new())];
        assert_eq!(Language::Python.expression(&empty), r#""""#);
    }
}
