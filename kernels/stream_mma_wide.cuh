// The row-owner stream on tensor cores for D above 256, up to 1024, where the output of a useful tile does not fit in one
// warp's registers: the dimensions are dealt out among the warps.
//
// A block owns 32 embeddings. Each of its 4 warps (8 above D = 512) has a slice of up to 128 dimensions of everything: of the
// owners, of the streamed tile of 16, and of the output, in registers. A warp's scores are sums over its slice; the warps
// exchange them through shared memory, four of them add the slices up in their order and turn 8 rows each into weights,
// and every warp multiplies all weights by its own slice. No product is made twice: 8 B N D flop a step at any D.
//
// A slice is read by its own warp only, so its copies need no barrier: once a step of 16 dimensions has been used for the last
// time, the next tile's goes in its place. Two barriers a tile: sums exchanged, weights written.
#pragma once

#include "mma_cells.cuh"
#include "mma_copy.cuh"
#include "mma_mode.cuh"

constexpr int WIDE_OWNERS = 32;
constexpr int WIDE_SPAN = 16;  // streamed embeddings of a tile
constexpr int WIDE_PITCH = 256; // bytes: 128 dimensions
constexpr int WIDE_STEPS = 8;   // of 16 dimensions in a slice
constexpr int WIDE_WARPS = 8;   // at most
constexpr int ADDERS = 4;       // warps that make weights

// A warp's part of the block's memory.
struct WideSlice {
    unsigned char owned[WIDE_OWNERS * WIDE_PITCH];
    unsigned char streamed[WIDE_SPAN * WIDE_PITCH];
    float scores[WIDE_OWNERS * WIDE_SPAN];
};
static_assert(sizeof(WideSlice) == 14336, "mirror of src/cuda/plan/sweep.rs");

// The rest of it. Labels of half a warp of streamed embeddings; the other half is absent.
struct WideShared {
    unsigned weights[WIDE_OWNERS * WIDE_SPAN / 2];
    float rescale[WIDE_OWNERS];
    Labels<WIDE_OWNERS> owners;
    Labels<WARP> labels[4];
};
static_assert(sizeof(WideShared) == 7632, "mirror of src/cuda/plan/sweep.rs");

// Rows of 16 floats or 16-bit weights, their 16-byte pieces permuted against bank conflicts.
__device__ __forceinline__ int score_at(int row, int column) {
    return row * WIDE_SPAN + ((column / 4 ^ row / 2 % 4) * 4) + column % 4;
}

__device__ __forceinline__ int weight_word_at(int row, int column) {
    return row * (WIDE_SPAN / 2) + ((column / 8 ^ row / 4 % 2) * 4) + column % 8 / 2;
}

// Starts copying dimensions 16 step and up of a slice, ROWS embeddings: two pieces each.
template <int ROWS>
__device__ __forceinline__ void
copy_step(unsigned to, const Labels<WARP>& labels, int first_dim, int step, int lane, const void* somewhere) {
#pragma unroll
    for (int row = lane / 2; row < ROWS; row += WARP / 2) {
        const auto* source = static_cast<const unsigned char*>(labels.source[row]);
        const int piece = 2 * step + lane % 2;
        const auto* from = source == nullptr ? nullptr : source + 2 * first_dim + 16 * piece;
        copy_piece(piece_address<WIDE_PITCH>(to, row, piece), from, somewhere);
    }
}

// Waits for the first `step` + 1 of the last WIDE_STEPS groups of copies.
__device__ __forceinline__ void wait_for_step(int step) {
    switch (step) {
    case 0: wait_for_copies<7>(); break;
    case 1: wait_for_copies<6>(); break;
    case 2: wait_for_copies<5>(); break;
    case 3: wait_for_copies<4>(); break;
    case 4: wait_for_copies<3>(); break;
    case 5: wait_for_copies<2>(); break;
    case 6: wait_for_copies<1>(); break;
    default: wait_for_copies<0>(); break;
    }
    __syncwarp(); // what other lanes copied
}

typedef float WideOutput[2][2 * WIDE_STEPS][4];

template <typename T, MmaMode MODE>
__device__ __forceinline__ void stream_wide_tile(
    const MmaArguments& a, WideShared& shared, WideSlice* slices, i64 owner_tile, i64 first, int count, i64 slot) {
    constexpr bool BACKWARD = MODE == MMA_BACKWARD;
    const int lane = threadIdx.x % WARP;
    const int warp = threadIdx.x / WARP;
    const int warps = blockDim.x / WARP;
    const int dim = a.columns.dim;
    const int most = (dim / 16 + warps - 1) / warps; // steps of a slice
    const int first_dim = warp * most * 16;
    const int steps = min(max(dim / 16 - warp * most, 0), most);
    const i64 first_owner = owner_tile * WIDE_OWNERS;
    const i64 limit = BACKWARD ? a.rows : a.columns.count();
    const float inverse_temperature = a.scalars->inverse_temperature;
    WideSlice& slice = slices[warp];
    const unsigned owned = shared_address(slice.owned);
    const unsigned streamed = shared_address(slice.streamed);
    auto labels = [&](int tile) -> Labels<WARP>& { return shared.labels[tile % 4]; };
    auto label_of = [&](int tile) { // beyond the share, and in the upper half warp, all is absent
        const bool there = tile < count && lane < WIDE_SPAN;
        return streamed_label<T, BACKWARD>(a, (first + tile) * WIDE_SPAN + lane, there ? limit : 0);
    };
    auto copy_next = [&](int tile, int step) {
        if (step < steps && tile < count && any_present(labels(tile))) {
            copy_step<WIDE_SPAN>(streamed, labels(tile), first_dim, step, lane, a.users);
        }
        commit_copies();
    };

    __syncthreads(); // everyone is done with the last owners
    if (warp == 0) {
        const i64 owner = first_owner + lane;
        store_label(shared.owners, lane, BACKWARD ? column_label<T>(a, owner, a.cut.owners) : row_label<T>(a, owner));
#pragma unroll 1
        for (int tile = 0; tile < 3; tile++) {
            store_label(labels(tile), lane, label_of(tile));
        }
    }
    __syncthreads();
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        copy_step<WIDE_OWNERS>(owned, shared.owners, first_dim, step, lane, a.users);
    }
#pragma unroll 1
    for (int step = 0; step < WIDE_STEPS; step++) {
        copy_next(0, step); // the owners arrive with the first step
    }

    const RowPlace place = {warp * (WIDE_OWNERS / ADDERS) + lane / 4, lane % 4 * 4};
    Running<1, RowPlace> running; // of the adders' rows
    running.reset();
    WideOutput output;
#pragma unroll
    for (int r = 0; r < 2; r++) {
#pragma unroll
        for (int n = 0; n < 2 * WIDE_STEPS; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                output[r][n][e] = 0.0f;
            }
        }
    }

#pragma unroll 1
    for (int tile = 0; tile < count; tile++) {
        Label next;
        if (warp == 0) {
            next = label_of(tile + 3);
        }
        const Labels<WARP>& other = labels(tile);
        const bool present = any_present(other);
        Cells<2, 2> sums = {};
#pragma unroll 1
        for (int step = 0; step < WIDE_STEPS; step++) {
            wait_for_step(MODE == MMA_LOSS ? 0 : step); // loss only, the next tile's are being added
            if (step < steps && present) {
                FragmentA own[2];
                FragmentB b[2];
                load_a<WIDE_PITCH>(own[0], owned, 0, step, lane);
                load_a<WIDE_PITCH>(own[1], owned, 16, step, lane);
                load_b<WIDE_PITCH>(b, streamed, 0, step, lane);
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    multiply(sums[r][0], own[r], b[0], T());
                    multiply(sums[r][1], own[r], b[1], T());
                }
            }
            if constexpr (MODE == MMA_LOSS) {
                __syncwarp(); // the step has been read
                copy_next(tile + 1, step);
            }
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
#pragma unroll
            for (int c = 0; c < 2; c++) {
#pragma unroll
                for (int e = 0; e < 4; e += 2) {
                    const int row = 16 * r + lane / 4 + 4 * e;
                    *reinterpret_cast<float2*>(slice.scores + score_at(row, 8 * c + lane % 4 * 2)) =
                        make_float2(sums[r][c][e], sums[r][c][e + 1]);
                }
            }
        }
        __syncthreads(); // all sums are there
        if (warp < ADDERS && present) {
            Cells<1, 1> cells = {};
#pragma unroll 1
            for (int w = 0; w < warps; w++) {
                const float4 part =
                    *reinterpret_cast<const float4*>(slices[w].scores + score_at(place.owner, place.streamed));
                cells[0][0][0] += part.x;
                cells[0][0][1] += part.y;
                cells[0][0][2] += part.z;
                cells[0][0][3] += part.w;
            }
            const i64 begin = (first + tile) * WIDE_SPAN;
            const i64 diagonal = BACKWARD ? first_owner - begin - a.offset : begin - first_owner - a.offset;
            masked_logits<BACKWARD>(cells, shared.owners, other, place, diagonal, a, inverse_temperature);
            PerOwner<1, RowPlace> rescale;
            if constexpr (BACKWARD) {
                weigh_rows(cells, other, place);
            }
            online_softmax(cells, running, rescale, other, place, Shift<T>::EXPONENT);
            if (BACKWARD && any_negative(other)) {
                apply_signs(cells, other, place);
            }
            if constexpr (MODE != MMA_LOSS) {
                unsigned* to = shared.weights + weight_word_at(place.owner, place.streamed);
                *reinterpret_cast<uint2*>(to) =
                    make_uint2(pack(cells[0][0][0], cells[0][0][1], T()), pack(cells[0][0][2], cells[0][0][3], T()));
                if (lane % 4 == 0) {
                    shared.rescale[place.owner] = rescale.at[0];
                }
            }
        }
        __syncthreads(); // the weights are there, the sums are done with
        if constexpr (MODE != MMA_LOSS) {
            FragmentA weights[2];
            PerOwner<2, FragmentPlace> rescale;
            bool changed = false;
            if (present) {
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const int row = 16 * r + lane % 16;
                    load_matrices(weights[r].at, shared_address(shared.weights + weight_word_at(row, lane / 16 * 8)));
                }
            }
            if (present) {
                rescale.load(shared.rescale, FragmentPlace{lane / 4, 0});
#pragma unroll
                for (int i = 0; i < rescale.COUNT; i++) {
                    changed = changed || rescale.at[i] != 1.0f;
                }
                changed = __any_sync(FULL_WARP, changed);
            }
#pragma unroll
            for (int step = 0; step < WIDE_STEPS; step++) {
                if (step < steps && present) {
                    FragmentB b[2];
                    load_b_transposed<WIDE_PITCH>(b, streamed, 0, step, lane);
#pragma unroll
                    for (int r = 0; r < 2; r++) {
#pragma unroll
                        for (int n = 0; n < 2; n++) {
                            float(&sum)[4] = output[r][2 * step + n];
                            if (changed) {
#pragma unroll
                                for (int e = 0; e < 4; e++) {
                                    sum[e] *= rescale.of(r, e);
                                }
                            }
                            multiply(sum, weights[r], b[n], T());
                        }
                    }
                }
                __syncwarp(); // the step has been read
                copy_next(tile + 1, step);
            }
        }
        if (warp == 0) {
            store_label(labels(tile + 3), lane, next);
        }
    }
    // Nothing to wait for: the groups still open are those of a tile that does not exist.

    __syncthreads(); // the last tile's factors have been read
    if (warp < ADDERS) {
        const float sum = BACKWARD ? 0.0f : sum_of_four_lanes(running.sum.at[0]) * Shift<T>::INVERSE;
        if (lane % 4 == 0) {
            shared.rescale[place.owner] = Shift<T>::INVERSE * (BACKWARD ? expf(running.maximum.at[0]) : 1.0f);
            if (!BACKWARD && first_owner + place.owner < a.cut.owners) {
                const i64 at = slot * WIDE_OWNERS + place.owner;
                a.maximum[at] = running.maximum.at[0];
                a.sum[at] = sum;
            }
        }
    }
    if constexpr (MODE != MMA_LOSS) {
        __syncthreads(); // what the outputs are multiplied by
        PerOwner<2, FragmentPlace> unscale;
        unscale.load(shared.rescale, FragmentPlace{lane / 4, 0});
#pragma unroll
        for (int r = 0; r < 2; r++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int owner = 16 * r + 8 * half + lane / 4;
                float* out = a.output + (slot * WIDE_OWNERS + owner) * dim + first_dim + 2 * (lane % 4);
                const bool owns = first_owner + owner < a.cut.owners;
                const float factor = unscale.of(r, 2 * half);
#pragma unroll
                for (int n = 0; n < 2 * WIDE_STEPS; n++) {
                    if (owns && n / 2 < steps) {
                        *reinterpret_cast<float2*>(out + 8 * n) =
                            make_float2(output[r][n][2 * half] * factor, output[r][n][2 * half + 1] * factor);
                    }
                }
            }
        }
    }
}

template <typename T, MmaMode MODE>
__device__ __forceinline__ void stream_wide(const MmaArguments& a) {
    extern __shared__ __align__(256) unsigned char memory[];
    WideSlice* slices = reinterpret_cast<WideSlice*>(memory);
    WideShared& shared = *reinterpret_cast<WideShared*>(slices + blockDim.x / WARP);
    each_stay(a.cut, [&](i64 owner_tile, i64 first, int count, i64 slot) {
        stream_wide_tile<T, MODE>(a, shared, slices, owner_tile, first, count, slot);
    });
}

#define WIDE_KERNEL(name, T, MODE)                                                                                   \
    extern "C" __global__ void __launch_bounds__(WIDE_WARPS * WARP, 1) name(const MmaArguments arguments) {          \
        stream_wide<T, MODE>(arguments);                                                                             \
    }

#define WIDE_KERNELS(suffix, T)                                                                                      \
    WIDE_KERNEL(stream_mma_loss_1024_##suffix, T, MMA_LOSS)                                                          \
    WIDE_KERNEL(stream_mma_forward_1024_##suffix, T, MMA_FORWARD)                                                    \
    WIDE_KERNEL(stream_mma_backward_1024_##suffix, T, MMA_BACKWARD)
