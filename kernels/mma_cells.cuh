// The cells of a tile, from scores to weights. A warp has 16 ROWS owners against 8 COLUMNS streamed embeddings in registers:
// cells[r][c] are the sums of one product, owners 16 r + g and 16 r + g + 8, streamed 8 c + 2 t and 8 c + 2 t + 1
// (g = lane / 4, t = lane % 4).
#pragma once

#include "mma.cuh"
#include "mma_labels.cuh"

constexpr float LOG2_E = 1.4426950408889634f;

template <int ROWS, int COLUMNS>
using Cells = float[ROWS][COLUMNS][4];

// Where a lane's cells lie: `owner` is the warp's first owner plus g, `streamed` is 2 t.
struct Place {
    int owner;
    int streamed;

    __device__ __forceinline__ int owner_of(int r, int e) const {
        return owner + 16 * r + 8 * (e / 2);
    }

    __device__ __forceinline__ int streamed_of(int c, int e) const {
        return streamed + 8 * c + e % 2;
    }
};

// A label of a lane's owners, and of its two streamed embeddings of column c.
template <typename V, int ROWS>
struct OfOwners {
    V at[ROWS][2];

    __device__ __forceinline__ OfOwners(const V* values, Place place) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            at[r][0] = values[place.owner_of(r, 0)];
            at[r][1] = values[place.owner_of(r, 2)];
        }
    }

    __device__ __forceinline__ V of(int r, int e) const {
        return at[r][e / 2];
    }
};

struct OfStreamed {
    float2 at;

    __device__ __forceinline__ OfStreamed(const float* values, Place place, int c)
        : at(*reinterpret_cast<const float2*>(values + place.streamed_of(c, 0))) {}

    __device__ __forceinline__ float of(int e) const {
        return e % 2 == 0 ? at.x : at.y;
    }
};

// Scores to logits z, in natural units: z is rounded once (twice more in its factor when normalising), and only
// differences are scaled later. Absent columns have a bias of -inf.
template <bool BACKWARD, int ROWS, int COLUMNS, int OWNERS, int STREAMED>
__device__ __forceinline__ void logits(
    Cells<ROWS, COLUMNS>& cells, const Labels<OWNERS>& owners, const Labels<STREAMED>& streamed, Place place,
    float inverse_temperature, bool normalizing) {
    const OfOwners<float, ROWS> owner_bias(owners.bias, place);
    if (normalizing) {
        const OfOwners<float, ROWS> factor(owners.factor, place);
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const OfStreamed bias(streamed.bias, place, c);
            const OfStreamed other(streamed.factor, place, c);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    // A product is the same either way round, so both sweeps get the same bits.
                    const float scale = factor.of(r, e) * other.of(e);
                    cells[r][c][e] = fmaf(cells[r][c][e], scale, BACKWARD ? owner_bias.of(r, e) : bias.of(e));
                }
            }
        }
        return;
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
        const OfStreamed bias(streamed.bias, place, c);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float added = BACKWARD ? owner_bias.of(r, e) : bias.of(e);
                cells[r][c][e] = fmaf(cells[r][c][e], inverse_temperature, added);
            }
        }
    }
}

// Leaves out the cells that `out(r, c, e)` names.
template <int ROWS, int COLUMNS, typename Out>
__device__ __forceinline__ void leave_out(Cells<ROWS, COLUMNS>& cells, Out out) {
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                if (out(r, c, e)) {
                    cells[r][c][e] = -infinity();
                }
            }
        }
    }
}

// Leaves out the cells whose ids agree in all WORDS words.
template <int WORDS, int ROWS, int COLUMNS, int OWNERS, int STREAMED>
__device__ __forceinline__ void leave_out_equal(
    Cells<ROWS, COLUMNS>& cells, const unsigned (*owners)[OWNERS], const unsigned (*streamed)[STREAMED],
    Place place) {
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
        uint2 other[WORDS];
#pragma unroll
        for (int word = 0; word < WORDS; word++) {
            other[word] = *reinterpret_cast<const uint2*>(streamed[word] + place.streamed_of(c, 0));
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                bool equal = true;
#pragma unroll
                for (int word = 0; word < WORDS; word++) {
                    const unsigned id = e % 2 == 0 ? other[word].x : other[word].y;
                    equal = equal && owners[word][place.owner_of(r, e)] == id;
                }
                if (equal) {
                    cells[r][c][e] = -infinity();
                }
            }
        }
    }
}

// Logits of a tile, -inf where a cell takes no part: absent embeddings, a row's own positive, excluded pairs. Each kind
// costs nothing in a tile that has none of it. Row i's positive is at row - column == diagonal.
//
// Ids are compared in every cell: with ids as skewed as users' clicks are, nearly every tile holds a hit, so looking for
// tiles without would be in vain. One comparison of 32 bits does where the upper halves of a tile's ids are all the
// same, as they are for ids below 2^32.
template <bool BACKWARD, int ROWS, int COLUMNS, int OWNERS, int STREAMED>
__device__ __forceinline__ void masked_logits(
    Cells<ROWS, COLUMNS>& cells, const Labels<OWNERS>& owners, const Labels<STREAMED>& streamed, Place place,
    i64 diagonal, const MmaArguments& a, float inverse_temperature) {
    logits<BACKWARD>(cells, owners, streamed, place, inverse_temperature, a.row_norms != nullptr);
    if (!all_present(streamed)) {
        leave_out(cells, [&](int, int c, int e) {
            const int other = place.streamed_of(c, e);
            return (streamed.present[other / WARP] >> (other % WARP) & 1u) == 0;
        });
    }
    if (diagonal > -(BACKWARD ? OWNERS : STREAMED) && diagonal < (BACKWARD ? STREAMED : OWNERS)) {
        const int distance = static_cast<int>(BACKWARD ? -diagonal : diagonal) + place.streamed - place.owner;
        leave_out(cells, [&](int r, int c, int e) { return 16 * r + 8 * (e / 2) - 8 * c - e % 2 == distance; });
    }
    if (a.item_ids != nullptr) {
        if (upper_halves_alike(owners, streamed)) {
            leave_out_equal<1>(cells, owners.item, streamed.item, place);
        } else {
            leave_out_equal<2>(cells, owners.item, streamed.item, place);
        }
    }
    if (a.user_ids != nullptr) {
        leave_out_equal<3>(cells, owners.user, streamed.user, place);
    }
}

// f16 reaches down to 2^-24 only: forward, weights are 2^SHIFT times as large until they have been summed.
template <typename T>
struct Shift;

template <>
struct Shift<f16> {
    static constexpr float EXPONENT = 14.0f;
    static constexpr float INVERSE = 1.0f / 16384.0f;
};

template <>
struct Shift<bf16> {
    static constexpr float EXPONENT = 0.0f;
    static constexpr float INVERSE = 1.0f;
};

// The running maximum and sum of a lane's owners: 16 r + g and 16 r + g + 8. Sums are of the lane's own cells, the other
// lanes of a row have the rest.
template <int ROWS>
struct Running {
    float maximum[ROWS][2];
    float sum[ROWS][2];

    __device__ __forceinline__ void reset() {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                maximum[r][half] = -infinity();
                sum[r][half] = 0.0f;
            }
        }
    }

    // The row's sum. The four lanes of a row are neighbours.
    __device__ __forceinline__ float total(int r, int half) const {
        float all = sum[r][half];
        all += __shfl_xor_sync(FULL_WARP, all, 1);
        all += __shfl_xor_sync(FULL_WARP, all, 2);
        return all;
    }
};

// Logits to exp(z - m), online: earlier sums are rescaled, and `rescale` is what earlier outputs must be multiplied by.
// Returns whether any row of the warp has a new maximum; otherwise all of `rescale` is 1.
template <int ROWS, int COLUMNS, int STREAMED>
__device__ __forceinline__ bool online_softmax(
    Cells<ROWS, COLUMNS>& cells, Running<ROWS>& running, float (&rescale)[ROWS][2], const Labels<STREAMED>& streamed,
    Place place, float shift) {
    bool changed = false;
    float reference[ROWS][2];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float largest = -infinity();
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
                largest = fmaxf(largest, fmaxf(cells[r][c][2 * half], cells[r][c][2 * half + 1]));
            }
            largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, 2));
            const float before = running.maximum[r][half];
            const float updated = fmaxf(before, largest);
            // While the row has seen nothing, -inf - (-inf) must not be formed.
            reference[r][half] = updated == -infinity() ? 0.0f : updated;
            rescale[r][half] = exp2_approximate((before - reference[r][half]) * LOG2_E);
            changed = changed || updated != before;
            running.sum[r][half] *= rescale[r][half];
            running.maximum[r][half] = updated;
        }
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
        const OfStreamed norm(streamed.coefficient, place, c);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float weight = exp2_approximate(fmaf(cells[r][c][e] - reference[r][e / 2], LOG2_E, shift));
                running.sum[r][e / 2] = fmaf(weight, norm.of(e), running.sum[r][e / 2]);
                cells[r][c][e] = weight;
            }
        }
    }
    return __any_sync(FULL_WARP, changed);
}

// Backward: logits to g_i a_i / l_i exp(z - m_i), the forward's weights once more, scaled by a power of two that brings the
// largest coefficient near the top of f16.
template <int ROWS, int COLUMNS, int STREAMED>
__device__ __forceinline__ void
backward_weights(Cells<ROWS, COLUMNS>& cells, const Labels<STREAMED>& streamed, Place place) {
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
        const OfStreamed reference(streamed.bias, place, c);
        const OfStreamed coefficient(streamed.coefficient, place, c);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float power = exp2_approximate((cells[r][c][e] - reference.of(e)) * LOG2_E);
                cells[r][c][e] = coefficient.of(e) * power;
            }
        }
    }
}

// The weights of 16 streamed embeddings, 16 `step` and up, as the A fragment of the second product.
template <typename T, int COLUMNS>
__device__ __forceinline__ FragmentA weights_fragment(const float (&cells)[COLUMNS][4], int step, T type) {
    const float(&first)[4] = cells[2 * step];
    const float(&second)[4] = cells[2 * step + 1];
    return FragmentA{
        {pack(first[0], first[1], type), pack(first[2], first[3], type), pack(second[0], second[1], type),
         pack(second[2], second[3], type)}};
}
