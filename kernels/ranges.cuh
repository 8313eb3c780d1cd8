// How a sweep is cut into partial results, and where each lies. src/cuda/ranges.rs is the same in Rust.
//
// The work of a sweep is a line of units: every owner tile meets every streamed tile in turn. The line is cut into
// contiguous ranges of equal length, one for each block that the device holds, so that few owners, many owners, and
// numbers that divide nothing all fill it alike. Where a range ends inside an owner tile, the tile has several partial
// results, which are merged in their order.
//
// Walking along the line, the next pair (range, owner tile) that meets has a larger range, a larger tile, or both; so
// range + tile numbers the partials: there are fewer than ranges + owner tiles. Where the ranges are a multiple of the owner
// tiles, none meets two tiles, and the range alone is the number.
#pragma once

#include "element.cuh"

// The partials of one owner: rows of the output buffer, one float for each dimension.
struct Parts {
    i64 first;
    i64 stride;
    int count;

    __device__ __forceinline__ i64 row(int part) const {
        return first + part * stride;
    }
};

struct Cut {
    int tile;           // owners of a tile
    int owner_tiles;
    int streamed_tiles;
    int ranges;         // 0: splits instead, each [owners, dim]
    int splits;
    int owners;

    __device__ __forceinline__ i64 units() const {
        return static_cast<i64>(owner_tiles) * streamed_tiles;
    }

    // The first unit of a range; of the range after the last, the end.
    __device__ __forceinline__ i64 begin(i64 range) const {
        return range * units() / ranges;
    }

    // The range that a unit belongs to: the last that begins at or before it.
    __device__ __forceinline__ i64 range_of(i64 unit) const {
        return ((unit + 1) * ranges - 1) / units();
    }

    // The number of the partial where a range meets an owner tile.
    __device__ __forceinline__ i64 slot(i64 owner_tile, i64 range) const {
        return ranges % owner_tiles == 0 ? range : owner_tile + range;
    }

    // The partials of an owner whose embeddings are T's. Tensor cores, whose sweeps are cut into ranges, read no f32.
    template <typename T>
    __device__ __forceinline__ Parts parts_of(i64 owner) const {
        if constexpr (sizeof(T) == sizeof(float)) {
            __builtin_assume(ranges == 0);
        }
        return parts(owner);
    }

    __device__ __forceinline__ Parts parts(i64 owner) const {
        if (ranges == 0) {
            return Parts{owner, owners, splits};
        }
        const i64 owner_tile = owner / tile;
        const i64 first = range_of(owner_tile * streamed_tiles);
        const i64 last = range_of((owner_tile + 1) * streamed_tiles - 1);
        return Parts{slot(owner_tile, first) * tile + owner % tile, tile, static_cast<int>(last - first) + 1};
    }
};
static_assert(sizeof(Cut) == 24, "mirror of src/cuda/arguments.rs");
