//! What a step allocates: the stated workspace once, then nothing of its own; linear in B and N.
//!
//! The `gemm` library allocates a packing buffer inside each product and frees it there, and rayon a queue
//! block now and then; both are bounded here, not hidden.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use inbatch::cpu::{
    Batch, Gradients, InBatchLoss, Items, RowNegatives, TableBatch, TableGradients, TableLoss,
};
use inbatch::table::{TableConfig, TableShape};
use inbatch::{LossConfig, Problem};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's contract is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's contract is ours.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The counters are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// The most that was live during `call` above what was live before it, and what it left behind.
fn measure(call: impl FnOnce()) -> (usize, usize) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    call();
    (PEAK.load(Relaxed) - before, LIVE.load(Relaxed).saturating_sub(before))
}

/// What products may pack for each thread.
const PACKING: usize = 1 << 20;

/// What rayon's queues may grow by.
const QUEUES: usize = 64 << 10;

const DIM: usize = 32;

/// Negatives of each row's own, and hard negatives.
const KEPT: usize = 16;

struct Inputs {
    users: Vec<f32>,
    ids: Vec<i64>,
    /// `[B, KEPT]` places among the users, if rows have negatives of their own.
    indices: Option<Vec<i32>>,
    d_users: Vec<f32>,
    d_items: Vec<f32>,
    d_pool: Vec<f32>,
}

impl Inputs {
    fn new(rows: usize, own: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(rows as u64);
        Self {
            users: (0..rows * DIM).map(|_| random.f32() - 0.5).collect(),
            ids: (0..rows).map(|_| random.i64(0..50)).collect(),
            indices: own.then(|| (0..rows * KEPT).map(|_| random.i32(-1..rows as i32)).collect()),
            d_users: vec![f32::NAN; rows * DIM],
            d_items: vec![f32::NAN; rows * DIM],
            d_pool: vec![f32::NAN; rows * DIM],
        }
    }

    fn step(&mut self, loss: &mut InBatchLoss) {
        let batch = batch(&self.users, &self.ids, self.indices.as_deref());
        let mut gradients = Gradients::new(&mut self.d_users, &mut self.d_items);
        if self.indices.is_some() {
            gradients = gradients.row_negatives(&mut self.d_pool);
        }
        loss.step(&batch, &mut gradients).unwrap();
    }
}

fn batch<'a>(users: &'a [f32], ids: &'a [i64], indices: Option<&'a [i32]>) -> Batch<'a, f32> {
    let batch = Batch::new(users, users, DIM).item_ids(ids);
    match indices {
        Some(indices) => {
            batch.row_negatives(RowNegatives::of_pool(Items::new(users).item_ids(ids), indices, KEPT))
        }
        None => batch,
    }
}

#[test]
fn a_step_uses_the_stated_workspace_and_then_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let config = LossConfig::new(0.2).unwrap().exclude_same_item(true).normalize(true).metrics(true);
    for (config, own) in [(config, false), (config, true), (config.hard_negatives(KEPT).unwrap(), false)] {
        uses_the_stated_workspace(config, own);
    }
}

fn uses_the_stated_workspace(config: LossConfig, own: bool) {
    let threads = rayon::current_num_threads();
    let packing = PACKING * threads;
    // The pool and the library's thread-local buffers exist from here on.
    Inputs::new(2000, own).step(&mut InBatchLoss::new(config).unwrap());

    let mut stated = vec![];
    for rows in [2000, 4000, 8000] {
        let mut inputs = Inputs::new(rows, own);
        let mut loss = InBatchLoss::new(config).unwrap();
        let problem =
            Problem::new(&batch(&inputs.users, &inputs.ids, inputs.indices.as_deref()), &config).unwrap();
        let bytes = loss.workspace_bytes(&problem) as usize;
        let (_, reserved) = measure(|| loss.reserve(&problem).unwrap());
        assert!(reserved <= bytes && bytes - reserved < 4096, "{rows} rows: {reserved} of {bytes} bytes");
        for smaller in [rows, rows, rows / 2 + 1] {
            let mut smaller = Inputs::new(smaller, own);
            let (peak, left) = measure(|| smaller.step(&mut loss));
            println!("{rows} rows, later step: {peak} bytes at the peak, {left} left");
            assert!(left < QUEUES, "{rows} rows: a later step left {left} bytes");
            assert!(peak < packing, "{rows} rows: a later step needed {peak} bytes");
        }
        inputs.step(&mut loss);
        let of_pool = inputs.d_pool.iter().filter(|_| own);
        let all = inputs.d_users.iter().chain(&inputs.d_items).chain(of_pool);
        assert!(all.into_iter().all(|x| x.is_finite()));
        stated.push(bytes);
    }
    // Linear: twice the rows at most twice the bytes, and far below a score matrix.
    assert!(stated[1] <= 2 * stated[0] && stated[2] <= 2 * stated[1], "{stated:?}");
    assert!(stated[2] < 8000 * 8000 * 4 / 20, "{stated:?}");
}

struct Table {
    num_true: usize,
    inputs: Vec<f32>,
    weights: Vec<f32>,
    biases: Vec<f32>,
    labels: Vec<i64>,
    sampled: Vec<i64>,
    d_inputs: Vec<f32>,
    ids: Vec<i64>,
    d_weights: Vec<f32>,
    d_biases: Vec<f32>,
}

impl Table {
    const CLASSES: usize = 5000;
    const DIM: usize = 4;

    fn new(rows: usize, num_true: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(rows as u64);
        let mut values = |n: usize| (0..n).map(|_| random.f32() - 0.5).collect::<Vec<f32>>();
        let (inputs, weights) = (values(rows * Self::DIM), values(Self::CLASSES * Self::DIM));
        let biases = values(Self::CLASSES);
        // Labels of a row that follow one another differ.
        let starts = (0..rows).map(|_| random.i64(0..(Self::CLASSES - num_true) as i64)).collect::<Vec<_>>();
        let labels: Vec<i64> = starts.iter().flat_map(|start| *start..*start + num_true as i64).collect();
        let sampled: Vec<i64> = (0..200).map(|_| random.i64(0..Self::CLASSES as i64)).collect();
        let named = labels.len() + sampled.len();
        Self {
            num_true,
            d_inputs: vec![f32::NAN; inputs.len()],
            ids: vec![0; named],
            d_weights: vec![f32::NAN; named * Self::DIM],
            d_biases: vec![f32::NAN; named],
            inputs,
            weights,
            biases,
            labels,
            sampled,
        }
    }

    fn batch(&self) -> TableBatch<'_, f32> {
        let (labels, sampled) = (&self.labels, &self.sampled);
        TableBatch::new(&self.inputs, &self.weights, Self::DIM, labels, self.num_true, sampled)
            .biases(&self.biases)
    }

    fn step(&mut self, loss: &mut TableLoss) {
        let (labels, sampled) = (&self.labels, &self.sampled);
        let batch = TableBatch::new(&self.inputs, &self.weights, Self::DIM, labels, self.num_true, sampled)
            .biases(&self.biases);
        let mut gradients = TableGradients::new(&mut self.d_inputs, &mut self.ids, &mut self.d_weights)
            .biases(&mut self.d_biases);
        loss.step(&batch, &mut gradients).unwrap();
    }
}

/// A class table: so many names that a map of them would show beside what products pack.
#[test]
fn a_table_step_uses_the_stated_workspace_and_then_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let config = TableConfig::sampled_softmax().subtract_log_q(false);
    let packing = PACKING * rayon::current_num_threads();
    Table::new(1000, 6).step(&mut TableLoss::new(config));

    let mut stated = vec![];
    for rows in [10_000, 20_000, 40_000] {
        let mut table = Table::new(rows, 6);
        let mut loss = TableLoss::new(config);
        let shape = TableShape::new(&table.batch(), &config).unwrap();
        let bytes = loss.workspace_bytes(&shape) as usize;
        let (_, reserved) = measure(|| loss.reserve(&shape).unwrap());
        assert!(reserved <= bytes && bytes - reserved < 4096, "{rows} rows: {reserved} of {bytes} bytes");
        for smaller in [rows, rows / 2 + 1] {
            let mut smaller = Table::new(smaller, 6);
            let (peak, left) = measure(|| smaller.step(&mut loss));
            println!("{rows} rows, later step: {peak} bytes at the peak, {left} left");
            assert!(left < QUEUES, "{rows} rows: a later step left {left} bytes");
            assert!(peak < packing, "{rows} rows: a later step needed {peak} bytes");
        }
        table.step(&mut loss);
        assert!(table.d_inputs.iter().all(|x| x.is_finite()));
        stated.push(bytes);
    }
    assert!(stated[1] <= 2 * stated[0] && stated[2] <= 2 * stated[1], "{stated:?}");
}
