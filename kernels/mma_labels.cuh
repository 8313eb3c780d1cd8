// What goes with the embeddings of a tile: numbers, ids, and where the embedding lies.
#pragma once

#include "arguments.cuh"

// Of COUNT embeddings, rows or columns of the score matrix.
template <int COUNT>
struct alignas(16) Labels {
    static constexpr int WORDS = COUNT / WARP;

    const void* source[COUNT]; // null: absent
    float factor[COUNT];       // what the embedding is multiplied by to be a unit one; rows: over tau as well
    float bias[COUNT];         // columns: -inf says absent. Rows, backward: m_i
    float coefficient[COUNT];  // rows, backward: what exp(z - m_i) is multiplied by; 0 says absent. Columns, forward: the norm
    unsigned item[2][COUNT];   // lower and upper half; of rows: the positive's
    unsigned user[3][COUNT];   // the same, and whether there is one
    unsigned present[WORDS];   // a bit for each
    unsigned upper[WORDS];     // the upper half of all 32 items, if `alike`
    int alike[WORDS];
};

// The labels of one embedding on their way from global to shared memory.
struct Label {
    const void* source;
    i64 item;
    i64 user;
    float factor;
    float bias;
    float coefficient;
    int has_user;
};

__device__ __forceinline__ Label absent_label() {
    return Label{nullptr, 0, 0, 1.0f, -infinity(), 0.0f, 0};
}

// A user row, forward.
template <typename T>
__device__ __forceinline__ Label row_label(const MmaArguments& a, i64 row) {
    if (row >= a.rows) {
        return absent_label();
    }
    Label label;
    label.source = static_cast<const T*>(a.users) + row * a.columns.dim;
    label.item = a.item_ids != nullptr ? a.item_ids[row + a.offset] : 0;
    label.user = a.user_ids != nullptr ? a.user_ids[row] : 0;
    label.factor = norm_of(a.row_norms, row).y * a.scalars->inverse_temperature;
    label.bias = 0.0f;
    label.coefficient = 0.0f;
    label.has_user = 1;
    return label;
}

// A user row, backward. A row of weight zero contributes exactly nothing, whatever it holds.
template <typename T>
__device__ __forceinline__ Label weighted_row_label(const MmaArguments& a, i64 row) {
    const float coefficient = row < a.rows ? a.coefficient[row] : 0.0f;
    if (coefficient == 0.0f) {
        Label label = absent_label();
        label.bias = 0.0f;
        return label;
    }
    Label label = row_label<T>(a, row);
    label.bias = a.reference[row];
    // The output takes the unit embedding: its factor goes into the weight.
    label.coefficient = coefficient * a.scalars->coefficient_scale * norm_of(a.row_norms, row).y;
    return label;
}

// A column below `limit`; a bias of -inf says that it is absent (a bank slot that is empty, too old or warming up).
template <typename T>
__device__ __forceinline__ Label column_label(const MmaArguments& a, i64 column, i64 limit) {
    const float bias = column < limit ? a.bias[column] : -infinity();
    if (bias == -infinity()) {
        return absent_label();
    }
    const i64 owner = column - a.offset;
    const bool owned = column < a.columns.batch_count && owner >= 0 && owner < a.rows;
    Label label;
    label.source = a.columns.column<T>(column);
    label.item = a.item_ids != nullptr ? a.item_ids[column] : 0;
    label.user = owned && a.user_ids != nullptr ? a.user_ids[owner] : 0;
    label.factor = norm_of(a.column_norms, column).y;
    label.bias = bias;
    label.coefficient = 0.0f;
    // No row's third word, so that a column without owner is nobody's.
    label.has_user = owned ? 1 : 2;
    return label;
}

// A column that is streamed, forward. The output sums stored embeddings v with weights exp(z) h, where h v is the unit
// one. Rounding exp(z - m) h to 16 bits would put an error on weights that are 1, as the only one of a converged row is; so
// log h goes into the exponent, where the maximum takes it off again: m is that of z + log h, and the sum l of exp(z - m)
// is that of the weights over h.
template <typename T>
__device__ __forceinline__ Label streamed_column_label(const MmaArguments& a, i64 column, i64 limit) {
    Label label = column_label<T>(a, column, limit);
    if (label.source != nullptr && a.column_norms != nullptr) {
        // Any factor makes a unit vector of the zero vector; 1 keeps it in the sum.
        label.factor = label.factor == 0.0f ? 1.0f : label.factor;
        label.bias += logf(label.factor);
    }
    label.coefficient = 1.0f / label.factor;
    return label;
}

// Called by whole warps, one slot a lane.
template <int COUNT>
__device__ __forceinline__ void store_label(Labels<COUNT>& labels, int slot, const Label& label) {
    const unsigned upper = static_cast<unsigned>(label.item >> 32);
    labels.source[slot] = label.source;
    labels.factor[slot] = label.factor;
    labels.bias[slot] = label.bias;
    labels.coefficient[slot] = label.coefficient;
    labels.item[0][slot] = static_cast<unsigned>(label.item);
    labels.item[1][slot] = upper;
    labels.user[0][slot] = static_cast<unsigned>(label.user);
    labels.user[1][slot] = static_cast<unsigned>(label.user >> 32);
    labels.user[2][slot] = label.has_user;
    const unsigned present = __ballot_sync(FULL_WARP, label.source != nullptr);
    const unsigned first = __shfl_sync(FULL_WARP, upper, 0);
    const int alike = __all_sync(FULL_WARP, upper == first);
    if (slot % WARP == 0) {
        labels.present[slot / WARP] = present;
        labels.upper[slot / WARP] = first;
        labels.alike[slot / WARP] = alike;
    }
}

template <int COUNT>
__device__ __forceinline__ bool any_present(const Labels<COUNT>& labels) {
    unsigned any = 0;
#pragma unroll
    for (int word = 0; word < Labels<COUNT>::WORDS; word++) {
        any |= labels.present[word];
    }
    return any != 0;
}

template <int COUNT>
__device__ __forceinline__ bool all_present(const Labels<COUNT>& labels) {
    unsigned all = FULL_WARP;
#pragma unroll
    for (int word = 0; word < Labels<COUNT>::WORDS; word++) {
        all &= labels.present[word];
    }
    return all == FULL_WARP;
}

// Whether all items of two tiles have the same upper half: then the lower ones decide.
template <int LEFT, int RIGHT>
__device__ __forceinline__ bool upper_halves_alike(const Labels<LEFT>& left, const Labels<RIGHT>& right) {
    const unsigned upper = left.upper[0];
    bool alike = true;
#pragma unroll
    for (int word = 0; word < Labels<LEFT>::WORDS; word++) {
        alike = alike && left.alike[word] && left.upper[word] == upper;
    }
#pragma unroll
    for (int word = 0; word < Labels<RIGHT>::WORDS; word++) {
        alike = alike && right.alike[word] && right.upper[word] == upper;
    }
    return alike;
}
