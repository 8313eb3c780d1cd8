extern "C" __global__ void __launch_bounds__(256) gemm(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int n) {
  __shared__ float as[16][64+4]; __shared__ float bs[16][64+4];
  int t = threadIdx.x, tx = t % 16, ty = t / 16;
  int row0 = blockIdx.y * 64, col0 = blockIdx.x * 64;
  float acc[4][4] = {};
  for (int k0 = 0; k0 < n; k0 += 16) {
    for (int i = t; i < 1024; i += 256) { int r = i / 16, k = i % 16; as[k][r] = a[(size_t)(row0 + r) * n + k0 + k]; }
    for (int i = t; i < 1024; i += 256) { int r = i % 64, k = i / 64; bs[k][r] = b[(size_t)(k0 + k) * n + col0 + r]; }
    __syncthreads();
    #pragma unroll
    for (int k = 0; k < 16; k++) {
      float4 x = *(float4*)&as[k][ty*4]; float4 y = *(float4*)&bs[k][tx*4];
      float xs[4]={x.x,x.y,x.z,x.w}, ys[4]={y.x,y.y,y.z,y.w};
      #pragma unroll
      for (int i=0;i<4;i++)
        #pragma unroll
        for (int j=0;j<4;j++) acc[i][j] = fmaf(xs[i], ys[j], acc[i][j]);
    }
    __syncthreads();
  }
  for (int i=0;i<4;i++) for (int j=0;j<4;j++) c[(size_t)(row0+ty*4+i)*n + col0+tx*4+j] = acc[i][j];
}
extern "C" __global__ void softmax(const float* x, float* y, int n) {
  __shared__ float red[32];
  int t = threadIdx.x; const float* row = x + (size_t)blockIdx.x * n;
  float m = -INFINITY;
  for (int i = t; i < n; i += blockDim.x) m = fmaxf(m, row[i]);
  for (int o = 16; o; o >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, o));
  if ((t & 31) == 0) red[t >> 5] = m;
  int any = __syncthreads_or(m > 1e30f);
  m = -INFINITY;
  for (int i = 0; i < blockDim.x / 32; i++) m = fmaxf(m, red[i]);
  float s = 0;
  for (int i = t; i < n; i += blockDim.x) s += expf(row[i] - m);
  for (int o = 16; o; o >>= 1) s += __shfl_down_sync(~0u, s, o);
  __syncthreads();
  if ((t & 31) == 0) red[t >> 5] = s;
  __syncthreads();
  s = 0;
  for (int i = 0; i < blockDim.x / 32; i++) s += red[i];
  for (int i = t; i < n; i += blockDim.x) y[(size_t)blockIdx.x * n + i] = expf(row[i] - m) / s + any + logf(1.0f) * sinf(row[i]);
}
extern "C" __global__ void collatz(const unsigned* x, unsigned* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n) return;
  unsigned long long v = x[i]; unsigned c = 0;
  while (v != 1) { if (v & 1) v = 3*v+1; else v >>= 1; c++; }
  y[i] = c;
  atomicAdd(y + n, c);
  atomicMax((int*)y + n + 1, (int)c);
}
