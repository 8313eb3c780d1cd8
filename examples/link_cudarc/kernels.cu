// What a trainer does around the loss, in its simplest form. ptx.sh compiles this to kernels.ptx.
// One thread for each element; the step counter lives on the device, so that a captured step moves on by itself.

typedef unsigned long long u64;
typedef long long i64;

__device__ u64 thread() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

// The step's pairs: `n` in a row, around the end of the data.
extern "C" __global__ void next_batch(const i64* pair_users, const i64* pair_items, u64 pairs, const u64* step, u64 n,
                                      i64* users, i64* items)
{
    u64 i = thread();
    if (i >= n) return;
    u64 pair = (*step * n + i) % pairs;
    users[i] = pair_users[pair];
    items[i] = pair_items[pair];
}

// rows[i] = table[ids[i]], rows of `dim` values.
extern "C" __global__ void gather(const float* table, const i64* ids, u64 n, u64 dim, float* rows)
{
    u64 k = thread();
    if (k < n * dim) rows[k] = table[ids[k / dim] * dim + k % dim];
}

// table[ids[i]] -= rate * gradient[i]. An id may come twice in a batch: both count, in any order, so that the last bits
// may differ from run to run.
extern "C" __global__ void update(float* table, const i64* ids, const float* gradient, u64 n, u64 dim, float rate)
{
    u64 k = thread();
    if (k < n * dim) atomicAdd(&table[ids[k / dim] * dim + k % dim], -rate * gradient[k]);
}

// Notes the step's loss and moves the counter on.
extern "C" __global__ void advance(const float* loss, float* losses, u64* step)
{
    losses[*step] = *loss;
    *step += 1;
}
