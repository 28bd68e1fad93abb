//! The engine's own record while it runs; [`Truth`] is its copy.

use crate::client::{Ask, ENDPOINTS, PRIORITIES};
use crate::device::{End as StepEnd, Span};
use crate::kv::KvPool;
use crate::sequence::Sampled;
use crate::truth::{End, RequestLog, Run, StepLog, Truth};
use stepscope::catalog::labels;
use stepscope::{Outcome, Preempt, Shape, StepSource, Wait};

/// Why requests of this engine wait.
pub(crate) const REASONS: [Wait; 2] = [Wait::Capacity, Wait::Deferred];

/// Requests that wait, by priority and by place in [`REASONS`].
pub(crate) type Depths = [[u32; REASONS.len()]; PRIORITIES.len()];

/// A step under way.
#[derive(Debug)]
pub(crate) struct OpenLog {
    begin: u64,
    shape: Shape,
    work: bool,
}

/// Requests in the scheduler's hands, and the fewest since the last step began: if that is not 0,
/// work was waiting for the device all the time.
#[derive(Debug, Default)]
struct Load {
    now: u64,
    low_water: u64,
}

impl Load {
    fn more(&mut self) {
        self.now += 1
    }

    fn less(&mut self) {
        self.now -= 1;
        self.low_water = self.low_water.min(self.now)
    }

    fn was_never_zero(&mut self) -> bool {
        let low_water = std::mem::replace(&mut self.low_water, self.now);
        low_water > 0
    }
}

#[derive(Debug)]
pub(crate) struct Journal {
    run: Run,
    pub(crate) requests: Vec<RequestLog>,
    pub(crate) steps: Vec<StepLog>,
    load: Load,
    batch: u64,
    pub(crate) running: u64,
    pub(crate) ended: u64,
    pub(crate) generated_tokens: u64,
    pub(crate) prompt_tokens: u64,
    /// Waiting requests as the recorder was last told.
    pub(crate) depths: Depths,
    /// Times the device died.
    pub(crate) faults: u64,
    /// Steps that ended, as the recorder says, when they cannot have.
    strays: u64,
    /// Levels of the KV pool as the recorder was last told: referenced, cached, usable, slots used.
    kv: [u64; 4],
}

impl Journal {
    pub(crate) fn new(run: Run) -> Journal {
        Journal {
            run,
            requests: vec![],
            steps: vec![],
            load: Load::default(),
            batch: 0,
            running: 0,
            ended: 0,
            generated_tokens: 0,
            prompt_tokens: 0,
            depths: Depths::default(),
            faults: 0,
            strays: 0,
            kv: [0; 4],
        }
    }

    /// Requests that arrived and neither run nor ended.
    pub(crate) fn waiting(&self) -> u64 {
        self.requests.len() as u64 - self.ended - self.running
    }

    fn request(&mut self, id: u64) -> &mut RequestLog {
        // Ids are given in order of arrival.
        &mut self.requests[id as usize]
    }

    pub(crate) fn arrived(&mut self, ask: &Ask, at: u64) {
        debug_assert_eq!(ask.id, self.requests.len() as u64);
        self.requests.push(RequestLog {
            id: ask.id,
            endpoint: ENDPOINTS[ask.class.endpoint],
            priority: PRIORITIES[ask.class.priority],
            recv: at,
            ..RequestLog::default()
        })
    }

    pub(crate) fn enqueued(&mut self, id: u64, at: u64) {
        self.request(id).enq = Some(at);
        self.load.more()
    }

    pub(crate) fn scheduled(&mut self, id: u64, cached: u32, at: u64) {
        let request = self.request(id);
        request.sched.push(at);
        let obtained = request.prompt_computed + request.prompt_cached;
        // Admitted again before its first token, it may find more cached than it ever had.
        if request.tok.is_empty() {
            let fresh = u64::from(cached).saturating_sub(obtained);
            request.prompt_cached += fresh;
            self.prompt_tokens += fresh
        }
        self.running += 1
    }

    pub(crate) fn prefilling(&mut self, id: u64, again: u32, fresh: u32) {
        let request = self.request(id);
        request.recomputed += u64::from(again);
        request.prompt_computed += u64::from(fresh);
        self.prompt_tokens += u64::from(fresh)
    }

    pub(crate) fn evicted(&mut self, id: u64, why: Preempt, at: u64) {
        self.request(id).evict.push((at, why));
        self.running -= 1
    }

    pub(crate) fn step_begun(&mut self, shape: Shape, begin: u64) -> OpenLog {
        OpenLog { begin, shape, work: self.load.was_never_zero() }
    }

    pub(crate) fn step_ended(
        &mut self,
        open: OpenLog,
        span: Span,
        end: u64,
        source: StepSource,
        processed: u64,
    ) {
        // What the recorder timed by the host's clock has no device time in it.
        let is_timed = source != StepSource::Host;
        if let StepEnd::AsTold { not_before, not_after } = span.end
            && is_timed
            && !(not_before..=not_after).contains(&end)
        {
            self.strays += 1
        }
        let sequences = open.shape.prefills + open.shape.decodes;
        self.batch = if self.load.now > 0 { sequences.into() } else { 0 };
        self.steps.push(StepLog {
            begin: open.begin,
            gpu_ns: is_timed.then_some(span.gpu_ns),
            idle_before_ns: span.idle_before_ns.filter(|_| is_timed),
            work: open.work,
            end,
            processed,
            phase: open.shape.phase(),
            sequences,
            source,
            kv_referenced: 0,
            kv_usable: 0,
        })
    }

    pub(crate) fn sampled(&mut self, id: u64, sampled: &Sampled, at: u64) {
        let request = self.request(id);
        if sampled.accepted > 0 {
            request.tok.push((at, sampled.accepted))
        }
        request.drafted += u64::from(sampled.drafted);
        request.draft_accepted += u64::from(sampled.draft_accepted);
        request.stop_surplus += u64::from(sampled.surplus);
        self.generated_tokens += u64::from(sampled.accepted)
    }

    /// The levels of the pool, with the step that just ended.
    pub(crate) fn kv(&mut self, kv: &KvPool) {
        if let Some(step) = self.steps.last_mut() {
            step.kv_referenced = kv.referenced();
            step.kv_usable = kv.usable()
        }
        let [referenced, cached, usable] =
            [kv.referenced(), kv.cached(), kv.usable()].map(u64::from);
        self.kv = [referenced, cached, usable, kv.slots_used()]
    }

    pub(crate) fn emitted(&mut self, id: u64, at: u64) {
        self.request(id).emit = Some(at)
    }

    pub(crate) fn ended(&mut self, id: u64, outcome: Outcome, at: u64) {
        let request = self.request(id);
        let (was_running, was_queued) = (request.is_running(), request.enq.is_some());
        request.end = Some((at, outcome));
        self.running -= u64::from(was_running);
        self.ended += 1;
        if was_queued {
            self.load.less();
            if self.load.now == 0 {
                self.batch = 0
            }
        }
    }

    /// A copy of everything, with the state at `at`.
    pub(crate) fn truth(&self, at: u64) -> Truth {
        let depth = |reason| self.depths.iter().map(|by| u64::from(by[reason])).sum();
        let texts = REASONS.iter().enumerate();
        let queue =
            texts.map(|(reason, why)| (labels::WAIT[*why as usize], depth(reason))).collect();
        let [kv_referenced, kv_cached, kv_usable, kv_slots_used] = self.kv;
        let end = End {
            at,
            running: self.running,
            waiting: self.waiting(),
            queue,
            batch: self.batch,
            kv_referenced,
            kv_cached,
            kv_usable,
            kv_slots_used,
            faults: self.faults,
        };
        let (requests, steps) = (self.requests.clone(), self.steps.clone());
        let run = self.run.clone();
        Truth { run, requests, steps, end, strays: self.strays, is_running_on: false }
    }
}
