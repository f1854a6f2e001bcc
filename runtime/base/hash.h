// SPDX-License-Identifier: BSD-3-Clause
// Hashes: a fast 64-bit one for tables, identities and wire checksums. Not for secrets.
// Source: ours (multiply-fold over 8-byte words, in the manner of wyhash; splitmix64 finaliser,
// Steele, Lea, Flood 2014). The same bytes give the same value on every little-endian machine.
#ifndef PR_RUNTIME_BASE_HASH_H
#define PR_RUNTIME_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t pr_hash_bytes(uint64_t seed, const void *data, size_t size_bytes);

// splitmix64's output function: a bijection that mixes all bits.
static inline uint64_t pr_hash_mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

#endif
