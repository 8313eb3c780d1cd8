// What the tensor-core streams of narrow and of wide embeddings have in common beside their cells.
#pragma once

#include "mma_labels.cuh"

// As StreamMode of stream_simt.cuh: forward without an output, forward, backward.
enum MmaMode { MMA_LOSS, MMA_FORWARD, MMA_BACKWARD };

// The label of streamed embedding `index`; beyond the end it is absent.
template <typename T, bool BACKWARD>
__device__ __forceinline__ Label streamed_label(const MmaArguments& a, i64 index, i64 limit) {
    if constexpr (BACKWARD) {
        return index < limit ? weighted_row_label<T>(a, index) : weighted_row_label<T>(a, a.rows);
    } else {
        return streamed_column_label<T>(a, index, limit);
    }
}

// Walks this block's range: `stay(owner_tile, first, count, slot)` for each owner tile that it meets, with the streamed tiles
// of it that are in the range, and the partial that the result goes into.
template <typename Stay>
__device__ __forceinline__ void each_stay(const Cut& cut, Stay stay) {
    const i64 range = blockIdx.x;
    const i64 end = cut.begin(range + 1);
    i64 unit = cut.begin(range);
#pragma unroll 1
    while (unit < end) {
        const i64 owner_tile = unit / cut.streamed_tiles;
        const i64 first = unit - owner_tile * cut.streamed_tiles;
        const i64 left = cut.streamed_tiles - first;
        const int count = static_cast<int>(left < end - unit ? left : end - unit);
        stay(owner_tile, first, count, cut.slot(owner_tile, range));
        unit += count;
    }
}
