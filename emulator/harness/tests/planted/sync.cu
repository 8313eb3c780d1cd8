// Barriers, warp operations and loops that do not end as meant.
#include "planted.cuh"

// A barrier that half a warp never reaches.
PAIR(divergent_barrier) {
    __shared__ volatile float tile[32];
    int i = threadIdx.x;
    tile[i] = in[i];
    if (mended) {
        __syncthreads();
    } else if (i < 16) {
        asm volatile("bar.sync 0;" ::: "memory");
        tile[i] = 0;
    }
    out[i] = tile[i];
}

// A named barrier that waits for more threads than come.
PAIR(named_barrier_count) {
    __shared__ volatile float tile[64];
    int i = threadIdx.x;
    tile[i] = in[i];
    if (mended) asm volatile("bar.sync 1, 64;" ::: "memory");
    else asm volatile("bar.sync 1, 96;" ::: "memory");
    out[i] = tile[63 - i];
}

// Two warps wait at different barriers for each other.
PAIR(different_barriers) {
    __shared__ volatile float tile[64];
    int i = threadIdx.x;
    tile[i] = in[i];
    if (mended || i < 32) asm volatile("bar.sync 1, 64;" ::: "memory");
    else asm volatile("bar.sync 2, 64;" ::: "memory");
    out[i] = tile[63 - i];
}

// The mask names all lanes, but half of them have gone on to wait elsewhere.
PAIR(shuffle_mask) {
    int i = threadIdx.x;
    float value = in[i];
    if (i < 16) value += mended ? __shfl_xor_sync(0x0000FFFF, value, 1) : __shfl_xor_sync(0xFFFFFFFF, value, 1);
    __syncwarp();
    out[i] = value;
}

PAIR(vote_mask) {
    int i = threadIdx.x;
    unsigned votes = 0;
    if (i % 2) votes = mended ? __ballot_sync(0xAAAAAAAA, in[i] > 0) : __ballot_sync(0xFFFFFFFF, in[i] > 0);
    __syncwarp();
    out[i] = __popc(votes);
}

// A lane calls __syncwarp with a mask that leaves it out.
PAIR(syncwarp_mask) {
    int i = threadIdx.x;
    if (mended) __syncwarp(0xFFFFFFFF);
    else __syncwarp(0x0000FFFF);
    out[i] = in[i];
}

// Waits for a flag that nobody sets.
PAIR(endless_loop) {
    volatile float *flag = out;
    if (threadIdx.x == 0) {
        if (mended) *flag = 1.0f;
        while (*flag != 1.0f) {}
    }
}

// A check inside the kernel that fails.
PAIR(failed_check) {
    int i = threadIdx.x;
    if (!mended && in[i] > -1e30f) __trap();
    out[i] = in[i];
}

extern "C" __global__ void __launch_bounds__(64) bounded(float *out, const float *in, int n) {
    int i = threadIdx.x;
    if (i < n) out[i] = in[i];
}

extern "C" __global__ void roomy(float *out, const float *in, int n) {
    extern __shared__ float scratch[];
    int i = threadIdx.x;
    scratch[i] = in[i];
    __syncthreads();
    out[i] = scratch[i];
}
