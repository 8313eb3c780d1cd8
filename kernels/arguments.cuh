// What the host passes to the kernels, by value. src/cuda/arguments.rs holds the same structs; both sides
// assert the sizes.
#pragma once

#include "ranges.cuh"

// What makes weights of logits: inbatch::config::Link.
enum LinkKind { SOFTMAX_LINK = 0, SIGMOID_LINK = 1 };

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

// Parameters and results that are one number each, in device memory.
struct Scalars {
    float inverse_temperature;
    float loss;
    float weight_sum;
    float row_scale;              // what the reduction multiplies each row by
    float d_inverse_temperature;
    float bias;                   // of the sigmoid link, 0 otherwise
    float d_bias;
    float d_log_inverse_temperature;
};
static_assert(sizeof(Scalars) == 32, "mirror of src/cuda/arguments.rs");

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
    const Scalars* scalars;
    u64 warm_up;
    u64 max_age;
    float logq_scale;
    int inside;                // log q is divided by the temperature too
};
static_assert(sizeof(PrepareColumnsArguments) == 160, "mirror of src/cuda/arguments.rs");

struct PrepareRowsArguments {
    const void* users;               // [B, dim]
    const void* items;               // [C, dim]
    const float* bias;               // [N]
    const float2* column_norms;      // [N] or null
    const Scalars* scalars;
    float2* norms;                   // [B] or null
    float* positive;                 // [B] z+
    float* reference;                // [B] z+ with the sweep's roundings; null: nothing is ranked
    int rows;
    int dim;
    int offset;
    int corrected;                   // whether the positive's bias counts
};
static_assert(sizeof(PrepareRowsArguments) == 80, "mirror of src/cuda/arguments.rs");

struct StreamArguments {
    Columns columns;
    const void* users;
    const float2* row_norms;         // [B] or null
    const float2* column_norms;      // [N] or null
    const float* bias;               // [N]
    const i64* item_ids;             // [N], null: no exclusion by item
    const i64* user_ids;             // [B], null: no exclusion by user
    const i64* labels;               // [B, num_true] ids of each row, if it has more than the one in item_ids
    const float* inverse_temperature;
    const float* reference;          // [B] m_i of the forward, backward; what ranks compare with, forward
    const float* coefficient;        // [B] g_i a_i / l_i, backward
    const float* row_bias;           // [B] the columns' own loss: bias of each row; null: there is none
    const float* column_reference;   // [owned] its m_j
    const float* column_coefficient; // [owned] its g_j a_j / l_j
    float* maximum;                  // [splits, B], forward; sum softplus(z) under the sigmoid link
    float* sum;                      // [splits, B], forward; backward: [splits, owned] sums of the rows' weights, or null
    float* moment;                   // [splits, B] sums of weight times bias, forward, or null
    unsigned* counts;                // [splits, B, 3], forward, or null: negatives, excluded, above the positive
    float* output;                   // [splits, B, dim] forward, [splits, owned, dim] backward
    int rows;
    int offset;
    int owned;                       // owners: B forward, gradient columns backward
    int tiles_per_split;
    int aligned;                     // every embedding row starts at a multiple of 16 bytes
    int link;                        // a LinkKind
    int num_true;                    // at most 1 without labels
    int padding;
};
static_assert(sizeof(StreamArguments) == 216, "mirror of src/cuda/arguments.rs");

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
    const float* maximum;   // of the partials
    const float* sum;
    const float* moment;    // or null
    const unsigned* counts; // three for each partial, or null
    float* output;          // the merged rows replace each row's first partial. Null: loss only
    float* lse;             // [B]
    float* row_maximum;     // [B] m_i over all partials
    float* row_sum;         // [B] l_i over all partials
    float* row_mass;        // [B] sum_j sigmoid(z_ij), under the sigmoid link
    float* row_moment;      // [B] mean bias of the negatives (under the sigmoid link: the sum), or null
    unsigned* row_counts;   // [3, B] or null
    i64 more;               // where each row has one partial beside the cut's, the first of those; below 0: there are none
    Cut cut;
    int rows;
    int dim;
    int link;               // a LinkKind
    int padding;
};
static_assert(sizeof(MergeArguments) == 136, "mirror of src/cuda/arguments.rs");

struct ObjectiveArguments {
    const float* lse;       // [B]
    const float* maximum;   // [B] m_i, and with l_i the same sum unrounded
    const float* sum;       // [B] l_i
    const float* positive;  // [B] z+
    const float* weights;   // [B] or null
    const unsigned* negatives; // [B] n_i, or null where the objective does not count
    const float* log_q;     // [C] of the batch, or null
    const Scalars* scalars;
    const float* other;     // [B] weighted losses of the other direction, to be averaged with, or null
    float* loss;            // [B] weighted
    float* a;               // [B]
    float* b;               // [B]
    float* direct;          // [B] the objective's own derivative with respect to 1/tau, or null
    int rows;
    int offset;
    int objective;          // an ObjectiveKind
    float parameter;        // the margin, or the prior
    float logq_scale;
    int padding;
};
static_assert(sizeof(ObjectiveArguments) == 128, "mirror of src/cuda/arguments.rs");

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
    const float* direct;          // [B] d(1/tau) beside the logits, or null
    const float* moment;          // [B] the negatives' part of d(1/tau) through log q, or null
    const float* mass;            // [B] sum_j W_ij under the sigmoid link; null: 1
    const float* bias;            // [N] column biases
    const float* log_q;           // [C] of the batch, or null
    float* coefficient;           // [B] g_i a_i / l_i
    float* positive_coefficient;  // [B] g_i b_i
    float* temperature_term;      // [B] tau <u_i, du_i>, and what does not go through scores
    float* bias_term;             // [B] each row's dloss / dbias, or null
    float* log_q_term;            // [B] g_i dloss / dlog_q_+, or null
    void* d_users;                // [B, dim] gradient type
    Cut cut;                      // of the forward
    int rows;
    int dim;
    int offset;
    int upstream_per_row;
    int corrected;                // whether log q enters z+
    int corrected_log_q;          // whether log(1 - q_+) enters the loss
    int inside;                   // log q is divided by the temperature too
    float logq_scale;
};
static_assert(sizeof(RowGradientsArguments) == 232, "mirror of src/cuda/arguments.rs");

// One direction of a symmetric loss.
struct Direction {
    const float* a;
    const float* b;
    const float* sum;             // [B] l_i
    float* coefficient;           // [B] g_i a_i / l_i / 2
    float* positive_coefficient;  // [B] g_i b_i / 2, of both directions
    float* log_q_term;            // [B] g_i / 2 dloss / dlog_q_+ of this direction
};

struct SymmetricArguments {
    Direction users;
    Direction items;
    const float* weights;         // or null
    const float* upstream;        // null: ones
    const Scalars* scalars;
    int rows;
    int upstream_per_row;
    int corrected;                // whether log q enters z+
    int inside;                   // log q is divided by the temperature too
    float logq_scale;
    int padding;
};
static_assert(sizeof(SymmetricArguments) == 144, "mirror of src/cuda/arguments.rs");

struct ReduceTermsArguments {
    const float* terms;       // [B]
    const float* bias_terms;  // [B] or null
    Scalars* scalars;
    int rows;
    int padding;
};
static_assert(sizeof(ReduceTermsArguments) == 32, "mirror of src/cuda/arguments.rs");

struct UpdateParametersArguments {
    Scalars* scalars;
    const float* parameter;  // [1] log(1/tau) of the caller's own, or null: a step of descent
    const float* bias;       // [1] the caller's own, or null: a step of descent
    float temperature_rate;
    float bias_rate;
    float low;               // bounds of log(1/tau)
    float high;
};
static_assert(sizeof(UpdateParametersArguments) == 40, "mirror of src/cuda/arguments.rs");

struct ColumnGradientsArguments {
    Columns columns;
    const void* users;
    const float2* row_norms;            // or null
    const float2* column_norms;         // or null
    const float* partials;              // sums of the second sweep
    const float* positive_coefficient;  // [B]
    const float* masses;                // sums of weights of the partials, or null
    const float* log_q_term;            // [B] or null
    const float* log_q;                 // [owned] if it has a share of d(1/tau), or null
    const Scalars* scalars;
    void* d_items;                      // [C, dim]
    void* d_extra;                      // [E, dim] or null
    float* d_log_q;                     // [C] or null
    float* d_extra_log_q;               // [E] or null
    float* temperature_term;            // [owned] tau <v_j, dv_j> and the share of log q, or null
    Cut cut;                            // of the backward; its owners: C, or C + E with one of the extra gradients
    int rows;
    int offset;
    float logq_scale;
    int inside;
    int second;                         // temperature_term has both directions' scores already: log q's share is added
    int padding;
};
static_assert(sizeof(ColumnGradientsArguments) == 200, "mirror of src/cuda/arguments.rs");

// Negatives that each row has for itself, K of them: their columns, and the logits that were made of them once.
struct Gathered {
    Columns columns;
    const float2* norms;      // of the columns, or null
    const float* bias;        // of the columns
    const int* places;        // [B, K] columns, below 0: none; ascending in each row for the backward. Null: cell c has column c
    float* logits;            // [B, K], -inf for those that take no part
    const void* users;        // [B, dim]
    const float2* row_norms;  // [B] or null
    const Scalars* scalars;
    int rows;
    int per_row;              // K
};
static_assert(sizeof(Gathered) == 104, "mirror of src/cuda/arguments.rs");

struct RowPlacesArguments {
    const int* indices;       // [B, K] of the caller
    int* places;              // [B, K] the same, ascending in each row
    float* logits;            // [B, K] go with them
    int rows;
    int per_row;
};
static_assert(sizeof(RowPlacesArguments) == 32, "mirror of src/cuda/arguments.rs");

struct RowLogitsArguments {
    Gathered gathered;
    const i64* ids;           // of the gathered columns, null: no exclusion by item
    const i64* positive_ids;  // [C] of the batch
    int offset;
    int padding;
};
static_assert(sizeof(RowLogitsArguments) == 128, "mirror of src/cuda/arguments.rs");

struct RowPartialArguments {
    Gathered gathered;
    const i64* ids;           // as above, to count what is excluded
    const i64* positive_ids;
    const unsigned* excluded; // [B] counted already, or null
    const float* reference;   // [B] z+ as the logits were rounded, or null with the counts
    float* maximum;           // of all partials: this kernel writes one for each row
    float* sum;
    float* moment;            // or null
    unsigned* counts;         // or null
    float* output;            // or null
    i64 first;                // the first of those rows
    int offset;
    int link;                 // a LinkKind
};
static_assert(sizeof(RowPartialArguments) == 192, "mirror of src/cuda/arguments.rs");

struct RowBackwardArguments {
    Gathered gathered;
    const float* reference;   // [B] m_i of the forward
    const float* coefficient; // [B] g_i a_i / l_i
    float* output;            // [splits, owners, dim]
    float* masses;            // [splits, owners] sums of weights, or null
    Cut cut;                  // of the rows: its owners are the first columns
    int link;                 // a LinkKind
    int rows_per_split;
};
static_assert(sizeof(RowBackwardArguments) == 168, "mirror of src/cuda/arguments.rs");

struct RowNegativeGradientsArguments {
    Gathered gathered;
    const float* reference;   // [B] m_i of the forward
    const float* coefficient; // [B] g_i a_i / l_i
    void* d_embeddings;       // [B, K, dim] gradient type, or null
    float* d_log_q;           // [B, K] or null
    int link;                 // a LinkKind
    int inside;               // log q is divided by the temperature too
    float logq_scale;
    int padding;
};
static_assert(sizeof(RowNegativeGradientsArguments) == 152, "mirror of src/cuda/arguments.rs");

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

struct HardNegativesArguments {
    StreamArguments stream; // of the columns' one sweep: what is null there is not used
    u64* lists;             // [splits, B, kept] keys of select.cuh, largest first; 0: nothing
    unsigned* excluded;     // [splits, B] pairs left out by their ids, or null
    int kept;               // negatives that a row keeps, at most 128
    int padding;
};
static_assert(sizeof(HardNegativesArguments) == 240, "mirror of src/cuda/arguments.rs");

struct HardNegativesMergeArguments {
    const u64* lists;         // of the splits
    const unsigned* excluded; // of the splits, or null
    float* logits;            // [B, kept], -inf: nothing
    int* places;              // [B, kept] columns in ascending order; before them -1 for nothing
    unsigned* row_excluded;   // [B], null where `excluded` is
    int splits;
    int rows;
    int kept;
    int padding;
};
static_assert(sizeof(HardNegativesMergeArguments) == 56, "mirror of src/cuda/arguments.rs");
