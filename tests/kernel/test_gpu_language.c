// SPDX-License-Identifier: BSD-3-Clause
// What a kernel may use does what gpu.cuh and tile.cuh say, on every GPU of gpu_under_test.h; and the emulation sees the
// mistakes it is there for.
#include "tests/kernel/gpu_under_test.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/dtype.h"
#include "runtime/base/elementary.h"
#include "tests/kernel/language_kernels.h"

static gpus_under_test gpus;
static const language_kernels *kernels[GPUS_MOST];

static void open_gpus(void)
{
    static const char *const names[GPUS_MOST] = {
        "language_emulated", "language_emulated64", "language_cuda", "language_hip"};
    gpus = gpu_under_test_open_these(names);
    for (int i = 0; i < gpus.count; i++) {
        char path[4096], name[64];
        snprintf(name, sizeof(name), "language_%s", gpus.gpu[i]->name);
        pr_gpu_library_path(name, path, sizeof(path));
        language_kernels_function *table = NULL;
        *(void **)&table = dlsym(dlopen(path, RTLD_NOW | RTLD_NOLOAD), "language_kernels_table");
        assert_non_null(table);
        kernels[i] = table();
    }
}

static int setup(void **state)
{
    (void)state;
    open_gpus();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    gpu_under_test_close(&gpus);
    return 0;
}

static float small_number(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 11) * 0x1p-52 - 1.0);
}

static float tree_sum(const float *values, int n)
{
    float tree[LANGUAGE_THREADS];
    memcpy(tree, values, (size_t)n * sizeof(float));
    for (int half = n / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            tree[i] += tree[i + half];
    return tree[0];
}

enum { SUM_BLOCKS = 13 };

// False: another sum came out.
static bool sums_are_right(int at, language_fault fault)
{
    const pr_gpu_backend *gpu = gpus.gpu[at];
    float values[SUM_BLOCKS * LANGUAGE_THREADS], sums[SUM_BLOCKS];
    uint64_t random = 7;
    for (int i = 0; i < SUM_BLOCKS * LANGUAGE_THREADS; i++)
        values[i] = small_number(&random);
    float *from = gpu_under_test_put(gpu, gpus.stream[at], values, sizeof(values));
    float *to = gpu_under_test_take(gpu, gpus.stream[at], sizeof(sums));
    kernels[at]->sum(gpus.stream[at], SUM_BLOCKS, from, to, fault);
    gpu_under_test_get(gpu, gpus.stream[at], sums, to, sizeof(sums));
    bool right = true;
    for (int i = 0; i < SUM_BLOCKS; i++)
        right = right && sums[i] == tree_sum(values + i * LANGUAGE_THREADS, LANGUAGE_THREADS);
    gpu->memory_release(from);
    gpu->memory_release(to);
    return right;
}

static void barriers_make_other_threads_values_seen(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++)
        for (uint64_t seed = 1; seed < 6; seed++) {
            if (kernels[at]->shuffle)
                kernels[at]->shuffle(seed);
            assert_true(sums_are_right(at, LANGUAGE_NO_FAULT));
        }
}

static void a_missing_barrier_gives_a_wrong_result(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++)
        for (uint64_t seed = 1; seed < 6 && kernels[at]->shuffle; seed++) {
            kernels[at]->shuffle(seed);
            assert_false(sums_are_right(at, LANGUAGE_NO_BARRIER));
        }
}

static void a_missing_wait_for_a_copy_gives_a_wrong_result(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++)
        if (kernels[at]->shuffle)
            assert_false(sums_are_right(at, LANGUAGE_NO_COPY_WAIT));
}

enum { FAULT_RIGHT = 64 };  // what the program exits with then: sanitizers have codes of their own

// This program again, to run `sum` with a fault; its words on stderr. True: it did not come to its end.
static bool run_fault(int at, language_fault fault, char *words, size_t size_bytes)
{
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    char which[16], what[16];
    snprintf(which, sizeof(which), "%d", at);
    snprintf(what, sizeof(what), "%d", (int)fault);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(pipes[1], STDERR_FILENO);
        execl("/proc/self/exe", "test_gpu_language", which, what, (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    size_t used = 0;
    for (ssize_t bytes = 1; bytes > 0; used += bytes > 0 ? (size_t)bytes : 0)
        bytes = read(pipes[0], words + used, size_bytes - 1 - used);
    words[used] = '\0';
    close(pipes[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return !WIFEXITED(status) || WEXITSTATUS(status) % FAULT_RIGHT != 0;
}

static void threads_that_part_before_a_barrier_end_the_process_with_their_place(void **state)
{
    (void)state;
    static char words[65536];
    for (int at = 0; at < gpus.count; at++) {
        if (!kernels[at]->shuffle)
            continue;
        assert_true(run_fault(at, LANGUAGE_THREAD_ENDS, words, sizeof(words)));
        assert_non_null(
            strstr(words, "thread 5: has ended, while 255 others wait for it in gpu_barrier at"));
        assert_non_null(strstr(words, "language_kernels.cu:"));
        assert_true(run_fault(at, LANGUAGE_THREAD_PARTS, words, sizeof(words)));
        assert_non_null(strstr(words, "comes to gpu_barrier at"));
        assert_false(run_fault(at, LANGUAGE_NO_FAULT, words, sizeof(words)));
        assert_string_equal(words, "");
    }
}

static void a_write_beyond_shared_memory_ends_the_process(void **state)
{
    (void)state;
    static char words[65536];
    for (int at = 0; at < gpus.count; at++)
        if (kernels[at]->shuffle)
            assert_true(run_fault(at, LANGUAGE_BEYOND_SHARED, words, sizeof(words)));
}

static void shuffles_and_ballots_reach_the_lanes_they_name(void **state)
{
    (void)state;
    enum { N = LANGUAGE_THREADS };
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_backend *gpu = gpus.gpu[at];
        pr_gpu_stream *stream = gpus.stream[at];
        pr_gpu_facts facts;
        assert_true(gpu->facts(0, &facts));
        uint64_t value[N], got[4][N], *to[4];
        for (int i = 0; i < N; i++)
            value[i] = (uint64_t)i << 40 | (uint64_t)i;
        uint64_t *from = gpu_under_test_put(gpu, stream, value, sizeof(value));
        for (int i = 0; i < 4; i++)
            to[i] = gpu_under_test_take(gpu, stream, sizeof(value));
        kernels[at]->lanes(stream, from, to[0], to[1], to[2], to[3]);
        for (int i = 0; i < 4; i++)
            gpu_under_test_get(gpu, stream, got[i], to[i], sizeof(value));
        for (int i = 0; i < N; i++) {
            int lane = i % facts.warp, first = i - lane;
            assert_int_equal(got[0][i], value[first + (lane + 1) % facts.warp]);
            assert_int_equal(got[1][i], i ^ 1);
            assert_int_equal(got[2][i], value[lane == 0 ? i : i - 1]);
            assert_int_equal(
                got[3][i], 0xaaaaaaaaaaaaaaaau & (facts.warp == 64 ? UINT64_MAX : UINT32_MAX));
        }
        gpu->memory_release(from);
        for (int i = 0; i < 4; i++)
            gpu->memory_release(to[i]);
    }
}

static void copies_arrive_when_their_commit_is_waited_for(void **state)
{
    (void)state;
    enum { N = 2 * 4 * LANGUAGE_THREADS };
    static float from[N], to[N];
    for (int i = 0; i < N; i++)
        from[i] = (float)i;
    for (int at = 0; at < gpus.count; at++) {
        float *a = gpu_under_test_put(gpus.gpu[at], gpus.stream[at], from, sizeof(from));
        float *b = gpu_under_test_take(gpus.gpu[at], gpus.stream[at], sizeof(to));
        kernels[at]->copy(gpus.stream[at], a, b);
        gpu_under_test_get(gpus.gpu[at], gpus.stream[at], to, b, sizeof(to));
        assert_memory_equal(to, from, sizeof(to));
        gpus.gpu[at]->memory_release(a);
        gpus.gpu[at]->memory_release(b);
    }
}

static void blocks_launched_together_may_wait_for_each_other(void **state)
{
    (void)state;
    enum { ROUNDS = 5 };
    for (int at = 0; at < gpus.count; at++) {
        const uint32_t zero = 0;
        uint32_t end = 0;
        uint32_t *token = gpu_under_test_put(gpus.gpu[at], gpus.stream[at], &zero, sizeof(zero));
        assert_true(kernels[at]->ring(gpus.stream[at], LANGUAGE_BLOCKS, token, ROUNDS));
        gpu_under_test_get(gpus.gpu[at], gpus.stream[at], &end, token, sizeof(end));
        assert_int_equal(end, ROUNDS * LANGUAGE_BLOCKS);
        assert_false(kernels[at]->ring(gpus.stream[at], 1 << 20, token, ROUNDS));
        assert_true(gpus.gpu[at]->wait(gpus.stream[at]));
        gpus.gpu[at]->memory_release(token);
    }
}

// Each of two streams begins with what the other one ends with.
static void kernels_of_two_streams_may_wait_for_each_other(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_backend *gpu = gpus.gpu[at];
        pr_gpu_stream *a = gpus.stream[at], *b = gpu->stream_create();
        const uint32_t zero[3] = {0};
        uint32_t end[3];
        uint32_t *flag = gpu_under_test_put(gpu, a, zero, sizeof(zero));
        kernels[at]->answer(a, &flag[1], 5, &flag[0], &flag[2]);
        kernels[at]->increment(b, &flag[1]);
        kernels[at]->answer(b, &flag[1], 1, &flag[1], &flag[2]);
        for (int i = 0; i < 4; i++)
            kernels[at]->increment(b, &flag[1]);
        kernels[at]->answer(b, &flag[0], 5, &flag[1], &flag[2]);
        assert_true(gpu->wait(b));
        gpu_under_test_get(gpu, a, end, flag, sizeof(end));
        const uint32_t expected[3] = {5, 5, 0};
        assert_memory_equal(end, expected, sizeof(end));
        gpu->stream_destroy(b);
        gpu->memory_release(flag);
    }
}

static void a_kernel_may_wait_for_the_host(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        uint32_t *flag = gpus.gpu[at]->pinned_take(3 * sizeof(uint32_t));
        assert_non_null(flag);
        memset(flag, 0, 3 * sizeof(*flag));
        kernels[at]->answer(gpus.stream[at], &flag[0], 9, &flag[1], &flag[2]);
        __atomic_store_n(&flag[0], 9, __ATOMIC_RELEASE);
        // The device works beside the host, also when nobody waits for it.
        while (__atomic_load_n(&flag[1], __ATOMIC_ACQUIRE) != 9)
            usleep(100);
        assert_true(gpus.gpu[at]->wait(gpus.stream[at]));
        assert_int_equal(flag[2], 0);
        gpus.gpu[at]->pinned_release(flag);
    }
}

static void graphs_run_again_with_what_memory_holds_then(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_backend *gpu = gpus.gpu[at];
        pr_gpu_stream *stream = gpus.stream[at];
        const uint32_t begin = 100;
        uint32_t end = 0;
        uint32_t *counter = gpu_under_test_put(gpu, stream, &begin, sizeof(begin));
        assert_true(gpu->graph_begin(stream));
        for (int i = 0; i < 3; i++)
            kernels[at]->increment(stream, counter);
        pr_gpu_graph *graph = gpu->graph_end(stream);
        assert_non_null(graph);
        gpu_under_test_get(gpu, stream, &end, counter, sizeof(end));
        assert_int_equal(end, begin);
        for (int i = 0; i < 4; i++)
            assert_true(gpu->graph_run(graph, stream));
        kernels[at]->increment(stream, counter);
        gpu_under_test_get(gpu, stream, &end, counter, sizeof(end));
        assert_int_equal(end, begin + 13);
        gpu->graph_destroy(graph);
        gpu->memory_release(counter);
    }
}

static void a_launch_that_cannot_be_is_told_by_the_next_wait(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        kernels[at]->too_large(gpus.stream[at]);
        assert_false(gpus.gpu[at]->wait(gpus.stream[at]));
        assert_string_not_equal(gpus.gpu[at]->error(), "");
        assert_true(gpus.gpu[at]->wait(gpus.stream[at]));
        assert_string_equal(gpus.gpu[at]->error(), "");
    }
}

static double dot(const uint16_t *a, const uint16_t *b, int k)
{
    double sum = 0;
    for (int i = 0; i < k; i++)
        sum += (double)pr_bf16_to_f32(a[i]) * (double)pr_bf16_to_f32(b[i]);
    return sum;
}

static void tiles_multiply_rows_by_columns(void **state)
{
    (void)state;
    enum { ROWS = LANGUAGE_TILE_ROWS, K = 48, TILE = 16 };
    uint16_t a[ROWS * K], b[ROWS * K];
    uint64_t random = 3;
    for (int i = 0; i < ROWS * K; i++) {
        a[i] = pr_f32_to_bf16(small_number(&random));
        b[i] = pr_f32_to_bf16(small_number(&random));
    }
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_backend *gpu = gpus.gpu[at];
        pr_gpu_stream *stream = gpus.stream[at];
        float c[ROWS * ROWS], again[ROWS * ROWS];
        uint16_t *a_device = gpu_under_test_put(gpu, stream, a, sizeof(a));
        uint16_t *b_device = gpu_under_test_put(gpu, stream, b, sizeof(b));
        float *c_device = gpu_under_test_take(gpu, stream, sizeof(c));
        float *again_device = gpu_under_test_take(gpu, stream, sizeof(again));
        kernels[at]->tiles(stream, a_device, b_device, K, c_device, again_device);
        gpu_under_test_get(gpu, stream, c, c_device, sizeof(c));
        gpu_under_test_get(gpu, stream, again, again_device, sizeof(again));
        for (int i = 0; i < ROWS * ROWS; i++) {
            int row = i / ROWS, column = i % ROWS;
            assert_true(fabs((double)c[i] - dot(a + row * K, b + column * K, K)) < 1e-5);
            // `again` takes the sums of its own tile as the next A.
            uint16_t rounded[TILE];
            for (int k = 0; k < TILE; k++)
                rounded[k] = pr_f32_to_bf16(c[row * ROWS + column / TILE * TILE + k]);
            assert_true(fabs((double)again[i] - dot(rounded, b + column * K, TILE)) < 1e-4);
        }
        gpu->memory_release(a_device);
        gpu->memory_release(b_device);
        gpu->memory_release(c_device);
        gpu->memory_release(again_device);
    }
}

static void numbers_have_the_bits_of_the_host(void **state)
{
    (void)state;
    enum { N = 1001 };
    float x[N], exp[N], root[N];
    uint32_t pair[N];
    for (int i = 0; i < N; i++)
        x[i] = 0.1f * (float)i - 5.0f;
    x[0] = -INFINITY, x[1] = NAN, x[2] = 1e-40f, x[3] = 0x1.fffffep127f, x[4] = -90.0f;
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_backend *gpu = gpus.gpu[at];
        pr_gpu_stream *stream = gpus.stream[at];
        float *from = gpu_under_test_put(gpu, stream, x, sizeof(x));
        float *exp_device = gpu_under_test_take(gpu, stream, sizeof(exp));
        float *root_device = gpu_under_test_take(gpu, stream, sizeof(root));
        uint32_t *pair_device = gpu_under_test_take(gpu, stream, sizeof(pair));
        kernels[at]->numbers(stream, N, from, exp_device, root_device, pair_device);
        gpu_under_test_get(gpu, stream, exp, exp_device, sizeof(exp));
        gpu_under_test_get(gpu, stream, root, root_device, sizeof(root));
        gpu_under_test_get(gpu, stream, pair, pair_device, sizeof(pair));
        for (int i = 0; i < N; i++) {
            float right_exp = pr_exp(x[i]), right_root = sqrtf(x[i]);
            assert_memory_equal(&exp[i], &right_exp, sizeof(float));
            if (x[i] >= 0.0f)
                assert_memory_equal(&root[i], &right_root, sizeof(float));
            assert_int_equal(
                pair[i], (uint32_t)pr_f32_to_bf16(x[i]) | (uint32_t)pr_f32_to_bf16(-x[i]) << 16);
        }
        gpu->memory_release(from);
        gpu->memory_release(exp_device);
        gpu->memory_release(root_device);
        gpu->memory_release(pair_device);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        open_gpus();
        return sums_are_right(atoi(argv[1]), (language_fault)atoi(argv[2])) ? FAULT_RIGHT : 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barriers_make_other_threads_values_seen),
        cmocka_unit_test(a_missing_barrier_gives_a_wrong_result),
        cmocka_unit_test(a_missing_wait_for_a_copy_gives_a_wrong_result),
        cmocka_unit_test(threads_that_part_before_a_barrier_end_the_process_with_their_place),
        cmocka_unit_test(a_write_beyond_shared_memory_ends_the_process),
        cmocka_unit_test(shuffles_and_ballots_reach_the_lanes_they_name),
        cmocka_unit_test(copies_arrive_when_their_commit_is_waited_for),
        cmocka_unit_test(blocks_launched_together_may_wait_for_each_other),
        cmocka_unit_test(kernels_of_two_streams_may_wait_for_each_other),
        cmocka_unit_test(a_kernel_may_wait_for_the_host),
        cmocka_unit_test(graphs_run_again_with_what_memory_holds_then),
        cmocka_unit_test(a_launch_that_cannot_be_is_told_by_the_next_wait),
        cmocka_unit_test(tiles_multiply_rows_by_columns),
        cmocka_unit_test(numbers_have_the_bits_of_the_host),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
