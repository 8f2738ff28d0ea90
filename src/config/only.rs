//! `--only`: which pipelines and actors a node works on.

use std::collections::BTreeSet;

use super::suggest::nearest;
use crate::ids::{Address, PipelineId};

/// What a node limits itself to; without one it works on everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnlyFilter {
    /// Kinds, pipelines and actors as written; empty = everything.
    words: BTreeSet<String>,
}

impl OnlyFilter {
    /// Takes the texts of `--only`, each with one or more words between commas: a kind (`blocks`), a pipeline
    /// (`blocks.mainnet`) or an actor (`blocks.mainnet/gap_fixer`).
    ///
    /// A word that none of the `existing` addresses answers to is refused with a list of those that exist: a node that
    /// quietly does nothing would be found out too late.
    pub fn parse<S: AsRef<str>>(texts: &[S], existing: &[Address]) -> Result<Self, String> {
        let mut known = BTreeSet::new();
        for address in existing {
            known.insert(address.pipeline.kind.as_str().to_owned());
            known.insert(address.pipeline.to_string());
            known.insert(address.to_string());
        }
        let mut words = BTreeSet::new();
        for word in texts.iter().flat_map(|text| text.as_ref().split(',')).map(str::trim) {
            if !known.contains(word) {
                return Err(unknown(word, &known));
            }
            words.insert(word.to_owned());
        }
        Ok(Self { words })
    }

    /// Whether the node may work on this actor.
    pub fn allows(&self, pipeline: &PipelineId, actor: &str) -> bool {
        self.words.is_empty()
            || self.words.contains(pipeline.kind.as_str())
            || self.words.contains(&pipeline.to_string())
            || self.words.contains(&Address::new(pipeline, actor).to_string())
    }
}

fn unknown(word: &str, known: &BTreeSet<String>) -> String {
    let meant = nearest(word, known.iter().map(String::as_str));
    let hint = meant.map(|meant| format!(" (did you mean `{meant}`?)")).unwrap_or_default();
    let list = known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let list = if list.is_empty() { "no pipeline is configured" } else { &list };
    format!("--only `{}` names nothing{hint}; there is: {list}", word.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Kind;

    fn existing() -> Vec<Address> {
        let pipeline = PipelineId::new(Kind::Blocks, "mainnet");
        let other = PipelineId::new(Kind::Blocks, "base");
        let addresses = [(&pipeline, "collector"), (&pipeline, "gap_fixer"), (&other, "collector")];
        addresses.map(|(pipeline, actor)| Address::new(pipeline, actor)).into()
    }

    #[test]
    fn each_kind_of_word_allows_what_it_names() {
        let existing = existing();
        for (words, allowed) in [
            (vec![], [true, true, true]),
            (vec!["blocks"], [true, true, true]),
            (vec!["blocks.mainnet"], [true, true, false]),
            (vec!["blocks.mainnet/gap_fixer"], [false, true, false]),
            (vec!["blocks.base, blocks.mainnet/gap_fixer"], [false, true, true]),
            (vec!["blocks.base", "blocks.mainnet"], [true, true, true]),
        ] {
            let filter = OnlyFilter::parse(&words, &existing).expect("known words");
            let allows: Vec<bool> = existing.iter().map(|a| filter.allows(&a.pipeline, &a.actor)).collect();
            assert_eq!(allows, allowed, "{words:?}");
        }
    }

    #[test]
    fn unknown_words_are_refused_with_those_that_exist() {
        let fault = OnlyFilter::parse(&["blocks.mainet"], &existing()).expect_err("a mistyped name");
        assert_eq!(
            fault,
            "--only `blocks.mainet` names nothing (did you mean `blocks.mainnet`?); there is: blocks, blocks.base, \
             blocks.base/collector, blocks.mainnet, blocks.mainnet/collector, blocks.mainnet/gap_fixer"
        );
        assert!(OnlyFilter::parse(&[""], &existing()).is_err());
        assert!(OnlyFilter::parse(&["blocks"], &[]).expect_err("nothing").contains("no pipeline is configured"));
    }
}
