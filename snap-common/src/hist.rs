//! The buckets of the in-kernel histograms: powers of two of a nanosecond.

/// How many buckets a histogram has. Bucket `n` holds values `v` with `bound(n - 1) < v <= bound(n)`; the last one
/// holds everything above.
pub const BUCKETS: usize = 36;

/// The inclusive upper bound of a bucket, in nanoseconds: 1 ns, 2 ns, 4 ns … 17 s.
#[must_use]
pub const fn bound_ns(bucket: usize) -> u64 {
    1 << bucket
}

/// The bucket that a value belongs to.
#[must_use]
pub const fn bucket(value_ns: u64) -> usize {
    if value_ns <= 1 {
        return 0;
    }
    let log = (u64::BITS - (value_ns - 1).leading_zeros()) as usize;
    if log < BUCKETS - 1 { log } else { BUCKETS - 1 }
}

/// One histogram of one CPU, as it lies in a per-CPU BPF map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Histogram {
    /// Events per bucket, not cumulative.
    pub buckets: [u64; BUCKETS],
    /// Sum of all values, in nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// A histogram without events.
    pub const EMPTY: Self = Self {
        buckets: [0; BUCKETS],
        sum_ns: 0,
    };

    /// Adds an event.
    pub fn record(&mut self, value_ns: u64) {
        if let Some(count) = self.buckets.get_mut(bucket(value_ns)) {
            *count = count.wrapping_add(1);
        }
        self.sum_ns = self.sum_ns.wrapping_add(value_ns);
    }

    /// Adds the events of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (into, from) in self.buckets.iter_mut().zip(other.buckets) {
            *into = into.wrapping_add(from);
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// How many events there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

// SAFETY: `#[repr(C)]`, made of u64 alone: no padding, and every bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Histogram {}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Histogram, bound_ns, bucket};

    #[test]
    fn every_bound_lies_in_its_own_bucket_and_the_next_value_in_the_next() {
        for number in 0..BUCKETS - 1 {
            assert_eq!(bucket(bound_ns(number)), number);
            assert_eq!(bucket(bound_ns(number) + 1), number + 1);
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn merging_keeps_every_event() {
        let mut one = Histogram::EMPTY;
        one.buckets[3] = 2;
        one.sum_ns = 16;
        let mut two = Histogram::EMPTY;
        two.buckets[3] = 1;
        two.buckets[9] = 4;
        two.sum_ns = 2000;
        one.merge(&two);
        assert_eq!((one.count(), one.buckets[3], one.sum_ns), (7, 3, 2016));
    }
}
