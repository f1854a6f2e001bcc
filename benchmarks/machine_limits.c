// SPDX-License-Identifier: BSD-3-Clause
// What the machine can do, to stand beside every rate: read bandwidth (huge pages where allowed) and
// multiply-add peaks, by 1, 2, 4, .. and N threads: float32, and where the CPU has them pairs of
// bfloat16 (vdpbf16ps) and fours of bytes (vpdpbusd). Prints one JSON object.
// Build: gcc -O3 -march=native -pthread machine_limits.c -o machine_limits
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { LANES = 16, CHAINS = 12, ROUNDS = 5 };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

static const size_t READ_BYTES = (size_t)512 << 20;
static const long FMA_LOOPS = 40000000;

typedef struct worker {
    pthread_barrier_t *barrier;
    const char *memory;
    double seconds;
    float sink;
} worker;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *read_memory(void *argument)
{
    worker *self = argument;
    lanes sum[4] = {0};
    pthread_barrier_wait(self->barrier);
    double begin = now();
    const lanes *vector = (const lanes *)self->memory;
    for (size_t i = 0; i < READ_BYTES / sizeof(lanes); i += 4) {
        for (int j = 0; j < 4; j++)
            sum[j] += vector[i + (size_t)j];
    }
    self->seconds = now() - begin;
    self->sink = sum[0][0] + sum[1][1] + sum[2][2] + sum[3][3];
    return NULL;
}

static void *multiply_add(void *argument)
{
    worker *self = argument;
    lanes sum[CHAINS], factor = {0}, term = {0};
#pragma GCC unroll 12
    for (int j = 0; j < CHAINS; j++)
        sum[j] = term + (float)j;  // chains that differ, or the compiler keeps only one
    factor += 0.999f;
    term += 1e-3f;
    pthread_barrier_wait(self->barrier);
    double begin = now();
    for (long i = 0; i < FMA_LOOPS; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < CHAINS; j++)
            sum[j] = sum[j] * factor + term;
    }
    self->seconds = now() - begin;
#pragma GCC unroll 12
    for (int j = 0; j < CHAINS; j++)
        self->sink += sum[j][0];
    return NULL;
}

#ifdef __AVX512BF16__
static void *dot_pairs(void *argument)
{
    worker *self = argument;
    __m512 sum[CHAINS];
    __m512bh factor = (__m512bh)_mm512_set1_epi32(0x3c003c00);
#pragma GCC unroll 12
    for (int j = 0; j < CHAINS; j++)
        sum[j] = _mm512_set1_ps((float)j);
    pthread_barrier_wait(self->barrier);
    double begin = now();
    for (long i = 0; i < FMA_LOOPS; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < CHAINS; j++)
            sum[j] = _mm512_dpbf16_ps(sum[j], factor, factor);
    }
    self->seconds = now() - begin;
#pragma GCC unroll 12
    for (int j = 0; j < CHAINS; j++)
        self->sink += _mm512_reduce_add_ps(sum[j]);
    return NULL;
}
#endif

#ifdef __AVX512VNNI__
static void *dot_bytes(void *argument)
{
    worker *self = argument;
    __m512i sum[CHAINS];
    __m512i factor = _mm512_set1_epi32(0x01020304);
#pragma GCC unroll 12
    for (int j = 0; j < CHAINS; j++)
        sum[j] = _mm512_set1_epi32(j);
    pthread_barrier_wait(self->barrier);
    double begin = now();
    for (long i = 0; i < FMA_LOOPS; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < CHAINS; j++)
            sum[j] = _mm512_dpbusd_epi32(sum[j], factor, factor);
    }
    self->seconds = now() - begin;
#pragma GCC unroll 12
    for (int j = 0; j < CHAINS; j++)
        self->sink += (float)_mm512_reduce_add_epi32(sum[j]);
    return NULL;
}
#endif

// Work of all threads divided by the slowest thread's time, the best of some rounds.
static double best_rate(int threads, void *(*work)(void *), char **memory, double each)
{
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        worker self[64];
        pthread_t id[64];
        pthread_barrier_t barrier;
        pthread_barrier_init(&barrier, NULL, (unsigned)threads);
        for (int i = 0; i < threads; i++) {
            self[i] = (worker){.barrier = &barrier, .memory = memory[i]};
            pthread_create(&id[i], NULL, work, &self[i]);
        }
        double slowest = 0;
        for (int i = 0; i < threads; i++) {
            pthread_join(id[i], NULL);
            slowest = self[i].seconds > slowest ? self[i].seconds : slowest;
        }
        pthread_barrier_destroy(&barrier);
        double rate = each * threads / slowest;
        best = rate > best ? rate : best;
    }
    return best;
}

static void print_limits(int n, char **memory)
{
    double flops = 2.0 * LANES * CHAINS * (double)FMA_LOOPS;
    printf(
        ", \"read_gb_s_%d\": %.2f, \"fma_gflop_s_%d\": %.1f", n,
        best_rate(n, read_memory, memory, (double)READ_BYTES) * 1e-9, n,
        best_rate(n, multiply_add, memory, flops) * 1e-9);
#ifdef __AVX512BF16__
    printf(", \"dpbf16_gflop_s_%d\": %.1f", n, best_rate(n, dot_pairs, memory, 2 * flops) * 1e-9);
#endif
#ifdef __AVX512VNNI__
    printf(", \"dpbusd_gop_s_%d\": %.1f", n, best_rate(n, dot_bytes, memory, 4 * flops) * 1e-9);
#endif
}

int main(void)
{
    int threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    char *memory[64];
    threads = threads > 64 ? 64 : threads;
    for (int i = 0; i < threads; i++) {
        memory[i] =
            mmap(NULL, READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory[i] == MAP_FAILED)
            return 1;
        madvise(memory[i], READ_BYTES, MADV_HUGEPAGE);
        memset(memory[i], 1, READ_BYTES);
    }
    printf("{\"threads\": %d", threads);
    for (int n = 1; n <= threads; n = n < threads && n * 2 > threads ? threads : n * 2)
        print_limits(n, memory);
    printf("}\n");
    return 0;
}
