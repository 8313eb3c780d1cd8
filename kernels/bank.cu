// The memory bank's push. Positions come from counters in device memory, so that a captured graph can be replayed
// past the ring's wrap-around.
// target: compute_75
#include "arguments.cuh"

constexpr int WARPS = 8; // items of a block, one warp each
constexpr int BLOCK = WARPS * WARP;

// The items that stay go to the slots from `head` on, in their order. Of a push above the capacity only the newest
// stay, so no slot is written twice.
template <typename T>
__device__ __forceinline__ void bank_push(const BankPushArguments& a) {
    const int lane = threadIdx.x % WARP;
    const u64 kept = a.count < a.capacity ? a.count : a.capacity;
    const u64 index = static_cast<u64>(blockIdx.x) * WARPS + threadIdx.x / WARP;
    if (index >= kept) {
        return;
    }
    const u64 item = a.count - kept + index;
    const BankState state = *a.state;
    const u64 slot = (state.head + index) % a.capacity;
    const T* source = static_cast<const T*>(a.embeddings) + item * a.dim;
    T* target = static_cast<T*>(a.ring) + slot * a.dim;
#pragma unroll 1
    for (int d = lane; d < a.dim; d += WARP) {
        target[d] = source[d];
    }
    if (lane != 0) {
        return;
    }
    a.entered[slot] = state.step;
    if (a.ring_log_q != nullptr) {
        a.ring_log_q[slot] = a.log_q[item];
    }
    if (a.ring_item_ids != nullptr) {
        a.ring_item_ids[slot] = a.item_ids[item];
    }
}

// Moves the counters on. A launch of its own: every block of the push reads the old ones.
extern "C" __global__ void bank_advance(const BankPushArguments a) {
    const u64 kept = a.count < a.capacity ? a.count : a.capacity;
    const BankState old = *a.state;
    const u64 length = old.length + kept;
    a.state->head = (old.head + kept) % a.capacity;
    a.state->length = length < a.capacity ? length : a.capacity;
    a.state->step = old.step + 1;
}

#define BANK_KERNEL(suffix, T)                                                                                       \
    extern "C" __global__ void __launch_bounds__(BLOCK) bank_push_##suffix(const BankPushArguments a) {              \
        bank_push<T>(a);                                                                                             \
    }

BANK_KERNEL(f32, float)
BANK_KERNEL(f16, f16)
BANK_KERNEL(bf16, bf16)
