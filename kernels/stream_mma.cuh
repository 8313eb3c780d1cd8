// The row-owner stream on tensor cores: f16 and bf16, D up to 256 by multiples of 16, compute capability 8.0 and later.
//
// What it computes is what stream_simt.cuh computes. Each of 4 warps owns 16 ROWS embeddings and has their outputs, up to
// DIM dimensions, in registers. One copy of a streamed tile in shared memory serves both products: the scores read its rows
// as columns, the output reads them transposed, and the weights between the two stay in registers.
//
// A block takes a contiguous range of units (ranges.cuh). The copies of the next tiles, and the labels of the tile
// after them, are on their way while a tile is computed; there is one barrier a tile.
#pragma once

#include "mma_cells.cuh"
#include "mma_copy.cuh"
#include "mma_mode.cuh"

constexpr int MMA_THREADS = 128; // 4 warps

// ROWS of 16 owners a warp, SPAN streamed embeddings a tile, STAGES tiles in shared memory. STEP streamed embeddings are
// computed at once: the same number everywhere, so that the loss alone has the bits of a step.
template <int D, int R, int S, int N>
struct Shape {
    static constexpr int DIM = D;
    static constexpr int ROWS = R;
    static constexpr int OWNERS = 16 * R * (MMA_THREADS / WARP);
    static constexpr int SPAN = S;
    static constexpr int STAGES = N;
    static constexpr int PITCH = 2 * D;
    static constexpr int STEP = 32;
    static constexpr int COLUMNS = STEP / 8;
};

// More owners a warp read each streamed fragment for more products; more dimensions leave fewer registers for them.
typedef Shape<64, 2, 64, 2> Shape64;
typedef Shape<128, 2, 32, 3> Shape128;
typedef Shape<256, 1, 32, 2> Shape256;

template <typename S>
struct MmaShared {
    unsigned char owned[S::OWNERS * S::PITCH];
    unsigned char streamed[S::STAGES][S::SPAN * S::PITCH];
    Labels<S::OWNERS> owners;
    Labels<S::SPAN> labels[S::STAGES + 1];
};
static_assert(sizeof(MmaShared<Shape64>) == 45728, "mirror of src/cuda/plan/sweep.rs");
static_assert(sizeof(MmaShared<Shape128>) == 67712, "mirror of src/cuda/plan/sweep.rs");
static_assert(sizeof(MmaShared<Shape256>) == 72016, "mirror of src/cuda/plan/sweep.rs");

// cells = owners x streamed embeddings from `row` and `column` on, over all dimensions in their order.
template <typename S, typename T>
__device__ __forceinline__ void
scores(
    Cells<S::ROWS, S::COLUMNS>& cells, unsigned owned, unsigned streamed, int row, int column, int steps, int lane,
    T type) {
#pragma unroll
    for (int r = 0; r < S::ROWS; r++) {
#pragma unroll
        for (int c = 0; c < S::COLUMNS; c++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                cells[r][c][e] = 0.0f;
            }
        }
    }
#pragma unroll 2
    for (int step = 0; step < steps; step++) {
        FragmentA a[S::ROWS];
#pragma unroll
        for (int r = 0; r < S::ROWS; r++) {
            load_a<S::PITCH>(a[r], owned, row + 16 * r, step, lane);
        }
#pragma unroll
        for (int c = 0; c < S::COLUMNS; c += 2) {
            FragmentB b[2];
            load_b<S::PITCH>(b, streamed, column + 8 * c, step, lane);
#pragma unroll
            for (int r = 0; r < S::ROWS; r++) {
                multiply(cells[r][c], a[r], b[0], type);
                multiply(cells[r][c + 1], a[r], b[1], type);
            }
        }
    }
}

template <typename S>
using Output = float[S::ROWS][S::DIM / 8][4];

// output += weights x streamed embeddings from `column` on. FULL: all DIM dimensions are there, which spares a branch for each 16.
template <typename S, bool FULL, typename T>
__device__ __forceinline__ void accumulate(
    Output<S>& output, const Cells<S::ROWS, S::COLUMNS>& weights, unsigned streamed, int column, int dim, int lane,
    T type) {
#pragma unroll
    for (int step = 0; step < S::STEP / 16; step++) {
        FragmentA a[S::ROWS];
#pragma unroll
        for (int r = 0; r < S::ROWS; r++) {
            a[r] = weights_fragment(weights[r], step, type);
        }
#pragma unroll
        for (int n = 0; n < S::DIM / 8; n += 2) {
            if (FULL || n * 8 < dim) {
                FragmentB b[2];
                load_b_transposed<S::PITCH>(b, streamed, column + 16 * step, n / 2, lane);
#pragma unroll
                for (int r = 0; r < S::ROWS; r++) {
                    multiply(output[r][n], a[r], b[0], type);
                    multiply(output[r][n + 1], a[r], b[1], type);
                }
            }
        }
    }
}

template <typename S>
__device__ __forceinline__ void scale_output(Output<S>& output, PerOwner<S::ROWS, FragmentPlace>& factor) {
#pragma unroll
    for (int r = 0; r < S::ROWS; r++) {
#pragma unroll
        for (int n = 0; n < S::DIM / 8; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                output[r][n][e] *= factor.of(r, e);
            }
        }
    }
}

// One owner tile's share of a range: `count` streamed tiles from `first` on, into partial `slot`.
template <typename T, MmaMode MODE, typename S>
__device__ __forceinline__ void
stream_tile(const MmaArguments& a, MmaShared<S>& shared, i64 owner_tile, i64 first, int count, i64 slot) {
    constexpr bool BACKWARD = MODE == MMA_BACKWARD;
    constexpr int SPAN = S::SPAN;
    constexpr int STAGES = S::STAGES;
    const int lane = threadIdx.x % WARP;
    const int warp_row = threadIdx.x / WARP * 16 * S::ROWS;
    const int dim = a.columns.dim;
    const i64 first_owner = owner_tile * S::OWNERS;
    const i64 limit = BACKWARD ? a.rows : a.columns.count();
    const float inverse_temperature = a.scalars->inverse_temperature;
    const unsigned owned = shared_address(shared.owned);
    auto ring = [&](int tile) { return shared_address(shared.streamed[tile % STAGES]); };
    auto labels = [&](int tile) -> Labels<SPAN>& { return shared.labels[tile % (STAGES + 1)]; };
    auto label_of = [&](int tile) {
        const i64 end = tile < count ? limit : 0; // beyond the share all is absent
        return streamed_label<T, BACKWARD>(a, (first + tile) * SPAN + threadIdx.x, end);
    };
    auto copy_tile = [&](int tile) {
        if (tile < count && any_present(labels(tile))) {
            copy_embeddings<S::PITCH>(ring(tile), labels(tile), 0, dim / 8, a.users);
        }
        commit_copies();
    };

    __syncthreads(); // everyone is done with the last owners
    if (threadIdx.x < S::OWNERS) {
        const i64 owner = first_owner + threadIdx.x;
        store_label(
            shared.owners, threadIdx.x, BACKWARD ? column_label<T>(a, owner, a.cut.owners) : row_label<T>(a, owner));
    }
    if (threadIdx.x < SPAN) {
#pragma unroll 1
        for (int tile = 0; tile < STAGES; tile++) {
            store_label(labels(tile), threadIdx.x, label_of(tile));
        }
    }
    __syncthreads();
    copy_embeddings<S::PITCH>(owned, shared.owners, 0, dim / 8, a.users);
#pragma unroll 1
    for (int tile = 0; tile < STAGES - 1; tile++) {
        copy_tile(tile); // the owners arrive with the first
    }

    Running<S::ROWS, FragmentPlace> running;
    running.reset();
    Output<S> output; // the compiler drops what a mode does not use
#pragma unroll
    for (int r = 0; r < S::ROWS; r++) {
#pragma unroll
        for (int n = 0; n < S::DIM / 8; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                output[r][n][e] = 0.0f;
            }
        }
    }

#pragma unroll 1
    for (int tile = 0; tile < count; tile++) {
        wait_for_copies<STAGES - 2>();
        __syncthreads(); // the tile and its labels are here, the tile before it is done with
        Label next;
        if (threadIdx.x < SPAN) {
            next = label_of(tile + STAGES);
        }
        copy_tile(tile + STAGES - 1);
        const Labels<SPAN>& other = labels(tile);
        const i64 begin = (first + tile) * SPAN;
        const i64 diagonal = BACKWARD ? first_owner - begin - a.offset : begin - first_owner - a.offset;
        const int columns = any_present(other) ? SPAN : 0;
#pragma unroll 1
        for (int column = 0; column < columns; column += S::STEP) {
            const FragmentPlace place = {warp_row + lane / 4, column + 2 * (lane % 4)};
            Cells<S::ROWS, S::COLUMNS> cells;
            scores<S>(cells, owned, ring(tile), warp_row, column, dim / 16, lane, T());
            masked_logits<BACKWARD>(cells, shared.owners, other, place, diagonal, a, inverse_temperature);
            if constexpr (BACKWARD) {
                weigh_rows(cells, other, place);
            }
            PerOwner<S::ROWS, FragmentPlace> rescale;
            const bool changed = online_softmax(cells, running, rescale, other, place, Shift<T>::EXPONENT);
            if constexpr (MODE != MMA_LOSS) {
                if (changed) {
                    scale_output<S>(output, rescale);
                }
                if (BACKWARD && any_negative(other)) {
                    apply_signs(cells, other, place);
                }
                if (dim == S::DIM) {
                    accumulate<S, true>(output, cells, ring(tile), column, dim, lane, T());
                } else {
                    accumulate<S, false>(output, cells, ring(tile), column, dim, lane, T());
                }
            }
        }
        if (threadIdx.x < SPAN) {
            store_label(labels(tile + STAGES), threadIdx.x, next);
        }
    }
    // Nothing to wait for: the groups still open are those of tiles that do not exist.

#pragma unroll
    for (int r = 0; r < S::ROWS; r++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int owner = warp_row + 16 * r + 8 * half + lane / 4;
            const float sum = BACKWARD ? 0.0f : sum_of_four_lanes(running.sum.of(r, 2 * half)) * Shift<T>::INVERSE;
            const float unscale = Shift<T>::INVERSE * (BACKWARD ? expf(running.maximum.of(r, 2 * half)) : 1.0f);
            if (first_owner + owner >= a.cut.owners) {
                continue;
            }
            const i64 at = slot * S::OWNERS + owner;
            if (!BACKWARD && lane % 4 == 0) {
                a.maximum[at] = running.maximum.of(r, 2 * half);
                a.sum[at] = sum;
            }
            if constexpr (MODE != MMA_LOSS) {
                float* out = a.output + at * dim + 2 * (lane % 4);
#pragma unroll
                for (int n = 0; n < S::DIM / 8; n++) {
                    if (n * 8 < dim) {
                        *reinterpret_cast<float2*>(out + n * 8) =
                            make_float2(output[r][n][2 * half] * unscale, output[r][n][2 * half + 1] * unscale);
                    }
                }
            }
        }
    }
}

template <typename T, MmaMode MODE, typename S>
__device__ __forceinline__ void stream_mma(const MmaArguments& a) {
    extern __shared__ __align__(128) unsigned char memory[];
    MmaShared<S>& shared = *reinterpret_cast<MmaShared<S>*>(memory);
    each_stay(a.cut, [&](i64 owner_tile, i64 first, int count, i64 slot) {
        stream_tile<T, MODE, S>(a, shared, owner_tile, first, count, slot);
    });
}

#define MMA_KERNEL(name, T, MODE, SHAPE)                                                                             \
    extern "C" __global__ void __launch_bounds__(MMA_THREADS, 2) name(const MmaArguments arguments) {                \
        stream_mma<T, MODE, SHAPE>(arguments);                                                                       \
    }

#define MMA_KERNELS(suffix, T)                                                                                       \
    MMA_KERNEL(stream_mma_loss_128_##suffix, T, MMA_LOSS, Shape128)                                                  \
    MMA_KERNEL(stream_mma_loss_256_##suffix, T, MMA_LOSS, Shape256)                                                  \
    MMA_KERNEL(stream_mma_forward_64_##suffix, T, MMA_FORWARD, Shape64)                                              \
    MMA_KERNEL(stream_mma_forward_128_##suffix, T, MMA_FORWARD, Shape128)                                            \
    MMA_KERNEL(stream_mma_forward_256_##suffix, T, MMA_FORWARD, Shape256)                                            \
    MMA_KERNEL(stream_mma_backward_64_##suffix, T, MMA_BACKWARD, Shape64)                                            \
    MMA_KERNEL(stream_mma_backward_128_##suffix, T, MMA_BACKWARD, Shape128)                                          \
    MMA_KERNEL(stream_mma_backward_256_##suffix, T, MMA_BACKWARD, Shape256)
