//! The kernels' arguments: mirrors of the structs in kernels/arguments.cuh. Both sides assert the sizes.

/// Marks a mirror of a kernel's argument struct.
///
/// # Safety
/// The type is `repr(C)`, without padding of its own, and laid out as the struct of the same name.
pub(super) unsafe trait Arguments {}

macro_rules! arguments {
    ($($(#[$doc:meta])* $name:ident: $bytes:literal { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
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

    Stream: 216 {
        columns: Columns,
        users: u64, row_norms: u64, column_norms: u64, bias: u64, item_ids: u64, user_ids: u64,
        labels: u64, inverse_temperature: u64, reference: u64, coefficient: u64,
        row_bias: u64, column_reference: u64, column_coefficient: u64,
        maximum: u64, sum: u64, moment: u64, counts: u64, output: u64,
        rows: i32, offset: i32, owned: i32, tiles_per_split: i32, aligned: i32, link: i32,
        num_true: i32, padding: i32,
    }

    /// The partial results of a sweep; see `ranges`.
    Cut: 24 {
        tile: i32, owner_tiles: i32, streamed_tiles: i32, ranges: i32, splits: i32, owners: i32,
    }

    Mma: 168 {
        columns: Columns,
        users: u64, row_norms: u64, column_norms: u64, bias: u64, item_ids: u64, user_ids: u64,
        scalars: u64, reference: u64, coefficient: u64,
        maximum: u64, sum: u64, output: u64,
        cut: Cut,
        rows: i32, offset: i32,
    }

    Scale: 64 { columns: Columns, norms: u64, bias: u64, to: u64 }

    Merge: 136 {
        maximum: u64, sum: u64, moment: u64, counts: u64, output: u64, lse: u64, row_maximum: u64, row_sum: u64,
        row_mass: u64, row_moment: u64, row_counts: u64,
        more: i64,
        cut: Cut,
        rows: i32, dim: i32, link: i32, padding: i32,
    }

    Objective: 128 {
        lse: u64, maximum: u64, sum: u64, positive: u64, weights: u64, negatives: u64, log_q: u64, scalars: u64,
        other: u64, loss: u64, a: u64, b: u64, direct: u64,
        rows: i32, offset: i32, objective: i32, parameter: f32, logq_scale: f32, padding: i32,
    }

    ReduceLosses: 32 { loss: u64, weights: u64, scalars: u64, rows: i32, reduction: i32 }

    RowGradients: 232 {
        users: u64, items: u64, row_norms: u64, column_norms: u64, weights: u64, upstream: u64,
        scalars: u64, a: u64, b: u64, sum: u64, output: u64,
        direct: u64, moment: u64, mass: u64, bias: u64, log_q: u64,
        coefficient: u64, positive_coefficient: u64, temperature_term: u64, bias_term: u64, log_q_term: u64,
        d_users: u64,
        cut: Cut,
        rows: i32, dim: i32, offset: i32, upstream_per_row: i32,
        corrected: i32, corrected_log_q: i32, inside: i32, logq_scale: f32,
    }

    /// One direction of a symmetric loss.
    Direction: 48 { a: u64, b: u64, sum: u64, coefficient: u64, positive_coefficient: u64, log_q_term: u64 }

    Symmetric: 144 {
        users: Direction, items: Direction,
        weights: u64, upstream: u64, scalars: u64,
        rows: i32, upstream_per_row: i32, corrected: i32, inside: i32, logq_scale: f32, padding: i32,
    }

    ReduceTerms: 32 { terms: u64, bias_terms: u64, scalars: u64, rows: i32, padding: i32 }

    UpdateParameters: 40 {
        scalars: u64, parameter: u64, bias: u64,
        temperature_rate: f32, bias_rate: f32, low: f32, high: f32,
    }

    ColumnGradients: 200 {
        columns: Columns,
        users: u64, row_norms: u64, column_norms: u64, partials: u64, positive_coefficient: u64,
        masses: u64, log_q_term: u64, log_q: u64,
        scalars: u64, d_items: u64, d_extra: u64, d_log_q: u64, d_extra_log_q: u64,
        temperature_term: u64,
        cut: Cut,
        rows: i32, offset: i32, logq_scale: f32, inside: i32, second: i32, padding: i32,
    }

    /// Negatives that each row has for itself.
    Gathered: 104 {
        columns: Columns,
        norms: u64, bias: u64, places: u64, logits: u64, users: u64, row_norms: u64, scalars: u64,
        rows: i32, per_row: i32,
    }

    RowPlaces: 32 { indices: u64, places: u64, logits: u64, rows: i32, per_row: i32 }

    RowLogits: 128 { gathered: Gathered, ids: u64, positive_ids: u64, offset: i32, padding: i32 }

    RowPartial: 192 {
        gathered: Gathered,
        ids: u64, positive_ids: u64, excluded: u64, reference: u64,
        maximum: u64, sum: u64, moment: u64, counts: u64, output: u64,
        first: i64, offset: i32, link: i32,
    }

    RowBackward: 168 {
        gathered: Gathered,
        reference: u64, coefficient: u64, output: u64, masses: u64,
        cut: Cut,
        link: i32, rows_per_split: i32,
    }

    RowNegativeGradients: 152 {
        gathered: Gathered,
        reference: u64, coefficient: u64, d_embeddings: u64, d_log_q: u64,
        link: i32, inside: i32, logq_scale: f32, padding: i32,
    }

    BankPush: 88 {
        embeddings: u64, log_q: u64, item_ids: u64,
        ring: u64, ring_log_q: u64, ring_item_ids: u64, entered: u64, state: u64,
        capacity: u64, count: u64,
        dim: i32, padding: i32,
    }

    HardNegatives: 240 { stream: Stream, lists: u64, excluded: u64, kept: i32, padding: i32 }

    HardNegativesMerge: 56 {
        lists: u64, excluded: u64, logits: u64, places: u64, row_excluded: u64,
        splits: i32, rows: i32, kept: i32, padding: i32,
    }

    Frequency: 96 {
        ids: u64, last_step: u64, interval: u64, state: u64, log_q: u64,
        count: u64, buckets: u64, seed: u64,
        hashes: i32, direct: i32, learning_rate: f32, kept: f32, low: f32, high: f32,
        advance: i32, padding: i32,
    }

    Counter: 56 {
        ids: u64, counts: u64, state: u64, log_q: u64,
        count: u64, size: u64, draws: f64,
    }

    Sample: 128 {
        threshold: u64, alias: u64, probability: u64, state: u64, ids: u64, log_q: u64, keys: u64, first: u64,
        count: u64, slots: u64, range: u64, reserved: u64, seed: u64, limit: u64,
        log_range: f64, law: i32, unique: i32,
    }

    Table: 296 {
        inputs: u64, weights: u64, biases: u64, labels: u64, sampled: u64, label_log_q: u64, sampled_log_q: u64,
        row_weights: u64, state: u64, rows: u64, label_rows: u64, sampled_rows: u64, ids: u64, hit_ids: u64,
        bias: u64, lse: u64, maximum: u64, sum: u64, output: u64, loss: u64, a: u64, pulls: u64,
        coefficient: u64, partials: u64, scalars: u64, places: u64,
        d_inputs: u64, d_ids: u64, d_weights: u64, d_biases: u64,
        classes: u64,
        batch: i32, num_true: i32, sampled_count: i32, dim: i32, width: i32, link: i32, cut: Cut,
    }

    Keep: 48 {
        log_shares: u64, weights: u64, state: u64, count: u64, seed: u64, log_threshold: f64,
    }

    MixedLogQ: 160 {
        log_q: [u64; 8], log_scale: [f64; 8], log_total: f64,
        mixed: u64, count: u64,
        pools: i32, padding: i32,
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

/// The structs `FrequencyState` and `CounterState`: u64 words at these places.
pub(super) mod frequency_state {
    pub(crate) const STEP: usize = 0;
    pub(crate) const TOTAL: usize = 0;
    pub(crate) const UNKNOWN: usize = 1;
    pub(crate) const WORDS: usize = 2;
}

/// The struct `SamplerState`: u64 words at these places.
pub(super) mod sampler_state {
    pub(crate) const CALL: usize = 0;
    pub(crate) const TRIES: usize = 1;
    pub(crate) const WORDS: usize = 2;
}

/// The struct `TableState`: u64 words at these places.
pub(super) mod table_state {
    pub(crate) const UNIQUE: usize = 0;
    pub(crate) const UNKNOWN: usize = 1;
    pub(crate) const WORDS: usize = 2;
}
