//! Deliberate damage to the scripts, so that the oracle of the chaos tests can be shown to see damage.
//!
//! Debug builds and the feature `failpoints` only: `GAPLESS_SABOTAGE=no_fence` lets a former holder commit,
//! `GAPLESS_SABOTAGE=skipping_read` moves the offset when entries are read instead of when they are committed,
//! `GAPLESS_SABOTAGE=early_ack` acknowledges a pool's entry when it is served, `GAPLESS_SABOTAGE=no_park` parks nothing.

/// The text of a script, damaged if that was asked for.
#[cfg(not(any(debug_assertions, feature = "failpoints")))]
pub(super) fn applied(text: String) -> String {
    text
}

/// The text of a script, damaged if that was asked for.
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub(super) fn applied(text: String) -> String {
    match std::env::var("GAPLESS_SABOTAGE").as_deref() {
        Ok("no_fence") => armed::damage(text, &armed::NO_FENCE),
        Ok("skipping_read") => armed::damage(text, &armed::SKIPPING_READ),
        Ok("early_ack") => armed::damage(armed::damage(text, &armed::EARLY_ACK), &armed::NO_PENDING_CHECK),
        Ok("no_park") => armed::damage(text, &armed::NO_PARK),
        Ok(other) => {
            panic!("GAPLESS_SABOTAGE={other}: write no_fence, skipping_read, early_ack or no_park")
        }
        Err(_) => text,
    }
}

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod armed {
    /// What is replaced in every script that has the function.
    pub(super) struct Damage {
        pub(super) function: &'static str,
        pub(super) pieces: &'static [(&'static str, &'static str)],
    }

    /// Neither the token nor the tip is asked for. The token alone would not do: the tip refuses a former holder too.
    pub(super) const NO_FENCE: Damage = Damage {
        function: "local function fence()",
        pieces: &[
            ("if ck[1] ~= ARGV[1] or ck[2] ~= ARGV[2] then", "if false then"),
            ("if ck[3] ~= ARGV[3] then", "if false then"),
        ],
    };

    /// Whoever reads again, after a crash or a lost answer, goes on behind what was read.
    pub(super) const SKIPPING_READ: Damage = Damage {
        function: "local function serve(",
        pieces: &[(
            "redis.call('HSET', KEYS[1], 'serving',",
            "redis.call('HSET', KEYS[1], 'offset', entries[n][1], 'serving',",
        )],
    };

    /// What a slot is served is gone from the mailbox at once, whether its turn is ever committed or not.
    pub(super) const EARLY_ACK: Damage = Damage {
        function: "local function deliver_slot(",
        pieces: &[(
            "  return entry and { entry } or {}",
            "  if entry then redis.call('XACK', stream, 'pool', entry[1]); redis.call('XDEL', stream, entry[1]) end\n\
             \x20 return entry and { entry } or {}",
        )],
    };

    /// The commit that follows does not ask whether the slot still owes the entry.
    pub(super) const NO_PENDING_CHECK: Damage = Damage {
        function: "function judge.send(",
        pieces: &[("if pending.err or #pending == 0 then", "if false then")],
    };

    /// A task that is set aside is asked for by nobody.
    pub(super) const NO_PARK: Damage = Damage {
        function: "function judge.park(",
        pieces: &[("  park(held, parked, tonumber", "  tostring(tonumber")],
    };

    pub(super) fn damage(mut text: String, damage: &Damage) -> String {
        if !text.contains(damage.function) {
            return text;
        }
        for (sound, broken) in damage.pieces {
            assert!(text.contains(sound), "the sabotage does not fit the script any more: `{sound}` is not in it");
            text = text.replace(sound, broken);
        }
        text
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_damage_fits_the_scripts() {
            let deliver = include_str!("scripts/deliver.lua");
            let (commit, heights) = (include_str!("scripts/commit.lua"), include_str!("scripts/commit_heights.lua"));
            for (text, plan) in [
                (include_str!("scripts/fence.lua"), NO_FENCE),
                (deliver, SKIPPING_READ),
                (deliver, EARLY_ACK),
                (commit, NO_PENDING_CHECK),
                (heights, NO_PARK),
            ] {
                assert!(text.contains(plan.function), "{} is gone", plan.function);
                assert_ne!(damage(text.to_owned(), &plan), text);
            }
            assert_eq!(damage("return 1".to_owned(), &NO_FENCE), "return 1");
        }
    }
}
