//! What lines look like, by format. The words are made up.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::simulate::noise::Noise;

/// What the lines of a file look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// {"timestamp": ..., "type": ..., "message": ...} as Python's json.dumps writes it: spaces, \uXXXX
    Seed,
    /// Compact JSON with nested objects, level in lower case
    Json,
    /// Access log of nginx, "combined"
    Nginx,
    /// Text of a syslog file, without priority
    Syslog,
    /// key=value
    Logfmt,
    /// Java's text, errors with a stack trace of several lines
    Trace,
}

/// A record on its way: what a fault adds to its first line goes between `head` and `tail`.
pub(super) struct Draft {
    pub head: String,
    pub tail: &'static str,
    /// As a reader must find it in the first line.
    pub level: &'static str,
    /// Further lines of the record; they have no level.
    pub more: Vec<String>,
}

const MESSAGES: [&str; 12] = [
    "order accepted",
    "payment was refused by the bank",
    "session of the user ended",
    "cache warmed in 12 ms",
    "retrying, the other side did not answer",
    "disk /dev/sdb1 is 91 % full",
    "a path with \\ and \"quotes\"",
    "Gr\u{fc}\u{df}e aus K\u{f6}ln, Stra\u{df}e gesperrt",
    "\u{6ce8}\u{6587}\u{3092}\u{53d7}\u{3051}\u{4ed8}\u{3051}\u{307e}\u{3057}\u{305f}",
    "train \u{1f686} delayed, \u{2018}sorry\u{2019}\u{2028}next line of Unicode",
    "\u{43f}\u{43e}\u{434}\u{43a}\u{43b}\u{44e}\u{447}\u{435}\u{43d}\u{438}\u{435} \u{437}\u{430}\u{43a}\u{440}\u{44b}\u{442}\u{43e}",
    "says \"type\": \"FATAL\" in the message",
];
const LEVELS: [&str; 4] = ["INFO", "WARNING", "ERROR", "DEBUG"];
const HOSTS: [&str; 4] = ["web-1", "web-2", "db-1", "edge"];
const PATHS: [&str; 5] = ["/", "/orders/17", "/static/app.js?v=3", "/suche?q=stra%C3%9Fe", "/login"];

fn one<T: Copy>(noise: &mut Noise, of: &[T]) -> T {
    of[usize::try_from(noise.below(of.len() as u64)).unwrap_or(0)]
}

/// The next record, written at a time in microseconds since 1970.
pub(super) fn draft(format: LogFormat, noise: &mut Noise, micros: i64) -> Draft {
    let time = Timestamp::from_microsecond(micros).unwrap_or_default().to_zoned(TimeZone::UTC);
    let at = |form: &str| time.strftime(form).to_string();
    let (message, level) = (one(noise, &MESSAGES), one(noise, &LEVELS));
    let plain = |head: String, tail: &'static str, level: &'static str| Draft { head, tail, level, more: Vec::new() };
    match format {
        LogFormat::Seed => {
            // Python leaves the fraction out where it is zero.
            let fraction = if micros % 1_000_000 == 0 { "" } else { ".%6f" };
            let (stamp, message) = (at(&format!("%Y-%m-%dT%H:%M:%S{fraction}")), escaped(message));
            plain(
                format!("{{\"timestamp\": \"{stamp}\", \"type\": \"{level}\", \"message\": \"{message}"),
                "\"}",
                level,
            )
        }
        LogFormat::Json => {
            let (stamp, host, id) = (at("%Y-%m-%dT%H:%M:%S%.6fZ"), one(noise, &HOSTS), noise.below(100_000));
            let word = level.to_lowercase();
            let message = message.replace('\\', "\\\\").replace('"', "\\\"");
            let context = format!("{{\"type\":\"order\",\"id\":{id},\"tags\":[\"a\",\"}}\"]}}");
            let head = format!(
                "{{\"ctx\":{context},\"ts\":\"{stamp}\",\"host\":\"{host}\",\"level\":\"{word}\",\"msg\":\"{message}"
            );
            plain(head, "\"}", level)
        }
        LogFormat::Nginx => {
            let (client, path, stamp) = (address(noise), one(noise, &PATHS), at("%d/%b/%Y:%H:%M:%S +0000"));
            let (status, bytes) = (one(noise, &[200, 200, 304, 404, 500]), noise.below(60_000));
            let agent = "Mozilla/5.0 (X11; Linux x86_64) INFO/1.0";
            plain(
                format!("{client} - - [{stamp}] \"GET {path} HTTP/1.1\" {status} {bytes} \"-\" \"{agent}"),
                "\"",
                "UNKNOWN",
            )
        }
        LogFormat::Syslog => {
            let (host, process) = (one(noise, &HOSTS), 100 + noise.below(30_000));
            plain(format!("{} {host} app[{process}]: {message}", at("%b %e %H:%M:%S")), "", "UNKNOWN")
        }
        LogFormat::Logfmt => {
            let (stamp, line) = (at("%Y-%m-%dT%H:%M:%S%.3fZ"), noise.below(400));
            let (word, message) = (level.to_lowercase(), message.replace('\\', "\\\\").replace('"', "\\\""));
            plain(format!("ts={stamp} level={word} caller=app.go:{line} msg=\"{message}"), "\"", level)
        }
        LogFormat::Trace => trace(noise, &at("%Y-%m-%d %H:%M:%S,%3f"), message, level),
    }
}

/// A line of Java's; after an error its stack.
fn trace(noise: &mut Noise, stamp: &str, message: &str, level: &'static str) -> Draft {
    let mut more = Vec::new();
    if level == "ERROR" {
        more.push("java.lang.IllegalStateException: the order is closed".to_owned());
        for depth in 0..2 + noise.below(5) {
            more.push(format!("\tat example.shop.Orders.step{depth}(Orders.java:{})", 10 + noise.below(500)));
        }
        more.push("Caused by: java.io.IOException: connection was reset".to_owned());
        more.push(format!("\t... {} more", 1 + noise.below(30)));
    }
    Draft {
        head: format!("{stamp} {level} [worker-{}] shop.Orders - {message}", noise.below(8)),
        tail: "",
        level,
        more,
    }
}

/// An address that documentation may use.
fn address(noise: &mut Noise) -> String {
    let net = one(noise, &["192.0.2", "198.51.100", "203.0.113"]);
    format!("{net}.{}", 1 + noise.below(254))
}

/// As Python's `json.dumps` writes a text: nothing but ASCII.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for unit in text.chars() {
        match unit {
            '"' | '\\' => out.extend(['\\', unit]),
            ' '..='~' => out.push(unit),
            _ => unit.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out
}
