// SPDX-License-Identifier: BSD-3-Clause
#include "benchmarks/serve/load_target.h"

#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"

// The first line of a file in /proc; "" if there is none.
static void read_line(const char *path, char *line, int size_bytes)
{
    FILE *file = fopen(path, "r");
    line[0] = '\0';
    if (!file)
        return;
    if (!fgets(line, size_bytes, file))
        line[0] = '\0';
    fclose(file);
    line[strcspn(line, "\n")] = '\0';
}

static void find_thread(pr_load_target *target)
{
    char folder[64], path[256], name[64];
    snprintf(folder, sizeof folder, "/proc/%" PRId64 "/task", target->endpoint.pid);
    DIR *threads = opendir(folder);
    struct dirent *entry;
    while (threads && (entry = readdir(threads))) {
        snprintf(path, sizeof path, "%s/%.20s/comm", folder, entry->d_name);
        read_line(path, name, sizeof name);
        if (strcmp(name, "http") == 0)
            snprintf(
                target->thread_folder, sizeof target->thread_folder, "%s/%.20s", folder,
                entry->d_name);
    }
    if (threads)
        closedir(threads);
}

pr_status pr_load_target_open(const char *path, const char *mode, pr_load_target *target)
{
    *target = (pr_load_target){.mode = mode};
    PR_TRY(pr_endpoint_file_read(path, &target->endpoint));
    if (target->endpoint.port == 0)
        return pr_fail(PR_ERR_UNSUPPORTED, "%s: load comes over TCP, not to a Unix socket", path);
    snprintf(
        target->fields, sizeof target->fields, "Host: localhost:%d\r\n%s%s%s",
        target->endpoint.port, target->endpoint.api_key[0] ? "Authorization: Bearer " : "",
        target->endpoint.api_key, target->endpoint.api_key[0] ? "\r\n" : "");
    find_thread(target);
    return pr_load_loop_open(target->endpoint.port, &target->loop);
}

void pr_load_target_close(pr_load_target *target) { pr_load_loop_close(&target->loop); }

void pr_load_target_write(
    const pr_load_target *target,
    const char *path,
    const char *name,
    const char *body,
    pr_byte_buffer *out)
{
    char head[2048];
    int bytes = snprintf(
        head, sizeof head, "%s %s HTTP/1.1\r\n%s%s%s%s", body ? "POST" : "GET", path,
        target->fields, name ? "X-Request-Id: " : "", name ? name : "", name ? "\r\n" : "");
    pr_byte_buffer_append(out, head, (size_t)bytes);
    if (body) {
        bytes = snprintf(
            head, sizeof head, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
            strlen(body));
        pr_byte_buffer_append(out, head, (size_t)bytes);
    }
    pr_byte_buffer_append(out, "\r\n", 2);
    if (body)
        pr_byte_buffer_append(out, body, strlen(body));
}

// ---- One request ----

typedef struct asking {
    pr_load_answer *answer;
    bool replied, closed;
} asking;

static void on_body(void *context, const char *bytes, size_t size_bytes)
{
    asking *state = context;
    pr_byte_buffer_append(&state->answer->text, bytes, size_bytes);
}

static void on_replied(void *context, pr_load_wire *wire)
{
    asking *state = context;
    state->answer->status = wire->reply.status;
    state->replied = true;
}

static void on_closed(void *context, pr_load_wire *wire, bool clean)
{
    asking *state = context;
    state->answer->status = wire->reply.status;
    state->replied |= clean && wire->reply.status > 0;
    state->closed = true;
}

static const pr_load_user asker = {.body = on_body, .replied = on_replied, .closed = on_closed};

pr_status pr_load_target_ask(
    pr_load_target *target,
    const char *path,
    const char *name,
    const char *body,
    int32_t timeout_ms,
    pr_load_answer *answer)
{
    asking state = {.answer = answer};
    pr_load_wire *wire;
    pr_byte_buffer request = {0};
    int64_t end_ns = pr_clock_now_ns() + (int64_t)timeout_ms * 1000000;
    answer->status = 0;
    pr_byte_buffer_clear(&answer->text);
    PR_TRY(pr_load_wire_open(&target->loop, &asker, &state, 0, &wire));
    pr_load_target_write(target, path, name, body, &request);
    pr_load_wire_send(wire, request.data, request.size_bytes);
    pr_byte_buffer_free(&request);
    while (!state.replied && !state.closed && pr_clock_now_ns() < end_ns)
        pr_load_loop_turn(&target->loop, 20);
    if (!state.closed)
        pr_load_wire_close(wire, false);
    pr_byte_buffer_append(&answer->text, "", 1);
    PR_TRY(pr_byte_buffer_check(&answer->text));
    answer->text.size_bytes--;
    if (state.replied)
        return PR_OK;
    if (state.closed)
        return pr_fail(PR_ERR_PEER, "%s: the server closed before it had replied", path);
    return pr_fail(PR_ERR_TIMEOUT, "%s: no reply within %d ms", path, timeout_ms);
}

// ---- What it says of itself ----

static double sum_samples(const char *text, const char *name)
{
    double sum = 0;
    size_t length = strlen(name);
    for (const char *line = text; *line;) {
        const char *end = strchr(line, '\n');
        const char *value = line + length;
        if (strncmp(line, name, length) == 0 && (*value == '{' || *value == ' ')) {
            while (end && end > value && end[-1] != ' ')
                end--;
            sum += end ? strtod(end, NULL) : 0;
            end = strchr(line, '\n');
        }
        line = end ? end + 1 : line + strlen(line);
    }
    return sum;
}

pr_status pr_load_target_metric(pr_load_target *target, const char *name, double *value)
{
    pr_load_answer answer = {0};
    pr_status status = pr_load_target_ask(target, "/metrics", NULL, NULL, 10000, &answer);
    if (status == PR_OK && answer.status != 200)
        status = pr_fail(PR_ERR_REQUEST, "/metrics answers %d", answer.status);
    if (status == PR_OK)
        *value = sum_samples(answer.text.data, name);
    pr_byte_buffer_free(&answer.text);
    return status;
}

static pr_status look(pr_load_target *target, double *open, double *blocks, double *connections)
{
    pr_load_answer answer = {0};
    pr_status status = pr_load_target_ask(target, "/load", NULL, NULL, 10000, &answer);
    if (status == PR_OK && answer.status != 200)
        status = pr_fail(PR_ERR_REQUEST, "/load answers %d", answer.status);
    const char *number = status == PR_OK ? strchr(answer.text.data, ':') : NULL;
    *open = number ? strtod(number + 1, NULL) : -1;
    if (status == PR_OK)
        status = pr_load_target_ask(target, "/metrics", NULL, NULL, 10000, &answer);
    if (status == PR_OK) {
        *blocks = sum_samples(answer.text.data, "polyreme_group_kv_used_blocks");
        *connections = sum_samples(answer.text.data, "polyreme_http_connections");
    }
    pr_byte_buffer_free(&answer.text);
    return status;
}

pr_status pr_load_target_await_rest(pr_load_target *target, int32_t timeout_ms)
{
    double open, blocks = 0, connections = 0;
    int64_t end_ns = pr_clock_now_ns() + (int64_t)timeout_ms * 1000000;
    for (;;) {
        PR_TRY(look(target, &open, &blocks, &connections));
        double ours = target->loop.open + 1;  // and the one that asked
        if (open == 0 && blocks == 0 && connections <= ours)
            return PR_OK;
        if (pr_clock_now_ns() > end_ns)
            return pr_fail(
                PR_ERR_TIMEOUT,
                "after %d ms there are still %g sequences, %g KV blocks held, %g connections "
                "(%g ours)",
                timeout_ms, open, blocks, connections, ours);
        usleep(50000);
    }
}

// ---- /proc ----

pr_load_cpu pr_load_target_cpu(const pr_load_target *target)
{
    char path[192], line[1024];
    long long user = 0, system = 0;
    snprintf(path, sizeof path, "%s/schedstat", target->thread_folder);
    read_line(path, line, sizeof line);
    pr_load_cpu cpu = {.all_ns = strtoll(line, NULL, 10)};
    snprintf(path, sizeof path, "%s/stat", target->thread_folder);
    read_line(path, line, sizeof line);
    const char *state = strrchr(line, ')');
    // Fields 14 and 15; the state behind the name is field 3.
    if (state &&
        sscanf(state, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld", &user, &system) ==
            2 &&
        user + system > 0)
        cpu.user_ns = (int64_t)((double)cpu.all_ns * (double)user / (double)(user + system));
    return cpu;
}

int64_t pr_load_target_rss_bytes(const pr_load_target *target)
{
    char path[64], line[128];
    long long pages = 0;
    snprintf(path, sizeof path, "/proc/%" PRId64 "/statm", target->endpoint.pid);
    read_line(path, line, sizeof line);
    const char *second = strchr(line, ' ');
    if (second)
        pages = strtoll(second + 1, NULL, 10);
    return pages * sysconf(_SC_PAGESIZE);
}

bool pr_load_target_lives(const pr_load_target *target)
{
    return kill((pid_t)target->endpoint.pid, 0) == 0;
}

// ---- Rows ----

void pr_load_target_row(const pr_load_target *target, const char *measure, double value)
{
    printf(
        "{\"mode\": \"%s\", \"measure\": \"%s\", \"value\": %.10g}\n", target->mode, measure,
        value);
    fflush(stdout);
}

static int ascending(const void *a, const void *b)
{
    float left = *(const float *)a, right = *(const float *)b;
    return (left > right) - (left < right);
}

void pr_load_target_quantiles(
    const pr_load_target *target, const char *name, float *value, size_t values)
{
    static const struct {
        const char *name;
        double part;
    } quantile[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1}};
    char measure[64];
    if (values == 0)
        return;
    qsort(value, values, sizeof *value, ascending);
    for (size_t i = 0; i < sizeof quantile / sizeof *quantile; i++) {
        snprintf(measure, sizeof measure, "%s_%s", name, quantile[i].name);
        size_t at = (size_t)(quantile[i].part * (double)(values - 1));
        pr_load_target_row(target, measure, (double)value[at]);
    }
}
