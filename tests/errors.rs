//! Every error variant is provoked by some test, and bad input never panics.

use inbatch::bank::BankConfig;
use inbatch::cpu::{Batch, Gradients, InBatchLoss, Items, MemoryBank, RowNegatives};
use inbatch::{
    Backend, Element, Error, LearnedTemperature, Length, LogQOrder, LossConfig, Objective, Problem,
    Reduction, Segment,
};

const USERS: [f32; 4] = [0.5, -0.5, 1.0, 0.25];

fn config() -> LossConfig {
    LossConfig::new(0.5).unwrap()
}

fn batch<'a>() -> Batch<'a, f32> {
    Batch::new(&USERS, &USERS, 2)
}

/// The error of a step, of a forward and of an evaluation, which must agree.
fn error(config: LossConfig, batch: &Batch<'_, f32>) -> Error {
    let mut loss = InBatchLoss::new(config).unwrap();
    let (mut d_users, mut d_items) = ([f32::NAN; 4], [f32::NAN; 4]);
    let step = loss.step(batch, &mut Gradients::new(&mut d_users, &mut d_items)).unwrap_err();
    assert!(d_users.iter().chain(&d_items).all(|x| x.is_nan()), "a failing step wrote gradients");
    assert_eq!(loss.forward(batch).unwrap_err().to_string(), step.to_string());
    assert_eq!(loss.evaluate(batch).unwrap_err().to_string(), step.to_string());
    step
}

#[test]
fn configuration() {
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-39] {
        assert!(matches!(LossConfig::new(bad), Err(Error::Temperature(_))), "{bad}");
    }
    assert!(matches!(config().logq_scale(f32::NAN), Err(Error::LogqScale(_))));
    assert!(matches!(BankConfig::new(0, 2), Err(Error::BankCapacity)));
    assert!(matches!(BankConfig::new(2, 0), Err(Error::Dimension { .. })));
}

#[test]
fn objectives() {
    let of = |objective| config().objective(objective);
    for bad in [f32::NAN, f32::INFINITY] {
        assert!(matches!(of(Objective::AdditiveMargin { margin: bad }), Err(Error::Margin(_))));
        assert!(matches!(of(Objective::Sigmoid { bias: bad }), Err(Error::SigmoidBias(_))));
    }
    for bad in [-0.1, 1.0, f32::NAN] {
        let debiased = Objective::Debiased { positive_prior: bad };
        assert!(matches!(of(debiased), Err(Error::PositivePrior(_))), "{bad}");
    }
    let corrected = of(Objective::CorrectedLogQ).unwrap();
    assert!(matches!(error(corrected, &batch()), Error::ObjectiveNeedsLogQ));
    for bad in [[-1.0, 0.0], [-1.0, 0.5], [-1.0, f32::NAN]] {
        let found = error(corrected, &batch().log_q(&bad));
        assert!(matches!(found, Error::NotAProbability { row: 1, .. }), "{found}");
    }
    let log_q = [-1.0; 2];
    let inside = corrected.logq_order(LogQOrder::InsideTemperature);
    assert!(matches!(error(inside, &batch().log_q(&log_q)), Error::Incompatible { .. }));
    let debiased = of(Objective::Debiased { positive_prior: 0.1 }).unwrap();
    assert!(matches!(error(debiased, &batch().log_q(&log_q)), Error::Incompatible { .. }));
    let ignored = debiased.logq_scale(0.0).unwrap();
    assert!(InBatchLoss::new(ignored).unwrap().evaluate(&batch().log_q(&log_q)).is_ok());
    let learned = LearnedTemperature::new(0.5).unwrap();
    assert!(matches!(learned.within(1.0, 0.5), Err(Error::TemperatureRange { .. })));
}

#[test]
fn symmetric_losses() {
    let symmetric = config().symmetric(true);
    let (log_q, extra, items) = ([-1.0; 2], [0.5_f32; 2], [0.5_f32; 6]);
    let bank = MemoryBank::<f32>::new(BankConfig::new(4, 2).unwrap()).unwrap();
    let sigmoid = symmetric.objective(Objective::Sigmoid { bias: 0.0 }).unwrap();
    for (config, bad) in [
        (symmetric, batch().extra(Items::new(&extra))),
        (symmetric, batch().bank(&bank)),
        (symmetric, Batch::new(&USERS, &items, 2)),
        (sigmoid, batch()),
        (config(), batch().user_log_q(&log_q)),
    ] {
        let found = error(config, &bad);
        assert!(matches!(found, Error::Incompatible { .. }), "{found}");
    }
    let found = error(symmetric, &batch().user_log_q(&log_q[..1]));
    assert!(matches!(found, Error::Length { what: "user_log_q", .. }), "{found}");
    let mut loss = InBatchLoss::new(symmetric).unwrap();
    let (mut d_users, mut d_items, mut d_log_q) = ([0.0_f32; 4], [0.0_f32; 4], [0.0_f32; 2]);
    let mut gradients = Gradients::new(&mut d_users, &mut d_items).user_log_q(&mut d_log_q);
    let found = loss.step(&batch().log_q(&log_q), &mut gradients).unwrap_err();
    assert!(matches!(found, Error::UnexpectedLogQGradient), "{found}");
    let mut gradients = Gradients::new(&mut d_users, &mut d_items).user_log_q(&mut d_log_q[..1]);
    let found = loss.step(&batch().user_log_q(&log_q), &mut gradients).unwrap_err();
    assert!(matches!(found, Error::Length { what: "the gradient of user_log_q", .. }), "{found}");
}

#[test]
fn row_negatives() {
    let (log_q, own, ids) = ([-1.0; 2], [0.5_f32; 8], [7_i64; 4]);
    fn of(own: &[f32]) -> RowNegatives<'_, f32> {
        RowNegatives::new(Items::new(own), 2)
    }
    let good = || batch().row_negatives(of(&own));
    assert!(InBatchLoss::new(config()).unwrap().evaluate(&good()).is_ok());
    let odd = error(config(), &batch().row_negatives(of(&own[..7])));
    assert!(matches!(odd, Error::NotRows { what: "row negatives", .. }), "{odd}");
    let pool = |indices: &'static [i32]| RowNegatives::of_pool(Items::new(&own[..6]), indices, 2);
    for (bad, what) in [
        (batch().row_negatives(of(&own[..6])), "row negatives"),
        (batch().row_negatives(pool(&[0, 1, 2])), "row negatives' indices"),
        (
            batch().row_negatives(RowNegatives::new(Items::new(&own).item_ids(&ids[..3]), 2)),
            "row negatives' item_ids",
        ),
        (
            batch().log_q(&log_q).row_negatives(RowNegatives::new(Items::new(&own).log_q(&log_q), 2)),
            "row negatives' log_q",
        ),
    ] {
        let found = error(config(), &bad);
        assert!(matches!(found, Error::Length { what: name, .. } if name == what), "{found}");
    }
    let found = error(config(), &batch().row_negatives(pool(&[0, -1, 2, 3])));
    assert!(matches!(found, Error::RowNegativeIndex { row: 1, slot: 1, index: 3, pool: 3 }), "{found}");
    let found = error(config(), &batch().row_negatives(pool(&[0, i32::MAX, 2, 3])));
    assert!(matches!(found, Error::RowNegativeIndex { row: 0, slot: 1, .. }), "{found}");
    let found = error(config(), &good().log_q(&log_q));
    assert!(matches!(found, Error::MissingLogQ(Segment::RowNegatives)), "{found}");
    let four = [-1.0; 4];
    let found = error(config(), &batch().row_negatives(RowNegatives::new(Items::new(&own).log_q(&four), 2)));
    assert!(matches!(found, Error::MissingLogQ(Segment::Batch)), "{found}");
    let found = error(config().exclude_same_item(true), &good().item_ids(&[1, 2]));
    assert!(matches!(found, Error::MissingItemIds(Segment::RowNegatives)), "{found}");
    let found = error(config().symmetric(true), &good());
    assert!(matches!(found, Error::Incompatible { second: "row negatives", .. }), "{found}");
}

#[test]
fn row_negatives_gradients() {
    let own = [0.5_f32; 8];
    let mut loss = InBatchLoss::new(config()).unwrap();
    let (mut d_users, mut d_items) = ([f32::NAN; 4], [f32::NAN; 4]);
    let (mut d_own, mut numbers) = ([f32::NAN; 8], [f32::NAN; 4]);
    let with = || batch().row_negatives(RowNegatives::new(Items::new(&own), 2));
    let mut gradients = Gradients::new(&mut d_users, &mut d_items).row_negatives(&mut d_own);
    let found = loss.step(&batch(), &mut gradients).unwrap_err();
    assert!(matches!(found, Error::UnexpectedRowNegativesGradient), "{found}");
    assert!(loss.step(&with(), &mut gradients).is_ok());
    let mut gradients = Gradients::new(&mut d_users, &mut d_items).row_negatives(&mut d_own[..6]);
    let found = loss.step(&with(), &mut gradients).unwrap_err();
    assert!(matches!(found, Error::Length { what: "the gradient of row negatives", .. }), "{found}");
    let mut gradients = Gradients::new(&mut d_users, &mut d_items).row_negatives_log_q(&mut numbers);
    let found = loss.step(&with(), &mut gradients).unwrap_err();
    assert!(matches!(found, Error::UnexpectedLogQGradient), "{found}");
    let mut gradients = Gradients::new(&mut d_users, &mut d_items).row_negatives_log_q(&mut numbers[..3]);
    let found = loss.step(&with(), &mut gradients).unwrap_err();
    let what = "the gradient of row negatives' log_q";
    assert!(matches!(found, Error::Length { what: name, .. } if name == what), "{found}");
    // A backward is for the batch of its forward.
    loss.forward(&with()).unwrap();
    let mut gradients = Gradients::new(&mut d_users, &mut d_items);
    assert!(matches!(loss.backward(&batch(), None, &mut gradients), Err(Error::NoForward(_))));
}

#[test]
fn hard_negatives() {
    for asked in [0, LossConfig::MAX_HARD_NEGATIVES + 1, usize::MAX] {
        assert!(matches!(config().hard_negatives(asked), Err(Error::HardNegativesCount { .. })), "{asked}");
    }
    let hardest = |kept| config().hard_negatives(kept).unwrap();
    assert!(InBatchLoss::new(hardest(1)).unwrap().evaluate(&batch()).is_ok());
    let found = error(hardest(2), &batch());
    assert!(matches!(found, Error::HardNegatives { asked: 2, columns: 2 }), "{found}");
    let extra = [0.5_f32; 2];
    let wider = batch().extra(Items::new(&extra));
    assert!(InBatchLoss::new(hardest(2)).unwrap().evaluate(&wider).is_ok());
    let own = [0.5_f32; 8];
    let found = error(hardest(1), &batch().row_negatives(RowNegatives::new(Items::new(&own), 2)));
    assert!(matches!(found, Error::Incompatible { second: "row negatives", .. }), "{found}");
    let found = error(hardest(1).symmetric(true), &batch());
    assert!(matches!(found, Error::Incompatible { second: "hard_negatives", .. }), "{found}");
}

#[test]
fn what_a_call_did_not_compute() {
    let mut loss = InBatchLoss::new(config()).unwrap();
    let (mut d_users, mut d_items, mut d_log_q) = ([0.0_f32; 4], [0.0_f32; 4], [0.0_f32; 2]);
    let mut gradients = Gradients::new(&mut d_users, &mut d_items).log_q(&mut d_log_q);
    assert!(matches!(loss.step(&batch(), &mut gradients), Err(Error::UnexpectedLogQGradient)));
    let log_q = [-1.0; 2];
    let output = loss.step(&batch().log_q(&log_q), &mut gradients).unwrap();
    assert!(matches!(output.metrics(), Err(Error::NoMetrics)));
    assert!(matches!(output.d_bias(), Err(Error::NoBiasGradient)));
    let (mut d_users, mut d_items, mut short) = ([0.0_f32; 4], [0.0_f32; 4], [0.0_f32; 1]);
    let mut gradients = Gradients::new(&mut d_users, &mut d_items).log_q(&mut short);
    let found = loss.step(&batch().log_q(&log_q), &mut gradients).unwrap_err();
    assert!(matches!(found, Error::Length { what: "the gradient of log_q", .. }), "{found}");
    let extra = [0.5_f32; 2];
    let mut gradients = Gradients::new(&mut d_users, &mut d_items).extra_log_q(&mut short);
    let found = loss.step(&batch().extra(Items::new(&extra)), &mut gradients).unwrap_err();
    assert!(matches!(found, Error::UnexpectedLogQGradient), "{found}");
}

/// A backend of views that only claim a length: no machine has room for 2^31 rows.
enum Claims {}

struct Claim(usize);

impl Length for Claim {
    fn length(&self) -> usize {
        self.0
    }
}

impl Backend for Claims {
    type View<'a, T: bytemuck::Pod> = Claim;
    type ViewMut<'a, T: bytemuck::Pod> = Claim;
    type Bank<T: Element> = MemoryBank<T>;
}

#[test]
fn more_rows_or_columns_than_fit_the_index() {
    const LIMIT: usize = i32::MAX as usize;
    let check = |rows: usize, batch: usize, extra: usize| {
        let batch = inbatch::Batch::<'_, Claims, f32>::new(Claim(rows), Claim(batch), 1);
        Problem::new(&batch.extra(inbatch::Items::new(Claim(extra))), &config())
    };
    assert!(check(LIMIT, LIMIT, 0).is_ok());
    for (rows, batch, extra) in [(LIMIT + 1, LIMIT + 1, 0), (1, LIMIT, 1), (1, usize::MAX, usize::MAX)] {
        let error = check(rows, batch, extra).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
}

#[test]
fn shapes() {
    for dim in [0, 1025] {
        assert!(matches!(error(config(), &Batch::new(&USERS, &USERS, dim)), Error::Dimension { .. }));
    }
    assert!(matches!(error(config(), &Batch::new(&USERS, &USERS, 3)), Error::NotRows { what: "users", .. }));
    assert!(matches!(error(config(), &Batch::new(&USERS[..0], &USERS, 2)), Error::NoRows));
    assert!(matches!(error(config(), &batch().offset(1)), Error::PositivesOutside { .. }));
    assert!(matches!(error(config(), &batch().offset(usize::MAX)), Error::PositivesOutside { .. }));
    let three = [0.0; 3];
    for (bad, what) in [
        (batch().log_q(&three), "log_q"),
        (batch().weights(&three), "weights"),
        (batch().item_ids(&[1, 2, 3]), "item_ids"),
        (batch().user_ids(&[1, 2, 3]), "user_ids"),
        (batch().extra(Items::new(&USERS).log_q(&three)), "extra log_q"),
    ] {
        let error = error(config(), &bad);
        assert!(matches!(error, Error::Length { what: found, .. } if found == what), "{error}");
    }
}

#[test]
fn missing_fields() {
    let log_q = [0.0; 2];
    let half = batch().log_q(&log_q).extra(Items::new(&USERS));
    assert!(matches!(error(config(), &half), Error::MissingLogQ(Segment::Extra)));
    let other = batch().extra(Items::new(&USERS).log_q(&log_q));
    assert!(matches!(error(config(), &other), Error::MissingLogQ(Segment::Batch)));
    let by_item = config().exclude_same_item(true);
    assert!(matches!(error(by_item, &batch()), Error::MissingItemIds(Segment::Batch)));
    let half = batch().item_ids(&[1, 2]).extra(Items::new(&USERS));
    assert!(matches!(error(by_item, &half), Error::MissingItemIds(Segment::Extra)));
    assert!(matches!(error(config().exclude_same_user(true), &batch()), Error::MissingUserIds));
    let weighted = config().reduction(Reduction::WeightedMean);
    assert!(matches!(error(weighted, &batch()), Error::MissingWeights));
    for bad in [[0.0, 0.0], [1.0, -1.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0]] {
        assert!(matches!(error(weighted, &batch().weights(&bad)), Error::WeightSum(_)));
    }
}

#[test]
fn gradients() {
    let mut loss = InBatchLoss::new(config()).unwrap();
    let (mut good, mut short) = ([0.0_f32; 4], [0.0_f32; 2]);
    let result = loss.step(&batch(), &mut Gradients::new(&mut short, &mut good));
    assert!(matches!(result, Err(Error::Length { .. })));
    let mut other = [0.0_f32; 4];
    let result = loss.step(&batch(), &mut Gradients::new(&mut good, &mut other).extra(&mut short));
    assert!(matches!(result, Err(Error::UnexpectedExtraGradient)));
    assert!(matches!(
        loss.forward(&batch()).unwrap().d_inverse_temperature(),
        Err(Error::NoTemperatureGradient)
    ));
}

#[test]
fn backward_needs_its_forward() {
    let mut loss = InBatchLoss::new(config()).unwrap();
    let (mut d_users, mut d_items) = ([0.0_f32; 4], [0.0_f32; 4]);
    let mut gradients = Gradients::new(&mut d_users, &mut d_items);
    assert!(matches!(loss.backward(&batch(), None, &mut gradients), Err(Error::NoForward(_))));
    loss.forward(&Batch::new(&USERS, &USERS, 1)).unwrap();
    assert!(matches!(loss.backward(&batch(), None, &mut gradients), Err(Error::NoForward(_))));
    loss.forward(&batch()).unwrap();
    let two = [1.0_f32; 2];
    let result = loss.backward(&batch(), Some((&two).into()), &mut gradients);
    assert!(matches!(result, Err(Error::Length { what: "upstream", .. })));
    assert!(loss.backward(&batch(), None, &mut gradients).is_ok());
    loss.evaluate(&batch()).unwrap();
    assert!(matches!(loss.backward(&batch(), None, &mut gradients), Err(Error::NoForward(_))));
}

#[test]
fn no_scalar_without_a_reduction() {
    let mut loss = InBatchLoss::new(config().reduction(Reduction::None)).unwrap();
    assert!(matches!(loss.evaluate(&batch()).unwrap().loss(), Err(Error::NoScalarLoss)));
}

#[test]
fn banks() {
    let bank = MemoryBank::<f32>::new(BankConfig::new(4, 3).unwrap()).unwrap();
    assert!(matches!(error(config(), &batch().bank(&bank)), Error::BankDimension { .. }));
    let bare = BankConfig::new(4, 2).unwrap().without_log_q().without_item_ids();
    let bare = MemoryBank::<f32>::new(bare).unwrap();
    let log_q = [0.0; 2];
    let found = error(config(), &batch().log_q(&log_q).bank(&bare));
    assert!(matches!(found, Error::MissingLogQ(Segment::Bank)));
    let by_item = config().exclude_same_item(true);
    let found = error(by_item, &batch().item_ids(&[1, 2]).bank(&bare));
    assert!(matches!(found, Error::MissingItemIds(Segment::Bank)));

    let mut bank = MemoryBank::<f32>::new(BankConfig::new(4, 2).unwrap()).unwrap();
    let before = bank.snapshot();
    assert!(matches!(bank.push(&Items::new(&USERS)), Err(Error::BankField { field: "log_q", .. })));
    assert!(matches!(bank.push(&Items::new(&USERS[..3])), Err(Error::NotRows { .. })));
    let log_q = [0.0; 3];
    let bad = Items::new(&USERS).log_q(&log_q).item_ids(&[1, 2]);
    assert!(matches!(bank.push(&bad), Err(Error::Length { .. })));
    assert_eq!(bank.snapshot(), before);
    let huge = MemoryBank::<f32>::new(BankConfig::new(usize::MAX / 2, 1024).unwrap());
    assert!(matches!(huge, Err(Error::OutOfMemory { .. })));
    let huge = MemoryBank::<f32>::new(BankConfig::new(usize::MAX / 1024, 1).unwrap());
    assert!(matches!(huge, Err(Error::OutOfMemory { .. })));
}

#[test]
fn sizes_beyond_the_index_type() {
    let shape = Problem {
        rows: 1 << 40,
        dim: 1024,
        batch_columns: 1 << 40,
        extra_columns: 0,
        bank_columns: 0,
        row_negatives: 0,
        pool: None,
        offset: 0,
        dtype: inbatch::Dtype::F32,
    };
    let mut loss = InBatchLoss::new(config()).unwrap();
    assert!(matches!(loss.reserve(&shape), Err(Error::OutOfMemory { .. })));
    // Nor do sizes that no batch has: nothing divides by them, nothing overflows.
    let every = config().normalize(true).exclude_same_item(true).exclude_same_user(true).metrics(true);
    for config in [config(), every, every.hard_negatives(128).unwrap()] {
        loss.set_config(config);
        let bytes = |size| {
            let columns =
                Problem { rows: size, batch_columns: size, extra_columns: size, bank_columns: size, ..shape };
            loss.workspace_bytes(&Problem { row_negatives: size, pool: Some(size), ..columns })
        };
        assert!(bytes(0) <= bytes(1) && bytes(1) < bytes(usize::MAX));
    }
}

/// Fails when a variant is added that no test names.
#[test]
fn every_variant_is_provoked_somewhere() {
    let source = include_str!("../src/error.rs");
    let body = source.split("pub enum Error {").nth(1).unwrap();
    let variants: Vec<&str> = body
        .lines()
        .filter(|line| line.starts_with("    ") && !line.starts_with("     "))
        .map(str::trim)
        .filter(|line| line.starts_with(char::is_uppercase))
        .map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap())
        .collect();
    assert!(variants.len() > 20, "{variants:?}");
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut text = String::new();
    let mut folders = vec![tests];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => text.push_str(&std::fs::read_to_string(path).unwrap_or_default()),
            }
        }
    }
    let missing: Vec<&&str> =
        variants.iter().filter(|variant| !text.contains(&format!("Error::{variant}"))).collect();
    assert!(missing.is_empty(), "no test provokes {missing:?}");
}
