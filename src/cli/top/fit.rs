//! Tables that fit a width: columns are dropped from the least wanted on, and what is too long is cut.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

/// Between two columns.
const GAP: u16 = 2;
/// No column takes more; a foreign text may be of any length.
const COLUMN_MAX: u16 = 200;
/// No word of a column of words takes more.
const WORD_MAX: u16 = 16;
/// How far such a line is indented.
const INDENT: u16 = 2;
/// Lines that such words take at the most; what does not fit then is cut.
const WORD_LINES_MAX: usize = 2;

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Look {
    #[default]
    Plain,
    /// Not important.
    Dim,
    /// A headline.
    Head,
    /// The chosen section.
    Chosen,
    Good,
    Warn,
    Bad,
}

impl Look {
    /// Its style. Without colours only what every terminal shows is left.
    pub fn style(self, colours: bool) -> Style {
        let coloured = |colour| if colours { Style::new().fg(colour) } else { Style::new() };
        match self {
            Look::Plain => Style::new(),
            Look::Dim => Style::new().add_modifier(Modifier::DIM),
            Look::Head => Style::new().add_modifier(Modifier::BOLD),
            Look::Chosen => Style::new().add_modifier(Modifier::REVERSED),
            Look::Good => coloured(Color::Green),
            Look::Warn => coloured(Color::Yellow),
            Look::Bad => coloured(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// Text at its place in a line; never wider than `width`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub x: u16,
    pub width: u16,
    pub text: String,
    pub look: Look,
}

/// One line of the picture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Row(pub Vec<Piece>);

impl Row {
    /// One piece of text from the left edge on, cut at `width`.
    pub fn text(text: &str, look: Look, width: u16) -> Self {
        Self::indented(text, look, 0, width)
    }

    fn indented(text: &str, look: Look, x: u16, width: u16) -> Self {
        let width = width.saturating_sub(x);
        Self(vec![Piece { x, width, text: cut(&tidy(text), width), look }])
    }

    /// Draws it. Each piece has its own place, so that no text, however odd, moves another.
    pub fn draw(&self, buffer: &mut Buffer, y: u16, colours: bool) {
        let area = buffer.area;
        for piece in self.0.iter().filter(|piece| piece.x < area.width && y < area.height) {
            let width = piece.width.min(area.width - piece.x);
            buffer.set_stringn(area.x + piece.x, area.y + y, &piece.text, width.into(), piece.look.style(colours));
        }
    }
}

/// Foreign text as one line: nothing that moves the cursor, turns the direction of writing, or takes no room.
pub(super) fn tidy(text: &str) -> String {
    let spaced = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    spaced.filter(|c| c.is_ascii() || char_width(*c) > 0).collect()
}

/// Cells that a text takes.
pub(super) fn width_of(text: &str) -> u16 {
    u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX)
}

fn char_width(c: char) -> u16 {
    if c.is_ascii() { 1 } else { width_of(c.encode_utf8(&mut [0; 4])) }
}

/// At most `width` cells of it, with two dots where something is missing at the end.
pub(super) fn cut(text: &str, width: u16) -> String {
    shorten(text, width, width)
}

/// As [`cut`], but the end of a name tells more than its middle: a quarter of the room is kept for it.
pub(super) fn cut_name(name: &str, width: u16) -> String {
    shorten(name, width, width - width / 4)
}

/// The first `front` cells with two dots among them, then as many of the last ones as `width` has room for.
fn shorten(text: &str, width: u16, front: u16) -> String {
    if width_of(text) <= width {
        return text.to_owned();
    }
    let dots = &".."[..usize::from(front.min(2))];
    let first: String = taken(text.chars(), front.saturating_sub(2)).into_iter().collect();
    let last: String = taken(text.chars().rev(), width - front).into_iter().rev().collect();
    format!("{first}{dots}{last}")
}

/// Characters from the front, as many as the cells hold.
fn taken(chars: impl Iterator<Item = char>, cells: u16) -> Vec<char> {
    let mut left = cells;
    let fits = |c: &char| match left.checked_sub(char_width(*c)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    chars.take_while(fits).collect()
}

/// Words in lines of `width` cells, parted at spaces; of the last line the end may be too long.
fn wrapped(text: &str, width: u16) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let is_last = lines.len() >= WORD_LINES_MAX;
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            word.clone_into(line);
        } else if is_last || width_of(line).saturating_add(1).saturating_add(width_of(word)) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// A name: to the left, cut at so many cells where there is no room for more.
    Name(u16),
    /// A word: to the left.
    Word,
    /// A number: to the right.
    Number,
}

/// Columns of this rank and above are spare: dropped before any name is cut.
const SPARE: u8 = 5;

/// A column, with its rank: the highest rank is dropped first, 0 stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub head: &'static str,
    pub holds: Holds,
    pub rank: u8,
}

/// A column of words.
pub(super) const fn word(head: &'static str, rank: u8) -> Column {
    Column { head, holds: Holds::Word, rank }
}

/// A column of numbers.
pub(super) const fn number(head: &'static str, rank: u8) -> Column {
    Column { head, holds: Holds::Number, rank }
}

/// A column of names that are cut at so many cells in the narrowest case.
pub(super) const fn name(head: &'static str, least: u16, rank: u8) -> Column {
    Column { head, holds: Holds::Name(least), rank }
}

/// One line of a table: a cell for each column, and words that take what is left.
#[derive(Debug, Clone)]
pub(super) struct Cells {
    pub cells: Vec<(String, Look)>,
    pub words: String,
    pub look: Look,
}

/// The table as lines of at most `width` cells; the first is its head.
pub(super) fn table(columns: &[Column], words_head: &str, rows: &[Cells], width: u16) -> Vec<Row> {
    let wanted: Vec<u16> = (0..columns.len()).map(|at| wanted(columns, rows, at)).collect();
    let shown = shown(columns, &wanted, width);
    let widths = widths(columns, &wanted, &shown, width);
    let used = total(&shown, &widths);
    let longest = rows.iter().map(|row| width_of(&tidy(&row.words))).max().unwrap_or(0);
    // Beside the columns where there is room for all of them; else below their rows, where there is more.
    let room = width.saturating_sub(used + GAP);
    let beside = longest > 0 && room >= longest.max(width_of(words_head));
    let place = beside.then_some((used + GAP, room));
    let head = Cells {
        cells: columns.iter().map(|column| (column.head.to_owned(), Look::Head)).collect(),
        words: words_head.to_owned(),
        look: Look::Head,
    };
    let mut lines = vec![line(&head, columns, &shown, &widths, place)];
    for row in rows {
        lines.push(line(row, columns, &shown, &widths, place));
        if !beside && !row.words.is_empty() {
            let wrapped = wrapped(&tidy(&row.words), width.saturating_sub(INDENT));
            lines.extend(wrapped.iter().map(|words| Row::indented(words, row.look, INDENT, width)));
        }
    }
    lines
}

/// The width that a column would like.
fn wanted(columns: &[Column], rows: &[Cells], at: usize) -> u16 {
    let cells = rows.iter().map(|row| width_of(&tidy(&row.cells[at].0)));
    let most = if columns[at].holds == Holds::Word { WORD_MAX } else { COLUMN_MAX };
    cells.max().unwrap_or(0).max(width_of(columns[at].head)).min(most)
}

/// The least that it can live with.
fn least(column: &Column, wanted: u16) -> u16 {
    match column.holds {
        Holds::Name(least) => wanted.min(least.max(width_of(column.head))),
        Holds::Word | Holds::Number => wanted,
    }
}

/// Columns that fit: of the spare ones those that leave the names whole, of the others those that fit beside cut names.
fn shown(columns: &[Column], wanted: &[u16], width: u16) -> Vec<usize> {
    let least: Vec<u16> = columns.iter().zip(wanted).map(|(column, wanted)| least(column, *wanted)).collect();
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    for (widths, drops_from) in [(wanted, SPARE), (&least, 1)] {
        while total(&shown, widths) > width {
            let droppable = shown.iter().copied().filter(|at| columns[*at].rank >= drops_from);
            let Some(last) = droppable.max_by_key(|at| columns[*at].rank) else { break };
            shown.retain(|at| *at != last);
        }
    }
    shown
}

/// Their widths: names share what is left, the first one first.
fn widths(columns: &[Column], wanted: &[u16], shown: &[usize], width: u16) -> Vec<u16> {
    let mut widths: Vec<u16> = columns.iter().zip(wanted).map(|(column, wanted)| least(column, *wanted)).collect();
    let mut left = width.saturating_sub(total(shown, &widths));
    for at in shown {
        let more = left.min(wanted[*at] - widths[*at]);
        widths[*at] += more;
        left -= more;
    }
    widths
}

fn total(shown: &[usize], widths: &[u16]) -> u16 {
    shown.iter().fold(0u16, |sum, at| sum.saturating_add(widths[*at] + GAP)).saturating_sub(GAP)
}

fn line(row: &Cells, columns: &[Column], shown: &[usize], widths: &[u16], place: Option<(u16, u16)>) -> Row {
    let mut pieces = Vec::new();
    let mut x = 0u16;
    for at in shown {
        let (text, look) = &row.cells[*at];
        let (text, width) = (tidy(text), widths[*at]);
        let piece = match columns[*at].holds {
            Holds::Name(_) => Piece { x, width, text: cut_name(&text, width), look: *look },
            Holds::Word => Piece { x, width, text: cut(&text, width), look: *look },
            Holds::Number => {
                let indent = width.saturating_sub(width_of(&text));
                Piece { x: x + indent, width: width - indent, text, look: *look }
            }
        };
        pieces.push(piece);
        x = x.saturating_add(width + GAP);
    }
    if let Some((x, width)) = place {
        pieces.push(Piece { x, width, text: cut(&tidy(&row.words), width), look: row.look });
    }
    Row(pieces)
}
