//! Two MLP towers in candle, trained by candle's AdamW with inbatch's loss and memory bank.
//!
//!     cargo run --package link_candle                             # on the CPU
//!     cargo run --package link_candle --release --features cuda   # on CUDA device 0; needs nvcc
//!
//! docs/link-candle.md explains it.

mod data;

use std::collections::HashSet;

use anyhow::Result;
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::{Activation, AdamW, Optimizer, Sequential, VarBuilder, VarMap, linear, seq};
use inbatch::LossConfig;
use inbatch::bank::BankConfig;
use inbatch::link::candle::{InBatchLoss, Inputs, MemoryBank};

use data::{Data, FEATURES, ITEMS, USERS};

const DIM: usize = 16;
const BATCH: usize = 240;
const EPOCHS: usize = 8;
const TOP: usize = 10;

fn main() -> Result<()> {
    let device = if cfg!(feature = "cuda") { Device::new_cuda(0)? } else { Device::Cpu };
    println!("device: {:?}", device.location());
    let mut random = fastrand::Rng::with_seed(3);
    let mut data = Data::generate(&mut random);
    let users = Tensor::from_vec(data.users.clone(), (USERS, FEATURES), &device)?;
    let items = Tensor::from_vec(data.items.clone(), (ITEMS, FEATURES + 1), &device)?;
    let log_q = Tensor::from_vec(data.log_q(), ITEMS, &device)?;

    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &device);
    let user_tower = tower(FEATURES, builder.pp("user"))?;
    let item_tower = tower(FEATURES + 1, builder.pp("item"))?;
    let mut optimiser = AdamW::new_lr(variables.all_vars(), 0.004)?;

    let loss = InBatchLoss::new(LossConfig::new(1.0)?.exclude_same_item(true));
    // The last two batches' items, once embeddings have settled a little.
    let bank = MemoryBank::new(
        BankConfig::new(2 * BATCH, DIM)?.warm_up(data.pairs.len() as u64 / BATCH as u64),
        DType::F32,
        &device,
    )?;

    let mut epochs = Vec::new();
    for epoch in 1..=EPOCHS {
        random.shuffle(&mut data.pairs);
        let mut losses = Vec::new();
        for pairs in data.pairs.chunks_exact(BATCH) {
            let (user_ids, item_ids): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
            let user_ids = Tensor::from_vec(user_ids, BATCH, &device)?;
            let item_ids = Tensor::from_vec(item_ids, BATCH, &device)?;
            let batch_users = user_tower.forward(&users.index_select(&user_ids, 0)?)?;
            let batch_items = item_tower.forward(&items.index_select(&item_ids, 0)?)?;
            let batch_log_q = log_q.index_select(&item_ids, 0)?;
            let item_ids = item_ids.to_dtype(DType::I64)?;

            let inputs = Inputs::new().log_q(&batch_log_q).item_ids(&item_ids).bank(&bank);
            let value = loss.forward(&batch_users, &batch_items, &inputs)?;
            optimiser.backward_step(&value)?;
            bank.push(&batch_items, Some(&batch_log_q), Some(&item_ids))?;
            losses.push(value.to_scalar::<f32>()?);
        }
        let mean = losses.iter().sum::<f32>() / losses.len() as f32;
        let recall = recall(&data, &user_tower.forward(&users)?, &item_tower.forward(&items)?)?;
        println!("epoch {epoch}  loss {mean:.4}  recall@{TOP} {recall:.4}");
        epochs.push((mean, recall));
    }

    let popular = popular(&data);
    println!("most popular items: recall@{TOP} {popular:.4}");
    // The bank joins in after the first epoch: losses before and after are of different numbers of negatives.
    let ((second, _), (last, recall)) = (epochs[1], epochs[EPOCHS - 1]);
    anyhow::ensure!(last < second - 0.05, "the loss did not fall: {second} to {last}");
    anyhow::ensure!(
        recall > 1.5 * popular,
        "recall {recall} is not well above {popular}, that of a popularity list"
    );
    Ok(())
}

fn tower(features: usize, builder: VarBuilder) -> candle_core::Result<Sequential> {
    Ok(seq().add(linear(features, 64, builder.pp("0"))?).add(Activation::Gelu).add(linear(
        64,
        DIM,
        builder.pp("1"),
    )?))
}

/// The share of users whose held-out item is among their best, of those that they have not met.
fn recall(data: &Data, users: &Tensor, items: &Tensor) -> Result<f32> {
    let scores: Vec<Vec<f32>> = users.matmul(&items.t()?)?.to_vec2()?;
    Ok(hits(data, |user| scores[user].clone()))
}

/// The same of one list for everybody, by popularity.
fn popular(data: &Data) -> f32 {
    let counts: Vec<f32> = data.counts.iter().map(|&count| count as f32).collect();
    hits(data, |_| counts.clone())
}

fn hits(data: &Data, scores_of: impl Fn(usize) -> Vec<f32>) -> f32 {
    let met: HashSet<(u32, u32)> = data.pairs.iter().copied().collect();
    let hit = |(user, &held_out): (usize, &u32)| {
        let scores = scores_of(user);
        let rank = (0..ITEMS as u32)
            .filter(|&item| item == held_out || !met.contains(&(user as u32, item)))
            .filter(|&item| scores[item as usize] > scores[held_out as usize])
            .count();
        rank < TOP
    };
    data.held_out.iter().enumerate().filter(|&pair| hit(pair)).count() as f32 / USERS as f32
}
