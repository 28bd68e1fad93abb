//! The shipped stamp kernels, launched as an engine's thread would, and what they leave in memory.

use super::{devices::*, kernels::*, memory::*, streams::*};
use std::ffi::{CString, c_void};

const TAG: u64 = 3 << 48;

/// Launches one thread of a kernel with 64-bit parameters on the legacy stream.
unsafe fn launch(module: usize, name: &str, mut words: Vec<u64>) {
    let (name, mut function) = (CString::new(name).unwrap(), 0);
    let mut places: Vec<*mut c_void> =
        words.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect();
    // SAFETY: every place lives through the calls; the kernel takes these parameters.
    unsafe {
        assert_eq!(cuModuleGetFunction(&mut function, module, name.as_ptr()), 0);
        let none = std::ptr::null_mut();
        let code = cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, places.as_mut_ptr(), none);
        assert_eq!(code, 0);
        assert_eq!(cuStreamSynchronize(0), 0);
    }
}

fn read(address: u64, words: usize) -> Vec<u64> {
    let mut there = vec![0; words];
    // SAFETY: the vector has so many bytes.
    assert_eq!(unsafe { cuMemcpyDtoH_v2(there.as_mut_ptr().cast(), address, words * 8) }, 0);
    there
}

#[test]
fn stamps_write_their_words_and_an_unarmed_one_is_only_counted() {
    let text = CString::new(include_str!("../../../kernels/stamp.ptx")).unwrap();
    let (mut handle, mut module, mut memory) = (0, 0, 0);
    // SAFETY: places of the right types, alive through the calls.
    unsafe {
        assert_eq!(cuInit(0), 0);
        assert_eq!(cuDevicePrimaryCtxRetain(&mut handle, 0), 0);
        assert_eq!(cuCtxSetCurrent(handle), 0);
        assert_eq!(cuModuleLoadData(&mut module, text.as_ptr()), 0);
        assert_eq!(cuMemAlloc_v2(&mut memory, 256), 0);
        assert_eq!(cuMemsetD8_v2(memory, 0, 256), 0);
    }
    // Ring of two slots at 0, the cell at 128, the unclaimed word at 192.
    let (ring, cell, unclaimed) = (memory, memory + 128, memory + 192);
    // SAFETY: the cell's third word, as attaching writes it.
    unsafe {
        let place = std::ptr::from_ref(&unclaimed).cast();
        assert_eq!(cuMemcpyHtoD_v2(cell + 16, place, 8), 0);
        launch(module, "stepscope_begin", vec![ring + 32, TAG, cell, TAG | 32]);
    }
    assert_eq!(read(cell, 1)[0], TAG | 32, "armed");
    // SAFETY: parameters as the kernels take them.
    unsafe {
        launch(module, "stepscope_mark", vec![ring, cell, 8, 0]);
        launch(module, "stepscope_mark", vec![ring, cell, 24, 1]);
    }
    let slot = read(ring + 32, 4);
    assert!(slot[0] != 0 && slot[0] >> 48 == 3 && slot[1] >> 48 == 3 && slot[3] >> 48 == 3);
    assert_eq!(slot[2], 0);
    assert!(slot[0] <= slot[1] && slot[1] <= slot[3], "in the order of the stream");
    assert_eq!((read(cell, 2), read(unclaimed, 1)[0]), (vec![0, 0], 0), "the end disarmed");
    // SAFETY: as above.
    unsafe { launch(module, "stepscope_mark", vec![ring, cell, 24, 1]) };
    assert_eq!((read(cell, 2), read(unclaimed, 1)[0]), (vec![0, 1], 1), "nobody's stamp");
    // SAFETY: as above.
    unsafe { launch(module, "stepscope_end", vec![ring + 24, TAG, cell]) };
    assert_eq!(read(ring + 24, 1)[0] >> 48, 3);
    // SAFETY: as above.
    unsafe { launch(module, "stepscope_probe", vec![ring, TAG, 64]) };
    let probe = read(ring, 2);
    assert!(probe[0] >> 48 == 3 && probe[1] >> 48 == 3 && probe[1] & 0xffff_ffff_ffff > 0);
}
