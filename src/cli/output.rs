//! Standard output: text with tables that line up, or JSON. A reader that closes the pipe is no fault.

use std::io::{ErrorKind, IsTerminal, Write};

use serde::Serialize;

use super::exit::Exit;

/// The width that tables keep to on a terminal, where their columns allow it.
const WIDTH: usize = 80;
/// The last column is not cut below this.
const LAST_MIN: usize = 24;

/// Writes text to standard output and answers `exit`, whoever reads it or not.
pub fn text(text: &str, exit: Exit) -> Exit {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => exit,
        // `gapless status | head`: enough was read.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit,
        Err(error) => Exit::usage(&format!("cannot write to standard output: {error}")),
    }
}

/// Writes one line at once, for output that comes bit by bit. A reader that has seen enough ends the command quietly.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        let quiet = error.kind() == ErrorKind::BrokenPipe;
        std::process::exit(if quiet { 0 } else { 2 });
    }
}

/// Writes one JSON document, then as [`text`].
pub fn json(value: &impl Serialize, exit: Exit) -> Exit {
    match serde_json::to_string_pretty(value) {
        Ok(json) => text(&format!("{json}\n"), exit),
        Err(error) => Exit::usage(&format!("the answer cannot be written as JSON: {error}")),
    }
}

/// Colours a few words, on a terminal only, and never where `NO_COLOR` is set (<https://no-color.org>).
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// For standard output.
    pub fn stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        Self { on: wanted && std::io::stdout().is_terminal() }
    }

    /// Whether it colours at all.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// What is wrong.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// What may go wrong.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// What is well.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A column's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows below a header. The last column, if it holds words, is cut to keep the width of a terminal; programs and files
/// get it whole.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Row>,
    /// Where the last column is cut.
    width: usize,
}

#[derive(Debug, Clone)]
struct Row {
    cells: Vec<String>,
    /// A line of its own below the cells, indented and never cut; empty for none.
    note: String,
}

impl Table {
    /// A table with these columns, for standard output.
    pub fn new(columns: &[(&'static str, Side)]) -> Self {
        let width = if std::io::stdout().is_terminal() { WIDTH } else { usize::MAX };
        Self { columns: columns.to_vec(), rows: Vec::new(), width }
    }

    /// The last column is what the table is read for: it is never cut.
    pub fn whole(mut self) -> Self {
        self.width = usize::MAX;
        self
    }

    /// Adds a row; it has as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<String>) {
        self.row_with(cells, String::new());
    }

    /// Adds a row with a line of its own below it, unless `note` is empty.
    pub fn row_with(&mut self, cells: Vec<String>, note: String) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(Row { cells, note });
    }

    /// The lines, each ended.
    pub fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.column_width(column)).collect();
        let header = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        let mut text = self.line(&header, &widths);
        for row in &self.rows {
            text.push_str(&self.line(&row.cells, &widths));
            if !row.note.is_empty() {
                text.push_str(&format!("  {}\n", row.note));
            }
        }
        text
    }

    fn column_width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row.cells[column].chars().count());
        cells.max().unwrap_or(0).max(self.columns[column].0.len())
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        let mut used = 0;
        for (place, (cell, (_, side))) in cells.iter().zip(&self.columns).enumerate() {
            let gap = if place == 0 { 0 } else { 2 };
            used += gap;
            line.push_str(&" ".repeat(gap));
            let last = place + 1 == cells.len();
            match side {
                Side::Right => line.push_str(&format!("{cell:>width$}", width = widths[place])),
                Side::Left if last => line.push_str(&cut(cell, self.width.saturating_sub(used).max(LAST_MIN))),
                Side::Left => line.push_str(&format!("{cell:<width$}", width = widths[place])),
            }
            used += widths[place];
        }
        format!("{}\n", line.trim_end())
    }
}

/// At most `width` characters, with three dots where something is missing.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    format!("{kept}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_the_last_is_cut() {
        let mut table = Table::new(&[("NAME", Side::Left), ("COUNT", Side::Right), ("WHY", Side::Left)]);
        table.width = WIDTH;
        table.row(vec!["a".to_owned(), "7".to_owned(), String::new()]);
        table.row(vec!["länger".to_owned(), "12345678".to_owned(), "x".repeat(100)]);
        let lines = table.render();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines[0], "NAME       COUNT  WHY");
        assert_eq!(lines[1], "a              7");
        assert_eq!(lines[2].chars().count(), WIDTH);
        assert!(lines[2].starts_with("länger  12345678  xxx") && lines[2].ends_with("..."), "{lines:?}");
        table.width = usize::MAX;
        assert!(table.render().ends_with(&format!("  {}\n", "x".repeat(100))));
    }

    #[test]
    fn a_note_stands_below_its_row_and_is_never_cut() {
        let mut table = Table::new(&[("NAME", Side::Left), ("COUNT", Side::Right)]);
        table.width = WIDTH;
        table.row_with(vec!["a".to_owned(), "7".to_owned()], "y".repeat(100));
        table.row(vec!["b".to_owned(), "8".to_owned()]);
        assert_eq!(table.render(), format!("NAME  COUNT\na         7\n  {}\nb         8\n", "y".repeat(100)));
    }

    #[test]
    fn nothing_is_coloured_where_it_is_not_wanted() {
        assert_eq!(Paint { on: false }.red("bad"), "bad");
        assert_eq!(Paint { on: true }.red("bad"), "\u{1b}[31mbad\u{1b}[0m");
    }
}
