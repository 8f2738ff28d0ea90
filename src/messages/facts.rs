//! The facts of a blocks pipeline, as the Collector commits them and everybody else reads them.

use serde::{Deserialize, Serialize};

use super::block::BlockHash;
use super::heights::Height;

/// What is known of a chain. None of it before the Collector has seen the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainFacts {
    /// The chain's id.
    pub chain_id: Option<String>,
    /// The lowest wanted height.
    pub start: Option<Height>,
    /// The newest height that was committed or, far above the held ones, seen with a block to show for it.
    pub head: Option<Height>,
    /// The highest height that can no longer change; none while nothing is final. Never above `head`, and never falls.
    ///
    /// Up to here the pool writes, above it the Collector alone.
    pub finalized: Option<Height>,
    /// What contradicted final blocks, newest first: a JSON list, as `docs/protocol.md` has it.
    pub alarms: Option<String>,
}

impl ChainFacts {
    /// Reads them from the fields of the hash. An index that an earlier release wrote has no `finalized`: until the
    /// Collector has written it, `head - confirmations` counts, as it did then.
    pub fn read(fields: &[(String, String)], confirmations: u64) -> Self {
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let height = |name: &str| field(name).and_then(|text| text.parse::<Height>().ok());
        let head = height("head");
        let finalized = height("finalized").or(head.and_then(|head| head.checked_sub(confirmations)));
        Self { chain_id: field("chain_id"), start: height("start"), head, finalized, alarms: field("alarms") }
    }
}

/// A final block that an endpoint contradicted; nothing was rewritten. One of the list in the fact `alarms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmNote {
    /// The final height.
    pub height: Height,
    /// The hash that is held; none where it was not known any more.
    pub held: Option<BlockHash>,
    /// The hash that was shown.
    pub shown: BlockHash,
    /// Who showed it, without credentials; empty where the source cannot tell.
    pub endpoint: String,
    /// How often.
    pub times: u64,
    /// When first, in milliseconds of Redis's clock.
    pub first_ms: u64,
    /// When last.
    pub last_ms: u64,
}

impl ChainFacts {
    /// The alarms, newest first; none where the fact is not what this program writes.
    pub fn alarms(&self) -> Vec<AlarmNote> {
        self.alarms.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> ChainFacts {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ChainFacts::read(&fields, 10)
    }

    #[test]
    fn what_is_final_is_read_or_counted_where_nobody_wrote_it() {
        let facts = read(&[("head", "100"), ("start", "5"), ("chain_id", "1"), ("finalized", "97"), ("cluster", "x")]);
        assert_eq!((facts.head, facts.start, facts.finalized), (Some(100), Some(5), Some(97)));
        assert_eq!(facts.chain_id.as_deref(), Some("1"));
        assert_eq!(read(&[("head", "100")]).finalized, Some(90));
        assert_eq!(read(&[("head", "9")]).finalized, None);
        assert_eq!(read(&[]), ChainFacts::default());
    }
}
