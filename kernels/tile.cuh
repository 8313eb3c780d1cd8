// A tile's 64 embeddings and what goes with them, and how they reach shared memory as f32.
#pragma once

#include "arguments.cuh"

constexpr int TILE = 64;     // owners and streamed embeddings of a tile
constexpr int THREADS = 256; // 16 x 16, each with a 4 x 4 corner of the tile
constexpr int DEPTH = 32;    // dimensions of the score product that are staged at once
constexpr int PITCH = TILE + 4; // keeps rows 16-byte aligned and off each other's banks
constexpr int PIECE = 64;    // output dimensions that are staged at once

// One side of a tile, rows or columns. An absent embedding has a null source and loads as zero, so that
// garbage or NaN in it cannot reach anything.
template <typename T>
struct Side {
    const T* source[TILE];
    i64 item[TILE]; // rows: the positive's id
    i64 user[TILE];
    float2 norm[TILE];
    float bias[TILE];        // columns; rows, if columns have a loss of their own
    float reference[TILE];   // rows, and columns with a loss of their own
    float coefficient[TILE]; // the same, backward
    int has_user[TILE];
};

// Dimension d of an embedding as the loss sees it; zero beyond the end and for an absent one.
template <typename T>
__device__ __forceinline__ float read_element(const Side<T>& side, int slot, int d, int dim) {
    const T* source = side.source[slot];
    return source == nullptr || d >= dim ? 0.0f : unit(read_only(source + d), side.norm[slot]);
}

// The same for WIDTH dimensions by one 128-bit load; rows start at a multiple of 16 bytes.
template <typename T>
__device__ __forceinline__ void
read_vector(const Side<T>& side, int slot, int d, int dim, float (&out)[Vector<T>::WIDTH]) {
    constexpr int WIDTH = Vector<T>::WIDTH;
    const T* source = side.source[slot];
    if (source == nullptr || d >= dim) {
#pragma unroll
        for (int e = 0; e < WIDTH; e++) {
            out[e] = 0.0f;
        }
        return;
    }
    read_aligned(source + d, out);
    const float2 norm = side.norm[slot];
#pragma unroll
    for (int e = 0; e < WIDTH; e++) {
        out[e] = out[e] * norm.x * norm.y;
    }
}

// chunk[k][slot]: dimensions first .. first + DEPTH, transposed for the score product. A warp takes 32 slots, so
// its stores hit 32 banks; the cache line of a row serves the next groups.
template <typename T>
__device__ __forceinline__ void
load_transposed(float* chunk, const Side<T>& side, int first, int dim, bool aligned) {
    constexpr int WIDTH = Vector<T>::WIDTH;
    if (aligned) {
        for (int n = threadIdx.x; n < TILE * (DEPTH / WIDTH); n += THREADS) {
            const int slot = n % TILE;
            const int k = n / TILE * WIDTH;
            float values[WIDTH];
            read_vector(side, slot, first + k, dim, values);
#pragma unroll
            for (int e = 0; e < WIDTH; e++) {
                chunk[(k + e) * PITCH + slot] = values[e];
            }
        }
    } else {
#pragma unroll 1
        for (int n = threadIdx.x; n < TILE * DEPTH; n += THREADS) {
            const int slot = n % TILE;
            const int k = n / TILE;
            chunk[k * PITCH + slot] = read_element(side, slot, first + k, dim);
        }
    }
}

// piece[slot][d]: dimensions first .. first + PIECE for the output product.
template <typename T>
__device__ __forceinline__ void load_rows(float* piece, const Side<T>& side, int first, int dim, bool aligned) {
    constexpr int WIDTH = Vector<T>::WIDTH;
    if (aligned) {
        for (int n = threadIdx.x; n < TILE * (PIECE / WIDTH); n += THREADS) {
            const int slot = n / (PIECE / WIDTH);
            const int d = n % (PIECE / WIDTH) * WIDTH;
            float values[WIDTH];
            read_vector(side, slot, first + d, dim, values);
#pragma unroll
            for (int e = 0; e < WIDTH; e += 4) {
                *reinterpret_cast<float4*>(piece + slot * PIECE + d + e) =
                    make_float4(values[e], values[e + 1], values[e + 2], values[e + 3]);
            }
        }
    } else {
#pragma unroll 1
        for (int n = threadIdx.x; n < TILE * PIECE; n += THREADS) {
            piece[n] = read_element(side, n / PIECE, first + n % PIECE, dim);
        }
    }
}

// One user row per thread below TILE. Returns whether the row takes part.
template <typename T, bool BACKWARD>
__device__ __forceinline__ bool fill_row(Side<T>& side, int slot, i64 row, const StreamArguments& a) {
    float coefficient = 0.0f;
    if (BACKWARD && row < a.rows) {
        coefficient = a.coefficient[row];
    }
    // A row of weight zero contributes exactly nothing, whatever it holds; but it may be a negative of columns.
    const bool present = row < a.rows && (!BACKWARD || coefficient != 0.0f || a.row_bias != nullptr);
    side.source[slot] = present ? static_cast<const T*>(a.users) + row * a.columns.dim : nullptr;
    side.norm[slot] = present ? norm_of(a.row_norms, row) : make_float2(0.0f, 0.0f);
    side.item[slot] = present && a.item_ids != nullptr ? a.item_ids[row + a.offset] : 0;
    side.user[slot] = present && a.user_ids != nullptr ? a.user_ids[row] : 0;
    side.has_user[slot] = present;
    if (BACKWARD || a.counts != nullptr) {
        side.reference[slot] = present ? a.reference[row] : 0.0f;
    }
    if (BACKWARD) {
        side.coefficient[slot] = coefficient;
        if (a.row_bias != nullptr) {
            side.bias[slot] = present ? a.row_bias[row] : -infinity();
        }
    }
    return present;
}

// One column per thread below TILE. Returns whether the column takes part: a bias of -inf says that it is
// absent (a bank slot that is empty, too old or warming up).
template <typename T>
__device__ __forceinline__ bool
fill_column(Side<T>& side, int slot, i64 column, i64 limit, const StreamArguments& a) {
    const float bias = column < limit ? a.bias[column] : -infinity();
    const bool present = bias != -infinity();
    const i64 owner = column - a.offset;
    const bool owned = column < a.columns.batch_count && owner >= 0 && owner < a.rows;
    side.source[slot] = present ? a.columns.column<T>(column) : nullptr;
    side.norm[slot] = present ? norm_of(a.column_norms, column) : make_float2(0.0f, 0.0f);
    side.item[slot] = present && a.item_ids != nullptr ? a.item_ids[column] : 0;
    side.user[slot] = owned && a.user_ids != nullptr ? a.user_ids[owner] : 0;
    side.has_user[slot] = owned;
    side.bias[slot] = bias;
    if (a.column_coefficient != nullptr) {
        side.reference[slot] = present ? a.column_reference[column] : 0.0f;
        side.coefficient[slot] = present ? a.column_coefficient[column] : 0.0f;
    }
    return present;
}
