//! A regular expression of Rust as PostgreSQL's "advanced" ones have it, so that a filter means the same
//! on both. What a class, a case or a boundary is comes from Rust's tables, not from the locale of the
//! server.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// What matches nothing.
const NEVER: &str = "(?!)";
/// The largest number in a bound; see RE_DUP_MAX of the server.
const BOUND_MAX: u32 = 255;

/// Translates an expression that ignores case and has been compiled before.
pub(crate) fn translated(regex: &str) -> String {
    let mut parser = ParserBuilder::new().case_insensitive(true).build();
    let mut out = String::new();
    match parser.parse(regex) {
        Ok(hir) => write(&hir, &mut out),
        Err(_) => out.push_str(NEVER),
    }
    out
}

fn write(hir: &Hir, out: &mut String) {
    match hir.kind() {
        HirKind::Empty => out.push_str("(?:)"),
        HirKind::Literal(literal) => match str::from_utf8(&literal.0) {
            Ok(text) => text.chars().for_each(|letter| write_letter(letter, out)),
            // No text has it.
            Err(_) => out.push_str(NEVER),
        },
        HirKind::Class(class) => out.push_str(&bracket(class)),
        HirKind::Look(look) => write_look(*look, out),
        HirKind::Repetition(repetition) => write_repetition(repetition, out),
        HirKind::Capture(capture) => write_group(&capture.sub, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| write(part, out)),
        HirKind::Alternation(parts) => {
            out.push_str("(?:");
            for (place, part) in parts.iter().enumerate() {
                if place > 0 {
                    out.push('|');
                }
                write(part, out);
            }
            out.push(')');
        }
    }
}

fn write_group(hir: &Hir, out: &mut String) {
    out.push_str("(?:");
    write(hir, out);
    out.push(')');
}

/// A letter that stands for itself, also in brackets.
fn write_letter(letter: char, out: &mut String) {
    match letter {
        letter if letter.is_ascii_alphanumeric() => out.push(letter),
        // No text of the server has it.
        '\0' => out.push_str(NEVER),
        letter => out.push_str(&format!("\\U{:08x}", u32::from(letter))),
    }
}

/// A class by its ranges. Without U+0000, which no text of the server has.
fn bracket(class: &Class) -> String {
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(class) => {
            let ranges = class.ranges().iter();
            ranges.map(|range| (range.start(), range.end())).collect()
        }
        Class::Bytes(class) => {
            let ranges = class.ranges().iter();
            let ranges = ranges.map(|range| (range.start().into(), range.end().into()));
            ranges.collect()
        }
    };
    let mut out = "[".to_owned();
    for (start, end) in ranges {
        let start = start.max('\u{1}');
        if start > end {
            continue;
        }
        write_letter(start, &mut out);
        if start < end {
            out.push('-');
            write_letter(end, &mut out);
        }
    }
    match out.as_str() {
        "[" => NEVER.to_owned(),
        _ => out + "]",
    }
}

/// So many times; a bound has at most [`BOUND_MAX`], so that a larger one is a sum.
fn write_repetition(repetition: &Repetition, out: &mut String) {
    let mut part = String::new();
    write_group(&repetition.sub, &mut part);
    let mut fixed = repetition.min;
    while fixed > BOUND_MAX {
        out.push_str(&format!("{part}{{{BOUND_MAX}}}"));
        fixed -= BOUND_MAX;
    }
    let Some(max) = repetition.max else {
        out.push_str(&format!("{part}{{{fixed},}}"));
        return;
    };
    let mut more = max.saturating_sub(repetition.min);
    out.push_str(&format!("{part}{{{fixed}}}"));
    while more > 0 {
        let some = more.min(BOUND_MAX);
        out.push_str(&format!("{part}{{0,{some}}}"));
        more -= some;
    }
}

fn write_look(look: Look, out: &mut String) {
    let text = match look {
        Look::Start => "\\A".to_owned(),
        Look::End => "\\Z".to_owned(),
        Look::StartLF => format!("(?:\\A|(?<={}))", "\\u000a"),
        Look::EndLF => format!("(?:\\Z|(?={}))", "\\u000a"),
        Look::StartCRLF => "(?:\\A|(?<=\\u000a)|(?<=\\u000d)(?!\\u000a))".to_owned(),
        Look::EndCRLF => "(?:\\Z|(?=\\u000d)|(?<!\\u000d)(?=\\u000a))".to_owned(),
        Look::WordAscii | Look::WordUnicode => {
            let word = word(look == Look::WordUnicode);
            format!("(?:(?<={word})(?!{word})|(?<!{word})(?={word}))")
        }
        Look::WordAsciiNegate | Look::WordUnicodeNegate => {
            let word = word(look == Look::WordUnicodeNegate);
            format!("(?:(?<={word})(?={word})|(?<!{word})(?!{word}))")
        }
        Look::WordStartAscii | Look::WordStartUnicode => {
            let word = word(look == Look::WordStartUnicode);
            format!("(?:(?<!{word})(?={word}))")
        }
        Look::WordEndAscii | Look::WordEndUnicode => {
            let word = word(look == Look::WordEndUnicode);
            format!("(?:(?<={word})(?!{word}))")
        }
        Look::WordStartHalfAscii | Look::WordStartHalfUnicode => {
            format!("(?:(?<!{}))", word(look == Look::WordStartHalfUnicode))
        }
        Look::WordEndHalfAscii | Look::WordEndHalfUnicode => {
            format!("(?:(?!{}))", word(look == Look::WordEndHalfUnicode))
        }
    };
    out.push_str(&text);
}

/// What a word consists of.
fn word(unicode: bool) -> String {
    if !unicode {
        return "[0-9A-Za-z\\u005f]".to_owned();
    }
    match regex_syntax::parse("\\w").map(Hir::into_kind) {
        Ok(HirKind::Class(class)) => bracket(&class),
        _ => NEVER.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rust_means_is_said_in_full() {
        for (regex, expected) in [
            ("", "(?:)"),
            ("a.", "[Aa][\\U00000001-\\U00000009\\U0000000b-\\U0010ffff]"),
            ("1|2", "[1-2]"),
            ("12|3", "(?:12|3)"),
            ("(?<n>1)?", "(?:(?:1)){0}(?:(?:1)){0,1}"),
            ("1{2,300}", "(?:1){2}(?:1){0,255}(?:1){0,43}"),
            ("1{300,}", "(?:1){255}(?:1){45,}"),
            ("^1$", "\\A1\\Z"),
            ("(?m)^1", "(?:\\A|(?<=\\u000a))1"),
            (
                "(?-u)\\b1",
                "(?:(?<=[0-9A-Za-z\\u005f])(?![0-9A-Za-z\\u005f])|\
                           (?<![0-9A-Za-z\\u005f])(?=[0-9A-Za-z\\u005f]))1",
            ),
            ("\\*", "\\U0000002a"),
            ("\\x00", "(?!)"),
            ("[\\x00]", "(?!)"),
            ("[^\\x00-\\x{10ffff}]", "(?!)"),
        ] {
            assert_eq!(translated(regex), expected, "{regex}");
        }
    }
}
