//! The C entry points. Each one counts its call, fails if it was told to, and lets no panic out.

mod devices;
mod graphs;
mod kernels;
mod memory;
mod side_door;
mod streams;

#[cfg(test)]
mod tests;

use crate::codes::{self, Code};
use crate::world::WORLD;
use std::ffi::c_int;

/// Runs the body of an entry point: counted, failed on demand, and behind a wall.
fn enter(symbol: &'static str, body: impl FnOnce() -> Result<(), Code>) -> c_int {
    let guarded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        match WORLD.faults.enter(symbol) {
            Some(codes::DROPPED) => codes::SUCCESS,
            Some(code) => code,
            None => body().err().unwrap_or(codes::SUCCESS),
        }
    }));
    guarded.unwrap_or(codes::UNKNOWN)
}

/// Writes a result to the place the caller gave.
///
/// # Safety
/// `place` is null or valid for one value.
unsafe fn give<T>(place: *mut T, value: T) -> Result<(), Code> {
    if place.is_null() {
        return Err(codes::INVALID_VALUE);
    }
    // SAFETY: not null, so valid by the caller's promise.
    unsafe { place.write(value) };
    Ok(())
}

/// Declares entry points; every one is `name(arguments) { body that ends in Result<(), Code> }`.
macro_rules! entries {
    ($(fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $body:block)*) => { $(
        /// The driver's function of this name.
        ///
        /// # Safety
        /// As the CUDA driver API asks of its callers.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, clippy::too_many_arguments)] // The driver's names and signatures.
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> std::ffi::c_int {
            super::enter(stringify!($name), || $body)
        }
    )* };
}
use entries;
