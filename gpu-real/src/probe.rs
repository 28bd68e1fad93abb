//! Clock probes of our own, with the library's probe kernel: an independent look at the same clock.

use crate::engine::{Engine, Kernel, STAMPS, Stream, Words};
use crate::steps::{TIME_MASK, time_between};
use anyhow::Result;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use stepscope::Time;

const PROBES: usize = 8;
/// A probe behind a long kernel is no measurement.
const GIVE_UP: Duration = Duration::from_millis(20);
const SPIN: Duration = Duration::from_micros(50);
/// Two clocks drift apart by one part in so many at most, from probe to probe as well.
const DRIFT_ONE_IN: i64 = 2_000;

pub struct Prober<'a> {
    engine: &'a Engine,
    kernel: Kernel,
    stream: Stream,
    words: Words,
    tag: u64,
}

/// What a round of eight probes says of the offset, host - GPU, at a GPU time.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// 48 bits.
    pub gpu: u64,
    /// Middle of the possible host times of `gpu`.
    pub host: i64,
    /// Half the width of what is possible.
    pub half: i64,
}

#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Round(Round),
    /// The bounds of the probes contradict each other.
    Unsound,
    /// A probe did not run in time.
    GaveUp,
}

impl<'a> Prober<'a> {
    pub fn new(engine: &'a Engine) -> Result<Prober<'a>> {
        let kernel = engine.other_kernel(STAMPS, c"stepscope_probe")?;
        Ok(Prober {
            engine,
            kernel,
            stream: engine.modest_stream()?,
            words: engine.words(2)?,
            tag: 0,
        })
    }

    /// One round; `resolution` is the timer's, in ns.
    pub fn round(&mut self, resolution: i64) -> Result<Answer> {
        let mut first = None;
        let (mut low, mut high) = (i64::MIN, i64::MAX);
        for _ in 0..PROBES {
            let Some((before, gpu, after)) = self.probe()? else { return Ok(Answer::GaveUp) };
            let first = *first.get_or_insert(gpu);
            // Host times at which the first probe read the timer.
            let since = time_between(first, gpu);
            let drift = since / DRIFT_ONE_IN + 1;
            low = low.max(before - since - resolution - drift);
            high = high.min(after - since + drift);
        }
        Ok(match first {
            Some(gpu) if low <= high => Answer::Round(Round {
                gpu,
                host: low + (high - low) / 2,
                half: (high - low + 1) / 2,
            }),
            _ => Answer::Unsound,
        })
    }

    /// Host time before, the timer, host time after.
    fn probe(&mut self) -> Result<Option<(i64, u64, i64)>> {
        self.tag = self.tag % 65_535 + 1;
        let tag = self.tag << 48;
        let now = || Time::now().as_nanos() as i64;
        let (asked, before) = (Instant::now(), now());
        self.engine.launch(self.kernel, [1, 1], self.stream, [self.words.device, tag, 0])?;
        loop {
            let word = self.words.host[0].load(Ordering::Acquire);
            if word & !TIME_MASK == tag {
                return Ok(Some((before, word & TIME_MASK, now())));
            }
            if asked.elapsed() > GIVE_UP {
                return Ok(None);
            }
            if asked.elapsed() > SPIN {
                std::thread::yield_now()
            }
        }
    }
}
