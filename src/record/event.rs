//! The closed fact that travels from an engine thread to the aggregator: 16 bytes.
//!
//! ```text
//!   0                8          12      14       15
//!   | value u64      | weight   | class | variant| metric |
//!   | ns, count, id  | u32      | u16   | u8     | u8     |
//!                    `------- meta, one u64 word ---------'
//! ```
//!
//! An event is complete in itself, never half of a pair: losing one loses samples and can neither
//! corrupt a pairing nor leak a map entry.

/// One fact. Held as two whole words, because an event that is written in narrow pieces and copied
/// wide right afterwards stalls on store forwarding (3-5 ns each, seen in two places).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub(crate) struct Event {
    value: u64,
    meta: u64,
}
const _: () = assert!(size_of::<Event>() == 16 && align_of::<Event>() == 8);

/// What an event says. The numbers are fixed and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub(crate) enum Metric {
    /// `weight` emissions of `variant` tokens each, `value` ns after the one before them: TBT and ITL.
    Gap = 1,
    /// variant 1: a `TtftResidual` follows; 0: the parts add up to the nanosecond.
    Ttft = 2,
    TtftUser = 3,
    Admission = 4,
    Queue = 5,
    Requeue = 6,
    Prefill = 7,
    Decode = 8,
    Tpot = 9,
    Stall = 10,
    Preemptions = 11,
    /// variant = status
    Duration = 12,
    Emit = 13,
    /// variant = phase, class = device
    StepGpu = 14,
    /// variant = phase
    StepHost = 15,
    /// variant = work (0 none, 1 waiting), class = device
    GpuGap = 16,
    Batch = 17,
    /// value = referenced << 32 | usable, variant = pool, class = device
    KvUsage = 18,
    /// value = request id, weight = the slow sample in microseconds, variant = its metric
    Exemplar = 19,
    TtftResidual = 20,
    PromptTokens = 21,
    GeneratedTokens = 22,
    /// variant = phase, class = device
    GpuGraph = 23,
}

impl Event {
    #[inline(always)]
    pub(crate) const fn new(value: u64, weight: u32, key: u32) -> Event {
        Event { value, meta: weight as u64 | (key as u64) << 32 }
    }

    #[inline(always)]
    pub(crate) const fn key(metric: Metric, variant: u8, class: u16) -> u32 {
        (metric as u32) << 24 | (variant as u32) << 16 | class as u32
    }

    #[inline(always)]
    pub(crate) const fn value(&self) -> u64 {
        self.value
    }

    #[inline(always)]
    pub(crate) const fn weight(&self) -> u32 {
        self.meta as u32
    }

    /// Samples this event stands for; an exemplar is no sample.
    #[inline(always)]
    pub(crate) const fn samples(&self) -> u64 {
        if self.metric() == Metric::Exemplar as u8 { 0 } else { self.weight() as u64 }
    }

    #[inline(always)]
    pub(crate) fn add_weight(&mut self, n: u32) {
        self.meta = self.meta.wrapping_add(n as u64)
    }

    /// Metric, variant and class in one word: equal keys feed the same histogram.
    #[inline(always)]
    pub(crate) const fn id(&self) -> u32 {
        (self.meta >> 32) as u32
    }

    #[inline(always)]
    pub(crate) const fn metric(&self) -> u8 {
        (self.meta >> 56) as u8
    }

    #[inline(always)]
    pub(crate) const fn variant(&self) -> u8 {
        (self.meta >> 48) as u8
    }

    #[inline(always)]
    pub(crate) const fn class(&self) -> u16 {
        (self.meta >> 32) as u16
    }
}

impl Metric {
    const ALL: [Metric; 23] = [
        Metric::Gap,
        Metric::Ttft,
        Metric::TtftUser,
        Metric::Admission,
        Metric::Queue,
        Metric::Requeue,
        Metric::Prefill,
        Metric::Decode,
        Metric::Tpot,
        Metric::Stall,
        Metric::Preemptions,
        Metric::Duration,
        Metric::Emit,
        Metric::StepGpu,
        Metric::StepHost,
        Metric::GpuGap,
        Metric::Batch,
        Metric::KvUsage,
        Metric::Exemplar,
        Metric::TtftResidual,
        Metric::PromptTokens,
        Metric::GeneratedTokens,
        Metric::GpuGraph,
    ];

    /// The metric with this number.
    #[inline]
    pub(crate) fn of(number: u8) -> Option<Metric> {
        // Numbers are consecutive from 1, asserted below.
        Metric::ALL.get(number.wrapping_sub(1) as usize).copied()
    }
}

const _: () = {
    let mut i = 0;
    while i < Metric::ALL.len() {
        assert!(Metric::ALL[i] as usize == i + 1, "a metric's number is its place");
        i += 1;
    }
};
