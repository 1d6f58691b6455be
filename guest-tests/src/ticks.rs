//! The processor's counter, which is read without a system call and without touching memory, and what it says in
//! `CLOCK_MONOTONIC`.

/// The counter now.
#[must_use]
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: every x86_64 has it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// `CLOCK_MONOTONIC` now, in nanoseconds.
///
/// # Panics
///
/// Never: the clock exists.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` outlives the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    assert_eq!(result, 0);
    let (seconds, rest) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.expect("positive") * 1_000_000_000 + rest.expect("positive")
}

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Of the counter.
    pub ticks: u64,
    /// Of `CLOCK_MONOTONIC`.
    pub ns: u64,
}

impl Moment {
    /// Now: the best of a few tries.
    ///
    /// # Panics
    ///
    /// Never: there are tries.
    #[must_use]
    pub fn now() -> Self {
        let tries = (0..8).map(|_| {
            let before = ticks();
            let ns = monotonic_ns();
            let took = ticks() - before;
            (
                took,
                Self {
                    ticks: before + took / 2,
                    ns,
                },
            )
        });
        tries.min_by_key(|(took, _)| *took).expect("eight").1
    }
}

/// Turns what the counter said between two moments into nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    from: Moment,
    to: Moment,
}

impl Scale {
    /// Between two moments that lie apart.
    ///
    /// # Panics
    ///
    /// When they do not.
    #[must_use]
    pub fn new(from: Moment, to: Moment) -> Self {
        assert!(to.ticks > from.ticks && to.ns > from.ns, "{from:?} {to:?}");
        Self { from, to }
    }

    /// A length.
    ///
    /// # Panics
    ///
    /// When it is longer than centuries.
    #[must_use]
    pub fn length(self, ticks: u64) -> u64 {
        let (ns, all) = (self.to.ns - self.from.ns, self.to.ticks - self.from.ticks);
        u64::try_from(u128::from(ticks) * u128::from(ns) / u128::from(all)).expect("short")
    }

    /// A time of day, on `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn time(self, ticks: u64) -> u64 {
        self.from.ns + self.length(ticks.saturating_sub(self.from.ticks))
    }
}
