// One kernel per group of instructions; each writes what the test compares with plain Rust.
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <mma.h>
#include <cuda_pipeline.h>
typedef unsigned u32; typedef unsigned long long u64;

__device__ __noinline__ u32 collatz_steps(u64 v) { u32 c = 0; while (v != 1) { v = v & 1 ? 3 * v + 1 : v >> 1; c++; } return c; }
__device__ __noinline__ u32 twice(u32 v, u32 depth) { return depth & 1 ? collatz_steps(v + 1) * 2 : v * 2; }
extern "C" __global__ void calls(u32* y) { u32 t = threadIdx.x; y[t] = t % 3 ? twice(t, t) : collatz_steps(t + 5); }

extern "C" __global__ void cases(u32* y) {
  u32 t = threadIdx.x, r = 0;
  switch (t % 9) { case 0: r = t * 3; break; case 1: r = t + 100; break; case 2: r = t ^ 0x55; break; case 3: r = t << 4; break;
    case 4: r = ~t; break; case 5: r = t * t; break; case 6: r = t - 7; break; case 7: r = t | 0x1000; break; default: r = 1; }
  y[t] = r;
}

extern "C" __global__ void warp_operations(u32* y, const u32* x) {
  u32 t = threadIdx.x, v = x[t], *o = y + t * 20;
  o[0] = __shfl_up_sync(~0u, v, 3); o[1] = __shfl_down_sync(~0u, v, 5); o[2] = __shfl_xor_sync(~0u, v, 9); o[3] = __shfl_sync(~0u, v, t * 7);
  o[4] = __shfl_up_sync(~0u, v, 2, 8); o[5] = __shfl_down_sync(~0u, v, 3, 16); o[6] = __shfl_sync(~0u, v, t + 3, 4);
  o[7] = __ballot_sync(~0u, v & 1); o[8] = __all_sync(~0u, v < 1000); o[9] = __any_sync(~0u, v == x[5]);
  o[10] = __match_any_sync(~0u, v % 5); int p; o[11] = __match_all_sync(~0u, v % 5, &p); o[12] = p;
  o[13] = __reduce_add_sync(~0u, v); o[14] = __reduce_min_sync(~0u, (int)v - 500); o[15] = __reduce_max_sync(~0u, v); o[16] = __reduce_xor_sync(~0u, v);
  o[17] = __activemask(); o[18] = 0;
  if (t % 2) o[18] = __shfl_sync(0xaaaaaaaau, v, (t + 2) % 32);
  o[19] = __syncthreads_count(v & 1) * 4 + (__syncthreads_and(v < 1000) != 0) * 2 + (__syncthreads_or(v == 3) != 0);
}

extern "C" __global__ void atomics(u32* g, u64* w, float* f, double* d, __half2* h) {
  __shared__ u32 s[12]; u32 t = threadIdx.x + blockIdx.x * blockDim.x;
  if (threadIdx.x < 12) s[threadIdx.x] = threadIdx.x == 1 || threadIdx.x == 5 ? ~0u : 0;
  __syncthreads();
  u32* a[2] = {s, g};
  for (int k = 0; k < 2; k++) {
    atomicAdd(a[k] + 0, t); atomicMin(a[k] + 1, t ^ 37); atomicMax(a[k] + 2, t ^ 37); atomicMin((int*)a[k] + 3, (int)t - 99); atomicMax((int*)a[k] + 4, 5 - (int)t);
    atomicAnd(a[k] + 5, ~(1u << (t % 32))); atomicOr(a[k] + 6, 1u << (t % 29)); atomicXor(a[k] + 7, t * 77);
    atomicInc(a[k] + 8, 6); atomicDec(a[k] + 9, 6); atomicExch(a[k] + 10, 4711);
    u32 old = 0, seen; while ((seen = atomicCAS(a[k] + 11, old, old + 3)) != old) old = seen;
  }
  __syncthreads();
  if (threadIdx.x < 12) g[12 + blockIdx.x * 12 + threadIdx.x] = s[threadIdx.x];
  atomicAdd(w, (u64)t << 33); atomicMax(w + 1, (u64)t << 40); atomicExch(w + 2, 1ull << 50);
  atomicAdd(f, 1.5f); atomicAdd(d, 0.25); atomicAdd(h, __floats2half2_rn(1.0f, 2.0f));
}

extern "C" __global__ void vectors(const float4* x, float4* y, const uchar4* b, uchar4* c, const double2* d, double2* e) {
  u32 t = threadIdx.x; float4 v = x[t]; y[t] = make_float4(v.w, v.z, v.y, v.x);
  uchar4 u = b[t]; c[t] = make_uchar4(u.y, u.x, u.w, u.z); double2 q = d[t]; e[t] = make_double2(q.y * 2, q.x - 1);
}

extern "C" __global__ void halves(const float* x, float* y) {
  u32 t = threadIdx.x; float a = x[t], b = x[t + 32]; __half2 h = __floats2half2_rn(a, b); h = __hfma2(h, h, h);
  __nv_bfloat162 c = __floats2bfloat162_rn(a, b); c = __hmul2(c, c);
  y[t * 6] = __low2float(h); y[t * 6 + 1] = __high2float(h); y[t * 6 + 2] = __low2float(c); y[t * 6 + 3] = __high2float(c);
  y[t * 6 + 4] = __half2float(__hadd(__float2half(a), __float2half(b))); y[t * 6 + 5] = __half2float(hexp2(__float2half(a)));
}

extern "C" __global__ void tile_copy(const float* x, float* y, int n) {
  extern __shared__ __align__(16) float ring[];
  u32 t = threadIdx.x; float sum = 0;
  auto fetch = [&](int k) {
    u32 dst = (u32)__cvta_generic_to_shared(ring + (k % 3) * 256 + t * 4); int bytes = k * 256 + (int)t * 4 < n ? min(16, (n - (k * 256 + (int)t * 4)) * 4) : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(dst), "l"(x + (bytes ? k * 256 + t * 4 : 0)), "r"(bytes));
  };
  fetch(0); __pipeline_commit(); fetch(1); __pipeline_commit();
  for (int k = 0; k < 8; k++) {
    __pipeline_wait_prior(1); __syncthreads();
    if (k + 2 < 8) fetch(k + 2);
    __pipeline_commit();
    for (int j = 0; j < 4; j++) sum += ring[(k % 3) * 256 + (t * 4 + j + 36) % 256] * (k + 1);
  }
  y[t] = sum;
}

extern "C" __global__ void matrices(const __half* a, const __half* b, float* c, __half* out) {
  // C (16 x 8) = A (16 x 16) B (16 x 8), with fragments by ldmatrix; the result goes out as halves by stmatrix's layout.
  __shared__ __align__(16) __half as[16 * 16], bs[16 * 8];
  u32 t = threadIdx.x;
  for (int i = t; i < 256; i += 32) as[i] = a[i];
  for (int i = t; i < 128; i += 32) bs[i] = b[i];
  __syncwarp();
  u32 ra[4], rb[2]; u32 pa = __cvta_generic_to_shared(as + (t % 16) * 16 + (t / 16) * 8), pb = __cvta_generic_to_shared(bs + (t % 16) * 8);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(ra[0]), "=r"(ra[1]), "=r"(ra[2]), "=r"(ra[3]) : "r"(pa));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(rb[0]), "=r"(rb[1]) : "r"(pb));
  float d[4] = {1, 2, 3, 4};
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(ra[0]), "r"(ra[1]), "r"(ra[2]), "r"(ra[3]), "r"(rb[0]), "r"(rb[1]));
  for (int k = 0; k < 4; k++) c[(t / 4 + k / 2 * 8) * 8 + t % 4 * 2 + k % 2] = d[k];
}

extern "C" __global__ void spaces(const u32* x, u32* y) {
  __shared__ u32 s[64]; u32 local[4]; u32 t = threadIdx.x;
  for (int k = 0; k < 4; k++) local[(k + t) % 4] = x[t] + k;
  s[t] = x[t] * 2;
  __syncthreads();
  // One generic load whose lanes lie in three spaces.
  const u32* p = t % 3 == 0 ? &s[(t + 1) % 64] : t % 3 == 1 ? &local[t % 4] : &x[t / 2];
  u32 wide = (u32)__isShared(p) + 2 * (u32)__isLocal(p) + 4 * (u32)__isGlobal(p);
  y[t] = *(volatile u32*)p * 8 + wide;
}
__device__ u32 table[4] = {11, 22, 33, 44}; __constant__ float scale[2] = {0.5f, 3.0f};
struct Big { u32 a[5]; double d; };
extern "C" __global__ void variables(u32* y, float* z, const Big big) { u32 t = threadIdx.x; y[t] = table[t % 4] + big.a[t % 5]; z[t] = scale[t % 2] * (float)big.d; __syncthreads(); if (t == 0) table[1] = 5; }
// Lanes of one warp take a lock in turn: those that spin must not starve the one that holds it.
extern "C" __global__ void lock(u32* y) { for (bool done = false; !done;) { if (atomicCAS(y, 0u, 1u) == 0) { *(volatile u32*)(y + 1) += 1; __threadfence(); atomicExch(y, 0u); done = true; } } }
