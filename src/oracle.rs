//! The reference: f64, dense, formula by formula; it shares no code with the backends.
//!
//! It stores the whole score matrix, loops over every entry, and is meant for tests. With
//! `u^`, `v^` the embeddings (unit vectors under [`LossConfig::normalize`], the zero vector for a
//! row of norm 0) and `N` the columns of batch, extra and bank in that order:
//!
//! ```text
//! z_ij   = <u^_i, v^_j> / tau - lambda log_q_j          lambda = 0 ignores log_q
//!          (<u^_i, v^_j> - lambda log_q_j) / tau        LogQOrder::InsideTemperature
//! z_i+   = z_ij at j = i + offset, or without the correction (PositiveCorrection::Uncorrected)
//! LSE_i  = log sum_j exp(z_ij)                          j over the negatives that are not excluded, the row's own too
//!                                                       (the k of highest z: LossConfig::hard_negatives)
//! loss_i = log(exp(z_i+) + exp(LSE_i)) - z_i+           Objective::Softmax; `oracle/row.rs` has the others
//! P_ij   = exp(z_ij) / (exp(z_i+) + exp(LSE_i))
//! dz_ij  = g_i P_ij,   dz_i+ = -g_i sum_j P_ij          g_i: upstream, weight and reduction
//! ```
//!
//! and from `dz` every gradient by the chain rule. A row with `g_i = 0` contributes exactly 0, NaN or
//! not. A row without negatives has loss 0 and no gradient. A row with a negative at +inf has loss +inf and NaN
//! gradients.

mod dense;
mod embeddings;
mod row;
mod shape;
pub mod table;

use crate::{LossConfig, Objective, Result};
use dense::Dense;

/// One call's inputs, widened to f64. Column arrays run over batch, extra and bank in that order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// Embedding dimension `D`.
    pub dim: usize,
    /// `[B, D]`.
    pub users: &'a [f64],
    /// `[C, D]`; row i's positive is item `i + offset`.
    pub items: &'a [f64],
    /// `[E, D]`, may be empty.
    pub extra: &'a [f64],
    /// `[M, D]`, may be empty.
    pub bank: &'a [f64],
    /// `[M]`: slots that take no part (empty, over age, warm-up). `None`: every slot is present.
    pub bank_absent: Option<&'a [bool]>,
    /// Offset of the positives.
    pub offset: usize,
    /// `[N]`.
    pub log_q: Option<&'a [f64]>,
    /// `[B]`, for [`LossConfig::symmetric`].
    pub user_log_q: Option<&'a [f64]>,
    /// `[N]`.
    pub item_ids: Option<&'a [i64]>,
    /// `[B]`.
    pub user_ids: Option<&'a [i64]>,
    /// `[B]`.
    pub weights: Option<&'a [f64]>,
    /// Negatives of one row each.
    pub row_negatives: Option<RowNegatives<'a>>,
    /// Gradient of the loss: `[1]`, or `[B]` under [`Reduction::None`](crate::Reduction::None); `None` means ones.
    pub upstream: Option<&'a [f64]>,
}

/// `K` negatives of each row's own, as in [`crate::RowNegatives`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RowNegatives<'a> {
    /// `[B, K, D]`, or the pool `[P, D]`.
    pub embeddings: &'a [f64],
    /// `[B, K]` rows of the pool, below 0 for none. `None`: cell `(i, k)` has embedding `i K + k`.
    pub indices: Option<&'a [i32]>,
    /// `K`.
    pub per_row: usize,
    /// One for each embedding, exactly if [`Inputs::log_q`] is given.
    pub log_q: Option<&'a [f64]>,
    /// One for each embedding.
    pub item_ids: Option<&'a [i64]>,
}

/// Everything a backend may be asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// The reduced loss; `None` under [`Reduction::None`](crate::Reduction::None).
    pub loss: Option<f64>,
    /// `[B]`, times the row weights.
    pub row_losses: Vec<f64>,
    /// `[B]`, over the negatives alone; `sum_j softplus(z_ij)` under [`Objective::Sigmoid`].
    pub log_sum_exp: Vec<f64>,
    /// `[B]`.
    pub z_positive: Vec<f64>,
    /// `[B, D]`.
    pub d_users: Vec<f64>,
    /// `[C, D]`.
    pub d_items: Vec<f64>,
    /// `[E, D]`.
    pub d_extra: Vec<f64>,
    /// `[B, K, D]`, or `[P, D]` of the pool.
    pub d_row_negatives: Vec<f64>,
    /// `[B, K]`, or `[P]`: 0 without log q.
    pub d_row_negatives_log_q: Vec<f64>,
    /// dloss / d(1/tau).
    pub d_inverse_temperature: f64,
    /// `[B]`: each row's share of [`Outputs::d_inverse_temperature`].
    pub d_inverse_temperature_rows: Vec<f64>,
    /// `[C + E]`: dloss / dlog_q, 0 without log q.
    pub d_log_q: Vec<f64>,
    /// `[B]`: the same of the users' log q, for [`LossConfig::symmetric`]; empty otherwise.
    pub d_user_log_q: Vec<f64>,
    /// `[B]`: each row's share of dloss / dbias, the derivative with respect to a constant added to all logits. It
    /// vanishes for all objectives but [`Objective::Sigmoid`].
    pub d_bias_rows: Vec<f64>,
    /// `[B]`: a factor of the row's loss through which no gradient flows; 1 but under [`Objective::CorrectedLogQ`].
    pub stopped: Vec<f64>,
    /// `[B]`, then the row's negatives: their columns, the row negatives' embeddings counted on behind the bank.
    pub negative_columns: Vec<Vec<usize>>,
    /// `[B]`, then the row's negatives, in the same order: `z_ij - z_i+`.
    pub margins: Vec<Vec<f64>>,
    /// `[B]`: negatives with `z_ij > z_i+`.
    pub ranks: Vec<u32>,
    /// `[B]`: negatives with `z_ij > -inf`.
    pub negatives: Vec<u32>,
    /// `[B]`: columns excluded by item id or user id.
    pub excluded: Vec<u32>,
}

/// Parameters that are learnt beside the embeddings, in f64: for finite differences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// `1/tau`.
    pub inverse_temperature: f64,
    /// The bias of [`Objective::Sigmoid`], 0 for the others.
    pub bias: f64,
}

impl Parameters {
    /// Those of a configuration.
    pub fn of(config: &LossConfig) -> Self {
        Self {
            inverse_temperature: 1.0 / f64::from(config.temperature()),
            bias: match config.get_objective() {
                Objective::Sigmoid { bias } => f64::from(bias),
                _ => 0.0,
            },
        }
    }
}

/// The loss and all its gradients.
///
/// # Errors
/// [`Error::Dimension`](crate::Error::Dimension), [`Error::NotRows`](crate::Error::NotRows),
/// [`Error::NoRows`](crate::Error::NoRows), [`Error::PositivesOutside`](crate::Error::PositivesOutside),
/// [`Error::Length`](crate::Error::Length), [`Error::RowNegativeIndex`](crate::Error::RowNegativeIndex), and
/// [`Error::MissingLogQ`](crate::Error::MissingLogQ), [`Error::MissingItemIds`](crate::Error::MissingItemIds),
/// [`Error::MissingUserIds`](crate::Error::MissingUserIds) or [`Error::MissingWeights`](crate::Error::MissingWeights)
/// for a field that is needed.
pub fn evaluate(config: &LossConfig, inputs: &Inputs<'_>) -> Result<Outputs> {
    evaluate_at(config, inputs, Parameters::of(config))
}

/// [`evaluate`] at parameters that need not be f32: for finite differences.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_at(config: &LossConfig, inputs: &Inputs<'_>, parameters: Parameters) -> Result<Outputs> {
    if config.is_symmetric() {
        return symmetric(config, inputs, parameters);
    }
    Ok(Dense::new(config, inputs, parameters)?.evaluate())
}

/// The mean of both directions: the same loss with users and items exchanged. Counts and log-sum-exp are the users'.
fn symmetric(config: &LossConfig, inputs: &Inputs<'_>, parameters: Parameters) -> Result<Outputs> {
    let one_way = config.symmetric(false);
    let forth = evaluate_at(&one_way, &Inputs { user_log_q: None, ..*inputs }, parameters)?;
    let exchanged = Inputs {
        users: inputs.items,
        items: inputs.users,
        log_q: inputs.user_log_q,
        user_log_q: None,
        ..*inputs
    };
    let back = evaluate_at(&one_way, &exchanged, parameters)?;
    let mean = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a + b) / 2.0).collect::<Vec<f64>>();
    Ok(Outputs {
        loss: forth.loss.zip(back.loss).map(|(a, b)| (a + b) / 2.0),
        row_losses: mean(&forth.row_losses, &back.row_losses),
        d_users: mean(&forth.d_users, &back.d_items),
        d_items: mean(&forth.d_items, &back.d_users),
        d_inverse_temperature: (forth.d_inverse_temperature + back.d_inverse_temperature) / 2.0,
        d_inverse_temperature_rows: mean(&forth.d_inverse_temperature_rows, &back.d_inverse_temperature_rows),
        d_log_q: forth.d_log_q.iter().map(|d| d / 2.0).collect(),
        d_user_log_q: back.d_log_q.iter().map(|d| d / 2.0).collect(),
        ..forth
    })
}
