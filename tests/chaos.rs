//! Faults against real processes and a real Redis, judged by an oracle that knows only the plan.
//!
//! `GAPLESS_CHAOS=long` runs the long schedule (`make chaos`); `GAPLESS_CHAOS_SEED` repeats one. Two sabotaged
//! variants and a failover show that the oracle sees damage where there is some, and none where there is none.

mod support;

#[path = "chaos/crash_points.rs"]
mod crash_points;
#[path = "chaos/failover.rs"]
mod failover;
#[path = "chaos/sabotage.rs"]
mod sabotage;
#[path = "chaos/schedule.rs"]
mod schedule;
