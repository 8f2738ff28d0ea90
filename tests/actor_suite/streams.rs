//! StreamSync and SyncScout under the suite. For the one a unit of work is an entry of a stream, for the other a stream. Both
//! ends are databases of the site's Redis, apart from gapless's own; the world is the way to the source.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use gapless::actors::stream_sync::{SCOUT, StreamSync, SyncPlan};
use gapless::actors::sync_scout::{ScoutPlan, SyncScout};
use gapless::actors::turn::{self, Unit};
use gapless::config::Settings;
use gapless::ids::UnitId;
use gapless::messages::sync::{StreamName, StreamRow, SyncMessage};
use gapless::store::effect::{Commit, Effect, Outgoing};
use gapless::store::lease::{Fate, Lease, Mail};
use gapless::supervisor::wiring;

use crate::suite::{Site, Subject};
use crate::support::proxy::{Faults, Proxy};

/// Databases of the source and of the target.
const ENDS: [u16; 2] = [1, 2];

/// The two ends of one pipeline.
struct World {
    /// What the names of its streams begin with: sites have several pipelines, one after the other.
    prefix: String,
    source: Proxy,
    settings: Settings,
}

impl World {
    async fn new(site: &Site) -> Self {
        let source = Proxy::to(site.server.port).await;
        let prefix = format!("{}:", site.pipeline);
        let text = format!(
            "[sync.x]\nsource = \"{}\"\ntarget = \"{}\"\ntarget_db = {}\ndatabases = \"{}\"\npatterns = [\"{prefix}*\"]\n\
             buckets = 1\nbatch_entries = 2\npoll_ms = 50\ngroups_ms = 50\nevidence = true\ncommand_timeout_ms = 300\n\
             discover_seconds = 1\ndiscover_hints = false\n",
            source.url(),
            site.server.url(),
            ENDS[1],
            ENDS[0],
        );
        let settings = Settings::from_text("suite.toml", &text).unwrap_or_else(|report| panic!("{report}"));
        Self { prefix, source, settings }
    }

    fn name(&self, stream: u64) -> StreamName {
        StreamName { db: ENDS[0], key: format!("{}{stream:03}", self.prefix).into_bytes() }
    }

    /// Adds the entries to a stream of the source.
    fn add(&self, site: &Site, stream: u64, entries: std::ops::RangeInclusive<u64>) {
        let mut pipe = redis::pipe();
        pipe.cmd("SELECT").arg(ENDS[0]).ignore();
        for n in entries {
            pipe.cmd("XADD").arg(self.name(stream).key).arg(format!("{n}-0")).arg("text").arg(text(n)).ignore();
        }
        pipe.query::<()>(&mut site.server.connection()).expect("entries");
    }

    fn down(&self, down: bool) {
        self.source.set(Faults { refuse: down, ..Faults::default() });
        self.source.cut();
    }
}

fn text(n: u64) -> String {
    format!("entry {n} {}", "x".repeat(usize::try_from(n % 7).expect("small")))
}

pub struct StreamSyncSubject {
    world: World,
    plan: Arc<SyncPlan>,
    added: u64,
}

impl Subject for StreamSyncSubject {
    const ACTOR: &'static str = "stream_sync_0";

    async fn new(site: &Site) -> Self {
        let world = World::new(site).await;
        let plan = wiring::sync_plan("x", &world.settings.sync["x"], 0);
        Self { world, plan: Arc::new(plan), added: 0 }
    }

    /// Does what producers do, and the scout.
    async fn offer(&mut self, site: &Site, units: u64) {
        self.world.add(site, 0, self.added + 1..=self.added + units);
        self.added += units;
        let scout = UnitId::exclusive(&site.pipeline, SCOUT);
        let lease = Lease::acquire(&site.store, &site.direct, &scout, Mail::Offset, None, &Fate::Clean).await;
        let lease = lease.expect("a free unit");
        let row = serde_json::to_string(&StreamRow { since_ms: 1, ..StreamRow::default() }).expect("JSON");
        let row = Effect::PutRow { row: self.world.name(0).shown(), value: row, capacity: 100 };
        let messages = vec![Outgoing::new(&SyncMessage::Look {}).expect("a message")];
        let news = Effect::Send { to: site.address(Self::ACTOR), capacity: 100, messages };
        lease.commit(&Commit { effects: vec![row, news], ..Commit::default() }).await.expect("committed");
        lease.release().await.expect("released");
    }

    fn life(&self, unit: Arc<Unit>) -> LocalBoxFuture<'static, ()> {
        turn::live(StreamSync::new(unit, self.plan.clone()))
    }

    /// The target's entries. In whatever instant one looks, the chain of evidence covers them, each link a batch.
    async fn done(&self, site: &Site) -> Vec<String> {
        type Fields = BTreeMap<String, String>;
        let key = String::from_utf8(self.world.name(0).key).expect("text");
        let chain = format!("gapless:chain:{{{key}}}:{key}");
        let mut pipe = redis::pipe();
        pipe.cmd("SELECT").arg(ENDS[1]).ignore().cmd("MULTI").ignore();
        pipe.cmd("XRANGE").arg(&key).arg("-").arg("+").ignore().cmd("XRANGE").arg(&chain).arg("-").arg("+").ignore();
        pipe.cmd("EXEC");
        type Both = ((Vec<(String, Fields)>, Vec<(String, Fields)>),);
        let ((entries, links),): Both = pipe.query(&mut site.server.connection()).expect("both");
        let covered: usize = links.iter().map(|(_, link)| link["count"].parse::<usize>().expect("a number")).sum();
        assert!(links.iter().all(|(_, link)| link["kind"] == "written"), "{links:?}");
        assert_eq!(covered, entries.len(), "{links:?}");
        assert_eq!(links.last().map(|(_, link)| &link["last"]), entries.last().map(|(id, _)| id));
        entries.iter().map(|(id, fields)| format!("{id} {}", fields["text"])).collect()
    }

    fn truth(units: u64) -> Vec<String> {
        (1..=units).map(|n| format!("{n}-0 {}", text(n))).collect()
    }

    fn world_down(&self, _: &Site, down: bool) {
        self.world.down(down);
    }
}

pub struct SyncScoutSubject {
    world: World,
    plan: Arc<ScoutPlan>,
    made: u64,
}

impl Subject for SyncScoutSubject {
    const ACTOR: &'static str = SCOUT;

    async fn new(site: &Site) -> Self {
        let world = World::new(site).await;
        let plan = wiring::scout_plan("x", &world.settings.sync["x"], &world.settings);
        Self { world, plan: Arc::new(plan), made: 0 }
    }

    async fn offer(&mut self, site: &Site, units: u64) {
        (self.made + 1..=self.made + units).for_each(|stream| self.world.add(site, stream, 1..=1));
        self.made += units;
    }

    fn life(&self, unit: Arc<Unit>) -> LocalBoxFuture<'static, ()> {
        turn::live(SyncScout::new(unit, self.plan.clone()))
    }

    /// The listed streams. In whatever instant one looks, whoever copies them has been told.
    async fn done(&self, site: &Site) -> Vec<String> {
        let scout = UnitId::exclusive(&site.pipeline, SCOUT);
        let (rows, _) = site.store.peek_table(&site.direct, &scout, 1000).await.expect("a table");
        let told = site.store.depth(&site.direct, &site.address("stream_sync_0")).await.expect("a depth").entries;
        assert!(rows.is_empty() || told > 0, "{rows:?}");
        let of = |row: &String| row.rsplit_once(':').map_or_else(String::new, |(_, stream)| stream.to_owned());
        let mut streams: Vec<String> = rows.keys().map(of).collect();
        streams.sort();
        streams
    }

    fn truth(units: u64) -> Vec<String> {
        (1..=units).map(|stream| format!("{stream:03}")).collect()
    }

    fn world_down(&self, _: &Site, down: bool) {
        self.world.down(down);
    }
}
