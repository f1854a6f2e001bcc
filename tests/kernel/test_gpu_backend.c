// SPDX-License-Identifier: BSD-3-Clause
// A back end keeps what gpu_backend.h promises of memory, order, graphs and errors, on every GPU of gpu_under_test.h.
#include "tests/kernel/gpu_under_test.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static gpus_under_test gpus;

static int setup(void **state)
{
    (void)state;
    gpus = gpu_under_test_open();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    gpu_under_test_close(&gpus);
    return 0;
}

enum { N = 3000 };

static void facts_are_those_of_a_device(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_backend *gpu = gpus.gpu[at];
        pr_gpu_facts facts, other;
        assert_true(gpu->facts(0, &facts));
        assert_true(facts.warp == 32 || facts.warp == 64);
        assert_true(facts.multiprocessors > 0 && facts.shared_bytes >= 48 * 1024);
        assert_true(facts.free_bytes > 0 && facts.free_bytes <= facts.memory_bytes);
        assert_true(strncmp(facts.uuid, "GPU-", 4) == 0 || strncmp(facts.uuid, "MIG-", 4) == 0);
        assert_string_not_equal(facts.name, "");
        for (int32_t i = 1; i < gpu->devices(); i++) {
            assert_true(gpu->facts(i, &other));
            assert_string_not_equal(facts.uuid, other.uuid);
        }
        assert_false(gpu->facts(gpu->devices(), &other));
        assert_string_not_equal(gpu->error(), "");
        assert_string_equal(gpu->error(), "");
    }
}

static void memory_is_zeroed_and_aligned_and_counted(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 4096, 1 << 20};
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_backend *gpu = gpus.gpu[at];
        for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
            unsigned char *memory = gpu->memory_take(sizes[i]);
            assert_non_null(memory);
            assert_int_equal((uintptr_t)memory % 256, 0);
            unsigned char *host = malloc(sizes[i] + 1);
            assert_non_null(host);
            memset(host, 1, sizes[i]);
            assert_true(gpu->copy(host, memory, sizes[i], gpus.stream[at]));
            assert_true(gpu->wait(gpus.stream[at]));
            for (size_t j = 0; j < sizes[i]; j++)
                assert_int_equal(host[j], 0);
            free(host);
            gpu->memory_release(memory);
        }
        gpu->memory_release(NULL);
        gpu->pinned_release(NULL);
    }
}

static void memory_that_is_not_there_is_refused_with_a_reason(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        pr_gpu_facts facts;
        assert_true(gpus.gpu[at]->facts(0, &facts));
        assert_null(gpus.gpu[at]->memory_take((size_t)facts.memory_bytes * 2));
        assert_non_null(strstr(gpus.gpu[at]->error(), "memory"));
        assert_true(gpus.gpu[at]->wait(gpus.stream[at]));
    }
}

static void copies_and_fills_keep_the_order_of_the_stream(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_backend *gpu = gpus.gpu[at];
        pr_gpu_stream *stream = gpus.stream[at];
        unsigned char *pinned = gpu->pinned_take(3 * N), host[N];
        assert_non_null(pinned);
        unsigned char *a = gpu_under_test_take(gpu, stream, N);
        unsigned char *b = gpu_under_test_take(gpu, stream, N);
        memset(pinned, 1, N);
        assert_true(gpu->copy(a, pinned, N, stream));
        assert_true(gpu->copy(b, a, N, stream));
        assert_true(gpu->fill(a, 2, N, stream));
        assert_true(gpu->copy(pinned + N, b, N, stream));
        assert_true(gpu->copy(pinned + 2 * N, a, N, stream));
        assert_true(gpu->wait(stream));
        for (int i = 0; i < 3 * N; i++)
            assert_int_equal(pinned[i], i < 2 * N ? 1 : 2);
        gpu_under_test_get(gpu, stream, host, a, N);
        assert_memory_equal(host, pinned + 2 * N, N);
        assert_true(gpu->copy(a, b, 0, stream));
        gpu->pinned_release(pinned);
        gpu->memory_release(a);
        gpu->memory_release(b);
    }
}

static void a_stream_goes_on_after_the_event_it_follows(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_backend *gpu = gpus.gpu[at];
        pr_gpu_stream *first = gpus.stream[at], *second = gpu->stream_create();
        pr_gpu_event *begin = gpu->event_create(true), *end = gpu->event_create(true);
        unsigned char *pinned = gpu->pinned_take(N), *a = gpu_under_test_take(gpu, first, N);
        assert_true(second && begin && end && pinned);
        for (int round = 1; round < 20; round++) {
            assert_true(gpu->event_record(begin, first));
            for (int i = 0; i < 5; i++)
                assert_true(gpu->fill(a, (unsigned char)(round + i), N, first));
            assert_true(gpu->event_record(end, first));
            assert_true(gpu->event_follow(second, end));
            assert_true(gpu->copy(pinned, a, N, second));
            assert_true(gpu->wait(second));
            assert_int_equal(pinned[N - 1], round + 4);
            assert_true(gpu->event_wait(end));
            assert_true(gpu->event_ms(begin, end) >= 0.0f);
        }
        gpu->event_destroy(begin);
        gpu->event_destroy(end);
        gpu->stream_destroy(second);
        gpu->memory_release(a);
        gpu->pinned_release(pinned);
    }
}

static void a_graph_takes_in_the_streams_that_follow_it(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_backend *gpu = gpus.gpu[at];
        pr_gpu_stream *first = gpus.stream[at], *second = gpu->stream_create();
        pr_gpu_event *fork = gpu->event_create(false), *join = gpu->event_create(false);
        unsigned char *a = gpu_under_test_take(gpu, first, N);
        unsigned char *b = gpu_under_test_take(gpu, first, N), host[N];
        assert_true(gpu->wait(first));
        assert_true(gpu->graph_begin(first));
        assert_true(gpu->event_record(fork, first));
        assert_true(gpu->event_follow(second, fork));
        assert_true(gpu->fill(a, 3, N, second));
        assert_true(gpu->event_record(join, second));
        assert_true(gpu->event_follow(first, join));
        assert_true(gpu->copy(b, a, N, first));
        pr_gpu_graph *graph = gpu->graph_end(first);
        assert_non_null(graph);
        gpu_under_test_get(gpu, first, host, b, N);
        assert_int_equal(host[0], 0xa5);
        assert_true(gpu->graph_run(graph, first));
        gpu_under_test_get(gpu, first, host, b, N);
        assert_int_equal(host[0], 3);
        // The second stream is its own again.
        assert_true(gpu->fill(a, 4, N, second));
        assert_true(gpu->wait(second));
        gpu_under_test_get(gpu, first, host, a, N);
        assert_int_equal(host[0], 4);
        gpu->graph_destroy(graph);
        gpu->event_destroy(fork);
        gpu->event_destroy(join);
        gpu->stream_destroy(second);
        gpu->memory_release(a);
        gpu->memory_release(b);
    }
}

static void a_wait_or_new_memory_cannot_be_captured(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_backend *gpu = gpus.gpu[at];
        for (int round = 0; round < 2; round++) {
            pr_gpu_stream *stream = gpu->stream_create();
            unsigned char *a = gpu_under_test_take(gpu, stream, N);
            assert_true(gpu->wait(stream));
            assert_true(gpu->graph_begin(stream));
            assert_true(gpu->fill(a, 1, N, stream));
            if (round == 0)
                assert_false(gpu->wait(stream));
            else
                assert_null(gpu->memory_take(N));
            assert_string_not_equal(gpu->error(), "");
            assert_null(gpu->graph_end(stream));
            assert_string_not_equal(gpu->error(), "");
            assert_true(gpu->wait(stream));
            gpu->stream_destroy(stream);
            gpu->memory_release(a);
        }
    }
}

// ---- Another process ----

// Reads a handle from stdin, expects 1 in the memory, and leaves 2 there.
static int answer_other_process(int at)
{
    gpus = gpu_under_test_open();
    const pr_gpu_backend *gpu = gpus.gpu[at];
    pr_gpu_ipc ipc;
    if (read(STDIN_FILENO, &ipc, sizeof(ipc)) != sizeof(ipc))
        return 2;
    unsigned char *memory = gpu->ipc_open(&ipc), host[N];
    if (!memory) {
        fprintf(stderr, "%s\n", gpu->error());
        return 3;
    }
    if (!gpu->copy(host, memory, N, gpus.stream[at]) || !gpu->wait(gpus.stream[at]) ||
        host[0] != 1 || host[N - 1] != 1)
        return 4;
    bool done = gpu->fill(memory, 2, N, gpus.stream[at]) && gpu->wait(gpus.stream[at]);
    gpu->ipc_close(memory);
    gpu_under_test_close(&gpus);
    return done ? 0 : 5;
}

static int run_other_process(int at, const pr_gpu_ipc *ipc)
{
    int pipes[2];
    char which[16];
    assert_int_equal(pipe(pipes), 0);
    snprintf(which, sizeof(which), "%d", at);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(pipes[0], STDIN_FILENO);
        execl("/proc/self/exe", "test_gpu_backend", which, (char *)NULL);
        _exit(127);
    }
    close(pipes[0]);
    assert_int_equal(write(pipes[1], ipc, sizeof(*ipc)), sizeof(*ipc));
    close(pipes[1]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void shared_memory_is_one_for_two_processes(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_backend *gpu = gpus.gpu[at];
        unsigned char *memory = gpu->memory_take(N), host[N];
        assert_non_null(memory);
        // What was there before it was shared stays.
        assert_true(gpu->fill(memory, 1, N, gpus.stream[at]));
        assert_true(gpu->wait(gpus.stream[at]));
        pr_gpu_ipc ipc;
        assert_true(gpu->ipc_share(memory, &ipc));
        assert_int_equal(run_other_process(at, &ipc), 0);
        assert_true(gpu->copy(host, memory, N, gpus.stream[at]));
        assert_true(gpu->wait(gpus.stream[at]));
        assert_int_equal(host[0], 2);
        assert_int_equal(host[N - 1], 2);
        gpu->memory_release(memory);
    }
}

static void a_handle_without_memory_is_refused(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        const pr_gpu_ipc ipc = {{0}};
        assert_null(gpus.gpu[at]->ipc_open(&ipc));
        assert_string_not_equal(gpus.gpu[at]->error(), "");
    }
}

// ---- The library ----

static void a_back_end_that_is_not_there_is_refused_in_one_line(void **state)
{
    (void)state;
    const pr_gpu_backend *backend = NULL;
    pr_error_capture_begin();
    assert_int_equal(pr_gpu_library_open("of_no_vendor", &backend), PR_ERR_NOT_FOUND);
    pr_error_capture_end();
    assert_non_null(strstr(pr_error_text(), "polyreme_of_no_vendor.so"));
    assert_null(backend);
}

static void the_two_emulated_ones_have_warps_of_32_and_64(void **state)
{
    (void)state;
    for (int at = 0; at < gpus.count; at++) {
        pr_gpu_facts facts;
        assert_true(gpus.gpu[at]->facts(0, &facts));
        if (strcmp(gpus.gpu[at]->name, "emulated") == 0)
            assert_int_equal(facts.warp, 32);
        if (strcmp(gpus.gpu[at]->name, "emulated64") == 0)
            assert_int_equal(facts.warp, 64);
        assert_non_null(gpus.gpu[at]->operations);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return answer_other_process(atoi(argv[1]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_are_those_of_a_device),
        cmocka_unit_test(memory_is_zeroed_and_aligned_and_counted),
        cmocka_unit_test(memory_that_is_not_there_is_refused_with_a_reason),
        cmocka_unit_test(copies_and_fills_keep_the_order_of_the_stream),
        cmocka_unit_test(a_stream_goes_on_after_the_event_it_follows),
        cmocka_unit_test(a_graph_takes_in_the_streams_that_follow_it),
        cmocka_unit_test(a_wait_or_new_memory_cannot_be_captured),
        cmocka_unit_test(shared_memory_is_one_for_two_processes),
        cmocka_unit_test(a_handle_without_memory_is_refused),
        cmocka_unit_test(a_back_end_that_is_not_there_is_refused_in_one_line),
        cmocka_unit_test(the_two_emulated_ones_have_warps_of_32_and_64),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
