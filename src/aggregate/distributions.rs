//! Every histogram of the scope, and the way from an event to the series it belongs to.
//!
//! Written by whoever drains (the aggregate thread, or the owner of a manual clock), by nobody else.

use super::histogram::{Hdr, Lookup, Series, new_hdr};
use super::names::Names;
use crate::catalog::{self, Id, Kind, Row, labels};
use crate::record::event::{Event, Metric};
use crate::snapshot::{LINES, Quantiles};
use std::time::Duration;

/// One histogram family: its row, its lookup, its series by child number.
pub(super) struct Family {
    pub(super) row: &'static Row,
    lookup: Lookup,
    pub(super) series: Vec<Series>,
    /// Something fed it.
    pub(super) fed: bool,
}

impl Family {
    #[inline]
    fn record(&mut self, child: usize, value: u64, n: u64, sum: u128) {
        if let Some(series) = self.series.get_mut(child) {
            self.fed = true;
            series.record(self.row, &self.lookup, value, n, sum)
        }
    }

    fn grow(&mut self, children: usize) {
        while self.series.len() < children {
            self.series.push(Series::new(&self.lookup))
        }
    }

    /// Counts at the bounds, summed over all series.
    pub(super) fn folded_counts(&self) -> Vec<u64> {
        let mut all = vec![0; self.lookup.buckets()];
        for series in &self.series {
            for (sum, count) in all.iter_mut().zip(series.counts()) {
                *sum += count
            }
        }
        all
    }
}

/// The families, addressed by place: a hash per event would cost more than the histogram.
pub(super) struct Distributions {
    families: Vec<Family>,
    at: Places,
    /// class -> (endpoint, priority)
    classes: Vec<(u16, u8)>,
    keep_native: bool,
    /// The overflow class was handed out, or an unknown one was used: `other` must be shown.
    pub(super) other_used: bool,
    /// Events and samples taken out of rings.
    pub(super) drained_events: u64,
}

/// Where each metric's family lies in `families`.
struct Places {
    ttft: usize,
    tbt: usize,
    itl: usize,
    tpot: usize,
    ttft_user: usize,
    residual: usize,
    admission: usize,
    queue: usize,
    requeue: usize,
    prefill: usize,
    decode: usize,
    stall: usize,
    preemptions: usize,
    duration: usize,
    emit: usize,
    step_gpu: usize,
    step_host: usize,
    gpu_gap: usize,
    gpu_graph: usize,
    sequences: usize,
    kv: usize,
    prompt: usize,
    generated: usize,
    scrape: usize,
}

impl Distributions {
    pub(super) fn new(names: &Names, keep_native: bool) -> Distributions {
        let families: Vec<Family> = catalog::ROWS
            .iter()
            .filter(|row| matches!(row.kind, Kind::Histogram(_)))
            .map(|row| Family { row, lookup: Lookup::new(row.grid()), series: vec![], fed: false })
            .collect();
        let place = |id: Id| {
            families.iter().position(|family| family.row.id == id).expect("a histogram row")
        };
        let at = Places {
            ttft: place(Id::Ttft),
            tbt: place(Id::Tbt),
            itl: place(Id::Itl),
            tpot: place(Id::Tpot),
            ttft_user: place(Id::TtftUser),
            residual: place(Id::TtftResidual),
            admission: place(Id::Admission),
            queue: place(Id::Queue),
            requeue: place(Id::Requeue),
            prefill: place(Id::Prefill),
            decode: place(Id::Decode),
            stall: place(Id::PreemptionStall),
            preemptions: place(Id::RequestPreemptions),
            duration: place(Id::RequestDuration),
            emit: place(Id::EmitDelay),
            step_gpu: place(Id::StepGpu),
            step_host: place(Id::StepHost),
            gpu_gap: place(Id::GpuGap),
            gpu_graph: place(Id::GpuGraph),
            sequences: place(Id::StepSequences),
            kv: place(Id::KvStepUtilization),
            prompt: place(Id::RequestPromptTokens),
            generated: place(Id::RequestGeneratedTokens),
            scrape: place(Id::ScrapeTime),
        };
        let mut new = Distributions {
            families,
            at,
            classes: vec![],
            keep_native,
            other_used: false,
            drained_events: 0,
        };
        new.grow(names);
        new
    }

    /// Makes room for every label value that is registered now.
    pub(super) fn grow(&mut self, names: &Names) {
        self.classes = names.classes().to_vec();
        for family in &mut self.families {
            family.grow(names.len(family.row.by) * family.row.split_len())
        }
    }

    pub(super) fn family(&self, id: Id) -> &Family {
        self.families.iter().find(|family| family.row.id == id).expect("a histogram row")
    }

    /// One event, into every series it feeds.
    #[inline]
    pub(super) fn take(&mut self, event: &Event, now: Option<Duration>) {
        self.drained_events += 1;
        let (value, variant, class) =
            (event.value(), event.variant() as usize, event.class() as usize);
        let weight = event.weight() as u64;
        let Some(metric) = Metric::of(event.metric()) else { return };
        match metric {
            Metric::Gap => {
                let endpoint = self.endpoint(class);
                let sum = value as u128 * weight as u128;
                self.families[self.at.tbt].record(endpoint, value, weight, sum);
                // Each token of an emission gets its share of the gap; the sum stays exact.
                let accepted = variant.max(1) as u64;
                let share = value / accepted;
                self.families[self.at.itl].record(endpoint, share, weight * accepted, sum)
            }
            Metric::Ttft => {
                self.count_other(class);
                self.one(self.at.ttft, class, value);
                if variant == 0 {
                    self.one(self.at.residual, 0, 0)
                }
            }
            Metric::TtftResidual => self.one(self.at.residual, 0, value),
            Metric::TtftUser => {
                let endpoint = self.endpoint(class);
                self.one(self.at.ttft_user, endpoint, value)
            }
            Metric::Admission => self.one(self.at.admission, 0, value),
            Metric::Queue => {
                let priority = self.classes.get(class).map_or(0, |(_, priority)| *priority);
                self.one(self.at.queue, priority as usize, value)
            }
            Metric::Requeue => self.one(self.at.requeue, 0, value),
            Metric::Prefill => self.one(self.at.prefill, 0, value),
            Metric::Decode => self.one(self.at.decode, 0, value),
            Metric::Tpot => {
                let endpoint = self.endpoint(class);
                self.one(self.at.tpot, endpoint, value)
            }
            Metric::Stall => self.one(self.at.stall, 0, value),
            Metric::Preemptions => self.one(self.at.preemptions, 0, value),
            Metric::Duration => {
                let child = self.endpoint(class) * labels::STATUS.len() + variant;
                self.one(self.at.duration, child, value)
            }
            Metric::Emit => self.one(self.at.emit, 0, value),
            Metric::StepGpu => {
                self.one(self.at.step_gpu, class * labels::PHASE.len() + variant, value)
            }
            Metric::StepHost => self.one(self.at.step_host, variant, value),
            Metric::GpuGap => {
                self.one(self.at.gpu_gap, class * labels::WORK.len() + variant, value)
            }
            Metric::GpuGraph => {
                self.one(self.at.gpu_graph, class * labels::PHASE.len() + variant, value)
            }
            Metric::Batch => self.one(self.at.sequences, 0, value),
            Metric::KvUsage => {
                let (referenced, usable) = (value >> 32, value & 0xffff_ffff);
                // Rounded up, so that a share above a bound never lands below it.
                let ppm = (referenced * 1_000_000).div_ceil(usable.max(1));
                self.one(self.at.kv, variant, ppm)
            }
            Metric::PromptTokens => self.one(self.at.prompt, 0, value),
            Metric::GeneratedTokens => self.one(self.at.generated, 0, value),
            Metric::Exemplar => self.exemplar(event, now),
        }
    }

    #[inline]
    fn one(&mut self, family: usize, child: usize, value: u64) {
        self.families[family].record(child, value, 1, value as u128)
    }

    #[inline]
    fn endpoint(&mut self, class: usize) -> usize {
        self.count_other(class);
        self.classes.get(class).map_or(0, |(endpoint, _)| *endpoint as usize)
    }

    #[inline]
    fn count_other(&mut self, class: usize) {
        self.other_used |= class == 0
    }

    fn exemplar(&mut self, event: &Event, now: Option<Duration>) {
        let class = event.class() as usize;
        let (family, child) = if event.variant() == Metric::Gap as u8 {
            (self.at.tbt, self.endpoint(class))
        } else {
            (self.at.ttft, class)
        };
        let family = &mut self.families[family];
        if let Some(series) = family.series.get_mut(child) {
            let ns = event.weight() as u64 * 1_000;
            series.exemplar(&family.lookup, ns, ns as f64 * 1e-9, event.value(), now)
        }
    }

    /// Time it took to build a scrape.
    pub(super) fn scraped(&mut self, ns: u64) {
        self.one(self.at.scrape, 0, ns)
    }

    /// Quantiles of the open row, one per line of the page.
    pub(super) fn quantiles(&self) -> Vec<Option<Quantiles>> {
        LINES.iter().map(|(id, split)| quantiles(self.family(*id), *split)).collect()
    }

    pub(super) fn close_row(&mut self) {
        for family in &mut self.families {
            for series in &mut family.series {
                series.close_row(family.row, self.keep_native)
            }
        }
    }

    pub(super) fn keeps_native(&self) -> bool {
        self.keep_native
    }
}

/// One line's HDR over all its series, as quantiles in seconds.
fn quantiles(family: &Family, split: Option<usize>) -> Option<Quantiles> {
    let step = family.row.split_len();
    let mut open = family
        .series
        .iter()
        .enumerate()
        .filter(|(child, _)| split.is_none_or(|wanted| child % step == wanted))
        .filter_map(|(_, series)| series.open().filter(|hdr| !hdr.is_empty()));
    let first = open.next()?;
    let mut merged: Option<Hdr> = None;
    for more in open {
        let all = merged.get_or_insert_with(|| {
            let mut all = new_hdr(family.row.unit);
            // Same bounds, so nothing can be out of range.
            let _ = all.add(first);
            all
        });
        let _ = all.add(more);
    }
    let hdr = merged.as_ref().unwrap_or(first);
    let scale = family.row.unit.scale() as f64;
    let at = |q| hdr.value_at_quantile(q) as f64 / scale;
    Some(Quantiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), count: hdr.len() })
}
