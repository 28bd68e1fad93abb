//! Everything this copy of the driver knows, in one place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::thread::ThreadId;

use crate::capture::Capture;
use crate::clock::Clock;
use crate::context::{Context, Primary};
use crate::event::Event;
use crate::faults::Faults;
use crate::late::LateStores;
use crate::memory::Memory;
use crate::ptx::{Kernel, Kernels};
use crate::stream::{Exec, Stream, Work};
use crate::table::Table;

/// One per loaded copy of the library: copies under different paths are different drivers.
pub static WORLD: World = World {
    initialised: AtomicBool::new(false),
    launch_ns: AtomicU64::new(0),
    clock: Clock::new(),
    memory: Memory::new(),
    faults: Faults::new(),
    late: LateStores::new(),
    primary: Mutex::new(Primary { retained: 0, context: None }),
    contexts: Table::new(),
    streams: Table::new(),
    default_streams: LazyLock::new(Mutex::default),
    events: Table::new(),
    modules: Table::new(),
    functions: Table::new(),
    graphs: Table::new(),
    executables: Table::new(),
    captures: Mutex::new(Vec::new()),
};

/// By context and thread; no thread = the legacy stream.
pub type DefaultStreams = HashMap<(usize, Option<ThreadId>), Arc<Stream>>;

pub struct World {
    /// `cuInit` has been called.
    pub initialised: AtomicBool,
    /// Host time that a launch takes.
    pub launch_ns: AtomicU64,
    pub clock: Clock,
    pub memory: Memory,
    pub faults: Faults,
    pub late: LateStores,
    pub primary: Mutex<Primary>,
    /// Dead ones stay, so that their handle can be told from a number that never was one.
    pub contexts: Table<Context>,
    pub streams: Table<Stream>,
    /// The legacy stream (no thread) and the per-thread streams of each context.
    pub default_streams: LazyLock<Mutex<DefaultStreams>>,
    pub events: Table<Event>,
    pub modules: Table<Module>,
    pub functions: Table<Function>,
    pub graphs: Table<Vec<Work>>,
    pub executables: Table<Exec>,
    /// The captures that have begun and not ended.
    pub captures: Mutex<Vec<Arc<Capture>>>,
}

pub struct Module {
    pub kernels: Kernels,
}

/// Valid as long as its module is loaded.
pub struct Function {
    pub module: Weak<Module>,
    pub kernel: Arc<Kernel>,
}
