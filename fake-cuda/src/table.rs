//! Handles: numbers that stand for objects, so that a stale one is an error and never a wild pointer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::lock::lock;

/// Above the three special stream handles, and easy to recognise in a debugger.
static NEXT: AtomicUsize = AtomicUsize::new(0xFA4E_0000);
const STRIDE: usize = 0x10;

/// A number that no other handle of this driver has had.
pub fn new_handle() -> usize {
    // Relaxed: only the number counts, nothing is published with it.
    NEXT.fetch_add(STRIDE, Ordering::Relaxed)
}

/// All living objects of one kind.
pub struct Table<T>(Mutex<BTreeMap<usize, Arc<T>>>);

impl<T> Table<T> {
    pub const fn new() -> Table<T> {
        Table(Mutex::new(BTreeMap::new()))
    }

    pub fn insert(&self, object: T) -> usize {
        let handle = new_handle();
        self.insert_at(handle, Arc::new(object));
        handle
    }

    pub fn insert_at(&self, handle: usize, object: Arc<T>) {
        lock(&self.0).insert(handle, object);
    }

    pub fn get(&self, handle: usize) -> Option<Arc<T>> {
        lock(&self.0).get(&handle).cloned()
    }

    pub fn remove(&self, handle: usize) -> Option<Arc<T>> {
        lock(&self.0).remove(&handle)
    }

    pub fn all(&self) -> Vec<Arc<T>> {
        lock(&self.0).values().cloned().collect()
    }
}
