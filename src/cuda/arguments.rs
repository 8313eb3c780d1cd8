//! The kernels' arguments: mirrors of the structs in kernels/arguments.cuh. Both sides assert the sizes.

/// Marks a mirror of a kernel's argument struct.
///
/// # Safety
/// The type is `repr(C)`, without padding of its own, and laid out as the struct of the same name.
pub(super) unsafe trait Arguments {}

macro_rules! arguments {
    ($($(#[$doc:meta])* $name:ident: $bytes:literal { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        pub(super) struct $name {
            $(pub(super) $field: $type),*
        }

        const _: () = assert!(size_of::<$name>() == $bytes);

        // SAFETY: `repr(C)`, and the size is that of the mirrored struct, asserted on both sides.
        unsafe impl Arguments for $name {}
    )*};
}

arguments! {
    /// The columns' storage.
    Columns: 40 {
        batch: u64, extra: u64, bank: u64,
        batch_count: i32, extra_count: i32, bank_count: i32, dim: i32,
    }

    PrepareColumns: 160 {
        columns: Columns,
        log_q: [u64; 3], item_ids: [u64; 3],
        state: u64, entered: u64, bias: u64, ids: u64, norms: u64, scalars: u64,
        warm_up: u64, max_age: u64,
        logq_scale: f32, inside: i32,
    }

    PrepareRows: 80 {
        users: u64, items: u64, bias: u64, column_norms: u64, scalars: u64,
        norms: u64, positive: u64, reference: u64,
        rows: i32, dim: i32, offset: i32, corrected: i32,
    }

    Stream: 200 {
        columns: Columns,
        users: u64, row_norms: u64, column_norms: u64, bias: u64, item_ids: u64, user_ids: u64,
        inverse_temperature: u64, reference: u64, coefficient: u64,
        row_bias: u64, column_reference: u64, column_coefficient: u64,
        maximum: u64, sum: u64, moment: u64, counts: u64, output: u64,
        rows: i32, offset: i32, owned: i32, tiles_per_split: i32, aligned: i32, link: i32,
    }

    Merge: 104 {
        maximum: u64, sum: u64, moment: u64, counts: u64, output: u64, lse: u64, row_maximum: u64, row_sum: u64,
        row_mass: u64, row_moment: u64, row_counts: u64,
        splits: i32, rows: i32, dim: i32, link: i32,
    }

    Objective: 128 {
        lse: u64, maximum: u64, sum: u64, positive: u64, weights: u64, negatives: u64, log_q: u64, scalars: u64,
        other: u64, loss: u64, a: u64, b: u64, direct: u64,
        rows: i32, offset: i32, objective: i32, parameter: f32, logq_scale: f32, padding: i32,
    }

    ReduceLosses: 32 { loss: u64, weights: u64, scalars: u64, rows: i32, reduction: i32 }

    RowGradients: 208 {
        users: u64, items: u64, row_norms: u64, column_norms: u64, weights: u64, upstream: u64,
        scalars: u64, a: u64, b: u64, sum: u64, output: u64,
        direct: u64, moment: u64, mass: u64, bias: u64, log_q: u64,
        coefficient: u64, positive_coefficient: u64, temperature_term: u64, bias_term: u64, log_q_term: u64,
        d_users: u64,
        rows: i32, dim: i32, offset: i32, upstream_per_row: i32,
        corrected: i32, corrected_log_q: i32, inside: i32, logq_scale: f32,
    }

    /// One direction of a symmetric loss.
    Direction: 40 { a: u64, b: u64, sum: u64, coefficient: u64, positive_coefficient: u64 }

    Symmetric: 112 {
        users: Direction, items: Direction,
        weights: u64, upstream: u64, scalars: u64,
        rows: i32, upstream_per_row: i32,
    }

    ReduceTerms: 32 { terms: u64, bias_terms: u64, scalars: u64, rows: i32, padding: i32 }

    UpdateParameters: 40 {
        scalars: u64, parameter: u64, bias: u64,
        temperature_rate: f32, bias_rate: f32, low: f32, high: f32,
    }

    ColumnGradients: 168 {
        columns: Columns,
        users: u64, row_norms: u64, column_norms: u64, partials: u64, positive_coefficient: u64,
        masses: u64, log_q_term: u64,
        scalars: u64, d_items: u64, d_extra: u64, d_log_q: u64, d_extra_log_q: u64,
        temperature_term: u64,
        rows: i32, offset: i32, owned: i32, splits: i32, logq_scale: f32, inside: i32,
    }

    BankPush: 88 {
        embeddings: u64, log_q: u64, item_ids: u64,
        ring: u64, ring_log_q: u64, ring_item_ids: u64, entered: u64, state: u64,
        capacity: u64, count: u64,
        dim: i32, padding: i32,
    }
}

/// The struct `Scalars`: f32 words at these places.
pub(super) mod scalars {
    pub(crate) const INVERSE_TEMPERATURE: usize = 0;
    pub(crate) const LOSS: usize = 1;
    pub(crate) const WEIGHT_SUM: usize = 2;
    pub(crate) const D_INVERSE_TEMPERATURE: usize = 4;
    pub(crate) const BIAS: usize = 5;
    pub(crate) const D_BIAS: usize = 6;
    pub(crate) const D_LOG_INVERSE_TEMPERATURE: usize = 7;
    pub(crate) const WORDS: usize = 8;
}

/// The struct `BankState`: u64 words at these places.
pub(super) mod bank_state {
    pub(crate) const HEAD: usize = 0;
    pub(crate) const LENGTH: usize = 1;
    pub(crate) const STEP: usize = 2;
    pub(crate) const WORDS: usize = 3;
}
