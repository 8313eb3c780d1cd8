// Accesses that nothing orders.
#include "planted.cuh"

// A thread reads what a thread of another warp writes.
PAIR(missing_barrier) {
    __shared__ float tile[64];
    int i = threadIdx.x;
    tile[i] = 0;
    __syncthreads();
    tile[i] = in[i];
    if (mended) __syncthreads();
    out[i] = tile[(i + 32) % 64];
}

// The barrier after the reads of one round is missing: the next round overwrites what others still read.
PAIR(missing_second_barrier) {
    __shared__ float tile[64];
    int i = threadIdx.x;
    float sum = 0;
    for (int round = 0; round < 3; round++) {
        tile[i] = in[i] + round;
        __syncthreads();
        sum += tile[(i + 33) % 64];
        if (mended) __syncthreads();
    }
    out[i] = sum;
}

// Two warps write different numbers to one word.
PAIR(shared_write_write) {
    __shared__ float last;
    int i = threadIdx.x;
    if (mended ? i == 63 : i % 32 == 31) last = in[i];
    __syncthreads();
    out[i] = last;
}

// Lanes of one warp exchange through shared memory as if they still ran in lockstep.
PAIR(missing_syncwarp) {
    __shared__ float tile[32];
    int i = threadIdx.x;
    tile[i] = in[i];
    if (mended) __syncwarp();
    out[i] = tile[31 - i];
}

// Every block adds to one word without an atomic.
PAIR(race_between_blocks) {
    if (threadIdx.x != 0) return;
    if (mended) atomicAdd(out, in[blockIdx.x]);
    else out[0] = out[0] + in[blockIdx.x];
}

// A block reads what another block of the same launch writes.
PAIR(reads_other_block) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = in[i];
    int other = mended ? i : (i + blockDim.x) % n;
    float seen = *(volatile float *)&out[other];
    if (seen == 12345.0f) out[i] = 0;
}

// One thread adds atomically while another stores plainly.
PAIR(atomic_and_plain) {
    if (threadIdx.x == 0) atomicAdd(out, in[0]);
    if (mended) __syncthreads();
    if (threadIdx.x == 32) *out = in[1];
}

// All lanes write the sum that each of them holds, where one should (found if redundant stores are looked for).
PAIR(every_lane_stores) {
    float sum = in[threadIdx.x];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (!mended || threadIdx.x == 0) *out = sum;
}

// The same in shared memory, by all lanes but the one that should.
PAIR(wrong_lanes_store) {
    __shared__ float total;
    float sum = in[threadIdx.x];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (mended ? threadIdx.x == 0 : threadIdx.x != 0) total = sum;
    __syncthreads();
    out[threadIdx.x] = total;
}
