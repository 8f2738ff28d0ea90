//! `sync verify`: every entry, group and pending entry of both ends compared; what differs is named.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ends::{Ends, copied, exit_of, known, some};
use super::evidence::Checked;
use super::journal::Journal;
use super::{Chosen, Desk, Exit, VerifyArgs, compare, evidence, repair};
use crate::cli::output;
use crate::cli::progress::Progress;
use crate::cli::words::{count, grouped, plain};
use crate::http::sync::Known;
use crate::messages::sync::StreamName;
use crate::wire::WireError;
use crate::wire::look::stream_facts;

/// What one stream came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    /// Which one, as [`StreamName::shown`].
    pub stream: String,
    /// Entries that both ends have alike.
    pub same: u64,
    /// Entries that the source has below the target's last id, and the target has not.
    pub missing: u64,
    /// Entries under one id with other content.
    pub other: u64,
    /// Entries that only the target has, and that the source never had, or (mirror) has deleted.
    pub extra: u64,
    /// Entries that only the target has, since the source has deleted them.
    pub kept: u64,
    /// Entries of the source above the target's last id.
    pub behind: u64,
    /// What differs of groups, pending entries and counters, in words.
    pub faults: Vec<String>,
    /// Some of the ids that differ.
    pub ids: Vec<String>,
    /// What checking the chain of evidence came to, where one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Checked>,
    /// The stream was rebuilt; why it was not, if that was tried in vain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<String>,
    /// It was compared to its end.
    pub done: bool,
    /// Up to here, where it was not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub after: String,
}

impl Verdict {
    /// Whether both ends are the same, as far as the target has come.
    pub fn is_good(&self) -> bool {
        self.missing + self.other + self.extra == 0 && self.faults.is_empty()
    }

    /// Whether the target's last id is ahead, and no entry is: a stream that is built anew begins at the source's.
    fn is_ahead(&self) -> bool {
        self.extra == 0 && self.faults.iter().any(|fault| fault.starts_with("the last id is "))
    }
}

/// A comparison under way.
struct Look<'a> {
    ends: Ends,
    chosen: &'a Chosen,
    args: &'a VerifyArgs,
    journal: Journal,
    bar: Progress,
}

pub(super) async fn run(desk: &Desk, chosen: &Chosen, args: &VerifyArgs) -> Result<Exit, Exit> {
    let known = known(desk, chosen).await?;
    let left_out: Vec<(String, String)> = match args.streams.stream.is_empty() {
        true => known.iter().map(|(name, known)| (name.shown(), known.row.refused.clone())).collect(),
        false => Vec::new(),
    };
    let left_out: Vec<(String, String)> = left_out.into_iter().filter(|(_, reason)| !reason.is_empty()).collect();
    let streams = copied(known, &args.streams.stream)?;
    if streams.is_empty() && left_out.is_empty() {
        return Err(Exit::missing("nothing was compared: no stream is listed; is a node running?"));
    }
    let mut ends = Ends::open(chosen).await?;
    let journal = Journal::open(args.progress.as_deref())?;
    let bar = Progress::new("entries", Some(all_entries(&mut ends, &streams).await?));
    let mut look = Look { ends, chosen, args, journal, bar };
    let mut verdicts = Vec::new();
    for (name, known) in &streams {
        let verdict = look.at(name, known).await?;
        if !desk.json {
            look.bar.say(&line(&verdict));
        }
        verdicts.push(verdict);
    }
    look.journal.end()?;
    look.bar.end();
    Ok(report(desk, chosen, &verdicts, &left_out))
}

/// Entries that the targets of these streams have. A stream that cannot be looked at has its turn later.
async fn all_entries(ends: &mut Ends, streams: &BTreeMap<StreamName, Known>) -> Result<u64, Exit> {
    let mut all = 0;
    for name in streams.keys() {
        let key = ends.plan.settings.target_key(name.db, &name.key);
        let facts = match ends.target_of(&key).await {
            Ok(target) => stream_facts(target, &key).await,
            Err(error) => Err(error),
        };
        match facts {
            Ok(facts) => all += facts.map_or(0, |facts| facts.length),
            Err(WireError::Refused { .. }) => {}
            Err(error) => return Err(exit_of(&error)),
        }
    }
    Ok(all)
}

impl Look<'_> {
    /// One stream: compared from where it was left, checked against its evidence, repaired if that is asked.
    async fn at(&mut self, name: &StreamName, known: &Known) -> Result<Verdict, Exit> {
        let before = self.journal.known.remove(&name.shown());
        let mut verdict = match before {
            Some(done) if done.done => {
                self.bar.add(done.same + done.kept);
                done
            }
            before => {
                let began = before.unwrap_or_else(|| Verdict { stream: name.shown(), ..Verdict::default() });
                // Faults are told behind the last entry, each time anew.
                let began = Verdict { faults: Vec::new(), ..began };
                let mut verdict = self.compare(name, known, began).await?;
                if self.chosen.section.evidence {
                    match evidence::check(&mut self.ends, name, known).await {
                        Ok((checked, faults)) => {
                            verdict.faults.extend(faults);
                            verdict.evidence = Some(checked);
                        }
                        Err(error @ WireError::Refused { .. }) => verdict.faults.push(format!("evidence: {error}")),
                        Err(error) => return Err(exit_of(&error)),
                    }
                }
                verdict
            }
        };
        if self.args.repair {
            verdict = self.mend(name, known, verdict).await?;
        }
        self.journal.write(&verdict)?;
        Ok(verdict)
    }

    async fn compare(&mut self, name: &StreamName, known: &Known, began: Verdict) -> Result<Verdict, Exit> {
        let (journal, bar, mut lost) = (&mut self.journal, &mut self.bar, None);
        let mut told = began.same + began.kept + began.extra + began.other;
        bar.add(told);
        let compared = compare::one(&mut self.ends, (name, known), began, &mut |verdict, more| {
            told += more;
            bar.add(more);
            lost = lost.take().or(journal.write(verdict).err());
        })
        .await;
        let verdict = or_fault(name, compared)?;
        bar.add((verdict.same + verdict.kept + verdict.extra + verdict.other).saturating_sub(told));
        lost.map_or(Ok(verdict), Err)
    }

    /// Rebuilds a stream whose holes, or whose last id, cannot be made good in any other way.
    async fn mend(&mut self, name: &StreamName, known: &Known, found: Verdict) -> Result<Verdict, Exit> {
        if found.missing + found.other == 0 && !found.is_ahead() {
            return Ok(match found.extra {
                0 => found,
                _ => Verdict { repair: Some(format!("not rebuilt: {TAKES_NOTHING}")), ..found },
            });
        }
        let told = match repair::rebuild(&mut self.ends, name).await {
            Err(WireError::Refused { address, command, reason }) => {
                Some(format!("{address} refused {command}: {reason}"))
            }
            told => told.map_err(|error| exit_of(&error))?,
        };
        if let Some(why) = told {
            return Ok(Verdict { repair: Some(format!("not rebuilt: {why}")), ..found });
        }
        let again = Verdict { stream: name.shown(), ..Verdict::default() };
        let verdict = or_fault(name, compare::one(&mut self.ends, (name, known), again, &mut |_, _| {}).await)?;
        let words = if verdict.extra > 0 { format!("rebuilt; {TAKES_NOTHING}") } else { "rebuilt".to_owned() };
        Ok(Verdict { repair: Some(words), ..verdict })
    }
}

/// Why entries that only the target has stay.
const TAKES_NOTHING: &str = "a repair takes nothing out; entries that only the target has are removed there with XDEL, by \
     whoever knows that nobody needs them";

fn report(desk: &Desk, chosen: &Chosen, verdicts: &[Verdict], left_out: &[(String, String)]) -> Exit {
    if !desk.json {
        left_out.iter().for_each(|(name, reason)| output::say(&plain(&format!("refused  {name}  {reason}"))));
    }
    let bad = verdicts.iter().filter(|verdict| !verdict.is_good()).count();
    let same: u64 = verdicts.iter().map(|verdict| verdict.same).sum();
    let exit = if bad == 0 && left_out.is_empty() { Exit::good() } else { Exit::found() };
    if desk.json {
        let refused: Vec<_> =
            left_out.iter().map(|(name, reason)| json!({ "stream": name, "reason": reason })).collect();
        let answer = json!({
            "pipeline": chosen.pipeline.to_string(), "streams": verdicts, "bad": bad, "same": same, "refused": refused,
        });
        return output::json(&answer, exit);
    }
    let (streams, same) = (count(verdicts.len(), "stream", "streams"), grouped(same));
    let refused = if left_out.is_empty() { String::new() } else { format!(", {} refused", left_out.len()) };
    let names = verdicts.iter().filter(|verdict| !verdict.is_good()).map(|verdict| verdict.stream.as_str());
    let differ = match bad {
        0 => "none differs".to_owned(),
        1 => format!("1 differs: {}", some(names)),
        bad => format!("{bad} differ: {}", some(names)),
    };
    output::text(&format!("{streams}, {same} entries are the same, {}{refused}\n", plain(&differ)), exit)
}

/// One stream that cannot be compared is a fault of that stream; an end that is away ends the comparison.
fn or_fault(name: &StreamName, compared: Result<Verdict, WireError>) -> Result<Verdict, Exit> {
    match compared {
        Err(WireError::Refused { address, reason, .. }) => {
            let faults = vec![format!("it cannot be compared: {address}: {reason}")];
            Ok(Verdict { stream: name.shown(), faults, ..Verdict::default() })
        }
        compared => compared.map_err(|error| exit_of(&error)),
    }
}

fn line(verdict: &Verdict) -> String {
    let word = if verdict.is_good() { "same" } else { "DIFFERS" };
    let mut text = format!("{word:<8} {}  {} entries", verdict.stream, verdict.same);
    for (count, what) in [
        (verdict.missing, "missing"),
        (verdict.other, "of other content"),
        (verdict.extra, "only on the target"),
        (verdict.kept, "kept that the source has deleted"),
        (verdict.behind, "not copied yet"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(checked) = &verdict.evidence {
        text.push_str(&format!(", {} links of evidence hold", checked.good));
        if checked.gone > 0 {
            text.push_str(&format!(", {} were deleted since", checked.gone));
        }
        if checked.found > 0 {
            text.push_str(&format!(", {} over what was there", checked.found));
        }
    }
    verdict.faults.iter().for_each(|fault| text.push_str(&format!("\n         {fault}")));
    if !verdict.ids.is_empty() {
        text.push_str(&format!("\n         {}", verdict.ids.join(", ")));
    }
    if let Some(repair) = &verdict.repair {
        text.push_str(&format!("\n         {repair}"));
    }
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}
