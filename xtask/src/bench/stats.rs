//! What many samples say together.

use std::fmt;

/// Samples of one thing, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The one in the middle; of an even number, the mean of the two.
    pub median: u64,
    /// The least.
    pub min: u64,
    /// The greatest.
    pub max: u64,
}

impl Spread {
    /// Of samples; none where there are none.
    pub fn of(samples: &[u64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        Some(Self {
            median: median(&sorted)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [median, min, max] = [self.median, self.min, self.max].map(time);
        write!(f, "{median} ({min} – {max})")
    }
}

/// The median of sorted samples.
fn median(sorted: &[u64]) -> Option<u64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len().is_multiple_of(2) {
        u64::midpoint(sorted[middle - 1], upper)
    } else {
        upper
    })
}

/// The slope of the straight line nearest to the points (least squares); none of fewer than two.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    if points.len() < 2 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful of points")]
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let (mut over, mut under) = (0.0, 0.0);
    for (x, y) in points {
        over += (x - x_mean) * (y - y_mean);
        under += (x - x_mean).powi(2);
    }
    (under > 0.0).then(|| over / under)
}

/// A time in the unit that suits it, three digits.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn time(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", digits(value / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", digits(value / 1e6)),
        _ => format!("{} s", digits(value / 1e9)),
    }
}

/// How many times `of` is in `one`, as `1/12` or `1.3`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn ratio(one: u64, of: u64) -> String {
    let ratio = one as f64 / (of.max(1)) as f64;
    if ratio >= 0.5 {
        format!("{ratio:.2}")
    } else if ratio <= 0.0 {
        "0".to_owned()
    } else {
        format!("1/{}", digits(1.0 / ratio))
    }
}

fn digits(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_needs_samples() {
        assert_eq!(Spread::of(&[]), None);
        let spread = Spread::of(&[5, 1, 9]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (5, 1, 9));
        assert_eq!(Spread::of(&[4, 2]).unwrap().median, 3);
        assert_eq!(
            Spread::of(&[1_500, 1_500]).unwrap().to_string(),
            "1.50 µs (1.50 µs – 1.50 µs)"
        );
    }

    #[test]
    fn a_slope_is_that_of_the_line() {
        let line = slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]).unwrap();
        assert!((line - 2.0).abs() < 1e-9);
        assert_eq!(slope(&[(1.0, 1.0)]), None);
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 2.0)]), None);
    }

    #[test]
    fn ratios_read_as_people_say_them() {
        assert_eq!(ratio(1, 20), "1/20.0");
        assert_eq!(ratio(3, 2), "1.50");
        assert_eq!(ratio(0, 2), "0");
    }

    #[test]
    fn units_change_where_they_should() {
        assert_eq!(time(999), "999 ns");
        assert_eq!(time(12_340), "12.3 µs");
        assert_eq!(time(123_400_000), "123 ms");
        assert_eq!(time(2_000_000_000), "2.00 s");
    }
}
