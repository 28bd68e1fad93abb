//! Bucket grids. Bound texts are data: the same literal in every text format, on every site, for ever.
//!
//! One log grid for all times, mantissas 1 1.5 2 3 5 8 per decade: it holds every alert limit, and
//! each histogram takes a slice. `le` texts have the float form of OpenMetrics (`"5.0"`), because
//! Prometheus 2 keeps the text as sent and Prometheus 3 rewrites `5` to `5.0`.

/// One upper bound: the value in the stored unit (ns, count, ppm) and its `le` text.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Inclusive upper bound in the stored unit of the histogram.
    pub value: u64,
    /// The same in the exported unit, as it stands in `le`.
    pub le: &'static str,
}

/// The finite bounds of a histogram, ascending; `+Inf` is implied.
pub type Grid = &'static [Bound];

const fn b(value: u64, le: &'static str) -> Bound {
    Bound { value, le }
}

/// The time grid, in ns: 50 us to 1000 s.
const TIME: &[Bound] = &[
    b(50_000, "5e-05"),
    b(80_000, "8e-05"),
    b(100_000, "0.0001"),
    b(150_000, "0.00015"),
    b(200_000, "0.0002"),
    b(300_000, "0.0003"),
    b(500_000, "0.0005"),
    b(800_000, "0.0008"),
    b(1_000_000, "0.001"),
    b(1_500_000, "0.0015"),
    b(2_000_000, "0.002"),
    b(3_000_000, "0.003"),
    b(5_000_000, "0.005"),
    b(8_000_000, "0.008"),
    b(10_000_000, "0.01"),
    b(15_000_000, "0.015"),
    b(20_000_000, "0.02"),
    b(30_000_000, "0.03"),
    b(50_000_000, "0.05"),
    b(80_000_000, "0.08"),
    b(100_000_000, "0.1"),
    b(150_000_000, "0.15"),
    b(200_000_000, "0.2"),
    b(300_000_000, "0.3"),
    b(500_000_000, "0.5"),
    b(800_000_000, "0.8"),
    b(1_000_000_000, "1.0"),
    b(1_500_000_000, "1.5"),
    b(2_000_000_000, "2.0"),
    b(3_000_000_000, "3.0"),
    b(5_000_000_000, "5.0"),
    b(8_000_000_000, "8.0"),
    b(10_000_000_000, "10.0"),
    b(15_000_000_000, "15.0"),
    b(20_000_000_000, "20.0"),
    b(30_000_000_000, "30.0"),
    b(50_000_000_000, "50.0"),
    b(80_000_000_000, "80.0"),
    b(100_000_000_000, "100.0"),
    b(150_000_000_000, "150.0"),
    b(200_000_000_000, "200.0"),
    b(300_000_000_000, "300.0"),
    b(500_000_000_000, "500.0"),
    b(800_000_000_000, "800.0"),
    b(1_000_000_000_000, "1000.0"),
];

/// The bounds from `lo` to `hi` (both on the grid), in ns.
const fn time(lo: u64, hi: u64) -> Grid {
    slice(TIME, lo, hi)
}

const fn slice(grid: Grid, lo: u64, hi: u64) -> Grid {
    let (mut from, mut to) = (0, grid.len());
    while grid[from].value < lo {
        from += 1;
    }
    while grid[to - 1].value > hi {
        to -= 1;
    }
    assert!(grid[from].value == lo && grid[to - 1].value == hi, "not bounds of the grid");
    grid.split_at(to).0.split_at(from).1
}

/// Request times: 0.5 ms to 1000 s, 39 bounds.
pub const REQUEST: Grid = time(500_000, 1_000_000_000_000);
/// Whole requests: 10 ms to 1000 s, 31 bounds.
pub const DURATION: Grid = time(10_000_000, 1_000_000_000_000);
/// Steps, gaps between steps, scrapes: 50 us to 10 s, 33 bounds.
pub const STEP: Grid = time(50_000, 10_000_000_000);

/// Tokens of one request.
pub const TOKENS: Grid = &[
    b(1, "1.0"),
    b(8, "8.0"),
    b(16, "16.0"),
    b(32, "32.0"),
    b(64, "64.0"),
    b(128, "128.0"),
    b(256, "256.0"),
    b(512, "512.0"),
    b(1_024, "1024.0"),
    b(2_048, "2048.0"),
    b(4_096, "4096.0"),
    b(8_192, "8192.0"),
    b(16_384, "16384.0"),
    b(32_768, "32768.0"),
    b(65_536, "65536.0"),
    b(131_072, "131072.0"),
    b(262_144, "262144.0"),
    b(1_048_576, "1048576.0"),
];

/// Sequences of one step.
pub const SEQUENCES: Grid = &[
    b(0, "0.0"),
    b(1, "1.0"),
    b(2, "2.0"),
    b(4, "4.0"),
    b(8, "8.0"),
    b(16, "16.0"),
    b(32, "32.0"),
    b(64, "64.0"),
    b(128, "128.0"),
    b(256, "256.0"),
    b(512, "512.0"),
    b(1_024, "1024.0"),
];

/// Preemptions of one request, with a bucket for none.
pub const FEW: Grid =
    &[b(0, "0.0"), b(1, "1.0"), b(2, "2.0"), b(3, "3.0"), b(5, "5.0"), b(8, "8.0"), b(16, "16.0")];

/// A share, stored in ppm.
pub const SHARE: Grid = &[
    b(50_000, "0.05"),
    b(100_000, "0.1"),
    b(200_000, "0.2"),
    b(300_000, "0.3"),
    b(400_000, "0.4"),
    b(500_000, "0.5"),
    b(600_000, "0.6"),
    b(700_000, "0.7"),
    b(800_000, "0.8"),
    b(850_000, "0.85"),
    b(900_000, "0.9"),
    b(950_000, "0.95"),
    b(980_000, "0.98"),
    b(1_000_000, "1.0"),
];
