//! Which kernels are taken, and when what they store can be seen.

use super::*;
use crate::codes;
use std::time::{Duration, Instant};

#[test]
fn a_text_that_is_not_fully_understood_is_refused_when_it_is_loaded() {
    let _driver = driver();
    let good = kernel("st.global.u64 [%rd1], 7;");
    assert_eq!(load(&good).0, 0);
    for (from, to) in [
        (".version 6.0", ".version 9.0"),
        (".version 6.0", ".version 5.0"),
        (".version 6.0", ""),
        (".target sm_70", ".target sm_90"),
        (".target sm_70", ""),
        ("st.global.u64 [%rd1], 7;", "brev.b64 %rd2, %rd1;"),
        ("st.global.u64 [%rd1], 7;", "fma.rn.f32 %r1, %r1, %r1, %r1;"),
        ("st.global.u64 [%rd1], 7;", "st.shared.u64 [%rd1], 7;"),
        ("st.global.u64 [%rd1], 7;", "atom.global.cas.b64 %rd2, [%rd1], %rd3, %rd4;"),
        ("st.global.u64 [%rd1], 7;", "mov.u64 %rd2, %clock64;"),
        ("st.global.u64 [%rd1], 7;", "st.global.u64 [%rd99], 7;"),
        ("st.global.u64 [%rd1], 7;", "bra NOWHERE;"),
        ("ld.param.u64 %rd1, [a];", "ld.param.u64 %rd1, [b];"),
        (".visible .entry", ".global .u64 word;\n.visible .entry"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        assert_eq!(load(&changed).0, codes::UNSUPPORTED_PTX_VERSION, "{to}");
    }
}

#[test]
fn an_access_across_its_own_size_is_misaligned() {
    let _driver = driver();
    let place = memory(16);
    assert_eq!(start(&kernel("st.global.u64 [%rd1], 7;"), 0, place + 4), 0);
    assert_eq!(finish(0), codes::MISALIGNED_ADDRESS);
}

#[test]
fn late_stores_are_those_of_system_scope_and_they_do_come() {
    let _driver = driver();
    let place = memory(16);
    // SAFETY: memory of that length, and a terminated text.
    unsafe {
        assert_eq!(cuMemsetD8_v2(place, 0, 16), 0);
        assert_eq!(fakecuda_set(c"late_ns".as_ptr(), 200_000_000), 0);
    }
    let both =
        kernel("st.relaxed.sys.global.u64 [%rd1], 7;\nst.relaxed.gpu.global.u64 [%rd1+8], 8;");
    let started = Instant::now();
    assert_eq!((start(&both, 0, place), finish(0)), (0, 0));
    let seen = read(place, 2);
    // A machine that stood still in between proves nothing, and then there is nothing to see.
    if started.elapsed() < Duration::from_millis(200) {
        assert_eq!(seen, [0, 8], "the kernel has ended, and one store is under way");
    }
    while read(place, 1)[0] != 7 {
        assert!(started.elapsed() < Duration::from_secs(10), "the late store never came");
        std::thread::sleep(Duration::from_millis(1))
    }
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[test]
fn a_late_store_to_memory_that_is_gone_is_dropped() {
    let _driver = driver();
    let (place, other) = (memory(8), memory(8));
    let store = kernel("st.relaxed.sys.global.u64 [%rd1], 7;");
    // SAFETY: a terminated text, and an address that an allocation gave.
    unsafe {
        assert_eq!(cuMemsetD8_v2(other, 0, 8), 0);
        assert_eq!(fakecuda_set(c"late_ns".as_ptr(), 20_000_000), 0);
        assert_eq!((start(&store, 0, place), start(&store, 0, other), finish(0)), (0, 0, 0));
        assert_eq!(cuMemFree_v2(place), 0);
    }
    let started = Instant::now();
    while read(other, 1)[0] != 7 {
        assert!(started.elapsed() < Duration::from_secs(10), "stores come in their order");
        std::thread::sleep(Duration::from_millis(1))
    }
    assert_eq!(finish(0), 0, "and the context is well");
}

/// As the driver's manual says of pageable host memory: what is copied in may be reused at once, and
/// what is copied out is there.
#[test]
fn copies_of_pageable_memory_are_over_for_the_host_when_the_call_returns() {
    let _driver = driver();
    let (place, stream) = (memory(8), stream(1));
    // The stream is busy when the copies come.
    let busy = kernel("mov.u32 %r1, 20000000;\nnanosleep.u32 %r1;\nst.global.u64 [%rd1], 1;");
    let (mut word, mut out, mut pinned) = (7u64, 0u64, Box::new(8u64));
    let pinned = std::ptr::from_mut(&mut *pinned);
    // SAFETY: places of 8 bytes that live to the end of the test; the stream is waited for.
    unsafe {
        assert_eq!(start(&busy, stream, place), 0);
        assert_eq!(cuMemcpyHtoDAsync_v2(place, std::ptr::from_ref(&word).cast(), 8, stream), 0);
        std::ptr::from_mut(&mut word).write_volatile(0);
        assert_eq!(cuMemcpyDtoHAsync_v2(std::ptr::from_mut(&mut out).cast(), place, 8, stream), 0);
        assert_eq!(std::ptr::from_ref(&out).read_volatile(), 7);

        // Pinned memory is read when its turn comes, so its owner has to wait.
        assert_eq!(cuMemHostRegister_v2(pinned.cast(), 8, 3), 0);
        assert_eq!(start(&busy, stream, place), 0);
        assert_eq!(cuMemcpyHtoDAsync_v2(place, pinned.cast(), 8, stream), 0);
        pinned.write_volatile(9);
        assert_eq!(finish(stream), 0);
        assert_eq!(cuMemHostUnregister(pinned.cast()), 0);
    }
    assert_eq!(read(place, 1)[0], 9);
}
