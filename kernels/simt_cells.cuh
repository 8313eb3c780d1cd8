// The cells of a tile of the plain stream, from scores to weights. Thread (tx, ty) of 16 x 16 has a 4 x 4 corner: owned
// embeddings ty * 4 + i, streamed ones tx * 4 + x.
#pragma once

#include "cell.cuh"
#include "tile.cuh"

// What a block needs for the scores of a tile. The chunks of the score product and what follows it are never alive at
// the same time: the piece of the output product here, the logits that hard_negatives.cu chooses from.
template <typename T>
struct TileShared {
    union {
        struct {
            float owned[DEPTH * PITCH];
            float streamed[DEPTH * PITCH];
        } chunk;
        float piece[TILE * PIECE];
        float logits[TILE * TILE]; // [owned][streamed]
    };
    Side<T> owned;
    Side<T> streamed;
};

template <typename T>
struct StreamShared : TileShared<T> {
    float weights[TILE * PITCH]; // [streamed][owned]
    // Of each owned row, where they are wanted; only the first thread of a row's half warp touches them.
    float moment[TILE];
    unsigned counts[COUNTS][TILE];
};
static_assert(sizeof(StreamShared<float>) <= 48 * 1024, "static shared memory limit");

// Which cells take no part, bit 4 i + x for cell (i, x): absent columns, the row's own positive, excluded pairs.
struct Skipped {
    unsigned all;
    unsigned excluded; // by their ids, and for no other reason
};

// Cells whose column is one of the row's labels but the first, for losses over a class table with several. A warp reads a
// row's labels one after the other, so that they come out of L1; rows beyond the last go with it, and are dropped later.
template <typename T, bool BACKWARD_MODE>
__device__ __forceinline__ unsigned
label_hits(const Side<T>& columns, int tx, int ty, i64 first_row, const StreamArguments& a) {
    unsigned hits = 0;
#pragma unroll 1
    for (int k = 1; k < a.num_true; k++) {
        i64 label[4];
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const i64 row = first_row + (BACKWARD_MODE ? tx : ty) * 4 + r;
            label[r] = a.labels[(row < a.rows ? row : a.rows - 1) * a.num_true + k];
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int x = 0; x < 4; x++) {
                const i64 item = columns.item[BACKWARD_MODE ? ty * 4 + i : tx * 4 + x];
                hits |= label[BACKWARD_MODE ? x : i] == item ? 1u << (4 * i + x) : 0u;
            }
        }
    }
    return hits;
}

// A row's own positive lies at row - column == diagonal; TILE when the tile has none.
__device__ __forceinline__ int diagonal_of(i64 first_row, i64 first_column, int offset) {
    const i64 distance = first_column - first_row - offset;
    return distance > -TILE && distance < TILE ? static_cast<int>(distance) : TILE;
}

template <typename T, bool BACKWARD_MODE>
__device__ __forceinline__ Skipped tile_skipped(
    const TileShared<T>& shared, int tx, int ty, int diagonal, i64 first_row, const StreamArguments& a) {
    const Side<T>& rows = BACKWARD_MODE ? shared.streamed : shared.owned;
    const Side<T>& columns = BACKWARD_MODE ? shared.owned : shared.streamed;
    unsigned skipped = 0;
    auto mark = [&](auto excluded) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int x = 0; x < 4; x++) {
                const int row = BACKWARD_MODE ? tx * 4 + x : ty * 4 + i;
                const int column = BACKWARD_MODE ? ty * 4 + i : tx * 4 + x;
                skipped |= excluded(row, column) ? 1u << (4 * i + x) : 0u;
            }
        }
    };
    mark([&](int row, int column) { return row - column == diagonal || columns.bias[column] == -infinity(); });
    const unsigned without_ids = skipped;
    if (a.item_ids != nullptr) {
        mark([&](int row, int column) { return rows.item[row] == columns.item[column]; });
        if constexpr (sizeof(T) == sizeof(float)) { // class tables are gathered into f32
            skipped |= label_hits<T, BACKWARD_MODE>(columns, tx, ty, first_row, a);
        }
    }
    if (a.user_ids != nullptr) {
        mark([&](int row, int column) {
            return columns.has_user[column] && rows.user[row] == columns.user[column];
        });
    }
    return Skipped{skipped, skipped & ~without_ids};
}

// Turns scores into logits z, -inf where the cell takes no part.
template <typename T, bool BACKWARD_MODE>
__device__ __forceinline__ void tile_logits(
    float (&scores)[4][4], const TileShared<T>& shared, int tx, int ty, unsigned skipped,
    float inverse_temperature) {
    const Side<T>& columns = BACKWARD_MODE ? shared.owned : shared.streamed;
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int x = 0; x < 4; x++) {
            const float bias = columns.bias[BACKWARD_MODE ? ty * 4 + i : tx * 4 + x];
            const float logit = fmaf(scores[i][x], inverse_temperature, bias);
            scores[i][x] = skipped >> (4 * i + x) & 1u ? -infinity() : logit;
        }
    }
}

// The sum over the 16 threads of a row, half a warp.
template <typename V>
__device__ __forceinline__ V row_sum(V value) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) {
        value += __shfl_xor_sync(FULL_WARP, value, step);
    }
    return value;
}

// Forward: adds a tile to the rows' counts.
template <typename T>
__device__ __forceinline__ void
tile_counts(const float (&scores)[4][4], StreamShared<T>& shared, int tx, int ty, unsigned excluded) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        unsigned tallies = 0;
#pragma unroll
        for (int x = 0; x < 4; x++) {
            tallies += tally(scores[i][x], excluded >> (4 * i + x) & 1u, shared.owned.reference[ty * 4 + i]);
        }
        tallies = row_sum(tallies);
        if (tx == 0) {
#pragma unroll
            for (int c = 0; c < COUNTS; c++) {
                shared.counts[c][ty * 4 + i] += tallied(tallies, c);
            }
        }
    }
}

// Forward: adds the tile's weights times the columns' biases. An absent column has weight 0, and its bias is no number
// to multiply by.
template <typename T>
__device__ __forceinline__ void
tile_moment(const float (&scores)[4][4], StreamShared<T>& shared, int tx, int ty) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float added = 0.0f;
#pragma unroll
        for (int x = 0; x < 4; x++) {
            const float bias = shared.streamed.bias[tx * 4 + x];
            added = fmaf(scores[i][x], bias == -infinity() ? 0.0f : bias, added);
        }
        added = row_sum(added);
        if (tx == 0) {
            shared.moment[ty * 4 + i] += added;
        }
    }
}

// The sigmoid link of one tile: logits become sigmoid(z); there is no maximum to keep.
__device__ __forceinline__ void
sigmoid_link(float (&scores)[4][4], float (&losses)[4], float (&sum)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float loss = 0.0f;
        float weights = 0.0f;
#pragma unroll
        for (int x = 0; x < 4; x++) {
            const SigmoidCell cell = sigmoid_cell(scores[i][x]);
            scores[i][x] = cell.weight;
            weights += cell.weight;
            loss += cell.loss;
        }
        losses[i] += row_sum(loss);
        sum[i] += row_sum(weights);
    }
}

// The online softmax of one tile: logits become exp(z - m), earlier sums and outputs are rescaled. `moment` is null, or
// the first row's for the first thread of each half warp.
template <int PIECES>
__device__ __forceinline__ void online_softmax(
    float (&scores)[4][4], float (&maximum)[4], float (&sum)[4], float (&output)[PIECES][4][4], float* moment) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float largest = fmaxf(fmaxf(scores[i][0], scores[i][1]), fmaxf(scores[i][2], scores[i][3]));
#pragma unroll
        for (int step = 8; step > 0; step /= 2) { // the 16 threads of a row are half a warp
            largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, step));
        }
        const float updated = fmaxf(maximum[i], largest);
        // While the row has seen nothing, -inf - (-inf) must not be formed.
        const float reference = updated == -infinity() ? 0.0f : updated;
        const float rescale = exp_difference(maximum[i] - reference);
        float added = 0.0f;
#pragma unroll
        for (int x = 0; x < 4; x++) {
            scores[i][x] = exp_difference(scores[i][x] - reference);
            added += scores[i][x];
        }
        added = row_sum(added);
        sum[i] = fmaf(sum[i], rescale, added);
        maximum[i] = updated;
        if (moment != nullptr) {
            moment[i] *= rescale;
        }
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                output[p][i][e] *= rescale;
            }
        }
    }
}

// Backward: logits become g_i a_i / l_i exp(z - m_i), the forward's weights once more. (Out of a rounded LSE they
// would carry its error, eps |LSE|, on every weight of the row.)
template <typename T>
__device__ __forceinline__ void
backward_weights(float (&scores)[4][4], const StreamShared<T>& shared, int tx, int link) {
#pragma unroll
    for (int x = 0; x < 4; x++) {
        const float reference = shared.streamed.reference[tx * 4 + x];
        const float coefficient = shared.streamed.coefficient[tx * 4 + x];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            scores[i][x] = backward_weight(link, scores[i][x], reference, coefficient);
        }
    }
}

// Backward of a loss of rows and columns: scores become the sum of both weights, each from its own logit. Of the rows'
// weights alone, which the columns' log q enters, the sums are added to `mass` if they are wanted.
template <typename T>
__device__ __forceinline__ void symmetric_weights(
    float (&scores)[4][4], float (&mass)[4], const StreamShared<T>& shared, int tx, int ty, unsigned skipped,
    float inverse_temperature, bool with_mass) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int column = ty * 4 + i;
        float added = 0.0f;
#pragma unroll
        for (int x = 0; x < 4; x++) {
            const int row = tx * 4 + x;
            const float of_row = fmaf(scores[i][x], inverse_temperature, shared.owned.bias[column]);
            const float of_column = fmaf(scores[i][x], inverse_temperature, shared.streamed.bias[row]);
            const bool absent = skipped >> (4 * i + x) & 1u;
            const float row_weight = backward_weight(
                SOFTMAX_LINK, of_row, shared.streamed.reference[row], shared.streamed.coefficient[row]);
            const float column_weight = backward_weight(
                SOFTMAX_LINK, of_column, shared.owned.reference[column], shared.owned.coefficient[column]);
            scores[i][x] = absent ? 0.0f : row_weight + column_weight;
            added += absent ? 0.0f : row_weight;
        }
        if (with_mass) {
            mass[i] += row_sum(added);
        }
    }
}
