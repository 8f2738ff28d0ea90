//! What the commands over blocks work with: Redis in reach, and how to print.

use super::exit::Exit;
use super::reach::Reach;
use crate::config::Settings;
use crate::store::link::Link;
use crate::store::{Store, StoreError};

/// The settings, and a Redis in reach.
pub struct Desk {
    /// The configuration.
    pub settings: Settings,
    /// The store.
    pub store: Store,
    /// The connection.
    pub link: Link,
    /// Print JSON.
    pub json: bool,
}

impl Desk {
    /// Prepares the connection. Never starts a managed Redis.
    pub fn open(settings: Settings, json: bool) -> Result<Self, Exit> {
        let Reach { settings, store, link } = Reach::new(settings)?;
        Ok(Self { settings, store, link, json })
    }
}

/// The exit that an error of the store means.
pub fn fault(error: StoreError) -> Exit {
    Exit::store(&error)
}
