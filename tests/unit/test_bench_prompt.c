// SPDX-License-Identifier: BSD-3-Clause
// launcher/bench/bench_prompt.h: what requests share in the trace they share as tokens.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "launcher/bench/bench_prompt.h"

enum { VOCABULARY = 2048, MOST = 64 };

static const pr_bench_scale scale = {.tokens = 64, .block_tokens = 512, .vocabulary = VOCABULARY};

static int32_t fill(const pr_trace_request *request, int64_t number, int32_t token[MOST])
{
    int32_t tokens = pr_bench_prompt_tokens(&scale, request);
    assert_true(tokens <= MOST);
    pr_bench_prompt_fill(&scale, request, number, token);
    return tokens;
}

static void lengths_are_divided_and_rounded_up(void **state)
{
    (void)state;
    pr_trace_request request = {.prompt_tokens = 1, .outputs = 65};
    assert_int_equal(pr_bench_prompt_tokens(&scale, &request), 1);
    assert_int_equal(pr_bench_prompt_outputs(&scale, &request), 2);
    request.prompt_tokens = 1024;
    assert_int_equal(pr_bench_prompt_tokens(&scale, &request), 16);
}

static void shared_blocks_are_shared_tokens(void **state)
{
    (void)state;
    static const uint64_t a[] = {7, 100, 101}, b[] = {7, 100, 202};
    int32_t token_a[MOST], token_b[MOST];
    pr_trace_request first = {.prompt_tokens = 1300, .blocks = 3, .block = a};
    pr_trace_request second = {.prompt_tokens = 1536, .blocks = 3, .block = b};
    assert_int_equal(fill(&first, 1, token_a), 21);
    assert_int_equal(fill(&second, 2, token_b), 24);
    assert_memory_equal(token_a, token_b, 16 * sizeof *token_a);
    assert_memory_not_equal(token_a + 16, token_b + 16, 5 * sizeof *token_a);
}

static void a_part_of_a_block_is_its_beginning(void **state)
{
    (void)state;
    static const uint64_t block[] = {7, 8};
    int32_t whole[MOST], part[MOST];
    pr_trace_request long_one = {.prompt_tokens = 1024, .blocks = 2, .block = block};
    pr_trace_request short_one = {.prompt_tokens = 700, .blocks = 2, .block = block};
    assert_int_equal(fill(&long_one, 1, whole), 16);
    assert_int_equal(fill(&short_one, 2, part), 11);
    assert_memory_equal(whole, part, 11 * sizeof *whole);
}

static void requests_without_ids_share_nothing(void **state)
{
    (void)state;
    int32_t token_a[MOST], token_b[MOST], again[MOST];
    pr_trace_request request = {.prompt_tokens = 2048};
    assert_int_equal(fill(&request, 1, token_a), 32);
    assert_int_equal(fill(&request, 2, token_b), 32);
    assert_int_equal(fill(&request, 1, again), 32);
    assert_memory_not_equal(token_a, token_b, 4 * sizeof *token_a);
    assert_memory_equal(token_a, again, 32 * sizeof *token_a);
}

static void tokens_are_the_vocabularys(void **state)
{
    (void)state;
    uint64_t block[32];
    int32_t token[256];
    static const int32_t size[] = {1, 2, 3, 50, VOCABULARY};
    for (int i = 0; i < 32; i++)
        block[i] = (uint64_t)i * 977;
    pr_trace_request request = {.prompt_tokens = 16384, .blocks = 32, .block = block};
    for (int s = 0; s < 5; s++) {
        pr_bench_scale small = {.tokens = 64, .block_tokens = 512, .vocabulary = size[s]};
        pr_bench_prompt_fill(&small, &request, 0, token);
        for (int i = 0; i < 256; i++)
            assert_true(token[i] >= 0 && token[i] < size[s]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_are_divided_and_rounded_up),
        cmocka_unit_test(shared_blocks_are_shared_tokens),
        cmocka_unit_test(a_part_of_a_block_is_its_beginning),
        cmocka_unit_test(requests_without_ids_share_nothing),
        cmocka_unit_test(tokens_are_the_vocabularys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
