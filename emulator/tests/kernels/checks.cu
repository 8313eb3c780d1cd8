// Kernels with one defect each (BAD), and their mended twins.
#include <cuda_pipeline.h>
#define PAIR(name, params, body) \
  extern "C" __global__ void bad_##name params { constexpr bool BAD = true; body } \
  extern "C" __global__ void good_##name params { constexpr bool BAD = false; body }

// x has n floats; launches use one block of 64 threads unless the test says otherwise.
PAIR(bounds, (float* x, int n), { int i = threadIdx.x + (BAD ? 1 : 0); if (i < n + (BAD ? 1 : 0)) x[i] = 1.0f; })
PAIR(barrier, (float* x, int n), {
  __shared__ float s[64]; s[threadIdx.x] = threadIdx.x; if (!BAD) __syncthreads(); x[threadIdx.x] = s[63 - threadIdx.x]; })
PAIR(reuse, (float* x, int n), {
  __shared__ float s[64];
  float sum = 0;
  for (int k = 0; k < 4; k++) { s[threadIdx.x] = threadIdx.x * k; __syncthreads(); sum += s[(threadIdx.x + 33) % 64]; if (!BAD) __syncthreads(); }
  x[threadIdx.x] = sum; })
PAIR(warp_sync, (float* x, int n), {
  __shared__ volatile float dummy; __shared__ float s[64];
  s[threadIdx.x] = threadIdx.x; if (!BAD) __syncwarp(); x[threadIdx.x] = s[threadIdx.x ^ 1]; })
PAIR(unwritten_shared, (float* x, int n), {
  __shared__ float s[64]; if (threadIdx.x < 64 - (BAD ? 1 : 0)) s[threadIdx.x] = 1; __syncthreads(); x[threadIdx.x] = s[63]; })
PAIR(unwritten_global, (float* x, int n), { x[threadIdx.x] = BAD ? x[threadIdx.x + 64] : 2.0f; })
PAIR(divergent_barrier, (float* x, int n), { if (!BAD || threadIdx.x < 40) __syncthreads(); x[threadIdx.x] = 1; })
PAIR(half_block, (float* x, int n), { if (!BAD || threadIdx.x < 32) __syncthreads(); x[threadIdx.x] = 1; })
PAIR(shuffle_mask, (float* x, int n), {
  float v = threadIdx.x;
  if (threadIdx.x < 48) v += __shfl_xor_sync(BAD ? 0xffffffffu : (threadIdx.x < 32 ? 0xffffffffu : 0xffffu), v, 1);
  __syncthreads(); x[threadIdx.x] = v; })
PAIR(shuffle_source, (float* x, int n), {
  float v = threadIdx.x;
  if (threadIdx.x % 32 < 16) v = __shfl_sync(0xffffu, v, BAD ? 20 : 3); x[threadIdx.x] = v; })
PAIR(block_race, (float* x, int n), { if (BAD || blockIdx.x == 0) x[threadIdx.x] = blockIdx.x; })
PAIR(block_read, (float* x, int n), { if (blockIdx.x == 0) x[threadIdx.x] = 1; else if (!BAD) x[threadIdx.x + 64] = 2; else x[threadIdx.x + 64] = x[threadIdx.x]; })
PAIR(counter, (int* x, int n), { if (BAD) x[0] = x[0] + 1; else atomicAdd(x, 1); })
PAIR(misaligned, (float* x, int n), { float4* y = (float4*)(x + (BAD ? 1 : 4)); if (threadIdx.x == 0) *y = make_float4(1, 2, 3, 4); })
PAIR(spin, (volatile int* x, int n), { if (BAD) while (x[0] == 0) {} x[1 + threadIdx.x] = 1; })
PAIR(trap, (int* x, int n), { if (BAD && threadIdx.x == 37) asm("trap;"); x[threadIdx.x] = 1; })
PAIR(local, (int* x, int n), { int a[8]; for (int i = 0; i < 8; i += (BAD ? 2 : 1)) a[(i + n) % 8] = i; x[threadIdx.x] = a[(threadIdx.x + n) % 8]; })
PAIR(last_block, (float* x, int n), {
  // Each block writes a partial result; the last to finish adds them up.
  __shared__ bool last;
  if (threadIdx.x == 0) {
    x[1 + blockIdx.x] = blockIdx.x;
    if (!BAD) __threadfence();
    last = atomicAdd((unsigned*)x + 1 + gridDim.x, 1u) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (last && threadIdx.x < gridDim.x) atomicAdd(x, x[1 + threadIdx.x]); })
PAIR(cp_async_wait, (const float* x, float* y), {
  __shared__ float s[256];
  __pipeline_memcpy_async(&s[threadIdx.x * 4], &x[threadIdx.x * 4], 16); __pipeline_commit();
  __pipeline_wait_prior(BAD ? 1 : 0); __syncthreads();
  y[threadIdx.x] = s[(threadIdx.x * 4 + 77) % 256]; })
PAIR(cp_async_barrier, (const float* x, float* y), {
  __shared__ float s[256];
  __pipeline_memcpy_async(&s[threadIdx.x * 4], &x[threadIdx.x * 4], 16); __pipeline_commit();
  __pipeline_wait_prior(0); if (!BAD) __syncthreads();
  y[threadIdx.x] = s[(threadIdx.x ^ 1) * 4]; })
PAIR(named_barrier, (float* x, int n), {
  // Warp 0 produces, warp 1 consumes, through barriers 1 (full) and 2 (empty).
  __shared__ float s[32]; float sum = 0; int lane = threadIdx.x % 32;
  for (int k = 0; k < 5; k++) {
    if (threadIdx.x < 32) { if (k > 0 && !BAD) asm volatile("bar.sync 2, 64;" ::: "memory"); s[lane] = k * lane; asm volatile("bar.arrive 1, 64;" ::: "memory"); }
    else { asm volatile("bar.sync 1, 64;" ::: "memory"); sum += s[31 - lane]; if (k < 4 && !BAD) asm volatile("bar.arrive 2, 64;" ::: "memory"); }
  }
  x[threadIdx.x] = sum; })
PAIR(half_tile, (unsigned short* x, int n), {
  // Neighbouring threads write the halves of a word, then read whole words.
  __shared__ unsigned short s[64]; s[threadIdx.x] = threadIdx.x; if (!BAD) __syncthreads();
  if (threadIdx.x < 32) ((unsigned*)x)[threadIdx.x] = ((unsigned*)s)[31 - threadIdx.x]; })
PAIR(same_value, (float* x, int n), { __shared__ int flag; if (threadIdx.x < 32) flag = BAD ? (int)threadIdx.x : 7; __syncthreads(); x[threadIdx.x] = flag; })
PAIR(order, (float* x, int n), {
  // Threads of one block hand data over through a flag in shared memory.
  __shared__ float data; __shared__ int flag;
  if (threadIdx.x == 0) flag = 0;
  __syncthreads();
  if (threadIdx.x == 0) { data = (float)clock(); if (!BAD) __threadfence_block(); atomicExch(&flag, 1); }
  if (threadIdx.x == 32) { while (atomicAdd(&flag, 0) == 0) {} __threadfence_block(); x[0] = data; } })
