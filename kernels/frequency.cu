// How often ids appear in batches: the streaming estimator and exact counts. Two launches a step each: ids are counted,
// then read. Steps live in device memory, so that a captured graph can be replayed.
// target: compute_75
#include "sampling.cuh"

constexpr int BLOCK = 256;

// The finaliser of splitmix64, as in src/frequency/mod.rs.
__device__ __forceinline__ u64 mix(u64 value) {
    u64 z = value + 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// An id of a direct table that has no bucket.
__device__ __forceinline__ bool is_unknown(i64 id, u64 size) {
    return static_cast<u64>(id) >= size; // a negative one becomes a large one
}

// The cell of an id in table k.
__device__ __forceinline__ u64 cell(const FrequencyArguments& a, int k, i64 id) {
    if (a.direct) {
        return id;
    }
    const u64 hash = mix(static_cast<u64>(id) ^ mix(a.seed + k));
    return k * a.buckets + __umul64hi(hash, a.buckets);
}

// B[h] <- kept B[h] + learning_rate (t - A[h]); A[h] <- t, once for each bucket of the batch: whichever thread exchanges
// the last step first moves B, and the others see that it is done. All would write the same.
extern "C" __global__ void __launch_bounds__(BLOCK) frequency_update(const FrequencyArguments a) {
    const u64 index = static_cast<u64>(blockIdx.x) * BLOCK + threadIdx.x;
    const int k = blockIdx.y;
    if (index >= a.count) {
        return;
    }
    const i64 id = a.ids[index];
    if (a.direct && is_unknown(id, a.buckets)) {
        atomicAdd(&a.state->unknown, 1ull);
        return;
    }
    const u64 at = cell(a, k, id);
    const u64 step = a.state->step + 1;
    const u64 last = atomicExch(&a.last_step[at], step);
    if (last != step) {
        a.interval[at] = fmaf(a.learning_rate, __ull2float_rn(step - last), __fmul_rn(a.kept, a.interval[at]));
    }
}

// log q = -log clip(max_k B_k[h_k(id)]); NaN for an id without a bucket. If asked, ends the step: nobody reads the
// counter here.
extern "C" __global__ void __launch_bounds__(BLOCK) frequency_read(const FrequencyArguments a) {
    const u64 index = static_cast<u64>(blockIdx.x) * BLOCK + threadIdx.x;
    if (a.advance && index == 0) {
        a.state->step += 1;
    }
    if (index >= a.count || a.log_q == nullptr) {
        return;
    }
    const i64 id = a.ids[index];
    if (a.direct && is_unknown(id, a.buckets)) {
        a.log_q[index] = not_a_number();
        return;
    }
    float interval = 0.0f;
#pragma unroll 1
    for (int k = 0; k < a.hashes; k++) {
        interval = fmaxf(interval, a.interval[cell(a, k, id)]);
    }
    interval = fminf(fmaxf(interval, a.low), a.high);
    a.log_q[index] = __double2float_rn(-portable_ln(interval));
}

// Exact counts. Sums of integers do not depend on their order.
extern "C" __global__ void __launch_bounds__(BLOCK) counter_update(const CounterArguments a) {
    const u64 index = static_cast<u64>(blockIdx.x) * BLOCK + threadIdx.x;
    if (index >= a.count) {
        return;
    }
    if (index == 0) {
        atomicAdd(&a.state->total, a.count);
    }
    const i64 id = a.ids[index];
    if (is_unknown(id, a.size)) {
        atomicAdd(&a.state->unknown, 1ull);
        atomicAdd(&a.state->total, ~0ull); // it was no count: minus 1
        return;
    }
    atomicAdd(&a.counts[id], 1ull);
}

// log (draws f / total); an id that was never counted reads as if counted once.
extern "C" __global__ void __launch_bounds__(BLOCK) counter_read(const CounterArguments a) {
    const u64 index = static_cast<u64>(blockIdx.x) * BLOCK + threadIdx.x;
    if (index >= a.count) {
        return;
    }
    const i64 id = a.ids[index];
    if (is_unknown(id, a.size)) {
        a.log_q[index] = not_a_number();
        return;
    }
    const u64 count = a.counts[id];
    const u64 total = a.state->total;
    const double share = __ull2double_rn(count == 0 ? 1 : count) / __ull2double_rn(total == 0 ? 1 : total);
    a.log_q[index] = __double2float_rn(portable_ln(__dmul_rn(a.draws, share)));
}
