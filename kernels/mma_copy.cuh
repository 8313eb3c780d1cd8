// Embeddings on their way into shared memory: cp.async, 16 bytes at a time, without passing through registers.
#pragma once

#include "mma.cuh"
#include "mma_labels.cuh"

// Absent embeddings (null) arrive as zeros: in a product garbage or NaN would spoil what a weight of 0 should keep out.
__device__ __forceinline__ void copy_piece(unsigned to, const unsigned char* from, const void* somewhere) {
    const void* source = from == nullptr ? somewhere : from;
    const int bytes = from == nullptr ? 0 : 16;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(source), "r"(bytes) : "memory");
}

// Closes a group of copies; groups may be empty, so that their number tells what has arrived.
__device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits for all groups but the last PENDING. The copies of other threads need a barrier on top.
template <int PENDING>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Starts copying dimensions first to first + 8 pieces of COUNT embeddings to `to`, by rows of PITCH bytes. Eight threads
// share a row: 128 bytes in a row of global memory.
template <int PITCH, int COUNT>
__device__ __forceinline__ void
copy_embeddings(unsigned to, const Labels<COUNT>& labels, int first, int pieces, const void* somewhere) {
    constexpr int ABREAST = 8;
    const int column = threadIdx.x % ABREAST;
#pragma unroll 1
    for (int row = threadIdx.x / ABREAST; row < COUNT; row += blockDim.x / ABREAST) {
        const auto* source = static_cast<const unsigned char*>(labels.source[row]);
        const auto* from = source == nullptr ? nullptr : source + 2 * first;
#pragma unroll 1
        for (int piece = column; piece < pieces; piece += ABREAST) {
            copy_piece(piece_address<PITCH>(to, row, piece), from == nullptr ? nullptr : from + 16 * piece, somewhere);
        }
    }
}
