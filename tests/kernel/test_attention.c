// SPDX-License-Identifier: BSD-3-Clause
#include "devices.h"

#include <math.h>

#include "runtime/base/elementary.h"

// Pages that nobody wrote hold NaN: a kernel that lets an unseen position in shows it.
typedef struct shape {
    int32_t query_heads, kv_heads, head_size, block_tokens;
    pr_dtype kv_dtype;
} shape;

enum { BLOCKS = 24, SEQUENCES = 3 };
static const int32_t tables[SEQUENCES][8] = {
    {5, 2, 9, 0, 14, 7, 21, 3}, {11, 4, 1, 8, 6, 10, 12, 13}, {20, 19, 18, 17, 16, 15, 22, 23}};

static size_t page_elements(const shape *s)
{
    return (size_t)s->kv_heads * (size_t)s->block_tokens * (size_t)s->head_size;
}

typedef struct run_data {
    float *q, *k, *v, *cosine, *sine;
    float *q_norm, *k_norm;
    void *k_pages, *v_pages;
} run_data;

// Positions 0..T-1 of one sequence through rope_store and attention of a device, in chunks.
static void run_sequence(
    pr_device *device, const shape *s, run_data *data, int32_t tokens, int32_t chunk, float *out)
{
    enum { SEQUENCE = 0 };
    size_t query = (size_t)s->query_heads * (size_t)s->head_size;
    size_t kv = (size_t)s->kv_heads * (size_t)s->head_size;
    float *q = malloc((size_t)tokens * query * 4), *k = malloc((size_t)tokens * kv * 4);
    memcpy(q, data->q, (size_t)tokens * query * 4);
    memcpy(k, data->k, (size_t)tokens * kv * 4);
    size_t page_bytes = page_elements(s) * pr_dtype_bytes(s->kv_dtype);
    memset(data->k_pages, 0xff, BLOCKS * page_bytes);
    memset(data->v_pages, 0xff, BLOCKS * page_bytes);
    for (int32_t first = 0; first < tokens; first += chunk) {
        int32_t rows = tokens - first < chunk ? tokens - first : chunk;
        int32_t position[256], block[256];
        for (int32_t i = 0; i < rows; i++) {
            position[i] = first + i;
            block[i] = tables[SEQUENCE][(first + i) / s->block_tokens];
        }
        pr_rope_store_args store = {
            .tokens = rows,
            .query_heads = s->query_heads,
            .kv_heads = s->kv_heads,
            .head_size = s->head_size,
            .q = q + (size_t)first * query,
            .k = k + (size_t)first * kv,
            .v = data->v + (size_t)first * kv,
            .q_norm = data->q_norm,
            .k_norm = data->k_norm,
            .epsilon = 1e-5f,
            .cosine = data->cosine,
            .sine = data->sine,
            .position = position,
            .block = block,
            .block_tokens = s->block_tokens,
            .kv_dtype = s->kv_dtype,
            .k_pages = data->k_pages,
            .v_pages = data->v_pages,
        };
        device->rope_store(device, &store);
        pr_segment segment = {.rows = rows, .start_position = first, .block = tables[SEQUENCE]};
        pr_attention_args args = {
            .segments = 1,
            .segment = &segment,
            .query_heads = s->query_heads,
            .kv_heads = s->kv_heads,
            .head_size = s->head_size,
            .block_tokens = s->block_tokens,
            .scale = 0.17f,
            .q = store.q,
            .kv_dtype = s->kv_dtype,
            .k_pages = data->k_pages,
            .v_pages = data->v_pages,
            .out = out + (size_t)first * query,
        };
        device->attention(device, &args);
    }
    free(q);
    free(k);
}

static run_data make_data(const shape *s, int32_t tokens, bool norms)
{
    size_t query = (size_t)s->query_heads * (size_t)s->head_size;
    size_t kv = (size_t)s->kv_heads * (size_t)s->head_size, half = (size_t)s->head_size / 2;
    run_data data = {
        .q = random_floats((size_t)tokens * query, 1),
        .k = random_floats((size_t)tokens * kv, 2),
        .v = random_floats((size_t)tokens * kv, 3),
        .cosine = random_floats((size_t)tokens * half, 4),
        .sine = random_floats((size_t)tokens * half, 5),
        .q_norm = norms ? random_floats((size_t)s->head_size, 6) : NULL,
        .k_norm = norms ? random_floats((size_t)s->head_size, 7) : NULL,
        .k_pages = malloc(BLOCKS * page_elements(s) * 4),
        .v_pages = malloc(BLOCKS * page_elements(s) * 4),
    };
    for (size_t i = 0; i < (size_t)tokens * half; i++) {
        double sine, cosine;
        pr_sin_cos((double)(data.sine[i] * 3), &sine, &cosine);
        data.cosine[i] = (float)cosine;
        data.sine[i] = (float)sine;
    }
    return data;
}

static void free_data(run_data *data)
{
    void *all[] = {
        data->q,      data->k,      data->v,       data->cosine,  data->sine,
        data->q_norm, data->k_norm, data->k_pages, data->v_pages,
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
}

// The last three are long: several spans, and the end of one in the middle of a page.
static const shape shapes[] = {
    {1, 1, 2, 16, PR_F32},   {1, 1, 2, 16, PR_BF16},   {4, 2, 16, 16, PR_F32},
    {4, 4, 8, 16, PR_BF16},  {8, 1, 20, 32, PR_F32},   {6, 2, 38, 16, PR_BF16},
    {7, 1, 64, 48, PR_BF16}, {4, 2, 128, 32, PR_F32},  {4, 2, 128, 32, PR_BF16},
    {3, 1, 80, 16, PR_F32},  {3, 1, 80, 16, PR_BF16},  {2, 2, 64, 16, PR_F32},
    {2, 1, 256, 16, PR_F32}, {2, 1, 256, 16, PR_BF16}, {1, 1, 1024, 16, PR_BF16},
    {5, 1, 6, 64, PR_BF16},  {9, 1, 130, 32, PR_BF16}, {5, 1, 6, 48, PR_F32},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]), LONG = SHAPES - 3 };

static void every_device_and_chunk_size_gives_the_bits_of_the_reference(void **state)
{
    (void)state;
    static const int32_t lengths[] = {1, 2, 15, 16, 17, 47, 63, 64, 65, 97, 113};
    static const int32_t long_lengths[] = {127, 129, 201};
    static const int32_t chunks[] = {256, 1, 7, 16, 33};
    devices all = open_devices();
    for (size_t i = 0; i < SHAPES; i++) {
        const shape *s = &shapes[i];
        const int32_t *length = i < LONG ? lengths : long_lengths;
        size_t count = i < LONG ? sizeof(lengths) / 4 : sizeof(long_lengths) / 4;
        for (size_t l = 0; l < count; l++) {
            int32_t tokens = length[l];
            run_data data = make_data(s, tokens, i % 2 == 0);
            size_t size = (size_t)tokens * (size_t)s->query_heads * (size_t)s->head_size;
            float *right = guarded_floats(size), *out = guarded_floats(size);
            run_sequence(all.device[0], s, &data, tokens, tokens, right);
            for (size_t e = 0; e < size; e++)
                assert_true(isfinite(right[e]));
            for (int j = 0; j < all.count; j++) {
                for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
                    if (j == 0 && c > 1)
                        continue;  // the slow one: whole and token by token
                    run_sequence(all.device[j], s, &data, tokens, chunks[c], out);
                    assert_same_bits(right, out, size);
                }
            }
            free(right);
            free(out);
            free_data(&data);
        }
    }
    close_devices(&all);
}

// Products around the smallest normal number, and maxima so far apart that a rescale is zero.
static void tiny_and_huge_numbers_have_the_bits_of_the_reference(void **state)
{
    (void)state;
    const shape s = {3, 1, 40, 32, PR_BF16};
    enum { TOKENS = 150 };
    devices all = open_devices();
    run_data data = make_data(&s, TOKENS, false);
    uint64_t seed = 11;
    for (size_t i = 0; i < TOKENS * 40; i++) {
        int exponent = (int)(64.0f * random_float(&seed));
        data.k[i] = ldexpf(data.k[i], i / 40 % 3 == 0 ? exponent / 8 : exponent - 64);
        data.v[i] = ldexpf(data.v[i], exponent - 70);
    }
    for (size_t i = 0; i < TOKENS * 3 * 40; i++)
        data.q[i] = ldexpf(data.q[i], i / 40 % 2 ? -62 : 4);
    size_t size = TOKENS * 3 * 40, zeros = 0;
    float *right = guarded_floats(size), *out = guarded_floats(size);
    run_sequence(all.device[0], &s, &data, TOKENS, TOKENS, right);
    for (size_t e = 0; e < size; e++) {
        assert_true(isfinite(right[e]) && (right[e] == 0 || fabsf(right[e]) >= 0x1p-126f));
        assert_false(right[e] == 0 && signbit(right[e]));
        zeros += right[e] == 0;
    }
    assert_true(zeros > 0 && zeros < size / 2);
    for (int j = 1; j < all.count; j++) {
        run_sequence(all.device[j], &s, &data, TOKENS, 50, out);
        assert_same_bits(right, out, size);
    }
    free(right);
    free(out);
    free_data(&data);
    close_devices(&all);
}

static void a_position_that_is_not_seen_does_not_matter_even_if_it_is_not_a_number(void **state)
{
    (void)state;
    enum { TOKENS = 90, BAD = 69 };
    for (int type = 0; type < 2; type++) {
        const shape s = {2, 1, 34, 16, type == 0 ? PR_F32 : PR_BF16};
        devices all = open_devices();
        run_data data = make_data(&s, TOKENS, false);
        size_t size = TOKENS * 2 * 34, before = BAD * 2 * 34;
        float *right = guarded_floats(size), *out = guarded_floats(size);
        run_sequence(all.device[0], &s, &data, TOKENS, TOKENS, right);
        data.k[BAD * 34] = NAN;
        data.v[BAD * 34 + 5] = NAN;
        for (int j = 0; j < all.count; j++) {
            run_sequence(all.device[j], &s, &data, TOKENS, TOKENS, out);
            assert_memory_equal(right, out, before * sizeof(float));
            assert_false(isfinite(out[before + 5]));
        }
        free(right);
        free(out);
        free_data(&data);
        close_devices(&all);
    }
}

// Rows of several sequences in one call: each as if it were alone.
static void segments_do_not_see_each_other(void **state)
{
    (void)state;
    const shape *s = &shapes[2];
    enum { TOKENS = 20 };
    size_t query = (size_t)s->query_heads * (size_t)s->head_size;
    devices all = open_devices();
    run_data data = make_data(s, TOKENS * SEQUENCES, false);
    for (int j = 0; j < all.count; j++) {
        pr_device *device = all.device[j];
        size_t n = BLOCKS * page_elements(s);
        float *pages = random_floats(2 * n, 9);
        float *together = guarded_floats(TOKENS * SEQUENCES * query);
        float *apart = guarded_floats(TOKENS * SEQUENCES * query);
        pr_segment segment[SEQUENCES] = {
            {.first_row = 0, .rows = 3, .start_position = 40, .block = tables[0]},
            {.first_row = 3, .rows = 1, .start_position = 0, .block = tables[1]},
            {.first_row = 4, .rows = 9, .start_position = 13, .block = tables[2]},
        };
        pr_attention_args args = {
            .segments = SEQUENCES,
            .segment = segment,
            .query_heads = s->query_heads,
            .kv_heads = s->kv_heads,
            .head_size = s->head_size,
            .block_tokens = s->block_tokens,
            .scale = 0.5f,
            .q = data.q,
            .kv_dtype = PR_F32,
            .k_pages = pages,
            .v_pages = pages + n,
            .out = together,
        };
        device->attention(device, &args);
        args.out = apart;
        args.segments = 1;
        for (int i = SEQUENCES - 1; i >= 0; i--) {
            args.segment = &segment[i];
            device->attention(device, &args);
        }
        assert_same_bits(together, apart, TOKENS * SEQUENCES * query);
        free(pages);
        free(together);
        free(apart);
    }
    free_data(&data);
    close_devices(&all);
}

// Against softmax in doubles from the definition.
static void check_against_doubles(pr_device *device, pr_dtype kv_dtype, double tolerance)
{
    enum { TOKENS = 117, H = 4, G = 2, D = 6 };
    const shape s = {H, G, D, 16, kv_dtype};
    run_data data = make_data(&s, TOKENS, false);
    for (size_t i = 0; i < TOKENS * D / 2; i++) {
        data.cosine[i] = 1.0f;
        data.sine[i] = 0.0f;
    }
    float *out = guarded_floats(TOKENS * H * D);
    run_sequence(device, &s, &data, TOKENS, TOKENS, out);
    for (int t = 0; t < TOKENS; t++) {
        for (int h = 0; h < H; h++) {
            double p[TOKENS], sum = 0;
            for (int j = 0; j <= t; j++) {
                double score = 0;
                for (int i = 0; i < D; i++)
                    score += (double)data.q[(t * H + h) * D + i] *
                             (double)data.k[(j * G + h / 2) * D + i];
                p[j] = exp((double)0.17f * score);
                sum += p[j];
            }
            for (int i = 0; i < D; i++) {
                double right = 0;
                for (int j = 0; j <= t; j++)
                    right += p[j] / sum * (double)data.v[(j * G + h / 2) * D + i];
                assert_true(fabs(right - (double)out[(t * H + h) * D + i]) < tolerance);
            }
        }
    }
    free(out);
    free_data(&data);
}

static void the_reference_agrees_with_doubles(void **state)
{
    (void)state;
    devices all = open_devices();
    check_against_doubles(all.device[0], PR_F32, 1e-6);
    check_against_doubles(all.device[0], PR_BF16, 0x1p-8);
    close_devices(&all);
}

static void rope_turns_pairs_half_a_head_apart(void **state)
{
    (void)state;
    devices all = open_devices();
    float q[4] = {1, 2, 3, 4}, k[4] = {5, 6, 7, 8}, v[4] = {9, 10, 11, 12};
    float cosine[4] = {1, 1, 0.5f, 0.0f}, sine[4] = {0, 0, 0.25f, 1.0f};
    float k_pages[2 * 64], v_pages[2 * 64];
    int32_t position = 1, block = 1;
    pr_rope_store_args args = {
        .tokens = 1,
        .query_heads = 1,
        .kv_heads = 1,
        .head_size = 4,
        .q = q,
        .k = k,
        .v = v,
        .cosine = cosine,
        .sine = sine,
        .position = &position,
        .block = &block,
        .block_tokens = 16,
        .kv_dtype = PR_F32,
        .k_pages = k_pages,
        .v_pages = v_pages,
    };
    all.device[0]->rope_store(all.device[0], &args);
    const float turned[4] = {1 * 0.5f - 3 * 0.25f, -4, 3 * 0.5f + 1 * 0.25f, 2};
    assert_memory_equal(q, turned, sizeof(turned));
    for (int i = 0; i < 4; i++) {
        assert_true(k_pages[64 + i * 16 + 1] == k[i]);  // [d][16], position 1
        assert_true(v_pages[64 + 1 * 4 + i] == v[i]);   // [B][d]
    }
    close_devices(&all);
}

// Tokens of two sequences, the first beginning at an odd position; denormals and NaN among the numbers.
static void every_device_stores_the_pages_of_the_reference(void **state)
{
    (void)state;
    enum { TOKENS = 61, SPLIT = 38, FIRST = 5, POSITIONS = 64, H = 3, G = 2 };
    static const int32_t sizes[] = {2, 6, 38, 64, 80, 128};
    devices all = open_devices();
    int32_t position[TOKENS], block[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        position[i] = i < SPLIT ? FIRST + i : i - SPLIT;
        block[i] = tables[i < SPLIT ? 0 : 1][position[i] / 32];
    }
    for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
        int32_t d = sizes[i / 2];
        const shape s = {H, G, d, 32, i % 2 ? PR_BF16 : PR_F32};
        size_t page_bytes = page_elements(&s) * pr_dtype_bytes(s.kv_dtype) * BLOCKS;
        run_data data = make_data(&s, POSITIONS, i % 4 < 2);
        for (int32_t j = 0; j < TOKENS * G * d; j += 3)
            data.v[j] = j % 2 ? ldexpf(data.v[j], -127) : j % 4 ? NAN : -data.v[j];
        size_t q_size = (size_t)(TOKENS * H * d), k_size = (size_t)(TOKENS * G * d);
        float *right_q = NULL, *right_k = NULL;
        char *right_pages = NULL;
        for (int j = 0; j < all.count; j++) {
            float *q = random_floats(q_size, 21), *k = random_floats(k_size, 22);
            char *pages = malloc(2 * page_bytes);
            memset(pages, 0xff, 2 * page_bytes);
            pr_rope_store_args args = {
                .tokens = TOKENS,
                .query_heads = H,
                .kv_heads = G,
                .head_size = d,
                .q = q,
                .k = k,
                .v = data.v,
                .q_norm = data.q_norm,
                .k_norm = data.k_norm,
                .epsilon = 1e-5f,
                .cosine = data.cosine,
                .sine = data.sine,
                .position = position,
                .block = block,
                .block_tokens = s.block_tokens,
                .kv_dtype = s.kv_dtype,
                .k_pages = pages,
                .v_pages = pages + page_bytes,
            };
            all.device[j]->rope_store(all.device[j], &args);
            if (j == 0) {
                right_q = q, right_k = k, right_pages = pages;
                continue;
            }
            assert_same_bits(right_q, q, q_size);
            assert_same_bits(right_k, k, k_size);
            assert_memory_equal(right_pages, pages, 2 * page_bytes);
            free(q);
            free(k);
            free(pages);
        }
        free(right_q);
        free(right_k);
        free(right_pages);
        free_data(&data);
    }
    close_devices(&all);
}

static void bfloat16_pages_hold_pairs(void **state)
{
    (void)state;
    enum { D = 6, HEADS = 2, B = 32, POSITION = 21, BLOCK = 1 };
    devices all = open_devices();
    for (int j = 0; j < all.count; j++) {
        float q[HEADS * D] = {0}, k[HEADS * D], v[HEADS * D];
        float cosine[(POSITION + 1) * D / 2], sine[(POSITION + 1) * D / 2] = {0};
        static uint16_t k_pages[2 * HEADS * B * D], v_pages[2 * HEADS * B * D];
        for (int i = 0; i < HEADS * D; i++) {
            k[i] = (float)(i + 1);
            v[i] = (float)(i + 101);
        }
        for (int i = 0; i < (POSITION + 1) * D / 2; i++)
            cosine[i] = 1.0f;
        int32_t position = POSITION, block = BLOCK;
        pr_rope_store_args args = {
            .tokens = 1,
            .query_heads = HEADS,
            .kv_heads = HEADS,
            .head_size = D,
            .q = q,
            .k = k,
            .v = v,
            .cosine = cosine,
            .sine = sine,
            .position = &position,
            .block = &block,
            .block_tokens = B,
            .kv_dtype = PR_BF16,
            .k_pages = k_pages,
            .v_pages = v_pages,
        };
        memset(k_pages, 0, sizeof(k_pages));
        memset(v_pages, 0, sizeof(v_pages));
        all.device[j]->rope_store(all.device[j], &args);
        int written = 0;
        for (int i = 0; i < 2 * HEADS * B * D; i++)
            written += (k_pages[i] != 0) + (v_pages[i] != 0);
        assert_int_equal(written, 2 * HEADS * D);
        for (int head = 0; head < HEADS; head++) {
            for (int e = 0; e < D; e++) {
                int page = (BLOCK * HEADS + head) * B * D;
                // [B / 16][d / 2][16][2] and [B / 2][d][2]
                int k_at =
                    page + (((POSITION / 16) * D / 2 + e / 2) * 16 + POSITION % 16) * 2 + e % 2;
                int v_at = page + (POSITION / 2 * D + e) * 2 + POSITION % 2;
                assert_int_equal(k_pages[k_at], pr_f32_to_bf16((float)(head * D + e + 1)));
                assert_int_equal(v_pages[v_at], pr_f32_to_bf16((float)(head * D + e + 101)));
            }
        }
    }
    close_devices(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_device_and_chunk_size_gives_the_bits_of_the_reference),
        cmocka_unit_test(tiny_and_huge_numbers_have_the_bits_of_the_reference),
        cmocka_unit_test(a_position_that_is_not_seen_does_not_matter_even_if_it_is_not_a_number),
        cmocka_unit_test(segments_do_not_see_each_other),
        cmocka_unit_test(the_reference_agrees_with_doubles),
        cmocka_unit_test(rope_turns_pairs_half_a_head_apart),
        cmocka_unit_test(every_device_stores_the_pages_of_the_reference),
        cmocka_unit_test(bfloat16_pages_hold_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
