//! Calls that are made to fail, through the door that tests use.

use super::*;

/// The codes of so many allocations in a row, and whether each gave memory.
fn allocations(count: usize) -> Vec<(c_int, bool)> {
    (0..count)
        .map(|_| {
            let mut place = 0;
            (allocate(&mut place, 8), place != 0)
        })
        .collect()
}

fn calls(symbol: &std::ffi::CStr) -> u64 {
    // SAFETY: a terminated text.
    unsafe { fakecuda_calls(symbol.as_ptr()) }
}

#[test]
fn a_planned_failure_skips_and_counts_and_every_call_is_counted() {
    let _driver = driver();
    let before = (calls(c"cuMemAlloc_v2"), calls(c"*"));
    // SAFETY: a terminated text.
    unsafe { fakecuda_fail(c"cuMemAlloc_v2".as_ptr(), 2, 3, 304) };
    let (fine, failed) = ((0, true), (304, false));
    assert_eq!(allocations(6), [fine, fine, failed, failed, failed, fine]);
    assert_eq!((calls(c"cuMemAlloc_v2"), calls(c"*")), (before.0 + 6, before.1 + 6));

    // SAFETY: as above. A new plan replaces the old one, and a count of 0 ends it.
    unsafe { fakecuda_fail(c"cuMemAlloc_v2".as_ptr(), 0, u64::MAX, 304) };
    assert_eq!(allocations(2), [failed, failed]);
    // SAFETY: as above.
    unsafe { fakecuda_fail(c"cuMemAlloc_v2".as_ptr(), 0, 0, 304) };
    assert_eq!(allocations(1), [fine]);
    assert_eq!(calls(c"cuNothing"), 0);
}

#[test]
fn code_minus_one_reports_success_and_does_nothing() {
    let _driver = driver();
    let place = memory(8);
    // SAFETY: terminated texts and memory of that length.
    unsafe {
        assert_eq!(cuMemsetD8_v2(place, 1, 8), 0);
        fakecuda_fail(c"cuMemsetD8_v2".as_ptr(), 0, 1, -1);
        assert_eq!(cuMemsetD8_v2(place, 2, 8), 0);
        assert_eq!(read(place, 1)[0], 0x0101_0101_0101_0101, "dropped");
        assert_eq!(cuMemsetD8_v2(place, 2, 8), 0);
        assert_eq!(read(place, 1)[0], 0x0202_0202_0202_0202);
        fakecuda_fail(c"cuMemAlloc_v2".as_ptr(), 0, 1, -1);
    }
    assert_eq!(allocations(2), [(0, false), (0, true)]);
}

#[test]
fn a_plan_for_all_calls_hits_the_next_one_whatever_it_is() {
    let _driver = driver();
    // SAFETY: a terminated text.
    unsafe { fakecuda_fail(c"*".as_ptr(), 1, 1, 46) };
    let mut version = 0;
    // SAFETY: a place of the right type.
    let codes = [(); 3].map(|()| unsafe { cuDriverGetVersion(&mut version) });
    assert_eq!(codes, [0, 46, 0]);
}

#[test]
fn an_unknown_knob_is_an_error() {
    let _driver = driver();
    // SAFETY: a terminated text, and null.
    unsafe {
        assert_eq!(fakecuda_set(c"nothing".as_ptr(), 1), -1);
        assert_eq!(fakecuda_set(std::ptr::null(), 1), -1);
    }
}
