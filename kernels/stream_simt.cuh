// The row-owner stream on plain FFMA: any GPU from compute_75 on, f32 and 16-bit storage, every feature.
//
// A block owns 64 embeddings and streams the others past them in tiles of 64. Each tile: the scores, their
// weights, and the weighted sum of the streamed embeddings into registers. Three uses of one body:
//
//   LOSS      owns users, streams columns: running maximum m and sum l of exp(z - m)
//   FORWARD   the same, and O = sum exp(z - m) v
//   BACKWARD  owns gradient columns, streams users with their saved m and l: sum g_i a_i / l_i exp(z - m_i) u_i
//
// Grid: x owner tiles, y splits of the streamed range, z chunks of OUT output dimensions. Each split writes its
// own partial; nothing is shared between blocks, so there are no atomics and the result does not depend on order.
#pragma once

#include "simt_cells.cuh"

enum StreamMode { LOSS, FORWARD, BACKWARD };

// scores[i][x] = <owned ty*4+i, streamed tx*4+x>. The sum runs over the dimensions in order, so both sweeps get
// the same bits. Starts with a read of `side`s that a barrier has published.
template <typename T>
__device__ __forceinline__ void
tile_scores(float (&scores)[4][4], TileShared<T>& shared, int tx, int ty, int dim, bool aligned) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int x = 0; x < 4; x++) {
            scores[i][x] = 0.0f;
        }
    }
    for (int first = 0; first < dim; first += DEPTH) {
        if (first > 0) {
            __syncthreads();
        }
        load_transposed(shared.chunk.owned, shared.owned, first, dim, aligned);
        load_transposed(shared.chunk.streamed, shared.streamed, first, dim, aligned);
        __syncthreads();
        const int depth = min(DEPTH, dim - first);
        for (int base = 0; base < depth; base += 4) { // beyond `depth` the chunks hold zeros
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const int at = (base + k) * PITCH;
                const float4 o = *reinterpret_cast<const float4*>(shared.chunk.owned + at + ty * 4);
                const float4 s = *reinterpret_cast<const float4*>(shared.chunk.streamed + at + tx * 4);
                const float owned[4] = {o.x, o.y, o.z, o.w};
                const float streamed[4] = {s.x, s.y, s.z, s.w};
#pragma unroll
                for (int i = 0; i < 4; i++) {
#pragma unroll
                    for (int x = 0; x < 4; x++) {
                        scores[i][x] = fmaf(owned[i], streamed[x], scores[i][x]);
                    }
                }
            }
        }
    }
}

// output[p][i][e] += sum over streamed s of weights[s][ty*4+i] * embedding[s][first + p*64 + tx*4+e].
template <typename T, int PIECES>
__device__ __forceinline__ void tile_output(
    float (&output)[PIECES][4][4], const float (&scores)[4][4], StreamShared<T>& shared, int tx, int ty,
    int first, int dim, bool aligned) {
#pragma unroll
    for (int x = 0; x < 4; x++) {
        *reinterpret_cast<float4*>(shared.weights + (tx * 4 + x) * PITCH + ty * 4) =
            make_float4(scores[0][x], scores[1][x], scores[2][x], scores[3][x]);
    }
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        if (first + p * PIECE >= dim) {
            continue;
        }
        __syncthreads(); // the weights are written; the chunks, or the last piece, are read
        load_rows(shared.piece, shared.streamed, first + p * PIECE, dim, aligned);
        __syncthreads();
#pragma unroll 4
        for (int s = 0; s < TILE; s++) {
            const float4 w = *reinterpret_cast<const float4*>(shared.weights + s * PITCH + ty * 4);
            const float4 v = *reinterpret_cast<const float4*>(shared.piece + s * PIECE + tx * 4);
            const float weight[4] = {w.x, w.y, w.z, w.w};
            const float value[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    output[p][i][e] = fmaf(weight[i], value[e], output[p][i][e]);
                }
            }
        }
    }
}

template <typename T, StreamMode MODE, int OUT>
__device__ __forceinline__ void stream(const StreamArguments& a) {
    constexpr bool BACKWARD_MODE = MODE == BACKWARD;
    constexpr int PIECES = OUT / PIECE;
    __shared__ StreamShared<T> shared;
    __builtin_assume(threadIdx.x < THREADS); // loading loops then have a known number of rounds

    const int tx = threadIdx.x % 16;
    const int ty = threadIdx.x / 16;
    const int slot = threadIdx.x;
    const int dim = a.columns.dim;
    const bool aligned = a.aligned != 0;
    const int first_dim = blockIdx.z * OUT;
    const i64 first_owner = static_cast<i64>(blockIdx.x) * TILE;
    const float inverse_temperature = *a.inverse_temperature;
    const i64 streamed_count = BACKWARD_MODE ? a.rows : a.columns.count();
    const i64 first_streamed = static_cast<i64>(blockIdx.y) * a.tiles_per_split * TILE;
    const i64 last = first_streamed + static_cast<i64>(a.tiles_per_split) * TILE;
    const i64 end_streamed = last < streamed_count ? last : streamed_count;

    if (slot < TILE) {
        if (BACKWARD_MODE) {
            fill_column<T>(shared.owned, slot, first_owner + slot, a.owned, a);
        } else {
            fill_row<T, false>(shared.owned, slot, first_owner + slot, a);
        }
    }

    float* moment = nullptr;
    if (!BACKWARD_MODE && tx == 0) {
        moment = a.moment == nullptr ? nullptr : shared.moment + ty * 4;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            shared.moment[ty * 4 + i] = 0.0f;
#pragma unroll
            for (int c = 0; c < COUNTS; c++) {
                shared.counts[c][ty * 4 + i] = 0;
            }
        }
    }

    float maximum[4], sum[4], output[PIECES][4][4]; // the compiler drops what a mode does not use
#pragma unroll
    for (int i = 0; i < 4; i++) {
        maximum[i] = a.link == SIGMOID_LINK ? 0.0f : -infinity();
        sum[i] = 0.0f;
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                output[p][i][e] = 0.0f;
            }
        }
    }

    for (i64 first = first_streamed; first < end_streamed; first += TILE) {
        if constexpr (MODE == LOSS) {
            __syncthreads(); // everyone is done with the last tile; with an output, tile_output has seen to that
        }
        bool present = false;
        if (slot < TILE) {
            present = BACKWARD_MODE ? fill_row<T, true>(shared.streamed, slot, first + slot, a)
                                    : fill_column<T>(shared.streamed, slot, first + slot, end_streamed, a);
        }
        if (!__syncthreads_or(present)) {
            continue;
        }
        float scores[4][4];
        tile_scores(scores, shared, tx, ty, dim, aligned);
        const i64 first_row = BACKWARD_MODE ? first : first_owner;
        const i64 first_column = BACKWARD_MODE ? first_owner : first;
        const int diagonal = diagonal_of(first_row, first_column, a.offset);
        const Skipped skipped = tile_skipped<T, BACKWARD_MODE>(shared, tx, ty, diagonal, first_row, a);
        if constexpr (BACKWARD_MODE) {
            if (a.row_bias != nullptr) {
                symmetric_weights(
                    scores, sum, shared, tx, ty, skipped.all, inverse_temperature, a.sum != nullptr);
            } else {
                tile_logits<T, true>(scores, shared, tx, ty, skipped.all, inverse_temperature);
                backward_weights(scores, shared, tx, a.link);
                if (a.sum != nullptr) {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        sum[i] += row_sum((scores[i][0] + scores[i][1]) + (scores[i][2] + scores[i][3]));
                    }
                }
            }
        } else {
            tile_logits<T, false>(scores, shared, tx, ty, skipped.all, inverse_temperature);
            if (a.counts != nullptr) {
                tile_counts(scores, shared, tx, ty, skipped.excluded);
            }
            if (a.link == SIGMOID_LINK) {
                sigmoid_link(scores, maximum, sum);
            } else {
                online_softmax(scores, maximum, sum, output, moment);
            }
            if (a.moment != nullptr) {
                tile_moment(scores, shared, tx, ty);
            }
        }
        if constexpr (MODE != LOSS) {
            tile_output(output, scores, shared, tx, ty, first_dim, dim, aligned);
        }
    }

    const int left = dim - first_dim - tx * 4;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const i64 owner = first_owner + ty * 4 + i;
        if (owner >= a.owned) {
            continue;
        }
        const i64 at = static_cast<i64>(blockIdx.y) * a.owned + owner;
        if (blockIdx.z == 0 && tx == 0) {
            if (BACKWARD_MODE) {
                if (a.sum != nullptr) {
                    a.sum[at] = sum[i];
                }
            } else {
                a.maximum[at] = maximum[i];
                a.sum[at] = sum[i];
                if (a.moment != nullptr) {
                    a.moment[at] = shared.moment[ty * 4 + i];
                }
                if (a.counts != nullptr) {
#pragma unroll
                    for (int c = 0; c < COUNTS; c++) {
                        a.counts[at * COUNTS + c] = shared.counts[c][ty * 4 + i];
                    }
                }
            }
        }
        if constexpr (MODE != LOSS) {
            float* out = a.output + at * dim + first_dim + tx * 4;
#pragma unroll
            for (int p = 0; p < PIECES; p++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    if (p * PIECE + e < left) {
                        out[p * PIECE + e] = output[p][i][e];
                    }
                }
            }
        }
    }
}

#define STREAM_KERNEL(name, T, MODE, OUT)                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) name(const StreamArguments arguments) {                    \
        stream<T, MODE, OUT>(arguments);                                                                             \
    }

#define STREAM_KERNELS(suffix, T)                                                                                    \
    STREAM_KERNEL(stream_loss_##suffix, T, LOSS, 64)                                                                 \
    STREAM_KERNEL(stream_forward_64_##suffix, T, FORWARD, 64)                                                        \
    STREAM_KERNEL(stream_forward_128_##suffix, T, FORWARD, 128)                                                      \
    STREAM_KERNEL(stream_forward_256_##suffix, T, FORWARD, 256)                                                      \
    STREAM_KERNEL(stream_backward_64_##suffix, T, BACKWARD, 64)                                                      \
    STREAM_KERNEL(stream_backward_128_##suffix, T, BACKWARD, 128)                                                    \
    STREAM_KERNEL(stream_backward_256_##suffix, T, BACKWARD, 256)
