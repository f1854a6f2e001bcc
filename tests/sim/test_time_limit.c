// SPDX-License-Identifier: BSD-3-Clause
// Runs with an end, on virtual time: random loads, layouts, policies and ends, on machines whose speed
// wavers. What was accepted is never cut, and the time without work at the end is shorter than the longest
// request. "test_time_limit --cases N" tries N of them (scripts/soak); each prints a line with --verbose.
// clang-format off
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on
#include "../unit/sim_run.h"
#include "launcher/virtual/virtual_run.h"
#include "runtime/base/log.h"
#include "scheduler/policy/policy.h"
#include "scheduler/record/replay.h"

enum { CASES = 50 };

static int32_t cases = CASES;
static bool verbose;

// A random world; the layout is in place, so it must not move.
typedef struct world {
    pr_layout layout;
    pr_scheduler_params params;
    pr_virtual_load load;
    pr_virtual_model model;
    uint64_t random;
    int64_t end_ns;
    pr_at_end at_end;
    char policy[64];
} world;

typedef struct tally {
    int64_t cut, cases_cut, answered, kept, preemptions, handovers, gathers, short_cuts;
    double tail_s, shortest_s, longest_s;  // summed
    int32_t tails;
} tally;

static double draw(world *of)
{
    of->random += 0x9e3779b97f4a7c15u;
    return ((double)(pr_hash_mix(of->random) >> 11) + 0.5) / 9007199254740992.0;
}

static int32_t pick(world *of, int32_t least, int32_t most)
{
    return least + (int32_t)(draw(of) * (most - least + 1));
}

static const char *const layouts[] = {
    "mixed 1x1:1",
    "mixed 2x2:1",
    "prefill 1x1:1 decode 1x2:1",
    "prefill 2x1:1 decode 2x2:2",
    "mixed 1x4:1",
    "prefill 3x1:1 decode 1x1:1",
    "mixed 1x2:2 prefill 1x1:1 decode 1x2:1",
};

enum { LAYOUTS = sizeof layouts / sizeof layouts[0] };

static void make_policy(world *of, int32_t number)
{
    int32_t kinds = 0;
    while (pr_policy_kind_at(kinds))
        kinds++;
    const char *name = number % 2 ? pr_policy_kind_at(number / 2 % kinds)->name : "lps";
    snprintf(of->policy, sizeof of->policy, "%s", name);
    of->params.policy = of->policy;
}

// Its speed wavers from window to window, now and then by more; choose_end says how long one is.
static void make_machine(world *of)
{
    pr_virtual_model *model = &of->model;
    *model = (pr_virtual_model){
        .cores = of->layout.ranks,
        .gap_ns = pick(of, 0, 500000),
        .message_ns = pick(of, 10000, 500000),
        .window_ns = 100000000,
        .transfer_s = draw(of) < 0.5 ? 0.001 : 0.3 * draw(of),
        .transfer_block_s = 50e-6 * draw(of),
        .transfer_boundaries = pick(of, 0, 2),
    };
    double step_s = 0.001 + 0.004 * draw(of), row_s = 0.0002 * draw(of);
    for (int32_t role = 0; role < PR_ROLES; role++)
        model->step[role] = (pr_virtual_step){
            .alone = {step_s, row_s, row_s / 1000, 0.0008 * draw(of), 2e-6 * draw(of)},
        };
    double noise = 0.3 * draw(of);
    for (int32_t i = 0; i < PR_VIRTUAL_WINDOWS - 1; i++)
        model->slowness[i] = (1 + noise * (2 * draw(of) - 1)) * (draw(of) < 0.03 ? 1.8 : 1);
    model->slowness[PR_VIRTUAL_WINDOWS - 1] = 1;  // for ever
}

// What is believed at first is wrong by up to a factor of two.
static void make_prior(world *of)
{
    const double *true_s = of->model.step[PR_ROLE_MIXED].alone;
    double wrong = exp2(2 * draw(of) - 1);
    of->params.cost = (pr_cost_model){
        .chunk_s = true_s[0] * wrong,
        .chunk_token_s = true_s[1] * wrong,
        .chunk_pair_s = true_s[2] * wrong,
        .step_s = true_s[0] * wrong,
        .step_sequence_s = true_s[3] * wrong,
        .step_context_s = true_s[4] * wrong,
        .transfer_s = of->model.transfer_s * wrong,
        .transfer_bytes_per_s = 1e9,
        .kv_bytes_per_token = 1024,
        .chunk_tokens = of->params.max_num_batched_tokens,
        .max_batch = of->params.max_num_seqs,
        .capacity_tokens = (int64_t)of->params.kv_blocks * of->params.block_tokens,
    };
}

static void add_request(world *of, int64_t arrival_ns)
{
    pr_request *request = calloc(1, sizeof *request);
    assert_non_null(request);
    request->id = request->sibling_of = (uint64_t)of->load.requests + 1;
    request->priority = draw(of) < 0.2;
    request->sampling.max_tokens = pick(of, 1, draw(of) < 0.2 ? 250 : 60);
    request->sampling.top_logprobs = -1;
    request->prompt_tokens = pick(of, 1, draw(of) < 0.2 ? 600 : 120);
    request->prompt = malloc((size_t)request->prompt_tokens * sizeof(int32_t));
    int32_t family = pick(of, 1, 4), shared = pick(of, 0, request->prompt_tokens);
    for (int32_t i = 0; i < request->prompt_tokens; i++)
        request->prompt[i] = i < shared ? family : (int32_t)(request->id * 1000 + (uint64_t)i);
    assert_int_equal(pr_virtual_load_add(&of->load, request, arrival_ns), PR_OK);
    // Half of them stop before their bound.
    pr_virtual_request *added = &of->load.request[of->load.requests - 1];
    if (draw(of) < 0.5) {
        added->outputs = pick(of, 1, request->sampling.max_tokens);
        added->finish = PR_FINISH_STOP;
    }
}

static void make_world(world *of, int32_t number)
{
    *of = (world){.random = (uint64_t)number * 7919 + 3};
    sim_parse_layout(layouts[number % LAYOUTS], &of->layout);
    of->params = (pr_scheduler_params){
        .layout = &of->layout,
        .kv_blocks = pick(of, 56, draw(of) < 0.5 ? 90 : 240),
        .block_tokens = 16,
        .max_model_len = 860,
        .max_num_batched_tokens = pick(of, 32, 256),
        .max_num_seqs = pick(of, 2, 16),
        .lease_steps = pick(of, 1, 16),
        .prefix_caching = draw(of) < 0.7,
        .queue = {.most_jobs = 1 << 30, .most_tenants = 1, .guard_s = (double)INFINITY},
        .short_suffix = draw(of) < 0.5 ? 32 : 0,
    };
    make_policy(of, number);
    make_machine(of);
    make_prior(of);
    bool batch = draw(of) < 0.5;  // all there at once, or one after the other
    int32_t requests = pick(of, 80, 250);
    double now_s = 0, pause_s = 0.1 * draw(of);
    for (int32_t i = 0; i < requests; i++) {
        now_s += batch ? 0 : -log(draw(of)) * pause_s;
        add_request(of, (int64_t)(now_s * 1e9));
    }
    of->at_end = draw(of) < 0.7 ? PR_AT_END_LEAVE : PR_AT_END_REJECT;
}

static pr_virtual_result run_world(world *of, pr_run_measure *measure, FILE *record)
{
    pr_virtual_result result;
    pr_virtual_run_params params = {
        .scheduler = &of->params,
        .load = &of->load,
        .model = &of->model,
        .end_ns = of->end_ns,
        .at_end = of->at_end,
        .record = record,
        .check = true,
    };
    assert_int_equal(pr_virtual_run(&params, measure, &result), PR_OK);
    return result;
}

// Each request is answered in full before the end, or was never begun.
static void check_rows(const world *of, const pr_run_measure *measure, tally *sum)
{
    for (int64_t i = 0; i < measure->requests; i++) {
        const pr_request_row *row = &measure->request[i];
        const pr_virtual_request *of_load = &of->load.request[i];
        int32_t whole = of_load->finish == PR_FINISH_NONE ? of_load->request->sampling.max_tokens
                                                          : of_load->outputs;
        if (row->rejected) {
            assert_int_equal(row->outputs, 0);
            sum->kept++;
            continue;
        }
        assert_int_equal(row->outputs, whole);
        assert_true(row->finish_s <= (double)of->end_ns * 1e-9);
        sum->answered++;
    }
}

static void check_replay(FILE *record, const pr_virtual_result *result)
{
    pr_replay_result replayed;
    rewind(record);
    assert_int_equal(pr_replay_run(record, &replayed), PR_OK);
    assert_true(replayed.complete && replayed.diverged_line == 0);
    assert_true(replayed.hash == result->hash);
    assert_int_equal(replayed.counts.left, result->counts.left);
    assert_int_equal(replayed.counts.rejected_walltime, result->counts.rejected_walltime);
}

// Everybody was there when the last one ended, all lanes are alike, and the policy looks where a prompt is
// cached: nobody who was left would have ended in the tail.
static void check_tail(const world *of, const pr_walltime_state *time, tally *sum)
{
    double tail_s = (double)time->idle_tail_ns * 1e-9;
    int64_t last_ns = of->load.request[of->load.requests - 1].arrival_ns;
    assert_true(tail_s < time->longest_left_s);
    bool alike = of->layout.group[0].role == PR_ROLE_MIXED &&
                 of->layout.group[of->layout.groups - 1].role == PR_ROLE_MIXED;
    if (last_ns + time->idle_tail_ns > of->end_ns || !alike || strcmp(of->policy, "lps") != 0)
        return;
    assert_true(tail_s < time->shortest_left_s);
    sum->tail_s += tail_s;
    sum->shortest_s += time->shortest_left_s;
    sum->longest_s += time->longest_left_s;
    sum->tails++;
}

// The case without an end says how long it takes; the end comes somewhere in it, or soon after.
static void choose_end(world *of)
{
    pr_run_measure measure = {0};
    pr_virtual_result whole = run_world(of, &measure, NULL);
    pr_run_measure_free(&measure);
    of->model.window_ns = whole.end_ns / PR_VIRTUAL_WINDOWS + 1;
    of->end_ns = (int64_t)((0.15 + 0.9 * draw(of)) * (double)whole.end_ns);
}

static void run_case(int32_t number, tally *sum)
{
    world *of = malloc(sizeof *of);
    pr_run_measure measure = {0};
    FILE *record = tmpfile();
    assert_non_null(of);
    assert_non_null(record);
    make_world(of, number);
    choose_end(of);
    pr_virtual_result result = run_world(of, &measure, record);
    const pr_walltime_state *time = &result.walltime;
    if (verbose)
        print_message(
            "%3d %-40s %-12s end %7.3f s: %lld cut, %lld left, %lld refused, tail %.3f s, those "
            "left "
            "%.3f to %.3f s\n",
            number, layouts[number % LAYOUTS], of->policy, (double)of->end_ns * 1e-9,
            (long long)result.counts.cut, (long long)result.counts.left,
            (long long)result.counts.rejected_walltime, (double)time->idle_tail_ns * 1e-9,
            time->shortest_left_s, time->longest_left_s);
    if (result.counts.cut == 0)
        check_rows(of, &measure, sum);
    check_replay(record, &result);
    sum->cut += result.counts.cut;
    sum->cases_cut += result.counts.cut > 0;
    if (result.counts.left > 0)
        check_tail(of, time, sum);
    sum->preemptions += result.counts.preemptions;
    sum->handovers += result.counts.handovers;
    sum->gathers += result.counts.gathers;
    sum->short_cuts += result.counts.short_cuts;
    fclose(record);
    pr_run_measure_free(&measure);
    pr_virtual_load_free(&of->load);
    free(of);
}

static void accepted_requests_are_never_cut_and_the_tail_is_shorter_than_one(void **state)
{
    (void)state;
    tally sum = {0};
    for (int32_t i = 0; i < cases; i++)
        run_case(i, &sum);
    print_message(
        "%d ends: %lld answered in full, %lld kept out, %lld preempted, %lld handovers, %lld "
        "gathers, %lld short cuts; idle tail %.3f of the longest that was left, %.3f of the "
        "shortest\n",
        (int)cases, (long long)sum.answered, (long long)sum.kept, (long long)sum.preemptions,
        (long long)sum.handovers, (long long)sum.gathers, (long long)sum.short_cuts,
        sum.tail_s / sum.longest_s, sum.tail_s / sum.shortest_s);
    assert_int_equal(sum.cut, 0);
    assert_true(sum.answered > 0 && sum.kept > 0 && sum.tails > 0);
    assert_true(sum.preemptions > 0 && sum.handovers > 0 && sum.gathers > 0);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted_requests_are_never_cut_and_the_tail_is_shorter_than_one),
    };
    for (int i = 1; i < argc; i++) {
        verbose = verbose || !strcmp(argv[i], "--verbose");
        if (!strcmp(argv[i], "--cases") && i + 1 < argc)
            cases = atoi(argv[i + 1]);
    }
    pr_log_set_level(PR_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
