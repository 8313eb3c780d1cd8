// The row stage: everything that is one number, or one embedding, per user.
// target: compute_75
#include "arguments.cuh"
#include "cell.cuh"
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
    const float score = warp_score(user, norm, item, item_norm, a.dim, lane);
    if (lane != 0) {
        return;
    }
    const float inverse_temperature = a.scalars->inverse_temperature;
    const float bias = a.corrected ? a.bias[column] : a.scalars->bias;
    a.positive[row] = fmaf(score, inverse_temperature, bias);
    if (a.reference != nullptr) {
        // The stream's own sum, in the order of the dimensions: an item that equals the positive then ties with it.
        float chain = 0.0f;
#pragma unroll 1
        for (int d = 0; d < a.dim; d++) {
            chain = fmaf(unit(user[d], norm), unit(item[d], item_norm), chain);
        }
        a.reference[row] = fmaf(chain, inverse_temperature, bias);
    }
}

// Folds the partials (m, l, O) of each row in their order, that of its own negatives last: LSE_i, and O_i over the softmax's
// denominator.
extern "C" __global__ void __launch_bounds__(BLOCK) merge_partials(const MergeArguments a) {
    const int lane = threadIdx.x % WARP;
    const i64 row = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (row >= a.rows) {
        return;
    }
    const bool sigmoid = a.link == SIGMOID_LINK;
    const Parts parts = a.cut.parts(row);
    const int count = parts.count + (a.more < 0 ? 0 : 1);
    __builtin_assume(count > 0); // or the loops below would be compiled once more for none
    auto partial = [&](int s) { return s < parts.count ? parts.row(s) : a.more + row; };
    float maximum = sigmoid ? 0.0f : -infinity();
#pragma unroll 1
    for (int s = 0; s < count; s++) {
        const float of_part = a.maximum[partial(s)];
        maximum = sigmoid ? maximum + of_part : fmaxf(maximum, of_part);
    }
    const float reference = maximum == -infinity() ? 0.0f : maximum;
    // What brings a partial's sums to the common maximum.
    auto factor = [&](i64 at) { return sigmoid ? 1.0f : expf(a.maximum[at] - reference); };
    float sum = 0.0f;
    float moment = 0.0f;
#pragma unroll 1
    for (int s = 0; s < count; s++) {
        const i64 at = partial(s);
        sum = fmaf(a.sum[at], factor(at), sum);
        if (a.moment != nullptr) {
            moment = fmaf(a.moment[at], factor(at), moment);
        }
    }
    if (lane == 0 && a.moment != nullptr) {
        a.row_moment[row] = sigmoid ? moment : sum == 0.0f ? 0.0f : moment / sum;
    }
    if (lane < COUNTS && a.counts != nullptr) {
        unsigned total = 0;
#pragma unroll 1
        for (int s = 0; s < count; s++) {
            total += a.counts[partial(s) * COUNTS + lane];
        }
        a.row_counts[static_cast<i64>(lane) * a.rows + row] = total;
    }
    if (lane == 0 && sigmoid) {
        a.lse[row] = maximum;
        a.row_mass[row] = sum;
        // The second sweep divides by it.
        a.row_maximum[row] = 0.0f;
        a.row_sum[row] = 1.0f;
    } else if (lane == 0) {
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
    const float inverse = sigmoid ? 1.0f : sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma unroll 1
    for (int d = lane; d < a.dim; d += WARP) {
        float merged = 0.0f;
#pragma unroll 1
        for (int s = 0; s < count; s++) {
            const i64 at = partial(s);
            merged = fmaf(a.output[at * a.dim + d], factor(at), merged);
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
    const bool alone = a.objective != SIGMOID && a.lse[row] == -infinity();
    RowInputs inputs = {};
    inputs.x = a.objective == SIGMOID ? a.lse[row] : (a.maximum[row] - a.positive[row]) + logf(a.sum[row]);
    inputs.z_positive = a.positive[row];
    inputs.negatives = a.negatives == nullptr ? 0.0f : static_cast<float>(a.negatives[row]);
    inputs.inverse_temperature = a.scalars->inverse_temperature;
    if (a.log_q != nullptr) {
        inputs.log_rest = a.logq_scale * log1pf(-expf(a.log_q[row + a.offset]));
    }
    const RowTerm term = alone ? RowTerm{0.0f, 0.0f, 0.0f, 0.0f} : objective(a.objective, a.parameter, inputs);
    const float weight = a.weights == nullptr ? 1.0f : a.weights[row];
    const float loss = weight == 0.0f ? 0.0f : weight * term.loss;
    a.loss[row] = a.other == nullptr ? loss : 0.5f * (loss + a.other[row]);
    a.a[row] = term.negative;
    a.b[row] = term.positive;
    if (a.direct != nullptr) {
        a.direct[row] = term.inverse_temperature;
    }
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

// d(1/tau) = sum_i tau <u_i, du_i>, also as the derivative with respect to log(1/tau); d(bias) of the sigmoid link.
extern "C" __global__ void __launch_bounds__(BLOCK) reduce_terms(const ReduceTermsArguments a) {
    const double sum = block_sum(a.terms, a.rows);
    if (threadIdx.x == 0) {
        a.scalars->d_inverse_temperature = static_cast<float>(sum);
        a.scalars->d_log_inverse_temperature = static_cast<float>(sum * a.scalars->inverse_temperature);
    }
    if (a.bias_terms != nullptr) {
        const double bias = block_sum(a.bias_terms, a.rows);
        if (threadIdx.x == 0) {
            a.scalars->d_bias = static_cast<float>(bias);
        }
    }
}

// What both second sweeps of a symmetric loss need of each pair: half of either direction's coefficients, the whole of
// the positive's, and either positive's part in the gradient of its own direction's log q.
extern "C" __global__ void __launch_bounds__(BLOCK) symmetric_coefficients(const SymmetricArguments a) {
    const i64 row = static_cast<i64>(blockIdx.x) * BLOCK + threadIdx.x;
    if (row >= a.rows) {
        return;
    }
    float g = a.upstream == nullptr ? 1.0f : a.upstream[a.upstream_per_row ? row : 0];
    g *= 0.5f * a.scalars->row_scale * (a.weights == nullptr ? 1.0f : a.weights[row]);
    const bool counts = g != 0.0f;
    const float scale = a.inside ? a.logq_scale * a.scalars->inverse_temperature : a.logq_scale;
    float positive = 0.0f;
    auto direction = [&](const Direction& d) {
        const float negative = counts ? g * d.a[row] : 0.0f;
        const float own = counts ? g * d.b[row] : 0.0f;
        d.coefficient[row] = negative == 0.0f ? 0.0f : negative / d.sum[row];
        d.log_q_term[row] = a.corrected ? scale * own : 0.0f;
        positive += own;
    };
    direction(a.users);
    direction(a.items);
    a.users.positive_coefficient[row] = positive;
    a.items.positive_coefficient[row] = positive;
}

// The temperature by its logarithm, within bounds, and the sigmoid link's bias: taken from the caller's own parameters, or
// moved against the last gradients. One thread. A NaN passes every bound, so that it is seen.
extern "C" __global__ void update_parameters(const UpdateParametersArguments a) {
    Scalars& scalars = *a.scalars;
    if (a.parameter != nullptr || a.temperature_rate != 0.0f) {
        float parameter = a.parameter != nullptr
            ? *a.parameter
            : logf(scalars.inverse_temperature) - a.temperature_rate * scalars.d_log_inverse_temperature;
        parameter = parameter < a.low ? a.low : parameter > a.high ? a.high : parameter;
        scalars.inverse_temperature = expf(parameter);
    }
    if (a.bias != nullptr) {
        scalars.bias = *a.bias;
    } else if (a.bias_rate != 0.0f) {
        scalars.bias -= a.bias_rate * scalars.d_bias;
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
    const float* output = a.output + a.cut.parts_of<T>(row).first * a.dim;
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
    const float inverse_temperature = a.scalars->inverse_temperature;
    if (lane == 0) {
        const float mass = a.mass == nullptr ? 1.0f : a.mass[row];
        float beside = 0.0f; // of d(1/tau), what does not go through scores
        if (a.direct != nullptr && counts) {
            beside = g * a.direct[row];
        }
        if (a.moment != nullptr && !zero) {
            // Log q inside the temperature: z = (s + c) / tau with c / tau the bias, less the sigmoid link's own.
            const float bias = a.scalars->bias;
            const float of_negatives = negative == 0.0f ? 0.0f : negative * fmaf(-bias, mass, a.moment[row]);
            const float of_positive = a.corrected ? positive * (a.bias[column] - bias) : 0.0f;
            beside += (of_negatives - of_positive) / inverse_temperature;
        }
        a.coefficient[row] = negative == 0.0f ? 0.0f : negative / a.sum[row];
        a.positive_coefficient[row] = positive;
        a.temperature_term[row] = term + beside;
        if (a.bias_term != nullptr) {
            a.bias_term[row] = zero ? 0.0f : fmaf(negative, mass, -positive);
        }
        if (a.log_q_term != nullptr) {
            const float scale = a.inside ? a.logq_scale * inverse_temperature : a.logq_scale;
            float of_log_q = a.corrected ? scale * positive : 0.0f;
            if (a.corrected_log_q && negative != 0.0f) {
                // Of w log(1 - q): -w q / (1 - q).
                of_log_q = negative * scale / (1.0f - expf(-a.log_q[column]));
            }
            a.log_q_term[row] = of_log_q;
        }
    }
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
