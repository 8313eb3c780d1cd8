// Losses over a class table. The sampled classes are columns of the stream's two sweeps, in f32, with biases as one
// dimension more (1 on the inputs' side); here is what stands around the sweeps: gathering, the objective of several
// positives, and the gradients of the inputs and of each class that was named.
// target: compute_75
#include "arguments.cuh"
#include "objective.cuh"

constexpr int WARPS = 8; // rows or classes of a block, one warp each
constexpr int BLOCK = WARPS * WARP;

// The class numbers of a call: labels row by row, then the sampled ones.
struct TableState {
    u64 unique;  // different classes among them
    u64 unknown; // ids outside the table met so far
};
static_assert(sizeof(TableState) == 16, "mirror of src/cuda/arguments.rs");

struct TableArguments {
    const void* inputs;         // [B, dim]
    const void* weights;        // [classes, dim]
    const float* biases;        // [classes] or null
    const i64* labels;          // [B, num_true]
    const i64* sampled;         // [S]
    const float* label_log_q;   // [B, num_true], null: nothing is subtracted
    const float* sampled_log_q; // [S], null with it
    const float* row_weights;   // [B] or null
    TableState* state;
    float* rows;                // [B, width] inputs as the sweeps read them
    float* label_rows;          // [B, num_true, width] true classes
    float* sampled_rows;        // [S, width]
    i64* ids;                   // [B num_true + S]
    i64* hit_ids;               // [S + B] sampled classes, then each row's first label; null: hits stay
    float* bias;                // [S]
    const float* lse;           // [B]
    const float* maximum;       // [B] m_i
    const float* sum;           // [B] l_i
    const float* output;        // [B, width] O
    float* loss;                // [B] weighted
    float* a;                   // [B]
    float* pulls;               // [B, num_true] b_k
    float* coefficient;         // [B] g_i a_i / l_i
    const float* partials;      // [S, width] of the second sweep, cut into parts
    const Scalars* scalars;
    unsigned* places;           // [B num_true + S] which row of the sparse gradient; NOT_FIRST: an earlier name's
    void* d_inputs;             // [B, dim] gradient type
    i64* d_ids;                 // [B num_true + S]
    void* d_weights;            // [B num_true + S, dim] gradient type
    float* d_biases;            // [B num_true + S] or null
    u64 classes;
    int batch;
    int num_true;
    int sampled_count;
    int dim;
    int width;                  // dim, a place for the bias, padded to a multiple of 4
    int link;
    Cut cut;                    // of the second sweep
};
static_assert(sizeof(TableArguments) == 296, "mirror of src/cuda/arguments.rs");

constexpr unsigned NOT_FIRST = ~0u;

__device__ __forceinline__ i64 true_classes(const TableArguments& a) {
    return static_cast<i64>(a.batch) * a.num_true;
}

__device__ __forceinline__ i64 named(const TableArguments& a) {
    return true_classes(a) + a.sampled_count;
}

// g_i: what the reduction and the row's weight multiply its loss by.
__device__ __forceinline__ float coefficient_of(const TableArguments& a, i64 row) {
    return a.scalars->row_scale * (a.row_weights == nullptr ? 1.0f : a.row_weights[row]);
}

// One warp for each input, label and sampled class: its row in f32, its id, its bias. An id outside the table
// becomes a row of NaN, which the loss shows.
template <typename T>
__device__ __forceinline__ void table_gather(const TableArguments& a) {
    const int lane = threadIdx.x % WARP;
    const i64 index = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (index >= a.batch + named(a)) {
        return;
    }
    const i64 name = index - a.batch;
    const i64 column = name - true_classes(a);
    const T* source = static_cast<const T*>(a.inputs) + index * a.dim;
    float* target = a.rows + index * a.width;
    float last = 1.0f;
    bool known = true;
    if (name >= 0) {
        const i64 id = column < 0 ? a.labels[name] : a.sampled[column];
        known = static_cast<u64>(id) < a.classes; // a negative one becomes a large one
        source = static_cast<const T*>(a.weights) + (known ? id : 0) * a.dim;
        target = column < 0 ? a.label_rows + name * a.width : a.sampled_rows + column * a.width;
        last = a.biases == nullptr || !known ? 0.0f : a.biases[id];
        if (lane == 0) {
            a.ids[name] = id;
            if (!known) {
                atomicAdd(&a.state->unknown, 1ull);
            }
            if (column >= 0) {
                a.bias[column] = a.sampled_log_q == nullptr ? 0.0f : -a.sampled_log_q[column];
            }
            // The sweeps look further labels up themselves.
            if (a.hit_ids != nullptr && column >= 0) {
                a.hit_ids[column] = id;
            } else if (a.hit_ids != nullptr) {
                const int row = static_cast<int>(name) / a.num_true;
                if (row * a.num_true == name) {
                    a.hit_ids[a.sampled_count + row] = id;
                }
            }
        }
    }
#pragma unroll 1
    for (int d = lane; d < a.width; d += WARP) {
        float value = d < a.dim ? widen(source[d]) : 0.0f;
        if (d == a.dim && a.biases != nullptr) {
            value = last;
        }
        target[d] = known ? value : not_a_number();
    }
}

// softplus(z) - z label, and label - sigmoid(z) in place of z; without cancellation for a single positive.
__device__ __forceinline__ float sigmoid_term(float& z, float label) {
    const float e = expf(-fabsf(z));
    const bool above = z >= 0.0f;
    const float loss = fmaf(fabsf(z), above ? 1.0f - label : label, log1pf(e));
    const float rest = above ? e / (1.0f + e) : 1.0f / (1.0f + e);
    z = label == 1.0f ? rest : label - (above ? 1.0f / (1.0f + e) : e / (1.0f + e));
    return loss;
}

// The objective of several positives, as in src/table.rs: the row's loss, a, and b_k for each true class.
extern "C" __global__ void __launch_bounds__(BLOCK) table_objective(const TableArguments a) {
    const int lane = threadIdx.x % WARP;
    const i64 row = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (row >= a.batch) {
        return;
    }
    const float* input = a.rows + row * a.width;
    float* pulls = a.pulls + row * a.num_true;
    float largest = -infinity();
#pragma unroll 1
    for (int k = 0; k < a.num_true; k++) {
        const float* label = a.label_rows + (row * a.num_true + k) * a.width;
        float score = 0.0f;
#pragma unroll 1
        for (int d = lane; d < a.width; d += WARP) {
            score = fmaf(input[d], label[d], score);
        }
        const float z = warp_sum(score) - (a.label_log_q == nullptr ? 0.0f : a.label_log_q[row * a.num_true + k]);
        largest = fmaxf(largest, z);
        if (lane == 0) {
            pulls[k] = z;
        }
    }
    if (lane != 0) {
        return;
    }
    const float label = 1.0f / a.num_true;
    float loss = 0.0f;
    float mass = 1.0f;
    if (a.link == SIGMOID_LINK) {
        loss = a.lse[row]; // sum softplus(z)
#pragma unroll 1
        for (int k = 0; k < a.num_true; k++) {
            float z = pulls[k];
            loss += sigmoid_term(z, label);
            pulls[k] = z;
        }
    } else {
        float sum = 0.0f;
        float spread = 0.0f;
#pragma unroll 1
        for (int k = 0; k < a.num_true; k++) {
            sum += expf(pulls[k] - largest);
            spread += largest - pulls[k];
        }
        // LSE - L+ through m and l, whose difference loses nothing to the rounding of a large LSE.
        const RowTerm term = sampled_softmax_at((a.maximum[row] - largest) + (logf(a.sum[row]) - logf(sum)));
        loss = term.loss + (logf(sum) + spread * label);
        mass = term.negative;
#pragma unroll 1
        for (int k = 0; k < a.num_true; k++) {
            const float share = expf(pulls[k] - largest) / sum;
            // In this order a single positive has b = a to the last bit.
            pulls[k] = fmaf(mass, share, label - share);
        }
    }
    const float weight = a.row_weights == nullptr ? 1.0f : a.row_weights[row];
    a.loss[row] = weight == 0.0f ? 0.0f : weight * loss;
    a.a[row] = mass;
}

// dx_i = g_i (a_i O_i - sum_k b_k w_k), and the row's coefficient for the second sweep.
template <typename G>
__device__ __forceinline__ void table_row_gradients(const TableArguments& a) {
    const int lane = threadIdx.x % WARP;
    const i64 row = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (row >= a.batch) {
        return;
    }
    const float g = coefficient_of(a, row);
    const float push = g == 0.0f ? 0.0f : g * a.a[row];
    if (lane == 0) {
        a.coefficient[row] = push == 0.0f ? 0.0f : push / a.sum[row];
    }
    G* target = static_cast<G*>(a.d_inputs) + row * a.dim;
#pragma unroll 1
    for (int d = lane; d < a.dim; d += WARP) {
        float gradient = push == 0.0f ? 0.0f : push * a.output[row * a.width + d];
#pragma unroll 1
        for (int k = 0; k < a.num_true; k++) {
            const i64 at = row * a.num_true + k;
            const float pull = g == 0.0f ? 0.0f : g * a.pulls[at];
            gradient = pull == 0.0f ? gradient : fmaf(-pull, a.label_rows[at * a.width + d], gradient);
        }
        narrow(gradient, target[d]);
    }
}

// Whether a name is the first of its class. A look at every earlier one costs n^2 / 2 comparisons and no sort: little for
// thousands of names, too much for millions.
extern "C" __global__ void __launch_bounds__(BLOCK) table_first(const TableArguments a) {
    const int lane = threadIdx.x % WARP;
    const i64 name = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (name >= named(a)) {
        return;
    }
    const i64 id = a.ids[name];
    bool repeats = false;
    for (i64 base = 0; base < name && !repeats; base += WARP) {
        const i64 other = base + lane;
        repeats = __any_sync(FULL_WARP, other < name && a.ids[other < name ? other : 0] == id);
    }
    if (lane == 0) {
        a.places[name] = repeats ? NOT_FIRST : 0;
    }
}

// Numbers the first names in their order, by one block; -1 for the ids behind the last.
extern "C" __global__ void __launch_bounds__(BLOCK) table_places(const TableArguments a) {
    __shared__ unsigned warp_counts[WARPS];
    const int lane = threadIdx.x % WARP;
    const int warp = threadIdx.x / WARP;
    const i64 count = named(a);
    unsigned found = 0;
    for (i64 base = 0; base < count; base += BLOCK) {
        const i64 name = base + threadIdx.x;
        const bool is_first = name < count && a.places[name] != NOT_FIRST;
        const unsigned firsts = __ballot_sync(FULL_WARP, is_first);
        if (lane == 0) {
            warp_counts[warp] = __popc(firsts);
        }
        __syncthreads();
        unsigned place = found + __popc(firsts & ((1u << lane) - 1));
        for (int w = 0; w < WARPS; w++) {
            place += w < warp ? warp_counts[w] : 0;
            found += warp_counts[w];
        }
        if (is_first) {
            a.places[name] = place;
        }
        __syncthreads();
    }
    for (i64 k = found + threadIdx.x; k < count; k += BLOCK) {
        a.d_ids[k] = -1;
    }
    if (threadIdx.x == 0) {
        a.state->unique = found;
    }
}

// The gradient of a class: the sum over its names in their order, by the warp of the first one.
template <typename G>
__device__ __forceinline__ void table_class_gradients(const TableArguments& a) {
    constexpr int PIECES = 1024 / WARP; // of the largest width
    const int lane = threadIdx.x % WARP;
    const i64 name = static_cast<i64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (name >= named(a) || a.places[name] == NOT_FIRST) {
        return;
    }
    const i64 id = a.ids[name];
    float sums[PIECES];
#pragma unroll
    for (int piece = 0; piece < PIECES; piece++) {
        sums[piece] = 0.0f;
    }
    auto add = [&](const float* row, float scale) {
#pragma unroll
        for (int piece = 0; piece < PIECES; piece++) {
            const int d = piece * WARP + lane;
            if (d < a.width) {
                sums[piece] = fmaf(scale, row[d], sums[piece]);
            }
        }
    };
    for (i64 base = name / WARP * WARP; base < named(a); base += WARP) {
        const i64 other = base + lane;
        const bool within = other >= name && other < named(a);
        unsigned same = __ballot_sync(FULL_WARP, within && a.ids[within ? other : name] == id);
        while (same != 0) {
            const i64 at = base + __ffs(same) - 1;
            same &= same - 1;
            const i64 column = at - true_classes(a);
            if (column < 0) {
                const i64 row = at / a.num_true;
                const float g = coefficient_of(a, row);
                const float pull = g == 0.0f ? 0.0f : g * a.pulls[at];
                if (pull != 0.0f) {
                    add(a.rows + row * a.width, -pull);
                }
            } else {
                const Parts parts = a.cut.parts(column);
#pragma unroll 1
                for (int part = 0; part < parts.count; part++) {
                    add(a.partials + (parts.first + part * parts.stride) * a.width, 1.0f);
                }
            }
        }
    }
    const i64 place = a.places[name];
    if (lane == 0) {
        a.d_ids[place] = id;
    }
    G* target = static_cast<G*>(a.d_weights) + place * a.dim;
#pragma unroll
    for (int piece = 0; piece < PIECES; piece++) {
        const int d = piece * WARP + lane;
        if (d < a.dim) {
            narrow(sums[piece], target[d]);
        } else if (d == a.dim && a.d_biases != nullptr) {
            a.d_biases[place] = sums[piece];
        }
    }
}

#define TABLE_KERNELS(suffix, T)                                                                                     \
    extern "C" __global__ void __launch_bounds__(BLOCK) table_gather_##suffix(const TableArguments a) {              \
        table_gather<T>(a);                                                                                          \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(BLOCK) table_row_gradients_##suffix(const TableArguments a) {       \
        table_row_gradients<T>(a);                                                                                   \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(BLOCK) table_class_gradients_##suffix(const TableArguments a) {     \
        table_class_gradients<T>(a);                                                                                 \
    }

TABLE_KERNELS(f32, float)
TABLE_KERNELS(f16, f16)
TABLE_KERNELS(bf16, bf16)
