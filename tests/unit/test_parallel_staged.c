// SPDX-License-Identifier: BSD-3-Clause
// A group staged for a device whose memory the host cannot touch: its pages are readable only during copies.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/log.h"
#include "runtime/parallel_staged.h"

enum { MEMORY_BYTES = 1 << 20, EXPERTS = 6, CHOSEN = 2, HIDDEN = 3, TOKENS = 5, VOCABULARY = 8 };

// ---- The device ----

typedef struct far_memory {
    char *memory;  // [MEMORY_BYTES], nobody's between copies
    size_t used_bytes;
    int takes_left, copies_left;
} far_memory;

static void open_memory(far_memory *far_away, int protection)
{
    assert_int_equal(mprotect(far_away->memory, MEMORY_BYTES, protection), 0);
}

static pr_status far_take(pr_device *device, size_t size_bytes, void **memory)
{
    far_memory *far_away = device->state;
    if (far_away->takes_left-- == 0)
        return pr_fail(PR_ERR_RESOURCE, "the device is full");
    *memory = far_away->memory + far_away->used_bytes;
    far_away->used_bytes += (size_bytes + 63) / 64 * 64;
    assert_true(far_away->used_bytes <= MEMORY_BYTES);
    return PR_OK;
}

static void far_release(pr_device *device, void *memory)
{
    (void)device;
    (void)memory;
}

static pr_status host_take(pr_device *device, size_t size_bytes, void **memory)
{
    far_memory *far_away = device->state;
    if (far_away->takes_left-- == 0)
        return pr_fail(PR_ERR_RESOURCE, "no pinned memory");
    *memory = calloc(1, size_bytes + 1);
    assert_non_null(*memory);
    return PR_OK;
}

static void host_release(pr_device *device, void *memory)
{
    (void)device;
    free(memory);
}

static pr_status move(pr_device *device, void *to, const void *from, size_t size_bytes)
{
    far_memory *far_away = device->state;
    if (far_away->copies_left-- == 0)
        return pr_fail(PR_ERR_INTERNAL, "the device is gone");
    open_memory(far_away, PROT_READ | PROT_WRITE);
    memcpy(to, from, size_bytes);
    open_memory(far_away, PROT_NONE);
    return PR_OK;
}

static pr_device open_device(far_memory *far_away)
{
    *far_away = (far_memory){.takes_left = 1000, .copies_left = 1000};
    far_away->memory = mmap(NULL, MEMORY_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(far_away->memory != MAP_FAILED);
    return (pr_device){
        .name = "far away",
        .state = far_away,
        .memory_take = far_take,
        .memory_release = far_release,
        .host_take = host_take,
        .host_release = host_release,
        .copy_in = move,
        .copy_out = move,
    };
}

static void *put(pr_device *device, const void *from, size_t size_bytes)
{
    void *memory;
    assert_int_equal(far_take(device, size_bytes, &memory), PR_OK);
    assert_int_equal(move(device, memory, from, size_bytes), PR_OK);
    return memory;
}

static void get(pr_device *device, const void *from, size_t size_bytes, void *to)
{
    assert_int_equal(move(device, to, from, size_bytes), PR_OK);
}

// ---- A lane of two that adds 100 to each branch, and has room for them ----

static float lane_room[64];
static int32_t lane_layer;
static bool lane_has_room;

static float *lane_tensor_room(pr_parallel *parallel)
{
    (void)parallel;
    return lane_has_room ? lane_room : NULL;
}

static pr_status
lane_reduce(pr_parallel *parallel, const float *branch, float *sum, int32_t tokens, int32_t cols)
{
    assert_true(!lane_has_room || (branch == lane_room && sum != lane_room));
    lane_layer = parallel->layer;
    for (int32_t i = 0; i < tokens * cols; i++)
        sum[i] = branch[i] + 100;
    return PR_OK;
}

static pr_status
lane_gather(pr_parallel *parallel, const float *part, float *whole, int32_t tokens, int32_t cols)
{
    (void)parallel;
    for (int32_t t = 0; t < tokens; t++) {
        for (int32_t i = 0; i < cols; i++)
            whole[t * cols + i] = i < cols / 2 ? -1.0f : part[t * cols / 2 + i - cols / 2];
    }
    return PR_OK;
}

static pr_parallel lane_of_two(void)
{
    return (pr_parallel){
        .tp = 2,
        .tp_rank = 1,
        .lanes = 1,
        .ranks = 2,
        .rank = 1,
        .layer = -1,
        .tensor_room = lane_tensor_room,
        .tensor_reduce = lane_reduce,
        .tensor_gather = lane_gather,
    };
}

// ---- Tests ----

static const pr_parallel_staged_limits limits = {
    .tokens = TOKENS,
    .outputs = 2,
    .chosen = CHOSEN,
    .hidden = HIDDEN,
    .vocabulary = VOCABULARY,
};

static const float x[TOKENS][HIDDEN] = {
    {1, 2, 3}, {4, 5, 6}, {7, 8, 9}, {10, 11, 12}, {13, 14, 15}};
static const int32_t expert[TOKENS][CHOSEN] = {{3, 1}, {1, 0}, {3, 1}, {5, 3}, {0, 5}};

// Rows of a group alone, staged or not, with results made of them, into the slots' rows.
static void
exchange_staged(pr_device *device, pr_parallel *staged, int32_t tokens, float *slot_rows)
{
    float rows[TOKENS * CHOSEN][HIDDEN];
    const float *slot[TOKENS * CHOSEN];
    int32_t count[EXPERTS], sum = 0;
    pr_dispatch_args args = {.tokens = tokens, .chosen = CHOSEN, .hidden = HIDDEN};
    args.x = put(device, x, sizeof x);
    args.expert = put(device, expert, sizeof expert);
    assert_int_equal(staged->expert_dispatch(staged, &args), PR_OK);
    assert_int_equal(args.received, tokens * CHOSEN);
    assert_null(args.place);
    get(device, args.count, sizeof count, count);
    for (int e = 0; e < EXPERTS; e++)
        sum += count[e];
    assert_int_equal(sum, args.received);
    size_t size_bytes = (size_t)args.received * sizeof rows[0];
    get(device, args.rows, size_bytes, rows);
    for (int i = 0; i < args.received; i++)
        rows[i][2] += 1000.0f * (float)i;
    pr_return_args back = {
        .rows = put(device, rows, size_bytes), .slot = put(device, slot, sizeof slot)};
    assert_int_equal(staged->expert_combine(staged, &back), PR_OK);
    get(device, back.slot, (size_t)args.received * sizeof slot[0], slot);
    for (int i = 0; i < args.received; i++)
        get(device, slot[i], sizeof rows[0], slot_rows + i * HIDDEN);
}

static void exchange_on_host(pr_parallel *alone, int32_t tokens, float *slot_rows)
{
    float results[TOKENS * CHOSEN][HIDDEN];
    const float *slot[TOKENS * CHOSEN];
    pr_dispatch_args args = {
        .tokens = tokens,
        .chosen = CHOSEN,
        .hidden = HIDDEN,
        .x = &x[0][0],
        .expert = &expert[0][0]};
    assert_int_equal(alone->expert_dispatch(alone, &args), PR_OK);
    memcpy(results, args.rows, (size_t)args.received * sizeof results[0]);
    for (int i = 0; i < args.received; i++)
        results[i][2] += 1000.0f * (float)i;
    pr_return_args back = {.rows = &results[0][0], .slot = slot};
    assert_int_equal(alone->expert_combine(alone, &back), PR_OK);
    for (int i = 0; i < args.received; i++)
        memcpy(slot_rows + i * HIDDEN, slot[i], sizeof results[0]);
}

static void experts_get_and_return_the_same_rows_as_on_the_host(void **state)
{
    (void)state;
    far_memory far_away;
    pr_device device = open_device(&far_away);
    pr_parallel *alone, *staged;
    assert_int_equal(pr_parallel_alone_create(EXPERTS, CHOSEN, HIDDEN, TOKENS, &alone), PR_OK);
    assert_int_equal(pr_parallel_staged_create(alone, &device, &limits, &staged), PR_OK);
    for (int32_t tokens = TOKENS; tokens >= 0; tokens--) {
        float mine[TOKENS * CHOSEN * HIDDEN] = {0}, right[TOKENS * CHOSEN * HIDDEN] = {0};
        exchange_staged(&device, staged, tokens, mine);
        exchange_on_host(alone, tokens, right);
        assert_memory_equal(mine, right, sizeof mine);
    }
    pr_parallel_staged_destroy(staged);
    pr_parallel_alone_destroy(alone);
    munmap(far_away.memory, MEMORY_BYTES);
}

static void sums_and_logits_pass_through_the_host_and_its_room(void **state)
{
    (void)state;
    far_memory far_away;
    pr_device device = open_device(&far_away);
    pr_parallel lane = lane_of_two(), *staged;
    pr_parallel_staged_limits dense = limits;
    dense.chosen = 0;
    assert_int_equal(pr_parallel_staged_create(&lane, &device, &dense, &staged), PR_OK);
    for (int i = 0; i < 2; i++) {
        float sum[TOKENS][HIDDEN], whole[2][VOCABULARY];
        float *branch = put(&device, x, sizeof x);
        lane_has_room = i == 1;
        staged->layer = 7 + i;
        assert_int_equal(staged->tensor_reduce(staged, branch, branch, TOKENS, HIDDEN), PR_OK);
        assert_int_equal(lane_layer, 7 + i);
        get(&device, branch, sizeof sum, sum);
        for (int t = 0; t < TOKENS; t++) {
            for (int h = 0; h < HIDDEN; h++)
                assert_true(sum[t][h] == x[t][h] + 100);
        }
        float *part = put(&device, x, 2 * VOCABULARY / 2 * sizeof(float));
        assert_int_equal(staged->tensor_gather(staged, part, &whole[0][0], 2, VOCABULARY), PR_OK);
        assert_true(whole[0][3] == -1 && whole[0][4] == x[0][0] && whole[1][7] == x[2][1]);
    }
    pr_parallel_staged_destroy(staged);
    munmap(far_away.memory, MEMORY_BYTES);
}

static void a_device_that_fails_ends_the_operation(void **state)
{
    (void)state;
    far_memory far_away;
    pr_device device = open_device(&far_away);
    pr_parallel lane = lane_of_two(), *staged;
    assert_int_equal(pr_parallel_staged_create(&lane, &device, &limits, &staged), PR_OK);
    float *branch = put(&device, x, sizeof x);
    pr_error_capture_begin();
    for (int copies = 0; copies < 2; copies++) {
        far_away.copies_left = copies;
        assert_int_equal(
            staged->tensor_reduce(staged, branch, branch, TOKENS, HIDDEN), PR_ERR_INTERNAL);
    }
    pr_error_capture_end();
    pr_parallel_staged_destroy(staged);
    munmap(far_away.memory, MEMORY_BYTES);
}

static void memory_that_is_refused_leaves_nothing_behind(void **state)
{
    (void)state;
    far_memory far_away;
    pr_device device = open_device(&far_away);
    pr_parallel *alone, *staged;
    assert_int_equal(pr_parallel_alone_create(EXPERTS, CHOSEN, HIDDEN, TOKENS, &alone), PR_OK);
    pr_error_capture_begin();
    int takes = 0;
    for (;; takes++) {
        far_away.takes_left = takes;
        pr_status status = pr_parallel_staged_create(alone, &device, &limits, &staged);
        if (status == PR_OK)
            break;
        assert_int_equal(status, PR_ERR_RESOURCE);
    }
    pr_error_capture_end();
    assert_true(takes > 5);
    pr_parallel_staged_destroy(staged);
    pr_parallel_alone_destroy(alone);
    munmap(far_away.memory, MEMORY_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_get_and_return_the_same_rows_as_on_the_host),
        cmocka_unit_test(sums_and_logits_pass_through_the_host_and_its_room),
        cmocka_unit_test(a_device_that_fails_ends_the_operation),
        cmocka_unit_test(memory_that_is_refused_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
