//! The store's options, from the configuration.

use std::sync::Arc;

use super::managed::Managed;
use super::options::{BELL_BLOCK, Limits, Place, StoreOptions};
use crate::config::{Durability, RedisAddress, Secret, Settings};

impl StoreOptions {
    /// Takes everything from the settings. `may_start` says whether a managed Redis may be started: by nodes only.
    pub fn from_settings(settings: &Settings, may_start: bool) -> Self {
        let redis = &settings.redis;
        let place = match &redis.url {
            RedisAddress::Managed => {
                let managed = Managed::new(&redis.data_dir, redis.managed_port, may_start);
                Place::Managed(Arc::new(managed.syncing(redis.durability == Durability::Fsync)))
            }
            RedisAddress::Server(url) => Place::Server(url.clone()),
        };
        let mailbox = &settings.mailbox;
        Self {
            place,
            username: redis.username.clone(),
            password: redis.password.as_ref().map(Secret::reveal).map(str::to_owned),
            sentinel_username: redis.sentinel_username.clone(),
            sentinel_password: redis.sentinel_password.as_ref().map(Secret::reveal).map(str::to_owned),
            tls: redis.tls.clone(),
            durability: redis.durability,
            wait: redis.wait,
            prefix: redis.prefix.clone(),
            connect_timeout: redis.connect_timeout,
            command_timeout: redis.command_timeout,
            lease_timeout: redis.lease_timeout,
            bell_block: BELL_BLOCK,
            reconnect_min: redis.reconnect_min,
            reconnect_max: redis.reconnect_max,
            lease: settings.node.lease,
            limits: Limits {
                turn_entries_max: u32::try_from(mailbox.turn_entries_max).unwrap_or(u32::MAX),
                turn_bytes_max: mailbox.turn_bytes_max,
                entry_bytes_max: mailbox.entry_bytes_max,
                state_bytes_max: mailbox.state_bytes_max,
                failed_attempts_max: u64::from(mailbox.failed_attempts_max),
                unfinished_attempts_max: u64::from(mailbox.unfinished_attempts_max),
                dead_letters_max: mailbox.dead_letters_max,
                dedupe_window: mailbox.dedupe_window,
                dedupe_entries_max: mailbox.dedupe_entries_max,
                history_max: mailbox.history_max,
                history_interval: mailbox.history_interval,
            },
        }
    }
}
