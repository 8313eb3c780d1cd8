//! The memory bank: what it keeps, its checkpoints, and what happens to bad ones.

use half::{bf16, f16};
use inbatch::bank::{BankConfig, Snapshot};
use inbatch::{BankColumns, Element, Error, LossConfig, cpu};

struct Batch<T> {
    embeddings: Vec<T>,
    log_q: Vec<f32>,
    item_ids: Vec<i64>,
}

impl<T: Element> Batch<T> {
    fn random(rows: usize, dim: usize, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            embeddings: (0..rows * dim).map(|_| T::from_f32(random.f32() - 0.5)).collect(),
            log_q: (0..rows).map(|_| -10.0 * random.f32()).collect(),
            item_ids: (0..rows).map(|_| random.i64(..)).collect(),
        }
    }

    fn items(&self) -> cpu::Items<'_, T> {
        cpu::Items::new(&self.embeddings).log_q(&self.log_q).item_ids(&self.item_ids)
    }
}

fn filled<T: Element>(config: BankConfig, pushes: &[usize]) -> cpu::MemoryBank<T> {
    let mut bank = cpu::MemoryBank::new(config).unwrap();
    for (seed, rows) in (1..).zip(pushes) {
        bank.push(&Batch::random(*rows, 3, seed).items()).unwrap();
    }
    bank
}

fn loss<T: Element>(bank: &cpu::MemoryBank<T>) -> f32 {
    let batch = Batch::<T>::random(5, 3, 99);
    let config = LossConfig::new(0.3).unwrap().exclude_same_item(true);
    let mut loss = cpu::InBatchLoss::new(config).unwrap();
    let inputs = cpu::Batch::new(&batch.embeddings, &batch.embeddings, 3)
        .log_q(&batch.log_q)
        .item_ids(&batch.item_ids)
        .bank(bank);
    loss.evaluate(&inputs).unwrap().loss().unwrap()
}

#[test]
fn length_steps_and_columns() {
    let mut bank = filled::<f32>(BankConfig::new(7, 3).unwrap().warm_up(2).max_age(2), &[]);
    assert!(bank.is_empty());
    let expected = [(3, 3, 0), (2, 5, 5), (4, 7, 6), (0, 7, 4), (1, 7, 1), (0, 7, 1), (0, 7, 0)];
    for (push, (rows, len, columns)) in expected.into_iter().enumerate() {
        bank.push(&Batch::random(rows, 3, 1).items()).unwrap();
        assert_eq!((bank.len(), bank.columns()), (len, columns), "push {push}");
        assert_eq!(bank.step(), push as u64 + 1);
    }
}

fn round_trip<T: Element>() {
    let folder = tempfile::tempdir().unwrap();
    for (k, pushes) in [&[][..], &[3], &[3, 2, 5], &[40, 1, 0], &[7, 7, 3]].into_iter().enumerate() {
        let path = folder.path().join(format!("bank-{k}.safetensors"));
        let config = BankConfig::new(7, 3).unwrap().max_age(3);
        let mut saved = filled::<T>(config, pushes);
        saved.save(&path).unwrap();
        saved.save(&path).unwrap();
        let mut loaded = filled::<T>(config, &[4, 4, 4, 4, 4]);
        loaded.load(&path).unwrap();
        assert_eq!(loaded.snapshot(), saved.snapshot());
        assert_eq!(loss(&loaded).to_bits(), loss(&saved).to_bits());
        // And they go on alike.
        for bank in [&mut saved, &mut loaded] {
            bank.push(&Batch::random(4, 3, 5).items()).unwrap();
        }
        assert_eq!(loaded.snapshot(), saved.snapshot());
        assert_eq!(loss(&loaded).to_bits(), loss(&saved).to_bits());
    }
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 5, "a temporary file was left behind");
}

#[test]
fn checkpoints_round_trip() {
    round_trip::<f32>();
    round_trip::<f16>();
    round_trip::<bf16>();
}

#[test]
fn a_bank_without_fields_round_trips() {
    let config = BankConfig::new(4, 2).unwrap().without_log_q().without_item_ids();
    let mut bank = cpu::MemoryBank::<f32>::new(config).unwrap();
    bank.push(&cpu::Items::new(&[1.0, 2.0, 3.0, 4.0])).unwrap();
    let mut other = cpu::MemoryBank::<f32>::new(config).unwrap();
    other.restore(&bank.snapshot()).unwrap();
    assert_eq!(other.snapshot(), bank.snapshot());
}

#[test]
fn damaged_checkpoints_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank");
    let bank = filled::<f32>(BankConfig::new(7, 3).unwrap(), &[3, 6]);
    bank.save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut victim = filled::<f32>(BankConfig::new(7, 3).unwrap(), &[2]);
    let before = victim.snapshot();
    let mut refuse = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = victim.load(&path).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{what}: {error}");
        assert!(error.to_string().contains("bank"), "{error}");
        assert_eq!(victim.snapshot(), before, "{what} changed the bank");
    };
    for cut in [0, 1, 7, 8, 40, whole.len() / 2, whole.len() - 1] {
        refuse(&whole[..cut], "a truncated file");
    }
    refuse(&[&whole[..], &[0]].concat(), "a file with more behind it");
    refuse(b"not a checkpoint at all, but long enough to hold a header", "a foreign file");
    let text = String::from_utf8_lossy(&whole).into_owned();
    let patch = |from: &str, to: &str| {
        assert!(text.contains(from) && from.len() == to.len());
        let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    refuse(&patch("inbatch.memory_bank", "another.memory_bank"), "a foreign format");
    refuse(&patch("\"version\":\"1\"", "\"version\":\"2\""), "a later version");
    refuse(&patch("\"capacity\":\"7\"", "\"capacity\":\"5\""), "a capacity below the length");
    refuse(&patch("\"head\":\"2\"", "\"head\":\"9\""), "a head outside the ring");
    refuse(&patch("\"step\":\"2\"", "\"step\":\"1\""), "embeddings from the future");
    refuse(&patch("\"dim\":\"3\"", "\"dim\":\"x\""), "a dimension that is no number");
    refuse(&patch("\"entry_steps\"", "\"entry_stepz\""), "a tensor under another name");
}

#[test]
fn checkpoints_that_do_not_fit_are_refused() {
    let snapshot = filled::<f32>(BankConfig::new(7, 3).unwrap(), &[3]).snapshot();
    let refused = |config: BankConfig| {
        let mut bank = cpu::MemoryBank::<f32>::new(config).unwrap();
        matches!(bank.restore(&snapshot), Err(Error::Snapshot(_))) && bank.is_empty()
    };
    assert!(refused(BankConfig::new(8, 3).unwrap()));
    assert!(refused(BankConfig::new(7, 2).unwrap()));
    assert!(refused(BankConfig::new(7, 3).unwrap().without_log_q()));
    assert!(refused(BankConfig::new(7, 3).unwrap().without_item_ids()));
    let mut half = cpu::MemoryBank::<f16>::new(BankConfig::new(7, 3).unwrap()).unwrap();
    assert!(matches!(half.restore(&snapshot), Err(Error::DtypeMismatch { .. })));
}

#[test]
fn a_missing_file_or_folder_is_an_io_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("bank");
    assert!(matches!(Snapshot::load(&path), Err(Error::CheckpointIo { .. })));
    let bank = filled::<f32>(BankConfig::new(7, 3).unwrap(), &[3]);
    assert!(matches!(bank.save(&path), Err(Error::CheckpointIo { .. })));
}
