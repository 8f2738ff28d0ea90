//! One suite for every actor: what holds for one turn of one of them holds for all.
//!
//! An actor joins with one file in `tests/actor_suite/` that implements [`suite::Subject`], and one line here.

mod support;

#[path = "actor_suite/chain.rs"]
mod chain;
#[path = "actor_suite/collector.rs"]
mod collector;
#[path = "actor_suite/feeder.rs"]
mod feeder;
#[path = "actor_suite/gap_detector.rs"]
mod gap_detector;
#[path = "actor_suite/gap_fixer.rs"]
mod gap_fixer;
#[path = "actor_suite/log_parser.rs"]
mod log_parser;
#[path = "actor_suite/log_watcher.rs"]
mod log_watcher;
#[path = "actor_suite/namer.rs"]
mod namer;
#[path = "actor_suite/streams.rs"]
mod streams;
#[macro_use]
#[path = "actor_suite/suite.rs"]
mod suite;
#[path = "actor_suite/tally.rs"]
mod tally;

suite!(a_collector, crate::collector::CollectorSubject);
suite!(a_feeder, crate::feeder::FeederSubject);
suite!(a_gap_detector, crate::gap_detector::GapDetectorSubject);
suite!(a_gap_fixer, crate::gap_fixer::GapFixerSubject);
suite!(a_log_parser, crate::log_parser::LogParserSubject);
suite!(a_log_watcher, crate::log_watcher::LogWatcherSubject);
suite!(a_namer, crate::namer::NamerSubject);
suite!(a_stream_sync, crate::streams::StreamSyncSubject);
suite!(a_sync_scout, crate::streams::SyncScoutSubject);
suite!(a_tally, crate::tally::TallySubject);
