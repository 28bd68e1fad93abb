//! The same batches through the C interface: the shared library of this build, opened by hand as an
//! engine in C would have it, with the requests in the engine's own structs.
#![allow(unsafe_code)] // Calls a C interface.

use crate::cases::STEP_NS;
use libloading::Library;
use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};

/// `stepscope_request` and `stepscope_step`: words of the library's.
type CRequest = [u64; 12];
type CStep = [u64; 16];

/// `stepscope_config`, as the header lays it out.
#[repr(C)]
struct Config {
    size: usize,
    texts: [*const c_char; 6],
    listen: *const c_char,
    numbers: [u32; 7],
    switches: [u8; 4],
    manual_clock_ns: u64,
}

/// `stepscope_shape`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Shape {
    prefills: u32,
    prefill_tokens: u32,
    decodes: u32,
}

type Pointer = *mut c_void;

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) -> $answer:ty;)*) => {
        /// The functions that a decode loop needs.
        #[derive(Clone, Copy)]
        struct Functions { $($name: unsafe extern "C" fn($($argument),*) -> $answer),* }

        impl Functions {
            fn find(library: &Library) -> Functions {
                // SAFETY: the types are those of the header.
                unsafe {
                    Functions { $($name: *library
                        .get(concat!("stepscope_", stringify!($name), "\0").as_bytes())
                        .expect(stringify!($name))),* }
                }
            }
        }
    };
}

functions! {
    start: fn(*const Config, *mut Pointer) -> i32;
    recorder_new: fn(Pointer, *const c_char, *const c_char, u32, *mut Pointer) -> i32;
    advance: fn(Pointer, u64) -> i32;
    arrive: fn(Pointer, u32, u64, u64) -> CRequest;
    enqueue: fn(Pointer, *mut CRequest, u64) -> ();
    schedule: fn(Pointer, *mut CRequest, u64, u32, u32) -> ();
    begin_step: fn(Pointer, u64, Shape) -> CStep;
    end_step: fn(Pointer, *mut CStep, u64) -> ();
    tokens: fn(Pointer, *const CStep, *mut CRequest, usize, *const u32, usize) -> ();
    token: fn(Pointer, *const CStep, *mut CRequest, u32) -> ();
}

/// A sequence as an engine keeps it: the request lies among its other fields.
#[repr(C)]
struct Sequence {
    own: [u64; 4],
    request: CRequest,
}

/// A batch of sequences that all decode, in an engine in C.
pub struct CBench {
    c: Functions,
    scope: Pointer,
    recorder: Pointer,
    sequences: Vec<Sequence>,
    step: CStep,
    now: u64,
}

impl CBench {
    /// Every sequence has its first token and decodes.
    pub fn new(batch: usize, ring_events: u32) -> CBench {
        let folder = std::env::current_exe().expect("a path").with_file_name("libstepscope.so");
        // SAFETY: our own library.
        let library = unsafe { Library::new(&folder) }.unwrap_or_else(|why| panic!("{why}"));
        let c = Functions::find(&library);
        // It stays loaded in any case.
        std::mem::forget(library);
        let config = Config {
            size: size_of::<Config>(),
            texts: [null(); 6],
            listen: c"off".as_ptr(),
            numbers: [0; 7],
            switches: [0; 4],
            manual_clock_ns: 1,
        };
        let (mut scope, mut recorder) = (null_mut(), null_mut());
        // SAFETY: as the header asks: live pointers, and no word is kept longer than the call.
        unsafe {
            assert_eq!((c.start)(&config, &mut scope), 0);
            assert_eq!(
                (c.recorder_new)(scope, c"bench".as_ptr(), null(), ring_events, &mut recorder),
                0
            )
        }
        let mut bench =
            CBench { c, scope, recorder, sequences: vec![], step: [0; 16], now: 2_000_000 };
        for id in 0..batch as u64 {
            // SAFETY: the recorder is this thread's, and the request lives where it is told.
            let request = unsafe {
                let mut request = (c.arrive)(recorder, 0, id, 1_000);
                (c.enqueue)(recorder, &mut request, 1_000);
                (c.schedule)(recorder, &mut request, 1_000, 0, 0);
                request
            };
            bench.sequences.push(Sequence { own: [id; 4], request })
        }
        bench.prepare();
        bench.tokens(&vec![1; batch]);
        bench
    }

    /// The next step comes.
    pub fn prepare(&mut self) {
        self.now += STEP_NS;
        let shape = Shape { prefills: 0, prefill_tokens: 0, decodes: self.sequences.len() as u32 };
        // SAFETY: the recorder is this thread's.
        unsafe {
            self.step = (self.c.begin_step)(self.recorder, self.now - 1_000, shape);
            (self.c.end_step)(self.recorder, &mut self.step, self.now)
        }
    }

    /// What is measured: one call for the whole batch.
    #[inline(never)]
    pub fn tokens(&mut self, accepted: &[u32]) {
        let n = self.sequences.len().min(accepted.len());
        let sequences = self.sequences.as_mut_ptr();
        // SAFETY: the vector holds `n` sequences, each with a request at the same place.
        unsafe {
            let first = sequences.byte_add(std::mem::offset_of!(Sequence, request)).cast();
            let stride = size_of::<Sequence>();
            (self.c.tokens)(self.recorder, &self.step, first, stride, accepted.as_ptr(), n)
        }
    }

    /// The same, one call a sequence.
    #[inline(never)]
    pub fn token_by_token(&mut self, accepted: &[u32]) {
        for (sequence, accepted) in self.sequences.iter_mut().zip(accepted) {
            // SAFETY: the recorder is this thread's, and the request lives.
            unsafe { (self.c.token)(self.recorder, &self.step, &mut sequence.request, *accepted) }
        }
    }

    /// Empties the ring, outside of what is measured.
    pub fn drain(&mut self) {
        // SAFETY: the scope lives.
        unsafe { (self.c.advance)(self.scope, self.now) };
    }
}
