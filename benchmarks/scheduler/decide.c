// SPDX-License-Identifier: BSD-3-Clause
// How fast rank 0 decides: the cache map, and whole decisions of dispatch under `lps`, on the prompts of
// a trace. Prints one JSON object per line; benchmarks/scheduler/run makes a table of them.
//
//   fill     prompts of ever new copies of the trace until so many blocks are held
//   lookup   union depth + candidates of a prompt that was drawn from all that are held, its blocks
//            in no cache but by chance; parts of it (hit) replaced by unknown blocks
//   decide   arrive, next, the lane closed; an older job prefilled, its lane open again. Half of
//            the lanes run something
//   insert   the blocks that the decision's lane did not have; evict: as many of the oldest
//   full     decide and insert
// Each prompt is timed by itself, without the clock's own time; insert and evict are shared out among
// its blocks.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __x86_64__
#include <x86intrin.h>
#endif

#include "launcher/simulate/trace.h"
#include "runtime/base/hash.h"
#include "scheduler/dispatch/cache_map.h"
#include "scheduler/dispatch/dispatch.h"

enum {
    BLOCK_TOKENS = 512,
    MOST_PROMPT_BLOCKS = 1024,
    MOST_SAMPLES = 1 << 20,
    QUIET_PARTS = 50,
    MESSAGE_BLOCKS = 24
};

static const uint64_t UNIVERSAL = 0x5eed, UNKNOWN = 0x0dd5eed;

// ---- Time ----

static double cycle_ns;           // of one tick of now_cycles
static uint32_t overhead_cycles;  // of asking twice

static uint64_t now_cycles(void)
{
#ifdef __x86_64__
    _mm_lfence();
    uint64_t cycles = __rdtsc();
    _mm_lfence();
    return cycles;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void calibrate(void)
{
    double from_s = now_s();
    uint64_t from = now_cycles(), least = UINT64_MAX;
    while (now_s() < from_s + 0.2) {
        uint64_t begin = now_cycles(), took = now_cycles() - begin;
        if (took < least)
            least = took;
    }
    overhead_cycles = (uint32_t)least;
    cycle_ns = (now_s() - from_s) * 1e9 / (double)(now_cycles() - from);
}

typedef struct measured {
    int64_t count;
    float *value;  // [MOST_SAMPLES]
} measured;

static void samples_create(measured *samples)
{
    *samples = (measured){.value = malloc(MOST_SAMPLES * sizeof(float))};
    if (!samples->value)
        abort();
}

// The time from `begin` to `end`, shared by `parts`.
static void samples_add(measured *samples, uint64_t begin, uint64_t end, int64_t parts)
{
    if (parts == 0 || samples->count == MOST_SAMPLES)
        return;
    double cycles = (double)(end - begin) - overhead_cycles;
    cycles = (cycles > 0 ? cycles : 0) / (double)parts;
    samples->value[samples->count++] = (float)cycles;
}

static int ascending(const void *a, const void *b)
{
    float left = *(const float *)a, right = *(const float *)b;
    return (left > right) - (left < right);
}

// The mean of the quietest fiftieth of the run, of those in which the machine may have been ours alone.
static double quiet_mean(const measured *samples)
{
    double least = (double)INFINITY;
    for (int part = 0; part < QUIET_PARTS; part++) {
        int64_t from = samples->count * part / QUIET_PARTS;
        int64_t end = samples->count * (part + 1) / QUIET_PARTS;
        double sum = 0;
        for (int64_t i = from; i < end; i++)
            sum += (double)samples->value[i];
        if (end > from)
            least = fmin(least, sum / (double)(end - from));
    }
    return least;
}

// Prints the samples, drops them, and returns the quiet mean in ns. The mean leaves the slowest 1 % out;
// they are in p99 and max.
static double samples_print(const char *name, measured *samples)
{
    if (samples->count == 0)
        return 0;
    double quiet = quiet_mean(samples);
    qsort(samples->value, (size_t)samples->count, sizeof(float), ascending);
    const float *value = samples->value;
    int64_t last = samples->count - 1, most = last * 99 / 100;
    double sum = 0;
    for (int64_t i = 0; i <= most; i++)
        sum += (double)value[i];
    double mean = sum / (double)(most + 1);
    printf(
        ", \"%s\": {\"samples\": %" PRId64
        ", \"quiet_ns\": %.1f, \"mean_ns\": %.1f, \"p50_ns\": %.1f, "
        "\"p99_ns\": %.1f, \"max_ns\": %.0f, \"quiet_cycles\": %.0f}",
        name, samples->count, quiet * cycle_ns, mean * cycle_ns, (double)value[last / 2] * cycle_ns,
        (double)value[most] * cycle_ns, (double)value[last] * cycle_ns, quiet);
    samples->count = 0;
    return quiet * cycle_ns;
}

// ---- The workload: copies of a trace without end ----

typedef struct prompt_stream {
    pr_trace trace;
    bool universal;   // the trace's first block is in every prompt and held by every lane
    uint64_t common;  // that block
} prompt_stream;

static int32_t prompt_at(const prompt_stream *stream, uint64_t at, uint64_t *block)
{
    const pr_trace *trace = &stream->trace;
    const pr_trace_request *request = &trace->request[at % (uint64_t)trace->requests];
    uint64_t copy = at / (uint64_t)trace->requests;
    int32_t blocks = request->blocks < MOST_PROMPT_BLOCKS ? request->blocks : MOST_PROMPT_BLOCKS;
    for (int32_t i = 0; i < blocks; i++) {
        bool common = stream->universal && request->block[i] == stream->common;
        block[i] = common ? UNIVERSAL : pr_hash_mix(request->block[i] + copy);
    }
    return blocks;
}

// ---- What is measured ----

typedef struct setting {
    prompt_stream load;
    int32_t lanes;
    int64_t blocks;  // to hold
    pr_dispatch *dispatch;
    pr_cache_map *map;
    uint64_t *held;              // [blocks], a ring
    int32_t *held_lane;          // [blocks]
    int64_t store_at, evict_at;  // in the ring
    int64_t stored, evicted;
    uint64_t next;  // prompt
    uint64_t random;
    measured a, b, c, d;
} setting;

static void must(pr_status status)
{
    if (status != PR_OK)
        exit(1);
}

static void store(setting *bench, uint64_t block, int32_t lane)
{
    must(pr_cache_map_add(bench->map, block, lane));
    bench->held[bench->store_at] = block;
    bench->held_lane[bench->store_at] = lane;
    bench->store_at = bench->store_at + 1 < bench->blocks ? bench->store_at + 1 : 0;
    bench->stored++;
}

// The oldest blocks, as a lane tells them: some in one message.
static void evict(setting *bench, int64_t blocks)
{
    for (int64_t i = 0; i < blocks; i++) {
        int64_t at = bench->evict_at;
        int64_t left = blocks - i < bench->blocks - at ? blocks - i : bench->blocks - at;
        if (i % MESSAGE_BLOCKS == 0)
            pr_cache_map_expect(
                bench->map, &bench->held[at],
                (int32_t)(left < MESSAGE_BLOCKS ? left : MESSAGE_BLOCKS));
        pr_cache_map_remove(bench->map, bench->held[at], bench->held_lane[at]);
        bench->evict_at = at + 1 < bench->blocks ? at + 1 : 0;
        bench->evicted++;
    }
}

static void fill(setting *bench)
{
    uint64_t block[MOST_PROMPT_BLOCKS];
    for (int32_t l = 0; bench->load.universal && l < bench->lanes; l++)
        must(pr_cache_map_add(bench->map, UNIVERSAL, l));
    double from_s = now_s();
    for (;;) {
        int32_t blocks = prompt_at(&bench->load, bench->next, block);
        if (bench->stored + blocks > bench->blocks)
            break;
        int32_t lane = (int32_t)(pr_hash_mix(++bench->random) % (uint64_t)bench->lanes);
        uint64_t begin = now_cycles();
        int32_t depth = pr_cache_map_union_depth(bench->map, block, blocks);
        uint64_t found = now_cycles();
        for (int32_t i = depth; i < blocks; i++)
            store(bench, block[i], lane);
        uint64_t end = now_cycles();
        if (bench->next % 4 == 0)
            samples_add(&bench->a, found, end, blocks - depth);
        (void)begin;
        bench->next++;
    }
    printf(", \"fill_s\": %.2f", now_s() - from_s);
    samples_print("fill_insert_per_block", &bench->a);
    printf(
        ", \"held_blocks\": %" PRId64 ", \"bytes_per_block\": %.1f",
        pr_cache_map_blocks(bench->map),
        (double)pr_cache_map_size_bytes(bench->map) / (double)pr_cache_map_blocks(bench->map));
}

// hit: the share of the prompt's blocks that is held, from its start.
static void look_up(setting *bench, const char *name, double hit, int64_t count)
{
    uint64_t block[MOST_PROMPT_BLOCKS];
    int64_t depths = 0, found = 0;
    for (int64_t s = 0; s < count; s++) {
        uint64_t draw = pr_hash_mix(++bench->random);
        int32_t blocks = prompt_at(&bench->load, draw % bench->next, block);
        for (int32_t i = (int32_t)(hit * blocks + 0.5); i < blocks; i++)
            block[i] = i == 0 ? block[i] : pr_hash_mix(++bench->random) ^ UNKNOWN;
        pr_cache_candidate candidate[8];
        int32_t depth;
        uint64_t begin = now_cycles();
        int32_t candidates =
            pr_cache_map_candidates(bench->map, block, blocks, &depth, candidate, 8);
        uint64_t end = now_cycles();
        samples_add(&bench->a, begin, end, 1);
        depths += depth;
        found += candidates;
    }
    samples_print(name, &bench->a);
    printf(
        ", \"%s_depth\": %.2f, \"%s_candidates\": %.2f", name, (double)depths / (double)count, name,
        (double)found / (double)count);
}

// The blocks that the lane did not have and keeps.
static int32_t store_prompt(setting *bench, const pr_verdict *verdict)
{
    const pr_job *job = verdict->job;
    int32_t from = verdict->keep ? verdict->local_blocks : verdict->depth;
    for (int32_t i = from; i < job->blocks; i++) {
        int32_t left = job->blocks - i;
        if ((i - from) % MESSAGE_BLOCKS == 0)
            pr_cache_map_expect(
                bench->map, &job->block[i], left < MESSAGE_BLOCKS ? left : MESSAGE_BLOCKS);
        store(bench, job->block[i], verdict->lane);
    }
    return job->blocks - from;
}

static void begin_job(setting *bench, pr_job *job, uint64_t *block)
{
    const pr_trace *trace = &bench->load.trace;
    const pr_trace_request *request = &trace->request[bench->next % (uint64_t)trace->requests];
    int32_t blocks = prompt_at(&bench->load, bench->next, block);
    *job = (pr_job){
        .id = bench->next,
        .arrival_s = 1e-6 * (double)bench->next,
        .prompt_tokens = request->prompt_tokens,
        .outputs_expected = 200,
        .blocks = blocks,
        .block = block};
    bench->next++;
}

static uint64_t hash_verdict(uint64_t hash, const pr_verdict *verdict)
{
    const int32_t said[] = {
        verdict->lane, verdict->local_blocks, verdict->depth, verdict->gathers, verdict->keep};
    hash = pr_hash_bytes(hash, said, sizeof said);
    return pr_hash_bytes(hash, verdict->gather, (size_t)verdict->gathers * sizeof *verdict->gather);
}

static void decide(setting *bench, int64_t count)
{
    int32_t in_flight = bench->lanes / 2;
    pr_job *running = calloc((size_t)in_flight, sizeof *running);
    // Their blocks, close together, one job's behind the other's; room for twice the usual prompt.
    int64_t room = (int64_t)in_flight * 48 + 4 * MOST_PROMPT_BLOCKS, used = 0;
    uint64_t *block = malloc((size_t)room * sizeof *block);
    if (!running || !block)
        abort();
    for (int32_t l = 0; l < bench->lanes; l++)
        pr_dispatch_open(bench->dispatch, l, true);
    int64_t inserted = 0, gathers = 0;
    uint64_t hash = 0;
    for (int64_t s = 0; s < count + in_flight; s++) {
        pr_job *job = &running[s % in_flight];
        bool full = s >= in_flight;
        double now = 1e-6 * (double)bench->next;
        uint64_t begin = now_cycles();
        if (full) {
            pr_dispatch_prefilled(bench->dispatch, job, now);
            pr_dispatch_open(bench->dispatch, job->lane, true);
        }
        uint64_t freed = now_cycles();
        used = used + MOST_PROMPT_BLOCKS <= room ? used : 0;
        begin_job(bench, job, &block[used]);
        used += job->blocks;
        pr_verdict verdict;
        uint64_t arrived = now_cycles();
        must(pr_dispatch_arrive(bench->dispatch, job, now));
        pr_dispatch_next(bench->dispatch, now, &verdict);
        if (verdict.kind != PR_VERDICT_START)
            abort();
        pr_dispatch_open(bench->dispatch, verdict.lane, false);
        uint64_t decided = now_cycles();
        int32_t stored = store_prompt(bench, &verdict);
        uint64_t end = now_cycles();
        int64_t evicted = bench->stored - bench->evicted - (bench->blocks - MOST_PROMPT_BLOCKS);
        evicted = evicted > 0 ? evicted : 0;
        evict(bench, evicted);
        uint64_t last = now_cycles();
        if (!full)
            continue;
        hash = hash_verdict(hash, &verdict);
        inserted += stored;
        gathers += verdict.gathers;
        samples_add(&bench->a, begin + arrived - freed, decided + overhead_cycles, 1);
        samples_add(&bench->b, decided, end, stored);
        samples_add(&bench->d, begin + arrived - freed, end + overhead_cycles, 1);
        samples_add(&bench->c, end, last, evicted);
    }
    printf(", \"inserts_per_decision\": %.2f", (double)inserted / (double)count);
    printf(", \"gathers_per_decision\": %.2f", (double)gathers / (double)count);
    printf(", \"decision_hash\": \"%016" PRIx64 "\"", hash);
    double decide_ns = samples_print("decide", &bench->a);
    double insert_ns = samples_print("insert_per_block", &bench->b);
    double full_ns = samples_print("full", &bench->d);
    printf(
        ", \"decisions_per_s\": %.0f, \"full_decisions_per_s\": %.0f, "
        "\"decisions_with_24_inserts_per_s\": %.0f",
        1e9 / decide_ns, 1e9 / full_ns, 1e9 / (decide_ns + 24 * insert_ns));
    samples_print("evict_per_block", &bench->c);
    free(running);
    free(block);
}

// ---- One setting ----

static void create(setting *bench)
{
    pr_dispatch_params params = {
        .prefill_lanes = bench->lanes,
        .decode_lanes = bench->lanes,
        .block_tokens = BLOCK_TOKENS,
        .cache_blocks = 4096,
        .cost = pr_cost_model_named("a100-llama3-70b"),
        .policy = "lps",
        .queue = {
            .fair = true,
            .prompt_weight = 1,
            .output_weight = 2,
            .guard_s = (double)INFINITY,
            .most_jobs = 1 << 20,
            .most_tenants = 1024}};
    must(pr_dispatch_create(&params, &bench->dispatch));
    bench->map = pr_dispatch_cache_map(bench->dispatch);
    bench->held = malloc((size_t)bench->blocks * sizeof *bench->held);
    bench->held_lane = malloc((size_t)bench->blocks * sizeof *bench->held_lane);
    if (!bench->held || !bench->held_lane)
        abort();
    samples_create(&bench->a);
    samples_create(&bench->b);
    samples_create(&bench->c);
    samples_create(&bench->d);
}

static void destroy(setting *bench)
{
    pr_dispatch_destroy(bench->dispatch);
    free(bench->held);
    free(bench->held_lane);
    free(bench->a.value);
    free(bench->b.value);
    free(bench->c.value);
    free(bench->d.value);
    pr_trace_free(&bench->load.trace);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: decide TRACE LANES BLOCKS UNIVERSAL(0|1) SAMPLES\n");
        return 2;
    }
    setting bench = {
        .lanes = atoi(argv[2]),
        .blocks = (int64_t)atof(argv[3]) + MOST_PROMPT_BLOCKS,
        .load.universal = atoi(argv[4]) != 0};
    int64_t count = atoll(argv[5]);
    if (bench.lanes < 2 || bench.blocks < 10000 || count < 1 || count > MOST_SAMPLES) {
        fprintf(stderr, "decide: 2 lanes, 10000 blocks, 1..%d samples at least\n", MOST_SAMPLES);
        return 2;
    }
    pr_trace_params trace = {.path = argv[1], .block_tokens = BLOCK_TOKENS, .copies = 1};
    must(pr_trace_read(&trace, &bench.load.trace));
    bench.load.common = bench.load.trace.request[0].block[0];
    calibrate();
    create(&bench);
    printf(
        "{\"lanes\": %d, \"blocks\": %.0f, \"universal\": %s, \"cycle_ns\": %.4f", bench.lanes,
        atof(argv[3]), bench.load.universal ? "true" : "false", cycle_ns);
    fill(&bench);
    look_up(&bench, "lookup", 1, count);
    look_up(&bench, "lookup_hit_65", 0.65, count);
    look_up(&bench, "lookup_hit_37", 0.37, count);
    look_up(&bench, "lookup_hit_0", 0, count);
    decide(&bench, count);
    printf("}\n");
    destroy(&bench);
    return 0;
}
