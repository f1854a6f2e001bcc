// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/base/hash.h"

#include <string.h>

static uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t pr_hash_bytes(uint64_t seed, const void *data, size_t size_bytes)
{
    const unsigned char *byte = data;
    uint64_t state = pr_hash_mix(seed + 0x9e3779b97f4a7c15u) ^ size_bytes;
    size_t left = size_bytes;
    for (; left >= 16; left -= 16, byte += 16) {
        uint64_t low, high;
        memcpy(&low, byte, 8);
        memcpy(&high, byte + 8, 8);
        state = fold(low ^ 0xa0761d6478bd642fu ^ state, high ^ 0xe7037ed1a0b428dbu) + state;
    }
    uint64_t tail[2] = {0, 0};
    memcpy(tail, byte, left);
    state = fold(tail[0] ^ 0x8ebc6af09c88c6e3u ^ state, tail[1] ^ 0x589965cc75374cc3u) + state;
    return pr_hash_mix(state);
}
