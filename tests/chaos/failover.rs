//! A replica that lags is promoted: commits that were answered are gone, and the outputs are exact all the same.

use crate::support::chaos::World;
use crate::support::fleet::Plan;
use crate::support::invariants;
use crate::support::proxy::Faults;
use crate::support::redis::RedisServer;
use crate::support::wait;

#[tokio::test]
async fn commits_that_a_failover_lost_are_noticed_and_done_again() {
    let plan = Plan { messages: 6000, pause_ms: 20, ..Plan::default() };
    // Without the usual five seconds in which a server waits for more replicas.
    let primary = RedisServer::with(&["--appendonly", "yes", "--repl-diskless-sync-delay", "0"]);
    let mut world = World::on(primary, 3, plan);
    let replica = RedisServer::start();
    // The replica follows through a proxy: what is held there is what a slow network would still have had under way.
    let line = world.network.proxy(world.redis.port);
    replica.command(&["REPLICAOF", "127.0.0.1", &line.port().to_string()]);
    wait::until_true("a replica in step", || replica.text(&["INFO", "replication"]).contains("master_link_status:up"))
        .await;
    world.start(&[]);
    // A server keeps the stream back until a new replica has first acknowledged: until then it knows nothing.
    wait::until_true("a replica that follows", || invariants::records(&replica, &world.truth) > 1000).await;
    line.set(Faults { hold_answers: true, ..Faults::default() });
    replica.pause(true);
    let kept = invariants::records(&world.redis, &world.truth);
    world.records(kept + 3000).await;
    world.redis.kill();
    line.cut();
    replica.pause(false);
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    let found = invariants::records(&replica, &world.truth);
    println!("failover: {kept} records when the replica fell behind, {found} after the promotion");
    assert!(found > 0 && found < kept + 3000, "the replica did not lag: nothing was proved");
    world.redis = replica;
    world.proxies.iter().for_each(|proxy| proxy.lead_to(world.redis.port));
    world.done().await;
    let told = world.tallied();
    println!("failover: told {told:?}");
    invariants::all(&world.redis, &world.truth);
    assert!(told["rollbacks"] > 0, "nobody said that commits were lost: {told:?}");
}
