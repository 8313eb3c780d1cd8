// What the host passes to the kernels, by value. src/cuda/arguments.rs holds the same structs; both sides
// assert the sizes.
#pragma once

#include "ranges.cuh"

// The columns' storage: batch, extra and bank, in that order. Row-major [n, dim], the batch's element type.
struct Columns {
    const void* batch;
    const void* extra;
    const void* bank;
    int batch_count;
    int extra_count;
    int bank_count;
    int dim;

    __device__ __forceinline__ i64 count() const {
        return static_cast<i64>(batch_count) + extra_count + bank_count;
    }

    // The embedding of column j < count().
    template <typename T>
    __device__ __forceinline__ const T* column(i64 j) const {
        if (j < batch_count) {
            return static_cast<const T*>(batch) + j * dim;
        }
        j -= batch_count;
        if (j < extra_count) {
            return static_cast<const T*>(extra) + j * dim;
        }
        return static_cast<const T*>(bank) + (j - extra_count) * dim;
    }
};
static_assert(sizeof(Columns) == 40, "mirror of src/cuda/arguments.rs");

// The bank's counters, in device memory.
struct BankState {
    u64 head;   // the slot that the next push writes first
    u64 length; // slots filled, at most the capacity
    u64 step;   // pushes made
};
static_assert(sizeof(BankState) == 24, "mirror of src/cuda/arguments.rs");

struct PrepareColumnsArguments {
    Columns columns;
    const float* log_q[3];     // per segment, null: no correction
    const i64* item_ids[3];    // per segment, null: none
    const BankState* state;    // null: no bank
    const u64* entered;        // [bank_count] step of entry
    float* bias;               // [N]
    i64* ids;                  // [N], null: not wanted
    float2* norms;             // [N], null: not normalising
    u64 warm_up;
    u64 max_age;
    float logq_scale;
    int padding;
};
static_assert(sizeof(PrepareColumnsArguments) == 152, "mirror of src/cuda/arguments.rs");

struct PrepareRowsArguments {
    const void* users;               // [B, dim]
    const void* items;               // [C, dim]
    const float* bias;               // [N]
    const float2* column_norms;      // [N] or null
    const float* inverse_temperature;
    float2* norms;                   // [B] or null
    float* positive;                 // [B] z+
    int rows;
    int dim;
    int offset;
    int corrected;                   // whether the positive's bias counts
};
static_assert(sizeof(PrepareRowsArguments) == 72, "mirror of src/cuda/arguments.rs");

struct Scalars {
    float inverse_temperature;
    float loss;
    float weight_sum;
    float row_scale;              // what the reduction multiplies each row by
    float d_inverse_temperature;
};
static_assert(sizeof(Scalars) == 20, "mirror of src/cuda/arguments.rs");

struct StreamArguments {
    Columns columns;
    const void* users;
    const float2* row_norms;         // [B] or null
    const float2* column_norms;      // [N] or null
    const float* bias;               // [N]
    const i64* item_ids;             // [N], null: no exclusion by item
    const i64* user_ids;             // [B], null: no exclusion by user
    const float* inverse_temperature;
    const float* reference;          // [B] m_i of the forward, backward
    const float* coefficient;        // [B] g_i a_i / l_i, backward
    float* maximum;                  // [splits, B], forward
    float* sum;                      // [splits, B], forward
    float* output;                   // [splits, B, dim] forward, [splits, owned, dim] backward
    int rows;
    int offset;
    int owned;                       // owners: B forward, gradient columns backward
    int tiles_per_split;
    int aligned;                     // every embedding row starts at a multiple of 16 bytes
    int padding;
};
static_assert(sizeof(StreamArguments) == 160, "mirror of src/cuda/arguments.rs");

struct ScaleArguments {
    Columns columns;
    const float2* norms; // of every column
    const float* bias;   // of every column, null: all are present
    void* to;            // [count, dim]
};
static_assert(sizeof(ScaleArguments) == 64, "mirror of src/cuda/arguments.rs");

// The stream on tensor cores. When normalising, users and columns are copies scaled by the first factor of their norms.
struct MmaArguments {
    Columns columns;
    const void* users;
    const float2* row_norms;         // [B] or null
    const float2* column_norms;      // [N] or null
    const float* bias;               // [N]
    const i64* item_ids;             // [N], null: no exclusion by item
    const i64* user_ids;             // [B], null: no exclusion by user
    const Scalars* scalars;
    const float* reference;          // [B] m_i of the forward, backward
    const float* coefficient;        // [B] g_i a_i / l_i, backward
    float* maximum;                  // a partial's m for each of its owners, forward
    float* sum;                      // l, forward
    float* output;                   // [dim] for each of its owners
    Cut cut;
    int rows;
    int offset;
};
static_assert(sizeof(MmaArguments) == 168, "mirror of src/cuda/arguments.rs");

struct MergeArguments {
    const float* maximum;  // of the partials
    const float* sum;
    float* output;         // the merged rows replace each row's first partial. Null: loss only
    float* lse;            // [B]
    float* row_maximum;    // [B] m_i over all partials
    float* row_sum;        // [B] l_i over all partials
    Cut cut;
    int rows;
    int dim;
};
static_assert(sizeof(MergeArguments) == 80, "mirror of src/cuda/arguments.rs");

struct ObjectiveArguments {
    const float* lse;       // [B]
    const float* maximum;   // [B] m_i, and with l_i the same sum unrounded
    const float* sum;       // [B] l_i
    const float* positive;  // [B] z+
    const float* weights;   // [B] or null
    float* loss;            // [B] weighted
    float* a;               // [B]
    float* b;               // [B]
    int rows;
    int padding;
};
static_assert(sizeof(ObjectiveArguments) == 72, "mirror of src/cuda/arguments.rs");

// The order of inbatch::Reduction.
enum ReductionKind { MEAN = 0, WEIGHTED_MEAN = 1, SUM = 2, NONE = 3 };

struct ReduceLossesArguments {
    const float* loss;     // [B] weighted
    const float* weights;  // [B] or null
    Scalars* scalars;
    int rows;
    int reduction;
};
static_assert(sizeof(ReduceLossesArguments) == 32, "mirror of src/cuda/arguments.rs");

struct RowGradientsArguments {
    const void* users;
    const void* items;
    const float2* row_norms;      // or null
    const float2* column_norms;   // or null
    const float* weights;         // or null
    const float* upstream;        // null: ones
    const Scalars* scalars;
    const float* a;
    const float* b;
    const float* sum;             // [B] l_i
    const float* output;          // O, in each row's first partial
    float* coefficient;           // [B] g_i a_i / l_i
    float* positive_coefficient;  // [B] g_i b_i
    float* temperature_term;      // [B] tau <u_i, du_i>
    void* d_users;                // [B, dim] gradient type
    Cut cut;                      // of the forward
    int rows;
    int dim;
    int offset;
    int upstream_per_row;
};
static_assert(sizeof(RowGradientsArguments) == 160, "mirror of src/cuda/arguments.rs");

struct ReduceTermsArguments {
    const float* terms;  // [B]
    Scalars* scalars;
    int rows;
    int padding;
};
static_assert(sizeof(ReduceTermsArguments) == 24, "mirror of src/cuda/arguments.rs");

struct ColumnGradientsArguments {
    Columns columns;
    const void* users;
    const float2* row_norms;            // or null
    const float2* column_norms;         // or null
    const float* partials;              // sums of the second sweep
    const float* positive_coefficient;  // [B]
    const Scalars* scalars;
    void* d_items;                      // [C, dim]
    void* d_extra;                      // [E, dim] or null
    Cut cut;                            // of the backward; its owners: C, or C + E with d_extra
    int rows;
    int offset;
};
static_assert(sizeof(ColumnGradientsArguments) == 136, "mirror of src/cuda/arguments.rs");

struct BankPushArguments {
    const void* embeddings;   // [count, dim]
    const float* log_q;       // [count] or null
    const i64* item_ids;      // [count] or null
    void* ring;               // [capacity, dim]
    float* ring_log_q;        // or null
    i64* ring_item_ids;       // or null
    u64* entered;             // [capacity]
    BankState* state;
    u64 capacity;
    u64 count;
    int dim;
    int padding;
};
static_assert(sizeof(BankPushArguments) == 88, "mirror of src/cuda/arguments.rs");
