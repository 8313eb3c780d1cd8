// The best of many logits: a number that orders them, a sort of such numbers by one warp, the lists of the best.
#pragma once

#include "element.cuh"

// The longest list: LossConfig::MAX_HARD_NEGATIVES. A warp holds it in so many registers a lane, key r * 32 + lane in
// the r-th.
constexpr int MOST_KEPT = 128;
constexpr int REGISTERS = MOST_KEPT / WARP;

// Logits as integers in the same order, above 0. NaN is above all of them, so that it stays visible; -0 is 0.
__device__ __forceinline__ unsigned rank_of(float z) {
    const unsigned bits = __float_as_uint(z + 0.0f);
    const unsigned flipped = bits ^ (static_cast<int>(bits) < 0 ? 0xffffffffu : 0x80000000u);
    return z != z ? 0xffffffffu : flipped;
}

// Back again. The rank of NaN gives one.
__device__ __forceinline__ float logit_of(unsigned rank) {
    return __uint_as_float(rank ^ (static_cast<int>(rank) < 0 ? 0x80000000u : 0xffffffffu));
}

// A logit and its column, below 2^31, as one number: the larger comes first, which of equal logits is that of the lower
// column. No two columns have the same key, so that what is chosen does not depend on any order. 0: nothing.
__device__ __forceinline__ u64 key_of(unsigned rank, unsigned column) {
    return static_cast<u64>(rank) << 32 | ~column;
}

__device__ __forceinline__ unsigned rank_in(u64 key) {
    return static_cast<unsigned>(key >> 32);
}

__device__ __forceinline__ unsigned column_in(u64 key) {
    return ~static_cast<unsigned>(key);
}

// Batcher's bitonic network over the warp's keys, largest first in the end. FIRST = 2 sorts; with FIRST the number
// of all keys they must rise and then fall, or the other way round, and are merged.
template <int FIRST, int COUNT>
__device__ __forceinline__ void sort_keys(u64 (&keys)[COUNT], int lane) {
#pragma unroll
    for (int size = FIRST; size <= COUNT * WARP; size *= 2) {
#pragma unroll
        for (int stride = size / 2; stride > 0; stride /= 2) {
#pragma unroll
            for (int r = 0; r < COUNT; r++) {
                const int at = r * WARP + lane;
                if (stride < WARP) {
                    const u64 other = __shfl_xor_sync(FULL_WARP, keys[r], stride);
                    const bool larger = ((at & stride) == 0) == ((at & size) == 0);
                    keys[r] = (other > keys[r]) == larger ? other : keys[r];
                } else if ((r * WARP & stride) == 0) {
                    u64& upper = keys[r + stride / WARP];
                    const u64 largest = keys[r] > upper ? keys[r] : upper;
                    const u64 smallest = keys[r] > upper ? upper : keys[r];
                    const bool falling = (r * WARP & size) == 0;
                    keys[r] = falling ? largest : smallest;
                    upper = falling ? smallest : largest;
                }
            }
        }
    }
}

// A list of the best, largest first, and as many keys in the opposite order: the best of both, largest first.
template <int COUNT>
__device__ __forceinline__ void
merge_keys(u64 (&best)[COUNT], const u64 (&reversed)[COUNT], int lane) {
#pragma unroll
    for (int r = 0; r < COUNT; r++) {
        best[r] = best[r] > reversed[r] ? best[r] : reversed[r];
    }
    sort_keys<COUNT * WARP>(best, lane);
}
