//! What the driver's functions promise, called as an engine's threads would; here: the shipped stamp
//! kernels, and what they leave in memory.

mod captures;
mod contexts;
mod faults;
mod kernels;

use super::{devices::*, kernels::*, memory::*, side_door::*, streams::*};
use crate::lock::lock;
use std::ffi::{CString, c_int, c_void};
use std::sync::{Mutex, MutexGuard};

const TAG: u64 = 3 << 48;

/// The driver with a new context that is current on this thread, for one test at a time.
struct Driver {
    context: usize,
    _alone: MutexGuard<'static, ()>,
}

fn driver() -> Driver {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = lock(&ALONE);
    let mut context = 0;
    // SAFETY: a place of the right type.
    unsafe {
        assert_eq!(cuInit(0), 0);
        assert_eq!(cuDevicePrimaryCtxReset_v2(0), 0);
        assert_eq!(cuDevicePrimaryCtxRetain(&mut context, 0), 0);
        assert_eq!(cuCtxSetCurrent(context), 0);
    }
    Driver { context, _alone: alone }
}

impl Driver {
    /// Runs `work` on another thread in the same context.
    fn elsewhere<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let context = self.context;
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                // SAFETY: takes a number.
                assert_eq!(unsafe { cuCtxSetCurrent(context) }, 0);
                work()
            });
            there.join().unwrap()
        })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: terminated texts.
        unsafe {
            assert_eq!(fakecuda_set(c"late_ns".as_ptr(), 0), 0);
            for symbol in [c"*", c"cuMemAlloc_v2", c"cuMemsetD8_v2"] {
                fakecuda_fail(symbol.as_ptr(), 0, 0, 0)
            }
        }
    }
}

/// Uninitialised device memory.
fn memory(bytes: usize) -> u64 {
    let mut memory = 0;
    assert_eq!(allocate(&mut memory, bytes), 0);
    memory
}

fn allocate(memory: &mut u64, bytes: usize) -> c_int {
    // SAFETY: a place of the right type.
    unsafe { cuMemAlloc_v2(memory, bytes) }
}

fn stream(flags: u32) -> usize {
    let mut stream = 0;
    // SAFETY: a place of the right type.
    assert_eq!(unsafe { cuStreamCreate(&mut stream, flags) }, 0);
    stream
}

/// A kernel `k(a)` with a few registers, of the version and target that are known.
fn kernel(body: &str) -> String {
    format!(
        ".version 6.0\n.target sm_70\n.address_size 64\n.visible .entry k(.param .u64 a)\n{{\n\
         .reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %rd<8>;\n\
         ld.param.u64 %rd1, [a];\n{body}\nret;\n}}\n"
    )
}

/// The code that loading a text gives, and its module.
fn load(text: &str) -> (c_int, usize) {
    let (text, mut module) = (CString::new(text).unwrap(), 0);
    // SAFETY: a terminated text and a place of the right type.
    let code = unsafe { cuModuleLoadData(&mut module, text.as_ptr()) };
    (code, module)
}

/// Launches one thread of `k(a)` on a stream; the driver's code.
fn start(text: &str, stream: usize, mut a: u64) -> c_int {
    let (code, module) = load(text);
    assert_eq!(code, 0, "{text}");
    let (mut function, none) = (0, std::ptr::null_mut());
    let mut places = [std::ptr::from_mut(&mut a).cast::<c_void>()];
    // SAFETY: the places live through the calls; the kernel takes one parameter.
    unsafe {
        assert_eq!(cuModuleGetFunction(&mut function, module, c"k".as_ptr()), 0);
        cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, places.as_mut_ptr(), none)
    }
}

/// Waits for a stream; the driver's code.
fn finish(stream: usize) -> c_int {
    // SAFETY: takes a number.
    unsafe { cuStreamSynchronize(stream) }
}

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
    let _driver = driver();
    let (code, module) = load(include_str!("../../../kernels/stamp.ptx"));
    assert_eq!(code, 0);
    let memory = memory(256);
    // SAFETY: memory of that length.
    assert_eq!(unsafe { cuMemsetD8_v2(memory, 0, 256) }, 0);
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
