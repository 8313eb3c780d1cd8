// What is prepared and finished per column: bias, id, norm before the sweeps, the gradient after them.
// target: compute_75
#include "arguments.cuh"
#include "gradient.cuh"

constexpr int WARPS = 8; // columns of a block, one warp each
constexpr int BLOCK = WARPS * WARP;

enum SegmentIndex { BATCH_SEGMENT = 0, EXTRA_SEGMENT = 1, BANK_SEGMENT = 2 };

// Whether the loss may read a slot of the bank. The last push has age 1.
__device__ __forceinline__ bool slot_is_readable(const PrepareColumnsArguments& a, i64 slot) {
    const BankState state = *a.state;
    if (static_cast<u64>(slot) >= state.length || state.step < a.warm_up) {
        return false;
    }
    return state.step - a.entered[slot] <= a.max_age;
}

// Bias b - lambda log_q_j, or -inf for a bank slot that is not to be read; nothing else of such a slot is touched.
template <typename T>
__device__ __forceinline__ void prepare_columns(const PrepareColumnsArguments& a) {
    const int lane = threadIdx.x % WARP;
    const i64 column = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (column >= a.columns.count()) {
        return;
    }
    int segment = BATCH_SEGMENT;
    i64 index = column;
    if (index >= a.columns.batch_count) {
        segment = EXTRA_SEGMENT;
        index -= a.columns.batch_count;
        if (index >= a.columns.extra_count) {
            segment = BANK_SEGMENT;
            index -= a.columns.extra_count;
        }
    }
    const bool present = segment != BANK_SEGMENT || slot_is_readable(a, index);
    const float* log_q = a.log_q[segment];
    const i64* ids = a.item_ids[segment];
    float2 norm = make_float2(0.0f, 0.0f);
    if (present && a.norms != nullptr) {
        norm = inverse_norm(a.columns.column<T>(column), a.columns.dim, lane);
    }
    if (lane != 0) {
        return;
    }
    float correction = present && log_q != nullptr ? -a.logq_scale * log_q[index] : 0.0f;
    if (a.inside) {
        correction *= a.scalars->inverse_temperature;
    }
    a.bias[column] = present ? correction + a.scalars->bias : -infinity();
    if (a.ids != nullptr) {
        a.ids[column] = present ? ids[index] : 0;
    }
    if (a.norms != nullptr) {
        a.norms[column] = norm;
    }
}

// dv_j: the partials in their order, over tau, less the positive's term, through the normalisation.
template <typename T, typename G>
__device__ __forceinline__ void column_gradients(const ColumnGradientsArguments& a) {
    const int lane = threadIdx.x % WARP;
    const i64 column = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (column >= a.cut.owners) {
        return;
    }
    // First, while little is alive: its divisions are calls, and registers would be spilled around them.
    const Parts parts = a.cut.parts_of<T>(column);
    __builtin_assume(parts.count > 0); // or the loops below would be compiled once more for none
    const float temperature = a.log_q == nullptr ? 0.0f : 1.0f / a.scalars->inverse_temperature;
    const int dim = a.columns.dim;
    const i64 row = column - a.offset;
    const bool owned = column < a.columns.batch_count && row >= 0 && row < a.rows;
    const float positive = owned ? a.positive_coefficient[row] : 0.0f;
    // A row without weight keeps out, whatever it holds.
    const bool has_positive = positive != 0.0f;
    const T* user = static_cast<const T*>(a.users) + (owned ? row * dim : 0);
    const float2 user_norm = has_positive ? norm_of(a.row_norms, row) : make_float2(0.0f, 0.0f);
    const T* item = a.columns.column<T>(column);
    const float2 norm = norm_of(a.column_norms, column);
    auto difference = [&](int d) { // tau dv_j
        float sum = 0.0f;
        const float* partial = a.partials + parts.first * dim + d;
#pragma unroll 1
        for (int s = 0; s < parts.count; s++, partial += parts.stride * dim) {
            sum += *partial;
        }
        return has_positive ? fmaf(-positive, unit(user[d], user_norm), sum) : sum;
    };

    const bool extra = column >= a.columns.batch_count;
    const i64 index = extra ? column - a.columns.batch_count : column;
    float* d_log_q = extra ? a.d_extra_log_q : a.d_log_q;
    float share = 0.0f; // of log q in d(1/tau)
    if ((d_log_q != nullptr || a.log_q != nullptr) && lane == 0) {
        float mass = 0.0f;
#pragma unroll 1
        for (int s = 0; s < parts.count; s++) {
            mass += a.masses[parts.row(s)];
        }
        const float scale = a.inside ? a.logq_scale * a.scalars->inverse_temperature : a.logq_scale;
        const float slope = fmaf(-scale, mass, owned ? a.log_q_term[row] : 0.0f);
        if (d_log_q != nullptr) {
            d_log_q[index] = slope;
        }
        if (a.log_q != nullptr) {
            // Inside the temperature a logit has -lambda log_q / tau of it.
            share = a.log_q[index] * slope * temperature;
        }
    }
    if (extra && a.d_extra == nullptr) {
        return;
    }

    const bool normalized = a.column_norms != nullptr;
    float along = 0.0f; // tau <v_j, dv_j>
    if (normalized || a.temperature_term != nullptr) {
        along = gradient_along(item, norm, difference, dim, lane);
    }
    if (a.temperature_term != nullptr && lane == 0) {
        a.temperature_term[column] = (a.second ? a.temperature_term[column] : along) + share;
    }
    G* out = static_cast<G*>(extra ? a.d_extra : a.d_items) + index * dim;
    write_gradient(item, norm, normalized, along, difference, a.scalars->inverse_temperature, dim, lane, out);
}

#define COLUMN_KERNELS(suffix, T)                                                                                    \
    extern "C" __global__ void __launch_bounds__(BLOCK) prepare_columns_##suffix(const PrepareColumnsArguments a) {  \
        prepare_columns<T>(a);                                                                                       \
    }                                                                                                                \
    COLUMN_GRADIENTS(suffix, T, f32, float)                                                                          \
    COLUMN_GRADIENTS(suffix, T, f16, f16)                                                                            \
    COLUMN_GRADIENTS(suffix, T, bf16, bf16)

#define COLUMN_GRADIENTS(suffix, T, to, G)                                                                           \
    extern "C" __global__ void __launch_bounds__(BLOCK)                                                              \
        column_gradients_##suffix##_##to(const ColumnGradientsArguments a) {                                         \
        column_gradients<T, G>(a);                                                                                   \
    }

COLUMN_KERNELS(f32, float)
COLUMN_KERNELS(f16, f16)
COLUMN_KERNELS(bf16, bf16)
