// SPDX-License-Identifier: BSD-3-Clause
// The control plane, every back end: order and content under load, sleep, wake, loss, heartbeats.
// ranks: 1 2 3 6
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "comm/control_link.h"
#include "runtime/base/clock.h"
#include "tests/mpi/mpi_test.h"

enum { STORM = 10000, MAX_BYTES = 1 << 20 };

static pr_control *worker, *controller;
static const char *backend;

static bool open_control(int32_t ping_ms)
{
    pr_control_params params = {.world = mpi_test_world, .backend = backend, .ping_ms = ping_ms};
    pr_error_capture_begin();
    pr_status status = pr_control_create(&params, &worker, &controller);
    pr_error_capture_end();
    if (status != PR_ERR_UNSUPPORTED)
        MUST(status);
    return status == PR_OK;
}

static void close_control(void)
{
    pr_control_destroy(controller);
    pr_control_destroy(worker);
}

static int32_t ranks(void) { return pr_world_ranks(mpi_test_world); }

static int32_t rank(void) { return pr_world_rank(mpi_test_world); }

static void nap(int64_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

// Answers plans with reports of the same bytes until told to stop; then says how many there were.
static void *echo(void *unused)
{
    int64_t echoed = 0;
    for (;;) {
        pr_message message;
        MUST(pr_control_receive(worker, -1, &message));
        if (message.kind == PR_MESSAGE_PLAN) {
            echoed++;
            MUST(pr_control_send(worker, 0, PR_MESSAGE_REPORT, message.data, message.size_bytes));
        } else if (message.kind == PR_MESSAGE_STOP) {
            MUST(pr_control_send(worker, 0, PR_MESSAGE_COUNTS, &echoed, sizeof echoed));
            return unused;
        } else if (message.kind != PR_MESSAGE_NONE) {
            EXPECT(false, "a worker got kind %d", (int)message.kind);
            return unused;
        }
    }
}

// Rank 0's worker is another thread, as in the program.
static pthread_t start_echo(void)
{
    pthread_t thread = 0;
    if (rank() == 0 && pthread_create(&thread, NULL, echo, NULL) != 0)
        abort();
    if (rank() != 0)
        echo(NULL);
    return thread;
}

static size_t size_of(int32_t to, int32_t i)
{
    uint64_t key = noise((uint64_t)to, (uint64_t)i, 5);
    size_t limit = key % 200 == 0 ? MAX_BYTES : key % 20 == 0 ? 70000 : key % 5 == 0 ? 1 : 2000;
    return (size_t)((key >> 20) % (limit + 1));
}

static void fill(char *data, int32_t to, int32_t i)
{
    size_t size_bytes = size_of(to, i);
    uint64_t key = noise((uint64_t)to, (uint64_t)i, 6);
    for (size_t at = 0; at < size_bytes; at += 8, key += 0x9e3779b97f4a7c15u)
        memcpy(data + at, &key, size_bytes - at < 8 ? size_bytes - at : 8);
}

static void take_one(int32_t *seen, int64_t *stopped, int32_t timeout_ms)
{
    static char want[MAX_BYTES + 8];
    pr_message message;
    MUST(pr_control_receive(controller, timeout_ms, &message));
    if (message.kind == PR_MESSAGE_NONE)
        return;
    if (message.kind == PR_MESSAGE_COUNTS) {
        int64_t echoed;
        memcpy(&echoed, message.data, sizeof echoed);
        EXPECT(echoed == STORM / ranks(), "rank %d echoed %lld", message.from, (long long)echoed);
        ++*stopped;
        return;
    }
    int32_t i = seen[message.from]++;
    fill(want, message.from, i);
    EXPECT(message.kind == PR_MESSAGE_REPORT, "kind %d", (int)message.kind);
    EXPECT(((uintptr_t)message.data & 7) == 0, "data is not aligned");
    EXPECT(
        message.size_bytes == size_of(message.from, i) &&
            memcmp(message.data, want, message.size_bytes) == 0,
        "message %d of rank %d is not what was sent", i, message.from);
}

static void control_storm(void)
{
    static char data[MAX_BYTES + 8];
    int32_t *seen = calloc((size_t)ranks(), sizeof *seen);
    int64_t stopped = 0, deadline_ns = pr_clock_now_ns() + INT64_C(60000000000);
    for (int32_t i = 0; i < STORM / ranks(); i++) {
        for (int32_t to = 0; to < ranks(); to++) {
            fill(data, to, i);
            MUST(pr_control_send(controller, to, PR_MESSAGE_PLAN, data, size_of(to, i)));
        }
        for (int32_t n = 0; i % 40 == 39 && n < 60; n++)
            take_one(seen, &stopped, 0);
    }
    for (int32_t to = 0; to < ranks(); to++)
        MUST(pr_control_send(controller, to, PR_MESSAGE_STOP, NULL, 0));
    while (stopped < ranks() && pr_clock_now_ns() < deadline_ns)
        take_one(seen, &stopped, 1000);
    for (int32_t i = 0; i < ranks(); i++)
        EXPECT(seen[i] == STORM / ranks(), "%d echoes of rank %d", seen[i], i);
    EXPECT(stopped == ranks(), "%d ranks stopped", (int)stopped);
    free(seen);
}

static void ten_thousand_messages_return_whole_and_in_order(void)
{
    pthread_t thread = start_echo();
    if (rank() == 0) {
        control_storm();
        pthread_join(thread, NULL);
    }
    agree(__func__);
}

static int64_t cpu_ns(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * INT64_C(1000000000) +
           (use.ru_utime.tv_usec + use.ru_stime.tv_usec) * INT64_C(1000);
}

static void an_idle_rank_sleeps(void)
{
    pr_message message;
    if (rank() == 0) {
        nap(1100);
        for (int32_t to = 1; to < ranks(); to++)
            MUST(pr_control_send(controller, to, PR_MESSAGE_PLAN, "x", 1));
    } else {
        int64_t begin_ns = pr_clock_now_ns(), cpu_begin_ns = cpu_ns();
        MUST(pr_control_receive(worker, -1, &message));
        int64_t cpu = cpu_ns() - cpu_begin_ns, wall = pr_clock_now_ns() - begin_ns;
        EXPECT(message.kind == PR_MESSAGE_PLAN, "woken by kind %d", (int)message.kind);
        EXPECT(
            cpu * 10 < wall, "used %lld us of cpu in %lld us", (long long)cpu / 1000,
            (long long)wall / 1000);
    }
    agree(__func__);
}

static void *wake_soon(void *control)
{
    nap(50);
    pr_control_wake(control);
    return NULL;
}

static void a_wake_ends_the_wait_without_a_message(void)
{
    pr_control *const endpoint[] = {worker, controller};
    for (int32_t i = 0; i < 2 && endpoint[i]; i++) {
        pthread_t thread;
        pr_message message;
        if (pthread_create(&thread, NULL, wake_soon, endpoint[i]) != 0)
            abort();
        MUST(pr_control_receive(endpoint[i], -1, &message));
        EXPECT(message.kind == PR_MESSAGE_NONE, "woken with kind %d", (int)message.kind);
        pthread_join(thread, NULL);
        MUST(pr_control_receive(endpoint[i], 1, &message));
        EXPECT(message.kind == PR_MESSAGE_NONE, "then kind %d", (int)message.kind);
    }
    agree(__func__);
}

enum { POSTS = 60, POST_MS = 2 };

// In a rhythm; then after a pause in which the reader has fallen asleep; and in the rhythm again, with an
// urgent one at its end.
static void *post_in_a_rhythm(void *unused)
{
    for (int32_t i = 0; i < 2 * POSTS; i++) {
        if (i == POSTS)
            nap(300);
        nap(POST_MS);
        int64_t sent_ns = pr_clock_now_ns();
        MUST(pr_control_post(worker, 0, PR_MESSAGE_REPORT, &sent_ns, sizeof sent_ns));
    }
    int64_t sent_ns = pr_clock_now_ns();
    MUST(pr_control_send(worker, 0, PR_MESSAGE_COUNTS, &sent_ns, sizeof sent_ns));
    return unused;
}

static int by_size(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void posted_messages_are_seen_within_their_rhythm(void)
{
    int64_t late_ns[2 * POSTS + 1], before_ns = 0;
    pthread_t thread;
    if (rank() == 0 && pthread_create(&thread, NULL, post_in_a_rhythm, NULL) != 0)
        abort();
    for (int32_t i = 0; rank() == 0 && i <= 2 * POSTS; i++) {
        pr_message message;
        int64_t sent_ns = 0;
        MUST(pr_control_receive(controller, 5000, &message));
        EXPECT(
            message.kind == (i < 2 * POSTS ? PR_MESSAGE_REPORT : PR_MESSAGE_COUNTS),
            "message %d is of kind %d", (int)i, (int)message.kind);
        if (message.size_bytes == sizeof sent_ns)
            memcpy(&sent_ns, message.data, sizeof sent_ns);
        EXPECT(sent_ns > before_ns, "message %d is out of order", (int)i);
        before_ns = sent_ns;
        late_ns[i] = pr_clock_now_ns() - sent_ns;
    }
    if (rank() == 0) {
        pthread_join(thread, NULL);
        qsort(late_ns, 2 * POSTS + 1, sizeof *late_ns, by_size);
        // A reader that did not look by itself would see half of them with the urgent one only, 300 ms
        // late or more; a busy machine makes it some milliseconds.
        EXPECT(
            late_ns[POSTS] < INT64_C(100000000), "half are later than %lld us",
            (long long)late_ns[POSTS] / 1000);
    }
    agree(__func__);
}

static void expect_loss(int32_t of, const char *says)
{
    pr_message message = {0};
    int64_t deadline_ns = pr_clock_now_ns() + INT64_C(10000000000);
    do
        MUST(pr_control_receive(controller, 1000, &message));
    while (message.kind == PR_MESSAGE_NONE && pr_clock_now_ns() < deadline_ns);
    EXPECT(message.kind == PR_MESSAGE_LOST, "kind %d", (int)message.kind);
    EXPECT(message.from == of, "of rank %d", message.from);
    if (message.kind == PR_MESSAGE_LOST)
        EXPECT(strstr(message.data, says), "says '%s'", (const char *)message.data);
}

// The last words come before the loss, the loss comes once, and the others are not touched.
static void a_rank_that_leaves_is_reported_lost_once(void)
{
    int32_t last = ranks() - 1;
    pr_message message;
    if (rank() == last) {
        MUST(pr_control_send(worker, 0, PR_MESSAGE_FAULT, "bye", 4));
        pr_control_destroy(worker);
        worker = NULL;
    }
    if (rank() == 0) {
        do
            MUST(pr_control_receive(controller, 10000, &message));
        while (message.kind == PR_MESSAGE_NONE);
        EXPECT(message.kind == PR_MESSAGE_FAULT, "kind %d", (int)message.kind);
        EXPECT(message.size_bytes == 4 && memcmp(message.data, "bye", 4) == 0, "other words");
        expect_loss(last, "");
        MUST(pr_control_receive(controller, 100, &message));
        EXPECT(message.kind == PR_MESSAGE_NONE, "then kind %d", (int)message.kind);
        pr_error_capture_begin();
        EXPECT(
            pr_control_send(controller, last, PR_MESSAGE_PLAN, NULL, 0) == PR_ERR_PEER,
            "can still be sent to");
        pr_error_capture_end();
        for (int32_t to = 0; to < last; to++)
            MUST(pr_control_send(controller, to, PR_MESSAGE_PLAN, "still", 6));
    }
    if (rank() != last) {
        MUST(pr_control_receive(worker, 10000, &message));
        EXPECT(message.kind == PR_MESSAGE_PLAN, "a survivor got kind %d", (int)message.kind);
    }
    agree(__func__);
}

static void a_silent_idle_rank_is_lost_and_a_busy_one_is_not(void)
{
    pr_message message;
    int64_t end_ns = pr_clock_now_ns() + INT64_C(500000000);
    if (ranks() < 3 || !open_control(100))
        return;
    if (rank() == 0) {
        while (pr_clock_now_ns() < end_ns - INT64_C(200000000))  // all are known to be idle
            MUST(pr_control_receive(controller, 50, &message));
        MUST(pr_control_send(controller, 1, PR_MESSAGE_PLAN, NULL, 0));
        expect_loss(2, "silent");
        MUST(pr_control_send(controller, 1, PR_MESSAGE_PLAN, NULL, 0));
        while (pr_clock_now_ns() < end_ns + INT64_C(1500000000)) {
            MUST(pr_control_receive(controller, 100, &message));
            EXPECT(message.kind == PR_MESSAGE_NONE, "kind %d", (int)message.kind);
        }
    } else if (rank() == 1) {
        MUST(pr_control_receive(worker, 10000, &message));
        EXPECT(message.kind == PR_MESSAGE_PLAN, "kind %d", (int)message.kind);
        nap(2500);  // computes
        MUST(pr_control_receive(worker, 10000, &message));
        EXPECT(message.kind == PR_MESSAGE_PLAN, "kind %d", (int)message.kind);
    } else {
        while (pr_clock_now_ns() < end_ns)
            MUST(pr_control_receive(worker, 50, &message));
        for (int64_t i = 0; rank() > 2 && i < 40; i++)
            MUST(pr_control_receive(worker, 50, &message));
        if (rank() == 2)
            nap(2000);  // hangs, though nobody gave it anything to do
    }
    agree(__func__);
    close_control();
}

// Rank 1 joins by hand and speaks nonsense: rank 0 says what is wrong and goes on with the others.
static void nonsense_ends_the_connection_and_says_why(void)
{
    static const char *const says[] = {"not a control frame", "another version", "too large",
                                       "wrong checksum",      "out of place",    "closed"};
    for (int32_t i = 0; ranks() > 1 && i < 6; i++) {
        int *sockets = NULL;
        pr_tcp_door *door = NULL;  // rank 0's
        pr_message message;
        if (rank() != 1) {
            EXPECT(open_control(0), "cannot open");
        } else {
            MUST(pr_control_tcp_connect(mpi_test_world, &sockets, &door));
            pr_frame frame = {
                .magic = PR_FRAME_MAGIC - (i == 0),
                .version = PR_FRAME_VERSION + (i == 1),
                .kind = PR_MESSAGE_REPORT,
                .from = 1 + (i == 4),
                .size_bytes = i == 2 ? PR_FRAME_MAX_BYTES + 1 : 0};
            size_t size_bytes = i == 5 ? 9 : sizeof frame;
            EXPECT(write(sockets[0], &frame, size_bytes) == (ssize_t)size_bytes, "write");
            if (i == 5)
                shutdown(sockets[0], SHUT_WR);
        }
        if (rank() == 0) {
            expect_loss(1, says[i]);
            MUST(pr_control_send(controller, 0, PR_MESSAGE_PLAN, NULL, 0));
            MUST(pr_control_receive(worker, 0, &message));
            EXPECT(message.kind == PR_MESSAGE_PLAN, "kind %d", (int)message.kind);
        }
        agree(__func__);
        if (rank() == 1) {
            close(sockets[0]);
            free(sockets);
        } else {
            close_control();
        }
    }
}

// Rank 1 leaves, and comes again by an invitation: both sides speak as before, from the first frame on.
static void a_process_joins_in_the_place_of_a_lost_rank(void)
{
    char invitation[PR_INVITATION_BYTES] = "";
    int64_t size_bytes = 0;
    pr_message message = {.kind = PR_MESSAGE_NONE};
    if (ranks() == 1)
        return;
    setenv("OMPI_MCA_orte_enable_recovery", "1", 1);  // else nobody goes on listening
    EXPECT(open_control(0), "cannot open");
    if (rank() == 0) {
        for (int i = 0; i < 3; i++)
            MUST(pr_control_send(controller, 1, PR_MESSAGE_PLAN, "old", 4));
    } else if (rank() == 1) {
        pr_control_destroy(worker);
    }
    if (rank() == 0) {
        expect_loss(1, "left");
        size_bytes = (int64_t)pr_control_invite(controller, invitation);
        EXPECT(size_bytes > 0, "no invitation");
    }
    MUST(pr_world_broadcast(mpi_test_world, &size_bytes, sizeof size_bytes));
    MUST(pr_world_broadcast(mpi_test_world, invitation, sizeof invitation));
    if (rank() == 1) {
        MUST(pr_control_join(mpi_test_world, 0, invitation, (size_t)size_bytes, &worker));
        MUST(pr_control_send(worker, 0, PR_MESSAGE_REPORT, "here", 5));
        MUST(pr_control_receive(worker, 20000, &message));
        EXPECT(message.kind == PR_MESSAGE_PLAN, "kind %d", (int)message.kind);
        EXPECT(message.size_bytes == 4 && !memcmp(message.data, "new", 4), "other data");
    } else if (rank() == 0) {
        MUST(pr_control_receive(controller, 20000, &message));
        EXPECT(message.kind == PR_MESSAGE_REPORT, "kind %d", (int)message.kind);
        EXPECT(message.from == 1 && !memcmp(message.data, "here", 5), "from %d", message.from);
        MUST(pr_control_send(controller, 1, PR_MESSAGE_PLAN, "new", 4));
    }
    agree(__func__);
    close_control();
    unsetenv("OMPI_MCA_orte_enable_recovery");
}

static void auto_chooses_ucx_where_all_ranks_have_it(void)
{
    backend = "ucx";
    bool has_ucx = ranks() > 1 && open_control(0);
    if (has_ucx)
        close_control();
    backend = "auto";
    EXPECT(open_control(0), "auto cannot open any");
    const char *want = ranks() == 1 ? "local" : has_ucx ? "ucx" : "tcp";
    const pr_control *endpoint = controller ? controller : worker;
    EXPECT(strcmp(pr_control_backend(endpoint), want) == 0, "%s", pr_control_backend(endpoint));
    EXPECT(!controller || strcmp(pr_control_backend(worker), "local") == 0, "not local");
    close_control();
    agree(__func__);
}

int main(void)
{
    static const char *const backends[] = {"tcp", "ucx"};
    mpi_test_begin();
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++) {
        backend = backends[i];
        if ((ranks() == 1 && i > 0) || !open_control(0))
            continue;
        if (rank() == 0)
            printf("back end %s: %s\n", backend, pr_control_backend(controller));
        ten_thousand_messages_return_whole_and_in_order();
        an_idle_rank_sleeps();
        a_wake_ends_the_wait_without_a_message();
        posted_messages_are_seen_within_their_rhythm();
        if (ranks() > 1)
            a_rank_that_leaves_is_reported_lost_once();
        close_control();
        a_process_joins_in_the_place_of_a_lost_rank();
    }
    auto_chooses_ucx_where_all_ranks_have_it();
    backend = "tcp";
    a_silent_idle_rank_is_lost_and_a_busy_one_is_not();
    nonsense_ends_the_connection_and_says_why();
    return mpi_test_end();
}
