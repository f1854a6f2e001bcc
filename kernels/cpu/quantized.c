// SPDX-License-Identifier: BSD-3-Clause
// Quantises weights while they are packed: sixteen outputs side by side as four vectors of four, which
// every CPU has, so that every instruction set multiplies by the same weights.
#include "kernels/cpu/quantized.h"

#include <float.h>

#include "runtime/base/dtype.h"

typedef float four __attribute__((vector_size(16)));
typedef int32_t four_bits __attribute__((vector_size(16)));

enum { FOURS = PR_PANEL / 4 };

typedef struct lanes {
    four part[FOURS];
} lanes;

static inline four all(float x) { return (four){x, x, x, x}; }

// Adding and taking away 1.5 * 2^23 rounds to an integer, ties to even, if |x| < 2^22.
static inline four round_even(four x) { return (x + all(0x1.8p23f)) - all(0x1.8p23f); }

// Only bits: comparisons give all ones or zeros.
static inline four choose(four_bits which, four a, four b)
{
    return (four)(((four_bits)a & which) | ((four_bits)b & ~which));
}

static inline four magnitude(four x)
{
    return (four)((four_bits)x & (0x7fffffff - (four_bits){0}));
}

// ---- Widening --------------------------------------------------------------------------------

// An exponent of 31 (infinity, NaN) becomes 255; the others move by multiplication, subnormal or not.
static inline four widen_f16(four_bits half)
{
    four_bits sign = (half & 0x8000) << 16, rest = (half & 0x7fff) << 13;
    four finite = (four)rest * all(0x1p112f);
    four value = choose(rest >= 0x0f800000, (four)(rest | 0x70000000), finite);
    return (four)((four_bits)value | sign);
}

// Elements at..at+3 of a stored array.
static inline four load_four(pr_dtype dtype, const char *stored, size_t at)
{
    typedef uint16_t four_halves __attribute__((vector_size(8)));
    four value;
    four_halves halves;
    if (dtype == PR_F32) {
        memcpy(&value, stored + 4 * at, sizeof value);
        return value;
    }
    memcpy(&halves, stored + 2 * at, sizeof halves);
    four_bits bits = __builtin_convertvector(halves, four_bits);
    return dtype == PR_BF16 ? (four)(bits << 16) : widen_f16(bits);
}

// Four columns of four outputs to part `part` of four lanes.
static inline void transpose(const four row[4], int part, lanes *w)
{
    four low01 = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
    four low23 = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
    four high01 = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
    four high23 = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
    w[0].part[part] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
    w[1].part[part] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
    w[2].part[part] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
    w[3].part[part] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
}

// What a block is made of: columns of up to 16 rows, row_bytes apart.
typedef struct stored_block {
    const char *first;
    int64_t rows;
    size_t row_bytes;
    int32_t columns;
} stored_block;

static inline void widen_as(pr_dtype dtype, const stored_block *from, lanes *w)
{
    int32_t fours = from->columns / 4 * 4;
    for (int part = 0; part < FOURS; part++) {
        for (int32_t k = 0; k < fours; k += 4) {
            four row[4];
            for (int i = 0; i < 4; i++) {
                int64_t lane = 4 * part + i;
                const char *at = from->first + (size_t)lane * from->row_bytes;
                row[i] = lane < from->rows ? load_four(dtype, at, (size_t)k) : all(0.0f);
            }
            transpose(row, part, w + k);
        }
    }
    for (int32_t k = fours; k < from->columns; k++) {
        for (int64_t lane = 0; lane < from->rows; lane++) {
            const char *at = from->first + (size_t)lane * from->row_bytes;
            w[k].part[lane / 4][lane % 4] = pr_dtype_load(dtype, at, (size_t)k);
        }
    }
}

// As [block][lane], zeros beyond the rows and the columns.
static void widen(pr_dtype dtype, const stored_block *from, int32_t block, lanes *w)
{
    if (from->columns < block)
        memset(w, 0, (size_t)block * sizeof *w);
    if (dtype == PR_BF16)
        widen_as(PR_BF16, from, w);
    else if (dtype == PR_F16)
        widen_as(PR_F16, from, w);
    else
        widen_as(PR_F32, from, w);
}

// ---- Scales and rounding ---------------------------------------------------------------------

// The weight of largest magnitude of each lane, with its sign; of equal ones the first. Magnitudes have
// the order of their bits, so that a NaN counts as largest.
static void find_extreme(const lanes *w, int32_t block, lanes *extreme)
{
    for (int i = 0; i < FOURS; i++) {
        four most = all(0.0f);
        for (int32_t k = 0; k < block; k++) {
            four x = w[k].part[i];
            most = choose((four_bits)magnitude(x) > (four_bits)magnitude(most), x, most);
        }
        extreme->part[i] = most;
    }
}

// Rounds the scales to what is stored, and gives their inverses. A NaN or an infinity among the weights
// makes the scale a NaN.
static void store_scales(const lanes *scale, const lanes *extreme, uint8_t *packed, lanes *inverse)
{
    for (int lane = 0; lane < PR_PANEL; lane++) {
        float exact = scale->part[lane / 4][lane % 4], most = extreme->part[lane / 4][lane % 4];
        uint16_t bits = pr_f32_to_bf16(isfinite(most) ? exact : NAN);
        float rounded = pr_bf16_to_f32(bits);
        if (fabsf(rounded) < FLT_MIN)
            bits = 0;
        inverse->part[lane / 4][lane % 4] = fabsf(rounded) >= FLT_MIN ? 1.0f / rounded : 0.0f;
        memcpy(packed + 2 * lane, &bits, 2);
    }
}

// How one kind rounds: to least..most, stored with the offset added.
typedef struct range {
    float least, most;
    int32_t offset;
} range;

// Rounds `quads` quads of columns and stores them as 16 words: a byte for each column of a quad, the
// second quad in the upper halves of the bytes. x86 and ARM begin with the low byte.
static inline void
store_quads(const lanes *w, int quads, const lanes *inverse, range to, uint8_t *packed)
{
    for (int i = 0; i < FOURS; i++) {
        four_bits words = {0};
        for (int k = 0; k < quads * PR_QUAD; k++) {
            four q = round_even(w[k].part[i] * inverse->part[i]);
            q = choose(q > all(to.least), q, all(to.least));  // a NaN becomes that
            q = choose(q < all(to.most), q, all(to.most));
            four_bits stored = __builtin_convertvector(q, four_bits) + to.offset;
            words |= stored << (k % PR_QUAD * 8 + k / PR_QUAD * 4);
        }
        memcpy(packed + i * sizeof words, &words, sizeof words);
    }
}

// ---- int8 ------------------------------------------------------------------------------------

static void pack_int8_block(const lanes *w, uint8_t *packed)
{
    static const range bytes = {-127.0f, 127.0f, 128};
    lanes extreme, scale, inverse;
    find_extreme(w, PR_INT8_BLOCK, &extreme);
    for (int i = 0; i < FOURS; i++)
        scale.part[i] = magnitude(extreme.part[i]) / all(127.0f);
    store_scales(&scale, &extreme, packed + pr_quantized_weight_bytes(PR_PACKED_INT8), &inverse);
    for (int32_t k = 0; k < PR_INT8_BLOCK; k += PR_QUAD)
        store_quads(w + k, 1, &inverse, bytes, packed + k * PR_PANEL);
}

// ---- int4 ------------------------------------------------------------------------------------

// Quantises with the extreme at `at`, -8.5 <= at < 0, so that none is above 8, and keeps the
// least-squares scale of that if it is nearer. With that scale, sum wq / sum qq, the squared error is
// sum ww - (sum wq)^2 / sum qq.
static void
try_extreme_at(const lanes *w, const lanes *extreme, float at, lanes *best, lanes *scale)
{
    for (int i = 0; i < FOURS; i++) {
        four inverse = all(at) / extreme->part[i], wq = all(0.0f), qq = all(0.0f);
        for (int32_t k = 0; k < PR_INT4_BLOCK; k++) {
            four q = round_even(w[k].part[i] * inverse);
            q -= choose(q > all(7.0f), all(1.0f), all(0.0f));
            wq += w[k].part[i] * q;
            qq += q * q;
        }
        four gain = wq * wq / qq;
        four_bits better = gain > best->part[i];
        best->part[i] = choose(better, gain, best->part[i]);
        scale->part[i] = choose(better, wq / qq, scale->part[i]);
    }
}

static void pack_int4_block(const lanes *w, uint8_t *packed)
{
    static const float places[] = {-8.0f, -7.0f, -8.5f};
    static const range nibbles = {-8.0f, 7.0f, 8};
    lanes extreme, best = {0}, scale = {0}, inverse;
    find_extreme(w, PR_INT4_BLOCK, &extreme);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        try_extreme_at(w, &extreme, places[i], &best, &scale);
    store_scales(&scale, &extreme, packed + pr_quantized_weight_bytes(PR_PACKED_INT4), &inverse);
    for (int32_t k = 0; k < PR_INT4_BLOCK; k += 2 * PR_QUAD)
        store_quads(w + k, 2, &inverse, nibbles, packed + k / 2 * PR_PANEL);
}

// ---- Slices ----------------------------------------------------------------------------------

static inline void pack_slice(
    const pr_matrix_source *source,
    const char *stored,
    int64_t rows,
    int64_t cols,
    pr_packing packing,
    char *packed)
{
    lanes w[PR_WIDEST_BLOCK];
    int32_t block = pr_quantized_block(packing);
    size_t element = pr_dtype_bytes(source->dtype);
    for (int64_t k = 0; k < cols; k += block) {
        const stored_block from = {
            .first = stored + (size_t)k * element,
            .rows = rows,
            .row_bytes = (size_t)source->stride * element,
            .columns = cols - k < block ? (int32_t)(cols - k) : block,
        };
        widen(source->dtype, &from, block, w);
        if (packing == PR_PACKED_INT8)
            pack_int8_block(w, (uint8_t *)packed);
        else
            pack_int4_block(w, (uint8_t *)packed);
        packed += pr_quantized_block_bytes(packing);
    }
}

void pr_quantized_pack_int8(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed)
{
    pack_slice(source, stored, rows, cols, PR_PACKED_INT8, packed);
}

void pr_quantized_pack_int4(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed)
{
    pack_slice(source, stored, rows, cols, PR_PACKED_INT4, packed);
}
