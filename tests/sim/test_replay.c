// SPDX-License-Identifier: BSD-3-Clause
// Recorded runs give the same decisions again. The files under tests/data/events_*.txt were written
// by `test_replay --write DIRECTORY`; when a change of the scheduler's decisions is meant, write them
// again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../unit/sim_run.h"
#include "runtime/base/log.h"
#include "scheduler/record/replay.h"

typedef struct recording {
    const char *name;
    sim_config config;
} recording;

static const recording recordings[] = {
    {"mixed",
     {.seed = 1,
      .layout = "mixed 1x2:1",
      .kv_blocks = 24,
      .block_tokens = 4,
      .max_model_len = 64,
      .budget = 16,
      .max_seqs = 6,
      .lease = 4,
      .requests = 30,
      .max_prompt = 30,
      .max_tokens = 30,
      .cancel_percent = 10,
      .priorities = 2,
      .siblings = 2,
      .prefix_caching = true}},
    {"handover",
     {.seed = 2,
      .layout = "prefill 1x2:2 decode 1x4:2",
      .kv_blocks = 24,
      .block_tokens = 4,
      .max_model_len = 64,
      .budget = 16,
      .max_seqs = 6,
      .lease = 4,
      .requests = 30,
      .max_prompt = 30,
      .max_tokens = 30,
      .cancel_percent = 10,
      .damage_percent = 10,
      .prefix_caching = true}},
    {"gather",
     {.seed = 3,
      .layout = "prefill 1x2:1 prefill 1x2:2 decode 1x4:2",
      .kv_blocks = 24,
      .block_tokens = 4,
      .max_model_len = 64,
      .budget = 16,
      .max_seqs = 6,
      .lease = 4,
      .requests = 30,
      .max_prompt = 30,
      .max_tokens = 30,
      .cancel_percent = 10,
      .damage_percent = 10,
      .prefix_caching = true}},
    {"roles",
     {.seed = 4,
      .layout = "prefill 2x1:1 decode 1x2:1 decode 1x2:2",
      .kv_blocks = 24,
      .block_tokens = 4,
      .max_model_len = 64,
      .budget = 16,
      .max_seqs = 6,
      .lease = 4,
      .requests = 30,
      .max_prompt = 30,
      .max_tokens = 30,
      .cancel_percent = 10,
      .balance = {.period_s = 0.02, .tpot_target_s = 0.1, .rotate = true},
      .prefix_caching = true}},
    {"resumed",
     {.seed = 5,
      .layout = "prefill 1x2:1 decode 1x2:1",
      .kv_blocks = 24,
      .block_tokens = 4,
      .max_model_len = 64,
      .budget = 16,
      .max_seqs = 6,
      .lease = 4,
      .requests = 30,
      .max_prompt = 30,
      .max_tokens = 30,
      .cancel_percent = 10,
      .siblings = 2,
      .resumed_percent = 60,
      .prefix_caching = true}},
};

enum { RECORDINGS = sizeof recordings / sizeof recordings[0] };

static void a_recorded_run_replays_to_the_same_hash(void **state)
{
    (void)state;
    int64_t gathers = 0, role_changes = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        for (int32_t i = 0; i < RECORDINGS; i++) {
            sim_config config = recordings[i].config;
            config.seed = seed;
            config.loss_permille = seed % 2 ? 20 : 0;
            config.record = tmpfile();
            assert_non_null(config.record);
            sim_result run = sim_run_all(&config);
            rewind(config.record);
            pr_replay_result replayed;
            assert_int_equal(pr_replay_run(config.record, &replayed), PR_OK);
            fclose(config.record);
            assert_true(replayed.complete);
            assert_true(replayed.hash == run.hash);
            assert_true(replayed.recorded_hash == run.hash);
            assert_int_equal(replayed.counts.plans, run.counts.plans);
            assert_int_equal(replayed.counts.gathered_tokens, run.counts.gathered_tokens);
            assert_int_equal(replayed.counts.role_changes, run.counts.role_changes);
            gathers += run.counts.gathers;
            role_changes += run.counts.role_changes;
        }
    }
    assert_true(gathers > 0 && role_changes > 20);
}

static FILE *open_recording(const char *directory, const char *name, const char *mode)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/events_%s.txt", directory, name);
    return fopen(path, mode);
}

static void decisions_have_not_changed_since_the_recordings(void **state)
{
    (void)state;
    for (int32_t i = 0; i < RECORDINGS; i++) {
        FILE *events = open_recording(PR_SOURCE_DIR "/tests/data", recordings[i].name, "r");
        assert_non_null(events);
        pr_replay_result replayed;
        assert_int_equal(pr_replay_run(events, &replayed), PR_OK);
        fclose(events);
        assert_true(replayed.complete);
        assert_true(replayed.events > 100);
        assert_true(replayed.hash == replayed.recorded_hash);
    }
}

static void a_damaged_recording_is_refused_with_its_line(void **state)
{
    (void)state;
    static const char head[] = "polyreme-events 2 16 4 64 16 4 4 1 1 0 1 0 0 1 1\n"
                               "dispatch lps 1 9 9 1 2 60 1 1 0 1 1 0 1 1 1 16 4 4096 0 0 0 0\n";
    static const char *const tails[] = {
        "submit 1 0 0 0 0 0 1 0 4 9 1 2\n",
        "submit 1 0 0 0 0 0 1 0 0 1 1\n",
        "submit 1 0 0 0 -1 0 1 0 4 1 1\n",
        "submit 1\n",
        "report 1 0 0 0 0 5 5 0 15 0 99999999 \n",
        "report 1 0 0 0 0 5 5 0 15 0 1 5 1 0\n",
        "cancel x\n",
        "next 0 00000000\n",
        "next 1\n",
        "plan 1 7 0 0 0 0\n",
        "plan 1 0 0 0 0 1 4 0 3 1\n",
        "plan 1 0 0 0 3 1\n",
        "something else\n",
    };
    pr_error_capture_begin();
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        FILE *events = tmpfile();
        assert_non_null(events);
        fprintf(events, "%s%s", head, tails[i]);
        rewind(events);
        pr_replay_result replayed;
        assert_int_equal(pr_replay_run(events, &replayed), PR_ERR_FORMAT);
        assert_non_null(strstr(pr_error_text(), "line 3"));
        fclose(events);
    }
    static const char *const heads[] = {
        "",
        "hello\n",
        "polyreme-events 1 16 4\n",
        "polyreme-events 2 16 4 64 16 4 4 1 1 0 9999 0 0 1 1\n",
        "polyreme-events 2 16 4 64 16 4 4 1 1 0 1 7 0 1 1\n",
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        FILE *events = tmpfile();
        assert_non_null(events);
        fputs(heads[i], events);
        rewind(events);
        pr_replay_result replayed;
        assert_int_equal(pr_replay_run(events, &replayed), PR_ERR_FORMAT);
        fclose(events);
    }
    pr_error_capture_end();
}

static int write_recordings(const char *directory)
{
    for (int32_t i = 0; i < RECORDINGS; i++) {
        sim_config config = recordings[i].config;
        config.record = open_recording(directory, recordings[i].name, "w");
        if (!config.record)
            return 1;
        sim_run_all(&config);
        fclose(config.record);
    }
    return 0;
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_recorded_run_replays_to_the_same_hash),
    cmocka_unit_test(decisions_have_not_changed_since_the_recordings),
    cmocka_unit_test(a_damaged_recording_is_refused_with_its_line),
};

int main(int argc, char **argv)
{
    pr_log_set_level(PR_LOG_ERROR);  // damaged handovers warn
    if (argc == 3 && strcmp(argv[1], "--write") == 0)
        return write_recordings(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
