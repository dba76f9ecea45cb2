//! Which slot a Rollout belongs to.
//!
//! Every replica, of whatever version and on whatever machine, must say the same, so the hash is written here and pinned
//! by test vectors: the standard library's may change.

/// How many slots there are. Fixed for ever: two versions with different numbers would put one Rollout into two slots,
/// with two holders.
pub const SLOTS: usize = 16;

/// The slot of a Rollout, below [`SLOTS`]: FNV-1a of `namespace/name`, its bits mixed by the finalizer of `SplitMix64`,
/// because the lowest four are all that counts.
pub fn slot_of(namespace: &str, name: &str) -> usize {
    let text = [namespace.as_bytes(), b"/", name.as_bytes()];
    let mixed = mix(fnv1a(text.into_iter().flatten()));
    usize::from((mixed % SLOTS as u64).to_le_bytes()[0])
}

/// FNV-1a, 64 bits.
pub(super) fn fnv1a<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_of_a_rollout_is_the_same_for_ever() {
        // Computed apart from this code, in Python.
        for (namespace, name, slot) in [
            ("models", "iris", 2),
            ("models", "mnist", 12),
            ("default", "a", 11),
            ("", "", 13),
            ("team-a", "b", 5),
            ("team", "a-b", 10),
            ("ünï", "x", 5),
        ] {
            assert_eq!(slot_of(namespace, name), slot, "{namespace}/{name}");
        }
    }

    #[test]
    fn the_slots_have_about_the_same_number_of_rollouts() {
        for of in
            [|n| slot_of("models", &format!("rollout-{n}")), |n: u32| slot_of(&format!("team-{n}"), "iris")]
        {
            let mut counts = [0; SLOTS];
            (0..1600).for_each(|n| counts[of(n)] += 1);
            assert!(counts.iter().all(|count| (70..=130).contains(count)), "{counts:?}");
        }
    }
}
