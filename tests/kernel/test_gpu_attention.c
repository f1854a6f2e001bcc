// SPDX-License-Identifier: BSD-3-Clause
// Paged attention of a GPU. What q, K and V hold follows from the sequence's seed and the position, so a row can be computed
// alone, with others, in any chunk and from any pages, and must come out with the same bits.
#include "devices.h"
#include "gpu_under_test.h"

#include <math.h>

#include "runtime/base/dtype.h"
#include "runtime/base/elementary.h"

enum { MOST_SEQUENCES = 160, MOST_BLOCKS = 1024, PAGES_SPARE = 3, MOST_HEAD = 256 };
enum { PART = PR_GPU_ATTENTION_PART };

typedef struct shape {
    int32_t query_heads, kv_heads, head_size, block_tokens;
    bool bf16;
} shape;

// Rows at positions start.. of the sequence `seed`; what is before them is in the pages.
typedef struct sequence {
    int32_t seed, start, rows;
} sequence;

static const float SCALE = 0.31f;

// Element i of a row of q, K or V (stream 0, 1, 2), in [-1, 1).
static float content(int32_t seed, int32_t stream, int32_t position, int64_t i)
{
    uint64_t state = (uint64_t)seed * 1000003u + (uint64_t)stream * 7919u;
    state = (state + (uint64_t)position * 2654435761u) * 6364136223846793005u + (uint64_t)i;
    state ^= state >> 29;
    (void)random_float(&state);
    return random_float(&state);
}

// As the pages hold it.
static float stored(const shape *s, const sequence *of, int32_t stream, int32_t position, int64_t i)
{
    float x = content(of->seed, stream, position, i);
    return s->bf16 ? pr_bf16_to_f32(pr_f32_to_bf16(x)) : x;
}

static size_t row_floats(const shape *s) { return (size_t)(s->query_heads * s->head_size); }

// ---- A step on a GPU ----

typedef struct step {
    const shape *shape;
    const sequence *sequence;
    int32_t sequences, tokens, blocks, most_positions, most_rows;
    pr_gpu_segment segment[MOST_SEQUENCES];
    int32_t *segment_of, *position;
    int32_t table[MOST_BLOCKS];
    float *q;
    char *k_pages, *v_pages;  // unwritten places hold NaN
    size_t page_bytes, pages_bytes;
} step;

static void write_pages(step *of, int32_t number, int32_t first_block)
{
    const shape *s = of->shape;
    const sequence *seq = &of->sequence[number];
    int32_t d = s->head_size, b = s->block_tokens;
    for (int32_t p = 0; p < seq->start + seq->rows; p++) {
        for (int32_t head = 0; head < s->kv_heads; head++) {
            size_t row = (size_t)of->table[first_block + p / b] * (size_t)s->kv_heads;
            size_t at = ((row + (size_t)head) * (size_t)b + (size_t)(p % b)) * (size_t)d;
            for (int32_t e = 0; e < d; e++, at++) {
                pr_dtype dtype = s->bf16 ? PR_BF16 : PR_F32;
                float k = stored(s, seq, 1, p, head * d + e),
                      v = stored(s, seq, 2, p, head * d + e);
                if (dtype == PR_F32) {
                    ((float *)(void *)of->k_pages)[at] = k;
                    ((float *)(void *)of->v_pages)[at] = v;
                } else {
                    ((uint16_t *)(void *)of->k_pages)[at] = pr_f32_to_bf16(k);
                    ((uint16_t *)(void *)of->v_pages)[at] = pr_f32_to_bf16(v);
                }
            }
        }
    }
}

static void place_sequence(step *of, int32_t number)
{
    const sequence *seq = &of->sequence[number];
    pr_gpu_segment *segment = &of->segment[number];
    int32_t positions = seq->start + seq->rows;
    *segment = (pr_gpu_segment){
        .first_row = of->tokens,
        .rows = seq->rows,
        .start_position = seq->start,
        .first_block = of->blocks,
    };
    for (int32_t i = 0; i < seq->rows; i++, of->tokens++) {
        of->segment_of[of->tokens] = number;
        of->position[of->tokens] = seq->start + i;
        for (size_t e = 0; e < row_floats(of->shape); e++)
            of->q[(size_t)of->tokens * row_floats(of->shape) + e] =
                content(seq->seed, 0, seq->start + i, (int64_t)e);
    }
    of->blocks += (positions + of->shape->block_tokens - 1) / of->shape->block_tokens;
    if (positions > of->most_positions)
        of->most_positions = positions;
    if (seq->rows > of->most_rows)
        of->most_rows = seq->rows;
}

// turn: which of many orders the pages lie in.
static step make_step(const shape *s, const sequence *sequences, int32_t count, int32_t turn)
{
    step of = {.shape = s, .sequence = sequences, .sequences = count};
    int32_t rows = 0;
    for (int32_t i = 0; i < count; i++)
        rows += sequences[i].rows;
    of.segment_of = malloc(((size_t)rows + 1) * 4);
    of.position = malloc(((size_t)rows + 1) * 4);
    of.q = malloc(((size_t)rows + 1) * row_floats(s) * 4);
    for (int32_t i = 0; i < count; i++)
        place_sequence(&of, i);
    assert_true(count <= MOST_SEQUENCES && of.blocks <= MOST_BLOCKS);
    int32_t pages = of.blocks + PAGES_SPARE;
    for (int32_t i = 0; i < of.blocks; i++)
        of.table[i] = turn % 2 == 0 ? (i + turn) % pages : pages - 1 - (i + turn) % pages;
    of.page_bytes = (size_t)(s->kv_heads * s->block_tokens * s->head_size) * (s->bf16 ? 2 : 4);
    of.pages_bytes = (size_t)pages * of.page_bytes;
    of.k_pages = malloc(of.pages_bytes);
    of.v_pages = malloc(of.pages_bytes);
    memset(of.k_pages, 0xff, of.pages_bytes);
    memset(of.v_pages, 0xff, of.pages_bytes);
    for (int32_t i = 0; i < count; i++)
        write_pages(&of, i, of.segment[i].first_block);
    return of;
}

static void free_step(step *of)
{
    void *all[] = {of->segment_of, of->position, of->q, of->k_pages, of->v_pages};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
}

static float *run_step(const pr_gpu_backend *gpu, pr_gpu_stream *stream, const step *of)
{
    const shape *s = of->shape;
    size_t tokens = (size_t)of->tokens, floats = tokens * row_floats(s);
    size_t scratch = gpu->operations->attention_scratch_bytes(
        of->tokens, s->query_heads, s->head_size, of->most_positions);
    void *memory[] = {
        gpu_under_test_put(
            gpu, stream, of->segment, (size_t)of->sequences * sizeof(of->segment[0])),
        gpu_under_test_put(gpu, stream, of->segment_of, tokens * 4),
        gpu_under_test_put(gpu, stream, of->position, tokens * 4),
        gpu_under_test_put(gpu, stream, of->table, (size_t)of->blocks * 4),
        gpu_under_test_put(gpu, stream, of->q, floats * 4),
        gpu_under_test_put(gpu, stream, of->k_pages, of->pages_bytes),
        gpu_under_test_put(gpu, stream, of->v_pages, of->pages_bytes),
        gpu_under_test_take(gpu, stream, scratch),
        gpu_under_test_take(gpu, stream, floats * 4),
    };
    pr_gpu_attention_args args = {
        .tokens = of->tokens,
        .segments = of->sequences,
        .segment = memory[0],
        .segment_of = memory[1],
        .position = memory[2],
        .blocks = memory[3],
        .most_positions = of->most_positions,
        .most_rows = of->most_rows,
        .query_heads = s->query_heads,
        .kv_heads = s->kv_heads,
        .head_size = s->head_size,
        .block_tokens = s->block_tokens,
        .scale = SCALE,
        .q = memory[4],
        .kv_is_bf16 = s->bf16,
        .k_pages = memory[5],
        .v_pages = memory[6],
        .partial = memory[7],
        .out = memory[8],
    };
    float *out = malloc(floats * 4 + 4), *partial = malloc(scratch + 4);
    gpu->operations->attention(stream, &args);
    gpu_under_test_get(gpu, stream, out, memory[8], floats * 4);
    gpu_under_test_get(gpu, stream, partial, memory[7], scratch);  // for its guard
    free(partial);
    for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++)
        gpu->memory_release(memory[i]);
    return out;
}

static float *run_sequences(
    const pr_gpu_backend *gpu,
    pr_gpu_stream *stream,
    const shape *s,
    const sequence *sequences,
    int32_t count,
    int32_t turn)
{
    step of = make_step(s, sequences, count, turn);
    float *out = run_step(gpu, stream, &of);
    free_step(&of);
    return out;
}

// ---- Against plain arithmetic ----

static void attend_plainly(
    const shape *s, const sequence *of, int32_t position, int32_t head, double out[MOST_HEAD])
{
    int32_t d = s->head_size, kv = head / (s->query_heads / s->kv_heads);
    double *p = malloc((size_t)(position + 1) * sizeof(double)), most = -INFINITY, sum = 0.0;
    for (int32_t j = 0; j <= position; j++) {
        p[j] = 0.0;
        for (int32_t e = 0; e < d; e++) {
            float q = content(of->seed, 0, position, head * d + e) * SCALE;
            if (s->bf16)
                q = pr_bf16_to_f32(pr_f32_to_bf16(q));
            p[j] += (double)q * (double)stored(s, of, 1, j, kv * d + e);
        }
        most = fmax(most, p[j]);
    }
    for (int32_t e = 0; e < d; e++)
        out[e] = 0.0;
    for (int32_t j = 0; j <= position; j++) {
        p[j] = exp(p[j] - most);
        sum += p[j];
        for (int32_t e = 0; e < d; e++)
            out[e] += p[j] * (double)stored(s, of, 2, j, kv * d + e);
    }
    for (int32_t e = 0; e < d; e++)
        out[e] /= sum;
    free(p);
}

static void compare_row(const shape *s, const sequence *of, int32_t position, const float *row)
{
    // bfloat16 rounds each p to 2^-9 of itself, and |V| is at most 1.
    double tolerance = s->bf16 ? 0x1p-8 : 2e-6, expected[MOST_HEAD];
    for (int32_t head = 0; head < s->query_heads; head++) {
        attend_plainly(s, of, position, head, expected);
        for (int32_t e = 0; e < s->head_size; e++) {
            double got = (double)row[head * s->head_size + e];
            if (!(fabs(got - expected[e]) <= tolerance))
                fail_msg(
                    "d %d position %d head %d element %d: %g, not %g", s->head_size, position, head,
                    e, got, expected[e]);
        }
    }
}

// Heads of 8 to 256, those that fill a tile and others; groups of 1, some, more than a tile.
static const shape shapes[] = {
    {1, 1, 8, 16, true},   {4, 2, 16, 16, true},  {6, 2, 38, 16, true},   {2, 2, 32, 48, true},
    {20, 1, 16, 16, true}, {7, 1, 64, 32, true},  {3, 1, 80, 16, true},   {4, 2, 128, 16, true},
    {2, 1, 256, 32, true}, {3, 1, 10, 16, false}, {4, 2, 128, 32, false},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static void rows_that_decode_are_what_plain_arithmetic_gives(void **state)
{
    (void)state;
    static const sequence rows[] = {
        {1, 0, 1},  {2, 1, 1},  {3, 15, 1}, {4, 16, 1},  {5, 17, 1},
        {6, 62, 1}, {7, 63, 1}, {8, 64, 1}, {9, 127, 1}, {10, 130, 1},
    };
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    gpus_under_test all = gpu_under_test_open();
    for (int g = 0; g < all.count; g++) {
        for (size_t i = 0; i < SHAPES; i++) {
            float *out = run_sequences(all.gpu[g], all.stream[g], &shapes[i], rows, ROWS, 0);
            for (int32_t row = 0; row < ROWS; row++)
                compare_row(
                    &shapes[i], &rows[row], rows[row].start,
                    out + (size_t)row * row_floats(&shapes[i]));
            free(out);
        }
    }
    gpu_under_test_close(&all);
}

static void rows_that_prefill_are_what_plain_arithmetic_gives(void **state)
{
    (void)state;
    static const sequence whole[] = {{1, 0, 17}, {2, 59, 11}, {3, 0, 67}};
    enum { WHOLE = sizeof(whole) / sizeof(whole[0]) };
    gpus_under_test all = gpu_under_test_open();
    for (int g = 0; g < all.count; g++) {
        for (size_t i = 0; i < SHAPES; i++) {
            float *out = run_sequences(all.gpu[g], all.stream[g], &shapes[i], whole, WHOLE, 1);
            size_t at = 0;
            for (int32_t n = 0; n < WHOLE; n++) {
                for (int32_t row = 0; row < whole[n].rows; row++, at += row_floats(&shapes[i]))
                    compare_row(&shapes[i], &whole[n], whole[n].start + row, out + at);
            }
            free(out);
        }
    }
    gpu_under_test_close(&all);
}

static void long_sequences_are_what_plain_arithmetic_gives(void **state)
{
    (void)state;
    static const shape s[] = {{2, 1, 16, 16, true}, {2, 1, 16, 16, false}};
    static const sequence rows[] = {
        {1, PART - 2, 1}, {2, PART - 1, 1}, {3, PART, 1}, {4, PART + 1, 1}, {5, 2 * PART + 63, 1}};
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    gpus_under_test all = gpu_under_test_open();
    for (int g = 0; g < all.count; g++) {
        for (size_t i = 0; i < sizeof(s) / sizeof(s[0]); i++) {
            float *out = run_sequences(all.gpu[g], all.stream[g], &s[i], rows, ROWS, 0);
            for (int32_t row = 0; row < ROWS; row++)
                compare_row(
                    &s[i], &rows[row], rows[row].start, out + (size_t)row * row_floats(&s[i]));
            free(out);
        }
    }
    gpu_under_test_close(&all);
}

// ---- The same bits, whatever a row goes with ----

// Rows first..first+rows-1 of `part`, which begins at position `start`, against the whole sequence from 0.
static void compare_bits(
    const shape *s, const float *whole, const sequence *of, const float *part, const char *what)
{
    size_t floats = row_floats(s);
    for (int32_t row = 0; row < of->rows; row++) {
        const float *expected = whole + (size_t)(of->start + row) * floats;
        if (memcmp(part + (size_t)row * floats, expected, floats * 4) != 0)
            fail_msg("d %d: position %d differs %s", s->head_size, of->start + row, what);
    }
}

// A sequence alone in one chunk gives the bits that all else must give.
typedef struct pass {
    const pr_gpu_backend *gpu;
    pr_gpu_stream *stream;
    const shape *shape;
    sequence whole;
    float *out;
} pass;

static void check_chunk(const pass *of, int32_t start, int32_t rows, int32_t turn)
{
    sequence chunk = {of->whole.seed, start, rows};
    float *out = run_sequences(of->gpu, of->stream, of->shape, &chunk, 1, turn);
    compare_bits(of->shape, of->out, &chunk, out, rows == 1 ? "decoded" : "in a chunk");
    free(out);
}

// The chunk among `others` sequences of one row and one of many.
static void check_mates(const pass *of, int32_t start, int32_t rows, int32_t others)
{
    sequence batch[MOST_SEQUENCES];
    for (int32_t i = 0; i < others; i++)
        batch[i] = (sequence){100 + i, i * 5 % 70, 1};
    batch[others / 2] = (sequence){of->whole.seed, start, rows};
    batch[others - 1] = (sequence){99, 3, 21};
    float *out = run_sequences(of->gpu, of->stream, of->shape, batch, others, 4);
    compare_bits(
        of->shape, of->out, &batch[others / 2], out + (size_t)(others / 2) * row_floats(of->shape),
        "in a batch");
    free(out);
}

static pass begin_pass(const gpus_under_test *all, int g, const shape *s, int32_t positions)
{
    pass of = {all->gpu[g], all->stream[g], s, {7, 0, positions}, NULL};
    of.out = run_sequences(of.gpu, of.stream, s, &of.whole, 1, 0);
    return of;
}

static void a_row_has_the_same_bits_in_every_chunk_and_batch_and_from_any_pages(void **state)
{
    (void)state;
    enum { POSITIONS = 133 };
    static const int32_t ends[] = {0, 1, 15, 16, 63, 64, 65, 127, 128, 132};
    gpus_under_test all = gpu_under_test_open();
    for (int g = 0; g < all.count; g++) {
        for (size_t i = 0; i < SHAPES; i++) {
            pass of = begin_pass(&all, g, &shapes[i], POSITIONS);
            for (size_t n = 0; n < sizeof(ends) / sizeof(ends[0]); n++)
                check_chunk(&of, ends[n], 1, (int32_t)n);
            check_chunk(&of, 60, 7, 3);
            check_chunk(&of, 31, 101, 5);
            check_mates(&of, 64, 1, 5);
            check_mates(&of, 58, 8, 4);
            free(of.out);
        }
    }
    gpu_under_test_close(&all);
}

static void a_row_has_the_same_bits_whether_its_parts_are_cut_over_blocks_or_not(void **state)
{
    (void)state;
    enum { POSITIONS = 2 * PART + 6 };
    static const shape s[] = {{2, 1, 16, 16, true}, {1, 1, 64, 48, true}, {1, 1, 16, 16, false}};
    gpus_under_test all = gpu_under_test_open();
    for (int g = 0; g < all.count; g++) {
        for (size_t i = 0; i < sizeof(s) / sizeof(s[0]); i++) {
            pass of = begin_pass(&all, g, &s[i], POSITIONS);
            check_chunk(&of, PART - 1, 1, 1);
            check_chunk(&of, PART, 1, 1);
            check_chunk(&of, 2 * PART, 1, 2);
            check_chunk(&of, PART - 3, 8, 2);
            check_chunk(&of, 2 * PART - 20, 26, 3);
            check_mates(&of, 2 * PART + 5, 1, 6);
            check_mates(&of, PART, 1, 130);
            check_mates(&of, 2 * PART - 5, 10, 130);
            free(of.out);
        }
    }
    gpu_under_test_close(&all);
}

static void the_page_size_changes_no_bit(void **state)
{
    (void)state;
    gpus_under_test all = gpu_under_test_open();
    for (int g = 0; g < all.count; g++) {
        shape small = {4, 2, 16, 16, true}, large = {4, 2, 16, 112, true};
        sequence whole = {3, 0, 130};
        float *a = run_sequences(all.gpu[g], all.stream[g], &small, &whole, 1, 0);
        float *b = run_sequences(all.gpu[g], all.stream[g], &large, &whole, 1, 1);
        assert_memory_equal(a, b, (size_t)whole.rows * row_floats(&small) * 4);
        free(a);
        free(b);
    }
    gpu_under_test_close(&all);
}

static void no_tokens_are_no_work(void **state)
{
    (void)state;
    gpus_under_test all = gpu_under_test_open();
    for (int g = 0; g < all.count; g++) {
        for (size_t i = 0; i < SHAPES; i++)
            free(run_sequences(all.gpu[g], all.stream[g], &shapes[i], NULL, 0, 0));
    }
    gpu_under_test_close(&all);
}

// ---- float32 KV: the order of docs/kernels.md ----

static float scored(const shape *s, const sequence *of, int32_t position, int32_t head, int32_t j)
{
    int32_t d = s->head_size, kv = head / (s->query_heads / s->kv_heads);
    float score = 0.0f;
    for (int32_t e = 0; e < d; e++) {
        float q = content(of->seed, 0, position, head * d + e) * SCALE;
        score = fmaf(q, stored(s, of, 1, j, kv * d + e), score);
    }
    return score;
}

static void attend_in_order(
    const shape *s, const sequence *of, int32_t position, int32_t head, float out[MOST_HEAD])
{
    enum { SPAN = 64, LANES = 16 };
    int32_t d = s->head_size, kv = head / (s->query_heads / s->kv_heads);
    float maximum = -INFINITY, lane[LANES] = {0}, p[SPAN];
    memset(out, 0, (size_t)d * 4);
    for (int32_t first = 0; first <= position; first += SPAN) {
        int32_t n = position + 1 - first < SPAN ? position + 1 - first : SPAN;
        float before = maximum;
        for (int32_t j = 0; j < n; j++) {
            p[j] = scored(s, of, position, head, first + j);
            maximum = p[j] > maximum ? p[j] : maximum;
        }
        float rescale = pr_exp(before - maximum);
        for (int32_t j = 0; j < n; j++)
            p[j] = pr_exp(p[j] - maximum);
        for (int32_t i = 0; i < LANES; i++)
            lane[i] *= rescale;
        for (int32_t j = 0; j < n; j++)
            lane[j % LANES] += p[j];
        for (int32_t e = 0; e < d; e++) {
            out[e] *= rescale;
            for (int32_t j = 0; j < n; j++)
                out[e] = fmaf(p[j], stored(s, of, 2, first + j, kv * d + e), out[e]);
        }
    }
    for (int32_t apart = 1; apart < LANES; apart *= 2) {
        for (int32_t i = 0; i < LANES; i += 2 * apart)
            lane[i] += lane[i + apart];
    }
    for (int32_t e = 0; e < d; e++)
        out[e] = out[e] * (1.0f / lane[0]) + 0.0f;
}

static void compare_in_order(const shape *s, const sequence *of, int32_t position, const float *row)
{
    float expected[MOST_HEAD];
    for (int32_t head = 0; head < s->query_heads; head++) {
        attend_in_order(s, of, position, head, expected);
        assert_memory_equal(row + head * s->head_size, expected, (size_t)s->head_size * 4);
    }
}

static void float32_rows_have_the_bits_of_the_reference_order(void **state)
{
    (void)state;
    static const shape s[] = {{3, 1, 10, 16, false}, {2, 2, 64, 48, false}};
    static const sequence rows[] = {{5, 0, 131}, {6, PART + 70, 2}};
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    gpus_under_test all = gpu_under_test_open();
    for (int g = 0; g < all.count; g++) {
        for (size_t i = 0; i < sizeof(s) / sizeof(s[0]); i++) {
            float *out = run_sequences(all.gpu[g], all.stream[g], &s[i], rows, ROWS, 2);
            const float *row = out;
            for (int32_t n = 0; n < ROWS; n++) {
                for (int32_t at = 0; at < rows[n].rows; at++, row += row_floats(&s[i]))
                    compare_in_order(&s[i], &rows[n], rows[n].start + at, row);
            }
            free(out);
        }
    }
    gpu_under_test_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_decode_are_what_plain_arithmetic_gives),
        cmocka_unit_test(rows_that_prefill_are_what_plain_arithmetic_gives),
        cmocka_unit_test(long_sequences_are_what_plain_arithmetic_gives),
        cmocka_unit_test(a_row_has_the_same_bits_in_every_chunk_and_batch_and_from_any_pages),
        cmocka_unit_test(a_row_has_the_same_bits_whether_its_parts_are_cut_over_blocks_or_not),
        cmocka_unit_test(the_page_size_changes_no_bit),
        cmocka_unit_test(no_tokens_are_no_work),
        cmocka_unit_test(float32_rows_have_the_bits_of_the_reference_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
