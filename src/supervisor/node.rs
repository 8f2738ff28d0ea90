//! What a node does before its first unit starts: finds Redis, judges it, and makes sure that it is the same one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{BlocksSettings, OnUnsafe, Settings, Start};
use crate::ids::{Kind, PipelineId, RandomId};
use crate::sinks::{BlockFiles, Claim, MarkerVerdict, StoreMarker, store_marker};
use crate::sources;
use crate::store::link::{Class, Health, Link, Patience};
use crate::store::options::StoreOptions;
use crate::store::startup::{Danger, Server};
use crate::store::{Store, StoreError};

/// Why a node does not start. The text is one clear sentence with its remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Redis is not what the configuration asks for, or not the one it was.
    #[error("{0}")]
    Refused(String),
    /// The store failed for good.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state folder cannot be used.
    #[error("cannot use node.state_dir {}: {reason}", path.display())]
    State {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

/// A connection for a node: waits for Redis for ever.
pub fn link(settings: &Settings) -> Link {
    let options = Arc::new(StoreOptions::from_settings(settings, true));
    Link::new(options, Arc::new(Health::default()), Class::Command, Patience::Forever)
}

/// Judges Redis and takes its id. Waits while Redis is away; says so in one line.
pub async fn prepare(settings: &Settings, link: &Link, accept_data_loss: bool) -> Result<Store, StartError> {
    judge(settings, &Server::ask(link).await?)?;
    let mut store = Store::new(&settings.redis.prefix, &settings.node.name, RandomId::default());
    let memory = Memory::new(&settings.node.state_dir, &link.options().address(), &settings.redis.prefix);
    let (remembered, found) = (memory.read()?, store.cluster_id(link).await?);
    store.cluster = match (remembered, found) {
        (Some(remembered), found) if found.as_ref() != Some(&remembered) && !accept_data_loss => {
            let found = found.map_or_else(String::new, |id| id.to_string());
            return Err(StoreError::Alien { expected: remembered.to_string(), found }.into());
        }
        (_, Some(found)) => found,
        (_, None) => store.claim_cluster(link, &RandomId::new()).await?,
    };
    memory.write(&store.cluster)?;
    store.accept_data_loss = accept_data_loss;
    Ok(store)
}

/// The id of the Redis that nodes of this folder worked with last, at this address and prefix.
pub fn remembered(settings: &Settings, link: &Link) -> Result<Option<RandomId>, StartError> {
    Memory::new(&settings.node.state_dir, &link.options().address(), &settings.redis.prefix).read()
}

/// Marks a pipeline as this cluster's. A pipeline that another cluster's id marks came with a copied data set.
pub async fn mark(store: &Store, link: &Link, pipeline: &PipelineId) -> Result<(), StartError> {
    store.mark_pipeline(link, pipeline, store.accept_data_loss).await.map_err(StartError::from)
}

/// Opens the block store of every blocks pipeline, after making sure that each folder is the pipeline's own.
///
/// A crash between the folder's marker and Redis's note of it is finished by the next start.
pub async fn open_stores(
    settings: &Settings,
    store: &Store,
    link: &Link,
    incarnation: &RandomId,
) -> Result<BTreeMap<String, BlockFiles>, StartError> {
    let mut stores = BTreeMap::new();
    for (name, section) in &settings.blocks {
        let pipeline = PipelineId::new(Kind::Blocks, name);
        // First of all: nothing may be written into a folder that is another one's.
        claim_store(section, store, link, &pipeline).await?;
        let files =
            BlockFiles::open(&section.store, incarnation.as_str(), sources::parse_block(section.chain), STORE_WRITERS)
                .map_err(|error| StartError::Refused(error.to_string()))?
                .with_zstd(section.zstd_level);
        if section.start == Start::Latest && store.fact(link, &pipeline, "start").await?.is_none() {
            pin_start(&files, store, link, &pipeline).await?;
        }
        stores.insert(name.clone(), files);
    }
    Ok(stores)
}

/// Blocks written at a time by one node in one store. Writers wait for the disk, so a batch of the Collector should be on
/// its way at once.
pub const STORE_WRITERS: usize = 32;

/// After an emptied Redis `start = "latest"` still means what it meant: the lowest block of the store, not the head of
/// today, or the heights between would be missed in silence.
async fn pin_start(files: &BlockFiles, store: &Store, link: &Link, pipeline: &PipelineId) -> Result<(), StartError> {
    let heights = files.heights().await.map_err(|error| StartError::Refused(error.to_string()))?;
    if let Some(hull) = heights.hull() {
        store.fact_once(link, pipeline, "start", &hull.lo().to_string()).await?;
    }
    Ok(())
}

/// Makes the folder's marker and Redis agree, or refuses.
async fn claim_store(
    section: &BlocksSettings,
    store: &Store,
    link: &Link,
    pipeline: &PipelineId,
) -> Result<(), StartError> {
    let root = &section.store;
    let sink = |error: crate::sinks::SinkError| StartError::Refused(error.to_string());
    // Create, register, match: three looks are enough, unless others change the folder at the same time.
    for _ in 0..8 {
        let in_redis = store.fact(link, pipeline, "store").await?.map(|uuid| RandomId::stored(&uuid));
        let marker = store_marker::read(root).map_err(sink)?;
        let claim = Claim {
            pipeline: &pipeline.to_string(),
            cluster_id: store.cluster.as_str(),
            in_redis: in_redis.as_ref(),
            accept_data_loss: store.accept_data_loss,
        };
        let marker = match (store_marker::judge(marker.as_ref(), &claim), marker) {
            (MarkerVerdict::Match, _) => return Ok(()),
            (MarkerVerdict::Refuse(reason), _) => {
                return Err(StartError::Refused(format!("{pipeline}: store {}: {reason}", root.display())));
            }
            (MarkerVerdict::Adopt, Some(old)) => {
                store_marker::adopt(root, &old, store.cluster.as_str()).map_err(sink)?
            }
            (MarkerVerdict::Register, Some(marker)) => marker,
            (MarkerVerdict::Create | MarkerVerdict::Adopt | MarkerVerdict::Register, _) => {
                let marker = StoreMarker {
                    uuid: RandomId::new(),
                    pipeline: pipeline.to_string(),
                    cluster_id: store.cluster.to_string(),
                    chain_id: section.chain_id.clone(),
                    start: match section.start {
                        Start::Latest => None,
                        Start::Height(height) => Some(height),
                    },
                    created_at: jiff::Timestamp::now().to_string(),
                    format: 1,
                };
                store_marker::create(root, &marker).map_err(sink)?
            }
        };
        store.fact_once(link, pipeline, "store", marker.uuid.as_str()).await?;
    }
    Err(StartError::Refused(format!("{pipeline}: store {}: its marker keeps changing; try again", root.display())))
}

/// Refuses or warns about settings that lose data, as configured.
fn judge(settings: &Settings, server: &Server) -> Result<(), StartError> {
    if settings.redis.tls.insecure {
        tracing::warn!("redis.tls_insecure is true: any server is trusted, and whoever answers may change everything");
    }
    for danger in server.dangers().into_iter().chain(server.durability_danger(settings.redis.durability)) {
        let (policy, key) = match danger {
            Danger::Version(_) => (OnUnsafe::Refuse, ""),
            Danger::Durability(_) => (OnUnsafe::Refuse, " (or set redis.durability = \"fast\")"),
            Danger::Untold(_) => (OnUnsafe::Warn, ""),
            Danger::Eviction(_) => (settings.redis.eviction, " (or set redis.eviction = \"warn\")"),
            Danger::Persistence(_) => (settings.redis.persistence, " (or set redis.persistence = \"warn\")"),
        };
        match policy {
            OnUnsafe::Refuse => return Err(StartError::Refused(format!("redis would lose data: {danger}{key}"))),
            OnUnsafe::Warn => tracing::warn!("redis may lose data: {danger}"),
        }
    }
    Ok(())
}

/// What a node must remember of its Redis, so that an emptied one is noticed: one small file per address and prefix.
struct Memory {
    path: PathBuf,
}

impl Memory {
    fn new(folder: &Path, address: &str, prefix: &str) -> Self {
        let name = blake3::hash(format!("{address}\n{prefix}").as_bytes()).to_hex();
        Self { path: folder.join(format!("cluster-{}", &name[..16])) }
    }

    fn fault(&self, error: &std::io::Error) -> StartError {
        StartError::State { path: self.path.clone(), reason: error.to_string() }
    }

    fn read(&self) -> Result<Option<RandomId>, StartError> {
        match fs::read_to_string(&self.path) {
            Ok(text) if text.trim().is_empty() => Ok(None),
            Ok(text) => Ok(Some(RandomId::stored(text.trim()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// Written aside and linked to its name, and only if it says something new: a crash in between leaves the old
    /// memory or none, which is how a first start begins, never half of one.
    fn write(&self, id: &RandomId) -> Result<(), StartError> {
        if self.read()?.as_ref() == Some(id) {
            return Ok(());
        }
        let aside = self.path.with_extension(RandomId::new().short());
        let write = || {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = fs::File::create(&aside)?;
            writeln!(file, "{id}")?;
            file.sync_all()?;
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            match fs::hard_link(&aside, &self.path) {
                // Another node of this machine was faster; it read the same Redis.
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            fs::remove_file(&aside)
        };
        write().map_err(|error| self.fault(&error))
    }
}
