// SPDX-License-Identifier: BSD-3-Clause
// Logprobs of prompt tokens as a worker takes them, against steps of one token whose logits are all there.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"
#include "launcher/prompt_scorer.h"

enum { BLOCK_TOKENS = 16, BLOCKS = 8, MAX_ROWS = 32, PROMPT = 21, TOTAL = 24 };

typedef struct engine {
    pr_model *model;
    pr_weights *weights;
    pr_device *device;
    pr_shard *shard;
    pr_kv_store *store;
    pr_parallel *parallel;
    pr_forward *forward;
    pr_sampler *sampler;
} engine;

static void open_engine(engine *e, int32_t max_outputs)
{
    const char *path = PR_SOURCE_DIR "/tests/data/models/qwen3-moe";
    assert_int_equal(pr_model_open(path, &e->model), PR_OK);
    assert_int_equal(pr_weights_open(path, &e->weights), PR_OK);
    assert_int_equal(
        pr_cpu_device_open(&(pr_cpu_device_params){.isa = "auto", .threads = 1}, &e->device),
        PR_OK);
    pr_shard_params shard = {
        .model = e->model,
        .weights = e->weights,
        .place = {.tp = 1, .ranks = 1},
        .device = e->device,
    };
    assert_int_equal(pr_shard_load(&shard, &e->shard), PR_OK);
    pr_kv_store_params params = {
        .layers = e->model->layers,
        .blocks = BLOCKS,
        .block_tokens = BLOCK_TOKENS,
        .kv_heads = e->model->kv_heads,
        .head_size = e->model->head_size,
        .dtype = PR_F32,
    };
    assert_int_equal(pr_kv_store_create(e->device, &params, &e->store), PR_OK);
    assert_int_equal(
        pr_parallel_alone_create(
            e->model->experts, e->model->experts_chosen, e->model->hidden, MAX_ROWS, &e->parallel),
        PR_OK);
    pr_forward_limits limits = {
        .max_tokens = MAX_ROWS, .max_outputs = max_outputs, .max_positions = 64};
    assert_int_equal(
        pr_forward_create(e->model, e->shard, e->store, e->parallel, &limits, &e->forward), PR_OK);
    assert_int_equal(pr_sampler_create(e->model->vocabulary, &e->sampler), PR_OK);
}

static void close_engine(engine *e)
{
    pr_sampler_destroy(e->sampler);
    pr_forward_destroy(e->forward);
    pr_parallel_alone_destroy(e->parallel);
    pr_kv_store_destroy(e->store);
    pr_shard_unload(e->shard);
    pr_cpu_device_close(e->device);
    pr_weights_close(e->weights);
    pr_model_close(e->model);
}

static pr_prompt_scorer *make_scorer(const engine *e, int32_t rows_at_once, bool leads)
{
    pr_prompt_scorer *scorer;
    pr_prompt_scorer_params params = {
        .forward = e->forward,
        .sampler = e->sampler,
        .vocabulary = e->model->vocabulary,
        .max_rows = MAX_ROWS,
        .rows_at_once = rows_at_once,
        .leads = leads,
    };
    assert_int_equal(pr_prompt_scorer_create(&params, &scorer), PR_OK);
    return scorer;
}

// A prompt of 21 tokens and 3 outputs that are computed again after it.
typedef struct sequence {
    int32_t token[TOTAL], block[2];
    pr_request request;
    pr_slot slot;
} sequence;

static void make_sequence(sequence *s, uint64_t id, int32_t prompt_logprobs, int32_t vocabulary)
{
    *s = (sequence){.block = {(int32_t)id * 2, (int32_t)id * 2 + 1}};
    for (int32_t i = 0; i < TOTAL; i++)
        s->token[i] = (i * 41 + (int32_t)id * 17 + 3) % vocabulary;
    s->request = (pr_request){.id = id, .prompt_tokens = PROMPT, .prompt = s->token};
    s->request.sampling.prompt_logprobs = prompt_logprobs;
    s->slot = (pr_slot){.request = &s->request, .generation = 5, .total = TOTAL};
}

// One step with a chunk of each sequence; its rows are noted. Returns the logits of its last row.
static float *step(
    const engine *e,
    pr_prompt_scorer *scorer,
    const sequence *s,  // [sequences]
    int32_t sequences,
    int32_t start,
    int32_t count)
{
    int32_t token[MAX_ROWS], position[MAX_ROWS], rows = 0;
    pr_segment segment[2];
    if (scorer)
        pr_prompt_scorer_begin(scorer);
    for (int32_t k = 0; k < sequences; k++) {
        segment[k] = (pr_segment){
            .first_row = rows, .rows = count, .start_position = start, .block = s[k].block};
        if (scorer)
            pr_prompt_scorer_note(scorer, &s[k].slot, rows, start, count);
        for (int32_t i = 0; i < count; i++) {
            token[rows] = s[k].token[start + i];
            position[rows++] = start + i;
        }
    }
    int32_t last = rows - 1;
    pr_forward_batch batch = {
        .tokens = rows,
        .token = token,
        .position = position,
        .segments = sequences,
        .segment = segment,
        .outputs = 1,
        .output_row = &last,
    };
    float *logits;
    assert_int_equal(pr_forward_run(e->forward, &batch, &logits), PR_OK);
    return logits;
}

// right[i]: token i of the sequence, given those before it.
static void score_token_by_token(const engine *e, const sequence *s, pr_sampled right[PROMPT])
{
    for (int32_t i = 0; i + 1 < PROMPT; i++) {
        const float *logits = step(e, NULL, s, 1, i, 1);
        pr_sampler_score(e->sampler, logits, s->token[i + 1], 4, &right[i + 1]);
    }
}

static void check_entry(const pr_prompt_logprob *entry, int32_t index, const pr_sampled *right)
{
    assert_int_equal(entry->index, index);
    assert_int_equal(entry->generation, 5);
    assert_int_equal(entry->token, right->token);
    assert_memory_equal(&entry->logprob, &right->logprob, sizeof entry->logprob);
    assert_int_equal(entry->tops, right->tops);
    assert_memory_equal(entry->top, right->top, (size_t)right->tops * sizeof *entry->top);
}

static void every_prompt_token_has_the_bits_of_a_step_of_its_own(void **state)
{
    (void)state;
    static const int32_t chunks[] = {TOTAL, 1, 5, 16};
    enum { OUTPUTS = 3 };
    engine e;
    sequence s;
    pr_sampled right[PROMPT];
    open_engine(&e, OUTPUTS);
    make_sequence(&s, 1, 4, e.model->vocabulary);
    score_token_by_token(&e, &s, right);
    for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
        pr_prompt_scorer *scorer = make_scorer(&e, OUTPUTS, true);
        int32_t next = 1;
        for (int32_t start = 0; start < TOTAL; start += chunks[c]) {
            int32_t left = TOTAL - start, entries = -1;
            step(&e, scorer, &s, 1, start, left < chunks[c] ? left : chunks[c]);
            while (entries != 0) {
                const pr_prompt_logprob *entry;
                assert_int_equal(pr_prompt_scorer_next(scorer, &entries, &entry), PR_OK);
                assert_in_range(entries, 0, OUTPUTS);
                for (int32_t i = 0; i < entries; i++, next++)
                    check_entry(&entry[i], next, &right[next]);
            }
        }
        assert_int_equal(next, PROMPT);
        pr_prompt_scorer_destroy(scorer);
    }
    close_engine(&e);
}

static void only_requests_that_ask_are_scored(void **state)
{
    (void)state;
    enum { COUNT = 6 };
    engine e;
    sequence s[2];
    pr_sampled right[PROMPT];
    const pr_prompt_logprob *entry;
    int32_t entries;
    open_engine(&e, 8);
    make_sequence(&s[0], 0, -1, e.model->vocabulary);
    make_sequence(&s[1], 1, 4, e.model->vocabulary);
    score_token_by_token(&e, &s[1], right);
    pr_prompt_scorer *scorer = make_scorer(&e, 8, true);
    step(&e, scorer, s, 2, 0, COUNT);
    assert_int_equal(pr_prompt_scorer_next(scorer, &entries, &entry), PR_OK);
    assert_int_equal(entries, COUNT);
    for (int32_t i = 0; i < COUNT; i++) {
        assert_int_equal(entry[i].id, 1);
        check_entry(&entry[i], i + 1, &right[i + 1]);
    }
    assert_int_equal(pr_prompt_scorer_next(scorer, &entries, &entry), PR_OK);
    assert_int_equal(entries, 0);
    step(&e, scorer, s, 1, 0, COUNT);
    assert_int_equal(pr_prompt_scorer_next(scorer, &entries, &entry), PR_OK);
    assert_int_equal(entries, 0);
    pr_prompt_scorer_destroy(scorer);
    close_engine(&e);
}

static void a_rank_that_does_not_lead_asks_for_the_same_rows(void **state)
{
    (void)state;
    engine e;
    sequence s;
    open_engine(&e, 4);
    make_sequence(&s, 1, 4, e.model->vocabulary);
    pr_prompt_scorer *leader = make_scorer(&e, 4, true), *other = make_scorer(&e, 4, false);
    step(&e, leader, &s, 1, 0, 10);
    pr_prompt_scorer_note(other, &s.slot, 0, 0, 10);
    int32_t entries = -1, same = -1;
    while (entries != 0) {
        const pr_prompt_logprob *entry, *silent;
        assert_int_equal(pr_prompt_scorer_next(leader, &entries, &entry), PR_OK);
        assert_int_equal(pr_prompt_scorer_next(other, &same, &silent), PR_OK);
        assert_int_equal(entries, same);
        for (int32_t i = 0; i < entries; i++) {
            assert_true(entry[i].logprob < 0 && silent[i].logprob == 0);
            assert_null(silent[i].top);
        }
    }
    pr_prompt_scorer_destroy(leader);
    pr_prompt_scorer_destroy(other);
    close_engine(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_prompt_token_has_the_bits_of_a_step_of_its_own),
        cmocka_unit_test(only_requests_that_ask_are_scored),
        cmocka_unit_test(a_rank_that_does_not_lead_asks_for_the_same_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
