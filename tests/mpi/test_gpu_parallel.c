// SPDX-License-Identifier: BSD-3-Clause
// A group whose ranks compute on (emulated) GPUs gives the same rows in the same order, and the same results and sums, as
// one on CPUs: directly between the GPUs' memories, and staged through the host.
// ranks: 1 2 4
#include <dlfcn.h>

#include "kernels/gpu/gpu_device.h"
#include "kernels/gpu/gpu_library.h"
#include "tests/mpi/mpi_test.h"

enum { TOKENS = 9, HIDDEN = 24, EXPERTS = 6, CHOSEN = 3, MOST_LANES = 4, VOCABULARY = 13 };
enum { PAIRS = TOKENS * CHOSEN, MOST_ROWS = MOST_LANES * PAIRS, ROUNDS = 6 };

static pr_device *device;

typedef struct pair {
    pr_group *group;
    pr_parallel *cpu, *gpu;
    int32_t first_expert, local_experts;
    // The device's:
    float *x, *results;
    int32_t *expert;
    const float **slot;
} pair;

static void *take(size_t size_bytes)
{
    void *memory = NULL;
    MUST(device->memory_take(device, size_bytes, &memory));
    return memory;
}

static void read_back(void *to, const void *from, size_t size_bytes)
{
    if (size_bytes > 0)
        MUST(device->copy_out(device, to, from, size_bytes));
}

static pair open_pair(int32_t tp, pr_exchange exchange, int32_t timeout_ms)
{
    pair p = {0};
    pr_layout *layout = mpi_test_layout(tp);
    MUST(pr_group_create(mpi_test_world, layout, &p.group));
    free(layout);
    pr_comm_params params = {
        .experts = EXPERTS,
        .chosen = CHOSEN,
        .hidden = HIDDEN,
        .vocabulary = VOCABULARY,
        .max_tokens = TOKENS,
        .max_outputs = TOKENS,
        .timeout_ms = timeout_ms,
        .shares_cores = true,
        .exchange = PR_EXCHANGE_MESSAGES};
    MUST(pr_comm_parallel_create(p.group, &params, &p.cpu));
    params.exchange = exchange;
    params.device = device;
    MUST(pr_comm_parallel_create(p.group, &params, &p.gpu));
    p.first_expert = (int32_t)pr_share_begin(EXPERTS, p.cpu->rank, p.cpu->ranks);
    p.local_experts =
        (int32_t)pr_share_begin(EXPERTS, p.cpu->rank + 1, p.cpu->ranks) - p.first_expert;
    p.x = take(TOKENS * HIDDEN * sizeof(float));
    p.results = take((size_t)MOST_ROWS * HIDDEN * sizeof(float));
    p.expert = take(PAIRS * sizeof(int32_t));
    p.slot = take(PAIRS * sizeof(float *));
    return p;
}

static void close_pair(pair *p)
{
    pr_comm_parallel_destroy(p->gpu);
    pr_comm_parallel_destroy(p->cpu);
    pr_group_destroy(p->group);
    void *taken[] = {p->x, p->results, p->expert, (void *)p->slot};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        device->memory_release(device, taken[i]);
}

static int32_t fill(const pair *p, uint64_t round, float *x, int32_t *expert)
{
    uint64_t key = round * 16 + (uint64_t)p->cpu->lane;
    int32_t tokens = round == 2 ? 0 : (int32_t)(noise(key, 1, 1) % (TOKENS + 1));
    for (int32_t i = 0; i < tokens * HIDDEN; i++)
        x[i] = noise_float(key, (uint64_t)i, 2);
    for (int32_t i = 0; i < tokens * CHOSEN; i++) {
        uint64_t first = noise(key, (uint64_t)(i / CHOSEN), 3);
        expert[i] = (int32_t)((first + (uint64_t)(i % CHOSEN)) % EXPERTS);
    }
    if (tokens > 0) {
        MUST(device->copy_in(device, p->x, x, (size_t)tokens * HIDDEN * sizeof(float)));
        MUST(device->copy_in(
            device, p->expert, expert, (size_t)(tokens * CHOSEN) * sizeof(int32_t)));
    }
    return tokens;
}

// What arrived on the device is what arrived on the host; results are made from it.
static void
check_rows(const pair *p, const pr_dispatch_args *cpu, const pr_dispatch_args *gpu, float *results)
{
    static float rows[MOST_ROWS * HIDDEN];
    int32_t count[EXPERTS], row_of[MOST_ROWS];
    int32_t n = cpu->received, most = n - 1;
    EXPECT(gpu->received >= n, "room for %d rows, %d wanted", gpu->received, n);
    read_back(count, gpu->count, (size_t)p->local_experts * sizeof *count);
    for (int32_t e = 0; e < p->local_experts; e++)
        EXPECT(count[e] == cpu->count[e], "count of expert %d", p->first_expert + e);
    for (int32_t i = 0; i < n; i++)
        row_of[i] = i;
    if (gpu->row_of)
        read_back(row_of, gpu->row_of, (size_t)n * sizeof *row_of);
    for (int32_t i = 0; i < n; i++)
        most = row_of[i] > most ? row_of[i] : most;
    EXPECT(most < MOST_ROWS, "row %d", most);
    read_back(rows, gpu->rows, (size_t)(most + 1) * HIDDEN * sizeof(float));
    for (int32_t e = 0, i = 0; e < p->local_experts; e++) {
        for (int32_t end = i + cpu->count[e]; i < end; i++) {
            const float *row = rows + (size_t)row_of[i] * HIDDEN;
            EXPECT(
                memcmp(row, cpu->rows + (size_t)i * HIDDEN, HIDDEN * sizeof(float)) == 0,
                "row %d of %d", i, n);
            for (int32_t c = 0; c < HIDDEN; c++)
                results[i * HIDDEN + c] = row[c] * 3.0f + (float)(p->first_expert + e);
        }
    }
}

static void
check_slots(const pair *p, int32_t tokens, const float *const *want, const int32_t *device_place)
{
    const float *slot[PAIRS];
    int32_t place[PAIRS];
    size_t pairs = (size_t)(tokens * CHOSEN);
    if (device_place)
        read_back(place, device_place, pairs * sizeof *place);
    else
        read_back(slot, p->slot, pairs * sizeof *slot);
    for (size_t i = 0; i < pairs; i++) {
        float result[HIDDEN];
        const float *from = device_place ? p->results + (size_t)place[i] * HIDDEN : slot[i];
        read_back(result, from, sizeof result);
        EXPECT(memcmp(result, want[i], sizeof result) == 0, "slot %zu", i);
    }
}

static void run_experts(const pair *p, uint64_t round)
{
    static float x[TOKENS * HIDDEN], results[MOST_ROWS * HIDDEN];
    int32_t expert[PAIRS];
    const float *want[PAIRS];
    int32_t tokens = fill(p, round, x, expert);
    pr_dispatch_args cpu = {
        .tokens = tokens, .chosen = CHOSEN, .hidden = HIDDEN, .x = x, .expert = expert};
    pr_dispatch_args gpu = cpu;
    gpu.x = p->x;
    gpu.expert = p->expert;
    MUST(p->cpu->expert_dispatch(p->cpu, &cpu));
    MUST(p->gpu->expert_dispatch(p->gpu, &gpu));
    check_rows(p, &cpu, &gpu, results);
    size_t size_bytes = (size_t)cpu.received * HIDDEN * sizeof(float);
    if (size_bytes > 0)
        MUST(device->copy_in(device, p->results, results, size_bytes));
    MUST(p->cpu->expert_combine(p->cpu, &(pr_return_args){.rows = results, .slot = want}));
    if (!gpu.place)
        MUST(
            p->gpu->expert_combine(p->gpu, &(pr_return_args){.rows = p->results, .slot = p->slot}));
    check_slots(p, tokens, want, gpu.place);
}

static void run_tensors(const pair *p, uint64_t round)
{
    static float branch[TOKENS * HIDDEN], sum[TOKENS * HIDDEN], got[TOKENS * HIDDEN];
    static float want_whole[TOKENS * VOCABULARY], whole[TOKENS * VOCABULARY];
    uint64_t key = round * 16 + (uint64_t)p->cpu->lane;
    int32_t tokens = (int32_t)(noise(key, 1, 4) % TOKENS) + 1;
    size_t size_bytes = (size_t)tokens * HIDDEN * sizeof(float);
    for (int32_t i = 0; i < tokens * HIDDEN; i++)
        branch[i] = noise_float(key, (uint64_t)i, 5 + (uint64_t)p->cpu->tp_rank);
    MUST(device->copy_in(device, p->x, branch, size_bytes));
    MUST(p->gpu->tensor_reduce(p->gpu, p->x, p->x, tokens, HIDDEN));
    read_back(got, p->x, size_bytes);
    MUST(p->cpu->tensor_reduce(p->cpu, branch, sum, tokens, HIDDEN));
    EXPECT(memcmp(got, sum, size_bytes) == 0, "round %d: another sum", (int)round);

    int64_t begin = pr_share_begin(VOCABULARY, p->cpu->tp_rank, p->cpu->tp);
    int64_t cols = pr_share_begin(VOCABULARY, p->cpu->tp_rank + 1, p->cpu->tp) - begin;
    MUST(device->copy_in(device, p->x, branch, (size_t)(tokens * cols) * sizeof(float)));
    MUST(p->cpu->tensor_gather(p->cpu, branch, want_whole, tokens, VOCABULARY));
    MUST(p->gpu->tensor_gather(p->gpu, p->x, whole, tokens, VOCABULARY));
    EXPECT(
        memcmp(whole, want_whole, (size_t)tokens * VOCABULARY * sizeof(float)) == 0,
        "round %d: another whole", (int)round);
}

static void a_group_of_gpus_gives_what_a_group_of_cpus_does(int32_t tp, pr_exchange exchange)
{
    pair p = open_pair(tp, exchange, 20000);
    pr_exchange wanted = pr_world_ranks(mpi_test_world) == 1 ? PR_EXCHANGE_AUTO : exchange;
    EXPECT(pr_comm_parallel_exchange(p.gpu) == wanted, "another exchange");
    for (uint64_t round = 0; round < ROUNDS; round++) {
        run_experts(&p, round);
        run_tensors(&p, round);
    }
    close_pair(&p);
    char name[120];
    snprintf(
        name, sizeof name, "%s: %s, tp %d", __func__,
        exchange == PR_EXCHANGE_DIRECT ? "direct"
        : exchange == PR_EXCHANGE_NCCL ? "nccl"
                                       : "staged",
        tp);
    agree(name);
}

// Rank 0 stays silent. What it shares with the others stays until the process ends.
static void a_silent_rank_is_named_when_the_step_ends(void)
{
    static pair p;
    if (pr_world_ranks(mpi_test_world) == 1)
        return;
    p = open_pair(1, PR_EXCHANGE_DIRECT, 100);
    if (p.cpu->rank == 1) {
        float x[TOKENS * HIDDEN], whole[VOCABULARY];
        int32_t expert[PAIRS];
        pr_dispatch_args args = {
            .tokens = fill(&p, 0, x, expert),
            .chosen = CHOSEN,
            .hidden = HIDDEN,
            .x = p.x,
            .expert = p.expert};
        MUST(p.gpu->expert_dispatch(p.gpu, &args));
        pr_error_capture_begin();
        EXPECT(
            p.gpu->tensor_gather(p.gpu, p.results, whole, 1, VOCABULARY) == PR_ERR_TIMEOUT,
            "no timeout");
        pr_error_capture_end();
        EXPECT(
            strncmp(
                pr_error_text(), "rank 0 did not answer within 100 ms in expert dispatch", 54) == 0,
            "says '%s'", pr_error_text());
    }
    agree(__func__);
}

static void versions_that_differ_are_refused(void)
{
    if (pr_world_ranks(mpi_test_world) == 1)
        return;
    pr_layout *layout = mpi_test_layout(1);
    pr_group *group;
    pr_parallel *parallel;
    const pr_comm_params params = {
        .hidden = HIDDEN,
        .vocabulary = VOCABULARY,
        .experts = EXPERTS,
        .chosen = CHOSEN,
        .max_tokens = TOKENS,
        .max_outputs = TOKENS,
        .timeout_ms = 20000,
        .exchange = PR_EXCHANGE_NCCL,
        .device = device};
    MUST(pr_group_create(mpi_test_world, layout, &group));
    free(layout);
    setenv("NCCL_STUB_VERSION_OF_RANK_1", "22700", 1);
    pr_error_capture_begin();
    EXPECT(
        pr_comm_parallel_create(group, &params, &parallel) == PR_ERR_UNSUPPORTED, "taken together");
    pr_error_capture_end();
    EXPECT(
        strstr(pr_error_text(), "others of its group have up to 22809 and down to 22700") != NULL,
        "says '%s'", pr_error_text());
    unsetenv("NCCL_STUB_VERSION_OF_RANK_1");
    agree(__func__);
}

// The library that the program finds by its name is opened before, and told where the memory is.
static bool use_nccl_stub(const pr_gpu_backend *backend)
{
    void *library = dlopen(PR_NCCL_STUB, RTLD_NOW);
    void (*use)(const pr_gpu_backend *backend);
    void *found = library ? dlsym(library, "nccl_stub_use") : NULL;
    memcpy(&use, &found, sizeof found);
    if (found)
        use(backend);
    return found != NULL;
}

int main(void)
{
    const pr_gpu_backend *backend;
    mpi_test_begin();
    MUST(pr_gpu_library_open("emulated", &backend));
    EXPECT(use_nccl_stub(backend), "no stub of NCCL: %s", dlerror());
    const pr_gpu_device_params params = {.backend = backend, .threads = 1, .shares_cores = true};
    MUST(pr_gpu_device_open(&params, &device));
    for (int32_t tp = 1; tp <= 4; tp *= 2) {
        if (pr_world_ranks(mpi_test_world) % tp != 0)
            continue;
        a_group_of_gpus_gives_what_a_group_of_cpus_does(tp, PR_EXCHANGE_DIRECT);
        a_group_of_gpus_gives_what_a_group_of_cpus_does(tp, PR_EXCHANGE_MESSAGES);
        a_group_of_gpus_gives_what_a_group_of_cpus_does(tp, PR_EXCHANGE_NCCL);
    }
    versions_that_differ_are_refused();
    a_silent_rank_is_named_when_the_step_ends();
    return mpi_test_end();
}
