//! The level of a line, found in its bytes: in JSON under `level`, `severity` or `type`, in text where loggers write it.
//!
//! The line is not parsed, only walked over, once: it may be cut, damaged or made to hurt.

use super::line::Level;

mod json;
mod text;

/// Levels of syslog, by number.
const SYSLOG: [&str; 8] = ["EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"];
/// Levels of pino and bunyan: 10, 20 and so on.
const PINO: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
/// Levels of Google's `LogSeverity`: 100, 200 and so on.
const GOOGLE: [&str; 8] = ["DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"];

/// The level that a line gives itself, in upper case and otherwise as written, else [`Level::UNKNOWN`].
///
/// A line that begins with `{` and a key is JSON: the first of `level`, `severity`, `type` that its outermost object has
/// as a usable word; of `level` and `severity` also a number of syslog (0 to 7), pino (10 to 60) or Google (100 to 800).
/// Of a key that stands there twice, the first counts. What is broken or cut counts up to the break.
///
/// In every other line the first of these within its first 240 bytes, outside of double quotes: `<PRI>` of syslog
/// and `I0102` of klog at the beginning; `level=`, `lvl=` or `severity=` with a word; a known word in capitals that
/// stands alone; a known word in brackets, `[error]`, `[core:error]`; `error:` and the like at the beginning or
/// behind a colon.
pub fn level_of(line: &[u8]) -> Level {
    let line = line.trim_ascii_start();
    match line {
        [b'{', rest @ ..] if matches!(rest.trim_ascii_start().first(), Some(b'"' | b'}') | None) => json::level(rest),
        _ => text::level(line),
    }
    .unwrap_or(Level::UNKNOWN)
}

/// The word for a number of syslog, pino or Google, written in decimal.
pub fn level_of_number(digits: &[u8]) -> Option<Level> {
    if !(1..=3).contains(&digits.len()) {
        return None;
    }
    let mut number = 0;
    for digit in digits {
        number = number * 10 + usize::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    let word = match digits.len() {
        1 => SYSLOG.get(number),
        2 if number % 10 == 0 => PINO.get((number / 10).checked_sub(1)?),
        3 if number % 100 == 0 => GOOGLE.get((number / 100).checked_sub(1)?),
        _ => None,
    };
    word.map(|word| Level::from_static(word))
}

#[cfg(test)]
mod tests;
