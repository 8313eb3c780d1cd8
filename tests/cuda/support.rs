//! The device under test, random problems, and a step's results on the host.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use inbatch::cuda::{self, Device};
use inbatch::{Element, LossConfig, Problem};
use ptx_emulator_harness::Emulator;

/// The device, for one test at a time: counters and the emulator's records are one per process.
pub(crate) struct Gpu {
    pub device: Device,
    pub emulator: Option<Emulator>,
    _turn: Option<Turn>,
}

/// A test's turn with the device.
pub(crate) type Turn = MutexGuard<'static, ()>;

/// Waits for a turn.
pub(crate) fn turn() -> Turn {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// A device of the emulator's, for one who has the turn.
    pub(crate) fn of_turn(_turn: &Turn, device: Device, emulator: Emulator) -> Self {
        Self { device, emulator: Some(emulator), _turn: None }
    }
}

/// Picks the device, prints it and what will run on it, once.
pub(crate) fn gpu() -> Gpu {
    // Kept for the whole process: kernels are loaded once.
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let turn = turn();
    // What an earlier test provoked on purpose is not this one's.
    let emulator = ptx_emulator_harness::device().expect("a device to test on").emulator();
    if let Some(emulator) = emulator {
        emulator.clear();
    }
    let device = DEVICE.get_or_init(|| {
        // Few multiprocessors make few splits, so that a block sees several tiles.
        if let Some(emulator) = emulator {
            emulator.set("multiprocessors", "1").expect("a setting of the emulator");
        }
        let device = Device::new(0).expect("the device");
        println!("device: {}", device.name());
        for file in cuda::ptx() {
            println!("ptx: {} {:016x}", file.name, hash(file.text));
        }
        device
    });
    Gpu { device: device.clone(), emulator, _turn: Some(turn) }
}

impl Gpu {
    /// The same emulator with another value of a setting, in a context of its own; a real GPU is what it is.
    pub(crate) fn with_setting(mut self, name: &str, value: &str, usual: &str) -> Self {
        if let Some(emulator) = self.emulator {
            emulator.set(name, value).expect("a setting of the emulator");
            let context = cudarc::driver::CudaContext::new_non_primary(0, 0).expect("a context");
            self.device = Device::on_stream(context.default_stream()).expect("the device");
            emulator.set(name, usual).expect("a setting of the emulator");
        }
        self
    }

    /// So many multiprocessors that a sweep is cut into several ranges.
    pub(crate) fn with_multiprocessors(self, count: usize) -> Self {
        self.with_setting("multiprocessors", &count.to_string(), "1")
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let report = self.emulator.and_then(|emulator| emulator.report());
        if !std::thread::panicking() {
            assert!(report.is_none(), "the emulator found a defect: {}", report.unwrap().text);
        }
    }
}

/// FNV-1a of a text.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A small random generator (splitmix64), so that a seed names a problem.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Uniform in [low, high).
    pub(crate) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1u64 << 24) as f32;
        low + (high - low) * unit
    }

    pub(crate) fn values<T: Element>(&mut self, n: usize) -> Vec<T> {
        (0..n).map(|_| T::from_f32(self.uniform(-1.0, 1.0))).collect()
    }

    pub(crate) fn floats(&mut self, n: usize, low: f32, high: f32) -> Vec<f32> {
        (0..n).map(|_| self.uniform(low, high)).collect()
    }

    /// Ids with many duplicates, some equal in their low or in their high 32 bits only.
    pub(crate) fn ids(&mut self, n: usize) -> Vec<i64> {
        (0..n).map(|_| (self.below(5) | (self.below(3) << 32)) as i64 - 4).collect()
    }
}

/// One problem on the host.
#[derive(Clone, Debug)]
pub(crate) struct Case<T> {
    pub dim: usize,
    pub offset: usize,
    pub users: Vec<T>,
    pub items: Vec<T>,
    pub extra: Vec<T>,
    pub log_q: Vec<f32>,
    pub extra_log_q: Vec<f32>,
    pub item_ids: Vec<i64>,
    pub extra_item_ids: Vec<i64>,
    pub user_ids: Vec<i64>,
    pub weights: Vec<f32>,
}

/// Rows, batch columns, extra columns, dimension, offset.
pub(crate) type Shape = (usize, usize, usize, usize, usize);

impl<T: Element> Case<T> {
    pub(crate) fn random((rows, batch, extra, dim, offset): Shape, seed: u64) -> Self {
        let mut random = Random(seed);
        Self {
            dim,
            offset,
            users: random.values(rows * dim),
            items: random.values(batch * dim),
            extra: random.values(extra * dim),
            log_q: random.floats(batch, -9.0, 0.5),
            extra_log_q: random.floats(extra, -9.0, 0.5),
            item_ids: random.ids(batch),
            extra_item_ids: random.ids(extra),
            user_ids: random.ids(rows),
            weights: random.floats(rows, -0.5, 2.0),
        }
    }

    /// The same numbers in a type that holds them all.
    pub(crate) fn widened(&self) -> Case<f32> {
        let widen = |values: &[T]| values.iter().map(|value| value.to_f32()).collect();
        let Self { dim, offset, users, items, extra, .. } = self;
        Case {
            dim: *dim,
            offset: *offset,
            users: widen(users),
            items: widen(items),
            extra: widen(extra),
            log_q: self.log_q.clone(),
            extra_log_q: self.extra_log_q.clone(),
            item_ids: self.item_ids.clone(),
            extra_item_ids: self.extra_item_ids.clone(),
            user_ids: self.user_ids.clone(),
            weights: self.weights.clone(),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.users.len() / self.dim
    }

    pub(crate) fn problem(&self) -> Problem {
        Problem {
            rows: self.rows(),
            dim: self.dim,
            batch_columns: self.items.len() / self.dim,
            extra_columns: self.extra.len() / self.dim,
            bank_columns: 0,
            row_negatives: 0,
            pool: None,
            offset: self.offset,
            dtype: T::DTYPE,
        }
    }
}

/// The same problem in device memory.
pub(crate) struct OnDevice<T> {
    pub dim: usize,
    pub offset: usize,
    pub users: Slice<T>,
    pub items: Slice<T>,
    pub extra: Slice<T>,
    pub log_q: Slice<f32>,
    pub extra_log_q: Slice<f32>,
    pub item_ids: Slice<i64>,
    pub extra_item_ids: Slice<i64>,
    pub user_ids: Slice<i64>,
    pub weights: Slice<f32>,
}

pub(crate) type Slice<T> = cudarc::driver::CudaSlice<T>;

pub(crate) trait Real: Element + cudarc::driver::DeviceRepr {}
impl<T: Element + cudarc::driver::DeviceRepr> Real for T {}

impl<T: Real> OnDevice<T> {
    pub(crate) fn new(device: &Device, case: &Case<T>) -> Self {
        let stream = device.stream();
        // A zero-length allocation is an error on some drivers, so empty parts get one unused element.
        Self {
            dim: case.dim,
            offset: case.offset,
            users: stream.clone_htod(&case.users).unwrap(),
            items: stream.clone_htod(&case.items).unwrap(),
            extra: stream.clone_htod(&non_empty(&case.extra)).unwrap(),
            log_q: stream.clone_htod(&case.log_q).unwrap(),
            extra_log_q: stream.clone_htod(&non_empty(&case.extra_log_q)).unwrap(),
            item_ids: stream.clone_htod(&case.item_ids).unwrap(),
            extra_item_ids: stream.clone_htod(&non_empty(&case.extra_item_ids)).unwrap(),
            user_ids: stream.clone_htod(&case.user_ids).unwrap(),
            weights: stream.clone_htod(&case.weights).unwrap(),
        }
    }

    /// Overwrites the embeddings in place, so that a captured graph sees them.
    pub(crate) fn refill(&mut self, device: &Device, case: &Case<T>) {
        let stream = device.stream();
        stream.memcpy_htod(&case.users, &mut self.users).unwrap();
        stream.memcpy_htod(&case.items, &mut self.items).unwrap();
        stream.memcpy_htod(&case.log_q, &mut self.log_q).unwrap();
        stream.memcpy_htod(&case.item_ids, &mut self.item_ids).unwrap();
        stream.synchronize().unwrap();
    }

    /// Everything that the case has; weights only if asked, as some reductions then divide by them.
    pub(crate) fn batch(&self, with_extra: bool, weighted: bool) -> cuda::Batch<'_, T> {
        let mut batch = cuda::Batch::new(&self.users, &self.items, self.dim)
            .offset(self.offset)
            .log_q(&self.log_q)
            .item_ids(&self.item_ids)
            .user_ids(&self.user_ids);
        if with_extra {
            let extra = cuda::Items::new(&self.extra).log_q(&self.extra_log_q).item_ids(&self.extra_item_ids);
            batch = batch.extra(extra);
        }
        if weighted {
            batch = batch.weights(&self.weights);
        }
        batch
    }

    pub(crate) fn pushed(&self) -> cuda::Items<'_, T> {
        cuda::Items::new(&self.items).log_q(&self.log_q).item_ids(&self.item_ids)
    }
}

fn non_empty<T: Default + Clone>(values: &[T]) -> Vec<T> {
    if values.is_empty() { vec![T::default()] } else { values.to_vec() }
}

/// A step's results, as bits where bits are compared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Results<G> {
    pub loss: Option<u32>,
    pub row_losses: Vec<u32>,
    pub log_sum_exp: Vec<u32>,
    pub d_users: Vec<G>,
    pub d_items: Vec<G>,
    pub d_extra: Vec<G>,
    pub d_inverse_temperature: u32,
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Gradient buffers that hold NaN until a call writes them.
pub(crate) struct Grads<G> {
    pub users: Slice<G>,
    pub items: Slice<G>,
    pub extra: Slice<G>,
}

impl<G: Real> Grads<G> {
    pub(crate) fn poisoned<T: Real>(device: &Device, case: &Case<T>) -> Self {
        let poison = |n: usize| device.stream().clone_htod(&vec![G::from_f32(f32::NAN); n.max(1)]).unwrap();
        Self {
            users: poison(case.users.len()),
            items: poison(case.items.len()),
            extra: poison(case.extra.len()),
        }
    }

    pub(crate) fn view(&mut self, with_extra: bool) -> cuda::Gradients<'_, G> {
        let gradients = cuda::Gradients::new(&mut self.users, &mut self.items);
        if with_extra { gradients.extra(&mut self.extra) } else { gradients }
    }

    pub(crate) fn read(&self, device: &Device, with_extra: bool) -> [Vec<G>; 3] {
        let read = |slice| device.stream().clone_dtoh(slice).unwrap();
        let extra = if with_extra { read(&self.extra) } else { Vec::new() };
        [read(&self.users), read(&self.items), extra]
    }
}

/// Collects a step's results.
pub(crate) fn results<G: Real>(
    device: &Device,
    output: &cuda::Output<'_>,
    gradients: &Grads<G>,
    with_extra: bool,
) -> Results<G> {
    let [d_users, d_items, d_extra] = gradients.read(device, with_extra);
    Results {
        loss: output.loss().ok().map(f32::to_bits),
        row_losses: bits(&output.row_losses().unwrap()),
        log_sum_exp: bits(&output.log_sum_exp().unwrap()),
        d_users,
        d_items,
        d_extra,
        d_inverse_temperature: output.d_inverse_temperature().unwrap().to_bits(),
    }
}

/// One step from scratch.
pub(crate) fn step<T: Real, G: Real>(
    gpu: &Gpu,
    config: LossConfig,
    case: &Case<T>,
    weighted: bool,
) -> Results<G> {
    let mut loss = cuda::InBatchLoss::new(&gpu.device, config).unwrap();
    step_with(gpu, &mut loss, case, weighted)
}

/// One step of a loss object.
pub(crate) fn step_with<T: Real, G: Real>(
    gpu: &Gpu,
    loss: &mut cuda::InBatchLoss,
    case: &Case<T>,
    weighted: bool,
) -> Results<G> {
    let with_extra = !case.extra.is_empty();
    let inputs = OnDevice::new(&gpu.device, case);
    let mut gradients = Grads::<G>::poisoned(&gpu.device, case);
    let output = loss.step(&inputs.batch(with_extra, weighted), &mut gradients.view(with_extra)).unwrap();
    results(&gpu.device, &output, &gradients, with_extra)
}
