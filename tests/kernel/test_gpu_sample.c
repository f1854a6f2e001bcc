// SPDX-License-Identifier: BSD-3-Clause
// Draws and logprobs of every GPU back end against the sampler of the CPU: the same tokens, and the same bits.
#include "devices.h"

#include <math.h>

#include "gpu_arrays.h"
#include "runtime/sampling/sampler.h"

enum { ROWS = 3, MOST_TOP = 20 };

// Around a quad, the lanes of a sum (1024), a list (2048) and a chunk (8192).
static const int32_t vocabularies[] = {1, 3, 64, 1000, 1023, 1025, 2049, 8192, 8193, 12345};
enum { VOCABULARIES = sizeof(vocabularies) / sizeof(vocabularies[0]) };

typedef enum row_kind { PEAKED, COARSE, FLAT, EQUAL, EXTREME, KINDS } row_kind;

static float logit_of(row_kind kind, uint64_t *seed)
{
    float x = random_float(seed), pick = random_float(seed);
    switch (kind) {
    case PEAKED:
        return x * x * x * 12;
    case COARSE:
        return (float)(int)(x * 5);
    case FLAT:
        return x * 0.01f;
    case EQUAL:
        return -2.5f;
    default:
        break;
    }
    if (pick > 0.9f)
        return NAN;
    if (pick > 0.8f)
        return x > 0.99f ? INFINITY : -INFINITY;
    return pick > 0.7f ? -0.0f : pick > 0.6f ? 0.0f : x * 3e38f;
}

static float *logits_of(row_kind kind, int32_t rows, int32_t vocabulary, uint64_t seed)
{
    size_t n = (size_t)rows * (size_t)vocabulary;
    float *logits = malloc((n + 1) * sizeof *logits);
    assert_non_null(logits);
    for (size_t i = 0; i < n; i++)
        logits[i] = logit_of(kind, &seed);
    return logits;
}

static pr_sampling sampling_of(const pr_gpu_draw *draw)
{
    pr_sampling sampling;
    pr_sampling_defaults(&sampling);
    sampling.temperature = draw->temperature;
    sampling.top_p = draw->top_p;
    sampling.min_p = draw->min_p;
    sampling.top_k = draw->top_k;
    sampling.seed = draw->seed;
    sampling.choice = (int32_t)draw->stream;
    sampling.top_logprobs = 0;
    return sampling;
}

static pr_sampled drawn_by_sampler(const float *logits, int32_t vocabulary, const pr_gpu_draw *draw)
{
    pr_sampler *sampler;
    assert_int_equal(pr_sampler_create(vocabulary, &sampler), PR_OK);
    pr_sampling sampling = sampling_of(draw);
    float *copy = malloc((size_t)vocabulary * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, logits, (size_t)vocabulary * sizeof *copy);
    pr_sampler_args args = {
        .sampling = &sampling, .outputs = (int32_t)draw->position, .logits = copy};
    pr_sampled sampled;
    pr_sampler_draw(sampler, &args, &sampled);
    free(copy);
    pr_sampler_destroy(sampler);
    return sampled;
}

static void check_draws(
    gpu_arrays *arrays,
    const float *logits,
    int32_t rows,
    int32_t vocabulary,
    const pr_gpu_draw *draw)
{
    int32_t token[ROWS] = {0};
    float logprob[ROWS] = {0};
    size_t size = (size_t)rows * (size_t)vocabulary * sizeof(float);
    for (int32_t r = 0; r < rows; r++) {
        pr_sampled sampled =
            drawn_by_sampler(logits + (size_t)r * (size_t)vocabulary, vocabulary, &draw[r]);
        token[r] = sampled.token;
        logprob[r] = sampled.logprob;
    }
    pr_gpu_sample_args args = {
        .rows = rows,
        .vocabulary = vocabulary,
        .logits = gpu_arrays_put(arrays, logits, size),
        .draw = gpu_arrays_put(arrays, draw, (size_t)rows * sizeof *draw),
        .token = gpu_arrays_take(arrays, (size_t)rows * sizeof *token),
        .logprob = gpu_arrays_take(arrays, (size_t)rows * sizeof *logprob),
        .scratch =
            gpu_arrays_take(arrays, arrays->operations->sample_scratch_bytes(rows, vocabulary)),
    };
    arrays->operations->sample(arrays->stream, &args);
    gpu_arrays_assert(arrays, token, args.token, (size_t)rows * sizeof *token);
    gpu_arrays_assert(arrays, logprob, args.logprob, (size_t)rows * sizeof *logprob);
    gpu_arrays_release(arrays);
}

static pr_gpu_draw draw_of(uint64_t *seed)
{
    pr_gpu_draw draw = {.temperature = 1, .top_p = 1};
    draw.temperature = 1.1f + random_float(seed);
    draw.top_k = random_float(seed) > 0 ? 0 : 1 + (int32_t)(50 * (1 + random_float(seed)));
    draw.top_p = random_float(seed) > 0 ? 1 : (1.001f + random_float(seed)) / 2;
    draw.min_p = random_float(seed) > 0 ? 0 : (1.001f + random_float(seed)) / 8;
    draw.seed = *seed * 977;
    draw.stream = *seed >> 60;
    draw.position = (uint32_t)(*seed >> 40);
    draw.position &= 0xfffff;
    return draw;
}

static void check_kind(row_kind kind, const pr_gpu_draw *fixed)
{
    gpus_under_test all = gpu_under_test_open();
    for (int i = 0; i < VOCABULARIES; i++) {
        uint64_t seed = (uint64_t)(i * KINDS) + kind + 3;
        pr_gpu_draw draw[ROWS];
        for (int r = 0; r < ROWS; r++)
            draw[r] = fixed ? *fixed : draw_of(&seed);
        float *logits = logits_of(kind, ROWS, vocabularies[i], seed);
        for (int gpu = 0; gpu < all.count; gpu++) {
            gpu_arrays arrays = gpu_arrays_of(&all, gpu);
            check_draws(&arrays, logits, ROWS, vocabularies[i], draw);
        }
        free(logits);
    }
    gpu_under_test_close(&all);
}

static void temperature_zero_takes_the_largest_logit(void **state)
{
    (void)state;
    static const pr_gpu_draw greedy = {.top_p = 1};
    check_kind(COARSE, &greedy);
    check_kind(EXTREME, &greedy);
}

static void draws_are_the_sampler_s(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++)
        check_kind(PEAKED, NULL);
}

static void ties_and_extreme_logits_are_drawn_as_the_sampler_does(void **state)
{
    (void)state;
    check_kind(COARSE, NULL);
    check_kind(EXTREME, NULL);
}

// One list holds 2048 candidates; these are more than that, equal ones too, and no cut by depth parts them.
static void a_flat_row_is_walked_in_several_lists(void **state)
{
    (void)state;
    gpus_under_test all = gpu_under_test_open();
    enum { VOCABULARY = 9001 };
    static const pr_gpu_draw draws[] = {
        {.temperature = 1, .top_p = 1, .seed = 1, .position = 4},
        {.temperature = 1, .top_p = 0.7f, .seed = 2},
        {.temperature = 0.5f, .top_p = 1, .top_k = 5000, .seed = 3, .stream = 1},
        {.temperature = 2, .top_p = 0.9f, .top_k = 3000, .min_p = 0.5f, .seed = 4},
    };
    for (int i = 0; i < 8; i++) {
        float *logits = logits_of(i % 2 ? FLAT : EQUAL, 1, VOCABULARY, 77);
        for (int gpu = 0; gpu < all.count; gpu++) {
            gpu_arrays arrays = gpu_arrays_of(&all, gpu);
            check_draws(&arrays, logits, 1, VOCABULARY, &draws[i / 2]);
        }
        free(logits);
    }
    gpu_under_test_close(&all);
}

static void a_row_without_a_possible_token_gives_token_0(void **state)
{
    (void)state;
    gpus_under_test all = gpu_under_test_open();
    float logits[5] = {NAN, -INFINITY, -INFINITY, NAN, -INFINITY};
    for (int gpu = 0; gpu < all.count; gpu++) {
        static const pr_gpu_draw draws[2] = {{.top_p = 1}, {.temperature = 1, .top_p = 0.5f}};
        gpu_arrays arrays = gpu_arrays_of(&all, gpu);
        check_draws(&arrays, logits, 1, 5, &draws[0]);
        check_draws(&arrays, logits, 1, 5, &draws[1]);
    }
    gpu_under_test_close(&all);
}

// ---- Logprobs

static int32_t rank_of(const float *logits, int32_t vocabulary, int32_t token)
{
    int32_t rank = 1;
    if (token < 0 || token >= vocabulary)
        return vocabulary + 1;
    for (int32_t i = 0; i < vocabulary; i++) {
        float a = isnan(logits[i]) ? -INFINITY : logits[i];
        float b = isnan(logits[token]) ? -INFINITY : logits[token];
        rank += a > b || (a == b && i < token);
    }
    return rank;
}

// What the sampler says of each row; places beyond the vocabulary hold -1 and -infinity.
static void score(
    const float *logits, int32_t vocabulary, int32_t top, const int32_t *token, pr_sampled *scored)
{
    pr_sampler *sampler;
    assert_int_equal(pr_sampler_create(vocabulary, &sampler), PR_OK);
    for (int32_t r = 0; r < ROWS; r++) {
        const float *row = logits + (size_t)r * (size_t)vocabulary;
        pr_sampler_score(sampler, row, token[r], top, &scored[r]);
        for (int32_t i = scored[r].tops; i < top; i++)
            scored[r].top[i] = (pr_logprob){-1, -INFINITY};
    }
    pr_sampler_destroy(sampler);
}

static void check_logprobs(
    gpu_arrays *arrays, const float *logits, int32_t vocabulary, int32_t top, const int32_t *token)
{
    size_t size = ROWS * (size_t)vocabulary * sizeof(float), tops = ROWS * (size_t)top;
    pr_sampled scored[ROWS];
    int32_t rank[ROWS], top_token[ROWS * MOST_TOP];
    float logprob[ROWS], top_logprob[ROWS * MOST_TOP];
    score(logits, vocabulary, top, token, scored);
    for (int32_t r = 0; r < ROWS; r++) {
        rank[r] = rank_of(logits + (size_t)r * (size_t)vocabulary, vocabulary, token[r]);
        logprob[r] = scored[r].logprob;
        for (int32_t i = 0; i < top; i++) {
            top_token[r * top + i] = scored[r].top[i].token;
            top_logprob[r * top + i] = scored[r].top[i].logprob;
        }
    }
    pr_gpu_logprobs_args args = {
        .rows = ROWS,
        .vocabulary = vocabulary,
        .top = top,
        .logits = gpu_arrays_put(arrays, logits, size),
        .token = gpu_arrays_put(arrays, token, ROWS * sizeof *token),
        .logprob = gpu_arrays_take(arrays, sizeof logprob),
        .rank = gpu_arrays_take(arrays, sizeof rank),
        .top_token = gpu_arrays_take(arrays, tops * sizeof(int32_t)),
        .top_logprob = gpu_arrays_take(arrays, tops * sizeof(float)),
    };
    arrays->operations->logprobs(arrays->stream, &args);
    gpu_arrays_assert(arrays, logprob, args.logprob, sizeof logprob);
    gpu_arrays_assert(arrays, rank, args.rank, sizeof rank);
    gpu_arrays_assert(arrays, top_token, args.top_token, tops * sizeof(int32_t));
    gpu_arrays_assert(arrays, top_logprob, args.top_logprob, tops * sizeof(float));
    gpu_arrays_release(arrays);
}

static void logprobs_and_the_likeliest_tokens_are_the_sampler_s(void **state)
{
    (void)state;
    static const int32_t tops[] = {0, 1, 5, 20};
    gpus_under_test all = gpu_under_test_open();
    for (int i = 0; i < VOCABULARIES * KINDS; i++) {
        int32_t vocabulary = vocabularies[i % VOCABULARIES], top = tops[i % 4];
        int32_t token[ROWS] = {i % 7 ? vocabulary / 2 : -1, vocabulary - 1, i % 5 ? 0 : vocabulary};
        float *logits = logits_of((row_kind)(i / VOCABULARIES), ROWS, vocabulary, (uint64_t)i);
        for (int gpu = 0; gpu < all.count; gpu++) {
            gpu_arrays arrays = gpu_arrays_of(&all, gpu);
            check_logprobs(&arrays, logits, vocabulary, top, token);
        }
        free(logits);
    }
    gpu_under_test_close(&all);
}

// Twenty likeliest tokens that one thread holds: it looks through its tokens again.
static void the_likeliest_tokens_may_all_be_one_thread_s(void **state)
{
    (void)state;
    enum { VOCABULARY = 9000 };
    static const int32_t token[ROWS] = {1025, 0, 8195};
    gpus_under_test all = gpu_under_test_open();
    float *logits = logits_of(PEAKED, ROWS, VOCABULARY, 9);
    for (int32_t r = 0; r < ROWS; r++) {
        for (int32_t i = 0; i < VOCABULARY; i++) {
            if (i % 1024 / 4 == 0)
                logits[r * VOCABULARY + i] = 20 + (float)(i * 7 % 31);
        }
    }
    for (int gpu = 0; gpu < all.count; gpu++) {
        gpu_arrays arrays = gpu_arrays_of(&all, gpu);
        check_logprobs(&arrays, logits, VOCABULARY, 20, token);
    }
    free(logits);
    gpu_under_test_close(&all);
}

static void no_rows_do_nothing(void **state)
{
    (void)state;
    gpus_under_test all = gpu_under_test_open();
    for (int gpu = 0; gpu < all.count; gpu++) {
        gpu_arrays arrays = gpu_arrays_of(&all, gpu);
        check_draws(&arrays, NULL, 0, 64, NULL);
        pr_gpu_logprobs_args none = {.vocabulary = 64};
        arrays.operations->logprobs(arrays.stream, &none);
        assert_true(arrays.gpu->wait(arrays.stream));
    }
    gpu_under_test_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(temperature_zero_takes_the_largest_logit),
        cmocka_unit_test(draws_are_the_sampler_s),
        cmocka_unit_test(ties_and_extreme_logits_are_drawn_as_the_sampler_does),
        cmocka_unit_test(a_flat_row_is_walked_in_several_lists),
        cmocka_unit_test(a_row_without_a_possible_token_gives_token_0),
        cmocka_unit_test(logprobs_and_the_likeliest_tokens_are_the_sampler_s),
        cmocka_unit_test(the_likeliest_tokens_may_all_be_one_thread_s),
        cmocka_unit_test(no_rows_do_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
