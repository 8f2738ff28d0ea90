//! What one-shot commands share: a connection with a bound, the store behind it, and output that may end early.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use super::exit::Exit;
use crate::config::Settings;
use crate::ids::RandomId;
use crate::store::link::{Class, Health, Link, Patience};
use crate::store::options::StoreOptions;
use crate::store::{Store, StoreError};

/// How long a one-shot command waits for Redis.
const PATIENCE: Duration = Duration::from_secs(3);

/// The settings, and a Redis that has answered.
pub struct Desk {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// The store.
    pub store: Store,
    /// The connection.
    pub link: Link,
    /// Print JSON.
    pub json: bool,
}

impl Desk {
    /// Connects. Never starts a managed Redis.
    pub async fn open(settings: Settings, json: bool) -> Result<Self, Exit> {
        let options = Arc::new(StoreOptions::from_settings(&settings, false));
        let link = Link::new(options, Arc::new(Health::default()), Class::Command, Patience::For(PATIENCE));
        let mut store = Store::new(&settings.redis.prefix, &settings.node.name, RandomId::default());
        store.cluster = store.cluster_id(&link).await.map_err(fault)?.unwrap_or_default();
        Ok(Self { settings: Arc::new(settings), store, link, json })
    }
}

/// The exit that an error of the store means.
pub fn fault(error: StoreError) -> Exit {
    match error {
        StoreError::Unreachable { .. } => Exit::out_of_reach(&error.to_string()),
        _ => Exit::usage(&error.to_string()),
    }
}

/// Prints a line; a reader that has seen enough (`| head`) ends the command quietly.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        let code = if error.kind() == ErrorKind::BrokenPipe { 0 } else { 2 };
        std::process::exit(code);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
