// The negatives of highest logit of each row, of all columns.
//
// A block owns 64 users and streams the columns past them as stream_simt.cuh does, with its scores and its logits. A
// logit that is not above the last in its row's list is dropped at once, which soon is almost every one: of N columns in
// random order some k (1 + ln(N / k)) get further. Those wait in shared memory until there are 32, and one merge of sorted keys
// takes them into the list, which lies in global memory. A warp owns its 8 rows: no atomics, and no order that matters.
// target: compute_75
#include "select.cuh"
#include "stream_simt.cuh"

constexpr int WARP_ROWS = TILE / (THREADS / WARP);

template <typename T>
struct HardNegativesShared : TileShared<T> {
    u64 waiting[TILE][WARP];
    float threshold[TILE]; // the last logit of a full list, -inf of another
    int waiting_count[TILE];
    int list_count[TILE];
};
static_assert(sizeof(HardNegativesShared<float>) <= 48 * 1024, "static shared memory limit");

// Takes the keys that wait into the row's list, which COUNT registers of each lane hold.
template <int COUNT, typename T>
__device__ __forceinline__ void
take_waiting_into(HardNegativesShared<T>& shared, u64* list, int row, int lane, int kept) {
    const int waiting = shared.waiting_count[row];
    const int listed = shared.list_count[row];
    // In the opposite order of the list's: sorted as complements.
    u64 complements[1] = {~(lane < waiting ? shared.waiting[row][lane] : 0)};
    sort_keys<2>(complements, lane);
    u64 keys[COUNT];
    u64 reversed[COUNT];
#pragma unroll
    for (int r = 0; r < COUNT; r++) {
        const int at = r * WARP + lane;
        keys[r] = at < listed ? list[at] : 0;
        reversed[r] = r == COUNT - 1 ? ~complements[0] : 0;
    }
    merge_keys(keys, reversed, lane);
    __syncwarp(); // everyone has read
#pragma unroll
    for (int r = 0; r < COUNT; r++) {
        const int at = r * WARP + lane;
        if (at < kept) {
            list[at] = keys[r];
        }
        if (at == kept - 1 && keys[r] != 0) {
            shared.threshold[row] = logit_of(rank_in(keys[r]));
        }
    }
    if (lane == 0) {
        shared.waiting_count[row] = 0;
        shared.list_count[row] = min(listed + waiting, kept);
    }
    __syncwarp();
}

// Short lists go through a shorter merge.
template <typename T>
__device__ __forceinline__ void
take_waiting(HardNegativesShared<T>& shared, u64* list, int row, int lane, int kept) {
    if (kept <= WARP) {
        take_waiting_into<1>(shared, list, row, lane, kept);
    } else {
        take_waiting_into<REGISTERS>(shared, list, row, lane, kept);
    }
}

// The lanes whose logit comes before the last that a full list holds, NaN before all numbers. Columns are met in
// ascending order: of equal logits that in the list stays.
__device__ __forceinline__ unsigned above(float z, float threshold) {
    const bool first_nan = z != z && threshold == threshold;
    return __ballot_sync(FULL_WARP, z > threshold || first_nan);
}

// 32 of a row's logits, one a lane. `at_end` empties the room for those that wait.
template <typename T>
__device__ __forceinline__ void
offer(HardNegativesShared<T>& shared, u64* list, int row, int lane, float z, unsigned column, int kept, bool at_end) {
    unsigned candidates = above(z, shared.threshold[row]);
    if (at_end || shared.waiting_count[row] + __popc(candidates) > WARP) {
        take_waiting(shared, list, row, lane, kept);
        candidates = above(z, shared.threshold[row]);
    }
    if (candidates == 0) {
        return;
    }
    const int first = shared.waiting_count[row];
    __syncwarp(); // everyone has read
    if (candidates >> lane & 1u) {
        shared.waiting[row][first + __popc(candidates & ((1u << lane) - 1))] = key_of(rank_of(z), column);
    }
    if (lane == 0) {
        shared.waiting_count[row] = first + __popc(candidates);
    }
    __syncwarp();
}

// The half rows of the warp that have a logit to offer: bit 8 h + 4 c + i for columns 32 c and on of row i of the h-th half
// warp. Coarse: a NaN is always offered.
__device__ __forceinline__ unsigned
offering_halves(const float (&logits)[4][4], const float (&threshold)[4]) {
    unsigned halves = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        bool offers = false;
#pragma unroll
        for (int x = 0; x < 4; x++) {
            offers = offers || !(logits[i][x] <= threshold[i]);
        }
        const unsigned threads = __ballot_sync(FULL_WARP, offers);
#pragma unroll
        for (int byte = 0; byte < 4; byte++) {
            halves |= (threads >> (8 * byte) & 0xffu) != 0 ? 1u << (4 * byte + i) : 0u;
        }
    }
    return halves;
}

template <typename T>
__device__ __forceinline__ void hard_negatives(const HardNegativesArguments& arguments) {
    __shared__ HardNegativesShared<T> shared;
    __builtin_assume(threadIdx.x < THREADS);
    const StreamArguments& a = arguments.stream;
    const int kept = arguments.kept;
    const int tx = threadIdx.x % 16;
    const int ty = threadIdx.x / 16;
    const int lane = threadIdx.x % WARP;
    const int warp_row = threadIdx.x / WARP * WARP_ROWS;
    const int slot = threadIdx.x;
    const i64 first_row = static_cast<i64>(blockIdx.x) * TILE;
    const float inverse_temperature = *a.inverse_temperature;
    const i64 columns = a.columns.count();
    const i64 begin = static_cast<i64>(blockIdx.y) * a.tiles_per_split * TILE;
    const i64 last = begin + static_cast<i64>(a.tiles_per_split) * TILE;
    const i64 end = last < columns ? last : columns;
    const i64 rows_left = a.rows - first_row - warp_row;
    const int rows = rows_left < WARP_ROWS ? (rows_left < 0 ? 0 : static_cast<int>(rows_left)) : WARP_ROWS;
    const i64 at = static_cast<i64>(blockIdx.y) * a.rows + first_row + warp_row;
    u64* lists = arguments.lists + at * kept;

    if (slot < TILE) {
        fill_row<T, false>(shared.owned, slot, first_row + slot, a);
        // Of no row, so that it offers nothing but NaN.
        shared.threshold[slot] = first_row + slot < a.rows ? -infinity() : infinity();
        shared.waiting_count[slot] = 0;
        shared.list_count[slot] = 0;
    }
    unsigned excluded[4] = {0, 0, 0, 0};

    // After the last tile comes a round that offers nothing: the code that takes keys into a list is long, and there once.
    bool at_end = false;
    for (i64 first = begin; !at_end; first += TILE) {
        at_end = first >= end;
        bool present = at_end;
        if (slot < TILE && !at_end) {
            present = fill_column<T>(shared.streamed, slot, first + slot, end, a);
        }
        if (!__syncthreads_or(present)) {
            continue;
        }
        unsigned offering = 0x0f0fu; // one half of each row
        if (!at_end) {
            float scores[4][4];
            tile_scores(scores, shared, tx, ty, a.columns.dim, a.aligned != 0);
            const int diagonal = diagonal_of(first_row, first, a.offset);
            const Skipped skipped = tile_skipped<T, false>(shared, tx, ty, diagonal, first_row, a);
            tile_logits<T, false>(scores, shared, tx, ty, skipped.all, inverse_temperature);
            float threshold[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                excluded[i] += __popc(skipped.excluded >> (4 * i) & 0xfu);
                threshold[i] = shared.threshold[ty * 4 + i];
            }
            offering = offering_halves(scores, threshold);
            __syncthreads(); // everyone is done with the chunks and with the columns
            if (offering == 0) {
                continue;
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                *reinterpret_cast<float4*>(shared.logits + (ty * 4 + i) * TILE + tx * 4) =
                    make_float4(scores[i][0], scores[i][1], scores[i][2], scores[i][3]);
            }
            __syncwarp();
        }
        while (offering != 0) {
            const int bit = __ffs(offering) - 1; // of one row, the lower columns first
            offering &= offering - 1;
            const int row = (bit >> 3) * 4 + bit % 4;
            if (row < rows) {
                const int column = (bit >> 2 & 1) * WARP + lane;
                const float z = at_end ? -infinity() : shared.logits[(warp_row + row) * TILE + column];
                u64* list = lists + static_cast<i64>(row) * kept;
                offer(shared, list, warp_row + row, lane, z, static_cast<unsigned>(first + column), kept, at_end);
            }
        }
    }

    if (arguments.excluded == nullptr) {
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const unsigned count = row_sum(excluded[i]);
        const i64 row = first_row + ty * 4 + i;
        if (tx == 0 && row < a.rows) {
            arguments.excluded[static_cast<i64>(blockIdx.y) * a.rows + row] = count;
        }
    }
}

// The best of all splits' lists, in the order of their columns. A warp owns a row.
extern "C" __global__ void __launch_bounds__(THREADS) hard_negatives_merge(const HardNegativesMergeArguments a) {
    const int lane = threadIdx.x % WARP;
    const i64 row = static_cast<i64>(blockIdx.x) * (THREADS / WARP) + threadIdx.x / WARP;
    if (row >= a.rows) {
        return;
    }
    auto key = [&](int split, int at) {
        return at < a.kept ? a.lists[(static_cast<i64>(split) * a.rows + row) * a.kept + at] : 0;
    };
    u64 keys[REGISTERS];
#pragma unroll
    for (int r = 0; r < REGISTERS; r++) {
        keys[r] = key(0, r * WARP + lane);
    }
#pragma unroll 1
    for (int split = 1; split < a.splits; split++) {
        u64 reversed[REGISTERS];
#pragma unroll
        for (int r = 0; r < REGISTERS; r++) {
            reversed[r] = key(split, MOST_KEPT - 1 - r * WARP - lane);
        }
        merge_keys(keys, reversed, lane);
    }
    // By column, from the highest complement on: that of -1, which stands for nothing, comes first.
#pragma unroll
    for (int r = 0; r < REGISTERS; r++) {
        const u64 best = r * WARP + lane < a.kept ? keys[r] : 0;
        const unsigned rank = best == 0 ? rank_of(-infinity()) : rank_in(best);
        keys[r] = static_cast<u64>(~(column_in(best) + 1)) << 32 | rank;
    }
    sort_keys<2>(keys, lane);
#pragma unroll
    for (int r = 0; r < REGISTERS; r++) {
        // Before these there is nothing.
        const int at = r * WARP + lane - (MOST_KEPT - a.kept);
        if (at >= 0) {
            a.logits[row * a.kept + at] = logit_of(static_cast<unsigned>(keys[r]));
            a.places[row * a.kept + at] = static_cast<int>(~static_cast<unsigned>(keys[r] >> 32)) - 1;
        }
    }
    if (lane == 0 && a.excluded != nullptr) {
        unsigned count = 0;
        for (int split = 0; split < a.splits; split++) {
            count += a.excluded[static_cast<i64>(split) * a.rows + row];
        }
        a.row_excluded[row] = count;
    }
}

#define HARD_NEGATIVES_KERNEL(suffix, T)                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                         \
    hard_negatives_##suffix(const HardNegativesArguments arguments) {                                                \
        hard_negatives<T>(arguments);                                                                                \
    }

HARD_NEGATIVES_KERNEL(f32, float)
HARD_NEGATIVES_KERNEL(f16, f16)
HARD_NEGATIVES_KERNEL(bf16, bf16)
