// SPDX-License-Identifier: BSD-3-Clause
// What the kernel tests share: every CPU device of this machine, reproducible numbers, and guarded
// arrays that show a write beyond their end.
#ifndef PR_TESTS_KERNEL_DEVICES_H
#define PR_TESTS_KERNEL_DEVICES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"
#include "runtime/base/log.h"

enum { MAX_DEVICES = 5, GUARD = 64, RESERVED_ROWS = 256, RESERVED_COLS = 512 };

// device[0] is the reference; the last one has threads.
typedef struct devices {
    int count;
    pr_device *device[MAX_DEVICES];
} devices;

static inline devices open_devices(void)
{
    static const pr_cpu_device_params wanted[MAX_DEVICES] = {
        {.isa = "reference", .threads = 1}, {.isa = "avx2", .threads = 1},
        {.isa = "avx512", .threads = 1},    {.isa = "avx512bf16", .threads = 1},
        {.isa = "auto", .threads = 3},
    };
    devices all = {0};
    pr_error_capture_begin();
    for (int i = 0; i < MAX_DEVICES; i++) {
        pr_device **device = &all.device[all.count];
        if (pr_cpu_device_open(&wanted[i], device) != PR_OK)
            continue;
        assert_int_equal((*device)->reserve(*device, RESERVED_ROWS, RESERVED_COLS, 16), PR_OK);
        all.count++;
    }
    pr_error_capture_end();
    assert_true(all.count >= 2);
    assert_string_equal(all.device[0]->isa, "reference");
    return all;
}

static inline void close_devices(const devices *all)
{
    for (int i = 0; i < all->count; i++)
        pr_cpu_device_close(all->device[i]);
}

// Uniform in [-1, 1), many mantissa bits in use, so that a wrong order of addition shows.
static inline float random_float(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 11) * 0x1p-52 - 1.0);
}

static inline float *random_floats(size_t n, uint64_t seed)
{
    float *x = malloc((n + GUARD) * sizeof(float));
    assert_non_null(x);
    for (size_t i = 0; i < n + GUARD; i++)
        x[i] = random_float(&seed);
    return x;
}

// n results and a guard behind them.
static inline float *guarded_floats(size_t n)
{
    float *x = malloc((n + GUARD) * sizeof(float));
    assert_non_null(x);
    memset(x, 0xa5, (n + GUARD) * sizeof(float));
    return x;
}

static inline void assert_same_bits(const float *a, const float *b, size_t n)
{
    assert_memory_equal(a, b, (n + GUARD) * sizeof(float));
}

#endif
