//! The loss's own device memory: sizes known from the problem, grown only when a problem asks for more.

use super::arguments::scalars;
use super::buffer::Buffer;
use super::device::Device;
use super::plan::Sweep;
use crate::config::Link;
use crate::{LossConfig, Objective, Problem, Result};

/// What a call needs room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The loss alone.
    Loss,
    /// The loss and what a backward needs.
    Forward,
    /// The gradients.
    Backward,
}

/// What is counted of each row: negatives, excluded pairs, negatives above the positive.
pub(super) const COUNTS: usize = 3;

const WHAT: &str = "the loss's workspace";

macro_rules! workspace {
    ($($(#[$doc:meta])* $field:ident: $type:ty),* $(,)?) => {
        /// Device buffers, by the names of the maths.
        #[derive(Debug)]
        pub(super) struct Workspace {
            $($(#[$doc])* pub(super) $field: Buffer<$type>,)*
            /// Where the scalars are, if they are another workspace's.
            scalars_of: Option<u64>,
        }

        /// Elements of each buffer.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(super) struct Sizes {
            $($field: usize),*
        }

        impl Sizes {
            /// Bytes of all buffers together.
            pub(super) fn bytes(&self) -> usize {
                let mut bytes = 0usize;
                $(bytes = bytes.saturating_add(self.$field.saturating_mul(size_of::<$type>()));)*
                bytes
            }

            /// The larger of two sizes for each buffer.
            fn max(self, other: Self) -> Self {
                Self { $($field: self.$field.max(other.$field)),* }
            }
        }

        impl Workspace {
            /// Nothing but the scalars.
            pub(super) fn new(device: &Device) -> Result<Self> {
                let mut workspace = Self { $($field: Buffer::empty(device),)* scalars_of: None };
                workspace.scalars.ensure(scalars::WORDS, WHAT)?;
                Ok(workspace)
            }

            /// No memory yet; the scalars are those of `other`, which must outlive this.
            pub(super) fn beside(device: &Device, other: &Self) -> Self {
                Self { $($field: Buffer::empty(device),)* scalars_of: Some(other.scalars()) }
            }

            /// Grows what is too small.
            pub(super) fn ensure(&mut self, sizes: &Sizes) -> Result<()> {
                $(self.$field.ensure(sizes.$field, WHAT)?;)*
                Ok(())
            }

            /// Fills everything with NaN patterns, the temperature too.
            pub(super) fn poison(&mut self) -> Result<()> {
                $(self.$field.fill(0xff)?;)*
                Ok(())
            }
        }
    };
}

workspace! {
    /// See `arguments::scalars`.
    scalars: f32,
    /// `[N]` -lambda log_q, -inf for absent columns.
    bias: f32,
    /// `[N]` item ids, if items are excluded by id.
    item_ids: i64,
    /// `[N, 2]` inverse norms in two factors, if normalising.
    column_norms: f32,
    /// `[B, 2]` the same for users.
    row_norms: f32,
    /// `[B]` z+.
    positive: f32,
    /// `[B]` z+ as the sweep rounds it, if ranks are counted.
    reference: f32,
    /// `[splits, B]` running maxima of the splits.
    maximum: f32,
    /// `[splits, B]` sums of exp(z - maximum).
    sum: f32,
    /// `[splits, B]` sums of weight times column bias, where log q stands inside the temperature.
    moment: f32,
    /// `[splits, 3, B]` the splits' counts: negatives, excluded pairs, negatives above the positive.
    counts: u32,
    /// `[splits, B, D]` the splits' sums of exp(z - maximum) v; after the merge, O in the first.
    output: f32,
    /// `[B]` log-sum-exp over the negatives.
    lse: f32,
    /// `[B]` maxima over all splits.
    row_maximum: f32,
    /// `[B]` sums over all splits.
    row_sum: f32,
    /// `[B]` sums of sigmoid(z) over all splits, under the sigmoid link.
    row_mass: f32,
    /// `[B]` mean biases over all splits.
    row_moment: f32,
    /// `[3, B]` counts over all splits.
    row_counts: u32,
    /// `[B]` the objective's own derivatives with respect to 1/tau.
    direct: f32,
    /// `[B]` weighted losses.
    loss: f32,
    /// `[B]` a_i.
    a: f32,
    /// `[B]` b_i.
    b: f32,
    /// `[B]` g_i a_i / l_i.
    coefficient: f32,
    /// `[B]` g_i b_i.
    positive_coefficient: f32,
    /// `[B]` tau <u_i, du_i>.
    temperature_term: f32,
    /// `[B]` shares of d(bias), under the sigmoid link.
    bias_term: f32,
    /// `[B]` g_i dloss / dlog_q_+.
    log_q_term: f32,
    /// `[splits, gradient columns]` the second sweep's sums of weights.
    masses: f32,
    /// `[splits, gradient columns, D]` the second sweep's partial sums.
    partials: f32,
}

impl Sizes {
    /// What a call of this purpose needs.
    pub(super) fn of(
        problem: &Problem,
        config: &LossConfig,
        purpose: Purpose,
        multiprocessors: usize,
    ) -> Self {
        let (rows, columns, dim) = (problem.rows, problem.columns(), problem.dim);
        let if_normalizing = |n: usize| if config.normalizes() { n.saturating_mul(2) } else { 0 };
        // A symmetric loss has no O: both gradients are sums of second sweeps.
        let with_output = purpose != Purpose::Loss && !config.is_symmetric();
        let sweep = Sweep::forward(problem, with_output, multiprocessors);
        let features = config.sweep_features();
        let sigmoid = features.link == Link::Sigmoid;
        let moment = features.moment && purpose != Purpose::Loss;
        let if_wanted = |wanted: bool, n: usize| if wanted { n } else { 0 };
        let forward = Self {
            scalars: scalars::WORDS,
            bias: columns,
            item_ids: if config.excludes_same_item() { columns } else { 0 },
            column_norms: if_normalizing(columns),
            row_norms: if_normalizing(rows),
            positive: rows,
            reference: if_wanted(features.counts, rows),
            maximum: sweep.partials(),
            sum: sweep.partials(),
            moment: if_wanted(moment, sweep.partials()),
            counts: if_wanted(features.counts, sweep.partials().saturating_mul(COUNTS)),
            output: if with_output { sweep.partials().saturating_mul(dim) } else { 0 },
            lse: rows,
            row_maximum: rows,
            row_sum: rows,
            row_mass: if_wanted(sigmoid, rows),
            row_moment: if_wanted(moment, rows),
            row_counts: if_wanted(features.counts, rows.saturating_mul(COUNTS)),
            direct: if_wanted(matches!(config.get_objective(), Objective::Debiased { .. }), rows),
            loss: rows,
            a: rows,
            b: rows,
            ..Self::default()
        };
        if purpose != Purpose::Backward {
            return forward;
        }
        // With a gradient of the extra negatives and without it.
        let partials = [problem.gradient_columns(), problem.batch_columns]
            .map(|owned| Sweep::backward(problem, owned, multiprocessors).partials());
        let partials = partials[0].max(partials[1]);
        Self {
            coefficient: rows,
            positive_coefficient: rows,
            temperature_term: rows,
            bias_term: if_wanted(sigmoid, rows),
            log_q_term: rows,
            masses: partials,
            partials: partials.saturating_mul(dim),
            ..forward
        }
    }

    /// The same beside a workspace that has the scalars.
    pub(super) fn without_scalars(self) -> Self {
        Self { scalars: 0, ..self }
    }

    /// What every call on this problem needs.
    pub(super) fn all(problem: &Problem, config: &LossConfig, multiprocessors: usize) -> Self {
        // The sweep without output may have more splits.
        let loss = Self::of(problem, config, Purpose::Loss, multiprocessors);
        loss.max(Self::of(problem, config, Purpose::Backward, multiprocessors))
    }
}

impl Workspace {
    /// The scalars' address; they are there from the start.
    pub(super) fn scalars(&self) -> u64 {
        self.scalars_of.unwrap_or(self.scalars.pointer())
    }

    /// The address of 1 / tau.
    pub(super) fn inverse_temperature(&self) -> u64 {
        self.scalars() + (size_of::<f32>() * scalars::INVERSE_TEMPERATURE) as u64
    }
}
