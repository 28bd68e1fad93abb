//! Contexts: which one a thread works in, whether it is alive, and its sticky error.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use crate::capture;
use crate::codes::{self, Code};
use crate::lock::lock;
use crate::table::new_handle;
use crate::world::WORLD;

pub struct Context {
    pub handle: usize,
    alive: AtomicBool,
    /// The first fault of a kernel; every later call returns it.
    sticky: AtomicI32,
}

/// The device's shared context. A reset one is replaced by a new one at the next retain.
pub struct Primary {
    pub retained: u32,
    pub context: Option<Arc<Context>>,
}

thread_local! {
    /// The last one is current. 0 = none.
    static STACK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl Context {
    /// A new context, current nowhere.
    pub fn create() -> Arc<Context> {
        let context = Arc::new(Context {
            handle: new_handle(),
            alive: AtomicBool::new(true),
            sticky: AtomicI32::new(codes::SUCCESS),
        });
        WORLD.contexts.insert_at(context.handle, context.clone());
        context
    }

    // The two flags are SeqCst: a thread that saw another's call fail must see why.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    /// What any call that uses the context returns if it can no longer work.
    pub fn check(&self) -> Result<(), Code> {
        if !self.is_alive() {
            return Err(codes::CONTEXT_IS_DESTROYED);
        }
        match self.sticky.load(Ordering::SeqCst) {
            codes::SUCCESS => Ok(()),
            code => Err(code),
        }
    }

    /// Keeps the first fault.
    pub fn fail(&self, code: Code) {
        let _ =
            self.sticky.compare_exchange(codes::SUCCESS, code, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Ends the context: kernels lose its memory, captures are over, later calls return 709.
    pub fn end(&self) {
        self.alive.store(false, Ordering::SeqCst);
        capture::abandon(self.handle);
        WORLD.memory.forget(self.handle);
    }
}

/// The error 3 of a driver that was not initialised.
pub fn require_init() -> Result<(), Code> {
    if WORLD.initialised.load(Ordering::SeqCst) { Ok(()) } else { Err(codes::NOT_INITIALIZED) }
}

/// The calling thread's context, able to work.
pub fn current() -> Result<Arc<Context>, Code> {
    require_init()?;
    let context = WORLD.contexts.get(current_handle()).ok_or(codes::INVALID_CONTEXT)?;
    context.check()?;
    Ok(context)
}

/// The calling thread's context, dead or alive; 0 = none.
pub fn current_handle() -> usize {
    STACK.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

/// A living context that a thread may make current.
fn living(handle: usize) -> Result<(), Code> {
    let known = WORLD.contexts.get(handle).is_some_and(|context| context.is_alive());
    if known { Ok(()) } else { Err(codes::INVALID_CONTEXT) }
}

/// Replaces the top of the thread's stack; 0 takes it off.
pub fn set_current(handle: usize) -> Result<(), Code> {
    if handle != 0 {
        living(handle)?;
    }
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        stack.extend((handle != 0).then_some(handle));
    });
    Ok(())
}

pub fn push(handle: usize) -> Result<(), Code> {
    living(handle)?;
    STACK.with_borrow_mut(|stack| stack.push(handle));
    Ok(())
}

pub fn pop() -> Result<usize, Code> {
    STACK.with_borrow_mut(Vec::pop).ok_or(codes::INVALID_CONTEXT)
}

impl Primary {
    /// The living primary context, made if need be.
    pub fn retain() -> Arc<Context> {
        let mut primary = lock(&WORLD.primary);
        primary.retained += 1;
        if let Some(context) = primary.context.as_ref().filter(|context| context.is_alive()) {
            return context.clone();
        }
        primary.context.insert(Context::create()).clone()
    }

    /// The last release ends the context.
    pub fn release() -> Result<(), Code> {
        let mut primary = lock(&WORLD.primary);
        primary.retained = primary.retained.checked_sub(1).ok_or(codes::INVALID_CONTEXT)?;
        if primary.retained == 0
            && let Some(context) = primary.context.take()
        {
            context.end();
        }
        Ok(())
    }

    /// Ends the context for all who hold it.
    pub fn reset() {
        if let Some(context) = lock(&WORLD.primary).context.take() {
            context.end();
        }
    }

    pub fn is_active() -> bool {
        lock(&WORLD.primary).context.is_some()
    }
}
