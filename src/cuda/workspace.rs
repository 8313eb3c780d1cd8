//! The loss's own device memory: sizes known from the problem, grown only when a problem asks for more.

use super::arguments::{Cut, scalars};
use super::buffer::Buffer;
use super::device::Device;
use super::plan::Plan;
use crate::config::Link;
use crate::{Objective, Result};

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
            pub(super) fn max(self, other: Self) -> Self {
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
    /// `[B, D]` users for the tensor cores, if normalising.
    scaled_users: u16,
    /// `[N, D]` the same for columns.
    scaled_columns: u16,
    /// Running maxima of the forward's partial results; see `ranges`.
    maximum: f32,
    /// Their sums of exp(z - maximum).
    sum: f32,
    /// Their sums of weight times column bias, where log q stands inside the temperature.
    moment: f32,
    /// Their counts, three each: negatives, excluded pairs, negatives above the positive.
    counts: u32,
    /// Their sums of exp(z - maximum) v; after the merge, O in each row's first.
    output: f32,
    /// `[B]` log-sum-exp over the negatives.
    lse: f32,
    /// `[B]` maxima over all partials.
    row_maximum: f32,
    /// `[B]` sums over all partials.
    row_sum: f32,
    /// `[B]` sums of sigmoid(z) over all partials, under the sigmoid link.
    row_mass: f32,
    /// `[B]` mean biases over all partials.
    row_moment: f32,
    /// `[3, B]` counts over all partials.
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
    /// The second sweep's sums of weights.
    masses: f32,
    /// The second sweep's partial sums.
    partials: f32,
    /// `[B, K]` logits of the negatives that each row has for itself, -inf for those that take no part.
    gathered_logits: f32,
    /// `[B, K]` their columns, ascending in each row, below 0 where there is none, for a backward to search. Unused where
    /// each has an embedding of its own.
    gathered_places: i32,
    /// `[B]` pairs that were excluded before they could be gathered, if pairs are counted.
    gathered_excluded: u32,
    /// `[splits, B, K]` what mining keeps of each split.
    mined: u64,
    /// `[splits, B]` pairs that it excludes there, if pairs are counted.
    mined_excluded: u32,
}

/// `n`, or nothing.
fn if_wanted(wanted: bool, n: usize) -> usize {
    if wanted { n } else { 0 }
}

impl Sizes {
    /// What a call of this purpose needs.
    pub(super) fn of(plan: &Plan, purpose: Purpose) -> Self {
        let (problem, config) = (plan.problem(), plan.config());
        let (rows, columns, dim) = (problem.rows, problem.columns(), problem.dim);
        let if_normalizing = |n: usize| if_wanted(config.normalizes(), n.saturating_mul(2));
        let if_copying = |n: usize| if_wanted(plan.copies_embeddings(), n.saturating_mul(dim));
        // A symmetric loss has no O: both gradients are sums of second sweeps.
        let with_output = purpose != Purpose::Loss && !config.is_symmetric();
        let sweep = if with_output { plan.forward() } else { plan.loss() };
        let features = config.sweep_features();
        let sigmoid = features.link == Link::Sigmoid;
        let moment = features.moment && purpose != Purpose::Loss;
        // A row's own negatives make one more.
        let partials = sweep.cut.partial_rows().saturating_add(if_wanted(problem.row_negatives > 0, rows));
        let gathered = rows.saturating_mul(plan.gathered().unwrap_or(0));
        let mined = config.get_hard_negatives().is_some();
        let forward = Self {
            scalars: scalars::WORDS,
            bias: columns,
            item_ids: if_wanted(config.excludes_same_item(), columns),
            column_norms: if_normalizing(columns),
            row_norms: if_normalizing(rows),
            scaled_users: if_copying(rows),
            scaled_columns: if_copying(columns),
            positive: rows,
            reference: if_wanted(features.counts, rows),
            maximum: partials,
            sum: partials,
            moment: if_wanted(moment, partials),
            counts: if_wanted(features.counts, partials.saturating_mul(COUNTS)),
            output: if_wanted(with_output, partials.saturating_mul(dim)),
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
            gathered_logits: gathered,
            gathered_places: if_wanted(mined || (problem.pool.is_some() && with_output), gathered),
            gathered_excluded: if_wanted(mined && features.counts, rows),
            mined: if_wanted(mined, gathered.saturating_mul(sweep.blocks[1])),
            mined_excluded: if_wanted(mined && features.counts, rows.saturating_mul(sweep.blocks[1])),
            ..Self::default()
        };
        if purpose == Purpose::Backward { forward.max(Self::of_gradients(plan)) } else { forward }
    }

    /// What the gradients need on top of the forward, which must not lose what it left.
    pub(super) fn of_gradients(plan: &Plan) -> Self {
        let problem = plan.problem();
        // With a gradient of the extra negatives and without it.
        let partials = [problem.gradient_columns(), problem.batch_columns]
            .map(|owned| [false, true].map(|with_masses| plan.backward_of(owned, with_masses).cut))
            .concat();
        let partial_rows = partials.iter().map(Cut::partial_rows).max().unwrap_or(0);
        Self {
            coefficient: problem.rows,
            positive_coefficient: problem.rows,
            temperature_term: problem.rows,
            bias_term: if_wanted(plan.config().sweep_features().link == Link::Sigmoid, problem.rows),
            log_q_term: problem.rows,
            masses: partial_rows,
            partials: partial_rows.saturating_mul(problem.dim),
            ..Self::default()
        }
    }

    /// What the embeddings need that row negatives are taken from.
    pub(super) fn of_row_negatives(plan: &Plan, purpose: Purpose) -> Self {
        let (config, embeddings) = (plan.config(), plan.problem().row_negative_embeddings());
        let forward = Self {
            bias: embeddings,
            item_ids: if_wanted(config.excludes_same_item(), embeddings),
            column_norms: if_wanted(config.normalizes(), embeddings.saturating_mul(2)),
            ..Self::default()
        };
        match purpose {
            Purpose::Backward => forward.max(Self::of_row_negatives_gradients(plan)),
            Purpose::Loss | Purpose::Forward => forward,
        }
    }

    /// What their gradients need on top of it. Embeddings of one row each have no sums to keep.
    pub(super) fn of_row_negatives_gradients(plan: &Plan) -> Self {
        let Some(pool) = plan.problem().pool else { return Self::default() };
        let cut = plan.gathered_backward(pool).cut;
        Self { masses: cut.partial_rows(), partials: cut.floats(plan.problem().dim), ..Self::default() }
    }

    /// With room for so many item ids.
    pub(super) fn with_item_ids(self, item_ids: usize) -> Self {
        Self { item_ids, ..self }
    }

    /// The same beside a workspace that has the scalars.
    pub(super) fn without_scalars(self) -> Self {
        Self { scalars: 0, ..self }
    }

    /// What every call under a plan needs.
    pub(super) fn all(plan: &Plan) -> Self {
        // The sweep without output may have more partials.
        Self::of(plan, Purpose::Loss).max(Self::of(plan, Purpose::Backward))
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
