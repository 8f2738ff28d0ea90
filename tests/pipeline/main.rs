//! The blocks pipeline end to end: real nodes, a real Redis, a real EVM node where there is one, and chains whose every
//! block the test computes for itself. One binary, because each test binary links the world.

#[path = "../support/mod.rs"]
mod support;

mod adoption;
mod alarms;
mod bare;
mod catching_up;
mod chains;
mod cosmos;
mod detector;
mod faults;
mod finality;
mod hints;
mod later;
mod oracle;
mod order;
mod orders;
mod packed;
mod parked;
mod ranges;
mod real_node;
mod refusals;
mod reorgs;
mod rewinds;
mod sim;
mod trouble;
mod verify;
mod voices;
mod world;
