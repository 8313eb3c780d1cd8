// The cells of a tile, from scores to weights. A lane has 4 cells for each pair (r, c) of ROWS and COLUMNS; its Place says
// which owners and streamed embeddings they belong to.
#pragma once

#include "cell.cuh"
#include "mma.cuh"
#include "mma_labels.cuh"

template <int ROWS, int COLUMNS>
using Cells = float[ROWS][COLUMNS][4];

// The cells of a lane as a product leaves them, g = lane / 4 and t = lane % 4: pair (r, c) has owners 16 r + g and
// 16 r + g + 8 against streamed embeddings 8 c + 2 t and 8 c + 2 t + 1.
struct FragmentPlace {
    static constexpr int OWNERS = 2; // of a pair

    int owner;    // the warp's first owner plus g
    int streamed; // 2 t

    __device__ __forceinline__ int owner_of(int r, int e) const {
        return owner + 16 * r + 8 * (e / 2);
    }

    __device__ __forceinline__ int streamed_of(int c, int e) const {
        return streamed + 8 * c + e % 2;
    }

    // The labels of the four cells of column c.
    template <typename V>
    __device__ __forceinline__ void load(V (&to)[4], const V* values, int c) const {
        struct alignas(8) Pair {
            V at[2];
        };
        const Pair pair = *reinterpret_cast<const Pair*>(values + streamed_of(c, 0));
#pragma unroll
        for (int e = 0; e < 4; e++) {
            to[e] = pair.at[e % 2];
        }
    }
};

// Four cells in a row: one owner, streamed embeddings side by side.
struct RowPlace {
    static constexpr int OWNERS = 1;

    int owner;
    int streamed; // the first

    __device__ __forceinline__ int owner_of(int, int) const {
        return owner;
    }

    __device__ __forceinline__ int streamed_of(int, int e) const {
        return streamed + e;
    }

    template <typename V>
    __device__ __forceinline__ void load(V (&to)[4], const V* values, int) const {
        struct alignas(16) Quad {
            V at[4];
        };
        const Quad quad = *reinterpret_cast<const Quad*>(values + streamed);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            to[e] = quad.at[e];
        }
    }
};

// A number for each of a lane's owners.
template <int ROWS, typename Place>
struct PerOwner {
    static constexpr int COUNT = ROWS * Place::OWNERS;

    float at[COUNT];

    // Of cell e of the pairs in row r.
    __device__ __forceinline__ float& of(int r, int e) {
        return at[r * Place::OWNERS + e * Place::OWNERS / 4];
    }

    __device__ __forceinline__ void fill(float value) {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            at[i] = value;
        }
    }

    __device__ __forceinline__ void load(const float* labels, Place place) {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            at[i] = labels[place.owner_of(i / Place::OWNERS, i % Place::OWNERS * 2)];
        }
    }
};

// A label of the streamed embeddings of a lane's cells in column c.
struct OfStreamed {
    float at[4];

    template <typename Place>
    __device__ __forceinline__ OfStreamed(const float* values, Place place, int c) {
        place.load(at, values, c);
    }
};

// Scores to logits z, in natural units: z is rounded once (twice more in its factor when normalising), and only
// differences are scaled later. Absent columns have a bias of -inf.
template <bool BACKWARD, int ROWS, int COLUMNS, int OWNERS, int STREAMED, typename Place>
__device__ __forceinline__ void logits(
    Cells<ROWS, COLUMNS>& cells, const Labels<OWNERS>& owners, const Labels<STREAMED>& streamed, Place place,
    float inverse_temperature, bool normalizing) {
    PerOwner<ROWS, Place> owner_bias, factor;
    owner_bias.load(owners.bias, place);
    if (normalizing) {
        factor.load(owners.factor, place);
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const OfStreamed bias(streamed.bias, place, c);
            const OfStreamed other(streamed.factor, place, c);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    // A product is the same either way round, so both sweeps get the same bits.
                    const float scale = factor.of(r, e) * other.at[e];
                    cells[r][c][e] = fmaf(cells[r][c][e], scale, BACKWARD ? owner_bias.of(r, e) : bias.at[e]);
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
                const float added = BACKWARD ? owner_bias.of(r, e) : bias.at[e];
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
template <int WORDS, int ROWS, int COLUMNS, int OWNERS, int STREAMED, typename Place>
__device__ __forceinline__ void leave_out_equal(
    Cells<ROWS, COLUMNS>& cells, const unsigned (*owners)[OWNERS], const unsigned (*streamed)[STREAMED],
    Place place) {
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
        unsigned other[WORDS][4];
#pragma unroll
        for (int word = 0; word < WORDS; word++) {
            place.load(other[word], streamed[word], c);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                bool equal = true;
#pragma unroll
                for (int word = 0; word < WORDS; word++) {
                    equal = equal && owners[word][place.owner_of(r, e)] == other[word][e];
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
template <bool BACKWARD, int ROWS, int COLUMNS, int OWNERS, int STREAMED, typename Place>
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
        const int distance = static_cast<int>(BACKWARD ? -diagonal : diagonal);
        leave_out(cells, [&](int r, int c, int e) { return place.owner_of(r, e) - place.streamed_of(c, e) == distance; });
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

// f16 reaches down to 2^-24 only: weights are 2^EXPONENT times as large until they have been summed.
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

// The running maximum and sum of a lane's owners. Sums are of the lane's own cells; the rest of a row is in the other
// three lanes of four.
template <int ROWS, typename Place>
struct Running {
    PerOwner<ROWS, Place> maximum;
    PerOwner<ROWS, Place> sum;

    __device__ __forceinline__ void reset() {
        maximum.fill(-infinity());
        sum.fill(0.0f);
    }
};

__device__ __forceinline__ float sum_of_four_lanes(float value) {
    value += __shfl_xor_sync(FULL_WARP, value, 1);
    return value + __shfl_xor_sync(FULL_WARP, value, 2);
}

__device__ __forceinline__ float max_of_four_lanes(float value) {
    value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, 1));
    return fmaxf(value, __shfl_xor_sync(FULL_WARP, value, 2));
}

// Logits to exp(z - m), online: earlier sums are rescaled, and `rescale` is what earlier outputs must be multiplied by.
// Returns whether any row of the warp has a new maximum; otherwise all of `rescale` is 1.
template <int ROWS, int COLUMNS, int STREAMED, typename Place>
__device__ __forceinline__ bool online_softmax(
    Cells<ROWS, COLUMNS>& cells, Running<ROWS, Place>& running, PerOwner<ROWS, Place>& rescale,
    const Labels<STREAMED>& streamed, Place place, float shift) {
    PerOwner<ROWS, Place> reference;
    reference.fill(-infinity());
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                reference.of(r, e) = fmaxf(reference.of(r, e), cells[r][c][e]);
            }
        }
    }
    bool changed = false;
#pragma unroll
    for (int i = 0; i < reference.COUNT; i++) {
        const float before = running.maximum.at[i];
        const float updated = fmaxf(before, max_of_four_lanes(reference.at[i]));
        // While the row has seen nothing, -inf - (-inf) must not be formed.
        reference.at[i] = updated == -infinity() ? 0.0f : updated;
        rescale.at[i] = exp2_approximate((before - reference.at[i]) * LOG2_E);
        changed = changed || updated != before;
        running.sum.at[i] *= rescale.at[i];
        running.maximum.at[i] = updated;
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
        const OfStreamed norm(streamed.weight, place, c);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float weight = exp2_approximate(fmaf(cells[r][c][e] - reference.of(r, e), LOG2_E, shift));
                running.sum.of(r, e) = fmaf(weight, norm.at[e], running.sum.of(r, e));
                cells[r][c][e] = weight;
            }
        }
    }
    return __any_sync(FULL_WARP, changed);
}

// Backward: logits to the logarithms of |g_i a_i| / l_i exp(z - m_i), the forward's weights once more. The online softmax
// turns them into weights relative to each owner's largest, so that f16 has room for all that count for an owner,
// however small its gradient is beside others'. (Out of a rounded LSE they would carry its error.)
template <int ROWS, int COLUMNS, int STREAMED, typename Place>
__device__ __forceinline__ void
weigh_rows(Cells<ROWS, COLUMNS>& cells, const Labels<STREAMED>& streamed, Place place) {
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
        const OfStreamed reference(streamed.bias, place, c);
        const OfStreamed weight(streamed.weight, place, c);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                cells[r][c][e] = cells[r][c][e] - reference.at[e] + weight.at[e];
            }
        }
    }
}

// Gives the weights of rows with g_i a_i < 0 their sign.
template <int ROWS, int COLUMNS, int STREAMED, typename Place>
__device__ __forceinline__ void
apply_signs(Cells<ROWS, COLUMNS>& cells, const Labels<STREAMED>& streamed, Place place) {
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int row = place.streamed_of(c, e);
            if (streamed.negative[row / WARP] >> (row % WARP) & 1u) {
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    cells[r][c][e] = -cells[r][c][e];
                }
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
