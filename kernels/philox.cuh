// Philox4x32-10 (Salmon et al. 2011), as in src/sampling/philox.rs: a draw is a function of seed, call and index.
#pragma once

#include "element.cuh"

struct Draw {
    u64 first;
    u64 second;
};

__device__ __forceinline__ Draw philox(u64 seed, u64 call, u64 index) {
    unsigned counter[4] = {
        static_cast<unsigned>(index),
        static_cast<unsigned>(index >> 32),
        static_cast<unsigned>(call),
        static_cast<unsigned>(call >> 32),
    };
    unsigned key[2] = {static_cast<unsigned>(seed), static_cast<unsigned>(seed >> 32)};
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const u64 first = static_cast<u64>(0xd2511f53u) * counter[0];
        const u64 second = static_cast<u64>(0xcd9e8d57u) * counter[2];
        counter[0] = static_cast<unsigned>(second >> 32) ^ counter[1] ^ key[0];
        counter[1] = static_cast<unsigned>(second);
        counter[2] = static_cast<unsigned>(first >> 32) ^ counter[3] ^ key[1];
        counter[3] = static_cast<unsigned>(first);
        key[0] += 0x9e3779b9u;
        key[1] += 0xbb67ae85u;
    }
    return {
        counter[0] | static_cast<u64>(counter[1]) << 32,
        counter[2] | static_cast<u64>(counter[3]) << 32,
    };
}
