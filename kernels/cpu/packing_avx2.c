// SPDX-License-Identifier: BSD-3-Clause
// Packing of float weights: a transposition of 16 rows, a cache line of each at a time, in blocks of 8 x 8.
// Rows are often a power of two apart and fall into the same few sets of the cache, so a line is used to
// its end once it is there.
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/cpu_kernels.h"

enum { LINE = 64, AHEAD_BYTES = 512 };

// 8 rows of 8 elements of 2 bytes become 8 columns, `step` bytes apart.
static inline void transpose_2(const char *from, size_t stride_bytes, char *to, size_t step)
{
    __m128i row[8], pair[8], quad[8];
    for (size_t i = 0; i < 8; i++)
        row[i] = _mm_loadu_si128((const __m128i *)(const void *)(from + i * stride_bytes));
    for (int i = 0; i < 4; i++) {
        pair[2 * i] = _mm_unpacklo_epi16(row[2 * i], row[2 * i + 1]);      // columns 0..3
        pair[2 * i + 1] = _mm_unpackhi_epi16(row[2 * i], row[2 * i + 1]);  // columns 4..7
    }
    for (int i = 0; i < 2; i++) {  // of rows 4i..4i+3: columns 0-1, 2-3, 4-5, 6-7
        quad[4 * i] = _mm_unpacklo_epi32(pair[4 * i], pair[4 * i + 2]);
        quad[4 * i + 1] = _mm_unpackhi_epi32(pair[4 * i], pair[4 * i + 2]);
        quad[4 * i + 2] = _mm_unpacklo_epi32(pair[4 * i + 1], pair[4 * i + 3]);
        quad[4 * i + 3] = _mm_unpackhi_epi32(pair[4 * i + 1], pair[4 * i + 3]);
    }
    for (size_t i = 0; i < 4; i++) {
        __m128i *even = (__m128i *)(void *)(to + 2 * i * step);
        __m128i *odd = (__m128i *)(void *)(to + (2 * i + 1) * step);
        _mm_store_si128(even, _mm_unpacklo_epi64(quad[i], quad[i + 4]));
        _mm_store_si128(odd, _mm_unpackhi_epi64(quad[i], quad[i + 4]));
    }
}

// The same for 8 rows of 8 elements of 4 bytes, or of 8 pairs of bfloat16 whose denormals become zero.
static inline void
transpose_4(const char *from, size_t stride_bytes, bool flush, char *to, size_t step)
{
    __m256i row[8], pair[8], quad[8];
    for (size_t i = 0; i < 8; i++) {
        row[i] = _mm256_loadu_si256((const __m256i *)(const void *)(from + i * stride_bytes));
        if (flush) {
            __m256i exponent = _mm256_and_si256(row[i], _mm256_set1_epi16(0x7f80));
            __m256i tiny = _mm256_cmpeq_epi16(exponent, _mm256_setzero_si256());
            __m256i lost = _mm256_and_si256(tiny, _mm256_set1_epi16(0x7fff));
            row[i] = _mm256_andnot_si256(lost, row[i]);
        }
    }
    for (int i = 0; i < 4; i++) {
        pair[2 * i] = _mm256_unpacklo_epi32(row[2 * i], row[2 * i + 1]);      // 0 1 | 4 5
        pair[2 * i + 1] = _mm256_unpackhi_epi32(row[2 * i], row[2 * i + 1]);  // 2 3 | 6 7
    }
    for (int i = 0; i < 2; i++) {  // of rows 4i..4i+3: columns 0 | 4, 1 | 5, 2 | 6, 3 | 7
        quad[4 * i] = _mm256_unpacklo_epi64(pair[4 * i], pair[4 * i + 2]);
        quad[4 * i + 1] = _mm256_unpackhi_epi64(pair[4 * i], pair[4 * i + 2]);
        quad[4 * i + 2] = _mm256_unpacklo_epi64(pair[4 * i + 1], pair[4 * i + 3]);
        quad[4 * i + 3] = _mm256_unpackhi_epi64(pair[4 * i + 1], pair[4 * i + 3]);
    }
    for (size_t i = 0; i < 4; i++) {
        __m256i *low = (__m256i *)(void *)(to + i * step);
        __m256i *high = (__m256i *)(void *)(to + (i + 4) * step);
        _mm256_store_si256(low, _mm256_permute2x128_si256(quad[i], quad[i + 4], 0x20));
        _mm256_store_si256(high, _mm256_permute2x128_si256(quad[i], quad[i + 4], 0x31));
    }
}

// Whole lines of 16 rows, units of `unit` bytes; returns how many bytes of each row are packed.
__attribute__((always_inline)) static inline size_t pack_lines(
    const char *stored,
    size_t stride_bytes,
    size_t row_bytes,
    size_t unit,
    bool flush,
    char *packed)
{
    size_t step = PR_PANEL * unit, done = 0;
    for (; done + LINE <= row_bytes; done += LINE) {
        for (size_t half = 0; half < 2; half++) {
            const char *rows = stored + done + half * 8 * stride_bytes;
            char *lanes = packed + done * PR_PANEL + half * 8 * unit;
            for (size_t i = 0; i < 8; i++)
                _mm_prefetch(rows + i * stride_bytes + AHEAD_BYTES, _MM_HINT_T0);
            for (size_t at = 0; at < LINE; at += 8 * unit) {
                if (unit == 2)
                    transpose_2(rows + at, stride_bytes, lanes + at * PR_PANEL, step);
                else
                    transpose_4(rows + at, stride_bytes, flush, lanes + at * PR_PANEL, step);
            }
        }
    }
    return done;
}

void pr_pack_f32_avx2(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed)
{
    size_t done = 0;
    if (rows == PR_PANEL && source->dtype == PR_F32)
        done = pack_lines(stored, (size_t)source->stride * 4, (size_t)cols * 4, 4, false, packed);
    pr_pack_f32_reference(
        source, stored + done, rows, cols - (int64_t)(done / 4), packed + done * PR_PANEL);
}

void pr_pack_bf16_avx2(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed)
{
    size_t done = 0;
    if (rows == PR_PANEL)
        done = pack_lines(stored, (size_t)source->stride * 2, (size_t)cols * 2, 4, true, packed);
    pr_pack_bf16_reference(
        source, stored + done, rows, cols - (int64_t)(done / 2), packed + done * PR_PANEL);
}

void pr_pack_f16_avx2(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed)
{
    size_t done = 0;
    if (rows == PR_PANEL)
        done = pack_lines(stored, (size_t)source->stride * 2, (size_t)cols * 2, 2, false, packed);
    pr_pack_f16_reference(
        source, stored + done, rows, cols - (int64_t)(done / 2), packed + done * PR_PANEL);
}
