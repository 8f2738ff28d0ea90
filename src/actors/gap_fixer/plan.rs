//! What becomes of each height of a task: held, parked with a reason, or sent on. Pure.

use super::catch::{Catch, Lack};
use crate::messages::block::Piece;
use crate::messages::heights::{Height, HeightRange, HeightSet};
use crate::sources::Absence;

/// A task, and what of it this turn works on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    /// Its final heights.
    pub range: HeightRange,
    /// The lowest of them: what one turn can hold.
    pub work: HeightRange,
    pub tries: u32,
}

/// The final part of a task and what one turn works on; nothing if none of it is final.
pub(super) fn split(range: HeightRange, finalized: Height, heights: u64) -> Option<(HeightRange, HeightRange)> {
    let range = HeightRange::new(range.lo(), range.hi().min(finalized)).ok()?;
    range.chunks(heights).next().map(|work| (range, work))
}

/// What becomes of each height of a task.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub merge: Vec<Piece>,
    pub park: Vec<(HeightRange, String)>,
    /// One message, whatever is left: net growth of the mailbox is never positive, so it is never refused for room.
    pub resend: Option<(HeightRange, u32)>,
}

impl Plan {
    /// Sends on, too, what of the task this turn did not work on.
    pub fn and_rest(mut self, task: Task) -> Self {
        if let Ok(rest) = HeightRange::new(task.work.hi() + 1, task.range.hi()) {
            self.resend = match self.resend {
                Some((range, tries)) => Some((range.hull(rest), tries)),
                None => Some((rest, 0)),
            };
        }
        self
    }
}

/// Why a height is given up after this try; none if it is asked for again.
fn gives_up(lack: &Lack, tries: u32, tries_max: u32) -> Option<String> {
    match lack {
        Lack::Absent(absence) => match absence {
            Absence::Unheard(_) => None,
            Absence::Pruned(_) => Some(absence.to_string()),
            Absence::Unknown | Absence::Malformed(_) => {
                (tries + 1 >= tries_max).then(|| format!("{absence}; tried {} times", tries + 1))
            }
        },
        Lack::Refetch(_) => None,
        Lack::Contradicted(reason) => Some(reason.clone()),
    }
}

/// Decides about each height that is still missing.
pub(super) fn plan(task: Task, catch: &Catch, missing: &HeightSet, tries_max: u32) -> Plan {
    let mut left = missing.clone();
    let blocks = catch.blocks.iter().map(|caught| &caught.id).filter(|block| missing.contains(block.height));
    let merge = Piece::of_all(blocks);
    merge.iter().for_each(|piece| left.remove(piece.range));
    let mut lacks: Vec<&(Height, Lack)> = catch.lacks.iter().filter(|(height, _)| left.contains(*height)).collect();
    // A height that was asked for twice in this turn has two lacks: the newest says what is.
    lacks.sort_by_key(|(height, _)| *height);
    let newest = lacks.chunk_by(|one, next| one.0 == next.0).filter_map(|same| same.last());
    let mut park: Vec<(HeightRange, String)> = Vec::new();
    let mut failed = false;
    for (height, lack) in newest {
        // It says nothing about the height: left over, at no cost.
        if matches!(lack, Lack::Absent(Absence::Unheard(_))) {
            continue;
        }
        failed = true;
        if let Some(reason) = gives_up(lack, task.tries, tries_max) {
            match park.last_mut() {
                Some((last, same)) if last.hi() + 1 == *height && *same == reason => *last = last.up_to(*height),
                _ => park.push((HeightRange::one(*height), reason)),
            }
        }
    }
    park.iter().for_each(|(range, _)| left.remove(*range));
    let hull = left.hull().and_then(|hull| hull.intersect(task.work));
    let resend = hull.map(|hull| (hull, task.tries.saturating_add(u32::from(failed))));
    Plan { merge, park, resend }
}

#[cfg(test)]
mod tests {
    use super::super::catch::tests::catch;
    use super::*;

    fn range(lo: Height, hi: Height) -> HeightRange {
        HeightRange::new(lo, hi).expect("a range")
    }

    fn missing(ranges: &[(Height, Height)]) -> HeightSet {
        ranges.iter().map(|(lo, hi)| range(*lo, *hi)).collect()
    }

    fn task(lo: Height, hi: Height, tries: u32) -> Task {
        Task { range: range(lo, hi), work: range(lo, hi), tries }
    }

    #[test]
    fn a_whole_catch_is_one_piece_and_nothing_is_left() {
        let plan = plan(task(5, 9, 0), &catch(5..=9, &[]), &missing(&[(5, 9)]), 3);
        assert_eq!(plan.merge.iter().map(|p| p.range).collect::<Vec<_>>(), [range(5, 9)]);
        assert_eq!((plan.park, plan.resend), (vec![], None));
    }

    #[test]
    fn what_others_filled_meanwhile_is_left_to_them() {
        let plan = plan(task(5, 9, 0), &catch(5..=9, &[]), &missing(&[(5, 5), (8, 9)]), 3);
        assert_eq!(plan.merge.iter().map(|p| p.range).collect::<Vec<_>>(), [range(5, 5), range(8, 9)]);
        assert_eq!(plan.resend, None);
    }

    #[test]
    fn unknown_heights_are_tried_again_and_then_parked() {
        let absent = [(7, Absence::Unknown)];
        let first = plan(task(5, 9, 0), &catch([5, 6, 8, 9], &absent), &missing(&[(5, 9)]), 3);
        assert_eq!(first.resend, Some((range(7, 7), 1)));
        assert!(first.park.is_empty());
        let last = plan(task(7, 7, 2), &catch([], &absent), &missing(&[(7, 7)]), 3);
        assert_eq!(last.resend, None);
        assert_eq!(last.park[0].0, range(7, 7));
        assert!(last.park[0].1.contains("tried 3 times"), "{}", last.park[0].1);
    }

    #[test]
    fn pruned_heights_are_parked_at_once() {
        let absent: Vec<_> = (5..=7).map(|h| (h, Absence::Pruned("gone".to_owned()))).collect();
        let plan = plan(task(5, 9, 0), &catch([8, 9], &absent), &missing(&[(5, 9)]), 3);
        assert_eq!(plan.park.len(), 1);
        assert_eq!(plan.park[0].0, range(5, 7));
        assert_eq!(plan.resend, None);
    }

    #[test]
    fn a_source_that_failed_half_way_costs_no_try() {
        let plan = plan(task(5, 9, 1), &catch([5, 6], &[]), &missing(&[(5, 9)]), 3);
        assert_eq!(plan.resend, Some((range(7, 9), 1)));
    }

    #[test]
    fn a_file_that_does_not_link_is_asked_for_next_and_never_parked_for_that() {
        let mut caught = catch([5, 6], &[]);
        caught.lacks.push((7, Lack::Refetch("it links to nothing".to_owned())));
        let plan = plan(task(5, 7, 0), &caught, &missing(&[(5, 7)]), 1);
        assert_eq!((plan.park, plan.resend), (vec![], Some((range(7, 7), 1))));
    }

    #[test]
    fn what_every_endpoint_contradicts_is_parked_at_once() {
        let mut caught = catch([5, 6], &[(7, Absence::Unknown)]);
        caught.lacks.push((7, Lack::Contradicted("both hashes".to_owned())));
        let plan = plan(task(5, 7, 0), &caught, &missing(&[(5, 7)]), 8);
        assert_eq!((plan.park, plan.resend), (vec![(range(7, 7), "both hashes".to_owned())], None));
    }

    #[test]
    fn a_turn_works_on_final_heights_only_and_sends_the_rest_on() {
        assert_eq!(split(range(5, 900), 500, 100), Some((range(5, 500), range(5, 104))));
        assert_eq!(split(range(5, 9), 500, 100), Some((range(5, 9), range(5, 9))));
        assert_eq!(split(range(501, 900), 500, 100), None);
        let task = Task { range: range(5, 500), work: range(5, 104), tries: 2 };
        assert_eq!(Plan::default().and_rest(task).resend, Some((range(105, 500), 0)));
        let left = Plan { resend: Some((range(7, 8), 3)), ..Plan::default() };
        assert_eq!(left.and_rest(task).resend, Some((range(7, 500), 3)));
    }
}
