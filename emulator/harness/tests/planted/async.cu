// cp.async: copies that are read before they are waited for. Needs sm_80.
#include "planted.cuh"

static __device__ void copy16(float *to, const float *from) {
    unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}

static __device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int pending> static __device__ void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory"); }

PAIR(copy_not_waited) {
    __shared__ alignas(16) float tile[128];
    int i = threadIdx.x;
    copy16(&tile[4 * i], &in[4 * i]);
    commit();
    if (mended) wait<0>();
    out[i] = tile[4 * i];
}

// A wait covers committed groups only.
PAIR(copy_not_committed) {
    __shared__ alignas(16) float tile[128];
    int i = threadIdx.x;
    copy16(&tile[4 * i], &in[4 * i]);
    if (mended) commit();
    wait<0>();
    out[i] = tile[4 * i];
}

// Two groups under way, and the wait lets the newer one, which is read, be late.
PAIR(copy_waits_too_little) {
    __shared__ alignas(16) float tile[2][128];
    int i = threadIdx.x;
    copy16(&tile[0][4 * i], &in[4 * i]);
    commit();
    copy16(&tile[1][4 * i], &in[4 * i]);
    commit();
    wait<mended ? 0 : 1>();
    out[i] = tile[0][4 * i] + tile[1][4 * i + 1];
}

// Each thread waits for its own copies; another thread's need a barrier on top.
PAIR(copy_of_other_thread) {
    __shared__ alignas(16) float tile[256];
    int i = threadIdx.x;
    for (int k = 0; k < 4; k++) tile[4 * i + k] = 0;
    __syncthreads();
    copy16(&tile[4 * i], &in[4 * i]);
    commit();
    wait<0>();
    if (mended) __syncthreads();
    out[i] = tile[4 * ((i + 32) % 64)];
}
