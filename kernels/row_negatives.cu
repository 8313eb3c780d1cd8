// Negatives that a row has for itself, beside the columns that all rows share: their logits, one more partial result of the
// first sweep, and their gradients. They come as embeddings of their own, as places in a pool, or as the columns that
// mining has kept.
// target: compute_75
#include "arguments.cuh"
#include "cell.cuh"
#include "gradient.cuh"

constexpr int WARPS = 8; // of a block; each has a row, a cell or a column
constexpr int BLOCK = WARPS * WARP;

// The place of a cell: its column, below 0 where there is none, the columns' count or more where the caller was wrong.
__device__ __forceinline__ i64 place_of(const Gathered& g, i64 cell) {
    return g.places == nullptr ? cell : g.places[cell];
}

// The row of a cell. Cells are counted in 32 bits, whose division is a few instructions.
__device__ __forceinline__ i64 row_of(const Gathered& g, i64 cell) {
    return static_cast<unsigned>(cell) / static_cast<unsigned>(g.per_row);
}

// Whether an item id makes a column an accidental hit.
__device__ __forceinline__ bool is_hit(const i64* ids, const i64* positive_ids, i64 place, i64 positive) {
    return ids != nullptr && ids[place] == positive_ids[positive];
}

// Each row's places in ascending order with their logits, by a warp: the bitonic sort whose every step puts the smaller
// first, so that what lies beyond the end may stay where it is. Equal places have equal logits, and need no order.
extern "C" __global__ void __launch_bounds__(BLOCK) row_negative_places(const RowPlacesArguments a) {
    const unsigned lane = threadIdx.x % WARP;
    const i64 row = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (row >= a.rows) {
        return;
    }
    const unsigned count = static_cast<unsigned>(a.per_row);
    const int* indices = a.indices + row * a.per_row;
    int* places = a.places + row * a.per_row;
    float* logits = a.logits + row * a.per_row;
    for (unsigned k = lane; k < count; k += WARP) {
        places[k] = indices[k];
    }
    auto put_in_order = [&](unsigned low, unsigned high) {
        if (high < count && places[low] > places[high]) {
            const int place = places[low];
            places[low] = places[high];
            places[high] = place;
            const float logit = logits[low];
            logits[low] = logits[high];
            logits[high] = logit;
        }
    };
    unsigned pairs = 1;
    while (2 * pairs < count) {
        pairs *= 2;
    }
    // Runs of twice `half` become sorted: their second half is mirrored onto the first, then both are merged.
    for (unsigned half = 1; half < count; half *= 2) {
        __syncwarp();
        for (unsigned t = lane; t < pairs; t += WARP) {
            const unsigned at = t % half, start = t - at;
            put_in_order(2 * start + at, 2 * start + 2 * half - 1 - at);
        }
        for (unsigned step = half / 2; step > 0; step /= 2) {
            __syncwarp();
            for (unsigned t = lane; t < pairs; t += WARP) {
                const unsigned low = 2 * t - t % step;
                put_in_order(low, low + step);
            }
        }
    }
}

// z of every cell. The sum is formed like z+ of the row, so that an item that equals the positive ties with it.
template <typename T>
__device__ __forceinline__ void row_negative_logits(const RowLogitsArguments& a) {
    const Gathered& g = a.gathered;
    const int lane = threadIdx.x % WARP;
    const i64 cell = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (cell >= static_cast<i64>(g.rows) * g.per_row) {
        return;
    }
    const i64 row = row_of(g, cell);
    const i64 place = place_of(g, cell);
    float logit = -infinity();
    if (place >= g.columns.count()) {
        logit = not_a_number();
    } else if (place >= 0 && g.bias[place] != -infinity()
               && !is_hit(a.ids, a.positive_ids, place, row + a.offset)) {
        const int dim = g.columns.dim;
        const T* user = static_cast<const T*>(g.users) + row * dim;
        const T* item = g.columns.column<T>(place);
        const float score = warp_score(user, norm_of(g.row_norms, row), item, norm_of(g.norms, place), dim, lane);
        logit = fmaf(score, g.scalars->inverse_temperature, g.bias[place]);
    }
    if (lane == 0) {
        g.logits[cell] = logit;
    }
}

// How many dimensions a lane sums at once, and over how many cells it reads ahead.
constexpr int DIMS = 4;
constexpr int AHEAD = 4;

// One row's partial result (m, l, O), its moment and its counts, by a warp.
template <typename T>
__device__ __forceinline__ void row_negative_partial(const RowPartialArguments& a) {
    const Gathered& g = a.gathered;
    const int lane = threadIdx.x % WARP;
    const i64 row = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (row >= g.rows) {
        return;
    }
    const bool sigmoid = a.link == SIGMOID_LINK;
    const i64 first_cell = row * g.per_row;
    const i64 count = g.columns.count();
    const i64 at = a.first + row;

    float maximum = -infinity();
    unsigned counts[COUNTS] = {};
#pragma unroll 1
    for (int k = lane; k < g.per_row; k += WARP) {
        const float z = g.logits[first_cell + k];
        maximum = fmaxf(maximum, z);
        if (a.counts != nullptr) {
            bool excluded = false;
            if (a.excluded == nullptr) {
                const i64 place = place_of(g, first_cell + k);
                excluded = place >= 0 && place < count && g.bias[place] != -infinity()
                    && is_hit(a.ids, a.positive_ids, place, row + a.offset);
            }
            const unsigned tallies = tally(z, excluded, a.reference[row]);
#pragma unroll
            for (int c = 0; c < COUNTS; c++) {
                counts[c] += tallied(tallies, c);
            }
        }
    }
    maximum = warp_max(maximum);
    if (a.counts != nullptr) {
        if (a.excluded != nullptr && lane == 0) {
            counts[EXCLUDED] = a.excluded[row];
        }
#pragma unroll
        for (int c = 0; c < COUNTS; c++) {
            const unsigned total = warp_sum(counts[c]);
            if (lane == 0) {
                a.counts[at * COUNTS + c] = total;
            }
        }
    }

    // While nothing takes part, -inf - (-inf) must not be formed.
    const float reference = maximum == -infinity() ? 0.0f : maximum;
    auto weight_of = [&](float z) { return sigmoid ? sigmoid_cell(z).weight : exp_difference(z - reference); };
    float sum = 0.0f;
    float loss = 0.0f;
    float moment = 0.0f;
#pragma unroll 1
    for (int k = lane; k < g.per_row; k += WARP) {
        const float z = g.logits[first_cell + k];
        if (z == -infinity()) {
            continue;
        }
        const float weight = weight_of(z);
        sum += weight;
        if (sigmoid) {
            loss += sigmoid_cell(z).loss;
        }
        if (a.moment != nullptr) {
            const i64 place = place_of(g, first_cell + k);
            moment = fmaf(weight, place < count ? g.bias[place] : 0.0f, moment);
        }
    }
    sum = warp_sum(sum);
    loss = warp_sum(loss);
    moment = warp_sum(moment);
    if (lane == 0) {
        a.maximum[at] = sigmoid ? loss : maximum;
        a.sum[at] = sum;
        if (a.moment != nullptr) {
            a.moment[at] = moment;
        }
    }
    if (a.output == nullptr) {
        return;
    }

    const int dim = g.columns.dim;
    float* output = a.output + at * dim;
#pragma unroll 1
    for (int first = lane; first < dim + lane; first += WARP * DIMS) {
        float sums[DIMS] = {};
#pragma unroll 1
        for (int base = 0; base < g.per_row; base += WARP) {
            // Each lane looks after one cell; then all of them add up 32 cells.
            int place = -1;
            float2 norm = make_float2(1.0f, 0.0f);
            if (base + lane < g.per_row) {
                const float z = g.logits[first_cell + base + lane];
                const i64 at_place = place_of(g, first_cell + base + lane);
                if (z != -infinity()) {
                    place = static_cast<int>(at_place);
                    norm = norm_of(g.norms, at_place < count ? at_place : 0);
                    norm.y *= weight_of(z);
                }
            }
            const int cells = min(WARP, g.per_row - base);
#pragma unroll 1
            for (int c = 0; c < cells; c += AHEAD) {
                float values[AHEAD][DIMS];
                float2 factors[AHEAD];
#pragma unroll
                for (int s = 0; s < AHEAD; s++) {
                    const int at_place = __shfl_sync(FULL_WARP, place, c + s);
                    factors[s].x = __shfl_sync(FULL_WARP, norm.x, c + s);
                    factors[s].y = __shfl_sync(FULL_WARP, norm.y, c + s);
                    const bool there = at_place >= 0 && at_place < count;
                    const T* item = g.columns.column<T>(there ? at_place : 0);
#pragma unroll
                    for (int e = 0; e < DIMS; e++) {
                        const int d = first + e * WARP;
                        values[s][e] = at_place < 0 ? 0.0f : not_a_number();
                        if (there && d < dim) {
                            values[s][e] = widen(item[d]);
                        }
                    }
                }
#pragma unroll
                for (int s = 0; s < AHEAD; s++) {
#pragma unroll
                    for (int e = 0; e < DIMS; e++) {
                        sums[e] = fmaf(values[s][e] * factors[s].x, factors[s].y, sums[e]);
                    }
                }
            }
        }
#pragma unroll
        for (int e = 0; e < DIMS; e++) {
            if (first + e * WARP < dim) {
                output[first + e * WARP] = sums[e];
            }
        }
    }
}

// The weight of a cell backward.
__device__ __forceinline__ float
cell_weight(const Gathered& g, int link, i64 row, i64 cell, const float* reference, const float* coefficient) {
    return backward_weight(link, g.logits[cell], reference[row], coefficient[row]);
}

// The sum of the weights of the cells where a row names a column: none, one, or as many as it names it.
__device__ __forceinline__ float weight_in_row(const RowBackwardArguments& a, i64 row, i64 column) {
    const Gathered& g = a.gathered;
    if (a.coefficient[row] == 0.0f) {
        return 0.0f;
    }
    const int* places = g.places + row * g.per_row;
    int low = 0;
    int high = g.per_row;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (places[middle] < column) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    float weight = 0.0f;
#pragma unroll 1
    for (; low < g.per_row && places[low] == column; low++) {
        weight += cell_weight(g, a.link, row, row * g.per_row + low, a.reference, a.coefficient);
    }
    return weight;
}

// Dimensions that a lane of the backward sums at once: rows are searched anew for each 256.
constexpr int BACKWARD_DIMS = 8;

// tau dv and the mass of one column over one split of the rows, by a warp: lanes search 32 rows for the column, then all of
// them add up the users that named it, in the order of the rows.
template <typename T>
__device__ __forceinline__ void row_negative_backward(const RowBackwardArguments& a) {
    const Gathered& g = a.gathered;
    const int lane = threadIdx.x % WARP;
    const i64 column = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (column >= a.cut.owners) {
        return;
    }
    const int dim = g.columns.dim;
    const i64 first_row = static_cast<i64>(blockIdx.y) * a.rows_per_split;
    const i64 last = first_row + a.rows_per_split;
    const i64 end = last < g.rows ? last : g.rows;
    const i64 at = static_cast<i64>(blockIdx.y) * a.cut.owners + column;
    float mass = 0.0f;
#pragma unroll 1
    for (int first = lane; first < dim + lane; first += WARP * BACKWARD_DIMS) {
        float sums[BACKWARD_DIMS] = {};
        mass = 0.0f;
#pragma unroll 1
        for (i64 base = first_row; base < end; base += WARP) {
            const float weight = base + lane < end ? weight_in_row(a, base + lane, column) : 0.0f;
            mass += weight;
            unsigned named = __ballot_sync(FULL_WARP, weight != 0.0f); // a NaN is not 0
            while (named != 0) {
                const int c = __ffs(named) - 1;
                named &= named - 1;
                const float of_row = __shfl_sync(FULL_WARP, weight, c);
                const T* user = static_cast<const T*>(g.users) + (base + c) * dim;
                const float2 norm = norm_of(g.row_norms, base + c);
#pragma unroll
                for (int e = 0; e < BACKWARD_DIMS; e++) {
                    const int d = first + e * WARP;
                    if (d < dim) {
                        sums[e] = fmaf(of_row, unit(user[d], norm), sums[e]);
                    }
                }
            }
        }
#pragma unroll
        for (int e = 0; e < BACKWARD_DIMS; e++) {
            if (first + e * WARP < dim) {
                a.output[at * dim + first + e * WARP] = sums[e];
            }
        }
    }
    mass = warp_sum(mass);
    if (lane == 0 && a.masses != nullptr) {
        a.masses[at] = mass;
    }
}

// The gradients of a negative with an embedding of its own, whose one cell is its row's. A weight of 0 keeps both
// embeddings out, NaN or not.
template <typename T, typename G>
__device__ __forceinline__ void row_negative_gradients(const RowNegativeGradientsArguments& a) {
    const Gathered& g = a.gathered;
    const int lane = threadIdx.x % WARP;
    const i64 cell = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (cell >= static_cast<i64>(g.rows) * g.per_row) {
        return;
    }
    const i64 row = row_of(g, cell);
    const int dim = g.columns.dim;
    const float inverse_temperature = g.scalars->inverse_temperature;
    const float weight = cell_weight(g, a.link, row, cell, a.reference, a.coefficient);
    const bool zero = weight == 0.0f;
    if (a.d_log_q != nullptr && lane == 0) {
        const float scale = a.inside ? a.logq_scale * inverse_temperature : a.logq_scale;
        a.d_log_q[cell] = zero ? 0.0f : -scale * weight;
    }
    if (a.d_embeddings == nullptr) {
        return;
    }
    const T* user = static_cast<const T*>(g.users) + row * dim;
    const T* item = g.columns.column<T>(cell);
    const float2 user_norm = norm_of(g.row_norms, row);
    const float2 norm = norm_of(g.norms, cell);
    const bool normalized = g.norms != nullptr && !zero;
    auto difference = [&](int d) { return zero ? 0.0f : weight * unit(user[d], user_norm); };
    const float along = normalized ? gradient_along(item, norm, difference, dim, lane) : 0.0f;
    G* out = static_cast<G*>(a.d_embeddings) + cell * dim;
    write_gradient(item, norm, normalized, along, difference, inverse_temperature, dim, lane, out);
}

#define ROW_NEGATIVE_KERNELS(suffix, T)                                                                              \
    extern "C" __global__ void __launch_bounds__(BLOCK) row_negative_logits_##suffix(const RowLogitsArguments a) {   \
        row_negative_logits<T>(a);                                                                                   \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(BLOCK) row_negative_partial_##suffix(const RowPartialArguments a) { \
        row_negative_partial<T>(a);                                                                                  \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(BLOCK)                                                              \
        row_negative_backward_##suffix(const RowBackwardArguments a) {                                               \
        row_negative_backward<T>(a);                                                                                 \
    }                                                                                                                \
    ROW_NEGATIVE_GRADIENTS(suffix, T, f32, float)                                                                    \
    ROW_NEGATIVE_GRADIENTS(suffix, T, f16, f16)                                                                      \
    ROW_NEGATIVE_GRADIENTS(suffix, T, bf16, bf16)

#define ROW_NEGATIVE_GRADIENTS(suffix, T, to, G)                                                                     \
    extern "C" __global__ void __launch_bounds__(BLOCK)                                                              \
        row_negative_gradients_##suffix##_##to(const RowNegativeGradientsArguments a) {                              \
        row_negative_gradients<T, G>(a);                                                                             \
    }

ROW_NEGATIVE_KERNELS(f32, float)
ROW_NEGATIVE_KERNELS(f16, f16)
ROW_NEGATIVE_KERNELS(bf16, bf16)
