// SPDX-License-Identifier: BSD-3-Clause
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/serve/load_case.h"
#include "benchmarks/serve/load_modes.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { KNOWN = 8, SMALL_BUFFER_BYTES = 4096, BEAT_MS = 1000, FIRST_WAIT_MS = 300 };

typedef enum manner {
    NEVER_READS,
    READS_A_BYTE_A_SECOND,
    CLOSES_HALF_AT_ONCE,
    CLOSES_HALF_IN_STREAM,
    RESETS_IN_STREAM,
    LEAVES_IN_STREAM,
    LEAVES_BEFORE_REPLY,
    SENDS_HALF_A_HEAD,
    SENDS_A_BYTE_OF_HEAD_A_SECOND,
    SENDS_HALF_A_BODY,
    SENDS_NOTHING,
    MANNERS
} manner;

static const char *const manner_name[MANNERS] = {
    "never_reads",           "reads_a_byte_a_second", "closes_half_at_once",
    "closes_half_in_stream", "resets_in_stream",      "leaves_in_stream",
    "leaves_before_reply",   "sends_half_a_head",     "sends_a_byte_of_head_a_second",
    "sends_half_a_body",     "sends_nothing",
};

typedef struct bad_client {
    struct gang *gang;
    manner manner;
    pr_load_wire *wire;
    int64_t began_ns, ended_ns;  // began: its misdeed; ended: by the server, or by itself
    int64_t beat_ns;             // of what it does once a second
    size_t sent_bytes;
    int32_t status;
    bool acted;
} bad_client;

typedef struct gang {
    pr_load_target *target;
    bad_client *client;  // [clients]
    int32_t clients, left;
} gang;

// Long enough to outlast every limit, and so wide that a socket's buffer is soon full.
static const char long_body[] =
    "{\"prompt\":\"And it came to pass\",\"max_tokens\":1800,\"ignore_eos\":true,\"logprobs\":20,"
    "\"stream\":true}";
static const char whole_body[] =
    "{\"prompt\":\"And it came to pass\",\"max_tokens\":1800,\"ignore_eos\":true}";

static void over(bad_client *client)
{
    if (!client->wire)
        return;
    client->wire = NULL;
    client->ended_ns = pr_clock_now_ns();
    client->gang->left--;
}

static void leave(bad_client *client, bool reset)
{
    pr_load_wire *wire = client->wire;
    over(client);
    pr_load_wire_close(wire, reset);
}

static void on_body(void *context, const char *bytes, size_t size_bytes)
{
    bad_client *client = context;
    (void)bytes, (void)size_bytes;
    if (client->acted || !client->wire)
        return;
    client->acted = true;
    if (client->manner == RESETS_IN_STREAM || client->manner == LEAVES_IN_STREAM) {
        leave(client, client->manner == RESETS_IN_STREAM);
    } else if (client->manner == CLOSES_HALF_IN_STREAM) {
        client->began_ns = pr_clock_now_ns();
        pr_load_wire_end_sending(client->wire);
    }
}

static void on_replied(void *context, pr_load_wire *wire)
{
    bad_client *client = context;
    client->status = wire->reply.status;
}

static void on_closed(void *context, pr_load_wire *wire, bool clean)
{
    bad_client *client = context;
    (void)wire, (void)clean;
    over(client);
}

static const pr_load_user user = {.body = on_body, .replied = on_replied, .closed = on_closed};

static void write_request(bad_client *client, pr_byte_buffer *out)
{
    const char *body = client->manner == LEAVES_BEFORE_REPLY ? whole_body : long_body;
    pr_load_target_write(client->gang->target, "/v1/completions", NULL, body, out);
    if (client->manner == SENDS_HALF_A_HEAD)
        out->size_bytes = 40;
    else if (client->manner == SENDS_HALF_A_BODY)
        out->size_bytes -= strlen(body) / 2;
    else if (client->manner == SENDS_A_BYTE_OF_HEAD_A_SECOND)
        out->size_bytes = 1;
    else if (client->manner == SENDS_NOTHING)
        out->size_bytes = 0;
}

static pr_status begin(bad_client *client)
{
    pr_byte_buffer out = {0};
    bool small = client->manner == NEVER_READS || client->manner == READS_A_BYTE_A_SECOND;
    PR_TRY(pr_load_wire_open(
        &client->gang->target->loop, &user, client, small ? SMALL_BUFFER_BYTES : 0, &client->wire));
    client->gang->left++;
    client->began_ns = client->beat_ns = pr_clock_now_ns();
    write_request(client, &out);
    if (out.size_bytes > 0)
        pr_load_wire_send(client->wire, out.data, out.size_bytes);
    client->sent_bytes = out.size_bytes;
    if (small)
        pr_load_wire_read(client->wire, false);
    if (client->manner == CLOSES_HALF_AT_ONCE)
        pr_load_wire_end_sending(client->wire);
    pr_byte_buffer_free(&out);
    return PR_OK;
}

static void send_next_byte(bad_client *client)
{
    pr_byte_buffer request = {0};
    pr_load_target_write(client->gang->target, "/v1/completions", NULL, long_body, &request);
    if (client->sent_bytes < request.size_bytes)
        pr_load_wire_send(client->wire, (char *)request.data + client->sent_bytes++, 1);
    pr_byte_buffer_free(&request);
}

// What is done by the clock.
static void beat(bad_client *client, int64_t now_ns)
{
    int64_t wait_ms = client->manner == LEAVES_BEFORE_REPLY ? FIRST_WAIT_MS : BEAT_MS;
    if (!client->wire || now_ns - client->beat_ns < wait_ms * 1000000)
        return;
    client->beat_ns = now_ns;
    if (client->manner == READS_A_BYTE_A_SECOND)
        pr_load_wire_sip(client->wire, 1);
    else if (client->manner == SENDS_A_BYTE_OF_HEAD_A_SECOND)
        send_next_byte(client);
    else if (client->manner == LEAVES_BEFORE_REPLY)
        leave(client, false);
}

// Others are served all the while.
static pr_status await_all(gang *all, const pr_load_options *options, const pr_load_case *cases)
{
    int64_t end_ns = pr_clock_now_ns() + options->limit_s * INT64_C(1000000000), asked_ns = 0;
    int32_t asked = 0;
    while (all->left > 0) {
        pr_load_loop_turn(&all->target->loop, 50);
        int64_t now_ns = pr_clock_now_ns();
        for (int32_t i = 0; i < all->clients; i++)
            beat(&all->client[i], now_ns);
        if (now_ns > end_ns)
            return pr_fail(
                PR_ERR_TIMEOUT, "%d of %d bad clients are still connected after %d s", all->left,
                all->clients, options->limit_s);
        if (now_ns - asked_ns > BEAT_MS * INT64_C(1000000)) {
            PR_TRY(pr_load_case_check(
                all->target, &cases[asked % KNOWN], asked % KNOWN, options->tokens));
            asked++;
            asked_ns = pr_clock_now_ns();
        }
    }
    pr_load_target_row(all->target, "requests_answered_meanwhile", asked);
    return PR_OK;
}

static bool leaves(manner how)
{
    return how == RESETS_IN_STREAM || how == LEAVES_IN_STREAM || how == LEAVES_BEFORE_REPLY;
}

static bool wants_408(manner how)
{
    return how == SENDS_HALF_A_HEAD || how == SENDS_A_BYTE_OF_HEAD_A_SECOND ||
           how == SENDS_HALF_A_BODY;
}

static pr_status print_rows(const gang *all)
{
    char measure[80];
    int32_t untold = 0;
    for (int32_t how = 0; how < MANNERS; how++) {
        double longest_s = 0;
        for (int32_t i = how; i < all->clients; i += MANNERS) {
            const bad_client *client = &all->client[i];
            double took_s = (double)(client->ended_ns - client->began_ns) / 1e9;
            longest_s = took_s > longest_s ? took_s : longest_s;
            untold += wants_408((manner)how) && client->status != 408;
        }
        snprintf(measure, sizeof measure, "%s_longest_s", manner_name[how]);
        if (!leaves((manner)how))
            pr_load_target_row(all->target, measure, longest_s);
    }
    if (untold == 0)
        return PR_OK;
    return pr_fail(PR_ERR_REQUEST, "%d clients that were too slow were not told so by 408", untold);
}

static pr_status run(gang *all, const pr_load_options *options, const pr_load_case *cases)
{
    for (int32_t i = 0; i < all->clients; i++) {
        all->client[i] = (bad_client){.gang = all, .manner = (manner)(i % MANNERS)};
        PR_TRY(begin(&all->client[i]));
    }
    PR_TRY(await_all(all, options, cases));
    return print_rows(all);
}

pr_status pr_load_slow(pr_load_target *target, const pr_load_options *options)
{
    pr_load_case *cases = NULL;
    gang all = {.target = target, .clients = options->count * MANNERS};
    PR_TRY(pr_load_case_gather(target, KNOWN, options->tokens, options->reference, &cases));
    int64_t before_bytes = pr_load_target_rss_bytes(target);
    all.client = calloc((size_t)all.clients, sizeof *all.client);
    pr_status status =
        all.client ? run(&all, options, cases) : pr_fail(PR_ERR_RESOURCE, "no memory for clients");
    for (int32_t i = 0; all.client && i < all.clients; i++) {
        if (all.client[i].wire)
            pr_load_wire_close(all.client[i].wire, true);
    }
    free(all.client);
    if (status == PR_OK)
        status = pr_load_target_await_rest(target, options->limit_s * 1000);
    if (status == PR_OK) {
        pr_load_target_row(target, "clients_of_each_kind", options->count);
        pr_load_target_row(target, "rss_before_bytes", (double)before_bytes);
        pr_load_target_row(target, "rss_after_bytes", (double)pr_load_target_rss_bytes(target));
    }
    pr_load_case_free(cases, KNOWN);
    return status;
}
