//! Seeded randomness: equal seeds give equal runs, on every machine and in every release.

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): one add and two multiplications, and nothing
/// that a release of a library could change.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A stream of its own for one request, so that its fate depends on nothing else that happens.
    pub(crate) fn stream(seed: u64, number: u64) -> Rng {
        Rng(Rng(seed).next() ^ Rng(!number).next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Uniform in `range`.
    pub(crate) fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + (self.unit() * (range.end - range.start) as f64) as u64
    }

    /// A factor uniform in 1 ± `share`.
    pub(crate) fn jitter(&mut self, share: f64) -> f64 {
        1.0 + share * (2.0 * self.unit() - 1.0)
    }
}
