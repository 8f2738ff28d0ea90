//! The held heights and the gaps as two plain keys, for programs that know nothing of intervals. Never read by gapless.

use super::Store;
use super::error::StoreError;
use super::lease::Lease;
use super::reply::{Row, refusal};
use super::script;
use crate::messages::heights::{Height, HeightRange};

/// The names of the keys; they stand outside of the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewKeys {
    /// List of decimal heights, newest first.
    pub heights: String,
    /// String: JSON array of missing heights, ascending.
    pub gaps: String,
}

impl ViewKeys {
    /// String: how many missing heights are not in the array.
    pub fn more(&self) -> String {
        more(&self.gaps)
    }
}

/// The key beside `gaps` that counts what is not in it.
pub fn more(gaps: &str) -> String {
    format!("{gaps}:more")
}

/// What the keys are to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeightsView {
    /// The newest held heights: ranges, highest first.
    pub heights: Vec<HeightRange>,
    /// The lowest missing heights, ascending.
    pub gaps: Vec<Height>,
    /// How many more are missing, at least.
    pub more: u64,
}

impl Store {
    /// Replaces all keys at once, if `lease` is still the newest of its unit. Safe to repeat; a crash leaves the old
    /// view or the new one. A key of another type is [`StoreError::Broken`], and nothing was changed.
    pub async fn write_view(&self, lease: &Lease, keys: &ViewKeys, view: &HeightsView) -> Result<(), StoreError> {
        let held = lease.held();
        let names = [self.keys.checkpoint(lease.unit()), keys.heights.clone(), keys.gaps.clone(), keys.more()];
        let json = serde_json::to_vec(&view.gaps).map_err(|e| StoreError::Protocol(e.to_string()))?;
        let mut args = vec![held.token.to_string().into_bytes(), held.owner.as_str().as_bytes().to_vec(), json];
        args.push(view.more.to_string().into_bytes());
        let bounds = view.heights.iter().flat_map(|range| [range.lo(), range.hi()]);
        args.extend(bounds.map(|height| height.to_string().into_bytes()));
        let mut row = Row::new("view", lease.link().run(&script::VIEW, &names, &args).await?)?;
        match row.text()?.as_str() {
            "OK" => Ok(()),
            word => Err(refusal(word, &mut row)?),
        }
    }
}
