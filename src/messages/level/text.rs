//! The level of a line of text, where loggers are used to write it.

use memchr::memchr;

use super::super::line::{LEVEL_LETTERS_MAX, Level};
use super::{SYSLOG, level_of_number};

/// How much of a line is looked at, in bytes: what stands behind is message, and says other things.
const LOOK_MAX: usize = 5 * BLOCK;
/// Words that are levels wherever they stand alone in capitals, in brackets, or before a colon where a message begins.
const WORDS: [u128; 21] = [
    packed("INFO"),
    packed("WARN"),
    packed("ERROR"),
    packed("DEBUG"),
    packed("WARNING"),
    packed("TRACE"),
    packed("NOTICE"),
    packed("FATAL"),
    packed("CRITICAL"),
    packed("ERR"),
    packed("CRIT"),
    packed("ALERT"),
    packed("EMERG"),
    packed("EMERGENCY"),
    packed("PANIC"),
    packed("SEVERE"),
    packed("FINE"),
    packed("FINER"),
    packed("FINEST"),
    packed("VERBOSE"),
    packed("INFORMATION"),
];
/// Words that are levels before a closing bracket only, as in `[12:00:00 INF]`: elsewhere they mean other things.
const SHORT: [u128; 6] = [packed("INF"), packed("WRN"), packed("DBG"), packed("FTL"), packed("VRB"), packed("TRC")];
/// Keys whose value is the level, as in `level=info`.
const KEYS: [u128; 4] = [packed("LEVEL"), packed("LVL"), packed("SEVERITY"), packed("LOGLEVEL")];
/// Letters of the shortest word or key, and of the longest.
const WORD_MIN: usize = 3;
const WORD_MAX: usize = 11;
/// Begins a colour of a terminal.
const ESCAPE: u8 = 0x1b;

/// A word as a number, so that it is compared with many others without a branch.
const fn packed(word: &str) -> u128 {
    let (bytes, mut number, mut at) = (word.as_bytes(), 0, 0);
    while at < bytes.len() {
        number |= (bytes[at] as u128) << (8 * at);
        at += 1;
    }
    number
}

/// The same of a word of at most [`WORD_MAX`] bytes in a line.
fn packed_at(line: &[u8], from: usize, to: usize) -> u128 {
    let rest = &line[from..];
    let bytes = rest.first_chunk().copied().unwrap_or_else(|| {
        let mut padded = [0; 16];
        padded[..rest.len()].copy_from_slice(rest);
        padded
    });
    u128::from_le_bytes(bytes) & !(u128::MAX << (8 * (to - from)))
}

/// Letters in capitals; what is no letter becomes something else.
fn capitals(word: u128) -> u128 {
    word & u128::from_le_bytes([!0x20; 16])
}

/// Whether a word is in a list, from the first to the last without a way out: which one it is cannot be guessed.
fn is_any(word: u128, list: &[u128]) -> bool {
    list.iter().fold(false, |found, known| found | (*known == word))
}

/// Bytes whose marks are computed together.
const BLOCK: usize = 48;

/// The level of a line that is no JSON.
///
/// Marks say where a closer look is worth it. They are computed for a block at a time without a branch, which the
/// compiler turns into vector instructions; a walk from word to word takes five times as long.
pub(super) fn level(line: &[u8]) -> Option<Level> {
    if let Some(level) = syslog(line).or_else(|| klog(line)) {
        return Some(level);
    }
    let mut look = Look { line, from: 0, quotes: true };
    for block in (0..line.len().min(LOOK_MAX)).step_by(BLOCK) {
        for (index, marks) in marks(&window(line, block)).chunks_exact(8).enumerate() {
            let mut bits = u64::from_le_bytes(marks.try_into().unwrap_or_default());
            while bits != 0 {
                let at = bits.trailing_zeros() as usize / 8;
                if let Some(level) = look.at(block + index * 8 + at) {
                    return Some(level);
                }
                bits &= bits - 1;
            }
        }
    }
    None
}

/// A block with one byte before and one behind it; spaces where there is nothing.
fn window(line: &[u8], block: usize) -> [u8; BLOCK + 2] {
    let mut window = [b' '; BLOCK + 2];
    let (skip, from) = if block == 0 { (1, 0) } else { (0, block - 1) };
    let bytes = &line[from..line.len().min(block + BLOCK + 1)];
    window[skip..skip + bytes.len()].copy_from_slice(bytes);
    window
}

/// 1 for each byte of a block at which a level may be found: where capitals begin, at what makes the word before it a
/// level, at quotes and at colours; else 0.
fn marks(window: &[u8; BLOCK + 2]) -> [u8; BLOCK] {
    let mut marks = [0; BLOCK];
    for (index, mark) in marks.iter_mut().enumerate() {
        let [before, byte, next] = [window[index], window[index + 1], window[index + 2]];
        let capitals = is_capital(byte) & is_capital(next) & !is_capital(before);
        let special = (byte == b']') | (byte == b'=') | (byte == b'"') | (byte == ESCAPE);
        *mark = u8::from(capitals | special | ((byte == b':') & (next == b' ')));
    }
    marks
}

fn is_capital(byte: u8) -> bool {
    byte.wrapping_sub(b'A') < 26
}

fn is_letter(byte: u8) -> bool {
    is_capital(byte & !0x20)
}

/// Whether a word goes on with this byte; letters beyond ASCII count.
fn is_word(byte: u8) -> bool {
    is_letter(byte) | (byte.wrapping_sub(b'0') < 10) | (byte == b'_') | (byte >= 0x80)
}

/// The closer look.
struct Look<'l> {
    line: &'l [u8],
    /// What stands before it has been seen, or is quoted.
    from: usize,
    /// Whether quotes have ends, so far.
    quotes: bool,
}

impl Look<'_> {
    fn at(&mut self, at: usize) -> Option<Level> {
        if at < self.from {
            return None;
        }
        // Most of what is marked ends here: what stands before it is no letter that a level or a key ends with.
        let before = at.checked_sub(1).map_or(b' ', |before| self.line[before]);
        match self.line.get(at)? {
            b'=' if !matches!(before | 0x20, b'l' | b'y') => None,
            b']' | b':' if !is_letter(before) && before != b' ' => None,
            b'"' => {
                let length = if self.quotes { memchr(b'"', &self.line[at + 1..]) } else { None };
                // Without an end it is no quote, and there is no other one.
                self.quotes = length.is_some();
                self.from = length.map_or(at, |length| at + length + 2);
                None
            }
            &ESCAPE => {
                let from = colour_end(self.line, at);
                self.from = from;
                self.word(from, self.end(from), true)
            }
            b']' | b':' | b'=' => {
                let before = &self.line[self.from..at];
                let to = if self.line[at] == b']' { before.trim_ascii_end() } else { before }.len() + self.from;
                let length = self.line[..to].iter().rev().take(WORD_MAX + 1).take_while(|byte| is_word(**byte)).count();
                self.word(to - length, to, to == length)
            }
            _ => self.word(at, self.end(at), at == 0),
        }
    }

    /// Where the word that begins there ends; a little behind where no level goes on.
    fn end(&self, from: usize) -> usize {
        from + self.line[from..].iter().take(WORD_MAX + 1).take_while(|byte| is_word(**byte)).count()
    }

    fn word(&self, from: usize, to: usize, fresh: bool) -> Option<Level> {
        if !(WORD_MIN..=WORD_MAX).contains(&(to - from)) || from < self.from {
            return None;
        }
        Place { line: self.line, from, to, fresh }.level()
    }
}

/// `<PRI>` at the beginning: its lowest three bits.
fn syslog(line: &[u8]) -> Option<Level> {
    let digits = line.strip_prefix(b"<")?;
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).take(4).count();
    if digits.get(length) != Some(&b'>') {
        return None;
    }
    let number: u8 = std::str::from_utf8(&digits[..length]).ok()?.parse().ok()?;
    (number < 192).then(|| Level::from_static(SYSLOG[usize::from(number & 7)]))
}

/// `I0102 15:` at the beginning.
fn klog(line: &[u8]) -> Option<Level> {
    let [letter, rest @ ..] = line else { return None };
    let level = match letter {
        b'I' => Level::from_static("INFO"),
        b'W' => Level::from_static("WARNING"),
        b'E' => Level::from_static("ERROR"),
        b'F' => Level::from_static("FATAL"),
        _ => return None,
    };
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    (rest.len() >= 8 && rest.iter().zip(b"0000 00:").all(fits)).then_some(level)
}

/// Where the colour that begins here ends: `ESC [`, parameters, a letter.
fn colour_end(line: &[u8], at: usize) -> usize {
    if line.get(at + 1) != Some(&b'[') {
        return at + 1;
    }
    let parameters = line[at + 2..].iter().take_while(|byte| matches!(byte, b'0'..=b'?')).count();
    (at + 3 + parameters).min(line.len())
}

/// A word of the line and what stands around it.
struct Place<'l> {
    line: &'l [u8],
    from: usize,
    to: usize,
    /// Whether nothing, or a colour, stands before it.
    fresh: bool,
}

impl Place<'_> {
    fn level(&self) -> Option<Level> {
        let (after, word) = (self.byte(self.to), packed_at(self.line, self.from, self.to));
        let capitals = capitals(word);
        if after == b'=' {
            return if is_any(capitals, &KEYS) { self.value() } else { None };
        }
        let found = if is_any(capitals, &WORDS) {
            (capitals == word && self.alone(after))
                || (after == b':' && self.begins_message())
                || (self.bracketed() && self.before_bracket(after))
        } else {
            is_any(capitals, &SHORT) && self.before_bracket(after)
        };
        if found { Level::new(&self.line[self.from..self.to]) } else { None }
    }

    /// The byte there; a space behind the end.
    fn byte(&self, at: usize) -> u8 {
        self.line.get(at).copied().unwrap_or(b' ')
    }

    fn before(&self) -> u8 {
        if self.fresh { b' ' } else { self.line[self.from - 1] }
    }

    /// Not a part of a path, a name or an assignment.
    fn alone(&self, after: u8) -> bool {
        matches!(self.before(), b' ' | b'\t' | b'[' | b'(' | b'|' | b':' | b',' | b'<')
            && matches!(after, b' ' | b'\t' | b']' | b')' | b'|' | b':' | b',' | b'>' | 0x1b)
    }

    /// Whether a bracket closes behind it, perhaps behind spaces.
    fn before_bracket(&self, after: u8) -> bool {
        let rest = self.line.get(self.to..).unwrap_or_default();
        let spaces =
            if after == b' ' { rest.iter().take(WORD_MAX).take_while(|byte| **byte == b' ').count() } else { 0 };
        rest.get(spaces) == Some(&b']')
    }

    /// `[word` where the bracket stands alone, or `[module:word`.
    fn bracketed(&self) -> bool {
        match self.before() {
            b':' => true,
            b'[' => self.from < 2 || !is_word(self.line[self.from - 2]),
            _ => false,
        }
    }

    /// At the beginning of the line, or behind a colon and a space, with a space behind its own colon.
    fn begins_message(&self) -> bool {
        let behind_colon = self.from >= 2 && self.line[self.from - 2..self.from] == *b": ";
        (self.fresh || behind_colon) && self.byte(self.to + 1) == b' '
    }

    /// The value of the key that the word is, if the key stands alone.
    fn value(&self) -> Option<Level> {
        let separate = self.fresh || matches!(self.before(), b' ' | b'\t' | b',' | b'[' | b'(' | b'{');
        if !separate {
            return None;
        }
        let value = self.line.get(self.to + 1..)?;
        let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
        // One more than fits shows that the word does not.
        let length = value.iter().take(LEVEL_LETTERS_MAX + 1).take_while(|b| b.is_ascii_alphanumeric() || **b == b'_');
        let word = &value[..length.count()];
        if word.iter().all(u8::is_ascii_digit) { level_of_number(word) } else { Level::new(word) }
    }
}
