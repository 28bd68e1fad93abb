//! Contexts that end, and contexts that a kernel broke.

use super::*;
use crate::codes;
use crate::memory::DEVICE_VIEW;

/// A kernel that does not end by itself.
const ENDLESS: &str = "L: bra L;";

#[test]
fn a_context_that_ends_takes_its_kernels_and_memory_along_and_says_so() {
    let driver = driver();
    let (stream, place) = (stream(1), memory(8));
    let mut host = [0u64; 8];
    let (mut seen, mut context) = (0, 0);
    // SAFETY: places of the right types; the array lives to the end of the test.
    unsafe {
        assert_eq!(cuMemHostRegister_v2(host.as_mut_ptr().cast(), 64, 3), 0);
        assert_eq!(start(&kernel(ENDLESS), stream, 0), 0);
        assert_eq!(cuDevicePrimaryCtxReset_v2(0), 0);
        assert_eq!(finish(stream), codes::CONTEXT_IS_DESTROYED);
        assert_eq!(allocate(&mut seen, 8), codes::CONTEXT_IS_DESTROYED);
        assert_eq!(cuStreamGetCtx(stream, &mut context), 0, "the number is still known");
        assert_eq!(context, driver.context);
        assert_eq!(cuCtxSetCurrent(driver.context), codes::INVALID_CONTEXT);

        let mut next = 0;
        assert_eq!(cuDevicePrimaryCtxRetain(&mut next, 0), 0);
        assert_ne!(next, driver.context);
        assert_eq!(cuCtxSetCurrent(next), 0);
        assert_eq!(cuMemcpyDtoH_v2(host.as_mut_ptr().cast(), place, 8), codes::ILLEGAL_ADDRESS);
        assert_eq!(cuMemHostRegister_v2(host.as_mut_ptr().cast(), 64, 3), 0, "it was let go");
        assert_eq!(cuMemHostUnregister(host.as_mut_ptr().cast()), 0);
    }
}

#[test]
fn the_last_release_ends_the_primary_context() {
    let _driver = driver();
    let mut active = 0;
    let mut place = 0;
    let state = |active: &mut c_int| {
        let mut flags = 0;
        // SAFETY: places of the right types.
        unsafe { cuDevicePrimaryCtxGetState(0, &mut flags, active) }
    };
    assert_eq!((state(&mut active), active), (0, 1));
    // SAFETY: takes a number. Tests before this one retained it too, and did not release it.
    while active == 1 && unsafe { cuDevicePrimaryCtxRelease_v2(0) } == 0 {
        assert_eq!(state(&mut active), 0)
    }
    assert_eq!(allocate(&mut place, 8), codes::CONTEXT_IS_DESTROYED);
}

#[test]
fn a_thread_without_a_context_is_told_and_its_stack_is_its_own() {
    let driver = driver();
    let (mut place, mut popped) = (0, 0);
    // SAFETY: places of the right types.
    unsafe {
        assert_eq!(std::thread::scope(|s| s.spawn(|| allocate(&mut 0, 8)).join().unwrap()), 201);
        assert_eq!(cuCtxPushCurrent_v2(driver.context), 0);
        assert_eq!(cuCtxSetCurrent(0), 0);
        assert_eq!(allocate(&mut place, 8), 0, "the one below is current again");
        assert_eq!((cuCtxPopCurrent_v2(&mut popped), popped), (0, driver.context));
        assert_eq!(cuCtxPopCurrent_v2(&mut popped), codes::INVALID_CONTEXT);
        assert_eq!(cuCtxPushCurrent_v2(12_345), codes::INVALID_CONTEXT);
    }
}

#[test]
fn an_access_outside_of_known_memory_breaks_the_context_for_good() {
    let mut host = [0u64; 8];
    let address = host.as_mut_ptr().expose_provenance() as u64;
    let store = kernel("st.relaxed.sys.global.u64 [%rd1], 7;");
    let load = kernel("ld.relaxed.gpu.global.u64 %rd2, [%rd1];");
    let update = kernel("atom.global.add.u64 %rd2, [%rd1], 1;");
    type Place = fn(u64) -> u64;
    let outside: [(&str, Place); 5] = [
        ("a number", |_| 0x1000),
        ("behind an allocation", |_| memory(256) + 256),
        ("before an allocation", |_| memory(256) - 8),
        ("pinned memory by its host address", |host| host),
        ("pinned memory behind its end", |host| host + DEVICE_VIEW + 64),
    ];
    for (what, place) in outside {
        for access in [&store, &load, &update] {
            let _driver = driver();
            // SAFETY: the array lives to the end of the test; its context ends before.
            unsafe { assert_eq!(cuMemHostRegister_v2(host.as_mut_ptr().cast(), 64, 3), 0) };
            assert_eq!(start(access, 0, place(address)), 0, "{what}: a launch does not know yet");
            assert_eq!(finish(0), codes::ILLEGAL_ADDRESS, "{what}");
            assert_eq!(allocate(&mut 0, 8), codes::ILLEGAL_ADDRESS, "{what}: it sticks");
            assert_eq!(finish(0), codes::ILLEGAL_ADDRESS, "{what}: it sticks");
        }
    }
    let _driver = driver();
    // SAFETY: as above.
    unsafe { assert_eq!(cuMemHostRegister_v2(host.as_mut_ptr().cast(), 64, 3), 0) };
    assert_eq!((start(&store, 0, address + DEVICE_VIEW + 56), finish(0)), (0, 0));
    // SAFETY: as above.
    unsafe { assert_eq!(cuMemHostUnregister(host.as_mut_ptr().cast()), 0) };
    assert_eq!(host[7], 7, "inside it is fine");
    assert_eq!((start(&store, 0, address + DEVICE_VIEW + 56), finish(0)), (0, 700), "let go");
}
