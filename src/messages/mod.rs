//! What travels: plain data, no I/O, no clock, no addresses of actors.
//!
//! | message | mailbox | sent by | read by |
//! |---|---|---|---|
//! | [`gap::CollectorMessage`] | `collector` | `gapless pause`, `resume`, `rescan`, `send` | Collector |
//! | [`gap::DetectorMessage`] | `gap_detector` | Collector, `gapless blocks verify` | GapDetector |
//! | [`gap::GapTask`] | `gap_fixer` (pool) | GapDetector, GapFixer (a remainder) | GapFixer |
//! | [`log_order::WatcherMessage`] | `log_watcher` | `gapless pause`, `resume`, `rescan`, `send` | LogWatcher |
//! | [`sync::ScoutMessage`] | `scout` | `gapless sync pause`, `resume`, `gapless rescan` | SyncScout |
//! | [`sync::SyncMessage`] | `stream_sync_N` | SyncScout, `gapless sync retry` | StreamSync |
//! | [`tally::FeederMessage`] | `feeder` | `gapless pause`, `resume`, `rescan`, `send` | the self-test's feeder |
//! | [`tally::TallyMessage`] | `tally_N` | the self-test's feeder, `gapless send` | Tally |

pub mod block;
pub mod evidence;
pub mod facts;
pub mod gap;
pub mod heights;
pub mod level;
pub mod line;
pub mod log_file;
pub mod log_order;
pub mod sync;
pub mod tally;
pub mod udm;
