//! Random cases: proptest draws (and shrinks) a short description, a seeded generator (`draw.rs`) the numbers.

use inbatch::{Dtype, LogQOrder, LossConfig, Objective, PositiveCorrection, Reduction};
use proptest::prelude::*;

use super::case::Case;
use super::draw::Draw;

/// How large cases may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub rows: usize,
    pub columns: usize,
    pub dim: usize,
    /// Cases of each property.
    pub cases: u32,
}

impl Limits {
    /// For a backend that runs at the machine's speed. `INBATCH_CASES` raises the number of cases.
    pub(crate) fn full() -> Self {
        let cases = cases_from("INBATCH_CASES", 256);
        Self { rows: 150, columns: 600, dim: 200, cases }
    }

    /// For an emulated device. `INBATCH_EMULATED_CASES` raises the number of cases.
    pub(crate) fn emulated() -> Self {
        let cases = cases_from("INBATCH_EMULATED_CASES", 32);
        Self { rows: 40, columns: 100, dim: 40, cases }
    }
}

fn cases_from(variable: &str, default: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The description of a bank.
#[derive(Clone, Debug)]
pub(crate) struct BankSpec {
    pub capacity: usize,
    pub pushes: Vec<usize>,
    pub warm_up: u64,
    pub max_age: Option<u64>,
}

/// The description of row negatives.
#[derive(Clone, Debug)]
pub(crate) struct RowNegativesSpec {
    pub per_row: usize,
    /// Embeddings of a pool; `None`: each cell has its own.
    pub pool: Option<usize>,
    pub wants_gradient: bool,
}

/// The description of a case.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub seed: u64,
    pub dtype: Dtype,
    pub gradient_dtype: Dtype,
    pub rows: usize,
    pub dim: usize,
    pub offset: usize,
    /// Batch columns beyond `rows + offset`.
    pub surplus: usize,
    pub extra: Option<usize>,
    pub wants_extra_gradient: bool,
    pub bank: Option<BankSpec>,
    pub temperature: f32,
    /// Standard deviation of the logits before log q, so that rows are neither flat nor all converged.
    pub spread: f32,
    /// How far each user leans towards its positive.
    pub lean: f32,
    pub log_q: bool,
    pub logq_scale: f32,
    pub corrected: bool,
    pub exclude_item: bool,
    pub exclude_user: bool,
    /// Distinct ids: few of them make many accidental hits.
    pub distinct_ids: u64,
    pub normalize: bool,
    pub weights: bool,
    pub reduction: Reduction,
    pub upstream: bool,
    pub objective: Objective,
    pub log_q_inside: bool,
    pub metrics: bool,
    pub wants_log_q_gradient: bool,
    /// As many items as users, no other columns, and log q of the users or not.
    pub symmetric: Option<bool>,
    pub row_negatives: Option<RowNegativesSpec>,
    pub hard_negatives: Option<usize>,
}

fn dtype() -> impl Strategy<Value = Dtype> {
    prop_oneof![3 => Just(Dtype::F32), 1 => Just(Dtype::F16), 1 => Just(Dtype::Bf16)]
}

/// Sizes where tiles begin and end, and anything else up to `max`.
fn size(max: usize) -> impl Strategy<Value = usize> {
    let edges: Vec<usize> =
        [1, 2, 3, 7, 31, 63, 64, 65, 127, 128, 129].into_iter().filter(|n| *n <= max).collect();
    prop_oneof![1 => proptest::sample::select(edges), 2 => 1..=max]
}

fn dimension(max: usize) -> impl Strategy<Value = usize> {
    let large = if max >= 200 { vec![256, 257, 512, 1000, 1024] } else { vec![max] };
    prop_oneof![16 => 1..=max, 1 => proptest::sample::select(large)]
}

/// Half of the cases are the plain softmax.
fn objective() -> impl Strategy<Value = Objective> {
    prop_oneof![
        5 => Just(Objective::Softmax),
        1 => (-2.0f32..4.0).prop_map(|margin| Objective::AdditiveMargin { margin }),
        1 => Just(Objective::Decoupled),
        1 => Just(Objective::CorrectedLogQ),
        1 => (0.0f32..0.3).prop_map(|positive_prior| Objective::Debiased { positive_prior }),
        1 => (-10.0f32..2.0).prop_map(|bias| Objective::Sigmoid { bias }),
    ]
}

fn bank(max: usize) -> impl Strategy<Value = BankSpec> {
    let pushes = proptest::collection::vec(0..=max / 2, 0..5);
    (1..=max, pushes, prop_oneof![3 => Just(0u64), 1 => 1..4u64], proptest::option::weighted(0.4, 0..4u64))
        .prop_map(|(capacity, pushes, warm_up, max_age)| BankSpec { capacity, pushes, warm_up, max_age })
}

fn row_negatives(max: usize) -> impl Strategy<Value = RowNegativesSpec> {
    let pool = proptest::option::of(prop_oneof![9 => size(max), 1 => Just(0)]);
    (prop_oneof![6 => 0..9usize, 1 => size(max)], pool, any::<bool>())
        .prop_map(|(per_row, pool, wants_gradient)| RowNegativesSpec { per_row, pool, wants_gradient })
}

/// More than any batch has means all but one of its columns.
fn hard_negatives() -> impl Strategy<Value = usize> {
    prop_oneof![2 => 1..9usize, 2 => size(LossConfig::MAX_HARD_NEGATIVES), 1 => Just(LossConfig::MAX_HARD_NEGATIVES)]
}

impl Spec {
    /// Every option, every segment.
    pub(crate) fn strategy(limits: Limits) -> impl Strategy<Value = Spec> {
        let Limits { rows, columns, dim, .. } = limits;
        let segment = columns / 3;
        let shape =
            (size(rows), dimension(dim), prop_oneof![2 => Just(0), 1 => 0..rows / 2], 0..=segment / 2);
        let segments = (
            proptest::option::of(size(segment)),
            any::<bool>(),
            proptest::option::of(bank(segment)),
            prop_oneof![Just(1u64), 2..10u64, Just(1000u64)],
        );
        let numbers = (
            any::<u64>(),
            (-2.0f32..0.3).prop_map(|exponent| 10f32.powf(exponent)),
            prop_oneof![3 => 0.3f32..4.0, 1 => 4.0f32..40.0],
            prop_oneof![Just(0.0f32), 0.0f32..1.0],
            (dtype(), dtype()),
        );
        let correction =
            (any::<bool>(), prop_oneof![2 => Just(1.0f32), 1 => Just(0.0), 1 => -1.0f32..2.0], any::<bool>());
        let reduction = proptest::sample::select(vec![
            Reduction::Mean,
            Reduction::WeightedMean,
            Reduction::Sum,
            Reduction::None,
        ]);
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), reduction);
        let symmetric = proptest::option::weighted(0.2, any::<bool>());
        let family = (objective(), any::<bool>(), any::<bool>(), any::<bool>(), symmetric);
        let choices = (
            proptest::option::weighted(0.3, row_negatives(segment.min(40))),
            proptest::option::weighted(0.25, hard_negatives()),
        );
        (shape, segments, numbers, correction, flags, family, choices).prop_map(
            move |(shape, segments, numbers, correction, flags, family, choices)| {
                let (rows, dim, offset, surplus) = shape;
                let (extra, wants_extra_gradient, bank, distinct_ids) = segments;
                let (seed, temperature, spread, lean, (dtype, gradient_dtype)) = numbers;
                let (log_q, logq_scale, corrected) = correction;
                let (objective, inside, metrics, wants_log_q_gradient, symmetric) = family;
                let symmetric = symmetric.filter(|_| {
                    let one_sided = Objective::AdditiveMargin { margin: 0.0 };
                    matches!(objective, Objective::Softmax | Objective::Decoupled)
                        || std::mem::discriminant(&objective) == std::mem::discriminant(&one_sided)
                });
                let alone = symmetric.is_some();
                let row_negatives = choices.0.filter(|_| !alone);
                // Fewer than the batch alone has, so that a case without its other columns is one too.
                let most = rows + offset + surplus - 1;
                let all_columns = alone || row_negatives.is_some() || most == 0;
                let hard_negatives = choices.1.filter(|_| !all_columns).map(|k| k.min(most));
                let corrected_log_q = objective == Objective::CorrectedLogQ;
                let log_q = match objective {
                    Objective::CorrectedLogQ => true,
                    Objective::Debiased { .. } => false,
                    _ => log_q,
                };
                let (exclude_item, exclude_user, normalize, weights, upstream, reduction) = flags;
                Spec {
                    seed,
                    dtype,
                    gradient_dtype,
                    rows,
                    dim,
                    offset: if alone { 0 } else { offset },
                    surplus: if alone { 0 } else { surplus },
                    extra: extra.filter(|_| !alone),
                    wants_extra_gradient,
                    bank: bank.filter(|_| !alone),
                    temperature,
                    spread,
                    lean,
                    log_q,
                    logq_scale,
                    corrected,
                    exclude_item,
                    exclude_user,
                    distinct_ids,
                    normalize,
                    weights: weights || reduction == Reduction::WeightedMean,
                    reduction,
                    upstream,
                    objective,
                    log_q_inside: inside && !corrected_log_q,
                    metrics,
                    wants_log_q_gradient,
                    symmetric,
                    row_negatives,
                    hard_negatives,
                }
            },
        )
    }

    fn config(&self) -> LossConfig {
        let positive = match self.corrected {
            true => PositiveCorrection::Corrected,
            false => PositiveCorrection::Uncorrected,
        };
        let hard = |config: LossConfig| match self.hard_negatives {
            Some(kept) => config.hard_negatives(kept),
            None => Ok(config),
        };
        LossConfig::new(self.temperature)
            .and_then(|config| config.logq_scale(self.logq_scale))
            .and_then(|config| config.objective(self.objective))
            .and_then(hard)
            .expect("a valid temperature, scale, objective and number of negatives")
            .logq_order(match self.log_q_inside {
                true => LogQOrder::InsideTemperature,
                false => LogQOrder::OutsideTemperature,
            })
            .metrics(self.metrics)
            .symmetric(self.symmetric.is_some())
            .positive_correction(positive)
            .exclude_same_item(self.exclude_item)
            .exclude_same_user(self.exclude_user)
            .normalize(self.normalize)
            .reduction(self.reduction)
    }

    /// The same in a 16-bit type, at a dimension and with the options that tensor cores take.
    pub(crate) fn for_tensor_cores(&self) -> Spec {
        const DIMS: [usize; 9] = [32, 48, 64, 80, 128, 144, 256, 272, 528];
        let dtype = match self.dtype {
            Dtype::F32 => [Dtype::F16, Dtype::Bf16][self.dim / DIMS.len() % 2],
            narrow => narrow,
        };
        let objective = match self.objective {
            has @ (Objective::Softmax | Objective::AdditiveMargin { .. } | Objective::Decoupled) => has,
            _ => Objective::Softmax,
        };
        Spec {
            dtype,
            dim: DIMS[self.dim % DIMS.len()],
            objective,
            log_q_inside: false,
            metrics: false,
            wants_log_q_gradient: false,
            hard_negatives: None,
            ..self.clone()
        }
    }

    /// The case itself.
    pub(crate) fn build(&self) -> Case {
        let mut draw = Draw { random: fastrand::Rng::with_seed(self.seed), spec: self };
        let batch_columns = self.rows + self.offset + self.surplus;
        let items = draw.items(batch_columns);
        let users = draw.users(&items.embeddings);
        let extra = self.extra.map(|count| draw.items(count));
        let bank = self.bank.as_ref().map(|bank| draw.bank(bank));
        let ids = |draw: &mut Draw<'_>| draw.ids(self.rows);
        let upstream_len = if self.reduction == Reduction::None { self.rows } else { 1 };
        let row_negatives = self.row_negatives.as_ref();
        Case {
            config: self.config(),
            dtype: self.dtype,
            gradient_dtype: self.gradient_dtype,
            dim: self.dim,
            offset: self.offset,
            users,
            items,
            wants_extra_gradient: extra.is_some() && self.wants_extra_gradient,
            wants_log_q_gradient: self.wants_log_q_gradient,
            extra,
            bank,
            user_log_q: (self.symmetric == Some(true)).then(|| draw.log_q(self.rows)),
            user_ids: self.exclude_user.then(|| ids(&mut draw)),
            weights: self.weights.then(|| draw.weights()),
            upstream: self
                .upstream
                .then(|| (0..upstream_len).map(|_| draw.random.f32() * 2.0 - 0.5).collect()),
            wants_row_negatives_gradient: row_negatives.is_some_and(|spec| spec.wants_gradient),
            row_negatives: row_negatives.map(|spec| draw.row_negatives(spec)),
            weight_scale: 1.0,
        }
    }
}
