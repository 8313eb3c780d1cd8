//! Random cases: proptest draws (and shrinks) a short description, a seeded generator the numbers.

use inbatch::bank::BankConfig;
use inbatch::{Dtype, LogQOrder, LossConfig, Objective, PositiveCorrection, Reduction};
use proptest::prelude::*;

use super::case::{BankCase, Case, Items, round_to};

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
        Self { rows: 150, columns: 600, dim: 200, cases: cases_from("INBATCH_CASES", 256) }
    }

    /// For an emulated device. `INBATCH_EMULATED_CASES` raises the number of cases.
    pub(crate) fn emulated() -> Self {
        Self { rows: 40, columns: 100, dim: 40, cases: cases_from("INBATCH_EMULATED_CASES", 32) }
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
        (shape, segments, numbers, correction, flags, family).prop_map(
            |(shape, segments, numbers, correction, flags, family)| {
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
                }
            },
        )
    }

    fn config(&self) -> LossConfig {
        let positive = match self.corrected {
            true => PositiveCorrection::Corrected,
            false => PositiveCorrection::Uncorrected,
        };
        LossConfig::new(self.temperature)
            .and_then(|config| config.logq_scale(self.logq_scale))
            .and_then(|config| config.objective(self.objective))
            .expect("a valid temperature, scale and objective")
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
            weight_scale: 1.0,
        }
    }
}

struct Draw<'a> {
    random: fastrand::Rng,
    spec: &'a Spec,
}

impl Draw<'_> {
    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.random.f32()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.random.f32()).cos()
    }

    /// The scale of embeddings that gives logits the wanted spread.
    fn scale(&self) -> f32 {
        (self.spec.spread * self.spec.temperature / (self.spec.dim as f32).sqrt()).sqrt()
    }

    fn embeddings(&mut self, rows: usize) -> Vec<f32> {
        let scale = self.scale();
        (0..rows * self.spec.dim).map(|_| round_to(self.spec.dtype, self.normal() * scale)).collect()
    }

    fn users(&mut self, items: &[f32]) -> Vec<f32> {
        let mut users = self.embeddings(self.spec.rows);
        for (user, item) in users.iter_mut().zip(&items[self.spec.offset * self.spec.dim..]) {
            *user = round_to(self.spec.dtype, *user + self.spec.lean * item);
        }
        users
    }

    fn ids(&mut self, count: usize) -> Vec<i64> {
        // Ids that differ in the upper or the lower 32 bits only: both halves must be compared.
        (0..count)
            .map(|_| {
                let id = self.random.u64(0..self.spec.distinct_ids);
                (if id.is_multiple_of(2) { id } else { (id << 32) | 1 }).cast_signed()
            })
            .collect()
    }

    /// Of probabilities, some of them tiny.
    fn log_q(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| -0.1 - 19.9 * self.random.f32()).collect()
    }

    fn items(&mut self, count: usize) -> Items {
        let log_q = self.spec.log_q.then(|| self.log_q(count));
        Items {
            embeddings: self.embeddings(count),
            log_q,
            item_ids: self.spec.exclude_item.then(|| self.ids(count)),
        }
    }

    fn bank(&mut self, spec: &BankSpec) -> BankCase {
        let mut config =
            BankConfig::new(spec.capacity, self.spec.dim).expect("a valid bank").warm_up(spec.warm_up);
        if let Some(age) = spec.max_age {
            config = config.max_age(age);
        }
        if !self.spec.log_q {
            config = config.without_log_q();
        }
        if !self.spec.exclude_item {
            config = config.without_item_ids();
        }
        BankCase {
            config,
            capacity: spec.capacity,
            warm_up: spec.warm_up,
            max_age: spec.max_age,
            pushes: spec.pushes.iter().map(|rows| self.items(*rows)).collect(),
        }
    }

    fn weights(&mut self) -> Vec<f32> {
        // Some of them zero, some negative; the first keeps their sum away from zero.
        let first = 4.0 * self.spec.rows as f32;
        let mut weights: Vec<f32> = (0..self.spec.rows)
            .map(|_| if self.random.u8(0..5) == 0 { 0.0 } else { self.random.f32() * 2.5 - 0.5 })
            .collect();
        weights[0] = first;
        weights
    }
}
