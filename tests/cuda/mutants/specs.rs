//! The problems of the fast cases that are properties of tests/common.

use inbatch::Dtype::{self, F32};
use inbatch::{Objective, Reduction};

use crate::common::spec::{BankSpec, Spec};

/// Every option and every segment at once.
pub(super) fn everything(dtype: Dtype, gradient_dtype: Dtype, seed: u64) -> Spec {
    Spec {
        seed,
        dtype,
        gradient_dtype,
        rows: 37,
        dim: 24,
        offset: 3,
        surplus: 5,
        extra: Some(11),
        wants_extra_gradient: true,
        bank: Some(BankSpec { capacity: 40, pushes: vec![13, 30, 9], warm_up: 2, max_age: Some(2) }),
        temperature: 0.1,
        spread: 3.0,
        lean: 0.5,
        log_q: true,
        logq_scale: 0.5,
        corrected: true,
        exclude_item: true,
        exclude_user: true,
        distinct_ids: 9,
        normalize: true,
        weights: true,
        reduction: Reduction::Mean,
        upstream: true,
        objective: Objective::Softmax,
        log_q_inside: false,
        metrics: false,
        wants_log_q_gradient: false,
        symmetric: None,
        row_negatives: None,
        hard_negatives: None,
    }
}

pub(super) fn a_row_each() -> Spec {
    Spec {
        reduction: Reduction::None,
        bank: None,
        corrected: false,
        normalize: false,
        ..everything(F32, F32, 8)
    }
}

pub(super) fn weighted_mean() -> Spec {
    Spec { reduction: Reduction::WeightedMean, bank: None, upstream: false, ..everything(F32, F32, 9) }
}

pub(super) fn idle(dtype: Dtype, dim: usize) -> Spec {
    Spec { dtype, dim, rows: 11, ..weighted_mean() }
}

pub(super) fn both_and_upstream() -> Spec {
    Spec { upstream: true, weights: true, ..symmetric(F32, F32, 24) }
}

/// Flat logits and many equal ids.
pub(super) fn both_with_hits(dtype: Dtype, dim: usize) -> Spec {
    let hits = Spec {
        exclude_item: true,
        exclude_user: true,
        distinct_ids: 5,
        rows: 70,
        ..symmetric(dtype, F32, dim)
    };
    Spec { temperature: 0.5, spread: 0.5, lean: 0.0, ..hits }
}

pub(super) fn both_a_row_each() -> Spec {
    Spec { reduction: Reduction::None, ..both_and_upstream() }
}

/// Log q on either side and inside the temperature, where it moves logits by a few.
pub(super) fn symmetric(dtype: Dtype, gradient_dtype: Dtype, dim: usize) -> Spec {
    let log_q =
        Spec { log_q: true, log_q_inside: true, logq_scale: 0.02, wants_log_q_gradient: true, ..bare() };
    Spec { symmetric: Some(true), offset: 0, surplus: 0, dtype, gradient_dtype, dim, ..log_q }
}

pub(super) fn outside() -> Spec {
    let plain = Spec { log_q_inside: false, corrected: false, logq_scale: 0.2, ..symmetric(F32, F32, 24) };
    Spec { weights: true, upstream: true, reduction: Reduction::None, ..plain }
}

pub(super) fn metrics() -> Spec {
    Spec {
        rows: 70,
        metrics: true,
        wants_log_q_gradient: true,
        log_q_inside: true,
        ..everything(F32, F32, 32)
    }
}

/// Masses of each column in several parts.
pub(super) fn many_parts(dtype: Dtype, gradient_dtype: Dtype) -> Spec {
    Spec { dtype, gradient_dtype, ..metrics() }
}

/// Several tiles of rows and of columns, the last ones ragged.
pub(super) fn tensor_cores(dtype: Dtype, gradient_dtype: Dtype, dim: usize, full: bool) -> Spec {
    // Without exclusion tiles go another way, where log q must count all the same.
    let spec = if full { everything(F32, F32, dim as u64) } else { Spec { log_q: true, ..bare() } };
    let spec = Spec { dtype, gradient_dtype, ..spec };
    let rows = if dim <= 256 { 140 } else { 75 };
    Spec { rows, dim, ..spec }
}

/// Flat logits, so that each hit counts.
pub(super) fn ids(dtype: Dtype, dim: usize) -> Spec {
    let rows = if dim <= 256 { 140 } else { 75 };
    let bare = Spec { gradient_dtype: F32, temperature: 0.5, spread: 0.5, lean: 0.0, ..bare() };
    Spec { exclude_item: true, exclude_user: true, distinct_ids: 5, rows, dtype, dim, ..bare }
}

/// One logit of each row stands out so far that weights relative to any other overflow.
pub(super) fn steep(dtype: Dtype, dim: usize) -> Spec {
    Spec { gradient_dtype: F32, spread: 300.0, lean: 0.0, rows: 70, dtype, dim, ..bare() }
}

/// Nothing but users and items.
pub(super) fn bare() -> Spec {
    Spec {
        extra: None,
        wants_extra_gradient: false,
        bank: None,
        log_q: false,
        exclude_item: false,
        exclude_user: false,
        normalize: false,
        weights: false,
        upstream: false,
        ..everything(F32, F32, 10)
    }
}
