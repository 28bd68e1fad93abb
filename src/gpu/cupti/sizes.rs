//! Sizes of CUPTI's records by version: an iterator of our own, which the tests hold against CUPTI's.

use super::binding::*;
use super::walk::{Next, u32_at};

/// Bytes of the records whose size differs among versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) kernel: usize,
    pub(super) memcpy: usize,
    pub(super) memset: usize,
    pub(super) graph_trace: usize,
}

const fn sizes(kernel: usize, memcpy: usize, memset: usize, graph_trace: usize) -> Sizes {
    Sizes { kernel, memcpy, memset, graph_trace }
}

/// From CUPTI's version number (first, last) to its sizes, measured on the headers of each.
///
/// 12.0 and 12.1 both call themselves 18; 12.2 to 12.9 count from 20 to 28 (25 was
/// never released); from 13.0 on the number is major * 10,000 + minor * 100 + update.
const TABLE: [(u32, u32, Sizes); 8] = [
    (18, 20, sizes(208, 88, 88, 48)),             // 12.0 to 12.2
    (21, 24, sizes(208, 88, 88, 56)),             // 12.3 to 12.6
    (26, 28, sizes(208, 96, 88, 56)),             // 12.8, 12.9
    (130_000, 130_099, sizes(216, 96, 88, 56)),   // 13.0
    (130_100, 130_299, sizes(224, 96, 88, 56)),   // 13.1, 13.2
    (130_300, 130_399, sizes(232, 96, 88, 56)),   // 13.3
    (130_400, 130_499, sizes(248, 112, 104, 56)), // 13.4
    (130_500, 130_599, sizes(248, 112, 104, 56)), // 13.5
];

impl Sizes {
    /// Sizes of this version; None if it is not known, and its buffers must not be read.
    pub(super) fn of(version: u32) -> Option<Sizes> {
        let row = TABLE.iter().find(|(first, last, _)| (*first..=*last).contains(&version))?;
        Some(row.2)
    }

    /// The record behind the one at `last`, as `cuptiActivityGetNextRecord` finds it. For tests:
    /// production asks the library that wrote the buffer.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) fn next(&self, buffer: &[u8], last: Option<usize>) -> Next {
        let Some(at) = (match last {
            None => Some(0),
            Some(last) => self.size_at(buffer, last).map(|size| last + size),
        }) else {
            return Next::Broken;
        };
        if at == buffer.len() {
            return Next::End;
        }
        match self.size_at(buffer, at) {
            Some(size) if at + size <= buffer.len() => Next::Record(at),
            _ => Next::Broken,
        }
    }

    fn size_at(&self, buffer: &[u8], at: usize) -> Option<usize> {
        Some(match u32_at(buffer, at + RECORD_KIND)? {
            KIND_CONCURRENT_KERNEL => self.kernel,
            KIND_MEMCPY => self.memcpy,
            KIND_MEMSET => self.memset,
            KIND_GRAPH_TRACE => self.graph_trace,
            KIND_EXTERNAL_CORRELATION => EXTERNAL_SIZE,
            KIND_DRIVER | KIND_RUNTIME => API_SIZE,
            _ => return None,
        })
    }
}
