//! The laws of mailbox, checkpoint, lease, commit, pool, intervals, membership, link and managed Redis, against real
//! servers. One binary, because each test binary links the world.

#[path = "../support/mod.rs"]
mod support;

mod beats;
mod bounds;
mod commits;
mod durability;
mod failovers;
mod fences;
mod heights;
mod identities;
mod later;
mod letters;
mod lines;
mod lines_faults;
mod links;
mod mailboxes;
mod manageds;
mod members;
mod networks;
mod outputs;
mod pools;
mod releases;
mod rewinds;
mod routes;
mod speed;
mod trims;
mod world;
