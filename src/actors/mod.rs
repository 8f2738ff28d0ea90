//! Work: one actor a file, one shape. Reading [`tally`] teaches all of them.
//!
//! ```text
//!  world --> Collector --[gap_detector]--> GapDetector --[gap_fixer]--> GapFixer --> files
//!               | commit                       | commit                    | commit
//!               v                              v                           v
//!            checkpoint, held heights <--------+---------------------------+
//!               | held and final
//!               +-> Namer --> files by bare height    (where `bare_names` is set)
//!
//!  log files --> LogWatcher --> lines, table of files, channels
//!                               +-> LogParser --> events, unparsed lines    (where `parse` is set)
//!  source --> SyncScout --[stream_sync_N]--> StreamSync --> streams of the target   (`sync`)
//!
//!  Feeder --[tally_N]--> Tally --> output        (the self-test)
//! ```
//!
//! `[x]` is a durable mailbox; every arrow ends in one commit. No actor names another's file: they meet only through
//! `messages` and a mailbox.

pub mod collector;
pub mod feeder;
pub mod gap_detector;
pub mod gap_fixer;
pub mod log_parser;
pub mod log_watcher;
pub mod namer;
pub mod stream_sync;
pub mod sync_scout;
pub mod tally;
pub mod turn;
