// SPDX-License-Identifier: BSD-3-Clause
// launcher/simulate/statistics.h and run_csv.h on a run of four requests done by hand.
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

#include "launcher/simulate/run_csv.h"
#include "launcher/simulate/statistics.h"

static void near(double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-12 * fmax(1, fabs(expected))))
        fail_msg("%.17g, expected %.17g", got, expected);
}

static void set_row(
    pr_run_record *record, int64_t id, double arrival_s, double first_s, double tbt_s, int outputs)
{
    pr_request_row *row = &record->request[id];
    row->arrival_s = arrival_s;
    row->prompt_tokens = 1000;
    row->outputs = outputs;
    row->prefill_start_s = row->first_s = first_s;
    row->tbt_mean_s = row->tbt_tail_s = tbt_s;
    row->finish_s = first_s + tbt_s * (outputs - 1);
}

// Prefill of 1000 tokens takes 0.5 s: SLO-B is 5 s.
static const pr_cost_model cost = {.chunk_token_s = 0.0005, .chunk_tokens = 4096};

static void make_run(pr_run_record *record)
{
    assert_int_equal(pr_run_record_create(4, 2, 2, 1, record), PR_OK);
    set_row(record, 0, 0, 1, 0.05, 11);
    set_row(record, 1, 1, 7, 0.1, 11);   // 6 s: within SLO-A, not SLO-B
    set_row(record, 2, 2, 4, 0.11, 11);  // too slow between tokens
    record->request[3].arrival_s = 10;
    record->request[3].prompt_tokens = 1000;
    record->request[3].rejected = "too late";
    record->request[0].hit_tokens = 300;
    record->request[1].hit_tokens = 600;
    record->request[1].fetch_tokens = 150;
    record->busy_s[0] = 6;
    record->busy_s[1] = 2;
    record->span[record->spans++] = (pr_span_row){1, 'p', 0.25, 1, 0};
}

static void a_run_done_by_hand_has_its_numbers(void **state)
{
    (void)state;
    pr_run_record record;
    pr_statistics statistics;
    make_run(&record);
    assert_int_equal(pr_statistics_compute(&record, &cost, &statistics), PR_OK);
    assert_int_equal(statistics.requests, 4);
    assert_int_equal(statistics.finished, 3);
    assert_int_equal(statistics.rejected, 1);
    assert_int_equal(statistics.ttft_s.count, 3);
    near(statistics.ttft_s.mean, 3);
    near(statistics.ttft_s.p50, 2);
    near(statistics.ttft_s.p99, 6);
    near(statistics.tbt_s.p50, 0.1);
    near(statistics.goodput_a, 0.5);
    near(statistics.goodput_b, 0.25);
    near(statistics.hit_rate, 0.3);
    near(statistics.fetch_rate, 0.05);
    near(statistics.utilisation, 0.4);
    near(statistics.imbalance, 1.5);
    near(statistics.span_s, 10);
    near(statistics.output_tokens_per_s, 3.3);
    pr_run_record_free(&record);
}

static void percentiles_are_nearest_rank(void **state)
{
    (void)state;
    pr_run_record record;
    pr_statistics statistics;
    assert_int_equal(pr_run_record_create(200, 0, 1, 1, &record), PR_OK);
    for (int64_t i = 0; i < 200; i++)
        set_row(&record, i, 0, (double)((i * 77) % 200 + 1), 0, 1);
    assert_int_equal(pr_statistics_compute(&record, NULL, &statistics), PR_OK);
    near(statistics.ttft_s.p50, 100);
    near(statistics.ttft_s.p90, 180);
    near(statistics.ttft_s.p99, 198);
    near(statistics.ttft_s.most, 200);
    assert_int_equal(statistics.tbt_s.count, 0);  // one output has no gaps
    assert_true(isnan(statistics.tbt_s.mean));
    near(statistics.goodput_a, 30.0 / 200);
    assert_true(isnan(statistics.goodput_b));
    pr_run_record_free(&record);
}

static void json_has_null_for_what_there_is_none_of(void **state)
{
    (void)state;
    pr_run_record record;
    pr_statistics statistics;
    assert_int_equal(pr_run_record_create(1, 0, 1, 1, &record), PR_OK);
    set_row(&record, 0, 0, 1, 0, 1);
    assert_int_equal(pr_statistics_compute(&record, NULL, &statistics), PR_OK);
    json_t *object = pr_statistics_json(&statistics);
    assert_non_null(object);
    assert_true(json_is_null(json_object_get(object, "goodput_slo_b")));
    json_t *ttft = json_object_get(object, "ttft_s");
    near(json_real_value(json_object_get(ttft, "p99")), 1);
    json_decref(object);
    pr_run_record_free(&record);
}

static void expect_line(FILE *file, const char *expected)
{
    char line[256];
    assert_non_null(fgets(line, sizeof line, file));
    line[strcspn(line, "\n")] = '\0';
    assert_string_equal(line, expected);
}

static void csv_has_a_line_for_each_request_and_span(void **state)
{
    (void)state;
    char folder[] = "/tmp/polyreme_csv_XXXXXX", path[64], spans[64];
    pr_run_record record;
    make_run(&record);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/run.csv", folder);
    snprintf(spans, sizeof spans, "%s/run.spans.csv", folder);
    assert_int_equal(pr_run_csv_write(&record, path), PR_OK);
    FILE *file = fopen(path, "r");
    expect_line(
        file,
        "id,arrival,n_in,n_out,prefill_group,decode_group,hit_tokens,fetch_tokens,t_prefill_start,"
        "t_first,t_join,t_finish,tbt_mean,tbt_tail,tenant,priority,rejected");
    expect_line(
        file, "0,0.000000000,1000,11,-1,-1,300,0,1.000000000,1.000000000,,1.500000000,0.050000000,"
              "0.050000000,0,0,");
    fclose(file);
    file = fopen(spans, "r");
    expect_line(file, "group,what,begin,end,id");
    expect_line(file, "1,p,0.250000000,1.000000000,0");
    fclose(file);
    unlink(path);
    unlink(spans);
    rmdir(folder);
    pr_run_record_free(&record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_done_by_hand_has_its_numbers),
        cmocka_unit_test(percentiles_are_nearest_rank),
        cmocka_unit_test(json_has_null_for_what_there_is_none_of),
        cmocka_unit_test(csv_has_a_line_for_each_request_and_span),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
