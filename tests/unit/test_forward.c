// SPDX-License-Identifier: BSD-3-Clause
// What the forward pass promises beyond right numbers (test_golden.c): the bits of a row depend
// neither on batch mates nor on how the model is cut over ranks; a rank without rows still serves.
// The group of several ranks is threads with a plain shared-memory exchange, written here.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"
#include "runtime/base/log.h"
#include "runtime/model/forward.h"

enum { BLOCK_TOKENS = 16, BLOCKS = 16, MAX_TOKENS = 64, GROUP_TOKENS = 21, MAX_RANKS = 8 };

// ---- a group of threads ----

typedef struct team {
    int32_t tp, ranks, experts, hidden;
    pthread_barrier_t barrier;
    float *shared[MAX_RANKS];           // reduce, gather: each rank's part
    pr_dispatch_args *sent[MAX_RANKS];  // dispatch: each rank's rows
    const float *result[MAX_RANKS];     // combine: each rank's results
    int32_t *row_of[MAX_RANKS];         // [lane][T * K]: row on that rank, -1 if not there
} team;

typedef struct member {
    pr_parallel parallel;
    team *team;
    float *rows;
    int32_t count[64];
} member;

static member *self(pr_parallel *parallel) { return parallel->state; }

static int32_t lane_root(const pr_parallel *parallel, int32_t lane) { return lane * parallel->tp; }

static float *team_room(pr_parallel *parallel)
{
    (void)parallel;
    return NULL;
}

static pr_status
team_reduce(pr_parallel *parallel, const float *branch, float *x, int32_t tokens, int32_t cols)
{
    team *t = self(parallel)->team;
    int32_t root = lane_root(parallel, parallel->lane), tp = parallel->tp;
    size_t n = (size_t)tokens * (size_t)cols;
    float *sum = malloc((size_t)tp * n * sizeof(float) + 1);
    memmove(x, branch, n * sizeof(float));
    t->shared[parallel->rank] = x;
    pthread_barrier_wait(&t->barrier);
    for (int32_t r = 0; r < tp; r++)
        memcpy(sum + (size_t)r * n, t->shared[root + r], n * sizeof(float));
    pthread_barrier_wait(&t->barrier);
    for (int32_t step = 1; step < tp; step *= 2) {
        for (int32_t r = 0; r < tp; r += 2 * step) {
            for (size_t i = 0; i < n; i++)
                sum[(size_t)r * n + i] += sum[(size_t)(r + step) * n + i];
        }
    }
    memcpy(x, sum, n * sizeof(float));
    free(sum);
    return PR_OK;
}

static pr_status
team_gather(pr_parallel *parallel, const float *part, float *whole, int32_t tokens, int32_t cols)
{
    team *t = self(parallel)->team;
    size_t begin = (size_t)pr_share_begin(cols, parallel->tp_rank, parallel->tp);
    size_t width = (size_t)pr_share_begin(cols, parallel->tp_rank + 1, parallel->tp) - begin;
    int32_t root = lane_root(parallel, parallel->lane);
    t->shared[parallel->rank] = whole;
    pthread_barrier_wait(&t->barrier);
    for (int32_t r = 0; r < parallel->tp; r++) {
        for (size_t row = 0; row < (size_t)tokens; row++)
            memcpy(
                t->shared[root + r] + row * (size_t)cols + begin, part + row * width,
                width * sizeof(float));
    }
    pthread_barrier_wait(&t->barrier);
    return PR_OK;
}

// Rows for this rank's experts: expert by expert, lane by lane, token by token.
static pr_status team_dispatch(pr_parallel *parallel, pr_dispatch_args *args)
{
    member *me = self(parallel);
    team *t = me->team;
    int64_t begin = pr_share_begin(t->experts, parallel->rank, t->ranks);
    int64_t end = pr_share_begin(t->experts, parallel->rank + 1, t->ranks);
    size_t hidden = (size_t)args->hidden;
    int32_t n = 0;
    t->sent[parallel->rank] = args;
    pthread_barrier_wait(&t->barrier);
    for (int64_t e = begin; e < end; e++) {
        me->count[e - begin] = 0;
        for (int32_t lane = 0; lane < parallel->lanes; lane++) {
            const pr_dispatch_args *from = t->sent[lane_root(parallel, lane)];
            for (int32_t i = 0; i < from->tokens * from->chosen; i++) {
                if (from->expert[i] != e)
                    continue;
                memcpy(
                    me->rows + (size_t)n * hidden, from->x + (size_t)(i / from->chosen) * hidden,
                    hidden * sizeof(float));
                t->row_of[parallel->rank][lane * MAX_TOKENS * from->chosen + i] = n++;
                me->count[e - begin]++;
            }
        }
    }
    args->rows = me->rows;
    args->count = me->count;
    args->received = n;
    pthread_barrier_wait(&t->barrier);
    return PR_OK;
}

static pr_status team_combine(pr_parallel *parallel, const pr_return_args *args)
{
    team *t = self(parallel)->team;
    const pr_dispatch_args *mine = t->sent[parallel->rank];
    size_t hidden = (size_t)mine->hidden;
    t->result[parallel->rank] = args->rows;
    pthread_barrier_wait(&t->barrier);
    for (int32_t i = 0; i < mine->tokens * mine->chosen; i++) {
        int32_t holder = 0;
        while (pr_share_begin(t->experts, holder + 1, t->ranks) <= mine->expert[i])
            holder++;
        int32_t row = t->row_of[holder][parallel->lane * MAX_TOKENS * mine->chosen + i];
        args->slot[i] = t->result[holder] + (size_t)row * hidden;
    }
    pthread_barrier_wait(&t->barrier);
    return PR_OK;
}

// ---- one rank ----

typedef struct rank {
    pr_device *device;
    pr_shard *shard;
    pr_kv_store *store;
    pr_parallel *parallel;
    pr_forward *forward;
} rank;

typedef struct loaded {
    pr_model *model;
    pr_weights *weights;
} loaded;

static loaded load(const char *name)
{
    char path[512];
    loaded l;
    snprintf(path, sizeof(path), "%s/tests/data/models/%s", PR_SOURCE_DIR, name);
    assert_int_equal(pr_model_open(path, &l.model), PR_OK);
    assert_int_equal(pr_weights_open(path, &l.weights), PR_OK);
    return l;
}

static void unload(loaded *l)
{
    pr_weights_close(l->weights);
    pr_model_close(l->model);
}

static void open_rank_for(
    rank *r, const loaded *l, pr_parallel *parallel, int32_t max_tokens, int32_t max_outputs)
{
    const pr_model *model = l->model;
    pr_place place = {
        .tp = parallel->tp,
        .tp_rank = parallel->tp_rank,
        .ranks = parallel->ranks,
        .rank = parallel->rank,
    };
    pr_kv_store_params params = {
        .layers = model->layers,
        .blocks = BLOCKS,
        .block_tokens = BLOCK_TOKENS,
        .kv_heads = model->kv_heads / place.tp,
        .head_size = model->head_size,
        .first_head = model->kv_heads / place.tp * place.tp_rank,
        .dtype = PR_BF16,
    };
    pr_forward_limits limits = {
        .max_tokens = max_tokens, .max_outputs = max_outputs, .max_positions = 128};
    r->parallel = parallel;
    assert_int_equal(
        pr_cpu_device_open(&(pr_cpu_device_params){.isa = "auto", .threads = 1}, &r->device),
        PR_OK);
    pr_shard_params shard = {
        .model = model, .weights = l->weights, .place = place, .device = r->device};
    assert_int_equal(pr_shard_load(&shard, &r->shard), PR_OK);
    assert_int_equal(pr_kv_store_create(r->device, &params, &r->store), PR_OK);
    assert_int_equal(
        pr_forward_create(model, r->shard, r->store, parallel, &limits, &r->forward), PR_OK);
}

static void open_rank(rank *r, const loaded *l, pr_parallel *parallel, int32_t max_tokens)
{
    open_rank_for(r, l, parallel, max_tokens, MAX_TOKENS);
}

static void close_rank(rank *r)
{
    pr_forward_destroy(r->forward);
    pr_kv_store_destroy(r->store);
    pr_shard_unload(r->shard);
    pr_cpu_device_close(r->device);
}

static pr_parallel *alone_for(const pr_model *model)
{
    pr_parallel *alone;
    assert_int_equal(
        pr_parallel_alone_create(
            model->experts, model->experts_chosen, model->hidden, MAX_TOKENS, &alone),
        PR_OK);
    return alone;
}

// ---- steps ----

// Rows of up to three sequences; sequence s has the blocks 5s..5s+4 and its own tokens.
typedef struct rows {
    int32_t sequence, first, count;
} rows;

typedef struct step {
    int32_t token[MAX_TOKENS], position[MAX_TOKENS], output[MAX_TOKENS];
    pr_segment segment[3];
    int32_t block[3][5];
    pr_forward_batch batch;
} step;

static void make_step(step *s, const rows *part, int32_t parts, int32_t vocabulary)
{
    memset(s, 0, sizeof(*s));
    int32_t t = 0;
    for (int32_t i = 0; i < parts; i++) {
        for (int32_t b = 0; b < 5; b++)
            s->block[i][b] = 5 * part[i].sequence + 4 - b;
        s->segment[i] = (pr_segment){
            .first_row = t,
            .rows = part[i].count,
            .start_position = part[i].first,
            .block = s->block[i],
        };
        for (int32_t j = 0; j < part[i].count; j++, t++) {
            s->position[t] = part[i].first + j;
            s->token[t] = (s->position[t] * 37 + part[i].sequence * 101 + 5) % vocabulary;
            s->output[t] = t;
        }
    }
    s->batch = (pr_forward_batch){
        .tokens = t,
        .token = s->token,
        .position = s->position,
        .segments = parts,
        .segment = s->segment,
        .outputs = t,
        .output_row = s->output,
    };
}

// Runs parts as one step; copies its logits.
static float *run(rank *r, const pr_model *model, const rows *part, int32_t parts)
{
    step s;
    float *logits;
    make_step(&s, part, parts, model->vocabulary);
    assert_int_equal(pr_forward_run(r->forward, &s.batch, &logits), PR_OK);
    size_t bytes = (size_t)s.batch.tokens * (size_t)model->vocabulary * sizeof(float);
    float *copy = malloc(bytes + 1);
    memcpy(copy, logits, bytes);
    return copy;
}

static void batch_mates_do_not_change_a_bit(void **state)
{
    (void)state;
    static const char *const names[] = {"qwen3-moe", "llama-linear", "mixtral-tiny"};
    for (int m = 0; m < 3; m++) {
        loaded l = load(names[m]);
        pr_parallel *alone = alone_for(l.model);
        rank r;
        open_rank(&r, &l, alone, MAX_TOKENS);
        size_t v = (size_t)l.model->vocabulary;
        float *apart[3];
        for (int32_t i = 0; i < 3; i++)
            apart[i] = run(&r, l.model, (rows[]){{i, 0, 40}}, 1);
        static const rows mixed[3][3] = {
            {{0, 0, 17}, {1, 0, 1}, {2, 0, 39}},
            {{2, 39, 1}, {0, 17, 5}, {1, 1, 31}},
            {{1, 32, 8}, {0, 22, 18}, {2, 39, 1}},
        };
        for (int i = 0; i < 3; i++) {
            float *together = run(&r, l.model, mixed[i], 3), *row = together;
            for (int p = 0; p < 3; p++) {
                const rows *part = &mixed[i][p];
                size_t bytes = (size_t)part->count * v * sizeof(float);
                assert_memory_equal(row, apart[part->sequence] + (size_t)part->first * v, bytes);
                row += (size_t)part->count * v;
            }
            free(together);
        }
        for (int i = 0; i < 3; i++)
            free(apart[i]);
        close_rank(&r);
        pr_parallel_alone_destroy(alone);
        unload(&l);
    }
}

static void only_the_wanted_rows_have_logits(void **state)
{
    (void)state;
    loaded l = load("qwen3");
    pr_parallel *alone = alone_for(l.model);
    rank r;
    open_rank(&r, &l, alone, MAX_TOKENS);
    size_t v = (size_t)l.model->vocabulary;
    float *all = run(&r, l.model, (rows[]){{0, 0, 20}}, 1), *logits;
    step s;
    make_step(&s, (rows[]){{0, 0, 20}}, 1, l.model->vocabulary);
    s.batch.outputs = 2;
    s.output[0] = 3;
    s.output[1] = 19;
    assert_int_equal(pr_forward_run(r.forward, &s.batch, &logits), PR_OK);
    assert_memory_equal(logits, all + 3 * v, v * sizeof(float));
    assert_memory_equal(logits + v, all + 19 * v, v * sizeof(float));
    free(all);
    close_rank(&r);
    pr_parallel_alone_destroy(alone);
    unload(&l);
}

// Logits of rows [0, count) of the last step, `at_once` at a time, against right [count][V].
static void
compare_later(rank *r, int32_t count, int32_t at_once, int32_t vocabulary, const float *right)
{
    for (int32_t first = 0; first < count; first += at_once) {
        int32_t row[MAX_TOKENS], n = count - first < at_once ? count - first : at_once;
        float *logits;
        for (int32_t i = 0; i < n; i++)
            row[i] = first + i;
        size_t floats = (size_t)n * (size_t)vocabulary;
        assert_int_equal(pr_forward_logits(r->forward, row, n, &logits), PR_OK);
        assert_memory_equal(
            logits, right + (size_t)first * (size_t)vocabulary, floats * sizeof(float));
        memset(logits, 0xff, floats * sizeof(float));  // the caller may overwrite them
    }
}

static void rows_asked_for_after_the_step_have_the_bits_of_one_token_a_step(void **state)
{
    (void)state;
    enum { TOKENS = 40, OUTPUTS = 7 };
    static const char *const names[] = {"qwen3-moe", "llama-linear"};
    for (int m = 0; m < 2; m++) {
        loaded l = load(names[m]);
        pr_parallel *alone = alone_for(l.model);
        size_t v = (size_t)l.model->vocabulary;
        float *right = malloc(TOKENS * v * sizeof(float)), *logits;
        rank r;
        open_rank_for(&r, &l, alone, MAX_TOKENS, OUTPUTS);
        for (int32_t p = 0; p < TOKENS; p++) {
            float *one = run(&r, l.model, (rows[]){{0, p, 1}}, 1);
            memcpy(right + (size_t)p * v, one, v * sizeof(float));
            free(one);
        }
        step s;
        make_step(&s, (rows[]){{0, 0, TOKENS}, {1, 0, 9}}, 2, l.model->vocabulary);
        s.batch.outputs = 1;
        s.output[0] = TOKENS - 1;
        assert_int_equal(pr_forward_run(r.forward, &s.batch, &logits), PR_OK);
        assert_memory_equal(logits, right + (TOKENS - 1) * v, v * sizeof(float));
        for (int32_t at_once = 1; at_once <= OUTPUTS; at_once += 3)
            compare_later(&r, TOKENS, at_once, l.model->vocabulary, right);
        free(right);
        close_rank(&r);
        pr_parallel_alone_destroy(alone);
        unload(&l);
    }
}

static void rows_that_the_step_does_not_have_are_refused(void **state)
{
    (void)state;
    loaded l = load("qwen3");
    pr_parallel *alone = alone_for(l.model);
    rank r;
    float *logits;
    open_rank_for(&r, &l, alone, MAX_TOKENS, 3);
    pr_error_capture_begin();
    assert_int_equal(pr_forward_logits(r.forward, (int32_t[]){0}, 1, &logits), PR_ERR_INTERNAL);
    free(run(&r, l.model, (rows[]){{0, 0, 2}}, 1));
    assert_int_equal(pr_forward_logits(r.forward, NULL, 0, &logits), PR_OK);
    assert_int_equal(pr_forward_logits(r.forward, (int32_t[]){1, 0, 1}, 3, &logits), PR_OK);
    assert_int_equal(pr_forward_logits(r.forward, (int32_t[]){2}, 1, &logits), PR_ERR_INTERNAL);
    assert_int_equal(pr_forward_logits(r.forward, (int32_t[]){-1}, 1, &logits), PR_ERR_INTERNAL);
    assert_int_equal(
        pr_forward_logits(r.forward, (int32_t[]){0, 0, 0, 0}, 4, &logits), PR_ERR_INTERNAL);
    pr_error_capture_end();
    close_rank(&r);
    pr_parallel_alone_destroy(alone);
    unload(&l);
}

typedef struct watcher {
    const pr_kv_store *store;
    int32_t next_layer;
} watcher;

// K of the announced layer is written, the next layer's page still holds zeros.
static void watch(void *context, int32_t layer)
{
    watcher *w = context;
    assert_int_equal(layer, w->next_layer);
    w->next_layer++;
    const char *page = pr_kv_store_page(w->store, layer, 0, 4);
    bool written = false;
    for (size_t i = 0; i < w->store->page_bytes; i++)
        written |= page[i] != 0;
    assert_true(written);
    if (w->next_layer < w->store->layers) {
        page = pr_kv_store_page(w->store, w->next_layer, 0, 4);
        for (size_t i = 0; i < w->store->page_bytes; i++)
            assert_int_equal(page[i], 0);
    }
}

static void each_layer_is_announced_when_its_pages_are_written(void **state)
{
    (void)state;
    loaded l = load("qwen3-moe");
    pr_parallel *alone = alone_for(l.model);
    rank r;
    open_rank(&r, &l, alone, MAX_TOKENS);
    step s;
    float *logits;
    make_step(&s, (rows[]){{0, 0, 16}}, 1, l.model->vocabulary);
    watcher w = {.store = r.store};
    s.batch.layer_done = watch;
    s.batch.context = &w;
    assert_int_equal(pr_forward_run(r.forward, &s.batch, &logits), PR_OK);
    assert_int_equal(w.next_layer, l.model->layers);
    close_rank(&r);
    pr_parallel_alone_destroy(alone);
    unload(&l);
}

static void a_step_that_would_write_elsewhere_is_refused(void **state)
{
    (void)state;
    loaded l = load("qwen3");
    pr_parallel *alone = alone_for(l.model);
    rank r;
    open_rank(&r, &l, alone, MAX_TOKENS);
    float *logits;
    pr_error_capture_begin();
    for (int fault = 0; fault < 9; fault++) {
        step s;
        make_step(&s, (rows[]){{0, 0, 20}, {1, 3, 2}}, 2, l.model->vocabulary);
        int32_t expected = PR_ERR_INTERNAL;
        switch (fault) {
        case 0:
            s.block[0][1] = BLOCKS;
            break;
        case 1:
            s.block[1][0] = -1;
            break;
        case 2:
            s.token[7] = l.model->vocabulary;
            break;
        case 3:
            s.batch.tokens = MAX_TOKENS + 1;
            break;
        case 4:
            s.output[2] = 22;
            break;
        case 5:
            s.segment[1].first_row = 19;
            break;
        case 6:
            s.position[4] = 5;
            break;
        case 7:
            s.segment[1].start_position = 127;
            break;
        default:
            expected = PR_OK;
        }
        assert_int_equal(pr_forward_run(r.forward, &s.batch, &logits), expected);
    }
    pr_error_capture_end();
    close_rank(&r);
    pr_parallel_alone_destroy(alone);
    unload(&l);
}

// ---- groups ----

typedef struct thread {
    member member;
    rank rank;
    const loaded *loaded;
    rows part;  // of this lane; count 0: none
    const float *right;
    float *logits;
    pthread_t id;
} thread;

static void *run_thread(void *argument)
{
    thread *t = argument;
    int32_t vocabulary = t->loaded->model->vocabulary;
    t->logits = run(&t->rank, t->loaded->model, &t->part, t->part.count > 0);
    if (t->right)
        compare_later(&t->rank, t->part.count, 8, vocabulary, t->right);
    return NULL;
}

// One step of a group, as long as its limit; lane i computes sequence i mod 2.
static void
compare_group(const loaded *l, float *const right[2], int32_t ranks, int32_t tp, bool last_idle)
{
    const pr_model *model = l->model;
    static thread threads[MAX_RANKS];
    team t = {.tp = tp, .ranks = ranks, .experts = model->experts, .hidden = model->hidden};
    size_t pairs = MAX_TOKENS * (size_t)model->experts_chosen;
    int32_t lanes = ranks / tp;
    assert_int_equal(pthread_barrier_init(&t.barrier, NULL, (unsigned)ranks), 0);
    for (int32_t i = 0; i < ranks; i++) {
        thread *one = &threads[i];
        int32_t lane = i / tp;
        *one = (thread){.loaded = l};
        t.row_of[i] = malloc((size_t)lanes * pairs * sizeof(int32_t) + 1);
        one->member = (member){.team = &t};
        one->member.rows =
            malloc((size_t)lanes * pairs * (size_t)model->hidden * sizeof(float) + 1);
        one->member.parallel = (pr_parallel){
            .tp = tp,
            .tp_rank = i % tp,
            .lanes = lanes,
            .lane = lane,
            .ranks = ranks,
            .rank = i,
            .experts = model->experts,
            .state = &one->member,
            .tensor_room = team_room,
            .tensor_reduce = team_reduce,
            .tensor_gather = team_gather,
            .expert_dispatch = team_dispatch,
            .expert_combine = team_combine,
        };
        bool idle = last_idle && lane == lanes - 1;
        one->part = (rows){.sequence = lane % 2, .first = 0, .count = idle ? 0 : GROUP_TOKENS};
        one->right = last_idle ? NULL : right[lane % 2];  // the team's barrier wants all its lanes
        open_rank(&one->rank, l, &one->member.parallel, GROUP_TOKENS);
    }
    for (int32_t i = 0; i < ranks; i++)
        assert_int_equal(pthread_create(&threads[i].id, NULL, run_thread, &threads[i]), 0);
    for (int32_t i = 0; i < ranks; i++)
        assert_int_equal(pthread_join(threads[i].id, NULL), 0);
    for (int32_t i = 0; i < ranks; i++) {
        thread *one = &threads[i];
        size_t bytes = (size_t)one->part.count * (size_t)model->vocabulary * sizeof(float);
        assert_memory_equal(one->logits, right[one->part.sequence], bytes);
        close_rank(&one->rank);
        free(one->logits);
        free(one->member.rows);
        free(t.row_of[i]);
    }
    pthread_barrier_destroy(&t.barrier);
}

static void cutting_the_model_over_ranks_does_not_change_a_bit(void **state)
{
    (void)state;
    static const char *const names[] = {
        "llama-linear", "qwen2", "qwen3-moe", "qwen3-moe-nonorm", "mixtral-tiny"};
    static const int32_t layouts[][2] = {{1, 1}, {2, 1}, {2, 2}, {3, 1}, {4, 2}, {4, 4}, {6, 2}};
    for (int m = 0; m < 5; m++) {
        loaded l = load(names[m]);
        pr_parallel *alone = alone_for(l.model);
        rank r;
        open_rank(&r, &l, alone, MAX_TOKENS);
        float *right[2];
        for (int32_t i = 0; i < 2; i++)
            right[i] = run(&r, l.model, (rows[]){{i, 0, GROUP_TOKENS}}, 1);
        int compared = 0;
        for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
            int32_t ranks = layouts[i][0], tp = layouts[i][1];
            pr_error_capture_begin();
            pr_status fits = pr_shard_check(l.model, &(pr_place){.tp = tp, .ranks = ranks});
            pr_error_capture_end();
            if (fits != PR_OK)
                continue;
            compare_group(&l, right, ranks, tp, false);
            compare_group(&l, right, ranks, tp, true);
            compared++;
        }
        print_message("%s: %d layouts\n", names[m], compared);
        assert_true(compared >= 5);
        for (int i = 0; i < 2; i++)
            free(right[i]);
        close_rank(&r);
        pr_parallel_alone_destroy(alone);
        unload(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_mates_do_not_change_a_bit),
        cmocka_unit_test(only_the_wanted_rows_have_logits),
        cmocka_unit_test(rows_asked_for_after_the_step_have_the_bits_of_one_token_a_step),
        cmocka_unit_test(rows_that_the_step_does_not_have_are_refused),
        cmocka_unit_test(each_layer_is_announced_when_its_pages_are_written),
        cmocka_unit_test(a_step_that_would_write_elsewhere_is_refused),
        cmocka_unit_test(cutting_the_model_over_ranks_does_not_change_a_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
