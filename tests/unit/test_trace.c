// SPDX-License-Identifier: BSD-3-Clause
// launcher/simulate/trace.h: the traces in tests/data/traces against the statistics published with them,
// the spreading rule, copies, and what a malformed line is told.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/simulate/trace.h"
#include "runtime/base/log.h"
#include "runtime/base/sha256.h"

#define TRACES PR_SOURCE_DIR "/tests/data/traces/"
#define CONVERSATION TRACES "mooncake_conversation.jsonl.gz"

static const char *written_path(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/polyreme_trace_XXXXXX");
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), strlen(text));
    close(file);
    return path;
}

static pr_status read_text(const char *text, pr_trace_params params, pr_trace *trace)
{
    params.path = written_path(text);
    pr_status status = pr_trace_read(&params, trace);
    unlink(params.path);
    return status;
}

static void expect_refusal(const char *text, const char *expected)
{
    pr_trace trace;
    pr_error_capture_begin();
    pr_status status = read_text(text, (pr_trace_params){.copies = 1}, &trace);
    pr_error_capture_end();
    assert_int_equal(status, PR_ERR_FORMAT);
    if (!strstr(pr_error_text(), expected))
        fail_msg("expected \"%s\" in \"%s\"", expected, pr_error_text());
}

static double mean_prompt(const pr_trace *trace)
{
    double sum = 0;
    for (int64_t i = 0; i < trace->requests; i++)
        sum += trace->request[i].prompt_tokens;
    return sum / (double)trace->requests;
}

static double mean_outputs(const pr_trace *trace)
{
    double sum = 0;
    for (int64_t i = 0; i < trace->requests; i++)
        sum += trace->request[i].outputs;
    return sum / (double)trace->requests;
}

static void sha256_agrees_with_the_standards_examples(void **state)
{
    (void)state;
    char text[PR_SHA256_TEXT_BYTES];
    pr_sha256 hash;
    pr_sha256_begin(&hash);
    pr_sha256_add(&hash, "abc", 3);
    pr_sha256_end(&hash, text);
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    pr_sha256_begin(&hash);
    for (int i = 0; i < 1000000; i++)
        pr_sha256_add(&hash, "a", 1);
    pr_sha256_end(&hash, text);
    assert_string_equal(text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void traces_have_their_published_statistics(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const char *sha256;  // first digits
        int64_t requests;
        double span_s, prompt, outputs;
    } expected[] = {
        {CONVERSATION, "f44195697c46b9cb", 12031, 3540, 12035, 343},
        {TRACES "azure2023_conv.csv.gz", "69dd7faa58790730", 19366, 3502, 1155, 211},
        {TRACES "azure2023_code.csv.gz", "3122d1b4d9dccc56", 8819, 3436, 2048, 28},
        {TRACES "vtc_arena_tenants.csv.gz", "23110f2143ea0322", 1500, 600, 136, 256},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        pr_trace trace;
        pr_trace_params params = {.path = expected[i].path, .copies = 1};
        assert_int_equal(pr_trace_read(&params, &trace), PR_OK);
        assert_int_equal(trace.requests, expected[i].requests);
        assert_memory_equal(trace.sha256, expected[i].sha256, 16);
        double span_s = trace.request[trace.requests - 1].arrival_s;
        assert_true(fabs(span_s - expected[i].span_s) < 1);
        assert_true(fabs(mean_prompt(&trace) - expected[i].prompt) <= 0.5);
        assert_true(fabs(mean_outputs(&trace) - expected[i].outputs) <= 0.5);
        for (int64_t r = 1; r < trace.requests; r++)
            assert_true(trace.request[r].arrival_s >= trace.request[r - 1].arrival_s);
        pr_trace_free(&trace);
    }
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static int64_t count_unique(const pr_trace *trace, int64_t *all)
{
    int64_t blocks = 0, unique = 0;
    for (int64_t i = 0; i < trace->requests; i++)
        blocks += trace->request[i].blocks;
    *all = blocks;
    qsort(trace->block, (size_t)blocks, sizeof *trace->block, compare_u64);
    for (int64_t i = 0; i < blocks; i++)
        unique += i == 0 || trace->block[i] != trace->block[i - 1];
    return unique;
}

static void copies_share_the_universal_block_and_nothing_else(void **state)
{
    (void)state;
    pr_trace trace;
    int64_t blocks;
    pr_trace_params params = {.path = CONVERSATION, .copies = 1};
    assert_int_equal(pr_trace_read(&params, &trace), PR_OK);
    assert_int_equal(trace.block_tokens, 512);
    assert_int_equal(count_unique(&trace, &blocks), 182790);
    assert_int_equal(blocks, 288500);
    pr_trace_free(&trace);
    params.copies = 3;
    assert_int_equal(pr_trace_read(&params, &trace), PR_OK);
    assert_int_equal(trace.requests, 3 * 12031);
    for (int64_t i = 0; i < trace.requests; i++)
        assert_int_equal(trace.request[i].block[0], trace.request[0].block[0]);
    assert_true(trace.request[0].block[1] != trace.request[1].block[1]);
    assert_int_equal(count_unique(&trace, &blocks), 3 * 182789 + 1);
    assert_int_equal(blocks, 3 * 288500);
    pr_trace_free(&trace);
}

static void tenants_are_kept(void **state)
{
    (void)state;
    pr_trace trace;
    pr_trace_params params = {.path = TRACES "vtc_arena_tenants.csv.gz", .copies = 1};
    uint64_t most = 0;
    assert_int_equal(pr_trace_read(&params, &trace), PR_OK);
    for (int64_t i = 0; i < trace.requests; i++)
        most = trace.request[i].tenant > most ? trace.request[i].tenant : most;
    assert_int_equal(most, 26);
    assert_int_equal(trace.block_tokens, 0);
    pr_trace_free(&trace);
}

#define LINE(stamp) "{\"timestamp\": " #stamp ", \"input_length\": 3, \"output_length\": 2}\n"

static void equal_stamps_are_spread_to_the_next(void **state)
{
    (void)state;
    static const char text[] = LINE(0) LINE(0) LINE(3000) LINE(9000) LINE(9000) LINE(9000);
    static const double spread[] = {0, 1.5, 3, 9, 10, 11}, raw[] = {0, 0, 3, 9, 9, 9};
    pr_trace trace;
    assert_int_equal(read_text(text, (pr_trace_params){.copies = 1}, &trace), PR_OK);
    assert_int_equal(trace.requests, 6);
    for (int i = 0; i < 6; i++)
        assert_true(trace.request[i].arrival_s == spread[i]);
    pr_trace_free(&trace);
    assert_int_equal(read_text(text, (pr_trace_params){.raw = true}, &trace), PR_OK);
    for (int i = 0; i < 6; i++)
        assert_true(trace.request[i].arrival_s == raw[i]);
    pr_trace_free(&trace);
}

static void a_cut_trace_keeps_the_whole_ones_arrivals(void **state)
{
    (void)state;
    static const char text[] = LINE(0) LINE(0) LINE(0) LINE(6000) LINE(9000);
    pr_trace trace;
    assert_int_equal(read_text(text, (pr_trace_params){.most = 2, .copies = 2}, &trace), PR_OK);
    assert_int_equal(trace.requests, 4);
    for (int i = 0; i < 4; i++)
        assert_true(trace.request[i].arrival_s == i * 1.0);
    pr_trace_free(&trace);
}

static void lengths_alone_arrive_as_a_poisson_process(void **state)
{
    (void)state;
    enum { REQUESTS = 4000 };
    static const char header[] = "num_prefill_tokens,num_decode_tokens,more\n", row[] = "5,7,x\n";
    char *text = calloc(1, sizeof header + REQUESTS * sizeof row);
    pr_trace trace;
    strcpy(text, header);
    for (int i = 0; i < REQUESTS; i++)
        strcpy(text + sizeof header - 1 + (size_t)i * (sizeof row - 1), row);
    assert_int_equal(read_text(text, (pr_trace_params){.rate_per_s = 8, .seed = 3}, &trace), PR_OK);
    double span_s = trace.request[REQUESTS - 1].arrival_s, squares = 0;
    for (int i = 1; i < REQUESTS; i++) {
        double gap_s = trace.request[i].arrival_s - trace.request[i - 1].arrival_s;
        squares += gap_s * gap_s;
    }
    assert_true(fabs(span_s / REQUESTS * 8 - 1) < 0.05);
    assert_true(fabs(squares / REQUESTS * 64 / 2 - 1) < 0.1);  // E[gap^2] = 2 / rate^2
    pr_trace_free(&trace);
    pr_error_capture_begin();
    assert_int_equal(read_text(text, (pr_trace_params){0}, &trace), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    assert_non_null(strstr(pr_error_text(), "--rate"));
    free(text);
}

static void a_malformed_line_is_named(void **state)
{
    (void)state;
    expect_refusal(LINE(0) "{\"timestamp\": 1", "line 2: not JSON");
    expect_refusal(LINE(5) "\n" LINE(4), "line 3: its stamp is before");
    expect_refusal(LINE(0) "[1]\n", "line 2: each line must be a JSON object");
    expect_refusal("{\"timestamp\": 0, \"input_length\": 0, \"output_length\": 1}", "line 1");
    expect_refusal(
        "{\"timestamp\": 0, \"input_length\": 513, \"output_length\": 1, \"hash_ids\": [1]}",
        "--block-tokens");
    expect_refusal(
        "{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [\"a\"]}",
        "list of integers");
    expect_refusal("arrived_at,num_prefill_tokens,num_decode_tokens\n1,2,3\n1,2\n", "line 3");
    expect_refusal("arrived_at,num_prefill_tokens,num_decode_tokens\n1,2.5,3\n", "line 2");
    expect_refusal("arrived_at,num_prefill_tokens,num_decode_tokens\nx,2,3\n", "arrived_at");
    expect_refusal("a,b\n1,2\n", "line 1: neither");
    expect_refusal("arrived_at,num_prefill_tokens,num_decode_tokens\n", "no requests");
    expect_refusal("", "no requests");
}

static void a_file_that_is_not_there_or_cut_off_is_refused(void **state)
{
    (void)state;
    static unsigned char part[4000];
    pr_trace trace;
    pr_trace_params params = {.path = "/nonexistent/trace"};
    pr_error_capture_begin();
    assert_int_equal(pr_trace_read(&params, &trace), PR_ERR_NOT_FOUND);
    FILE *whole = fopen(CONVERSATION, "rb");
    assert_int_equal(fread(part, 1, sizeof part, whole), sizeof part);
    fclose(whole);
    params.path = written_path("");
    FILE *cut = fopen(params.path, "wb");
    assert_int_equal(fwrite(part, 1, sizeof part, cut), sizeof part);
    fclose(cut);
    assert_int_equal(pr_trace_read(&params, &trace), PR_ERR_FORMAT);
    pr_error_capture_end();
    assert_non_null(strstr(pr_error_text(), "cut off"));
    unlink(params.path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_agrees_with_the_standards_examples),
        cmocka_unit_test(traces_have_their_published_statistics),
        cmocka_unit_test(copies_share_the_universal_block_and_nothing_else),
        cmocka_unit_test(tenants_are_kept),
        cmocka_unit_test(equal_stamps_are_spread_to_the_next),
        cmocka_unit_test(a_cut_trace_keeps_the_whole_ones_arrivals),
        cmocka_unit_test(lengths_alone_arrive_as_a_poisson_process),
        cmocka_unit_test(a_malformed_line_is_named),
        cmocka_unit_test(a_file_that_is_not_there_or_cut_off_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
