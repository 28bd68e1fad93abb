//! Ctrl-C: the first one ends the run early and in order, the second one at once.

use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell expects of a program that SIGINT ended.
const ENDED_BY_SIGINT: i32 = 130;

/// Whether somebody wants the run to end.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for Ctrl-C from here on.
    ///
    /// # Errors
    /// The system refuses a signal handler.
    pub fn install() -> Result<Interrupt> {
        let interrupt = Interrupt(Arc::new(AtomicBool::new(false)));
        let seen = interrupt.clone();
        ctrlc::set_handler(move || {
            if seen.0.swap(true, Ordering::Relaxed) {
                std::process::exit(ENDED_BY_SIGINT)
            }
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(interrupt)
    }

    /// Somebody pressed it.
    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
