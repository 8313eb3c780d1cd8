//! Tables from opaque handles to objects. A handle that is not in its table is an error, never a wild pointer.

use super::boundary::{Handle, handle, id};
use super::code::{Code, Outcome};
use super::context::Context;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: the tables hold no state that a panic can leave half changed.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new number that no handle of any table has had.
pub(crate) fn fresh_id() -> u64 {
    // Starts above CU_STREAM_LEGACY and CU_STREAM_PER_THREAD, and looks like an aligned pointer.
    static NEXT: AtomicU64 = AtomicU64::new(0x1000);
    NEXT.fetch_add(0x10, Ordering::Relaxed)
}

/// Objects that die with their context.
pub(crate) trait InContext {
    fn context(&self) -> &Arc<Context>;
}

/// One kind of object by handle.
pub(crate) struct Table<T>(Mutex<HashMap<u64, Arc<T>>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table(Mutex::new(HashMap::new()))
    }
}

impl<T: InContext> Table<T> {
    pub(crate) fn insert(&self, object: Arc<T>) -> Handle {
        let id = fresh_id();
        lock(&self.0).insert(id, object);
        handle(id)
    }

    /// The object, whatever state its context is in.
    pub(crate) fn find(&self, handle: Handle) -> Outcome<Arc<T>> {
        lock(&self.0).get(&id(handle)).cloned().ok_or(Code::INVALID_HANDLE)
    }

    /// The object, if its context has seen no fault.
    pub(crate) fn get(&self, handle: Handle) -> Outcome<Arc<T>> {
        let object = self.find(handle)?;
        object.context().healthy()?;
        Ok(object)
    }

    /// Takes the object out; the handle is invalid from now on.
    pub(crate) fn remove(&self, handle: Handle) -> Outcome<Arc<T>> {
        let object = lock(&self.0).remove(&id(handle)).ok_or(Code::INVALID_HANDLE)?;
        object.context().healthy()?;
        Ok(object)
    }

    /// What belongs to `context`.
    pub(crate) fn of(&self, context: &Arc<Context>) -> Vec<Arc<T>> {
        lock(&self.0).values().filter(|object| Arc::ptr_eq(object.context(), context)).cloned().collect()
    }

    /// Drops what belongs to `context`.
    pub(crate) fn purge(&self, context: &Arc<Context>) {
        // Dropped outside the lock: an object's drop may look at tables.
        let gone: Vec<Arc<T>> = {
            let mut items = lock(&self.0);
            let ids: Vec<u64> = items
                .iter()
                .filter(|(_, object)| Arc::ptr_eq(object.context(), context))
                .map(|(id, _)| *id)
                .collect();
            ids.iter().filter_map(|id| items.remove(id)).collect()
        };
        drop(gone);
    }
}
