//! What a verdict shows besides alerts: levels now, and counts over the last closed rows.

use super::aggregator::Aggregator;
use super::names::Names;
use super::totals::Totals;
use crate::catalog::Id;
use crate::record::Time;
use crate::record::cells::cell;

/// Rows of the window: five minutes.
const WINDOW_ROWS: usize = 30;

/// Numbers for a verdict. Times in seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Vitals {
    pub(crate) in_flight: u64,
    pub(crate) running: u64,
    pub(crate) waiting: u64,
    /// Most that waited at the end of a row of the window, or now.
    pub(crate) waiting_max: u64,
    /// Of pool `kv`, of the fullest GPU.
    pub(crate) kv_utilization: Option<f64>,
    /// Since the oldest device's last step, or since the engine was ready.
    pub(crate) last_step_age_s: Option<f64>,
    /// Steps that ended.
    pub(crate) steps: u64,
    pub(crate) last_xid: Option<u64>,
    pub(crate) ttft_p99_s: Option<f64>,
    pub(crate) tbt_p99_s: Option<f64>,
    /// TTFT samples of the window.
    pub(crate) first_tokens: u64,
    /// Requests that ended in the window, and of them those that failed by no fault of the caller.
    pub(crate) ended: u64,
    pub(crate) failed: u64,
    pub(crate) stored: u64,
    pub(crate) dropped: u64,
}

impl Vitals {
    /// Length of the window.
    pub(crate) const WINDOW_S: u32 = 10 * WINDOW_ROWS as u32;
}

impl Aggregator {
    /// Levels are of now, the window of the last closed rows: nothing is drained for it.
    pub(crate) fn vitals(&self, now: Time) -> Vitals {
        let totals = self.totals();
        let (stored, dropped) = self.window_loss(WINDOW_ROWS);
        let oldest = |values: Vec<Option<crate::snapshot::Value>>| {
            values.iter().flatten().map(|value| value.as_f64()).reduce(f64::max)
        };
        let (before, last) = self.windows.ends(WINDOW_ROWS);
        let samples = |frame: &super::window::Frame| frame.buckets(Id::Ttft).iter().sum::<u64>();
        let waiting = self.waiting(&totals);
        Vitals {
            in_flight: totals.in_flight,
            running: totals.running,
            waiting,
            waiting_max: waiting.max(self.windows.waiting_max(WINDOW_ROWS)),
            kv_utilization: self.kv_pool_utilization(&totals),
            last_step_age_s: oldest(self.step_ages(&totals, now)),
            steps: totals.counts.steps.iter().sum(),
            last_xid: self.last_xid(),
            ttft_p99_s: self.window_quantile(Id::Ttft, 0.99, WINDOW_ROWS),
            tbt_p99_s: self.window_quantile(Id::Tbt, 0.99, WINDOW_ROWS),
            first_tokens: samples(last) - samples(before),
            ended: self.window_increase(cell::ENDED..cell::GENERATED, WINDOW_ROWS),
            failed: self.window_server_faults(WINDOW_ROWS),
            stored,
            dropped,
        }
    }

    /// Waiting requests as `llm_queue_depth` counts them.
    fn waiting(&self, totals: &Totals) -> u64 {
        match &totals.queue {
            Some(queue) => queue.iter().flatten().sum(),
            None => totals.waiting,
        }
    }

    /// State pools of hybrid models are always full and say nothing.
    fn kv_pool_utilization(&self, totals: &Totals) -> Option<f64> {
        let pools = totals.kv.iter().enumerate();
        let of_kv = pools.filter(|(place, _)| Names::is_default_pool(*place));
        let shares = of_kv.filter_map(|(_, level)| {
            let kv = level.as_ref().filter(|kv| kv.usable > 0)?;
            Some(kv.referenced as f64 / kv.usable as f64)
        });
        shares.reduce(f64::max)
    }

    /// Of whichever device saw one.
    fn last_xid(&self) -> Option<u64> {
        self.devices.iter().find_map(|device| device.last_xid())
    }
}
