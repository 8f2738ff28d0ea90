//! A chain that several endpoints tell, each its own branch, its own head, its own word on finality. The test changes
//! them; who is not trusted any more is not asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use gapless::messages::block::{Block, Origin};
use gapless::messages::heights::{Height, HeightRange};
use gapless::simulate::chain::SimChain;
use gapless::sources::{Absence, ChainIdentity, ChainSource, Fetched, SourceError};

use crate::sim::plan;

/// What one endpoint tells.
#[derive(Debug, Clone)]
pub struct Voice {
    pub name: &'static str,
    /// From this height on its blocks are of the branch.
    pub from: Height,
    pub branch: u32,
    pub head: Height,
    /// The lowest block of its branch stands on nothing that it shows.
    pub broken: bool,
    pub trusted: bool,
}

/// What the source says of finality.
#[derive(Debug, Clone, Copy)]
pub enum Tag {
    /// Nothing: the count holds.
    Silent,
    At(Height),
    /// The head itself: the chain is final at once.
    AtHead,
    Fails,
}

pub struct Voices {
    chain: SimChain,
    voices: Mutex<Vec<Voice>>,
    pub tag: Mutex<Tag>,
    /// Requests so far: each is answered by another one.
    next: AtomicUsize,
    /// What was said when somebody was left alone.
    pub reasons: Mutex<Vec<String>>,
}

impl Voices {
    pub fn new(names: &[&'static str], head: Height, tag: Tag) -> Arc<Self> {
        let voice = |name: &&'static str| Voice { name, from: 0, branch: 0, head, broken: false, trusted: true };
        Arc::new(Self {
            chain: SimChain::new(&plan(21, head)),
            voices: Mutex::new(names.iter().map(voice).collect()),
            tag: Mutex::new(tag),
            next: AtomicUsize::new(0),
            reasons: Mutex::default(),
        })
    }

    /// Changes one endpoint.
    pub fn set(&self, name: &str, change: impl Fn(&mut Voice)) {
        self.voices.lock().expect("voices").iter_mut().filter(|voice| voice.name == name).for_each(change);
    }

    /// Changes all of them.
    pub fn set_all(&self, change: impl Fn(&mut Voice)) {
        self.voices.lock().expect("voices").iter_mut().for_each(change);
    }

    pub fn distrusted(&self) -> Vec<&'static str> {
        let voices = self.voices.lock().expect("voices");
        voices.iter().filter(|voice| !voice.trusted).map(|voice| voice.name).collect()
    }

    /// The block of a branch that begins at `from`; its lowest one stands on the main branch.
    pub fn block(&self, height: Height, from: Height, branch: u32) -> Block {
        if height < from {
            return self.chain.truth(height).into();
        }
        let mut block = self.chain.block(height, branch);
        if height == from && from > 0 {
            let parent = self.chain.truth(height - 1).hash;
            let text = String::from_utf8(block.raw.to_vec()).expect("text");
            block.raw = text.replace(block.parent.as_str(), parent.as_str()).into();
            block.parent = parent;
        }
        block.into()
    }

    pub fn hash(&self, height: Height, from: Height, branch: u32) -> String {
        self.block(height, from, branch).id.hash.to_string()
    }

    /// Whose turn it is.
    fn voice(&self) -> Result<Voice, SourceError> {
        let voices = self.voices.lock().expect("voices");
        let trusted: Vec<&Voice> = voices.iter().filter(|voice| voice.trusted).collect();
        if trusted.is_empty() {
            let (endpoint, reason) = (voices[0].name.to_owned(), "as was said".to_owned());
            return Err(SourceError::Distrusted { endpoint, reason });
        }
        // In no order that could keep step with the questions, and the same in each run.
        let turn = self.next.fetch_add(1, Ordering::SeqCst).to_le_bytes();
        Ok(trusted[usize::from(blake3::hash(&turn).as_bytes()[0]) % trusted.len()].clone())
    }
}

impl ChainSource for Voices {
    fn expect_chain(&self, _: &str) {}

    fn identity(&self) -> BoxFuture<'_, Result<ChainIdentity, SourceError>> {
        Box::pin(async { Ok(ChainIdentity { chain_id: "1337".to_owned() }) })
    }

    fn head(&self) -> BoxFuture<'_, Result<Height, SourceError>> {
        Box::pin(async { self.voice().map(|voice| voice.head) })
    }

    fn finalized(&self) -> BoxFuture<'_, Result<Option<Height>, SourceError>> {
        Box::pin(async {
            let voices = self.voices.lock().expect("voices");
            let highest = voices.iter().filter(|voice| voice.trusted).map(|voice| voice.head).max();
            match *self.tag.lock().expect("the tag") {
                Tag::Silent => Ok(None),
                Tag::At(height) => Ok(Some(height)),
                Tag::AtHead => Ok(highest),
                Tag::Fails => {
                    Err(SourceError::Malformed { endpoint: "all".to_owned(), reason: "no such tag".to_owned() })
                }
            }
        })
    }

    fn distrust(&self, endpoint: &str, reason: &str) {
        self.set(endpoint, |voice| voice.trusted = false);
        self.reasons.lock().expect("reasons").push(reason.to_owned());
    }

    fn blocks(&self, range: HeightRange) -> BoxFuture<'_, Result<Vec<Fetched>, SourceError>> {
        Box::pin(async move {
            let voice = self.voice()?;
            let answer = |height| match height <= voice.head {
                true => {
                    let is_torn = voice.broken && height == voice.from;
                    let mut block = match is_torn {
                        true => self.chain.block(height, voice.branch).into(),
                        false => self.block(height, voice.from, voice.branch),
                    };
                    block.origin = Origin { endpoint: voice.name.to_owned(), attempt: 1, millis: 0 };
                    Fetched::Block(block)
                }
                false => Fetched::Absent(height, Absence::Unknown),
            };
            Ok((range.lo()..=range.hi()).map(answer).collect())
        })
    }
}
