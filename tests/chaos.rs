//! Faults against real processes and a real Redis, judged by an oracle that knows only the plan.
//!
//! `GAPLESS_CHAOS=long` runs the long schedule (`make chaos`); `GAPLESS_CHAOS_SEED` repeats one. Sabotaged
//! variants and a failover show that the oracle sees damage where there is some, and none where there is none.
//!
//! Exclusive mailboxes are tried with the self-test, in processes of the program itself. The pool is tried with the
//! real GapFixer over a source that breaks it, in processes of this very binary (`pool_node.rs`).

mod support;

#[path = "chaos/crash_points.rs"]
mod crash_points;
#[path = "chaos/failover.rs"]
mod failover;
#[path = "chaos/pool.rs"]
mod pool;
#[path = "chaos/pool_node.rs"]
mod pool_node;
#[path = "chaos/sabotage.rs"]
mod sabotage;
#[path = "chaos/schedule.rs"]
mod schedule;
#[path = "chaos/sentinel.rs"]
mod sentinel;
#[path = "chaos/upgrade.rs"]
mod upgrade;
