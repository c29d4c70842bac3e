//! How many seats a company needs: the brochure's average, the safe figure, and the figure from measured demand (P1-P4).

/// Most employees of one type; beyond it a number is a typing error.
pub const EMPLOYEES_PER_TYPE_MAX: u32 = 1_000_000;
/// Most employees in all whose demand is computed exactly (P3).
pub const EMPLOYEES_MAX: u32 = 100_000;
/// Most rows of [`Sizing::risk`].
pub const RISK_ROWS_MAX: usize = 50;
/// Tenths of a seat that an employee of type 1 to 4 needs on average (P1).
pub const TENTHS_PER_TYPE: [u32; 4] = [10, 8, 4, 1];
/// Probabilities below this are left out of a distribution: far below what can matter beside 1 %.
const SHARE_MIN: f64 = 1e-18;
/// The most that rounding of binary fractions may move a sum of probabilities by.
const ROUNDING: f64 = 1e-12;

/// Employees of type 1 to 4 (P1); the types plan, and never decide a grant (A6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix([u32; 4]);

/// Why a mix cannot be sized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// More than [`EMPLOYEES_PER_TYPE_MAX`] employees of this type, 1 to 4.
    Type(u8),
    /// More than [`EMPLOYEES_MAX`] employees in all: so many.
    Sum(u32),
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unfit::Type(number) => write!(f, "more than {EMPLOYEES_PER_TYPE_MAX} employees of type {number}"),
            Unfit::Sum(sum) => {
                write!(f, "{sum} employees in all, and the safe figure is computed exactly for at most {EMPLOYEES_MAX}")
            }
        }
    }
}

impl Mix {
    /// So many employees of each type.
    ///
    /// # Errors
    /// A type has more than [`EMPLOYEES_PER_TYPE_MAX`].
    pub fn new(employees: [u32; 4]) -> Result<Self, Unfit> {
        match (1..).zip(employees).find(|(_, count)| *count > EMPLOYEES_PER_TYPE_MAX) {
            Some((number, _)) => Err(Unfit::Type(number)),
            None => Ok(Mix(employees)),
        }
    }
}

/// The average demand, as the brochure computes it (P1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brochure {
    /// People in all.
    pub employees: u32,
    /// Tenths of a seat, before rounding.
    pub tenths: u32,
    /// Seats: the tenths rounded up, once and at the end.
    pub seats: u32,
}

/// The brochure's figure (P1): one rounding at the end, in whole numbers.
pub fn brochure(mix: Mix) -> Brochure {
    let tenths = mix.0.iter().zip(TENTHS_PER_TYPE).map(|(count, tenths)| count * tenths).sum::<u32>();
    Brochure { employees: mix.0.iter().sum(), tenths, seats: tenths.div_ceil(10) }
}

/// The share of time, or of requests, that may go without a seat; above 0, at most a half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target(f64);

impl Target {
    /// A share from 0.000001 to 0.5; `None` beyond.
    pub fn new(share: f64) -> Option<Self> {
        (1e-6..=0.5).contains(&share).then_some(Target(share))
    }
}

impl Target {
    /// The share, 0.000001 to 0.5.
    pub fn share(self) -> f64 {
        self.0
    }
}

impl Default for Target {
    /// 1 % (P3, P4).
    fn default() -> Self {
        Target(0.01)
    }
}

/// A number of seats, and the probability that more are wanted at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Risk {
    /// Seats.
    pub seats: u32,
    /// P(demand > seats), 0 to 1.
    pub probability: f64,
}

/// The brochure's figure and the safe one.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizing {
    /// The figure by the brochure's formula (P1).
    pub brochure: Brochure,
    /// The smallest number of seats that is exceeded with at most the target's probability (P3).
    pub safe_seats: u32,
    /// From the smaller of the two figures to one above the safe one, ascending. Where these are more than
    /// [`RISK_ROWS_MAX`], rows at equal distances and the last two.
    pub risk: Vec<Risk>,
}

/// Sizes a company (P1, P3): the demand is that of people who need a seat independently of each other, each
/// with the probability of the type, and its distribution is the exact one.
///
/// Takes milliseconds for the largest mix.
///
/// # Errors
/// There are more than [`EMPLOYEES_MAX`] people.
pub fn sizing(mix: Mix, target: Target) -> Result<Sizing, Unfit> {
    let brochure = brochure(mix);
    if brochure.employees > EMPLOYEES_MAX {
        return Err(Unfit::Sum(brochure.employees));
    }
    let demand = demand(mix);
    let above = demand.above();
    let safe = above.iter().position(|share| *share <= target.0 + ROUNDING).unwrap_or(above.len());
    let safe_seats = demand.first + safe as u32;
    let row = |seats: u32| Risk { seats, probability: demand.exceeds(&above, seats) };
    Ok(Sizing { brochure, safe_seats, risk: rows(brochure.seats.min(safe_seats), safe_seats).map(row).collect() })
}

/// The seats that a table of risks shows.
fn rows(from: u32, safe: u32) -> impl Iterator<Item = u32> {
    let step = (safe - from).div_ceil(RISK_ROWS_MAX as u32 - 2).max(1);
    (from..safe).step_by(step as usize).chain([safe, safe + 1])
}

/// The smallest quota that would have denied less than the target of the requests (P4); 0 where nobody asked.
///
/// `demand` is what was measured: so many requests (`starts`) were made when, with everybody served, `level`
/// seats were taken, that of the request included. Levels come in any order and more than once. A request at a
/// level above the quota counts as denied. That is on the safe side: who was denied would have left a seat to
/// those who came later.
pub fn from_usage(demand: &[(u32, u64)], target: Target) -> u32 {
    let mut levels = demand.to_vec();
    levels.sort_unstable();
    let all: u128 = levels.iter().map(|(_, starts)| u128::from(*starts)).sum();
    let mut denied = 0;
    for (level, starts) in levels.into_iter().rev().filter(|(_, starts)| *starts > 0) {
        denied += u128::from(starts);
        // One seat less than this level would have denied these too.
        if denied as f64 >= target.0 * all as f64 {
            return level;
        }
    }
    0
}

/// How probable each number is; numbers outside have no probability that matters.
struct Distribution {
    /// The number that the first share is for.
    first: u32,
    shares: Vec<f64>,
}

/// The demand of a mix: who always needs a seat shifts it, the others are drawn independently.
fn demand(mix: Mix) -> Distribution {
    let start = Distribution { first: mix.0[0], shares: vec![1.0] };
    let drawn = mix.0.into_iter().zip(TENTHS_PER_TYPE).skip(1);
    drawn.map(|(count, tenths)| binomial(count, f64::from(tenths) / 10.0)).fold(start, |sum, next| sum.and(&next))
}

/// How many of `count` people are drawn, each with probability `p`; from the most probable number outwards, as
/// factorials would overflow and logarithms round.
fn binomial(count: u32, p: f64) -> Distribution {
    let odds = p / (1.0 - p);
    let mode = ((f64::from(count) + 1.0) * p).floor().min(f64::from(count)) as u32;
    let falls = |share: &f64| *share >= SHARE_MIN;
    let down = (1..=mode).rev().scan(1.0, |share, k| {
        *share *= f64::from(k) / (f64::from(count - k + 1) * odds);
        Some(*share)
    });
    let up = (mode..count).scan(1.0, |share, k| {
        *share *= f64::from(count - k) * odds / f64::from(k + 1);
        Some(*share)
    });
    let mut shares: Vec<f64> = down.take_while(falls).collect();
    let first = mode - shares.len() as u32;
    shares.reverse();
    shares.push(1.0);
    shares.extend(up.take_while(falls));
    let all: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= all);
    Distribution { first, shares }
}

impl Distribution {
    /// The sum of two independent numbers.
    fn and(&self, other: &Distribution) -> Distribution {
        let mut shares = vec![0.0; self.shares.len() + other.shares.len() - 1];
        for (at, own) in self.shares.iter().enumerate() {
            for (sum, share) in shares[at..].iter_mut().zip(&other.shares) {
                *sum += own * share;
            }
        }
        Distribution { first: self.first + other.first, shares }
    }

    /// For each number from the first on, how probable a larger one is; added from the small end.
    fn above(&self) -> Vec<f64> {
        let mut sum = 0.0;
        let mut above: Vec<f64> = (self.shares.iter().rev())
            .map(|share| {
                let larger = sum;
                sum += share;
                larger
            })
            .collect();
        above.reverse();
        above
    }

    /// How probable a larger number is than this.
    fn exceeds(&self, above: &[f64], number: u32) -> f64 {
        match number.checked_sub(self.first) {
            None => 1.0,
            Some(at) => above.get(at as usize).copied().unwrap_or(0.0).clamp(0.0, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(employees: [u32; 4]) -> Mix {
        Mix::new(employees).unwrap()
    }

    fn sized(employees: [u32; 4]) -> Sizing {
        sizing(mix(employees), Target::default()).unwrap()
    }

    fn all_of_thirty() -> impl Iterator<Item = [u32; 4]> {
        let split = |a: u32| (0..=30 - a).flat_map(move |b| (0..=30 - a - b).map(move |c| [a, b, c, 30 - a - b - c]));
        (0..=30).flat_map(split)
    }

    #[test]
    fn of_mixes_of_thirty_39_are_160_tenths_and_376_are_16_seats_p2() {
        let tenths = |tenths: u32| all_of_thirty().filter(|m| brochure(mix(*m)).tenths == tenths).count();
        let seats = all_of_thirty().filter(|m| brochure(mix(*m)).seats == 16).count();
        assert_eq!((all_of_thirty().count(), tenths(160), seats), (5_456, 39, 376));
    }

    #[test]
    fn the_safe_figure_of_the_brochures_thirty_is_twenty_p3() {
        let sizing = sized([5, 10, 5, 10]);
        assert_eq!(sizing.brochure, Brochure { employees: 30, tenths: 160, seats: 16 });
        assert_eq!(sizing.safe_seats, 20);
        let shown: Vec<String> = (sizing.risk.iter())
            .map(|risk| format!("{} {:.*}", risk.seats, if risk.seats < 20 { 1 } else { 2 }, risk.probability * 100.0))
            .collect();
        assert_eq!(shown, ["16 39.6", "17 21.5", "18 9.4", "19 3.3", "20 0.90", "21 0.19"]);
    }

    /// Against person after person, which needs no binomials.
    #[test]
    fn the_distribution_is_that_of_independent_people() {
        for employees in [[0, 0, 0, 1], [3, 3, 3, 3], [0, 40, 0, 0], [2, 17, 90, 41], [7, 0, 200, 0]] {
            let mut shares = vec![1.0];
            for (count, tenths) in employees.into_iter().zip(TENTHS_PER_TYPE) {
                let p = f64::from(tenths) / 10.0;
                for _ in 0..count {
                    let shifted = [0.0].into_iter().chain(shares.iter().map(|share| share * p));
                    let stayed = shares.iter().map(|share| share * (1.0 - p)).chain([0.0]);
                    shares = stayed.zip(shifted).map(|(stayed, shifted)| stayed + shifted).collect();
                }
            }
            let demand = demand(mix(employees));
            let above = demand.above();
            for seats in 0..shares.len() {
                let naive: f64 = shares[seats + 1..].iter().rev().sum();
                let got = demand.exceeds(&above, seats as u32);
                assert!((naive - got).abs() < 1e-13, "{employees:?} above {seats}: {naive} and {got}");
            }
        }
    }

    #[test]
    fn the_safe_figure_is_the_smallest() {
        for (employees, safe) in
            [([0; 4], 0), ([0, 0, 0, 1], 1), ([7, 0, 0, 0], 7), ([0, 1, 0, 0], 1), ([0, 0, 0, 10], 4)]
        {
            let sizing = sized(employees);
            assert_eq!(sizing.safe_seats, safe, "{employees:?}");
            let at = |seats: u32| sizing.risk.iter().find(|risk| risk.seats == seats).map(|risk| risk.probability);
            assert!(at(safe).unwrap() <= 0.01 && at(safe + 1).is_some(), "{employees:?}");
            assert!(safe == 0 || at(safe - 1).is_none_or(|share| share > 0.01), "{employees:?}");
        }
        let tenth = sizing(mix([0, 0, 0, 1]), Target::new(0.1).unwrap()).unwrap();
        assert_eq!(tenth.safe_seats, 0, "exceeded with exactly the target");
        assert_eq!(
            tenth.risk.iter().map(|risk| risk.seats).collect::<Vec<_>>(),
            [0, 1],
            "safe is below the brochure's 1"
        );
    }

    #[test]
    fn the_largest_mixes_are_sized_and_larger_ones_refused() {
        for employees in [[0, 50_000, 50_000, 0], [0, 0, 0, 100_000], [100_000, 0, 0, 0], [25_000; 4]] {
            let sizing = sized(employees);
            let spread: f64 = (employees.into_iter().zip(TENTHS_PER_TYPE))
                .map(|(count, tenths)| f64::from(count * tenths * (10 - tenths)) / 100.0)
                .sum();
            // The normal law is good to a seat or two here: 2.3263 standard deviations leave 1 %.
            let normal = f64::from(sizing.brochure.tenths) / 10.0 + 2.3263 * spread.sqrt();
            assert!(
                (f64::from(sizing.safe_seats) - normal).abs() < 2.0,
                "{employees:?}: {} {normal}",
                sizing.safe_seats
            );
            assert!(sizing.risk.len() <= RISK_ROWS_MAX, "{employees:?}");
            let seats: Vec<u32> = sizing.risk.iter().map(|risk| risk.seats).collect();
            assert_eq!(
                (seats[0], seats[seats.len() - 2..].to_vec()),
                (sizing.brochure.seats, vec![sizing.safe_seats, sizing.safe_seats + 1])
            );
            assert!(
                sizing.risk.is_sorted_by(|a, b| a.seats < b.seats && a.probability >= b.probability),
                "{employees:?}"
            );
        }
        assert_eq!(sizing(mix([0, 0, 1, 100_000]), Target::default()), Err(Unfit::Sum(100_001)));
        assert_eq!(Mix::new([0, 0, 0, 1_000_001]), Err(Unfit::Type(4)));
        let most = brochure(mix([EMPLOYEES_PER_TYPE_MAX; 4]));
        assert_eq!(most, Brochure { employees: 4_000_000, tenths: 23_000_000, seats: 2_300_000 });
        assert!(Unfit::Sum(100_001).to_string().contains("at most 100000"));
    }

    #[test]
    fn targets_have_bounds() {
        for share in [0.0, -0.1, 0.51, f64::NAN, f64::INFINITY] {
            assert_eq!(Target::new(share), None, "{share}");
        }
    }

    #[test]
    fn measured_demand_gives_the_smallest_quota_under_target_p4() {
        for (demand, percent, quota) in [
            (&[][..], 1.0, 0),
            (&[(4, 0)], 1.0, 0),
            (&[(4, 1)], 1.0, 4),
            // Of 1000 requests 10 would be denied by a quota of 8: that is not less than 1 %.
            (&[(9, 10), (8, 90), (5, 900)], 1.0, 9),
            (&[(9, 9), (8, 91), (5, 900)], 1.0, 8),
            (&[(9, 9), (8, 91), (5, 900)], 11.0, 5),
            (&[(9, 9), (8, 91), (5, 900)], 0.1, 9),
            (&[(8, 50), (9, 9), (5, 900), (8, 41)], 1.0, 8),
            (&[(1, u64::MAX), (2, u64::MAX)], 1.0, 2),
        ] {
            assert_eq!(from_usage(demand, Target::new(percent / 100.0).unwrap()), quota, "{demand:?} {percent} %");
        }
    }
}
