//! The open label sets: endpoints, priorities, classes, devices, pools. All bounded, all interned.
//!
//! A label value comes from the engine's configuration or code. It is made harmless once, here:
//! control characters are replaced, long values are cut, and what finds its table full becomes
//! `other`; both are counted in `llm_label_overflow_total{metric}`.

use crate::catalog::{By, Id, Row, labels};
use crate::config::Config;
use crate::record::cells::{POOLS_MAX, PRIORITIES_MAX};
use crate::record::{Pool, Priority, Series};
use crate::snapshot::Labels;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most devices one worker reports for.
const DEVICES_MAX: usize = 64;

/// The families whose label values may be folded or cut. Counted from 0: a rate cannot see a jump
/// from absent to 1.
const OVERFLOWS: [Id; 6] =
    [Id::WorkerInfo, Id::Requests, Id::Ttft, Id::QueueDepth, Id::KvBlocks, Id::StepGpu];

/// What a class of requests is called: at most `series_max` distinct ones per scope.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Class {
    endpoint: String,
    priority: Option<String>,
}

impl Class {
    /// Requests of one endpoint, of default priority.
    pub fn endpoint(endpoint: impl Into<String>) -> Class {
        Class { endpoint: endpoint.into(), priority: None }
    }

    /// The same with a named priority.
    pub fn priority(self, priority: impl Into<String>) -> Class {
        Class { priority: Some(priority.into()), ..self }
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Device {
    gpu: u16,
    node: Arc<str>,
}

pub(super) struct Names {
    identity: [(&'static str, Arc<str>); 2],
    worker: [Arc<str>; 3],
    label_bytes_max: usize,
    series_max: usize,
    /// 0 = `other`
    endpoints: Vec<Arc<str>>,
    /// 0 = `default`
    priorities: Vec<Arc<str>>,
    /// (endpoint, priority); 0 = overflow
    classes: Vec<(u16, u8)>,
    devices: Vec<Device>,
    gpus: Vec<Arc<str>>,
    pools: Vec<Arc<str>>,
    /// Values folded or cut, by the family they were meant for.
    overflow: BTreeMap<Id, u64>,
}

impl Names {
    pub(super) fn new(config: &Config) -> Names {
        let mut names = Names {
            identity: [("model", "".into()), ("worker_id", "".into())],
            worker: ["".into(), "".into(), "".into()],
            label_bytes_max: config.label_bytes_max,
            series_max: config.series_max.into(),
            endpoints: vec![labels::OTHER.into()],
            priorities: vec![labels::DEFAULT_PRIORITY.into()],
            classes: vec![(0, 0)],
            devices: vec![],
            gpus: vec![],
            pools: vec![labels::DEFAULT_POOL.into()],
            overflow: OVERFLOWS.map(|id| (id, 0)).into(),
        };
        names.identity[0].1 = names.clean(&config.model, Id::WorkerInfo);
        names.identity[1].1 = names.clean(&config.worker_id, Id::WorkerInfo);
        let role = labels::ROLE[config.role as usize];
        names.worker = [&*config.engine_version, role, &*config.engine]
            .map(|value| names.clean(value, Id::WorkerInfo));
        names.device(&config.gpu_id, &config.node);
        names
    }

    /// A value that any parser takes: no control characters but the newline, within the limit.
    fn clean(&mut self, value: &str, family: Id) -> Arc<str> {
        let mut text: String = value
            .chars()
            .map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c })
            .collect();
        if text.len() > self.label_bytes_max {
            text.truncate(text.floor_char_boundary(self.label_bytes_max));
            self.count_overflow(family)
        }
        text.into()
    }

    fn count_overflow(&mut self, family: Id) {
        *self.overflow.entry(family).or_default() += 1
    }

    pub(super) fn series(&mut self, class: &Class, scope: u8) -> Series {
        let priority = match &class.priority {
            Some(name) => self.priority(name),
            None => Priority::default(),
        };
        let endpoint = self.clean(&class.endpoint, Id::Requests);
        let overflow = Series { index: 0, scope, priority: priority.0 };
        let endpoint = match find_or_add(&mut self.endpoints, endpoint, self.series_max) {
            // Named `other` by the engine: a class of its own would be a second series of that name.
            Some(0) => return overflow,
            Some(endpoint) => endpoint as u16,
            None => {
                self.count_overflow(Id::Requests);
                return overflow;
            }
        };
        let key = (endpoint, priority.0);
        let index = match find_or_add(&mut self.classes, key, self.series_max) {
            Some(index) => index as u16,
            None => {
                self.count_overflow(Id::Ttft);
                0
            }
        };
        Series { index, scope, priority: priority.0 }
    }

    pub(super) fn priority(&mut self, name: &str) -> Priority {
        let name = self.clean(name, Id::QueueDepth);
        // The last place is kept for what finds no other.
        if let Some(at) = find_or_add(&mut self.priorities, name, PRIORITIES_MAX - 1) {
            return Priority(at as u8);
        }
        self.count_overflow(Id::QueueDepth);
        let other = find_or_add(&mut self.priorities, labels::OTHER.into(), PRIORITIES_MAX);
        Priority(other.unwrap_or(0) as u8)
    }

    pub(super) fn pool(&mut self, name: &str) -> Pool {
        let name = self.clean(name, Id::KvBlocks);
        if let Some(at) = find_or_add(&mut self.pools, name, POOLS_MAX - 1) {
            return Pool(at as u8);
        }
        self.count_overflow(Id::KvBlocks);
        let other = find_or_add(&mut self.pools, labels::OTHER.into(), POOLS_MAX);
        Pool(other.unwrap_or(0) as u8)
    }

    pub(super) fn device(&mut self, gpu_id: &str, node: &str) -> u16 {
        let gpu = self.clean(gpu_id, Id::StepGpu);
        let node = self.clean(node, Id::StepGpu);
        let gpu = find_or_add(&mut self.gpus, gpu, DEVICES_MAX);
        let device = gpu.and_then(|gpu| {
            find_or_add(&mut self.devices, Device { gpu: gpu as u16, node }, DEVICES_MAX)
        });
        device.unwrap_or_else(|| {
            self.count_overflow(Id::StepGpu);
            0
        }) as u16
    }

    pub(super) fn classes(&self) -> &[(u16, u8)] {
        &self.classes
    }

    pub(super) fn priorities(&self) -> usize {
        self.priorities.len()
    }

    pub(super) fn pools(&self) -> usize {
        self.pools.len()
    }

    pub(super) fn devices(&self) -> usize {
        self.devices.len()
    }

    pub(super) fn gpu_of(&self, device: u16) -> usize {
        self.devices.get(device as usize).map_or(0, |device| device.gpu as usize)
    }

    /// Index of a (gpu, pool) pair; stable because there is a fixed number of pools.
    pub(super) fn gpu_pool(gpu: usize, pool: usize) -> usize {
        gpu * POOLS_MAX + pool
    }

    /// Is it the pool of the attention's KV cache? It is interned first.
    pub(super) fn is_default_pool(gpu_pool: usize) -> bool {
        gpu_pool.is_multiple_of(POOLS_MAX)
    }

    pub(super) fn overflow(&self) -> &BTreeMap<Id, u64> {
        &self.overflow
    }

    /// How many values the open label set of a family has now.
    pub(super) fn len(&self, by: By) -> usize {
        match by {
            By::Process | By::Worker => 1,
            By::Class => self.classes.len(),
            By::Endpoint => self.endpoints.len(),
            By::Priority => self.priorities.len(),
            By::Device => self.devices.len(),
            By::Gpu => self.gpus.len(),
            By::GpuPool => self.gpus.len() * POOLS_MAX,
            By::Pool => self.pools.len(),
            By::Metric => self.overflow.len(),
        }
    }

    /// Does this value of the open set stand for the overflow class?
    pub(super) fn is_other(&self, by: By, value: usize) -> bool {
        matches!(by, By::Class | By::Endpoint) && value == 0
    }

    /// The labels of one child: identity, the open set's value, the closed sets' values.
    pub(super) fn labels(&self, row: &'static Row, child: usize) -> Labels {
        let mut pairs = self.identity.to_vec();
        let (value, mut rest) = (child / row.split_len(), child % row.split_len());
        let open: Vec<Arc<str>> = match row.by {
            By::Process => vec![],
            By::Worker => self.worker.to_vec(),
            By::Class if value == 0 => vec![labels::OTHER.into(), labels::OTHER.into()],
            By::Class => {
                let (endpoint, priority) = self.classes[value];
                vec![
                    self.endpoints[endpoint as usize].clone(),
                    self.priorities[priority as usize].clone(),
                ]
            }
            By::Endpoint => vec![self.endpoints[value].clone()],
            By::Priority => vec![self.priorities[value].clone()],
            By::Device => {
                let device = &self.devices[value];
                vec![self.gpus[device.gpu as usize].clone(), device.node.clone()]
            }
            By::Gpu => vec![self.gpus[value].clone()],
            By::GpuPool => {
                let (gpu, pool) = (value / POOLS_MAX, value % POOLS_MAX);
                vec![self.gpus[gpu].clone(), self.pools[pool].clone()]
            }
            By::Pool => vec![self.pools[value].clone()],
            By::Metric => {
                let family = self.overflow.keys().nth(value).copied().unwrap_or(Id::WorkerInfo);
                vec![crate::catalog::row(family).name.into()]
            }
        };
        pairs.extend(row.by.names().iter().copied().zip(open));
        // The last closed label varies fastest.
        let mut closed = vec![];
        for label in row.split.iter().rev() {
            closed.push((label.name, label.values[rest % label.values.len()].into()));
            rest /= label.values.len()
        }
        pairs.extend(closed.into_iter().rev());
        Labels::new(pairs)
    }
}

fn find_or_add<T: PartialEq>(table: &mut Vec<T>, value: T, max: usize) -> Option<usize> {
    if let Some(at) = table.iter().position(|there| *there == value) {
        return Some(at);
    }
    if table.len() >= max {
        return None;
    }
    table.push(value);
    Some(table.len() - 1)
}
