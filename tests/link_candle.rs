//! The loss as candle's operation: against candle's own composed operations, and bit for bit against the native call.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use inbatch::bank::BankConfig;
use inbatch::link::candle::{InBatchLoss, Inputs, MemoryBank};
use inbatch::{LossConfig, PositiveCorrection, Reduction, cpu};

const DEVICE: Device = Device::Cpu;

/// One random batch; every value is exact in the type that it is stored in.
struct Case {
    users: Var,
    items: Var,
    log_q: Tensor,
    item_ids: Tensor,
    weights: Tensor,
    temperature: f32,
}

impl Case {
    fn random(rows: usize, columns: usize, dim: usize, dtype: DType, seed: u64) -> Result<Self> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut floats = |n: usize, low: f32, high: f32| -> Vec<f32> {
            (0..n).map(|_| low + (high - low) * random.f32()).collect()
        };
        let users = Tensor::from_vec(floats(rows * dim, -1.0, 1.0), (rows, dim), &DEVICE)?;
        let items = Tensor::from_vec(floats(columns * dim, -1.0, 1.0), (columns, dim), &DEVICE)?;
        let log_q = floats(columns, -9.0, 0.0);
        let weights = floats(rows, -0.5, 2.0);
        let ids: Vec<i64> = (0..columns).map(|_| random.i64(0..columns as i64)).collect();
        Ok(Self {
            users: Var::from_tensor(&users.to_dtype(dtype)?)?,
            items: Var::from_tensor(&items.to_dtype(dtype)?)?,
            log_q: Tensor::from_vec(log_q, columns, &DEVICE)?,
            item_ids: Tensor::from_vec(ids, columns, &DEVICE)?,
            weights: Tensor::from_vec(weights, rows, &DEVICE)?,
            temperature: 0.05 + random.f32(),
        })
    }

    fn inputs(&self) -> Inputs {
        Inputs::new().log_q(&self.log_q).item_ids(&self.item_ids)
    }

    fn config(&self) -> LossConfig {
        LossConfig::new(self.temperature).unwrap().exclude_same_item(true)
    }
}

/// What candle makes of the definition: row losses by matmul, masking, log_sum_exp.
fn composed(case: &Case, users: &Tensor, items: &Tensor, config: &LossConfig) -> Result<Tensor> {
    let dtype = users.dtype();
    let (rows, columns) = (users.dim(0)?, items.dim(0)?);
    let unit = |x: &Tensor| x.broadcast_div(&x.sqr()?.sum_keepdim(1)?.sqrt()?);
    let (users, items) =
        if config.normalizes() { (unit(users)?, unit(items)?) } else { (users.clone(), items.clone()) };
    let scores = (users.matmul(&items.t()?)? / f64::from(config.temperature()))?;
    let log_q = case.log_q.to_dtype(dtype)?;
    let corrected = scores.broadcast_sub(&log_q.unsqueeze(0)?)?;
    // The positives lie on the diagonal.
    let diagonal = Tensor::eye(columns, dtype, &DEVICE)?.narrow(0, 0, rows)?;
    let positive_of = match config.get_positive_correction() {
        PositiveCorrection::Corrected => &corrected,
        PositiveCorrection::Uncorrected => &scores,
    };
    let positive = (positive_of * &diagonal)?.sum_keepdim(D::Minus1)?;
    // Absent: the positive's own column, and all of the same item.
    let ids = case.item_ids.unsqueeze(0)?.broadcast_as((rows, columns))?;
    let own = case.item_ids.narrow(0, 0, rows)?.unsqueeze(1)?.broadcast_as((rows, columns))?;
    let absent = Tensor::full(f64::NEG_INFINITY, (rows, columns), &DEVICE)?.to_dtype(dtype)?;
    let negatives = ids.eq(&own)?.where_cond(&absent, &corrected)?;
    let all = Tensor::cat(&[&negatives, &positive], 1)?;
    all.log_sum_exp(D::Minus1)? - positive.squeeze(1)?
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// `|x - reference| / |reference|` in the L2 norm.
fn distance(x: &[f64], reference: &[f64]) -> f64 {
    assert_eq!(x.len(), reference.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let error = norm(&mut x.iter().zip(reference).map(|(a, b)| a - b));
    let size = norm(&mut reference.iter().copied());
    if size == 0.0 { error } else { error / size }
}

/// Loss and both gradients of a scalar made of row losses, and the rounding unit of the gradients.
struct Outcome([Vec<f64>; 3]);

fn outcome(loss: &Tensor, users: &Tensor, items: &Tensor) -> Result<Outcome> {
    let gradients = loss.backward()?;
    let of = |tensor: &Tensor| values(gradients.get(tensor).expect("a gradient"));
    Ok(Outcome([values(loss), of(users), of(items)]))
}

#[test]
fn gradients_are_those_of_candles_composed_operations() -> Result<()> {
    let mut random = fastrand::Rng::with_seed(1);
    for seed in 0..48 {
        let dtype = [DType::F32, DType::F16, DType::BF16][random.usize(..3)];
        let rows = 1 + random.usize(..20);
        // One dimension has a normalised gradient of nothing but rounding.
        let (columns, dim) = (rows + random.usize(..20), 2 + random.usize(..40));
        let case = Case::random(rows, columns, dim, dtype, seed)?;
        let uncorrected = random.bool();
        let correction =
            if uncorrected { PositiveCorrection::Uncorrected } else { PositiveCorrection::Corrected };
        let config = case.config().normalize(random.bool()).positive_correction(correction);
        let reduction = [Reduction::Mean, Reduction::Sum, Reduction::None][random.usize(..3)];

        // An upstream gradient that is not 1, and for Reduction::None one of each row's own.
        let reduce = |rows_loss: Tensor| -> Result<Tensor> {
            match reduction {
                Reduction::Mean => rows_loss.mean_all()? * 3.0,
                Reduction::None => (&rows_loss * case.weights.to_dtype(rows_loss.dtype())?)?.sum_all(),
                _ => rows_loss.sum_all()? * 3.0,
            }
        };
        let of = |dtype: DType| -> Result<Outcome> {
            let users = Var::from_tensor(&case.users.to_dtype(dtype)?)?;
            let items = Var::from_tensor(&case.items.to_dtype(dtype)?)?;
            outcome(&reduce(composed(&case, &users, &items, &config)?)?, &users, &items)
        };
        let (exact, single) = (of(DType::F64)?, of(DType::F32)?);

        let loss = InBatchLoss::new(config.reduction(reduction));
        let value = loss.forward(&case.users, &case.items, &case.inputs())?;
        assert_eq!(value.dtype(), DType::F32);
        assert_eq!(value.dims(), if reduction == Reduction::None { vec![rows] } else { vec![] });
        let value = match reduction {
            Reduction::None => (&value * &case.weights)?.sum_all()?,
            _ => (value * 3.0)?,
        };
        let got = outcome(&value, &case.users, &case.items)?;
        let gradient_eps = match dtype {
            DType::F32 => f64::from(f32::EPSILON) / 2.0,
            DType::F16 => 2f64.powi(-11),
            _ => 2f64.powi(-8),
        };
        let epsilons = [f64::from(f32::EPSILON) / 2.0, gradient_eps, gradient_eps];
        for (index, name) in ["loss", "d_users", "d_items"].into_iter().enumerate() {
            let (got, exact, single) = (&got.0[index], &exact.0[index], &single.0[index]);
            let allowed = 2.0 * distance(single, exact) + 4.0 * epsilons[index];
            let found = distance(got, exact);
            assert!(
                found <= allowed,
                "{name}: {found:e} > {allowed:e} (seed {seed}, {dtype:?}, {rows} x {columns} x {dim}, {reduction:?})"
            );
        }
    }
    Ok(())
}

/// The native call's loss and gradients, as bits.
fn native(case: &Case, config: LossConfig, bank: Option<&cpu::MemoryBank<f32>>) -> [Vec<u32>; 3] {
    let flat = |tensor: &Tensor| -> Vec<f32> { tensor.flatten_all().unwrap().to_vec1().unwrap() };
    let (users, items) = (flat(&case.users), flat(&case.items));
    let (log_q, ids): (Vec<f32>, Vec<i64>) = (flat(&case.log_q), case.item_ids.to_vec1().unwrap());
    let mut loss = cpu::InBatchLoss::new(config).unwrap();
    let mut batch = cpu::Batch::new(&users, &items, case.users.dim(1).unwrap()).log_q(&log_q).item_ids(&ids);
    if let Some(bank) = bank {
        batch = batch.bank(bank);
    }
    let (mut d_users, mut d_items) = (vec![f32::NAN; users.len()], vec![f32::NAN; items.len()]);
    let output = loss.step(&batch, &mut cpu::Gradients::new(&mut d_users, &mut d_items)).unwrap();
    let loss = vec![output.loss().unwrap()];
    [loss, d_users, d_items].map(|values| values.iter().map(|v| v.to_bits()).collect())
}

/// The same through candle.
fn linked(loss: &Tensor, users: &Tensor, items: &Tensor) -> Result<[Vec<u32>; 3]> {
    let gradients = loss.backward()?;
    let bits = |tensor: &Tensor| -> Result<Vec<u32>> {
        Ok(tensor.flatten_all()?.to_vec1::<f32>()?.iter().map(|v| v.to_bits()).collect())
    };
    let gradient = |tensor| bits(gradients.get(tensor).expect("a gradient"));
    Ok([bits(loss)?, gradient(users)?, gradient(items)?])
}

#[test]
fn the_bits_of_the_native_call_from_any_offset() -> Result<()> {
    let case = Case::random(9, 13, 24, DType::F32, 2)?;
    let expected = native(&case, case.config(), None);
    let loss = InBatchLoss::new(case.config());
    let value = loss.forward(&case.users, &case.items, &case.inputs())?;
    assert_eq!(linked(&value, &case.users, &case.items)?, expected);
    let evaluated = loss.evaluate(&case.users, &case.items, &case.inputs())?;
    assert_eq!(evaluated.to_scalar::<f32>()?.to_bits(), expected[0][0]);

    // Inside of larger storages.
    let inside = |tensor: &Tensor| -> Result<Tensor> {
        let padding = tensor.narrow(0, 0, 2)?.contiguous()?;
        Tensor::cat(&[&padding, tensor, &padding], 0)?.narrow(0, 2, tensor.dim(0)?)
    };
    let (users, items) = (Var::from_tensor(&case.users)?, Var::from_tensor(&case.items)?);
    let inputs = Inputs::new().log_q(&inside(&case.log_q)?).item_ids(&inside(&case.item_ids)?);
    let value = loss.forward(&inside(&users)?, &inside(&items)?, &inputs)?;
    assert_eq!(linked(&value, &users, &items)?, expected);

    // Columns first: no rows in a row.
    let (users, items) = (Var::from_tensor(&case.users.t()?)?, Var::from_tensor(&case.items.t()?)?);
    let value = loss.forward(&users.t()?, &items.t()?, &case.inputs())?;
    let gradients = value.backward()?;
    for (tensor, expected) in [(&users, &expected[1]), (&items, &expected[2])] {
        let gradient = gradients.get(tensor).expect("a gradient").t()?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(gradient.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), *expected);
    }
    Ok(())
}

#[test]
fn a_bank_in_the_graph_and_a_push_before_the_backward() -> Result<()> {
    let (earlier, case) = (Case::random(7, 7, 16, DType::F32, 3)?, Case::random(9, 9, 16, DType::F32, 4)?);
    let bank_config = BankConfig::new(20, 16)?;
    let config = case.config().normalize(true);
    let bank = MemoryBank::new(bank_config, DType::F32, &DEVICE)?;
    bank.push(&earlier.items, Some(&earlier.log_q), Some(&earlier.item_ids))?;
    let mut native_bank = cpu::MemoryBank::<f32>::new(bank_config).unwrap();
    native_bank.restore(&bank.snapshot()?).unwrap();
    let expected = native(&case, config, Some(&native_bank));
    assert_ne!(expected, native(&case, config, None), "the bank matters");

    let loss = InBatchLoss::new(config);
    let inputs = case.inputs().bank(&bank);
    let value = loss.forward(&case.users, &case.items, &inputs)?;
    // Another graph of the same loss, alive at the same time.
    let other = loss.forward(&earlier.users, &earlier.items, &earlier.inputs())?;
    bank.push(&case.items, Some(&case.log_q), Some(&case.item_ids))?;
    assert_eq!(bank.len()?, 16);
    for _ in 0..2 {
        assert_eq!(linked(&value, &case.users, &case.items)?, expected);
    }
    assert_eq!(linked(&other, &earlier.users, &earlier.items)?, native(&earlier, config, None));

    // A checkpoint of either holds the other.
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("bank.safetensors");
    bank.save(&path)?;
    let restored = MemoryBank::new(bank_config, DType::F32, &DEVICE)?;
    restored.load(&path)?;
    assert_eq!(restored.len()?, 16);
    Ok(())
}

#[test]
fn a_temperature_that_changes_between_two_steps() -> Result<()> {
    let case = Case::random(5, 6, 8, DType::F32, 5)?;
    let mut loss = InBatchLoss::new(case.config());
    let before = loss.forward(&case.users, &case.items, &case.inputs())?;
    loss.set_config(case.config().with_temperature(0.7)?);
    let after = loss.forward(&case.users, &case.items, &case.inputs())?;
    assert_eq!(linked(&before, &case.users, &case.items)?, native(&case, case.config(), None));
    assert_eq!(linked(&after, &case.users, &case.items)?, native(&case, *loss.config(), None));
    Ok(())
}

#[test]
fn what_does_not_fit_says_so() -> Result<()> {
    let case = Case::random(5, 6, 8, DType::F32, 6)?;
    let loss = InBatchLoss::new(case.config());
    let refused = |users: &Tensor, items: &Tensor, inputs: &Inputs, words: &str| {
        let error = loss.forward(users, items, inputs).unwrap_err().to_string();
        assert!(error.contains(words), "{error:?} lacks {words:?}");
    };
    let inputs = case.inputs();
    let double = |tensor: &Tensor| tensor.to_dtype(DType::F64);
    refused(&double(&case.users)?, &double(&case.items)?, &inputs, "takes f32, f16 and bf16");
    refused(&case.users, &case.items.to_dtype(DType::F16)?, &inputs, "items has another type");
    let ids = case.item_ids.to_dtype(DType::U32)?;
    refused(&case.users, &case.items, &case.inputs().item_ids(&ids), "item_ids has another type");
    let log_q = double(&case.log_q)?;
    refused(&case.users, &case.items, &case.inputs().log_q(&log_q), "log_q has another type");
    refused(&case.users.flatten_all()?, &case.items, &inputs, "users must be a matrix");
    refused(&case.users, &case.items.narrow(1, 0, 7)?, &inputs, "8 dimensions, items 7");
    refused(&case.users.narrow(0, 0, 0)?, &case.items, &inputs, "no rows");
    refused(&case.users, &case.items.narrow(0, 0, 0)?, &Inputs::new(), "cannot hold the positives");
    refused(&case.users, &case.items, &Inputs::new(), "needs item ids");
    let short = case.log_q.narrow(0, 0, 5)?;
    refused(&case.users, &case.items, &case.inputs().log_q(&short), "log_q holds 5 elements, expected 6");

    let bank = MemoryBank::new(BankConfig::new(4, 8)?, DType::F16, &DEVICE)?;
    refused(&case.users, &case.items, &case.inputs().bank(&bank), "the memory bank has another type");
    let error = bank.push(&case.items, Some(&case.log_q), Some(&case.item_ids)).unwrap_err();
    assert!(error.to_string().contains("holds F16"), "{error}");
    let error = MemoryBank::new(BankConfig::new(4, 8)?, DType::U8, &DEVICE).unwrap_err();
    assert!(error.to_string().contains("takes f32, f16 and bf16"), "{error}");
    // All this has left no trace.
    let value = loss.forward(&case.users, &case.items, &inputs)?;
    assert_eq!(linked(&value, &case.users, &case.items)?, native(&case, case.config(), None));
    Ok(())
}
