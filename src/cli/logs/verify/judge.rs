//! One file against its entries in the stream. Pure: bytes come from whoever has the file.
//!
//! Nothing is split into lines again: where a record ends may have depended on the time at which it was read. What is
//! compared are bytes. Each entry must be the bytes of the file from its offset on, begin where a line begins and end
//! where one ends; and the entries of a file must cover it, in order, but for line ends and NUL bytes between lines.

use std::collections::BTreeMap;
use std::io;

use crate::messages::line::Part;

/// Bytes that are looked through at a time.
const STEP: usize = 64 * 1024;
/// Missing ranges of one file that are remembered, so that an entry that comes late is told from one that comes twice.
const HOLES_MAX: usize = 10_000;

/// The bytes of a file: `len` of them from an offset on, or as many as there are.
pub(super) type Bytes<'a> = dyn FnMut(u64, usize) -> io::Result<Vec<u8>> + 'a;

/// Whether what follows lies in the same line.
fn goes_on(part: Part) -> bool {
    matches!(part, Part::Cut | Part::Torn)
}

/// What is wrong with an entry, or with a line that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// A line before the file's place has no entry.
    Missing,
    /// An entry is not what stands in the file.
    Altered,
    /// An entry has the id of an earlier one.
    Doubled,
    /// An entry stands behind one of a later line of its file.
    Reordered,
}

impl Class {
    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Altered => "altered",
            Self::Doubled => "doubled",
            Self::Reordered => "reordered",
        }
    }
}

/// One finding, at a byte of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub class: Class,
    pub offset: u64,
    pub words: &'static str,
}

/// What became of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    /// It came again after a rewind, where the stream lacked it.
    Again,
    Bad(Fault),
}

/// What is known of a file so far.
#[derive(Debug)]
pub(super) struct Judge {
    /// The first byte that was judged; none before the first entry.
    first: Option<u64>,
    /// Where the next record is expected.
    next: u64,
    /// `next` lies inside a line.
    inside: bool,
    /// Where the record before `next` ended is not known.
    is_unsure: bool,
    /// What was passed over, by its beginning.
    holes: BTreeMap<u64, u64>,
    /// The stream may have lost entries to its bound while it was read: what stands before the next one is not judged.
    is_cut: bool,
    /// Bytes that were not judged, since their entries may have left the stream.
    pub unjudged: u64,
    /// There were too many holes to remember them.
    pub is_overfull: bool,
    /// Records have several lines: an altered one may have ended anywhere.
    multiline: bool,
}

impl Judge {
    /// Nothing seen yet. `from` is the byte before which nothing must be; none where the first entry tells.
    pub fn new(from: Option<u64>, multiline: bool) -> Self {
        Self {
            first: from,
            next: from.unwrap_or(0),
            inside: false,
            is_unsure: false,
            holes: BTreeMap::new(),
            is_cut: false,
            unjudged: 0,
            is_overfull: false,
            multiline,
        }
    }

    /// Whether nothing of the file need be in the stream.
    pub fn is_untouched(&self) -> bool {
        self.first.is_none()
    }

    /// Entries may have left the stream since the last one.
    pub fn cut(&mut self) {
        self.is_cut = self.first.is_some();
    }

    /// The next entry of the file. `is_rewound`: it is younger than a rewind of its watcher.
    pub fn entry(
        &mut self,
        offset: u64,
        data: &[u8],
        part: Part,
        is_rewound: bool,
        bytes: &mut Bytes<'_>,
    ) -> io::Result<Verdict> {
        let record = compare(offset, data, part, bytes)?;
        if record.wrong == Some(Wrong::Start) {
            return Ok(bad(Class::Altered, offset, "no line of its file begins there"));
        }
        if self.first.is_none() || self.is_cut {
            self.unjudged += offset.saturating_sub(self.next);
            (self.first, self.is_cut) = (self.first.or(Some(offset)), false);
            (self.next, self.inside, self.is_unsure) = (self.next.max(offset), false, false);
        }
        if offset < self.next {
            return Ok(self.late(offset, &record, is_rewound));
        }
        if offset > self.next && !self.is_unsure {
            let gap = Gap { from: self.next, to: offset };
            if let Some(from) = gap.content(self.inside, bytes)? {
                self.hole(from, offset);
            }
        }
        self.next = record.end;
        self.inside = goes_on(part);
        self.is_unsure = record.wrong.is_some() && (self.multiline || part == Part::Cut);
        Ok(match record.wrong {
            None => Verdict::Good,
            Some(Wrong::Bytes | Wrong::Start) => bad(Class::Altered, offset, "its bytes are not those of the file"),
            Some(Wrong::End) => bad(Class::Altered, offset, "it ends elsewhere than the line in the file"),
        })
    }

    /// An entry that stands behind one of a later line.
    fn late(&mut self, offset: u64, record: &Record, is_rewound: bool) -> Verdict {
        let hole =
            self.holes.range(..=offset).next_back().filter(|(_, to)| offset < **to).map(|(from, to)| (*from, *to));
        if let Some((from, to)) = hole {
            self.holes.remove(&from);
            if from < offset {
                self.hole(from, offset);
            }
            if record.end < to {
                self.hole(record.end, to);
            }
        }
        let is_below = self.first.is_some_and(|first| offset < first);
        match (record.wrong.is_some(), hole.is_some(), is_below) {
            (true, ..) => bad(Class::Altered, offset, "its bytes are not those of the file"),
            (false, true, _) | (false, false, true) if is_rewound => Verdict::Again,
            (false, true, _) | (false, false, true) => {
                bad(Class::Reordered, offset, "it stands behind a later line of its file")
            }
            (false, false, false) => bad(Class::Doubled, offset, "its id stands in the stream before"),
        }
    }

    fn hole(&mut self, from: u64, to: u64) {
        self.is_overfull |= self.holes.len() >= HOLES_MAX;
        match self.holes.last_entry() {
            // Told as missing all the same; what comes late of it is told as doubled.
            Some(mut last) if self.is_overfull => *last.get_mut() = to.max(*last.get()),
            _ => drop(self.holes.insert(from, to)),
        }
    }

    /// The file ends here as far as the stream must hold it: what is missing, by line; at most `most` of them and how many
    /// there are.
    pub fn end(&mut self, place: u64, most: usize, bytes: &mut Bytes<'_>) -> io::Result<(Vec<Fault>, u64)> {
        match self.first {
            // All of it may have left the stream.
            None => {}
            Some(_) if self.is_cut => self.unjudged += place.saturating_sub(self.next),
            Some(_) if self.next < place && !self.is_unsure => {
                let gap = Gap { from: self.next, to: place };
                if let Some(from) = gap.content(self.inside, bytes)? {
                    self.hole(from, place);
                }
            }
            Some(_) => {}
        }
        let (mut faults, mut count) = (Vec::new(), 0);
        for (from, to) in std::mem::take(&mut self.holes) {
            let gap = Gap { from, to };
            gap.lines(bytes, |offset| {
                count += 1;
                if faults.len() < most {
                    faults.push(Fault { class: Class::Missing, offset, words: "it has no entry in the stream" });
                }
            })?;
        }
        Ok((faults, count))
    }
}

fn bad(class: Class, offset: u64, words: &'static str) -> Verdict {
    Verdict::Bad(Fault { class, offset, words })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Start,
    Bytes,
    End,
}

/// One entry beside the bytes of its file.
struct Record {
    wrong: Option<Wrong>,
    /// The byte behind the record, its line end included; of an altered one behind its line, as far as that can be told.
    end: u64,
}

fn compare(offset: u64, data: &[u8], part: Part, bytes: &mut Bytes<'_>) -> io::Result<Record> {
    // One question, so that a packed file is not asked for earlier bytes.
    let before = usize::from(offset > 0);
    let window = bytes(offset - before as u64, before + data.len() + 2)?;
    let starts = match (part, window.first()) {
        (Part::Rest | Part::Torn | Part::Cut, Some(_)) => true,
        (Part::Whole, Some(byte)) => before == 0 || matches!(byte, b'\n' | 0),
        (_, None) => before == 0,
    };
    if !starts || window.len() < before {
        return Ok(Record { wrong: Some(Wrong::Start), end: offset });
    }
    let found = &window[before..];
    let follows = found.get(data.len()..).filter(|_| found.starts_with(data));
    let end = offset + data.len() as u64;
    let (wrong, end) = match follows {
        None => (Some(Wrong::Bytes), None),
        Some(_) if goes_on(part) => (None, Some(end)),
        Some([b'\n', ..]) if data.last() != Some(&b'\r') => (None, Some(end + 1)),
        Some([b'\r', b'\n']) => (None, Some(end + 2)),
        Some(_) => (Some(Wrong::End), None),
    };
    Ok(Record { wrong, end: end.map_or_else(|| line_end(offset, bytes), Ok)? })
}

/// The byte behind the line that holds this byte; the end of the file, if it has no end.
fn line_end(mut at: u64, bytes: &mut Bytes<'_>) -> io::Result<u64> {
    loop {
        let step = bytes(at, STEP)?;
        if let Some(end) = memchr::memchr(b'\n', &step) {
            return Ok(at + end as u64 + 1);
        }
        at += step.len() as u64;
        if step.len() < STEP {
            return Ok(at);
        }
    }
}

/// Bytes between two records.
struct Gap {
    from: u64,
    to: u64,
}

impl Gap {
    /// Where in it the first line begins that has no record; none if there are only NUL bytes, as a truncation leaves.
    fn content(&self, inside: bool, bytes: &mut Bytes<'_>) -> io::Result<Option<u64>> {
        if inside {
            return Ok(Some(self.from));
        }
        let mut at = self.from;
        while at < self.to {
            let step = self.step(at, bytes)?;
            if let Some(place) = step.iter().position(|byte| *byte != 0) {
                return Ok(Some(at + place as u64));
            }
            if step.is_empty() {
                break;
            }
            at += step.len() as u64;
        }
        Ok(None)
    }

    /// Names where each line in it begins.
    fn lines(&self, bytes: &mut Bytes<'_>, mut line: impl FnMut(u64)) -> io::Result<()> {
        let (mut at, mut begins) = (self.from, true);
        while at < self.to {
            let step = self.step(at, bytes)?;
            if step.is_empty() {
                break;
            }
            for (place, byte) in (at..).zip(&step) {
                if begins && *byte != 0 {
                    line(place);
                    begins = false;
                }
                begins |= *byte == b'\n';
            }
            at += step.len() as u64;
        }
        Ok(())
    }

    fn step(&self, at: u64, bytes: &mut Bytes<'_>) -> io::Result<Vec<u8>> {
        bytes(at, usize::try_from(self.to - at).unwrap_or(usize::MAX).min(STEP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"one\ntwo\r\n\nfour\n\0\0six\nseven\n";
    /// Where the lines begin, and what they hold.
    const LINES: [(u64, &str); 6] = [(0, "one"), (4, "two"), (9, ""), (10, "four"), (17, "six"), (21, "seven")];

    fn bytes(file: &'static [u8]) -> impl FnMut(u64, usize) -> io::Result<Vec<u8>> {
        move |offset, len| {
            let from = usize::try_from(offset).expect("small").min(file.len());
            Ok(file[from..file.len().min(from.saturating_add(len))].to_vec())
        }
    }

    /// The faults that these entries of a file have, as text.
    fn judged(file: &'static [u8], from: Option<u64>, entries: &[(u64, &str, Part)]) -> Vec<String> {
        let (mut judge, mut bytes, mut faults) = (Judge::new(from, false), bytes(file), Vec::new());
        for (offset, data, part) in entries {
            match judge.entry(*offset, data.as_bytes(), *part, false, &mut bytes).expect("bytes") {
                Verdict::Bad(fault) => faults.push(fault),
                Verdict::Good | Verdict::Again => {}
            }
        }
        let (missing, count) = judge.end(file.len() as u64, 100, &mut bytes).expect("bytes");
        assert_eq!(missing.len() as u64, count);
        faults.extend(missing);
        faults.iter().map(|fault| format!("{} {}", fault.class.as_str(), fault.offset)).collect()
    }

    fn whole(lines: &[(u64, &'static str)]) -> Vec<(u64, &'static str, Part)> {
        lines.iter().map(|(offset, line)| (*offset, *line, Part::Whole)).collect()
    }

    #[test]
    fn a_file_that_is_covered_has_no_fault_wherever_the_stream_begins() {
        for from in 0..LINES.len() {
            assert_eq!(judged(FILE, None, &whole(&LINES[from..])), Vec::<String>::new());
        }
    }

    #[test]
    fn each_line_that_is_not_there_is_named() {
        for absent in 1..LINES.len() {
            let mut lines = LINES.to_vec();
            let (offset, _) = lines.remove(absent);
            assert_eq!(judged(FILE, None, &whole(&lines)), [format!("missing {offset}")]);
        }
        assert_eq!(judged(FILE, Some(0), &whole(&LINES[2..4])), ["missing 0", "missing 4", "missing 17", "missing 21"]);
        assert_eq!(judged(FILE, Some(0), &[]).len(), 6);
        assert_eq!(
            judged(FILE, None, &whole(&LINES[1..3]))[..1],
            ["missing 10".to_owned()],
            "nothing before the first"
        );
    }

    #[test]
    fn a_second_entry_is_doubled_and_a_late_one_reordered() {
        let (mut twice, mut late) = (LINES.to_vec(), LINES.to_vec());
        twice.insert(5, LINES[1]);
        assert_eq!(judged(FILE, None, &whole(&twice)), ["doubled 4"]);
        let moved = late.remove(2);
        late.push(moved);
        assert_eq!(judged(FILE, None, &whole(&late)), ["reordered 9"]);
        late.swap(0, 1);
        assert_eq!(judged(FILE, None, &whole(&late)), ["reordered 0", "reordered 9"], "the first one of all, too");
        // In a hole of several, the others are still missing.
        let some = [LINES[0], LINES[5], LINES[2]];
        assert_eq!(judged(FILE, None, &whole(&some)), ["reordered 9", "missing 4", "missing 10", "missing 17"]);
    }

    #[test]
    fn an_entry_with_other_bytes_is_altered_and_nothing_else() {
        for (at, line) in
            [(1, "twO"), (1, "two\r"), (1, "tw"), (1, "two\n"), (3, "fou"), (3, "fourfour"), (5, "sevenn")]
        {
            let mut lines = LINES.to_vec();
            lines[at].1 = line;
            assert_eq!(judged(FILE, None, &whole(&lines)), [format!("altered {}", LINES[at].0)], "{line:?}");
        }
        let mut lines = LINES.to_vec();
        lines.insert(4, (11, "our"));
        assert_eq!(judged(FILE, None, &whole(&lines)), ["altered 11"], "no line begins there");
        lines[4] = (900, "x");
        assert_eq!(judged(FILE, None, &whole(&lines)), ["altered 900"]);
    }

    #[test]
    fn cut_lines_are_covered_piece_by_piece() {
        let file = b"123456789\nx\nhalf";
        let pieces = [(0, "1234", Part::Cut), (4, "5678", Part::Cut), (8, "9", Part::Rest), (10, "x", Part::Whole)];
        let torn = (12, "half", Part::Torn);
        let all: Vec<_> = pieces.into_iter().chain([torn]).collect();
        assert_eq!(judged(file, None, &all), Vec::<String>::new());
        let without = |absent: usize| -> Vec<_> {
            all.iter().enumerate().filter(|(place, _)| *place != absent).map(|(_, piece)| *piece).collect()
        };
        assert_eq!(judged(file, None, &without(1)), ["missing 4"]);
        assert_eq!(judged(file, None, &without(2)), ["missing 8"]);
        assert_eq!(judged(file, None, &without(4)), ["missing 12"]);
    }

    #[test]
    fn what_left_the_stream_while_it_was_read_is_not_missing() {
        let (mut judge, mut bytes) = (Judge::new(None, false), bytes(FILE));
        let mut entry = |judge: &mut Judge, place: usize, rewound| {
            let (offset, line) = LINES[place];
            judge.entry(offset, line.as_bytes(), Part::Whole, rewound, &mut bytes).expect("bytes")
        };
        assert_eq!(entry(&mut judge, 1, false), Verdict::Good);
        judge.cut();
        assert_eq!(entry(&mut judge, 4, false), Verdict::Good);
        assert_eq!((judge.unjudged, judge.holes.len()), (4 + 8, 0));
        assert_eq!(entry(&mut judge, 0, true), Verdict::Again, "a rewind appends what was trimmed");
    }

    #[test]
    fn what_a_rewind_appends_fills_a_hole_and_twice_is_twice() {
        for (is_rewound, class) in [(true, None), (false, Some(Class::Reordered))] {
            let (mut judge, mut bytes) = (Judge::new(Some(0), false), bytes(FILE));
            let mut entry = |place: usize| {
                let (offset, line) = LINES[place];
                match judge.entry(offset, line.as_bytes(), Part::Whole, is_rewound, &mut bytes).expect("bytes") {
                    Verdict::Bad(fault) => Some(fault.class),
                    Verdict::Good | Verdict::Again => None,
                }
            };
            assert_eq!([entry(0), entry(2), entry(1), entry(1)], [None, None, class, Some(Class::Doubled)]);
        }
    }
}
