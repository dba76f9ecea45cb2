//! Who should have which slot: a pure function of who is there and who has what.
//!
//! Everybody has as many as everybody else, give or take one, and no slot moves that need not: who has more than its
//! share gives up the excess, and what is free goes to those who have less. Replicas that see the same agree on all of
//! it without talking. While they do not see the same yet, two may want one slot, which its Lease then gives to one.

use std::collections::BTreeMap;

use super::hash::SLOTS;

/// The wanted holder of each slot. `holders` has the replica that each slot's Lease names; one that is not among the
/// `members` counts as nobody. The order of `members` does not matter.
pub(super) fn share<'a>(
    holders: &[Option<&str>; SLOTS],
    members: impl IntoIterator<Item = &'a str>,
) -> [Option<&'a str>; SLOTS] {
    let mut held: BTreeMap<&str, Vec<usize>> =
        members.into_iter().map(|member| (member, Vec::new())).collect();
    for (slot, holder) in holders.iter().enumerate() {
        if let Some(slots) = holder.and_then(|holder| held.get_mut(holder)) {
            slots.push(slot);
        }
    }
    let mut wanted = [None; SLOTS];
    if held.is_empty() {
        return wanted;
    }
    let (each, left_over) = (SLOTS / held.len(), SLOTS % held.len());
    // Where the slots cannot be shared evenly, who has most keeps one more. The sort is stable, so names decide a draw, as
    // it is among those who have too many: else who has given up something would lose its place to who has not yet.
    let mut by_number: Vec<(&str, Vec<usize>)> = held.into_iter().collect();
    by_number.sort_by_key(|(_, slots)| std::cmp::Reverse(slots.len().min(each + 1)));
    let mut room = BTreeMap::new();
    for (place, (member, slots)) in by_number.iter().enumerate() {
        let quota = each + usize::from(place < left_over);
        slots.iter().take(quota).for_each(|slot| wanted[*slot] = Some(*member));
        room.insert(*member, quota.saturating_sub(slots.len()));
    }
    // One after another, not one each in turn: so the rest stays where it was to go when some of it has gone there.
    let mut takers = room.into_iter().flat_map(|(member, room)| std::iter::repeat_n(member, room));
    for loose in wanted.iter_mut().filter(|wanted| wanted.is_none()) {
        *loose = takers.next();
    }
    wanted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(wanted: &[Option<&str>; SLOTS], member: &str) -> usize {
        wanted.iter().filter(|holder| **holder == Some(member)).count()
    }

    #[test]
    fn nobody_gets_anything_where_nobody_is() {
        assert_eq!(share(&[Some("gone"); SLOTS], []), [None; SLOTS]);
    }

    #[test]
    fn one_alone_gets_all_and_a_second_one_half_of_it() {
        assert_eq!(share(&[None; SLOTS], ["a"]), [Some("a"); SLOTS]);
        let wanted = share(&[Some("a"); SLOTS], ["b", "a"]);
        assert_eq!((count(&wanted, "a"), count(&wanted, "b")), (8, 8));
    }

    #[test]
    fn who_gives_up_the_excess_does_not_change_while_it_is_given_up() {
        let members: Vec<&str> = NAMES[..15].to_vec();
        // `d` has three and `b` two of sixteen slots for fifteen: one of them keeps two.
        let mut holders = [None; SLOTS];
        for (slot, holder) in [(1, "d"), (3, "d"), (14, "d"), (5, "b"), (8, "b")] {
            holders[slot] = Some(holder);
        }
        let wanted = share(&holders, members.iter().copied());
        holders[14] = wanted[14];
        assert_eq!(share(&holders, members.iter().copied()), wanted);
    }

    const NAMES: [&str; 20] =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"];

    proptest! {
        #[test]
        fn all_is_shared_evenly_and_only_what_must_moves(
            holders in prop::array::uniform16(prop::option::of(0..NAMES.len())),
            members in prop::sample::subsequence(NAMES.to_vec(), 1..NAMES.len()),
        ) {
            let holders = holders.map(|holder| holder.map(|of| NAMES[of]));
            let wanted = share(&holders, members.iter().copied());
            let (least, left_over) = (SLOTS / members.len(), SLOTS % members.len());
            let most = least + usize::from(left_over > 0);
            for member in &members {
                prop_assert!((least..=most).contains(&count(&wanted, member)));
            }
            prop_assert!(wanted.iter().all(Option::is_some));
            // What must move: what nobody of the members has, and what is too much, with the larger shares for those who
            // have most.
            let mut had: Vec<usize> = members.iter().map(|member| count(&holders, member)).collect();
            had.sort_unstable_by(|a, b| b.cmp(a));
            let must: usize = SLOTS - had.iter().enumerate()
                .map(|(place, had)| (*had).min(least + usize::from(place < left_over))).sum::<usize>();
            let moved = (0..SLOTS).filter(|slot| holders[*slot] != wanted[*slot]).count();
            prop_assert_eq!(moved, must);
        }

        #[test]
        fn what_was_done_of_it_changes_nothing_about_the_rest(
            holders in prop::array::uniform16(prop::option::of(0..NAMES.len())),
            members in prop::sample::subsequence(NAMES.to_vec(), 1..NAMES.len()),
            done in prop::array::uniform16(any::<bool>()),
        ) {
            let mut holders = holders.map(|holder| holder.map(|of| NAMES[of]));
            let wanted = share(&holders, members.iter().copied());
            for slot in (0..SLOTS).filter(|slot| done[*slot]) {
                holders[slot] = wanted[slot];
            }
            let then = share(&holders, members.iter().copied());
            let taken: Vec<usize> = (0..SLOTS).filter(|slot| done[*slot] && then[*slot] != wanted[*slot]).collect();
            prop_assert!(taken.is_empty(), "slots {:?} would move twice: {:?} {:?}", taken, wanted, then);
        }
    }
}
