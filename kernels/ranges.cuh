// How a sweep is cut into partial results, and where each lies. src/cuda/ranges.rs is the same in Rust.
//
// The work of a sweep is a line of units: every owner tile, for each chunk of its output dimensions (a panel), meets
// every streamed tile in turn. The line is cut into contiguous ranges of equal length, one for each block that the
// device holds, so that few owners, many owners, and numbers that divide nothing all fill it alike. Where a range
// begins or ends inside a panel, the panel has several partial results, which are merged in their order.
//
// Walking along the line, each next (range, panel) that meet has a larger range, a larger panel, or both; so range + panel
// numbers the partials without gaps to speak of: there are fewer than ranges + panels.
#pragma once

#include "element.cuh"

// The partials of one owner: rows of the output buffer, `width` floats each.
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
    int chunks;         // of the output dimensions
    int width;          // output dimensions of a chunk
    int ranges;         // 0: splits instead, each [owners, width]
    int splits;
    int owners;

    __device__ __forceinline__ i64 units() const {
        return static_cast<i64>(owner_tiles) * chunks * streamed_tiles;
    }

    // The first unit of a range; of the range after the last, the end.
    __device__ __forceinline__ i64 begin(i64 range) const {
        return range * units() / ranges;
    }

    // The range that a unit belongs to: the last that begins at or before it.
    __device__ __forceinline__ i64 range_of(i64 unit) const {
        return ((unit + 1) * ranges - 1) / units();
    }

    __device__ __forceinline__ Parts parts(i64 owner, int chunk) const {
        if (ranges == 0) {
            return Parts{owner, owners, splits};
        }
        const i64 panel = owner / tile * chunks + chunk;
        const i64 first = range_of(panel * streamed_tiles);
        const i64 last = range_of((panel + 1) * streamed_tiles - 1);
        return Parts{(panel + first) * tile + owner % tile, tile, static_cast<int>(last - first) + 1};
    }

    // Calls `use(parts, at, d)` for a lane's dimensions d of an owner; `at` is the place in each of the partials.
    template <typename Use>
    __device__ __forceinline__ void each_dimension(i64 owner, int dim, int lane, Use use) const {
#pragma unroll 1
        for (int chunk = 0; chunk < chunks; chunk++) {
            const Parts of = parts(owner, chunk);
            const int first = chunk * width;
#pragma unroll 1
            for (int d = lane; d < min(width, dim - first); d += WARP) {
                use(of, d, first + d);
            }
        }
    }
};
static_assert(sizeof(Cut) == 32, "mirror of src/cuda/arguments.rs");
