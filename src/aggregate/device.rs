//! From the cells of the devices to values: which cell is which row of the catalog.

use super::names::Names;
use crate::catalog::{By, Id, labels};
use crate::record::{DeviceCells, Reading, Tally};
use crate::snapshot::Value;
use std::sync::Arc;

/// The values of a family that is fed by device cells, by child number; `None` = no such family.
pub(super) fn values(
    id: Id,
    devices: &[Arc<DeviceCells>],
    names: &Names,
) -> Option<Vec<Option<Value>>> {
    let levels = |readings: &[Reading], value: fn(f64) -> Value| {
        let of = |device: &Arc<DeviceCells>| {
            readings.iter().map(|r| device.reading(*r).map(value)).collect::<Vec<_>>()
        };
        devices.iter().flat_map(of).collect()
    };
    let counts = |tallies: &[Tally], value: fn(u64) -> Value| {
        let of = |device: &Arc<DeviceCells>| {
            tallies.iter().map(|t| device.tally(*t).map(value)).collect::<Vec<_>>()
        };
        devices.iter().flat_map(of).collect()
    };
    let throttle = [Tally::ThrottleThermal, Tally::ThrottlePowerBrake, Tally::ThrottlePowerCap];
    let xid = [Tally::XidFatal, Tally::XidApp, Tally::XidNotice];
    let by_gpu = |children: usize, of: &dyn Fn(&DeviceCells, usize) -> Option<u64>| {
        by_gpu(devices, names, children, of)
    };
    Some(match id {
        Id::GpuUtilization => levels(&[Reading::Utilization], Value::Float),
        Id::GpuMemoryUsed => levels(&[Reading::MemoryUsed], whole),
        Id::GpuMemoryTotal => levels(&[Reading::MemoryTotal], whole),
        // An engine that tells of no pool took nothing beforehand: 0, so that what is used of the
        // rest can be computed for every device with a memory.
        Id::GpuMemoryPreallocated => devices
            .iter()
            .map(|device| {
                let told = device.reading(Reading::MemoryPreallocated);
                told.or(device.reading(Reading::MemoryTotal).map(|_| 0.0)).map(whole)
            })
            .collect(),
        Id::GpuTemperature => levels(&[Reading::Temperature], Value::Float),
        Id::GpuPower => levels(&[Reading::Power], Value::Float),
        Id::GpuPowerLimit => levels(&[Reading::PowerLimit], Value::Float),
        Id::GpuClock => levels(&[Reading::ClockSm, Reading::ClockMemory], whole),
        // From 0 on for every device: an increase cannot be seen from absent to 1.
        Id::GpuAllocFailures => devices
            .iter()
            .map(|device| Some(Value::Int(device.tally(Tally::AllocFailures).unwrap_or(0))))
            .collect(),
        Id::GpuEnergy => counts(&[Tally::Energy], |mj| Value::Float(mj as f64 * 1e-3)),
        Id::GpuThrottle => counts(&throttle, |ns| Value::Float(ns as f64 * 1e-9)),
        Id::GpuXid => counts(&xid, Value::Int),
        Id::GpuEccUncorrected => counts(&[Tally::EccUncorrected], Value::Int),
        Id::GpuPcieReplays => counts(&[Tally::PcieReplays], Value::Int),
        Id::StampsLost => {
            by_gpu(labels::STAMP_LOST.len(), &|device, i| device.stamps.lost[i].get())
        }
        Id::StampsUnclaimed => by_gpu(1, &|device, _| device.stamps.unclaimed.get()),
        Id::ClockJumps => by_gpu(1, &|device, _| device.stamps.clock_jumps.get()),
        Id::CuptiRecords => {
            by_gpu(labels::CUPTI_RECORD.len(), &|device, i| device.stamps.cupti[i].get())
        }
        Id::ClockOffsetError => clocks(devices, names, |(error, _)| error),
        Id::ClockResolution => clocks(devices, names, |(_, resolution)| resolution),
        _ => return None,
    })
}

/// Bytes and hertz are whole numbers.
fn whole(value: f64) -> Value {
    if value >= 0.0 { Value::Int(value as u64) } else { Value::Float(value) }
}

/// Counters labelled by GPU alone: the devices of one `gpu_id` are added up.
fn by_gpu(
    devices: &[Arc<DeviceCells>],
    names: &Names,
    children: usize,
    of: &dyn Fn(&DeviceCells, usize) -> Option<u64>,
) -> Vec<Option<Value>> {
    let mut sums: Vec<Option<u64>> = vec![None; names.len(By::Gpu) * children];
    for (place, device) in devices.iter().enumerate() {
        for child in 0..children {
            if let Some(n) = of(device, child) {
                let sum = &mut sums[names.gpu_of(place as u16) * children + child];
                *sum = Some(sum.unwrap_or(0) + n)
            }
        }
    }
    sums.into_iter().map(|sum| sum.map(Value::Int)).collect()
}

/// Error bound and resolution of a device's clock, in ns.
type Clock = (Option<u64>, Option<u64>);

/// Levels of the devices' clocks, in seconds: of several under one `gpu_id` the worst.
fn clocks(
    devices: &[Arc<DeviceCells>],
    names: &Names,
    pick: fn(Clock) -> Option<u64>,
) -> Vec<Option<Value>> {
    let mut worst: Vec<Option<u64>> = vec![None; names.len(By::Gpu)];
    for (place, device) in devices.iter().enumerate() {
        let there = &mut worst[names.gpu_of(place as u16)];
        *there = (*there).max(pick(device.stamps.clock()))
    }
    worst.into_iter().map(|ns| ns.map(|ns| Value::Float(ns as f64 * 1e-9))).collect()
}
