//! What goes wrong with one request: follows from the seed and the request's number alone.

use std::time::Duration;

use super::FaultPlan;
use crate::simulate::noise::Noise;

/// What becomes of a request.
pub(super) enum Fate {
    /// The connection is cut.
    Cut,
    /// The node is down: HTTP 503.
    Down,
    /// Too many requests: HTTP 429.
    Limited,
    /// A server error: of the node, or of a server before it that knows no JSON.
    Broken {
        /// No JSON.
        plain: bool,
    },
    /// An answer, with what is wrong in it.
    Answered(Twists),
}

/// What goes wrong while one request is answered.
pub(super) struct Twists {
    /// The share of questions for the newest heights that are answered as if these were not known yet.
    pub null: f64,
    /// One block is another one than was asked for.
    pub wrong_block: bool,
    /// The answer is cut off.
    pub cut_off: bool,
    /// Some answers of a batch are left out.
    pub short_batch: bool,
    /// The answers of a batch come in another order.
    pub reorder: bool,
    /// Decides where.
    pub noise: Noise,
}

impl Twists {
    /// Cuts the answer off, if that is its fate.
    pub fn cut(&mut self, body: &mut Vec<u8>) {
        if self.cut_off {
            body.truncate(usize::try_from(self.noise.below(body.len() as u64)).unwrap_or(0));
        }
    }
}

/// Draws the fate of a request, and how much later it is answered.
pub(super) fn draw(faults: &FaultPlan, is_down: bool, mut noise: Noise) -> (Duration, Fate) {
    if is_down {
        return (Duration::ZERO, if noise.hit(0.5) { Fate::Cut } else { Fate::Down });
    }
    if noise.hit(faults.limited) {
        return (Duration::ZERO, Fate::Limited);
    }
    let delay = faults.slow.filter(|slow| noise.hit(slow.share)).map_or(Duration::ZERO, |slow| slow.delay);
    if noise.hit(faults.error) {
        return (delay, Fate::Broken { plain: noise.hit(0.5) });
    }
    let malformed = noise.hit(faults.malformed);
    let wrong_block = malformed && noise.hit(0.5);
    let twists = Twists {
        null: faults.null,
        wrong_block,
        cut_off: malformed && !wrong_block,
        short_batch: noise.hit(faults.short_batch),
        reorder: noise.hit(faults.reorder),
        noise,
    };
    (delay, Fate::Answered(twists))
}
