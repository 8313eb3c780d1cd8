//! Two towers trained on the device with plain cudarc: gather, loss, gradients, update and memory bank on one stream,
//! captured once in a CUDA graph and replayed.
//!
//!     cargo run --release --example link_cudarc
//!
//! runs on the GPU where there is one, else on the emulator, and says which. docs/link-cudarc.md explains it.

use std::sync::Arc;

use inbatch::bank::BankConfig;
use inbatch::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use inbatch::cuda::cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg,
};
use inbatch::cuda::cudarc::nvrtc::Ptx;
use inbatch::cuda::{Batch, Device, Gradients, InBatchLoss, Items, MemoryBank};
use inbatch::{Dtype, LossConfig, Problem};

const USERS: usize = 96;
const ITEMS: usize = 64;
/// A user likes the items of their own group.
const GROUPS: usize = 8;
const DIM: usize = 16;
const BATCH: usize = 48;
/// Of the bank: four batches.
const CAPACITY: usize = 4 * BATCH;
const STEPS: usize = 60;
const RATE: f32 = 4.0;

fn main() -> anyhow::Result<()> {
    let choice = ptx_emulator_harness::device()?;
    let context = CudaContext::new(0)?;
    // SAFETY: every buffer below is used on one stream only. A captured step must not wait for events of the past.
    unsafe { context.disable_event_tracking() };
    let mut trainer = Trainer::new(context.new_stream()?)?;
    println!("device: {}", trainer.device.name());

    // The first step loads kernels and allocates the workspace, which a captured one must not.
    trainer.step()?;
    trainer.device.synchronize()?;
    let stream = trainer.device.stream().clone();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    trainer.step()?;
    let graph = stream.end_capture(CUgraphInstantiate_flags(0))?;
    let graph = graph.ok_or_else(|| anyhow::anyhow!("the capture gave no graph"))?;
    for _ in 1..STEPS {
        graph.launch()?; // enqueued; nothing waits
    }

    let losses = stream.clone_dtoh(&trainer.losses)?; // the one wait
    for (step, loss) in losses.iter().enumerate().step_by(STEPS / 10) {
        println!("step {step:3}  loss {loss:.4}");
    }
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    let (first, last) = (mean(&losses[..6]), mean(&losses[STEPS - 6..]));
    println!("first steps {first:.4}, last steps {last:.4}; {} embeddings in the bank", trainer.bank.len()?);
    // With the bank there are more negatives in the last steps than in the first: the loss falls nonetheless.
    anyhow::ensure!(last < 0.8 * first, "the loss did not fall");
    if let Some(report) = choice.emulator().and_then(|emulator| emulator.report()) {
        anyhow::bail!("the emulator found a defect: {}", report.text);
    }
    Ok(())
}

struct Trainer {
    device: Device,
    loss: InBatchLoss,
    bank: MemoryBank<f32>,
    kernels: Kernels,
    // The data, and how far the training has come.
    pair_users: CudaSlice<i64>,
    pair_items: CudaSlice<i64>,
    item_log_q: CudaSlice<f32>,
    step: CudaSlice<u64>,
    losses: CudaSlice<f32>,
    // The towers: an embedding table each.
    user_table: CudaSlice<f32>,
    item_table: CudaSlice<f32>,
    // One batch.
    user_ids: CudaSlice<i64>,
    item_ids: CudaSlice<i64>,
    log_q: CudaSlice<f32>,
    users: CudaSlice<f32>,
    items: CudaSlice<f32>,
    d_users: CudaSlice<f32>,
    d_items: CudaSlice<f32>,
}

impl Trainer {
    fn new(stream: Arc<CudaStream>) -> anyhow::Result<Self> {
        let device = Device::on_stream(stream.clone())?;
        let config = LossConfig::new(0.2)?.normalize(true).exclude_same_item(true);
        let mut loss = InBatchLoss::new(&device, config)?;
        // From the third push on, a step meets the items of the last four batches too.
        let bank = MemoryBank::<f32>::new(&device, BankConfig::new(CAPACITY, DIM)?.warm_up(3))?;
        loss.reserve(&Problem {
            rows: BATCH,
            dim: DIM,
            batch_columns: BATCH,
            extra_columns: 0,
            bank_columns: CAPACITY,
            row_negatives: 0,
            pool: None,
            offset: 0,
            dtype: Dtype::F32,
        })?;

        let mut random = fastrand::Rng::with_seed(7);
        let mut pair = || {
            let user = random.usize(..USERS);
            (user, user % GROUPS + GROUPS * random.usize(..ITEMS / GROUPS))
        };
        let pairs: Vec<(usize, usize)> = (0..16 * BATCH).map(|_| pair()).collect();
        let pair_users: Vec<i64> = pairs.iter().map(|&(user, _)| user as i64).collect();
        let pair_items: Vec<i64> = pairs.iter().map(|&(_, item)| item as i64).collect();
        let mut counts = [0.0f32; ITEMS];
        pairs.iter().for_each(|&(_, item)| counts[item] += 1.0);
        let log_q: Vec<f32> = counts.iter().map(|count| (count.max(1.0) / pairs.len() as f32).ln()).collect();
        let mut table = |rows: usize| -> Result<CudaSlice<f32>, DriverError> {
            stream.clone_htod(&(0..rows * DIM).map(|_| random.f32() - 0.5).collect::<Vec<_>>())
        };
        let (user_table, item_table) = (table(USERS)?, table(ITEMS)?);
        let floats = |n: usize| stream.alloc_zeros::<f32>(n);
        Ok(Self {
            kernels: Kernels::load(&stream)?,
            pair_users: stream.clone_htod(&pair_users)?,
            pair_items: stream.clone_htod(&pair_items)?,
            item_log_q: stream.clone_htod(&log_q)?,
            step: stream.alloc_zeros(1)?,
            losses: floats(STEPS)?,
            user_table,
            item_table,
            user_ids: stream.alloc_zeros(BATCH)?,
            item_ids: stream.alloc_zeros(BATCH)?,
            log_q: floats(BATCH)?,
            users: floats(BATCH * DIM)?,
            items: floats(BATCH * DIM)?,
            d_users: floats(BATCH * DIM)?,
            d_items: floats(BATCH * DIM)?,
            device,
            loss,
            bank,
        })
    }

    /// Enqueues a whole training step.
    fn step(&mut self) -> anyhow::Result<()> {
        let stream = self.device.stream().clone();
        let (n, pairs) = (BATCH as u64, self.pair_users.len() as u64);
        let Kernels { next_batch, gather, update, advance } = &self.kernels;
        let grid = |threads: usize| LaunchConfig {
            grid_dim: ((threads as u32).div_ceil(128), 1, 1),
            block_dim: (128, 1, 1),
            shared_mem_bytes: 0,
        };

        let mut launch = stream.launch_builder(next_batch);
        launch.arg(&self.pair_users).arg(&self.pair_items).arg(&pairs).arg(&self.step).arg(&n);
        launch.arg(&mut self.user_ids).arg(&mut self.item_ids);
        // SAFETY: the arguments are those of the kernel; it writes `n` ids to each of the last two.
        unsafe { launch.launch(grid(BATCH)) }?;
        for (table, ids, rows, dim) in [
            (&self.user_table, &self.user_ids, &mut self.users, DIM as u64),
            (&self.item_table, &self.item_ids, &mut self.items, DIM as u64),
            (&self.item_log_q, &self.item_ids, &mut self.log_q, 1),
        ] {
            let mut launch = stream.launch_builder(gather);
            launch.arg(table).arg(ids).arg(&n).arg(&dim).arg(rows);
            // SAFETY: the arguments are those of the kernel; ids are below the tables' rows.
            unsafe { launch.launch(grid(BATCH * DIM)) }?;
        }

        let batch = Batch::new(&self.users, &self.items, DIM).log_q(&self.log_q).item_ids(&self.item_ids);
        let mut gradients = Gradients::new(&mut self.d_users, &mut self.d_items);
        let output = self.loss.step(&batch.bank(&self.bank), &mut gradients)?;
        let loss = output.device_loss()?.device_pointer();

        for (table, ids, gradient) in [
            (&mut self.user_table, &self.user_ids, &self.d_users),
            (&mut self.item_table, &self.item_ids, &self.d_items),
        ] {
            let mut launch = stream.launch_builder(update);
            launch.arg(table).arg(ids).arg(gradient).arg(&n).arg(const { &(DIM as u64) }).arg(&RATE);
            // SAFETY: the arguments are those of the kernel; ids are below the tables' rows.
            unsafe { launch.launch(grid(BATCH * DIM)) }?;
        }
        // After the loss, so that a batch does not meet itself.
        self.bank.push(&Items::new(&self.items).log_q(&self.log_q).item_ids(&self.item_ids))?;
        let mut launch = stream.launch_builder(advance);
        launch.arg(&loss).arg(&mut self.losses).arg(&mut self.step);
        // SAFETY: the arguments are those of the kernel; the loss lies in the workspace, which does not move any more.
        unsafe { launch.launch(LaunchConfig { block_dim: (1, 1, 1), ..grid(1) }) }?;
        Ok(())
    }
}

struct Kernels {
    next_batch: CudaFunction,
    gather: CudaFunction,
    update: CudaFunction,
    advance: CudaFunction,
}

impl Kernels {
    fn load(stream: &Arc<CudaStream>) -> Result<Self, DriverError> {
        let module = stream.context().load_module(Ptx::from_src(include_str!("kernels.ptx")))?;
        Ok(Self {
            next_batch: module.load_function("next_batch")?,
            gather: module.load_function("gather")?,
            update: module.load_function("update")?,
            advance: module.load_function("advance")?,
        })
    }
}
