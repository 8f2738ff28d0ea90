//! Share: which bucket copies which stream. Pure.
//!
//! As long as there are no more streams than buckets each has one of its own; afterwards all buckets have as many, give or
//! take one. A stream stays where it is while its bucket has not clearly more than its share.

use std::collections::BTreeMap;

use crate::messages::sync::{StreamRow, bucket_of};

/// Fills in the bucket of every row that is copied; `listed` says where streams are now.
pub(super) fn share(wanted: &mut BTreeMap<String, StreamRow>, listed: &BTreeMap<&str, StreamRow>, buckets: u32) {
    let buckets = buckets.max(1) as usize;
    let copied = wanted.values().filter(|row| row.refused.is_empty()).count();
    let most = most_of(copied, buckets);
    let mut loads = vec![0usize; buckets];
    let mut homeless = Vec::new();
    for (name, row) in wanted.iter_mut().filter(|(_, row)| row.refused.is_empty()) {
        let known = listed.get(name.as_str());
        (row.bucket, row.before) = known.map_or((None, None), |known| (known.bucket, known.before));
        match row.bucket.and_then(|bucket| loads.get_mut(bucket as usize)).filter(|load| **load < most) {
            Some(load) => *load += 1,
            None => homeless.push(name.clone()),
        }
    }
    for name in homeless {
        let Some(row) = wanted.get_mut(&name) else { continue };
        // Of the emptiest ones each stream has its own first choice, so that one that comes back finds it again.
        let first = bucket_of(&name, u32::try_from(buckets).unwrap_or(1)) as usize;
        let order = (0..buckets).map(|step| (first + step) % buckets);
        let bucket = order.min_by_key(|bucket| loads[*bucket]).unwrap_or(0);
        loads[bucket] += 1;
        let bucket = u32::try_from(bucket).ok();
        if row.bucket.is_some() && row.bucket != bucket {
            row.before = row.bucket;
        }
        row.bucket = bucket;
    }
}

/// Streams that a bucket keeps at the most: an even share, a quarter of it, and one.
fn most_of(streams: usize, buckets: usize) -> usize {
    let even = streams.div_ceil(buckets);
    even + even / 4 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(names: impl Iterator<Item = u32>) -> BTreeMap<String, StreamRow> {
        names.map(|n| (format!("db0:stream-{n}"), StreamRow::default())).collect()
    }

    fn shared(
        mut wanted: BTreeMap<String, StreamRow>,
        before: &BTreeMap<String, StreamRow>,
        buckets: u32,
    ) -> BTreeMap<String, StreamRow> {
        let listed = before.iter().map(|(name, row)| (name.as_str(), row.clone())).collect();
        share(&mut wanted, &listed, buckets);
        wanted
    }

    fn loads(rows: &BTreeMap<String, StreamRow>, buckets: u32) -> Vec<usize> {
        let of = |bucket: u32| rows.values().filter(|row| row.bucket == Some(bucket)).count();
        (0..buckets).map(of).collect()
    }

    #[test]
    fn each_of_a_few_streams_has_a_bucket_of_its_own() {
        for streams in 1..=8 {
            let rows = shared(rows(0..streams), &BTreeMap::new(), 8);
            assert!(loads(&rows, 8).iter().all(|load| *load <= 1), "{streams}: {rows:?}");
        }
    }

    #[test]
    fn who_is_listed_stays_and_more_buckets_are_used() {
        let first = shared(rows(0..100), &BTreeMap::new(), 4);
        assert_eq!(loads(&first, 4), [25; 4]);
        assert_eq!(shared(rows(0..100), &first, 4), first, "nothing moves without need");
        let fewer = shared(rows(10..100), &first, 4);
        assert!(fewer.iter().all(|(name, row)| *row == first[name]), "nor for a few that are gone");
        let wider = shared(rows(0..100), &first, 8);
        let loads_wide = loads(&wider, 8);
        assert!(loads_wide.iter().all(|load| (8..=17).contains(load)), "{loads_wide:?}");
        let moved = wider.iter().filter(|(name, row)| row.bucket != first[*name].bucket);
        assert!(moved.clone().count() <= 40 && moved.clone().all(|(name, row)| row.before == first[name].bucket));
        let fewer = shared(rows(0..100), &wider, 2);
        assert_eq!(loads(&fewer, 2).iter().sum::<usize>(), 100, "buckets that are no more hold nothing");
    }

    #[test]
    fn what_is_refused_has_none() {
        let mut wanted = rows(0..2);
        wanted.values_mut().for_each(|row| "no".clone_into(&mut row.refused));
        assert!(shared(wanted, &BTreeMap::new(), 4).values().all(|row| row.bucket.is_none()));
    }

    proptest! {
        /// Whatever comes and goes, no bucket has clearly more than its share, and a second look changes nothing.
        #[test]
        fn shares_stay_even(steps in prop::collection::vec((0u32..60, 0u32..60, 1u32..12), 1..6)) {
            let mut now = BTreeMap::new();
            for (from, count, buckets) in steps {
                now = shared(rows(from..from + count), &now, buckets);
                let most = most_of(count as usize, buckets as usize);
                prop_assert!(loads(&now, buckets).iter().all(|load| *load <= most));
                prop_assert_eq!(loads(&now, buckets).iter().sum::<usize>(), count as usize);
                prop_assert_eq!(&shared(rows(from..from + count), &now, buckets), &now);
            }
        }
    }
}
