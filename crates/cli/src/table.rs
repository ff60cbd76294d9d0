//! Tables without borders: two spaces between columns, numbers to the right. On a terminal one
//! column gives way so that a line fits; elsewhere nothing is ever cut.

use crate::terminal::{Colour, Pen};

/// One cell. Its text is printed as it is: escape what was captured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    colour: Option<Colour>,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) side: Side,
}

/// Where a column's texts stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
    /// To the left, and cut where the line is too long.
    GivesWay,
}

/// Narrower than this nothing can be read.
const GIVES_WAY_MIN: usize = 12;

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            colour: None,
        }
    }

    pub(crate) fn coloured(text: impl Into<String>, colour: Colour) -> Self {
        Self {
            text: text.into(),
            colour: Some(colour),
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// The lines of a table, its titles first.
pub(crate) fn render(
    columns: &[Column],
    rows: &[Vec<Cell>],
    width: Option<usize>,
    pen: Pen,
) -> String {
    let widths = widths(columns, rows, width);
    let mut text = String::new();
    let titles: Vec<Cell> = columns
        .iter()
        .map(|column| Cell::coloured(column.title, Colour::Bold))
        .collect();
    push_line(&mut text, columns, &titles, &widths, pen);
    for row in rows {
        push_line(&mut text, columns, row, &widths, pen);
    }
    text
}

fn widths(columns: &[Column], rows: &[Vec<Cell>], width: Option<usize>) -> Vec<usize> {
    let mut widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(index))
                .map(Cell::width);
            cells.max().unwrap_or_default().max(column.title.len())
        })
        .collect();
    let total: usize = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    let gives_way = columns
        .iter()
        .position(|column| column.side == Side::GivesWay);
    if let (Some(width), Some(index)) = (width, gives_way) {
        let too_long = total.saturating_sub(width);
        if let Some(column) = widths.get_mut(index) {
            *column = column.saturating_sub(too_long).max(GIVES_WAY_MIN);
        }
    }
    widths
}

fn push_line(text: &mut String, columns: &[Column], row: &[Cell], widths: &[usize], pen: Pen) {
    let mut line = String::new();
    // Spaces after the last text are left out.
    let mut owed = 0;
    for ((column, cell), width) in columns.iter().zip(row).zip(widths) {
        let shown = cut(&cell.text, *width, pen);
        let missing = width.saturating_sub(shown.chars().count());
        if column.side == Side::Right {
            owed += missing;
        }
        line.push_str(&" ".repeat(owed));
        owed = 2;
        match cell.colour {
            Some(colour) => line.push_str(&pen.paint(colour, &shown)),
            None => line.push_str(&shown),
        }
        if column.side != Side::Right {
            owed += missing;
        }
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

fn cut(text: &str, width: usize, pen: Pen) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mark = if pen.ascii() { "~" } else { "…" };
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + mark
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column {
            title: "ID",
            side: Side::Left,
        },
        Column {
            title: "URL",
            side: Side::GivesWay,
        },
        Column {
            title: "SIZE",
            side: Side::Right,
        },
    ];

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![
                Cell::new("a.1"),
                Cell::new("https://example.test/long/path"),
                Cell::new("1 B"),
            ],
            vec![Cell::new("a.10"), Cell::new("b"), Cell::new("1.5 KiB")],
        ]
    }

    #[test]
    fn only_a_terminal_cuts() {
        insta::assert_snapshot!(render(&COLUMNS, &rows(), None, Pen::plain()), @r"
        ID    URL                                SIZE
        a.1   https://example.test/long/path      1 B
        a.10  b                               1.5 KiB
        ");
        insta::assert_snapshot!(render(&COLUMNS, &rows(), Some(32), Pen::plain()), @r"
        ID    URL                   SIZE
        a.1   https://example.…      1 B
        a.10  b                  1.5 KiB
        ");
    }
}
