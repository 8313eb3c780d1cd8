//! Contexts: the device's memory and its state of health; the primary context, and the stack of each thread.

use super::boundary::{Handle, Out, driver_api, handle, id};
use super::code::{Code, Outcome};
use super::config::Config;
use super::graph::Capture;
use super::state::{driver, ready};
use super::table::{fresh_id, lock};
use crate::memory::DeviceMemory;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// The only device there is.
const DEVICE: i32 = 0;

/// One context.
pub(crate) struct Context {
    /// The settings at creation: compute capability and memory do not change under a live context.
    pub(crate) config: Config,
    pub(crate) memory: DeviceMemory,
    /// Held while work runs: the work of one context runs one piece at a time.
    pub(crate) engine: Mutex<()>,
    /// Stream captures under way.
    pub(crate) captures: Mutex<Vec<Arc<Capture>>>,
    flags: AtomicU32,
    sticky: AtomicU32,
    limits: Mutex<HashMap<u32, usize>>,
}

impl Context {
    fn new(flags: u32) -> Context {
        let config = driver().config();
        Context {
            memory: DeviceMemory::new(config.memory_bytes),
            config,
            engine: Mutex::new(()),
            captures: Mutex::default(),
            flags: AtomicU32::new(flags),
            sticky: AtomicU32::new(Code::SUCCESS.0),
            limits: Mutex::default(),
        }
    }

    /// `Err` with the fault's code once a kernel has faulted: such a context answers nothing else until it is reset.
    pub(crate) fn healthy(&self) -> Outcome {
        match Code(self.sticky.load(Ordering::Acquire)) {
            Code::SUCCESS => Ok(()),
            fault => Err(fault),
        }
    }

    /// Records a kernel's fault; the first one stays.
    pub(crate) fn poison(&self, fault: Code) {
        // A second fault loses against the first, on purpose.
        let _ = self.sticky.compare_exchange(Code::SUCCESS.0, fault.0, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// All contexts by handle, and the primary one. The primary context keeps its handle over resets, as in the real driver.
#[derive(Default)]
pub(crate) struct Contexts(Mutex<Known>);

#[derive(Default)]
struct Known {
    live: HashMap<u64, Arc<Context>>,
    primary_id: u64,
    primary_retains: u32,
    primary_flags: u32,
}

thread_local! {
    /// Context ids; the last is current. Id 0 is "no context".
    static STACK: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn current_id() -> u64 {
    STACK.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

fn set_current_id(new: u64) {
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        if new != 0 {
            stack.push(new);
        }
    });
}

/// The calling thread's context, healthy or not.
pub(crate) fn current_any() -> Outcome<Arc<Context>> {
    let contexts = &ready()?.contexts;
    match current_id() {
        0 => Err(Code::INVALID_CONTEXT),
        id => lock(&contexts.0).live.get(&id).cloned().ok_or(Code::CONTEXT_IS_DESTROYED),
    }
}

/// The calling thread's context; the code of its fault if it has one.
pub(crate) fn current() -> Outcome<Arc<Context>> {
    let context = current_any()?;
    context.healthy()?;
    Ok(context)
}

fn check_device(device: i32) -> Outcome {
    if device == DEVICE { Ok(()) } else { Err(Code::INVALID_DEVICE) }
}

impl Contexts {
    fn retain_primary(&self) -> Handle {
        let mut known = lock(&self.0);
        if known.primary_id == 0 {
            known.primary_id = fresh_id();
        }
        if known.primary_retains == 0 {
            let (key, flags) = (known.primary_id, known.primary_flags);
            known.live.entry(key).or_insert_with(|| Arc::new(Context::new(flags)));
        }
        known.primary_retains += 1;
        handle(known.primary_id)
    }

    fn release_primary(&self) -> Outcome<Option<Arc<Context>>> {
        let mut known = lock(&self.0);
        known.primary_retains = known.primary_retains.checked_sub(1).ok_or(Code::INVALID_CONTEXT)?;
        let key = known.primary_id;
        Ok(if known.primary_retains == 0 { known.live.remove(&key) } else { None })
    }

    /// Destroys the primary context's state; those who retained it hold a fresh one under the same handle.
    fn reset_primary(&self) -> Option<Arc<Context>> {
        let mut known = lock(&self.0);
        let (key, flags) = (known.primary_id, known.primary_flags);
        let old = known.live.remove(&key);
        if known.primary_retains > 0 {
            known.live.insert(key, Arc::new(Context::new(flags)));
        }
        old
    }

    /// The handle's number of a live context.
    pub(crate) fn id_of(&self, context: &Arc<Context>) -> Outcome<u64> {
        let known = lock(&self.0);
        let found = known.live.iter().find(|(_, live)| Arc::ptr_eq(live, context));
        found.map(|(id, _)| *id).ok_or(Code::CONTEXT_IS_DESTROYED)
    }

    /// Every context that is alive.
    pub(crate) fn live(&self) -> Vec<Arc<Context>> {
        lock(&self.0).live.values().cloned().collect()
    }

    fn contains(&self, id: u64) -> bool {
        lock(&self.0).live.contains_key(&id)
    }

    fn create(&self, flags: u32) -> u64 {
        let (id, context) = (fresh_id(), Arc::new(Context::new(flags)));
        lock(&self.0).live.insert(id, context);
        id
    }

    fn destroy(&self, id: u64) -> Outcome<Arc<Context>> {
        let mut known = lock(&self.0);
        if id == known.primary_id {
            return Err(Code::INVALID_CONTEXT);
        }
        known.live.remove(&id).ok_or(Code::INVALID_CONTEXT)
    }
}

fn create_context(out: &Out<Handle>, flags: u32, device: i32) -> Outcome {
    let driver = ready()?;
    check_device(device)?;
    if out.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    let id = driver.contexts.create(flags);
    STACK.with_borrow_mut(|stack| stack.push(id));
    out.set(handle(id))
}

driver_api! {
    fn cuDevicePrimaryCtxRetain(out: Out<Handle>, device: i32) {
        let driver = ready()?;
        check_device(device)?;
        if out.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        out.set(driver.contexts.retain_primary())
    }

    fn cuDevicePrimaryCtxRelease_v2(device: i32) {
        let driver = ready()?;
        check_device(device)?;
        if let Some(context) = driver.contexts.release_primary()? {
            driver.retire(&context);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxReset_v2(device: i32) {
        let driver = ready()?;
        check_device(device)?;
        if let Some(context) = driver.contexts.reset_primary() {
            driver.retire(&context);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32) {
        let driver = ready()?;
        check_device(device)?;
        let mut known = lock(&driver.contexts.0);
        known.primary_flags = flags;
        let key = known.primary_id;
        if let Some(context) = known.live.get(&key) {
            context.flags.store(flags, Ordering::Relaxed);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) {
        let driver = ready()?;
        check_device(device)?;
        let known = lock(&driver.contexts.0);
        flags.set(known.primary_flags)?;
        active.set(i32::from(known.live.contains_key(&known.primary_id)))
    }

    fn cuCtxCreate_v2(out: Out<Handle>, flags: u32, device: i32) {
        create_context(&out, flags, device)
    }

    fn cuCtxCreate_v3(out: Out<Handle>, _affinity: Handle, _count: i32, flags: u32, device: i32) {
        create_context(&out, flags, device)
    }

    fn cuCtxCreate_v4(out: Out<Handle>, _parameters: Handle, flags: u32, device: i32) {
        create_context(&out, flags, device)
    }

    fn cuCtxDestroy_v2(context: Handle) {
        let driver = ready()?;
        let gone = driver.contexts.destroy(id(context))?;
        driver.retire(&gone);
        if current_id() == id(context) {
            set_current_id(0);
        }
        Ok(())
    }

    fn cuCtxSetCurrent(context: Handle) {
        let driver = ready()?;
        if !context.is_null() && !driver.contexts.contains(id(context)) {
            return Err(Code::INVALID_CONTEXT);
        }
        set_current_id(id(context));
        Ok(())
    }

    fn cuCtxGetCurrent(out: Out<Handle>) {
        ready()?;
        out.set(handle(current_id()))
    }

    fn cuCtxPushCurrent_v2(context: Handle) {
        if !ready()?.contexts.contains(id(context)) {
            return Err(Code::INVALID_CONTEXT);
        }
        STACK.with_borrow_mut(|stack| stack.push(id(context)));
        Ok(())
    }

    fn cuCtxPopCurrent_v2(out: Out<Handle>) {
        ready()?;
        let popped = STACK.with_borrow_mut(Vec::pop).ok_or(Code::INVALID_CONTEXT)?;
        out.set_if_wanted(handle(popped));
        Ok(())
    }

    fn cuCtxGetDevice(out: Out<i32>) {
        current_any()?;
        out.set(DEVICE)
    }

    fn cuCtxGetApiVersion(context: Handle, out: Out<u32>) {
        if !context.is_null() && !ready()?.contexts.contains(id(context)) {
            return Err(Code::INVALID_CONTEXT);
        }
        out.set(3_020)
    }

    fn cuCtxGetId(context: Handle, out: Out<u64>) {
        if !context.is_null() && !ready()?.contexts.contains(id(context)) {
            return Err(Code::INVALID_CONTEXT);
        }
        out.set(if context.is_null() { current_id() } else { id(context) })
    }

    fn cuCtxGetFlags(out: Out<u32>) {
        out.set(current()?.flags.load(Ordering::Relaxed))
    }

    fn cuCtxSetFlags(flags: u32) {
        current()?.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxSynchronize() {
        let context = current()?;
        super::graph::refuse_during_capture(&context)?;
        super::queue::finish_context(&context)
    }

    fn cuCtxGetLimit(out: Out<usize>, limit: u32) {
        let context = current()?;
        let default = default_limit(limit)?;
        out.set(lock(&context.limits).get(&limit).copied().unwrap_or(default))
    }

    fn cuCtxSetLimit(limit: u32, value: usize) {
        let context = current()?;
        default_limit(limit)?;
        lock(&context.limits).insert(limit, value);
        Ok(())
    }

    fn cuCtxGetCacheConfig(out: Out<u32>) {
        current()?;
        out.set(0)
    }

    fn cuCtxSetCacheConfig(_preference: u32) {
        current().map(drop)
    }

    fn cuCtxGetSharedMemConfig(out: Out<u32>) {
        current()?;
        out.set(1)
    }

    fn cuCtxSetSharedMemConfig(_bank_size: u32) {
        current().map(drop)
    }

    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        current()?;
        least.set_if_wanted(0);
        greatest.set_if_wanted(super::stream::GREATEST_PRIORITY);
        Ok(())
    }
}

/// The default of a limit (`CUlimit`), bytes or counts; unknown ones are unsupported.
fn default_limit(limit: u32) -> Outcome<usize> {
    match limit {
        0 => Ok(1024),    // stack size of a thread
        1 => Ok(1 << 20), // printf buffer
        2 => Ok(8 << 20), // device-side malloc heap
        5 => Ok(128),     // granularity of L2 fetches
        6 => Ok(0),       // persisting L2
        _ => Err(Code::UNSUPPORTED_LIMIT),
    }
}
