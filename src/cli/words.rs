//! Numbers as people read them.

/// An age or a time: `850 ms`, `3.2 s`, `4 min`, `2.5 h`, `3 d`.
pub fn age(ms: u64) -> String {
    const SECOND: u64 = 1000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    // One digit behind the point, cut and not rounded: 59.99 s must not read 60.0 s.
    let tenths = |unit: u64| format!("{}.{}", ms / unit, ms % unit * 10 / unit);
    match ms {
        0..SECOND => format!("{ms} ms"),
        SECOND..MINUTE => format!("{} s", tenths(SECOND)),
        MINUTE..HOUR => format!("{} min", ms / MINUTE),
        HOUR..DAY => format!("{} h", tenths(HOUR)),
        DAY.. => format!("{} d", ms / DAY),
    }
}

/// An age that may be unknown.
pub fn maybe_age(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), age)
}

/// A size: `812 B`, `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let (mut unit, mut divisor) = (0, 1024);
    while count / divisor >= 1024 && unit + 1 < UNITS.len() {
        unit += 1;
        divisor *= 1024;
    }
    let tenths = count % divisor * 10 / divisor;
    format!("{}.{tenths} {}", count / divisor, UNITS[unit])
}

/// `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 node`, `2 nodes`, `1,000 nodes`.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number as u64), if number == 1 { one } else { many })
}

/// `1 height`, `1,000 heights`.
pub fn heights(number: u64) -> String {
    format!("{} {}", grouped(number), if number == 1 { "height" } else { "heights" })
}

/// `text`, or a dash where there is none.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// One line without anything that could move a terminal's cursor; foreign text goes through here.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n| count(n, "gap", "gaps")), ["0 gaps", "1 gap", "2 gaps"]);
        assert_eq!([0, 1, 2_000].map(heights), ["0 heights", "1 height", "2,000 heights"]);
    }

    #[test]
    fn ages_have_the_unit_that_fits() {
        for (ms, words) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (3_299, "3.2 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min"),
            (240_000, "4 min"),
            (9_000_000, "2.5 h"),
            (259_200_000, "3 d"),
            (u64::MAX, "213503982334 d"),
        ] {
            assert_eq!(age(ms), words);
        }
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        for (count, words) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (u64::MAX, "16777215.9 TiB")]
        {
            assert_eq!(bytes(count), words);
        }
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }
}
