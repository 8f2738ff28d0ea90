//! Deliberate damage to the scripts, so that the oracle of the chaos tests can be shown to see damage.
//!
//! Debug builds and the feature `failpoints` only: `GAPLESS_SABOTAGE=no_fence` lets a former holder commit,
//! `GAPLESS_SABOTAGE=skipping_read` moves the offset when entries are read instead of when they are committed.

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
        Ok(other) => panic!("GAPLESS_SABOTAGE={other}: write no_fence or skipping_read"),
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
            for (text, plan) in
                [(include_str!("scripts/fence.lua"), NO_FENCE), (include_str!("scripts/deliver.lua"), SKIPPING_READ)]
            {
                assert!(text.contains(plan.function), "{} is gone", plan.function);
                assert_ne!(damage(text.to_owned(), &plan), text);
            }
            assert_eq!(damage("return 1".to_owned(), &NO_FENCE), "return 1");
        }
    }
}
