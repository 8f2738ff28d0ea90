//! Logging: one subscriber for the process, to standard error, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// Starts logging for the whole process.
///
/// `level` is a level or levels by module (`info,gapless::store=debug`). Colours only on a terminal, and never where
/// `NO_COLOR` is set (<https://no-color.org>). Fails when the level cannot be understood, or on the second call.
pub fn init_logging(level: &str, format: LogFormat) -> Result<(), String> {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let subscriber = subscriber(level, format, colours, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| "logging was started already".to_owned())
}

/// A subscriber that writes anywhere.
fn subscriber<W>(
    level: &str,
    format: LogFormat,
    colours: bool,
    writer: W,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, String>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(level)
        .map_err(|error| format!("log level `{}` cannot be understood: {error}", level.escape_debug()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // A reader of the log that goes away must not take the node with it: no words about a line that was not written.
        .log_internal_errors(false);
    Ok(match format {
        LogFormat::Text => Box::new(builder.with_ansi(colours).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no writer panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log(level: &str, format: LogFormat) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(level, format, false, move || writer.clone()).expect("a subscriber");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(height = 7, "held");
            tracing::debug!("two\nlines");
        });
        let bytes = captured.0.lock().expect("no writer panics").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn the_level_decides_what_is_written() {
        assert_eq!(log("info", LogFormat::Text).lines().count(), 1);
        assert_eq!(log("off", LogFormat::Text), "");
        assert_eq!(log("off,gapless::telemetry=debug", LogFormat::Json).lines().count(), 2);
    }

    #[test]
    fn json_is_one_object_a_line() {
        for line in log("debug", LogFormat::Json).lines() {
            let object: serde_json::Value = serde_json::from_str(line).expect("an object");
            assert!(object["message"].is_string() && object["level"].is_string(), "{line}");
        }
        assert!(log("info", LogFormat::Json).contains("\"height\":7"));
    }

    #[test]
    fn text_without_a_terminal_has_no_colours() {
        assert!(!log("debug", LogFormat::Text).contains('\u{1b}'));
    }
}
