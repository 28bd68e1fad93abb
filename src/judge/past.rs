//! What alerts look at, and what of it is remembered: one sample per closed row, ten minutes long.

use crate::catalog::alerts::ALERTS;
use crate::catalog::signal::{Part, Reader, Series, Signal, Term};
use crate::catalog::{By, Id};
use crate::record::Time;
use std::collections::VecDeque;

/// Which device is meant; `None` = all of the process together.
pub(super) type Device = Option<usize>;

/// Length of a row in seconds.
pub(crate) const ROW_S: u32 = 10;
/// Ten minutes, and one sample more: a difference needs both ends.
const SAMPLES_MAX: usize = 61;

/// Every series and histogram that some alert of this process looks at.
pub(crate) struct Taps {
    pub(crate) series: Vec<Series>,
    pub(crate) histograms: Vec<Id>,
}

impl Taps {
    /// Those of the catalog's alerts that a process can evaluate.
    pub(crate) fn new() -> Taps {
        let mut taps = Taps { series: vec![], histograms: vec![] };
        let known = ALERTS.iter().filter(|alert| alert.reader() == Reader::Both);
        for cond in known.flat_map(|alert| alert.conds()) {
            taps.add(&cond.signal)
        }
        taps
    }

    fn add(&mut self, signal: &Signal) {
        match signal {
            Signal::Level { of, .. } => {
                of.iter().for_each(|term: &Term| self.add_series(term.series()))
            }
            Signal::Age { of }
            | Signal::Since { of }
            | Signal::Count { of, .. }
            | Signal::Rate { of, .. } => self.add_series(*of),
            Signal::Share { bad, total, .. } => {
                self.add_series(*bad);
                total.iter().for_each(|series| self.add_series(*series))
            }
            Signal::Slow { histogram, .. } | Signal::SlowCount { histogram, .. } => {
                if !self.histograms.contains(histogram) {
                    self.histograms.push(*histogram)
                }
            }
            Signal::Ratio { top, bottom } => {
                self.add(top);
                self.add(bottom)
            }
            Signal::Server(_) => {}
        }
    }

    fn add_series(&mut self, series: Series) {
        if !self.series.contains(&series) {
            self.series.push(series)
        }
    }
}

/// All of it at one row's close.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Time,
    /// Per tapped series, by child: the value in the exported unit; `None` = nothing fed it.
    pub(crate) series: Vec<Vec<Option<f64>>>,
    /// Per tapped histogram, over all its series: samples per bucket, not cumulative.
    pub(crate) buckets: Vec<Vec<u64>>,
}

/// The last ten minutes, oldest first.
pub(crate) struct Past {
    taps: Taps,
    samples: VecDeque<Sample>,
}

impl Past {
    pub(crate) fn new(taps: Taps) -> Past {
        Past { taps, samples: VecDeque::with_capacity(SAMPLES_MAX) }
    }

    pub(crate) fn taps(&self) -> &Taps {
        &self.taps
    }

    pub(super) fn push(&mut self, sample: Sample) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample)
    }

    /// The samples of a window of so many seconds, both ends included; a young process has fewer.
    fn window(&self, seconds: u32) -> impl DoubleEndedIterator<Item = &Sample> {
        let rows = (seconds / ROW_S) as usize;
        let first = self.samples.len().saturating_sub(rows + 1);
        self.samples.iter().skip(first)
    }

    /// By child: the mean of a level over a window; of what was there, as a server averages it.
    pub(super) fn means(&self, of: &Series, device: Device, seconds: u32) -> Vec<Option<f64>> {
        let Some(tap) = self.tap(of) else { return vec![] };
        let mean = |child: usize| {
            let values = self.window(seconds).filter_map(|s| *s.series[tap].get(child)?);
            let (sum, count) = values.fold((0.0, 0), |(sum, count), v| (sum + v, count + 1));
            (count > 0).then(|| sum / f64::from(count))
        };
        self.children(of, tap, device).map(mean).collect()
    }

    /// By child: the value at the last row's close.
    pub(super) fn last(&self, of: &Series, device: Device) -> Vec<Option<f64>> {
        let (Some(tap), Some(last)) = (self.tap(of), self.samples.back()) else { return vec![] };
        self.children(of, tap, device).map(|child| last.series[tap][child]).collect()
    }

    /// How much a counter grew in a window, over all its children; `None` = it is not there, or
    /// was seen only once.
    pub(super) fn growth(&self, of: &Series, device: Device, seconds: u32) -> Option<f64> {
        let tap = self.tap(of)?;
        let last = self.samples.back()?;
        let grown = |child: usize| {
            let value = |sample: &Sample| *sample.series[tap].get(child)?;
            let first = self.window(seconds).rev().skip(1).filter_map(value).last()?;
            Some(last.series[tap][child]? - first)
        };
        self.children(of, tap, device).filter_map(grown).reduce(|sum, by| sum + by)
    }

    /// Children of the last sample that are meant: of one device, or all.
    fn children(&self, of: &Series, tap: usize, device: Device) -> impl Iterator<Item = usize> {
        let row = crate::catalog::row(of.id);
        let split = row.split_len();
        // Only rows by device can tell their devices apart.
        let device = device.filter(|_| row.by == By::Device);
        let all = self.samples.back().map_or(0, |last| last.series[tap].len());
        (0..all).filter(move |child| device.is_none_or(|device| child / split == device))
    }

    /// Devices that some tapped series tells of.
    pub(super) fn devices(&self) -> usize {
        let Some(last) = self.samples.back() else { return 0 };
        let by_device = self.taps.series.iter().zip(&last.series);
        let count = by_device.filter_map(|(series, children)| {
            let row = crate::catalog::row(series.id);
            (row.by == By::Device).then(|| children.len() / row.split_len())
        });
        count.max().unwrap_or(0)
    }

    /// (samples above a bucket bound, all) that a histogram took in a window.
    pub(super) fn slow(&self, histogram: Id, bound: u64, seconds: u32) -> Option<(u64, u64)> {
        let tap = self.taps.histograms.iter().position(|there| *there == histogram)?;
        let [first, last] = [self.window(seconds).next()?, self.samples.back()?];
        let (before, now) = (&first.buckets[tap], &last.buckets[tap]);
        let grid = crate::catalog::row(histogram).grid();
        let within = grid.iter().take_while(|there| there.value <= bound).count();
        let grown = |(bucket, now): (usize, &u64)| now - before.get(bucket).copied().unwrap_or(0);
        let grown: Vec<u64> = now.iter().enumerate().map(grown).collect();
        let slow = grown.iter().skip(within).sum();
        Some((slow, grown.iter().sum()))
    }

    fn tap(&self, series: &Series) -> Option<usize> {
        debug_assert!(series.part == Part::Value || !series_row_is_plain(series));
        self.taps.series.iter().position(|there| there == series)
    }
}

/// Only a histogram has a sum and a count.
fn series_row_is_plain(series: &Series) -> bool {
    crate::catalog::row(series.id).grid().is_empty()
}
