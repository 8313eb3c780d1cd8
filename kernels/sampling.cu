// Samplers of ids with the logs of their expected counts, and mixtures of several. Draws are numbered, and the number of
// the call lies in device memory: a replayed graph draws new ids, the same ones as the host would.
// target: compute_75
#include "philox.cuh"
#include "sampling.cuh"

constexpr int BLOCK = 256;
constexpr int WARPS = BLOCK / WARP;

// The id that two random numbers stand for, as in src/sampling/mod.rs.
__device__ __forceinline__ i64 drawn_id(const SampleArguments& a, Draw draw) {
    if (a.law == UNIFORM) {
        return __umul64hi(draw.first, a.range);
    }
    if (a.law == LOG_UNIFORM) {
        const double unit = __dmul_rn(__ull2double_rn(draw.first >> 11), 0x1.0p-53);
        const u64 value = static_cast<u64>(portable_exp(__dmul_rn(unit, a.log_range)));
        return (value < 1 ? 1 : (value > a.range ? a.range : value)) - 1;
    }
    const u64 column = __umul64hi(draw.first, a.range - a.reserved);
    return a.reserved + (draw.second < a.threshold[column] ? column : a.alias[column]);
}

// The probability of an id in one draw; NaN outside the range.
__device__ __forceinline__ double probability(const SampleArguments& a, i64 id) {
    if (static_cast<u64>(id) >= a.range) { // a negative one becomes a large one
        return __longlong_as_double(0x7ff8000000000000ll);
    }
    if (a.law == UNIFORM) {
        return 1.0 / __ull2double_rn(a.range);
    }
    if (a.law == LOG_UNIFORM) {
        return portable_ln_1p(1.0 / __dadd_rn(__ull2double_rn(id), 1.0)) / a.log_range;
    }
    return static_cast<u64>(id) < a.reserved ? 0.0 : a.probability[id - a.reserved];
}

// The log of the expected count of an id: n p, or without replacement 1 - (1 - p)^tries.
__device__ __forceinline__ float log_expected_count(const SampleArguments& a, i64 id, u64 tries) {
    const double p = probability(a, id);
    const double n = __ull2double_rn(tries);
    const double count = a.unique ? -portable_exp_m1(__dmul_rn(n, portable_ln_1p(-p))) : __dmul_rn(n, p);
    return __double2float_rn(portable_ln(count));
}

// With replacement: each thread makes its own draw.
extern "C" __global__ void __launch_bounds__(BLOCK) sample_ids(const SampleArguments a) {
    const u64 index = static_cast<u64>(blockIdx.x) * BLOCK + threadIdx.x;
    if (index >= a.count) {
        return;
    }
    const i64 id = drawn_id(a, philox(a.seed, a.state->call, index));
    a.ids[index] = id;
    a.log_q[index] = log_expected_count(a, id, a.count);
}

// Ends a call. A launch of its own: every block of sample_ids reads the old number.
extern "C" __global__ void sampler_advance(const SampleArguments a) {
    a.state->call += 1;
    a.state->tries = a.count;
}

// The slot of an id in the open hash table, entered if it is new.
__device__ __forceinline__ u64 slot_of(const SampleArguments& a, i64 id) {
    u64 slot = static_cast<u64>(id) * 0x9e3779b97f4a7c15ull >> 16;
    for (;; slot++) {
        slot &= a.slots - 1;
        u64* key = reinterpret_cast<u64*>(a.keys) + slot;
        const u64 found = atomicCAS(key, ~0ull, static_cast<u64>(id));
        if (found == ~0ull || found == static_cast<u64>(id)) {
            return slot;
        }
    }
}

// Without replacement, by one block: draws BLOCK at a time, keeps those that are the first of their id, and stops at the
// draw that completes the sample. Which slot an id gets depends on timing, which draw was first does not.
extern "C" __global__ void __launch_bounds__(BLOCK) sample_unique_ids(const SampleArguments a) {
    __shared__ unsigned warp_counts[WARPS];
    __shared__ u64 tries;
    for (u64 slot = threadIdx.x; slot < a.slots; slot += BLOCK) {
        a.keys[slot] = -1;
        a.first[slot] = ~0u;
    }
    if (threadIdx.x == 0) {
        tries = a.limit;
    }
    const u64 call = a.state->call;
    __syncthreads();

    const int lane = threadIdx.x % WARP;
    const int warp = threadIdx.x / WARP;
    u64 found = 0;
    for (u64 base = 0; found < a.count && base < a.limit; base += BLOCK) {
        const u64 index = base + threadIdx.x;
        const i64 id = drawn_id(a, philox(a.seed, call, index));
        const u64 slot = slot_of(a, id);
        atomicMin(&a.first[slot], static_cast<unsigned>(index));
        __syncthreads();
        const bool is_first = a.first[slot] == static_cast<unsigned>(index) && index < a.limit;
        const unsigned firsts = __ballot_sync(FULL_WARP, is_first);
        if (lane == 0) {
            warp_counts[warp] = __popc(firsts);
        }
        __syncthreads();
        u64 place = found + __popc(firsts & ((1u << lane) - 1));
        for (int w = 0; w < WARPS; w++) {
            place += w < warp ? warp_counts[w] : 0;
            found += warp_counts[w];
        }
        if (is_first && place < a.count) {
            a.ids[place] = id;
            if (place == a.count - 1) {
                tries = index + 1;
            }
        }
        __syncthreads();
    }
    // Short of ids with odds of 2^-64: the rest repeats the first, and its NaN shows in the loss.
    for (u64 k = threadIdx.x; k < a.count; k += BLOCK) {
        const bool drawn = k < found;
        const i64 id = a.ids[drawn ? k : 0];
        a.ids[k] = id;
        a.log_q[k] = drawn ? log_expected_count(a, id, tries) : not_a_number();
    }
    if (threadIdx.x == 0) {
        a.state->call = call + 1;
        a.state->tries = tries;
    }
}

// The log of the expected count of any ids in the last sample.
extern "C" __global__ void __launch_bounds__(BLOCK) sampler_log_q(const SampleArguments a) {
    const u64 index = static_cast<u64>(blockIdx.x) * BLOCK + threadIdx.x;
    if (index < a.count) {
        a.log_q[index] = log_expected_count(a, a.ids[index], a.state->tries);
    }
}

// log Q*(j) = log sum_k n_k q_k(j) - log sum_k n_k, as in src/sampling/mixed.rs.
extern "C" __global__ void __launch_bounds__(BLOCK) mixed_log_q(const MixedLogQArguments a) {
    const u64 index = static_cast<u64>(blockIdx.x) * BLOCK + threadIdx.x;
    if (index >= a.count) {
        return;
    }
    const double top = __longlong_as_double(0x7ff0000000000000ll);
    double largest = -top;
    bool is_nan = false;
#pragma unroll
    for (int k = 0; k < MAX_POOLS; k++) {
        if (k < a.pools && a.log_scale[k] != -top) {
            const double term = __dadd_rn(a.log_scale[k], a.log_q[k][index]);
            is_nan = is_nan || term != term;
            largest = term > largest ? term : largest;
        }
    }
    if (is_nan || largest == top || largest == -top) {
        a.mixed[index] = is_nan ? not_a_number() : __double2float_rn(largest);
        return;
    }
    double sum = 0.0;
#pragma unroll
    for (int k = 0; k < MAX_POOLS; k++) {
        if (k < a.pools && a.log_scale[k] != -top) {
            const double term = __dadd_rn(a.log_scale[k], a.log_q[k][index]);
            sum = __dadd_rn(sum, portable_exp(__dadd_rn(term, -largest)));
        }
    }
    a.mixed[index] = __double2float_rn(__dadd_rn(__dadd_rn(largest, portable_ln(sum)), -a.log_total));
}

// 1 with probability min(1, sqrt(t / f) + t / f), else 0, as in src/sampling/keep.rs.
extern "C" __global__ void __launch_bounds__(BLOCK) keep_positives(const KeepArguments a) {
    const u64 index = static_cast<u64>(blockIdx.x) * BLOCK + threadIdx.x;
    if (index >= a.count) {
        return;
    }
    const double ratio = portable_exp(__dadd_rn(a.log_threshold, -static_cast<double>(a.log_shares[index])));
    const double keep = __dadd_rn(__dsqrt_rn(ratio), ratio);
    const u64 random = philox(a.seed, a.state->call, index).first;
    const double unit = __dmul_rn(__ull2double_rn(random >> 11), 0x1.0p-53);
    a.weights[index] = keep != keep ? not_a_number() : (unit < keep ? 1.0f : 0.0f);
}

// Ends a call of keep_positives.
extern "C" __global__ void keep_advance(const KeepArguments a) {
    a.state->call += 1;
}
