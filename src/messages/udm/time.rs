//! Timestamps in any form.

use jiff::civil::DateTime;
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// How far a time without a year may be ahead of the clock, in hours: clocks and zones differ.
const AHEAD_HOURS: i64 = 24;
/// How many years back a day is looked for that not every year has.
const YEARS_BACK: i16 = 8;

/// One form of a timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TimeFormat {
    Rfc3339,
    Iso,
    /// Digits behind the decimal point of a second: 0, 3, 6 or 9.
    Unix(u32),
    UnixAuto,
    Strptime(String),
}

impl TimeFormat {
    /// Reads the name of a form. The error says what to write.
    pub fn new(text: &str) -> Result<Self, String> {
        Ok(match text {
            "rfc3339" => Self::Rfc3339,
            "iso" => Self::Iso,
            "unix" => Self::Unix(0),
            "unix_ms" => Self::Unix(3),
            "unix_us" => Self::Unix(6),
            "unix_ns" => Self::Unix(9),
            "unix_auto" => Self::UnixAuto,
            form if form.contains('%') => {
                let sample = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
                strtime::format(form, &sample).map_err(|e| format!("is no form of strptime: {e}"))?;
                Self::Strptime(form.to_owned())
            }
            _ => {
                return Err("must be rfc3339, iso, unix, unix_ms, unix_us, unix_ns, unix_auto, or a form of strptime \
                            such as %b %e %H:%M:%S"
                    .to_owned());
            }
        })
    }
}

/// Reads the name of a zone.
pub(super) fn zone(text: &str) -> Result<TimeZone, String> {
    if matches!(text, "UTC" | "Z") {
        return Ok(TimeZone::UTC);
    }
    if text.starts_with(['+', '-']) {
        let offset = strtime::parse("%:z", text).ok().and_then(|parsed| parsed.offset());
        return offset.map(TimeZone::fixed).ok_or_else(|| "must be an offset such as +02:00".to_owned());
    }
    TimeZone::get(text).map_err(|_| {
        "is no zone that this machine knows (/usr/share/zoneinfo); write UTC, or an offset such as +02:00".to_owned()
    })
}

/// How the times of a mapping are read.
#[derive(Debug, Clone)]
pub(super) struct Times {
    pub formats: Vec<TimeFormat>,
    pub zone: TimeZone,
    pub year: Option<i16>,
}

impl Times {
    /// The time that a text names, received then. The error is that of the last form.
    pub fn read(&self, text: &str, received: Timestamp) -> Result<Timestamp, String> {
        let mut fault = "no form of it is configured".to_owned();
        for format in &self.formats {
            match self.read_as(format, text.trim(), received) {
                Ok(time) => return Ok(time),
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }

    fn read_as(&self, format: &TimeFormat, text: &str, received: Timestamp) -> Result<Timestamp, String> {
        let said = |e: jiff::Error| e.to_string();
        match format {
            TimeFormat::Rfc3339 => text.parse().map_err(said),
            TimeFormat::Iso => self.zoned(text.parse().map_err(said)?),
            TimeFormat::Unix(digits) => unix(text, *digits),
            TimeFormat::UnixAuto => unix(text, magnitude(text)),
            TimeFormat::Strptime(form) => {
                let mut parsed = BrokenDownTime::parse(form, text).map_err(said)?;
                if parsed.year().is_none() {
                    return self.without_year(&mut parsed, received);
                }
                self.at(&parsed)
            }
        }
    }

    fn zoned(&self, time: DateTime) -> Result<Timestamp, String> {
        time.to_zoned(self.zone.clone()).map(|zoned| zoned.timestamp()).map_err(|e| e.to_string())
    }

    fn at(&self, parsed: &BrokenDownTime) -> Result<Timestamp, String> {
        if parsed.offset().is_some() {
            return parsed.to_timestamp().map_err(|e| e.to_string());
        }
        self.zoned(parsed.to_datetime().map_err(|e| e.to_string())?)
    }

    /// The latest year with which the time is not in the future.
    fn without_year(&self, parsed: &mut BrokenDownTime, received: Timestamp) -> Result<Timestamp, String> {
        let this_year = received.to_zoned(self.zone.clone()).year();
        let years = match self.year {
            Some(year) => year..=year,
            None => this_year.saturating_sub(YEARS_BACK)..=this_year.saturating_add(1),
        };
        let latest = received.checked_add(Span::new().hours(AHEAD_HOURS)).unwrap_or(Timestamp::MAX);
        let mut fault = "no year fits".to_owned();
        for year in years.rev() {
            match parsed.set_year(Some(year)).map_err(|e| e.to_string()).and_then(|()| self.at(parsed)) {
                Ok(time) if time <= latest || self.year.is_some() => return Ok(time),
                Ok(_) => {}
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }
}

/// Seconds, thousandths and so on by how large a number is: seconds end in the year 5138, thousandths begin in 1973.
fn magnitude(text: &str) -> u32 {
    match text.split('.').next().unwrap_or_default().trim_start_matches('-').len() {
        0..=11 => 0,
        12..=14 => 3,
        15..=17 => 6,
        _ => 9,
    }
}

/// A number of seconds times 10^`digits`, with or without a fraction.
fn unix(text: &str, digits: u32) -> Result<Timestamp, String> {
    let fault = || "must be a number".to_owned();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i128 = whole.parse().map_err(|_| fault())?;
    if fraction.len() > 18 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(fault());
    }
    // Nanoseconds: what is finer is cut.
    let places = (9 - digits) as usize;
    let mut padded = fraction.to_owned();
    padded.extend(std::iter::repeat_n('0', places));
    let fraction: i128 = if places == 0 { 0 } else { padded[..places].parse().map_err(|_| fault())? };
    let unit = 10_i128.pow(9 - digits);
    let nanos = whole.checked_mul(unit).ok_or_else(fault)?;
    let nanos = if text.starts_with('-') { nanos - fraction } else { nanos + fraction };
    Timestamp::from_nanosecond(nanos).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, zone_name: &str, text: &str) -> Result<String, String> {
        let times = Times { formats: vec![TimeFormat::new(format)?], zone: zone(zone_name)?, year: None };
        let received = "2026-03-01T12:00:00Z".parse().expect("a time");
        times.read(text, received).map(|time| time.to_string())
    }

    #[test]
    fn times_are_read_in_every_form() {
        for (format, zone, text, expected) in [
            ("rfc3339", "UTC", "2026-01-02T03:04:05.678+01:00", "2026-01-02T02:04:05.678Z"),
            ("iso", "UTC", "2026-01-02T03:04:05.000006", "2026-01-02T03:04:05.000006Z"),
            ("iso", "+02:00", "2026-01-02 03:04:05,678", "2026-01-02T01:04:05.678Z"),
            ("iso", "-03:30", "2026-01-02 03:04:05", "2026-01-02T06:34:05Z"),
            ("unix", "UTC", "1767323045", "2026-01-02T03:04:05Z"),
            ("unix", "UTC", "1767323045.25", "2026-01-02T03:04:05.25Z"),
            ("unix", "UTC", "-1.5", "1969-12-31T23:59:58.5Z"),
            ("unix_ms", "UTC", "1767323045678", "2026-01-02T03:04:05.678Z"),
            ("unix_us", "UTC", "1767323045678901", "2026-01-02T03:04:05.678901Z"),
            ("unix_ns", "UTC", "1767323045678901234", "2026-01-02T03:04:05.678901234Z"),
            ("unix_auto", "UTC", "1767323045.5", "2026-01-02T03:04:05.5Z"),
            ("unix_auto", "UTC", "1767323045678", "2026-01-02T03:04:05.678Z"),
            ("%d/%b/%Y:%H:%M:%S %z", "UTC", "02/Jan/2026:03:04:05 +0100", "2026-01-02T02:04:05Z"),
            ("%y%m%d %H%M%S", "UTC", "081109 203615", "2008-11-09T20:36:15Z"),
            ("%b %e %H:%M:%S", "UTC", "Jan  2 03:04:05", "2026-01-02T03:04:05Z"),
            // Within a day of the clock it is this year, after that the one before.
            ("%b %e %H:%M:%S", "UTC", "Mar  2 11:59:59", "2026-03-02T11:59:59Z"),
            ("%b %e %H:%M:%S", "UTC", "Mar  2 12:00:01", "2025-03-02T12:00:01Z"),
            ("%b %e %H:%M:%S", "UTC", "Feb 29 00:00:00", "2024-02-29T00:00:00Z"),
        ] {
            assert_eq!(read(format, zone, text).as_deref(), Ok(expected), "{format} {text}");
        }
    }

    #[test]
    fn a_named_zone_knows_summer_where_the_machine_knows_zones() {
        if zone("Europe/Berlin").is_ok() {
            assert_eq!(read("iso", "Europe/Berlin", "2026-07-01T12:00:00").as_deref(), Ok("2026-07-01T10:00:00Z"));
            assert_eq!(read("iso", "Europe/Berlin", "2026-01-01T12:00:00").as_deref(), Ok("2026-01-01T11:00:00Z"));
        }
    }

    #[test]
    fn what_is_no_time_is_an_error() {
        for (format, text) in [
            ("rfc3339", "2026-01-02T03:04:05"),
            ("iso", "yesterday"),
            ("unix", "1e9"),
            ("unix", "1.x"),
            ("unix", "99999999999999999999999999999999999999"),
            ("unix_ns", ""),
            ("%b %e %H:%M:%S", "Feb 30 00:00:00"),
            ("%b %e %H:%M:%S", "Jan  2 03:04:05 later"),
        ] {
            assert!(read(format, "UTC", text).is_err(), "{format} {text}");
        }
        assert!(TimeFormat::new("ISO").expect_err("no form").contains("unix_auto"));
        assert!(TimeFormat::new("%Y-%!").expect_err("no form").contains("strptime"));
        assert!(zone("Middle/Earth").expect_err("no zone").contains("+02:00"));
        assert!(zone("+2").is_err());
    }
}
