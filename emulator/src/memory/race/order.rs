//! Order between threads by fences and strong accesses: what a thread did before a fence and a strong write is known
//! to a thread that reads what was written, and then passes a fence.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a warp had done and known at a fence.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) block: u32,
    /// For each warp of that block, the time up to which its accesses come before.
    pub(crate) times: Vec<u32>,
    pub(crate) acquired: Acquired,
}

/// All that was published at one address, in order.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    count: usize,
    by_block: HashMap<u32, Vec<(usize, Arc<Snapshot>)>>,
}

/// Logs, each up to an entry, that a thread has read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acquired {
    logs: Vec<(Arc<Log>, usize)>,
}

/// How many links of a chain of publications are followed.
const DEPTH: u32 = 6;

impl Acquired {
    pub(crate) fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// Adds what another thread knows.
    pub(crate) fn join(&mut self, other: &Acquired) {
        for (log, count) in &other.logs {
            self.add(log.clone(), *count);
        }
    }

    fn add(&mut self, log: Arc<Log>, count: usize) {
        match self.logs.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &log)) {
            Some((_, known)) => *known = (*known).max(count),
            None => self.logs.push((log, count)),
        }
    }

    /// Whether what a warp of another block did up to a time is known.
    pub(crate) fn knows(&self, block: u32, warp: u32, time: u32) -> bool {
        self.any(block, DEPTH, &|snapshot| {
            snapshot.times.get(warp as usize).is_some_and(|known| time <= *known)
        })
    }

    /// Whether anything of another block is known.
    pub(crate) fn knows_of(&self, block: u32) -> bool {
        self.any(block, DEPTH, &|_| true)
    }

    /// The times of the warps of a block that are known, joined.
    pub(crate) fn times_of(&self, block: u32, warps: usize) -> Option<Vec<u32>> {
        let times = std::cell::RefCell::new(None);
        self.any(block, DEPTH, &|snapshot| {
            let mut times = times.borrow_mut();
            let times = times.get_or_insert_with(|| vec![0; warps]);
            for (time, known) in times.iter_mut().zip(&snapshot.times) {
                *time = (*time).max(*known);
            }
            false
        });
        times.into_inner()
    }

    fn any(&self, block: u32, depth: u32, found: &dyn Fn(&Snapshot) -> bool) -> bool {
        self.logs.iter().any(|(log, count)| {
            let entries = log.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let own = entries.by_block.get(&block).into_iter().flatten();
            if own.clone().any(|(index, snapshot)| index < count && found(snapshot)) {
                return true;
            }
            if depth == 0 {
                return false;
            }
            let others: Vec<Arc<Snapshot>> = entries
                .by_block
                .iter()
                .filter(|(other, _)| **other != block)
                .flat_map(|(_, list)| {
                    list.iter().filter(|(index, s)| index < count && !s.acquired.is_empty())
                })
                .map(|(_, snapshot)| snapshot.clone())
                .collect();
            drop(entries);
            others.iter().any(|snapshot| snapshot.acquired.any(block, depth - 1, found))
        })
    }
}

/// The logs of all addresses that strong accesses went to.
#[derive(Default)]
pub(crate) struct SyncTable {
    logs: Mutex<HashMap<u64, Arc<Log>>>,
}

impl SyncTable {
    /// A strong write publishes a snapshot.
    pub(crate) fn publish(&self, address: u64, snapshot: &Arc<Snapshot>) {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let log = logs.entry(address).or_default();
        let mut entries = log.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let index = entries.count;
        let list = entries.by_block.entry(snapshot.block).or_default();
        if list.last().is_some_and(|(_, last)| Arc::ptr_eq(last, snapshot)) {
            return;
        }
        list.push((index, snapshot.clone()));
        entries.count += 1;
    }

    /// A strong read sees what was published so far.
    pub(crate) fn read(&self, address: u64, into: &mut Acquired) {
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = logs.get(&address) {
            let count = log.entries.lock().unwrap_or_else(PoisonError::into_inner).count;
            into.add(log.clone(), count);
        }
    }

    pub(crate) fn clear(&self) {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
