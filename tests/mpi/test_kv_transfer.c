// SPDX-License-Identifier: BSD-3-Clause
// KV blocks between lanes of different tp: every byte, before and after they are expected.
// ranks: 2 3 4 5 6
#include <unistd.h>

#include "comm/kv_transfer.h"
#include "kernels/cpu/cpu_device.h"
#include "runtime/base/clock.h"
#include "tests/mpi/mpi_test.h"

enum {
    LAYERS = 4,
    BLOCKS = 64,
    BLOCK_TOKENS = 16,
    HEAD_SIZE = 8,
    KV_HEADS = 4,
    STEPS = 3,
    PER_STEP = 3,  // handovers of one source lane in one step
    MOVES = STEPS * PER_STEP,
    MAX_BLOCKS = 20,
    GATHERS = 6,  // from each of two lanes to the other at one time: more layers than slabs
    GATHER_BLOCKS = 5,
    EMPTY = 0xEE
};

typedef struct scene {
    int32_t from_tp, from_lanes, to_tp, to_lanes;
    bool corrupts;
    pr_layout layout;
    pr_device *device;
    pr_kv_store store;
    pr_kv_transfer *transfer;
    int32_t group, lane;
} scene;

static unsigned char byte_of(int32_t lane, int32_t layer, int32_t stream, int32_t block, size_t at)
{
    uint64_t place = (uint64_t)(((lane * LAYERS + layer) * 2 + stream) * BLOCKS + block);
    return (unsigned char)noise(place, at / 8, 21) ^ (unsigned char)at;
}

// Block i of handover n of a source lane, on either side: all different within a step.
static int32_t block_of(bool source, int32_t lane, int32_t n, int32_t i)
{
    int32_t slot = (n % PER_STEP) * MAX_BLOCKS + i;
    return (slot * (source ? 7 : 11) + lane * 5 + n / PER_STEP * 3) % BLOCKS;
}

static int32_t blocks_of(int32_t lane, int32_t n)
{
    return 1 + (int32_t)(noise((uint64_t)lane, (uint64_t)n, 22) % MAX_BLOCKS);
}

static void fill_handover(
    const scene *s, int32_t lane, int32_t n, int32_t *from, int32_t *to, pr_handover *handover)
{
    *handover = (pr_handover){
        .id = (uint64_t)(lane * 1000 + n),
        .generation = (uint32_t)n + 7,
        .tag = 32767 - lane * MOVES - n,
        .from_group = 0,
        .from_lane = lane,
        .to_group = 1,
        .to_lane = (lane + n) % s->to_lanes,
        .blocks = blocks_of(lane, n),
        .from_block = from,
        .to_block = to,
        .first_block = n};
    for (int32_t i = 0; i < handover->blocks; i++) {
        from[i] = block_of(true, lane, n, i);
        to[i] = block_of(false, lane, n, i);
    }
}

static void open_scene(scene *s, int32_t timeout_ms)
{
    int32_t rank = pr_world_rank(mpi_test_world), ranks = pr_world_ranks(mpi_test_world);
    int32_t first = ranks - s->from_tp * s->from_lanes - s->to_tp * s->to_lanes;
    s->layout = (pr_layout){.ranks = ranks, .groups = 2, .dedicated_controller = first > 0};
    s->layout.group[0] = (pr_group_layout){
        PR_ROLE_PREFILL, .first_rank = first, .ranks = s->from_tp * s->from_lanes,
        .tp = s->from_tp};
    s->layout.group[1] = (pr_group_layout){
        PR_ROLE_DECODE, .first_rank = first + s->layout.group[0].ranks,
        .ranks = s->to_tp * s->to_lanes, .tp = s->to_tp};
    s->group = pr_layout_group_of(&s->layout, rank);
    pr_kv_transfer_params params = {
        .world = mpi_test_world,
        .layout = &s->layout,
        .kv_heads = KV_HEADS,
        .max_blocks = MAX_BLOCKS,
        .timeout_ms = timeout_ms,
        .corrupt_for_test = s->corrupts};
    if (s->group >= 0) {
        const pr_group_layout *group = &s->layout.group[s->group];
        int32_t place = rank - group->first_rank, tp_rank = place % group->tp;
        s->lane = place / group->tp;
        const pr_cpu_device_params cpu = {.isa = "reference", .threads = 1};
        MUST(pr_cpu_device_open(&cpu, &s->device));
        s->store = (pr_kv_store){
            .device = s->device,
            .layers = LAYERS,
            .blocks = BLOCKS,
            .block_tokens = BLOCK_TOKENS,
            .kv_heads = KV_HEADS / group->tp,
            .head_size = HEAD_SIZE,
            .first_head = KV_HEADS / group->tp * tp_rank,
            .dtype = PR_F32,
            .head_bytes = BLOCK_TOKENS * HEAD_SIZE * 4};
        s->store.page_bytes = (size_t)s->store.kv_heads * s->store.head_bytes;
        s->store.memory = malloc(s->store.page_bytes * LAYERS * PR_KV_STREAMS * BLOCKS);
        params.store = &s->store;
    }
    MUST(pr_kv_transfer_create(&params, &s->transfer));
}

static void close_scene(scene *s)
{
    pr_kv_transfer_destroy(s->transfer);
    free(s->store.memory);
    pr_cpu_device_close(s->device);
}

static void fill_source(scene *s)
{
    for (int32_t i = 0; i < LAYERS * PR_KV_STREAMS * BLOCKS; i++) {
        int32_t layer = i / (PR_KV_STREAMS * BLOCKS), stream = i / BLOCKS % PR_KV_STREAMS;
        char *page = pr_kv_store_page(&s->store, layer, stream, i % BLOCKS);
        size_t first = (size_t)s->store.first_head * s->store.head_bytes;
        for (size_t at = 0; at < s->store.page_bytes; at++)
            page[at] = (char)byte_of(s->lane, layer, stream, i % BLOCKS, first + at);
    }
}

static void drain(scene *s)
{
    pr_arrival_report none[1];
    int32_t arrivals = 0;
    while (pr_kv_transfer_pending(s->transfer) > 0)
        MUST(pr_kv_transfer_progress(s->transfer, none, 1, &arrivals));
    EXPECT(arrivals == 0, "something arrived at a source");
}

static void run_source(scene *s, int32_t step)
{
    int32_t from[PER_STEP][MAX_BLOCKS], to[PER_STEP][MAX_BLOCKS];
    int64_t before = pr_kv_transfer_sent_bytes(s->transfer), sent = 0;
    fill_source(s);
    for (int32_t i = 0; i < PER_STEP; i++) {
        pr_handover handover;
        fill_handover(s, s->lane, step * PER_STEP + i, from[i], to[i], &handover);
        MUST(pr_kv_transfer_send(s->transfer, &handover));
        int32_t pairs = s->to_tp > s->from_tp ? s->to_tp / s->from_tp : 1;
        int32_t heads = KV_HEADS / (s->to_tp > s->from_tp ? s->to_tp : s->from_tp);
        sent +=
            (int64_t)LAYERS * pairs *
            (64 + (int64_t)PR_KV_STREAMS * handover.blocks * heads * (int64_t)s->store.head_bytes);
    }
    for (int32_t layer = 0; layer < LAYERS; layer++)
        MUST(pr_kv_transfer_push_layer(s->transfer, layer));
    memset(s->store.memory, EMPTY, s->store.page_bytes * LAYERS * PR_KV_STREAMS * BLOCKS);
    drain(s);
    before = pr_kv_transfer_sent_bytes(s->transfer) - before;
    EXPECT(before == sent, "counted %lld bytes, wanted %lld", (long long)before, (long long)sent);
}

static void check_pages(const scene *s, int32_t lane, int32_t n)
{
    for (int32_t i = 0; i < LAYERS * PR_KV_STREAMS * blocks_of(lane, n); i++) {
        int32_t b = i / (LAYERS * PR_KV_STREAMS), layer = i / PR_KV_STREAMS % LAYERS,
                stream = i % 2;
        size_t first = (size_t)s->store.first_head * s->store.head_bytes, wrong = 0;
        int32_t from = block_of(true, lane, n, b);
        unsigned char *page = (unsigned char *)pr_kv_store_page(
            &s->store, layer, stream, block_of(false, lane, n, b));
        for (size_t at = 0; at < s->store.page_bytes; at++)
            wrong += page[at] != byte_of(lane, layer, stream, from, first + at);
        EXPECT(wrong == 0, "handover %d/%d block %d layer %d: %zu bytes", lane, n, b, layer, wrong);
        memset(page, EMPTY, s->store.page_bytes);
    }
}

static void check_rest_is_untouched(const scene *s)
{
    size_t size = s->store.page_bytes * LAYERS * PR_KV_STREAMS * BLOCKS, touched = 0;
    for (size_t i = 0; i < size; i++)
        touched += (unsigned char)s->store.memory[i] != EMPTY;
    EXPECT(touched == 0 || s->corrupts, "%zu bytes beside the blocks were written", touched);
}

// The handovers of one step that come to this lane; those of odd number are expected late. One
// source lane after the other, as their target blocks overlap.
static void run_target(scene *s, int32_t step, int32_t *broken)
{
    for (int32_t lane = 0; lane < s->from_lanes; lane++) {
        int32_t from[MAX_BLOCKS], to[MAX_BLOCKS], wanted = 0, arrivals = 0;
        pr_arrival_report arrival[PER_STEP];
        pr_handover handover;
        memset(s->store.memory, EMPTY, s->store.page_bytes * LAYERS * PR_KV_STREAMS * BLOCKS);
        for (int32_t late = 0; late < 2; late++) {
            for (int32_t i = 0; i < PER_STEP; i++) {
                fill_handover(s, lane, step * PER_STEP + i, from, to, &handover);
                if (i % 2 != late)
                    continue;
                wanted += handover.to_lane == s->lane;
                MUST(pr_kv_transfer_expect(s->transfer, &handover));
            }
            for (int64_t end = pr_clock_now_ns() + 20000000; pr_clock_now_ns() < end && !late;)
                MUST(pr_kv_transfer_progress(s->transfer, arrival, PER_STEP, &arrivals));
        }
        while (arrivals < wanted)
            MUST(pr_kv_transfer_progress(s->transfer, arrival, PER_STEP, &arrivals));
        for (int32_t i = 0; i < arrivals; i++) {
            int32_t n = (int32_t)(arrival[i].id % 1000);
            EXPECT((int32_t)arrival[i].id / 1000 == lane, "from another lane");
            EXPECT(arrival[i].generation == (uint32_t)n + 7, "another generation");
            *broken += !arrival[i].intact;
            if (arrival[i].intact)
                check_pages(s, lane, n);
        }
        EXPECT(pr_kv_transfer_pending(s->transfer) == 0, "something is pending");
        check_rest_is_untouched(s);
    }
}

static void blocks_arrive_whole(
    int32_t from_tp, int32_t from_lanes, int32_t to_tp, int32_t to_lanes, bool corrupts)
{
    scene s = {from_tp, from_lanes, to_tp, to_lanes, .corrupts = corrupts};
    int32_t ranks = pr_world_ranks(mpi_test_world), used = from_tp * from_lanes + to_tp * to_lanes;
    if (used != ranks && used + 1 != ranks)
        return;
    int32_t broken = 0;
    pr_log_set_level(corrupts ? PR_LOG_ERROR : PR_LOG_WARN);
    open_scene(&s, 20000);
    for (int32_t step = 0; step < STEPS; step++) {
        if (s.group == 0)
            run_source(&s, step);
        else if (s.group == 1)
            run_target(&s, step, &broken);
    }
    close_scene(&s);
    if (!corrupts)
        EXPECT(broken == 0, "%d handovers are not intact", broken);
    int64_t most = broken;
    MUST(pr_world_max(mpi_test_world, &most));
    if (corrupts)
        EXPECT(most > 0, "nobody noticed the flipped bits");
    char name[120];
    snprintf(
        name, sizeof name, "%s: tp %d x %d to tp %d x %d%s", __func__, from_tp, from_lanes, to_tp,
        to_lanes, corrupts ? ", flipped bits are noticed" : "");
    agree(name);
}

// Gather n from a group to the other one: from blocks of the lower half to blocks of the upper half.
static void
fill_gather(int32_t from_group, int32_t n, int32_t *from, int32_t *to, pr_handover *made)
{
    *made = (pr_handover){
        .id = (uint64_t)n,
        .generation = 3,
        .tag = n * 2 + from_group,
        .from_group = from_group,
        .to_group = 1 - from_group,
        .blocks = GATHER_BLOCKS,
        .from_block = from,
        .to_block = to,
        .first_block = 2,
        .gather = true};
    for (int32_t i = 0; i < GATHER_BLOCKS; i++) {
        from[i] = (n * GATHER_BLOCKS + i) * 7 % (BLOCKS / 2);
        to[i] = BLOCKS / 2 + (n * GATHER_BLOCKS + i) * 3 % (BLOCKS / 2);
    }
}

static void check_gathers(const scene *s)
{
    int64_t wrong = 0;
    for (int32_t i = 0; i < GATHERS * GATHER_BLOCKS * LAYERS * PR_KV_STREAMS; i++) {
        int32_t stream = i % 2, layer = i / 2 % LAYERS, b = i / 2 / LAYERS % GATHER_BLOCKS;
        int32_t from[GATHER_BLOCKS], to[GATHER_BLOCKS];
        pr_handover gather;
        fill_gather(1 - s->group, i / (2 * LAYERS * GATHER_BLOCKS), from, to, &gather);
        size_t first = (size_t)s->store.first_head * s->store.head_bytes;
        const unsigned char *page =
            (const unsigned char *)pr_kv_store_page(&s->store, layer, stream, to[b]);
        for (size_t at = 0; at < s->store.page_bytes; at++)
            wrong += page[at] != byte_of(1 - s->group, layer, stream, from[b], first + at);
    }
    EXPECT(wrong == 0, "%lld bytes of what was fetched", (long long)wrong);
}

// Both send before they expect, and neither makes progress for a while, as in a long step.
static void two_lanes_fetch_from_each_other_at_one_time(int32_t tp, int32_t other_tp, bool corrupts)
{
    scene s = {
        .from_tp = tp, .from_lanes = 1, .to_tp = other_tp, .to_lanes = 1, .corrupts = corrupts};
    int32_t from[GATHER_BLOCKS], to[GATHER_BLOCKS], arrivals = 0, intact = 0;
    pr_arrival_report arrival[GATHERS];
    pr_handover gather;
    if (pr_world_ranks(mpi_test_world) != tp + other_tp)
        return;
    pr_log_set_level(PR_LOG_ERROR);
    open_scene(&s, 20000);
    s.lane = s.group;  // what the pages are made of
    fill_source(&s);
    for (int32_t n = 0; n < GATHERS; n++) {
        fill_gather(s.group, n, from, to, &gather);
        MUST(pr_kv_transfer_send(s.transfer, &gather));
    }
    for (int32_t layer = 0; layer < LAYERS; layer++)
        MUST(pr_kv_transfer_push_layer(s.transfer, layer));
    usleep(20000);
    for (int32_t n = 0; n < GATHERS; n++) {
        fill_gather(1 - s.group, n, from, to, &gather);
        MUST(pr_kv_transfer_expect(s.transfer, &gather));
    }
    while (pr_kv_transfer_pending(s.transfer) > 0)
        MUST(pr_kv_transfer_progress(s.transfer, arrival, GATHERS, &arrivals));
    EXPECT(arrivals == GATHERS, "%d of %d arrived", arrivals, GATHERS);
    for (int32_t i = 0; i < arrivals; i++)
        intact += arrival[i].intact;
    EXPECT((intact == GATHERS) == !corrupts, "%d intact", intact);
    if (!corrupts)
        check_gathers(&s);
    close_scene(&s);
    char name[100];
    snprintf(
        name, sizeof name, "%s: tp %d and %d%s", __func__, tp, other_tp,
        corrupts ? ", flipped bits are noticed" : "");
    agree(name);
}

// A run that was interrupted: one end was never told.
static void the_end_waits_for_nobody_who_expects_nothing(void)
{
    scene s = {.from_tp = 1, .from_lanes = 1, .to_tp = 1, .to_lanes = 1};
    int32_t from[GATHER_BLOCKS], to[GATHER_BLOCKS];
    if (pr_world_ranks(mpi_test_world) != 2)
        return;
    open_scene(&s, 20000);
    fill_source(&s);
    for (int32_t n = 0; s.group == 0 && n < GATHERS; n++) {
        pr_handover gather;
        fill_gather(0, n, from, to, &gather);
        MUST(pr_kv_transfer_send(s.transfer, &gather));
    }
    if (s.group == 0)
        MUST(pr_kv_transfer_push_layer(s.transfer, 0));
    int64_t begin_ns = pr_clock_now_ns();
    close_scene(&s);
    int64_t took_ms = (pr_clock_now_ns() - begin_ns) / 1000000;
    EXPECT(took_ms < 5000, "it took %lld ms", (long long)took_ms);
    agree(__func__);
}

static void a_source_that_stays_silent_is_named(void)
{
    scene s = {.from_tp = 1, .from_lanes = 1, .to_tp = 1, .to_lanes = 1};
    int32_t from[MAX_BLOCKS], to[MAX_BLOCKS], arrivals = 0;
    pr_handover handover;
    pr_arrival_report arrival[1];
    if (pr_world_ranks(mpi_test_world) != 2)
        return;
    open_scene(&s, 100);
    if (s.group == 1) {
        fill_handover(&s, 0, 1, from, to, &handover);
        MUST(pr_kv_transfer_expect(s.transfer, &handover));
        pr_status status = PR_OK;
        pr_error_capture_begin();
        while (status == PR_OK)
            status = pr_kv_transfer_progress(s.transfer, arrival, 1, &arrivals);
        pr_error_capture_end();
        EXPECT(status == PR_ERR_TIMEOUT, "status %d", (int)status);
        EXPECT(
            strcmp(
                pr_error_text(),
                "rank 0 did not answer within 100 ms in KV transfer of request 1") == 0,
            "says '%s'", pr_error_text());
    }
    close_scene(&s);
    agree(__func__);
}

int main(void)
{
    mpi_test_begin();
    for (int32_t corrupts = 0; corrupts < 2; corrupts++) {
        blocks_arrive_whole(1, 1, 1, 1, corrupts);
        blocks_arrive_whole(1, 1, 2, 1, corrupts);
        blocks_arrive_whole(2, 1, 1, 1, corrupts);
        blocks_arrive_whole(2, 1, 2, 1, corrupts);
        blocks_arrive_whole(4, 1, 1, 1, corrupts);
        blocks_arrive_whole(1, 2, 1, 2, corrupts);
        blocks_arrive_whole(1, 2, 2, 2, corrupts);
        blocks_arrive_whole(4, 1, 2, 1, corrupts);
    }
    for (int32_t corrupts = 0; corrupts < 2; corrupts++) {
        two_lanes_fetch_from_each_other_at_one_time(1, 1, corrupts);
        two_lanes_fetch_from_each_other_at_one_time(1, 2, corrupts);
        two_lanes_fetch_from_each_other_at_one_time(2, 2, corrupts);
        two_lanes_fetch_from_each_other_at_one_time(4, 1, corrupts);
        two_lanes_fetch_from_each_other_at_one_time(2, 4, corrupts);
    }
    the_end_waits_for_nobody_who_expects_nothing();
    a_source_that_stays_silent_is_named();
    return mpi_test_end();
}
