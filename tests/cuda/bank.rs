//! The ring against a queue that is simply pushed and truncated, seen through the loss.

use std::collections::VecDeque;

use half::{bf16, f16};
use inbatch::bank::BankConfig;
use inbatch::cuda::{self, InBatchLoss, MemoryBank};
use inbatch::{Error, LossConfig, cpu, oracle};

use crate::support::{Case, Gpu, OnDevice, Random, Real, gpu};

struct Entry {
    push: u64,
    embedding: Vec<f32>,
    log_q: f32,
    item_id: i64,
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

fn expected(
    case: &Case<f32>,
    config: &LossConfig,
    queue: &VecDeque<Entry>,
    readable: impl Fn(&Entry) -> bool,
) -> Vec<f64> {
    let entries: Vec<&Entry> = queue.iter().filter(|entry| readable(entry)).collect();
    let bank: Vec<f32> = entries.iter().flat_map(|entry| entry.embedding.clone()).collect();
    let log_q: Vec<f32> = case.log_q.iter().copied().chain(entries.iter().map(|e| e.log_q)).collect();
    let item_ids: Vec<i64> = case.item_ids.iter().copied().chain(entries.iter().map(|e| e.item_id)).collect();
    let inputs = oracle::Inputs {
        dim: case.dim,
        users: &wide(&case.users),
        items: &wide(&case.items),
        bank: &wide(&bank),
        offset: case.offset,
        log_q: Some(&wide(&log_q)),
        item_ids: Some(&item_ids),
        ..oracle::Inputs::default()
    };
    oracle::evaluate(config, &inputs).unwrap().log_sum_exp
}

pub(crate) fn follow(gpu: &Gpu, capacity: usize, warm_up: u64, max_age: Option<u64>) {
    let device = &gpu.device;
    let dim = 5;
    let mut bank_config = BankConfig::new(capacity, dim).unwrap().warm_up(warm_up);
    if let Some(age) = max_age {
        bank_config = bank_config.max_age(age);
    }
    let mut bank = MemoryBank::<f32>::new(device, bank_config).unwrap();
    let config = LossConfig::new(0.3).unwrap().exclude_same_item(true).normalize(true);
    let mut loss = InBatchLoss::new(device, config).unwrap();
    let case = Case::<f32>::random((3, 4, 0, dim, 1), 9);
    let inputs = OnDevice::new(device, &case);
    let mut random = Random(capacity as u64);
    let mut queue: VecDeque<Entry> = VecDeque::new();
    for (push, count) in [3, 1, 5, 2, 0, 40, 1, 7].into_iter().enumerate() {
        let batch = Case::<f32>::random((1, count.max(1), 0, dim, 0), random.next());
        let pushed = OnDevice::new(device, &batch);
        let items = cuda::Items::new(pushed.items.slice(..count * dim))
            .log_q(pushed.log_q.slice(..count))
            .item_ids(pushed.item_ids.slice(..count));
        bank.push(&items).unwrap();
        for row in 0..count {
            queue.push_back(Entry {
                push: push as u64,
                embedding: batch.items[row * dim..][..dim].to_vec(),
                log_q: batch.log_q[row],
                item_id: batch.item_ids[row],
            });
        }
        while queue.len() > capacity {
            queue.pop_front();
        }
        let pushes = push as u64 + 1;
        let readable =
            |entry: &Entry| pushes >= warm_up && max_age.is_none_or(|age| pushes - entry.push <= age);
        let batch = cuda::Batch::new(&inputs.users, &inputs.items, dim)
            .offset(case.offset)
            .log_q(&inputs.log_q)
            .item_ids(&inputs.item_ids)
            .bank(&bank);
        let got = loss.evaluate(&batch).unwrap().log_sum_exp().unwrap();
        for (got, expected) in got.iter().zip(expected(&case, &config, &queue, readable)) {
            let off = (f64::from(*got) - expected).abs();
            assert!(
                off <= 1e-5 || f64::from(*got) == expected,
                "capacity {capacity}, push {push}: {got} is not {expected}"
            );
        }
        assert_eq!(bank.len().unwrap(), queue.len());
        assert_eq!(bank.step().unwrap(), pushes);
        assert_eq!(bank.is_empty().unwrap(), queue.is_empty());
    }
}

#[test]
fn fifo_of_any_capacity() {
    let gpu = gpu();
    for capacity in [1, 4, 9, 64] {
        follow(&gpu, capacity, 0, None);
    }
}

#[test]
fn warm_up_and_age() {
    let gpu = gpu();
    follow(&gpu, 9, 3, None);
    follow(&gpu, 9, 0, Some(1));
    follow(&gpu, 9, 2, Some(2));
    follow(&gpu, 9, 0, Some(0));
}

/// The same pushes on both backends leave the same state, and either can go on from the other's checkpoint.
#[test]
fn checkpoints_cross_backends() {
    let gpu = gpu();
    same_on_both_backends::<f32>(&gpu);
    same_on_both_backends::<f16>(&gpu);
    same_on_both_backends::<bf16>(&gpu);
}

pub(crate) fn same_on_both_backends<T: Real>(gpu: &Gpu) {
    let device = &gpu.device;
    let dim = 6;
    let folder = tempfile::tempdir().unwrap();
    let config = BankConfig::new(9, dim).unwrap().max_age(3);
    let mut here = MemoryBank::<T>::new(device, config).unwrap();
    let mut there = cpu::MemoryBank::<T>::new(config).unwrap();
    for (push, count) in [2, 5, 1, 4, 23, 3].into_iter().enumerate() {
        let case = Case::<T>::random((1, count, 0, dim, 0), push as u64);
        let pushed = OnDevice::new(device, &case);
        here.push(&pushed.pushed()).unwrap();
        let items = cpu::Items::new(&case.items).log_q(&case.log_q).item_ids(&case.item_ids);
        there.push(&items).unwrap();
        assert_eq!(here.snapshot().unwrap(), there.snapshot(), "push {push}");

        // Swap: each goes on with what the other saved.
        let (mine, theirs) = (folder.path().join("cuda"), folder.path().join("cpu"));
        here.save(&mine).unwrap();
        there.save(&theirs).unwrap();
        here = MemoryBank::new(device, config).unwrap();
        here.load(&theirs).unwrap();
        there = cpu::MemoryBank::new(config).unwrap();
        there.load(&mine).unwrap();
    }
    assert_eq!(here.len().unwrap(), there.len());
    assert_eq!(here.step().unwrap(), there.step());
}

#[test]
fn a_foreign_snapshot_changes_nothing() {
    let gpu = gpu();
    let device = &gpu.device;
    let case = Case::<f32>::random((1, 3, 0, 4, 0), 1);
    let pushed = OnDevice::new(device, &case);
    let mut bank = MemoryBank::<f32>::new(device, BankConfig::new(8, 4).unwrap()).unwrap();
    bank.push(&pushed.pushed()).unwrap();
    let before = bank.snapshot().unwrap();
    let other = MemoryBank::<f32>::new(device, BankConfig::new(7, 4).unwrap()).unwrap();
    assert!(matches!(bank.restore(&other.snapshot().unwrap()), Err(Error::Snapshot(_))));
    let other = MemoryBank::<bf16>::new(device, BankConfig::new(8, 4).unwrap()).unwrap();
    assert!(matches!(bank.restore(&other.snapshot().unwrap()), Err(Error::DtypeMismatch { .. })));
    let mut damaged = before.clone();
    damaged.head = 2;
    assert!(matches!(bank.restore(&damaged), Err(Error::Snapshot(_))));
    assert_eq!(bank.snapshot().unwrap(), before);
    // A push that does not bring what the bank keeps changes nothing either.
    let items = cuda::Items::new(&pushed.items);
    assert!(matches!(bank.push(&items), Err(Error::BankField { .. })));
    assert!(matches!(bank.push(&cuda::Items::new(pushed.items.slice(1..))), Err(Error::NotRows { .. })));
    assert_eq!(bank.snapshot().unwrap(), before);
}
