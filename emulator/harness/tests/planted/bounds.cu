// Addresses that are not what the author meant.
#include "planted.cuh"

PAIR(load_past_end) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (mended ? i < n : i <= n) {
        float value = *(const volatile float *)&in[i];
        if (i < n) out[i] = value;
    }
}

PAIR(store_past_end) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (mended ? i < n : i <= n) out[i] = 1.0f;
}

PAIR(shared_past_end) {
    __shared__ volatile float tile[64];
    int i = threadIdx.x;
    tile[i + (mended ? 0 : 1)] = in[i];
    __syncthreads();
    out[i] = i == 0 ? 0.0f : tile[i];
}

__constant__ float weights[8] = {1, 2, 3, 4, 5, 6, 7, 8};

PAIR(const_past_end) {
    int i = threadIdx.x;
    out[i] = in[i] * weights[mended ? i % 8 : i % 9];
}

// A row number times a pitch that does not fit in 32 bits: the index turns negative.
PAIR(index_overflow) {
    int i = threadIdx.x;
    int pitch = (n << 20) - 1;
    if (mended) out[i] = in[(long long)i * pitch % n];
    else out[i] = in[i * pitch % n];
}

// A vector load from an address that is a multiple of 4 only.
PAIR(misaligned_vector) {
    int i = threadIdx.x;
    const float *from = in + 4 * i + (mended ? 0 : 1);
    if (4 * i + 8 > n) return;
    float4 value = *(const float4 *)from;
    out[i] = value.x + value.y + value.z + value.w;
}

// An address of shared memory used by an instruction for global memory.
PAIR(wrong_address_space) {
    __shared__ float tile[32];
    int i = threadIdx.x;
    tile[i] = in[i];
    __syncthreads();
    float value;
    if (mended) asm volatile("ld.f32 %0, [%1];" : "=f"(value) : "l"(&tile[i]) : "memory");
    else asm volatile("ld.global.f32 %0, [%1];" : "=f"(value) : "l"(&tile[i]) : "memory");
    out[i] = value;
}

// The reverse: an address of global memory used by an instruction for shared memory.
PAIR(global_as_shared) {
    int i = threadIdx.x;
    float value;
    if (mended) asm volatile("ld.f32 %0, [%1];" : "=f"(value) : "l"(&in[i]) : "memory");
    else asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "l"(&in[i]) : "memory");
    out[i] = value;
}
