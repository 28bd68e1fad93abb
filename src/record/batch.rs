//! `tokens` and `token`: the verbs that are called for every token.
//!
//! Two nested loops are the point: a run of equal stamps goes by in the inner one with one compare,
//! one store and one add per sequence. With one loop and both branches in it the compiler spills,
//! and a token costs 15-20 instructions instead of 12.

use super::cells::cell;
use super::core::Core;
use super::event::{Event, Metric};
use super::request::{Request, State, flag};
use super::runs::{NOWHERE, Run, Runs};
use super::words::Invalid;

/// Most tokens one emission of one sequence may accept; it travels in eight bits.
pub(crate) const ACCEPTED_MAX: u32 = 255;

/// One emission in both halves of `Request::count`: one more gap, `accepted` more tokens.
#[inline(always)]
const fn emission(accepted: u32) -> u64 {
    1 << 32 | accepted as u64
}

impl Core {
    #[inline(always)]
    pub(super) fn tokens<'a>(
        &mut self,
        now: u64,
        mut batch: impl Iterator<Item = (&'a mut Request, u32)>,
    ) {
        // What the run table knows of the batch before is void.
        self.out.epoch = self.out.epoch.wrapping_add(1);
        let mut ahead = batch.next();
        while let Some((req, accepted)) = ahead {
            // The first of a run is looked up or judged; those with the same stamp go with it.
            let place = match self.known(req, accepted) {
                Some(place) => place,
                None => self.first_of_run(req, accepted, now),
            };
            // Fields, not the struct: a wide load right behind narrow stores would stall.
            let Run { stamp, next, at, .. } = self.runs.get(place);
            let (stamp, next, at) = (*stamp, *next, *at);
            let step = emission(accepted);
            let mut followers = 0;
            ahead = loop {
                match batch.next() {
                    Some((req, k)) if req.stamp == stamp && k == accepted => {
                        req.stamp = next;
                        req.count = req.count.wrapping_add(step);
                        followers += 1
                    }
                    other => break other,
                }
            };
            self.out.add_weight(at, followers + 1)
        }
        self.out.flush()
    }

    #[inline(always)]
    pub(super) fn token(&mut self, now: u64, req: &mut Request, accepted: u32) {
        let gap = now.wrapping_sub(req.last());
        if self.is_plain(req) && self.is_plain_gap(gap, accepted) {
            req.set_last(now);
            req.count = req.count.wrapping_add(emission(accepted));
            let class = req.class();
            self.out.cells.add(class, cell::GENERATED, accepted as u64);
            let key = Event::key(Metric::Gap, accepted as u8, class);
            return self.out.push(Event::new(gap, 1, key));
        }
        self.unusual(req, accepted, now);
        self.out.flush()
    }

    /// 0 < gap <= TBT objective and 1 <= accepted <= 255, each with one compare.
    #[inline(always)]
    fn is_plain_gap(&self, gap: u64, accepted: u32) -> bool {
        gap.wrapping_sub(1) < self.tbt_ns && accepted.wrapping_sub(1) < ACCEPTED_MAX
    }

    /// Another sequence of a gap that this batch already has.
    #[inline(always)]
    fn known(&self, req: &mut Request, accepted: u32) -> Option<usize> {
        let place = Runs::place(req.stamp, accepted);
        let run = self.runs.get(place);
        if run.stamp != req.stamp || run.same != Runs::same(accepted, self.out.epoch) {
            return None;
        }
        req.stamp = run.next;
        req.count = req.count.wrapping_add(emission(accepted));
        Some(place)
    }

    /// The first sequence of a distinct gap; plain ones with the same stamp may follow it.
    #[inline(never)]
    fn first_of_run(&mut self, req: &mut Request, accepted: u32, now: u64) -> usize {
        let stamp = req.stamp;
        let class = req.class();
        let gap = now.wrapping_sub(stamp ^ (class as u64) << 48);
        if !(self.is_plain(req) && self.is_plain_gap(gap, accepted)) {
            self.unusual(req, accepted, now);
            return NOWHERE;
        }
        let at = self.out.append(gap, Event::key(Metric::Gap, accepted as u8, class), 0);
        let next = now ^ (class as u64) << 48;
        req.stamp = next;
        req.count = req.count.wrapping_add(emission(accepted));
        let place = Runs::place(stamp, accepted);
        let same = Runs::same(accepted, self.out.epoch);
        let run = self.runs.get_mut(place);
        run.stamp = stamp;
        run.next = next;
        run.same = same;
        run.at = at;
        place
    }

    /// First tokens, resumed sequences, slow or impossible gaps, misuse: one call per token. Slow
    /// means under 12.5 steps a second, where cost is no matter.
    #[cold]
    #[inline(never)]
    fn unusual(&mut self, req: &mut Request, accepted: u32, now: u64) {
        if accepted == 0 || !self.live(req) {
            return;
        }
        if accepted > ACCEPTED_MAX {
            self.invalid(Invalid::AbsurdCount)
        }
        let accepted = accepted.min(ACCEPTED_MAX);
        let state = req.state();
        match state {
            State::Arrived | State::Queued => {
                self.invalid(Invalid::NoSchedule);
                if state == State::Arrived {
                    self.add_load(1)
                }
                self.flow(-1, 1)
            }
            State::Evicted => {
                self.invalid(Invalid::WhileWaiting);
                self.flow(-1, 1)
            }
            _ => {}
        }
        let class = req.class();
        let now = self.not_before(now, req);
        if matches!(state, State::Evicted | State::Resumed) {
            self.sample(Metric::Stall, 0, class, self.span(now, req.mark))
        }
        if req.last() == 0 {
            self.first_emission(req, accepted, now)
        } else {
            self.odd_gap(req, accepted, now)
        }
        req.set_state(State::Decoding);
        req.set_last(now)
    }

    fn first_emission(&mut self, req: &mut Request, accepted: u32, now: u64) {
        let class = req.class();
        self.out.cells.add(class, cell::GENERATED, accepted as u64);
        if !matches!(req.state(), State::Arrived | State::Queued) {
            self.sample(Metric::Prefill, 0, class, self.span(now, req.first))
        }
        if !req.has(flag::CHILD | flag::TTFT) {
            self.ttft(req, now)
        }
        req.first = now;
        req.count = req.count.wrapping_add(accepted as u64)
    }

    /// A gap that is zero, above the objective, or the first one after an eviction.
    fn odd_gap(&mut self, req: &mut Request, accepted: u32, now: u64) {
        let class = req.class();
        let gap = self.span(now, req.last());
        if gap == 0 {
            self.invalid(Invalid::ZeroGap)
        }
        let key = Event::key(Metric::Gap, accepted as u8, class);
        let is_new = !self.out.merge(self.slow_at, gap, key);
        if is_new {
            self.slow_at = self.out.append(gap, key, 1)
        }
        if gap > self.tbt_ns {
            req.slow = req.slow.saturating_add(1);
            if is_new {
                self.exemplar(Metric::Gap, req.id, class, gap)
            }
        }
        req.count = req.count.wrapping_add(emission(accepted))
    }
}
