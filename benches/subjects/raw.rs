//! Floors: what is left when everything but the arithmetic goes, and the clock that others read for each
//! sample.

use super::{ROUND, peer};
use hdrhistogram::Histogram;
use std::hint::black_box;
use std::time::Instant;
use stepscope_benches::Subject;

pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    let hdr = |digits| Histogram::<u64>::new_with_bounds(1, 3_600_000_000, digits).expect("bounds");
    let (mut two, mut three) = (hdr(2), hdr(3));
    vec![
        peer("hdrhistogram, 2 digits", ROUND, move |gap| two.saturating_record((gap * 1e6) as u64)),
        peer("hdrhistogram, 3 digits", ROUND, move |gap| {
            three.saturating_record((gap * 1e6) as u64)
        }),
        peer("Instant::now", ROUND, |_| {
            black_box(Instant::now());
        }),
        peer("empty loop, included in the others", ROUND, |gap| {
            black_box(gap);
        }),
    ]
}
