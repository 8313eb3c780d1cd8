// The row stage: everything that is one number, or one embedding, per user.
// target: compute_75
#include "arguments.cuh"
#include "objective.cuh"

constexpr int WARPS = 8; // rows of a block, one warp each
constexpr int BLOCK = WARPS * WARP;

// Inverse norm of u_i if asked, and z_i+ = <u_i, v_+> / tau, less the correction if the positive has it.
template <typename T>
__device__ __forceinline__ void prepare_rows(const PrepareRowsArguments& a) {
    const int lane = threadIdx.x % WARP;
    const i64 row = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (row >= a.rows) {
        return;
    }
    const T* user = static_cast<const T*>(a.users) + row * a.dim;
    const i64 column = row + a.offset;
    const T* item = static_cast<const T*>(a.items) + column * a.dim;
    float2 norm = make_float2(1.0f, 1.0f);
    if (a.norms != nullptr) {
        norm = inverse_norm(user, a.dim, lane);
        if (lane == 0) {
            a.norms[row] = norm;
        }
    }
    const float2 item_norm = norm_of(a.column_norms, column);
    float score = 0.0f;
#pragma unroll 1
    for (int d = lane; d < a.dim; d += WARP) {
        score = fmaf(unit(user[d], norm), unit(item[d], item_norm), score);
    }
    score = warp_sum(score);
    if (lane == 0) {
        a.positive[row] = fmaf(score, *a.inverse_temperature, a.corrected ? a.bias[column] : 0.0f);
    }
}

// Folds the partials (m, l, O) of each row in their order: LSE_i, and O_i over the softmax's denominator.
extern "C" __global__ void __launch_bounds__(BLOCK) merge_partials(const MergeArguments a) {
    const int lane = threadIdx.x % WARP;
    const i64 row = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (row >= a.rows) {
        return;
    }
    const Parts parts = a.cut.parts(row);
    float maximum = -infinity();
#pragma unroll 1
    for (int s = 0; s < parts.count; s++) {
        maximum = fmaxf(maximum, a.maximum[parts.row(s)]);
    }
    const float reference = maximum == -infinity() ? 0.0f : maximum;
    float sum = 0.0f;
#pragma unroll 1
    for (int s = 0; s < parts.count; s++) {
        sum = fmaf(a.sum[parts.row(s)], expf(a.maximum[parts.row(s)] - reference), sum);
    }
    if (lane == 0) {
        // A logit of +inf makes the sum NaN (inf - inf), but the log-sum-exp is +inf.
        const float lse = sum == 0.0f ? -infinity() : reference + logf(sum);
        a.lse[row] = maximum == infinity() ? maximum : lse;
        a.row_maximum[row] = maximum;
        // So that the second sweep gives NaN to the columns at +inf, and 0 to the others.
        a.row_sum[row] = maximum == infinity() ? 1.0f : sum;
    }
    if (a.output == nullptr) {
        return;
    }
    const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma unroll 1
    for (int d = lane; d < a.dim; d += WARP) {
        float merged = 0.0f;
#pragma unroll 1
        for (int s = 0; s < parts.count; s++) {
            merged = fmaf(a.output[parts.row(s) * a.dim + d], expf(a.maximum[parts.row(s)] - reference), merged);
        }
        a.output[parts.first * a.dim + d] = merged * inverse;
    }
}

// LSE - z+ to the weighted loss and the coefficients a, b of each row. A row of weight 0 has loss 0.
extern "C" __global__ void __launch_bounds__(BLOCK) objective_rows(const ObjectiveArguments a) {
    const i64 row = static_cast<i64>(blockIdx.x) * BLOCK + threadIdx.x;
    if (row >= a.rows) {
        return;
    }
    // Without negatives there is nothing to lose. LSE - z+ through m and l, whose difference loses nothing to the
    // rounding of a large LSE.
    const bool alone = a.lse[row] == -infinity();
    const float x = (a.maximum[row] - a.positive[row]) + logf(a.sum[row]);
    const RowTerm term = alone ? RowTerm{0.0f, 0.0f, 0.0f} : sampled_softmax_at(x);
    const float weight = a.weights == nullptr ? 1.0f : a.weights[row];
    a.loss[row] = weight == 0.0f ? 0.0f : weight * term.loss;
    a.a[row] = term.negative;
    a.b[row] = term.positive;
}

// The sum of an array by one block in a fixed order, in f64: it is far from any bottleneck. Every thread gets it.
__device__ __forceinline__ double block_sum(const float* values, int count) {
    __shared__ double sums[BLOCK];
    double sum = 0.0;
#pragma unroll 1
    for (i64 i = threadIdx.x; i < count; i += BLOCK) {
        sum += values[i];
    }
    __syncthreads(); // an earlier sum has been read
    sums[threadIdx.x] = sum;
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            sums[threadIdx.x] += sums[threadIdx.x + half];
        }
    }
    // Without it the others' reads would race with thread 0's last sum, even if their results were dropped: the
    // compiler loads first and selects later.
    __syncthreads();
    return sums[0];
}

// The loss, the sum of weights, and what the reduction multiplies each row by. Weights without a usable sum
// leave a NaN loss and zero gradients; the host reports the sum when the loss is read.
extern "C" __global__ void __launch_bounds__(BLOCK) reduce_losses(const ReduceLossesArguments a) {
    const double loss = block_sum(a.loss, a.rows);
    const double weights = a.weights == nullptr ? a.rows : block_sum(a.weights, a.rows);
    if (threadIdx.x != 0) {
        return;
    }
    const float weight_sum = static_cast<float>(weights);
    double scale = 1.0;
    if (a.reduction == MEAN) {
        scale = 1.0 / a.rows;
    } else if (a.reduction == WEIGHTED_MEAN) {
        const bool usable = weight_sum != 0.0f && fabsf(weight_sum) < infinity();
        scale = usable ? 1.0 / weights : 0.0;
        a.scalars->loss = usable ? static_cast<float>(loss * scale) : not_a_number();
    }
    if (a.reduction != WEIGHTED_MEAN) {
        a.scalars->loss = static_cast<float>(loss * scale);
    }
    a.scalars->weight_sum = weight_sum;
    a.scalars->row_scale = static_cast<float>(scale);
}

// d(1/tau) = sum_i tau <u_i, du_i>.
extern "C" __global__ void __launch_bounds__(BLOCK) reduce_terms(const ReduceTermsArguments a) {
    const double sum = block_sum(a.terms, a.rows);
    if (threadIdx.x == 0) {
        a.scalars->d_inverse_temperature = static_cast<float>(sum);
    }
}

// du_i = g_i / tau (a_i O_i - b_i v_+), through the normalisation if there is one, and what the second sweep
// needs of the row. A coefficient of 0 keeps its embedding out altogether, NaN or not.
template <typename T, typename G>
__device__ __forceinline__ void row_gradients(const RowGradientsArguments& a) {
    const int lane = threadIdx.x % WARP;
    const i64 row = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (row >= a.rows) {
        return;
    }
    const i64 column = row + a.offset;
    const T* user = static_cast<const T*>(a.users) + row * a.dim;
    const T* item = static_cast<const T*>(a.items) + column * a.dim;
    G* d_user = static_cast<G*>(a.d_users) + row * a.dim;
    const float2 norm = norm_of(a.row_norms, row);
    const float2 item_norm = norm_of(a.column_norms, column);

    float g = a.upstream == nullptr ? 1.0f : a.upstream[a.upstream_per_row ? row : 0];
    g *= a.scalars->row_scale * (a.weights == nullptr ? 1.0f : a.weights[row]);
    const bool counts = g != 0.0f;
    const float negative = counts ? g * a.a[row] : 0.0f;
    const float positive = counts ? g * a.b[row] : 0.0f;
    const float* output = a.output + a.cut.parts(row).first * a.dim;
    auto difference = [&](int d) { // tau du_i
        const float pull = negative == 0.0f ? 0.0f : negative * output[d];
        return positive == 0.0f ? pull : fmaf(-positive, unit(item[d], item_norm), pull);
    };

    const bool zero = negative == 0.0f && positive == 0.0f;
    float term = 0.0f; // tau <u_i, du_i>
    if (!zero) {
#pragma unroll 1
        for (int d = lane; d < a.dim; d += WARP) {
            term = fmaf(unit(user[d], norm), difference(d), term);
        }
        term = warp_sum(term);
    }
    if (lane == 0) {
        a.coefficient[row] = negative == 0.0f ? 0.0f : negative / a.sum[row];
        a.positive_coefficient[row] = positive;
        a.temperature_term[row] = term;
    }
    const float inverse_temperature = a.scalars->inverse_temperature;
#pragma unroll 1
    for (int d = lane; d < a.dim; d += WARP) {
        float gradient = 0.0f;
        if (!zero) {
            gradient = difference(d);
            if (a.row_norms != nullptr) {
                gradient = fmaf(-unit(user[d], norm), term, gradient) * norm.x * norm.y;
            }
            gradient *= inverse_temperature;
        }
        narrow(gradient, d_user[d]);
    }
}

#define ROW_KERNELS(suffix, T)                                                                                       \
    extern "C" __global__ void __launch_bounds__(BLOCK) prepare_rows_##suffix(const PrepareRowsArguments a) {        \
        prepare_rows<T>(a);                                                                                          \
    }                                                                                                                \
    ROW_GRADIENTS(suffix, T, f32, float)                                                                             \
    ROW_GRADIENTS(suffix, T, f16, f16)                                                                               \
    ROW_GRADIENTS(suffix, T, bf16, bf16)

#define ROW_GRADIENTS(suffix, T, to, G)                                                                              \
    extern "C" __global__ void __launch_bounds__(BLOCK)                                                              \
        row_gradients_##suffix##_##to(const RowGradientsArguments a) {                                               \
        row_gradients<T, G>(a);                                                                                      \
    }

ROW_KERNELS(f32, float)
ROW_KERNELS(f16, f16)
ROW_KERNELS(bf16, bf16)
