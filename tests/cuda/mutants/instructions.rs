//! Cases of what kernels should not do: work that a tile does not need shows in their instructions.

use std::collections::BTreeMap;

use inbatch::LossConfig;
use inbatch::bank::BankConfig;
use inbatch::cuda::{Batch, InBatchLoss, MemoryBank};

use crate::support::{Case, Gpu, Grads, OnDevice, Real};

fn plain() -> LossConfig {
    LossConfig::new(0.2).expect("a temperature")
}

/// Tiles that have nothing to read are looked at, not computed.
pub(super) fn absent_tiles_are_skipped<T: Real>(gpu: &Gpu) {
    const ROWS: usize = 65;
    for dim in [16, 72, 136] {
        let mut case = Case::<T>::random((ROWS, ROWS, 0, dim, 0), 3);
        let config = BankConfig::new(3 * ROWS, dim).expect("a bank").warm_up(2);
        let mut bank = MemoryBank::<T>::new(&gpu.device, config).expect("memory");
        let instructions = |case: &Case<T>, bank: &MemoryBank<T>| {
            let inputs = OnDevice::new(&gpu.device, case);
            stream_instructions(gpu, case, plain(), &inputs.batch(false, true).bank(bank))
        };
        case.weights = [vec![1.0], vec![0.0; ROWS - 1]].concat();
        bank.push(&OnDevice::new(&gpu.device, &case).pushed()).expect("a push");
        let little = instructions(&case, &bank);
        // All rows count, and the bank is readable.
        case.weights.fill(1.0);
        bank.push(&OnDevice::new(&gpu.device, &case).pushed()).expect("a push");
        let much = instructions(&case, &bank);
        for (kernel, instructions) in little {
            let share = instructions as f64 / much[&kernel] as f64;
            assert!(share < 0.7, "{kernel} runs {share:.2} of its instructions with little to do");
        }
    }
}

/// Ids below 2^32 are compared by one word: with upper halves that differ the same tiles take longer
/// (but for D above 256, where one way costs what the other does).
pub(super) fn small_ids_take_the_short_way<T: Real>(gpu: &Gpu) {
    const ROWS: usize = 65;
    for dim in [64, 128, 256] {
        let mut case = Case::<T>::random((ROWS, ROWS, 0, dim, 0), 5);
        let instructions = |case: &Case<T>| {
            let inputs = OnDevice::new(&gpu.device, case);
            stream_instructions(gpu, case, plain().exclude_same_item(true), &inputs.batch(false, false))
        };
        // No two lower halves agree, so that the long way never looks at the upper ones.
        case.item_ids = (0..ROWS as i64).collect();
        let small = instructions(&case);
        case.item_ids.iter_mut().for_each(|id| *id |= (*id & 1) << 32);
        let large = instructions(&case);
        for (kernel, instructions) in small {
            assert!(instructions < large[&kernel], "{kernel} compares both halves of small ids");
        }
    }
}

/// Instructions of each stream kernel in an evaluation and a step.
fn stream_instructions<T: Real>(
    gpu: &Gpu,
    case: &Case<T>,
    config: LossConfig,
    batch: &Batch<'_, T>,
) -> BTreeMap<String, u64> {
    let so_far = || -> BTreeMap<String, u64> {
        let runs = gpu.emulator.iter().flat_map(|emulator| emulator.kernels());
        let streams = runs.filter(|run| run.name.starts_with("stream_"));
        streams.map(|run| (run.name, run.warp_instructions)).collect()
    };
    let before = so_far();
    let mut gradients = Grads::<f32>::poisoned(&gpu.device, case);
    let mut loss = InBatchLoss::new(&gpu.device, config).expect("a loss");
    loss.evaluate(batch).expect("an evaluation").loss().expect("a mean");
    loss.step(batch, &mut gradients.view(false)).expect("a step").loss().expect("a mean");
    let mut runs = so_far();
    runs.iter_mut().for_each(|(name, instructions)| *instructions -= before.get(name).copied().unwrap_or(0));
    runs.retain(|_, instructions| *instructions > 0);
    runs
}
