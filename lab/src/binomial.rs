//! Which counts chance explains: so many of so many requests, each sent to the canary with the same chance.
//!
//! A proxy draws for each request, so 500 of 2,000 at a weight of 25 is likely and not sure. The interval here holds all
//! but a share of `miss` of what comes by chance, and is computed from the distribution itself, not from its normal
//! approximation, which is too narrow for small shares.

use std::ops::RangeInclusive;

/// The counts between which `n` draws of chance `p` end, except with a chance of at most `miss`, half of it on either side.
///
/// `p` and `miss` are between 0 and 1; what is outside counts as the nearer end. See Clopper and Pearson (1934) for the
/// interval the other way round.
pub fn interval(n: u64, p: f64, miss: f64) -> RangeInclusive<u64> {
    let (p, half) = (p.clamp(0.0, 1.0), miss.clamp(0.0, 1.0) / 2.0);
    if p == 0.0 {
        return 0..=0;
    }
    if p >= 1.0 {
        return n..=n;
    }
    let chances = chances(n, p);
    // Below the first count at which the lower tail is more than its half is what chance hardly gives.
    let outside = |tail: &mut dyn Iterator<Item = &f64>| -> u64 {
        let mut sum = 0.0;
        tail.take_while(|chance| {
            sum += **chance;
            sum <= half
        })
        .fold(0, |count, _| count + 1)
    };
    outside(&mut chances.iter())..=n - outside(&mut chances.iter().rev())
}

/// The chance of each count from 0 to `n`, by sums of logarithms, as factorials would not fit.
#[allow(clippy::cast_precision_loss, reason = "counts of a laboratory stay far below 2^52")]
fn chances(n: u64, p: f64) -> Vec<f64> {
    let (yes, no) = (p.ln(), (-p).ln_1p());
    // ln(n choose k), from ln(n choose k-1).
    let mut choose = 0.0;
    (0..=n)
        .map(|k| {
            if k > 0 {
                choose += ((n - k + 1) as f64).ln() - (k as f64).ln();
            }
            (choose + k as f64 * yes + (n - k) as f64 * no).exp()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_intervals_are_those_that_one_counts_by_hand() {
        // Two coins: 1/4, 1/2, 1/4.
        assert_eq!(interval(2, 0.5, 0.4), 0..=2);
        assert_eq!(interval(2, 0.5, 0.6), 1..=1);
        // Ten coins: 1/1024 for none, 10/1024 for one.
        assert_eq!(interval(10, 0.5, 2.0 / 1024.0), 1..=9);
        assert_eq!(interval(10, 0.5, 22.1 / 1024.0), 2..=8);
        assert_eq!(interval(10, 0.5, 21.9 / 1024.0), 1..=9);
    }

    #[test]
    fn nothing_and_all_leave_no_room() {
        assert_eq!(interval(2000, 0.0, 1e-6), 0..=0);
        assert_eq!(interval(2000, 1.0, 1e-6), 2000..=2000);
        assert_eq!(interval(0, 0.3, 1e-6), 0..=0);
    }

    #[test]
    fn many_draws_are_about_five_deviations_wide() {
        // The normal distribution leaves 10^-6 outside 4.89 deviations; one is 19.36 here.
        let (low, high) = interval(2000, 0.25, 1e-6).into_inner();
        assert!((404..=407).contains(&low) && (594..=598).contains(&high), "{low}..={high}");
    }

    #[test]
    fn the_two_arms_are_mirror_images() {
        for (n, p) in [(2000, 0.05), (3777, 0.3), (40_000, 0.01)] {
            let (low, high) = interval(n, p, 1e-6).into_inner();
            assert_eq!(interval(n, 1.0 - p, 1e-6), n - high..=n - low, "{n} {p}");
        }
    }
}
