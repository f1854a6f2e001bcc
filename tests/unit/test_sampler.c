// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/elementary.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/sampling/sampler.h"
#include "runtime/sampling/vocabulary_sum.h"

enum { MOST = 1200 };

static uint64_t random_state;

static uint64_t random_u64(void)
{
    random_state += 0x9e3779b97f4a7c15u;
    return pr_hash_mix(random_state);
}

static int32_t below(int32_t limit) { return (int32_t)(random_u64() % (uint64_t)limit); }

static pr_sampler *make_sampler(int32_t vocabulary)
{
    pr_sampler *sampler;
    assert_int_equal(pr_sampler_create(vocabulary, &sampler), PR_OK);
    return sampler;
}

static pr_sampling defaults(void)
{
    pr_sampling sampling;
    pr_sampling_defaults(&sampling);
    return sampling;
}

// Draws from a copy of the logits.
static pr_sampled draw(
    pr_sampler *sampler,
    const pr_sampling *sampling,
    const float *logits,
    int32_t vocabulary,
    int32_t outputs)
{
    static int32_t output[4096];
    static float copy[MOST];
    assert_true(vocabulary <= MOST && outputs <= 4096);
    memcpy(copy, logits, (size_t)vocabulary * sizeof *copy);
    pr_sampler_args args = {
        .sampling = sampling, .output = output, .outputs = outputs, .logits = copy};
    pr_sampled sampled;
    pr_sampler_draw(sampler, &args, &sampled);
    return sampled;
}

static void philox_gives_the_published_numbers(void **state)
{
    (void)state;
    static const uint32_t counter[3][4] = {
        {0, 0, 0, 0},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
    };
    static const uint32_t key[3][2] = {{0, 0}, {0xffffffff, 0xffffffff}, {0xa4093822, 0x299f31d0}};
    static const uint32_t expected[3][4] = {
        {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        pr_philox(counter[i], key[i], out);
        assert_memory_equal(out, expected[i], sizeof out);
    }
}

static void greedy_takes_the_largest_and_of_ties_the_lowest(void **state)
{
    (void)state;
    pr_sampler *sampler = make_sampler(6);
    pr_sampling sampling = defaults();
    sampling.temperature = 0;
    float logits[6] = {1, 5, -2, 5, 4.9999995f, NAN}, nothing[6] = {-INFINITY, NAN, NAN};
    pr_sampled sampled = draw(sampler, &sampling, logits, 6, 0);
    assert_int_equal(sampled.token, 1);
    assert_int_equal(sampled.tops, 0);
    for (int i = 0; i < 6; i++)
        nothing[i] = i % 2 ? NAN : -INFINITY;
    assert_int_equal(draw(sampler, &sampling, nothing, 6, 0).token, 0);
    sampling.temperature = 1;
    sampling.top_logprobs = 3;
    sampled = draw(sampler, &sampling, nothing, 6, 0);
    assert_int_equal(sampled.token, 0);
    assert_true(isinf(sampled.logprob) && sampled.logprob < 0);
    pr_sampler_destroy(sampler);
}

static void logprobs_are_of_the_logits_as_given(void **state)
{
    (void)state;
    pr_sampler *sampler = make_sampler(5);
    pr_sampling sampling = defaults();
    pr_logit_bias bias = {4, 100};
    float logits[5] = {2, 1, 2, 0, -1};
    double sum = 0;
    for (int i = 0; i < 5; i++)
        sum += exp((double)logits[i]);
    sampling.temperature = 0.5f;
    sampling.biases = 1;
    sampling.bias = &bias;
    sampling.top_logprobs = 3;
    pr_sampled sampled = draw(sampler, &sampling, logits, 5, 0);
    assert_int_equal(sampled.token, 4);
    assert_true(fabs((double)sampled.logprob - (-1 - log(sum))) < 1e-6);
    static const int32_t order[3] = {0, 2, 1};  // a tie: the lower token first
    assert_int_equal(sampled.tops, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sampled.top[i].token, order[i]);
        double expected = (double)logits[order[i]] - log(sum);
        assert_true(fabs((double)sampled.top[i].logprob - expected) < 1e-6);
    }
    sampling.top_logprobs = 20;  // more than the vocabulary has
    assert_int_equal(draw(sampler, &sampling, logits, 5, 0).tops, 5);
    sampling.top_logprobs = 0;
    sampled = draw(sampler, &sampling, logits, 5, 0);
    assert_int_equal(sampled.tops, 0);
    assert_true(sampled.logprob < 0);
    sampling.top_logprobs = -1;
    assert_true(draw(sampler, &sampling, logits, 5, 0).logprob == 0);
    pr_sampler_destroy(sampler);
}

static void a_given_token_is_scored_with_the_bits_of_a_drawn_one(void **state)
{
    (void)state;
    enum { VOCABULARY = 300 };
    pr_sampler *sampler = make_sampler(VOCABULARY);
    pr_sampling sampling = defaults();
    for (int round = 0; round < 200; round++) {
        float logits[VOCABULARY], kept[VOCABULARY];
        for (int i = 0; i < VOCABULARY; i++)
            logits[i] = (float)below(4000) / 128 - 20;
        if (round % 3 == 0)
            logits[below(VOCABULARY)] = round % 2 ? NAN : -INFINITY;
        memcpy(kept, logits, sizeof kept);
        sampling.seed = (uint64_t)round;
        sampling.temperature = round % 2 ? 1 : 100;
        sampling.repetition_penalty = 1.5f;
        sampling.top_logprobs = below(PR_MAX_TOP_LOGPROBS + 1);
        pr_sampled drawn = draw(sampler, &sampling, logits, VOCABULARY, 3), scored;
        pr_sampler_score(sampler, logits, drawn.token, sampling.top_logprobs, &scored);
        assert_memory_equal(logits, kept, sizeof kept);
        assert_int_equal(scored.token, drawn.token);
        assert_memory_equal(&scored.logprob, &drawn.logprob, sizeof drawn.logprob);
        assert_int_equal(scored.tops, drawn.tops);
        assert_memory_equal(scored.top, drawn.top, (size_t)drawn.tops * sizeof *drawn.top);
    }
    float logits[VOCABULARY] = {0};
    pr_sampled scored;
    pr_sampler_score(sampler, logits, VOCABULARY, 1, &scored);
    assert_true(isinf(scored.logprob) && scored.logprob < 0);
    assert_int_equal(scored.top[0].token, 0);
    pr_sampler_destroy(sampler);
}

static void a_bias_of_100_forces_and_of_minus_100_bans(void **state)
{
    (void)state;
    pr_sampler *sampler = make_sampler(4);
    pr_sampling sampling = defaults();
    pr_logit_bias bias[2] = {{1, -100}, {9, 100}};  // token 9 does not exist
    float logits[4] = {0, 5, 0, 0};
    sampling.biases = 2;
    sampling.bias = bias;
    for (int32_t i = 0; i < 500; i++)
        assert_int_not_equal(draw(sampler, &sampling, logits, 4, i).token, 1);
    bias[0].bias = 100;
    for (int32_t i = 0; i < 500; i++)
        assert_int_equal(draw(sampler, &sampling, logits, 4, i).token, 1);
    pr_sampler_destroy(sampler);
}

static void no_stop_token_before_min_tokens(void **state)
{
    (void)state;
    pr_sampler *sampler = make_sampler(4);
    pr_sampling sampling = defaults();
    pr_logit_bias bias = {2, 100};
    float logits[4] = {0, 1, 30, 0.5f};
    sampling.stop_tokens = 2;
    sampling.stop_token[0] = 2;
    sampling.stop_token[1] = 77;  // does not exist
    sampling.min_tokens = 3;
    sampling.biases = 1;
    sampling.bias = &bias;
    for (int greedy = 0; greedy < 2; greedy++) {
        sampling.temperature = greedy ? 0 : 1;
        for (int32_t index = 0; index < 6; index++) {
            int32_t token = draw(sampler, &sampling, logits, 4, index).token;
            assert_int_equal(token == 2, index >= 3);
        }
    }
    pr_sampler_destroy(sampler);
}

static void stop_wins_over_length(void **state)
{
    (void)state;
    pr_sampling sampling = defaults();
    sampling.max_tokens = 4;
    sampling.stop_tokens = 2;
    sampling.stop_token[0] = 7;
    sampling.stop_token[1] = 9;
    assert_int_equal(pr_sampler_finish(&sampling, 0, 5), PR_FINISH_NONE);
    assert_int_equal(pr_sampler_finish(&sampling, 2, 5), PR_FINISH_NONE);
    assert_int_equal(pr_sampler_finish(&sampling, 3, 5), PR_FINISH_LENGTH);
    assert_int_equal(pr_sampler_finish(&sampling, 0, 9), PR_FINISH_STOP);
    assert_int_equal(pr_sampler_finish(&sampling, 3, 7), PR_FINISH_STOP);
}

static void penalties_count_prompt_and_output_as_documented(void **state)
{
    (void)state;
    pr_sampler *sampler = make_sampler(5);
    pr_sampling sampling = defaults();
    int32_t prompt[4] = {0, 1, 1, 99}, output[3] = {2, 2, 1};  // token 99 does not exist
    pr_sampled sampled;
    for (int round = 0; round < 2; round++) {  // nothing is left behind by the first
        float logits[5] = {4, -2, 8, 1, 0};
        sampling.repetition_penalty = 2;
        sampling.frequency_penalty = 0.5f;
        sampling.presence_penalty = 0.25f;
        pr_sampler_args args = {
            .sampling = &sampling,
            .prompt = prompt,
            .prompt_tokens = 4,
            .output = output,
            .outputs = 3,
            .logits = logits,
        };
        pr_sampler_draw(sampler, &args, &sampled);
        float expected[5] = {2, -4.75f, 2.75f, 1, 0};
        for (int i = 0; i < 5; i++)
            assert_true(logits[i] == expected[i]);
    }
    pr_sampler_destroy(sampler);
}

// ---- Naive implementation: sort everything, then cut, then walk.

typedef struct ranked {
    double logit, weight;
    int32_t token;
} ranked;

static int compare_ranked(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

static double naive_uniform(const pr_sampling *sampling, int32_t position)
{
    uint32_t counter[4] = {(uint32_t)position, (uint32_t)sampling->choice, 0, 0}, bits[4];
    uint32_t key[2] = {(uint32_t)sampling->seed, (uint32_t)(sampling->seed >> 32)};
    pr_philox(counter, key, bits);
    return ((double)(bits[0] >> 5) * 67108864.0 + (double)(bits[1] >> 6)) / 9007199254740992.0;
}

// Sorted candidates with their probabilities; returns how many.
static int32_t
naive_candidates(const pr_sampling *sampling, const float *logits, int32_t vocabulary, ranked *list)
{
    int32_t kept = vocabulary;
    double total = 0, sum = 0;
    for (int32_t i = 0; i < vocabulary; i++)
        list[i] = (ranked){(double)logits[i], 0, i};
    qsort(list, (size_t)vocabulary, sizeof *list, compare_ranked);
    for (int32_t i = 0; i < vocabulary; i++)
        list[i].weight = exp((list[i].logit - list[0].logit) / (double)sampling->temperature);
    while (sampling->min_p > 0 && list[kept - 1].weight < (double)sampling->min_p)
        kept--;
    if (sampling->top_k > 0 && kept > sampling->top_k)
        kept = sampling->top_k;
    for (int32_t i = 0; i < kept; i++)
        total += list[i].weight;
    for (int32_t i = 0; i < kept && sampling->top_p < 1; i++) {
        sum += list[i].weight;
        if (sum >= (double)sampling->top_p * total)
            kept = i + 1;
    }
    for (int32_t i = 0; i < kept; i++)
        total = i == 0 ? list[i].weight : total + list[i].weight;
    for (int32_t i = 0; i < kept; i++)
        list[i].weight /= total;
    return kept;
}

static double chunk_by_lanes(const double *term, int32_t tokens)
{
    double lane[1024] = {0};
    for (int32_t i = 0; i < 1024; i++) {
        for (int32_t token = i; token < tokens; token += 1024)
            lane[i] += term[token];
    }
    for (int32_t step = 1; step < 1024; step *= 2) {
        for (int32_t i = 0; i < 1024; i += 2 * step)
            lane[i] += lane[i + step];
    }
    return lane[0];
}

// Terms of many sizes, so that another order gives other bits.
static void sums_over_the_vocabulary_go_by_chunks_lanes_and_a_tree(void **state)
{
    (void)state;
    enum { TOKENS = 3 * 8192 - 777 };
    static double term[TOKENS];
    double expected = 0, in_token_order = 0;
    pr_vocabulary_sum sum;
    pr_vocabulary_sum_begin(&sum);
    for (int32_t i = 0; i < TOKENS; i++) {
        term[i] = pr_exp_f64(-(double)below(1000000) / 50000);
        in_token_order += term[i];
        pr_vocabulary_sum_add(&sum, i, term[i]);
        if (i % 8192 == 8191 || i == TOKENS - 1)
            pr_vocabulary_sum_end_chunk(&sum);
    }
    for (int32_t begin = 0; begin < TOKENS; begin += 8192) {
        int32_t left = TOKENS - begin;
        expected += chunk_by_lanes(term + begin, left < 8192 ? left : 8192);
    }
    assert_true(sum.total == expected);
    assert_true(sum.total != in_token_order);
}

static void draws_agree_with_a_naive_implementation(void **state)
{
    (void)state;
    static ranked list[MOST];
    static float logits[MOST];
    for (int round = 0; round < 4000; round++) {
        int32_t vocabulary = round % 50 == 0 ? MOST : 1 + below(60);
        pr_sampler *sampler = make_sampler(vocabulary);
        pr_sampling sampling = defaults();
        for (int32_t i = 0; i < vocabulary; i++)  // coarse in half the rounds: many ties
            logits[i] = round % 2 ? (float)below(8) : (float)below(100000) / 9000;
        sampling.temperature = 0.125f * (float)(1 + below(16));
        sampling.top_k = round % 3 ? below(12) - 1 : 0;
        sampling.top_p = round % 5 ? (float)(1 + below(63)) / 64 : 1;
        sampling.min_p = round % 7 ? 0 : (float)(1 + below(63)) / 67;
        sampling.seed = random_u64();
        sampling.choice = below(5);
        int32_t kept = naive_candidates(&sampling, logits, vocabulary, list), rank = 0;
        double u = naive_uniform(&sampling, round % 1000), sum = list[0].weight;
        while (rank < kept - 1 && sum <= u)
            sum += list[++rank].weight;
        pr_sampled sampled = draw(sampler, &sampling, logits, vocabulary, round % 1000);
        assert_int_equal(sampled.token, list[rank].token);
        pr_sampler_destroy(sampler);
    }
}

static void draws_follow_the_probabilities(void **state)
{
    (void)state;
    enum { TOKENS = 12, DRAWS = 60000 };
    pr_sampler *sampler = make_sampler(TOKENS);
    static ranked list[TOKENS];
    float logits[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        logits[i] = (float)((i * 5) % TOKENS) / 4;
    for (int filter = 0; filter < 4; filter++) {
        pr_sampling sampling = defaults();
        int counts[TOKENS] = {0};
        sampling.seed = 1234567 + (uint64_t)filter;
        sampling.temperature = 0.75f;
        sampling.top_k = filter == 1 ? 5 : 0;
        sampling.top_p = filter == 2 ? 0.8f : 1;
        sampling.min_p = filter == 3 ? 0.1f : 0;
        int32_t kept = naive_candidates(&sampling, logits, TOKENS, list);
        for (int32_t i = 0; i < DRAWS; i++) {
            sampling.choice = i / 1000;
            counts[draw(sampler, &sampling, logits, TOKENS, i % 1000).token]++;
        }
        double chi_square = 0;
        int32_t drawn = 0;
        for (int32_t i = 0; i < kept; i++) {
            double expected = DRAWS * list[i].weight, off = counts[list[i].token] - expected;
            chi_square += off * off / expected;
            drawn += counts[list[i].token];
        }
        assert_int_equal(drawn, DRAWS);  // nothing outside of the filter
        assert_true(kept > 2 && (filter == 0) == (kept == TOKENS));
        assert_true(chi_square < 31.3);  // 11 degrees of freedom: 0.1 % of fair samples exceed it
        assert_true(chi_square > 0.01);
    }
    pr_sampler_destroy(sampler);
}

static void seed_choice_and_position_each_change_the_draw(void **state)
{
    (void)state;
    static float logits[MOST];  // all equal: the token shows the random number
    pr_sampler *sampler = make_sampler(MOST);
    int same[4] = {0};
    for (int32_t i = 0; i < 100; i++) {
        pr_sampling base = defaults(), other = base;
        base.seed = other.seed = (uint64_t)i << 30;
        int32_t token = draw(sampler, &base, logits, MOST, i).token;
        same[0] += draw(sampler, &other, logits, MOST, i).token == token;
        same[1] += draw(sampler, &other, logits, MOST, i + 1).token == token;
        other.choice = 1;
        same[2] += draw(sampler, &other, logits, MOST, i).token == token;
        other.choice = 0;
        other.seed ^= (uint64_t)1 << 40;
        same[3] += draw(sampler, &other, logits, MOST, i).token == token;
    }
    assert_int_equal(same[0], 100);
    for (int i = 1; i < 4; i++)
        assert_true(same[i] < 5);
    pr_sampler_destroy(sampler);
}

static void extreme_logits_and_temperatures_are_survived(void **state)
{
    (void)state;
    pr_sampler *sampler = make_sampler(4);
    pr_sampling sampling = defaults();
    float logits[4] = {-3e38f, 3e38f, INFINITY, NAN};
    static const float temperatures[4] = {1e-45f, 1e-6f, 1, 1e30f};
    for (int i = 0; i < 4; i++) {
        sampling.temperature = temperatures[i];
        sampling.top_logprobs = 4;
        pr_sampled sampled = draw(sampler, &sampling, logits, 4, 0);
        assert_true(sampled.token >= 0 && sampled.token <= 2);
        assert_int_equal(sampled.top[0].token, 2);
        assert_int_equal(sampled.top[3].token, 3);
        assert_false(isnan(sampled.logprob) || isnan(sampled.top[3].logprob));
    }
    float close[4] = {1, 1.0000001f, 0, 0};
    sampling.temperature = 1e-10f;  // as good as greedy
    for (int32_t i = 0; i < 100; i++)
        assert_int_equal(draw(sampler, &sampling, close, 4, i).token, 1);
    pr_error_capture_begin();
    pr_sampler *none = NULL;
    assert_int_equal(pr_sampler_create(0, &none), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    pr_sampler_destroy(sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_numbers),
        cmocka_unit_test(greedy_takes_the_largest_and_of_ties_the_lowest),
        cmocka_unit_test(logprobs_are_of_the_logits_as_given),
        cmocka_unit_test(a_given_token_is_scored_with_the_bits_of_a_drawn_one),
        cmocka_unit_test(a_bias_of_100_forces_and_of_minus_100_bans),
        cmocka_unit_test(no_stop_token_before_min_tokens),
        cmocka_unit_test(stop_wins_over_length),
        cmocka_unit_test(penalties_count_prompt_and_output_as_documented),
        cmocka_unit_test(sums_over_the_vocabulary_go_by_chunks_lanes_and_a_tree),
        cmocka_unit_test(draws_agree_with_a_naive_implementation),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(seed_choice_and_position_each_change_the_draw),
        cmocka_unit_test(extreme_logits_and_temperatures_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
