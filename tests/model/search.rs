//! Breadth-first search over every reachable state of a model, with the shortest trace to what it finds.
//!
//! The search knows nothing of Redis: it asks a [`Model`] for the steps out of a state, keeps each state once (exactly:
//! equal fingerprints are compared in full), and afterwards walks backwards from the finished states, to find those
//! from which the end cannot be reached any more.

use std::collections::HashMap;
use std::fmt::{Display, Write as _};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::{Duration, Instant};

/// A step out of a state: what happened, and the state after it or the promise that it broke.
pub type Move<M> = (<M as Model>::Step, Result<<M as Model>::State, <M as Model>::Broken>);

/// What the search explores.
pub trait Model {
    type State: Copy + Eq + Hash;
    type Step: Copy + Display;
    type Broken: Copy + Display;

    fn initial(&self) -> Self::State;
    /// Appends every step that is possible in `state`.
    fn moves(&self, state: &Self::State, moves: &mut Vec<Move<Self>>);
    /// Gives states that differ only in arbitrary names one common form.
    fn canonical(&self, state: &mut Self::State);
    /// Whether everything that had to be done is done.
    fn finished(&self, state: &Self::State) -> bool;
    /// Whether progress must not depend on this step: nobody may count on a fault, or on a late request.
    fn is_luck(&self, step: &Self::Step) -> bool;
}

/// How an exhaustive search ended.
pub enum Verdict<B> {
    /// Every reachable state keeps every promise and can reach the end without another fault.
    Holds,
    /// A step broke a promise.
    Broken(B),
    /// No promise is broken, but this many states can never reach the end.
    Stuck(usize),
    /// More states than the setting allows: nothing is proved.
    TooLarge,
}

/// What the search found, and how large the space was.
pub struct Finding<B> {
    pub verdict: Verdict<B>,
    pub states: usize,
    pub steps: usize,
    pub elapsed: Duration,
    /// The shortest way to the broken promise or to a stuck state, one line a step; empty if all holds.
    pub trace: String,
}

/// Explores `model` completely, or until `limit` states are known.
pub fn explore<M: Model>(model: &M, limit: usize) -> Finding<M::Broken> {
    let started = Instant::now();
    let mut space = Space::new(model);
    let mut steps = 0;
    let mut moves = Vec::new();
    let mut here = 0;
    let (verdict, trace) = loop {
        if here == space.states.len() {
            break space.progress(model);
        }
        if space.states.len() > limit {
            break (Verdict::TooLarge, String::new());
        }
        moves.clear();
        model.moves(&space.states[here], &mut moves);
        steps += moves.len();
        if let Some(broken) = space.extend(model, here, &mut moves) {
            let trace = space.trace(model, here, Some(broken));
            break (Verdict::Broken(broken), trace);
        }
        here += 1;
    };
    Finding { verdict, states: space.states.len(), steps, elapsed: started.elapsed(), trace }
}

/// The states seen so far, in the order of their distance from the start.
struct Space<M: Model> {
    states: Vec<M::State>,
    /// The state from which each was reached first.
    parents: Vec<u32>,
    index: HashMap<u64, u32, BuildHasherDefault<Fingerprint>>,
    /// Every step that progress may rely on.
    edges: Vec<(u32, u32)>,
}

impl<M: Model> Space<M> {
    fn new(model: &M) -> Self {
        let mut space = Self { states: vec![], parents: vec![], index: HashMap::default(), edges: vec![] };
        let mut initial = model.initial();
        model.canonical(&mut initial);
        space.insert(initial, 0);
        space
    }

    /// The number of `state`, which is new if it was not known.
    fn insert(&mut self, state: M::State, parent: u32) -> u32 {
        let mut fingerprint = Fingerprint::of(&state);
        loop {
            match self.index.get(&fingerprint) {
                Some(&known) if self.states[known as usize] == state => return known,
                // Two states share a fingerprint: the next free one serves the newcomer, so that none is dropped.
                Some(_) => fingerprint = fingerprint.wrapping_add(1),
                None => break,
            }
        }
        let number = u32::try_from(self.states.len()).expect("fewer states than 2^32");
        self.index.insert(fingerprint, number);
        self.states.push(state);
        self.parents.push(parent);
        number
    }

    fn extend(&mut self, model: &M, from: usize, moves: &mut Vec<Move<M>>) -> Option<M::Broken> {
        for (step, result) in moves.drain(..) {
            match result {
                Err(broken) => return Some(broken),
                Ok(mut state) => {
                    model.canonical(&mut state);
                    let to = self.insert(state, from as u32);
                    if !model.is_luck(&step) {
                        self.edges.push((from as u32, to));
                    }
                }
            }
        }
        None
    }

    /// Walks backwards from the finished states; what it does not meet is stuck.
    fn progress(&mut self, model: &M) -> (Verdict<M::Broken>, String) {
        self.edges.sort_unstable_by_key(|&(_, to)| to);
        let mut reaches: Vec<bool> = self.states.iter().map(|state| model.finished(state)).collect();
        let mut open: Vec<u32> = (0..self.states.len() as u32).filter(|&n| reaches[n as usize]).collect();
        while let Some(to) = open.pop() {
            let first = self.edges.partition_point(|edge| edge.1 < to);
            for &(from, _) in self.edges[first..].iter().take_while(|edge| edge.1 == to) {
                if !std::mem::replace(&mut reaches[from as usize], true) {
                    open.push(from);
                }
            }
        }
        let stuck = reaches.iter().filter(|&&reaches| !reaches).count();
        match reaches.iter().position(|&reaches| !reaches) {
            None => (Verdict::Holds, String::new()),
            Some(nearest) => (Verdict::Stuck(stuck), self.trace(model, nearest, None)),
        }
    }

    /// Plays the shortest way to `last` again, without renaming, so that a name means one thing in the whole trace.
    fn trace(&self, model: &M, last: usize, broken: Option<M::Broken>) -> String {
        let mut path = vec![last];
        while path[path.len() - 1] != 0 {
            path.push(self.parents[path[path.len() - 1]] as usize);
        }
        let mut text = String::new();
        let mut state = model.initial();
        for (number, &next) in path.iter().rev().skip(1).enumerate() {
            let (step, after) = self.step_to(model, &state, next);
            writeln!(text, "    {:2}. {step}", number + 1).expect("a string takes every write");
            state = after;
        }
        let end = match broken {
            None => "from here the end cannot be reached".to_owned(),
            Some(_) => last_step(model, &state),
        };
        writeln!(text, "    {:2}. {end}", path.len()).expect("a string takes every write");
        text
    }

    fn step_to(&self, model: &M, state: &M::State, next: usize) -> (M::Step, M::State) {
        let mut moves = Vec::new();
        model.moves(state, &mut moves);
        for (step, result) in moves {
            if let Ok(after) = result {
                let mut common = after;
                model.canonical(&mut common);
                if common == self.states[next] {
                    return (step, after);
                }
            }
        }
        unreachable!("a state's child is one step away from it")
    }
}

/// The step that breaks a promise in `state`, and the promise.
fn last_step<M: Model>(model: &M, state: &M::State) -> String {
    let mut moves = Vec::new();
    model.moves(state, &mut moves);
    let breaking = moves.into_iter().find_map(|(step, result)| result.err().map(|broken| (step, broken)));
    breaking.map_or_else(String::new, |(step, broken)| format!("{step}: {broken}"))
}

/// A fast hash of a state's bytes; equal states are told from equal hashes by [`Space::insert`].
#[derive(Default)]
struct Fingerprint(u64);

impl Fingerprint {
    fn of(state: &impl Hash) -> u64 {
        let mut hasher = Self::default();
        state.hash(&mut hasher);
        hasher.finish()
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}
