//! From bytes to records: whole lines, cut lines, records of several lines. Pure.

use regex::bytes::Regex;

use crate::messages::line::Part;

/// How bytes become records.
#[derive(Debug, Clone)]
pub(super) struct Splitter {
    /// Bytes of a record; a longer one is cut.
    pub limit: usize,
    /// How the first line of a record looks, where a record may have several lines.
    pub start: Option<Regex>,
}

/// How much is known about what follows the bytes in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum After {
    /// More may come at any time.
    More,
    /// Nothing came for the time after which a record of several lines is complete.
    Quiet,
    /// Nothing comes any more: the file is rotated and was read to its end.
    End,
}

/// One record, as a range of the bytes in hand, without its line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub from: usize,
    pub to: usize,
    pub part: Part,
}

/// What became of some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pieces {
    /// The records.
    pub pieces: Vec<Piece>,
    /// Bytes that are done with. What follows is the beginning of a record.
    pub consumed: usize,
    /// The bytes that follow lie inside a record that was cut.
    pub inside: bool,
    /// NUL bytes between records, that were passed over: what a truncation leaves before a writer that goes on.
    pub nuls: u64,
}

/// What stands at the beginning of some bytes.
enum Next {
    /// A record of `len` bytes, its end included, of which `content` count.
    Record { content: usize, len: usize },
    /// More than the limit without an end: cut here.
    Cut(usize),
    /// The beginning of a record.
    Unfinished,
}

impl Splitter {
    /// Bytes that must be in hand before a record can be cut: the limit and a line end of two bytes.
    pub(super) fn reach(&self) -> usize {
        self.limit + 2
    }

    /// Takes records from the beginning of `data`, at most `most`; `inside` says whether it begins inside a cut record.
    pub(super) fn split(&self, data: &[u8], mut inside: bool, after: After, most: usize) -> Pieces {
        let mut out = Pieces::default();
        let mut at = 0;
        while at < data.len() && out.pieces.len() < most {
            let rest = &data[at..];
            if !inside && rest[0] == 0 {
                let run = rest.iter().position(|b| *b != 0).unwrap_or(rest.len());
                out.nuls += run as u64;
                at += run;
                continue;
            }
            let (content, len, part, cut) = match self.next(rest, after) {
                Next::Record { content, len } => (content, len, if inside { Part::Rest } else { Part::Whole }, false),
                Next::Cut(len) => (len, len, Part::Cut, true),
                Next::Unfinished if after == After::End && rest.len() > self.limit => {
                    (self.limit, self.limit, Part::Cut, true)
                }
                Next::Unfinished if after == After::End => (rest.len(), rest.len(), Part::Torn, true),
                Next::Unfinished => break,
            };
            out.pieces.push(Piece { from: at, to: at + content, part });
            at += len;
            inside = cut;
        }
        out.consumed = at;
        out.inside = inside;
        out
    }

    fn next(&self, rest: &[u8], after: After) -> Next {
        match &self.start {
            None => self.next_line(rest),
            Some(start) => self.next_group(rest, after, start),
        }
    }

    fn next_line(&self, rest: &[u8]) -> Next {
        let window = &rest[..rest.len().min(self.reach())];
        match memchr::memchr(b'\n', window) {
            Some(end) => self.bounded(without_cr(&rest[..end]), end + 1),
            None if rest.len() > self.limit + 1 => Next::Cut(self.limit),
            None => Next::Unfinished,
        }
    }

    fn bounded(&self, content: usize, len: usize) -> Next {
        if content <= self.limit { Next::Record { content, len } } else { Next::Cut(self.limit) }
    }

    /// A record of several lines goes up to the next line that looks like a first one. It is cut inside a line, never
    /// at its end, so that what follows a cut can be told from a record of its own.
    fn next_group(&self, rest: &[u8], after: After, start: &Regex) -> Next {
        let mut end = None;
        let mut line = 0;
        let mut is_closed = false;
        while line <= self.reach()
            && let Some(len) = memchr::memchr(b'\n', &rest[line..])
        {
            // The first line is the record's own, whatever it looks like; of a cut record, the rest of a line.
            if line > 0 && start.is_match(&rest[line..line + without_cr(&rest[line..line + len])]) {
                is_closed = true;
                break;
            }
            end = Some(line + len);
            line += len + 1;
        }
        let is_long = rest.len() > self.limit + 1;
        let Some(end) = end else {
            return if is_long { self.cut(rest) } else { Next::Unfinished };
        };
        let content = without_cr(&rest[..end]);
        if content > self.limit {
            return self.cut(rest);
        }
        // Where the limit leaves no time for the line that follows, its beginning must say what it is.
        let follows = &rest[line.min(rest.len())..];
        if is_closed || (is_long && !follows.is_empty() && start.is_match(follows)) {
            Next::Record { content, len: end + 1 }
        } else if is_long && !follows.is_empty() {
            self.cut(rest)
        } else if after >= After::Quiet {
            Next::Record { content, len: end + 1 }
        } else {
            Next::Unfinished
        }
    }

    fn cut(&self, rest: &[u8]) -> Next {
        let at_line_end = rest[self.limit - 1] == b'\n';
        Next::Cut(self.limit - usize::from(at_line_end))
    }
}

/// The length of a line without the CR at its end.
fn without_cr(line: &[u8]) -> usize {
    line.len() - usize::from(line.last() == Some(&b'\r'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(limit: usize) -> Splitter {
        Splitter { limit, start: None }
    }

    fn groups(limit: usize) -> Splitter {
        Splitter { limit, start: Some(Regex::new(r"^\d").expect("a pattern")) }
    }

    /// The records as text, each with its part, and what is left.
    fn split(splitter: &Splitter, data: &[u8], after: After) -> (Vec<String>, String) {
        let out = splitter.split(data, false, after, usize::MAX);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let one = |p: &Piece| {
            format!(
                "{}{}",
                text(&data[p.from..p.to]),
                if p.part == Part::Whole { String::new() } else { format!(" <{}>", p.part.as_str()) }
            )
        };
        (out.pieces.iter().map(one).collect(), text(&data[out.consumed..]))
    }

    #[test]
    fn a_line_is_held_until_its_end_is_there() {
        assert_eq!(
            split(&lines(64), b"a\nb\r\n\n\r\nhalf", After::More),
            (["a", "b", "", ""].map(String::from).into(), "half".into())
        );
        assert_eq!(split(&lines(64), b"half", After::Quiet), (vec![], "half".into()));
        assert_eq!(
            split(&lines(64), b"a\nhalf", After::End),
            (["a", "half <torn>"].map(String::from).into(), String::new())
        );
    }

    #[test]
    fn nul_runs_before_a_line_are_passed_over_and_counted_those_inside_are_bytes() {
        let out = lines(64).split(b"\0\0\0a\0b\n\0\0", false, After::More, 9);
        assert_eq!((out.pieces, out.nuls, out.consumed), (vec![Piece { from: 3, to: 6, part: Part::Whole }], 5, 9));
    }

    #[test]
    fn a_line_over_the_limit_is_cut_and_goes_on_and_one_at_the_limit_is_whole() {
        let cut = |data: &[u8]| split(&lines(4), data, After::More).0.join("|");
        assert_eq!(cut(b"1234\n1234\r\n"), "1234|1234");
        assert_eq!(cut(b"12345\nx\n"), "1234 <cut>|5 <rest>|x");
        assert_eq!(cut(b"123456789\r\nx\n"), "1234 <cut>|5678 <cut>|9 <rest>|x");
        assert_eq!(cut(b"12345"), "");
        assert_eq!(cut(b"123456"), "1234 <cut>");
        assert_eq!(split(&lines(4), b"12345", After::End).0.join("|"), "1234 <cut>|5 <torn>");
    }

    #[test]
    fn a_record_of_several_lines_ends_before_the_next_one_or_after_the_time() {
        let data = b"1 a\n  b\r\n2\n3 c\n  d\n  ha";
        assert_eq!(
            split(&groups(64), data, After::More),
            (["1 a\n  b", "2"].map(String::from).into(), "3 c\n  d\n  ha".into())
        );
        assert_eq!(split(&groups(64), data, After::Quiet).1, "  ha");
        assert_eq!(split(&groups(64), data, After::End).0[2..], ["3 c\n  d", "  ha <torn>"]);
        assert_eq!(split(&groups(64), b"  x\n1\n2\n", After::More).0, ["  x", "1"], "what begins in the middle");
    }

    #[test]
    fn a_record_of_several_lines_is_bounded_and_never_cut_at_a_line_end() {
        assert_eq!(split(&groups(4), b"1a\nb\ncc\n2\n3\n", After::More).0, ["1a\nb <cut>", "\ncc <rest>", "2"]);
        assert_eq!(
            split(&groups(4), b"1abcdefgh\n2\n3\n", After::More).0,
            ["1abc <cut>", "defg <cut>", "h <rest>", "2"]
        );
        assert_eq!(split(&groups(4), b"1abc\n2345", After::More).0, ["1abc"], "the next one shows its beginning");
    }

    proptest! {
        /// However the bytes come in, the records and their places are the same, and nothing is lost between them.
        #[test]
        fn arrival_changes_nothing(
            data in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(0), Just(b'1'), Just(b'x')], 0..200),
            chunk in 1..20usize, limit in 3..12usize, grouped: bool,
        ) {
            let splitter = if grouped { groups(limit) } else { lines(limit) };
            let whole = splitter.split(&data, false, After::End, usize::MAX);
            let (mut at, mut have, mut inside, mut pieces, mut nuls) = (0, 0, false, Vec::new(), 0);
            loop {
                let after = if have == data.len() { After::End } else { After::More };
                let out = splitter.split(&data[at..have], inside, after, 2);
                let moved = |p: &Piece| Piece { from: p.from + at, to: p.to + at, part: p.part };
                pieces.extend(out.pieces.iter().map(moved));
                nuls += out.nuls;
                (at, inside) = (at + out.consumed, out.inside);
                if out.consumed == 0 {
                    if have == data.len() { break }
                    have = (have + chunk).min(data.len());
                }
            }
            prop_assert_eq!(&pieces, &whole.pieces);
            prop_assert_eq!((at, nuls), (data.len(), whole.nuls));
            let mut end = 0;
            for piece in &whole.pieces {
                prop_assert!(data[end..piece.from].iter().all(|b| matches!(b, b'\n' | b'\r' | 0)), "bytes between");
                prop_assert!(piece.to - piece.from <= limit);
                end = piece.to;
            }
        }
    }
}
