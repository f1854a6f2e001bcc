// SPDX-License-Identifier: BSD-3-Clause
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/serve/load_case.h"
#include "benchmarks/serve/load_modes.h"
#include "launcher/client/sse_reader.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { SILENCE_MS = 120000, LOOK_MS = 100, TOLD_FAULTS = 5 };

typedef struct stream {
    struct crowd *crowd;
    const pr_load_case *expected;
    pr_load_wire *wire;
    pr_sse_reader reader;
    size_t text_bytes;  // of the expected text, come so far
    int32_t tokens;     // by usage
    int64_t asked_ns, last_ns;
    bool finished, told_done, over, wrong;
} stream;

typedef struct crowd {
    pr_load_target *target;
    stream *stream;  // [count]
    int32_t count, tokens;
    int32_t over, wrong;
    int64_t events;      // that brought text, reason or usage
    float *first, *gap;  // ms; [count], [count * tokens]
    size_t firsts, gaps;
    int64_t peak_bytes;
} crowd;

static void blame(stream *of, const char *what, const char *data)
{
    crowd *all = of->crowd;
    if (!of->wrong && all->wrong++ < TOLD_FAULTS)
        pr_log(PR_LOG_ERROR, "%s: %s: %.300s", of->expected->name, what, data);
    of->wrong = true;
}

static void note_time(stream *of)
{
    crowd *all = of->crowd;
    int64_t now_ns = pr_clock_now_ns();
    if (of->last_ns == 0)
        all->first[all->firsts++] = (float)((double)(now_ns - of->asked_ns) / 1e6);
    else if (all->gaps < (size_t)all->count * (size_t)all->tokens)
        all->gap[all->gaps++] = (float)((double)(now_ns - of->last_ns) / 1e6);
    of->last_ns = now_ns;
}

static void take_text(stream *of, const json_t *text, const char *data)
{
    const pr_load_case *expected = of->expected;
    size_t bytes = json_string_length(text);
    if (bytes > expected->text_bytes - of->text_bytes ||
        memcmp(expected->text + of->text_bytes, json_string_value(text), bytes) != 0)
        blame(of, "other text than alone", data);
    else
        of->text_bytes += bytes;
}

static void take_choice(stream *of, const json_t *choice, const char *data)
{
    const json_t *text = of->expected->chat
                             ? json_object_get(json_object_get(choice, "delta"), "content")
                             : json_object_get(choice, "text");
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    if (of->finished)
        blame(of, "more after its end", data);
    if (json_is_string(text))
        take_text(of, text, data);
    if (finish && strcmp(finish, of->expected->finish) != 0)
        blame(of, "ends otherwise than alone", data);
    of->finished |= finish != NULL;
    note_time(of);
}

static pr_status on_event(void *context, const char *data, size_t size_bytes)
{
    stream *of = context;
    if (strcmp(data, "[DONE]") == 0) {
        of->told_done = true;
        return PR_OK;
    }
    json_t *event = json_loadb(data, size_bytes, JSON_ALLOW_NUL, NULL);
    const char *id = json_string_value(json_object_get(event, "id"));
    const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
    const json_t *usage = json_object_get(event, "usage");
    of->crowd->events++;
    if (!id || !strstr(id, of->expected->name) || (!choice && !json_is_object(usage)))
        blame(of, "not an event of this stream", data);
    else if (choice)
        take_choice(of, choice, data);
    if (json_is_object(usage))
        of->tokens = (int32_t)json_integer_value(json_object_get(usage, "completion_tokens"));
    json_decref(event);
    return PR_OK;
}

static void on_body(void *context, const char *bytes, size_t size_bytes)
{
    stream *of = context;
    if (pr_sse_reader_feed(&of->reader, bytes, size_bytes, on_event, of) != PR_OK)
        blame(of, "not a stream of events", "");
}

static void end(stream *of)
{
    if (of->over)
        return;
    of->over = true;
    of->crowd->over++;
    if (!of->finished || !of->told_done)
        blame(of, "ended without its end", "");
    if (of->text_bytes != of->expected->text_bytes || of->tokens != of->expected->tokens)
        blame(of, "less text or tokens than alone", of->expected->text);
}

static void on_replied(void *context, pr_load_wire *wire)
{
    stream *of = context;
    if (wire->reply.status != 200)
        blame(of, "refused", "");
    end(of);
}

static void on_closed(void *context, pr_load_wire *wire, bool clean)
{
    stream *of = context;
    (void)wire;
    of->wire = NULL;
    if (!clean)
        blame(of, "the server closed it", "");
    end(of);
}

static const pr_load_user user = {.body = on_body, .replied = on_replied, .closed = on_closed};

static pr_status begin(crowd *all, const pr_load_case *cases)
{
    for (int32_t i = 0; i < all->count; i++) {
        all->stream[i] = (stream){.crowd = all, .expected = &cases[i]};
        PR_TRY(
            pr_load_wire_open(&all->target->loop, &user, &all->stream[i], 0, &all->stream[i].wire));
    }
    for (int32_t i = 0; i < all->count; i++) {
        char body[PR_LOAD_BODY_BYTES];
        pr_byte_buffer request = {0};
        pr_load_case_body(i, all->tokens, true, body);
        pr_load_target_write(all->target, pr_load_case_path(i), cases[i].name, body, &request);
        all->stream[i].asked_ns = pr_clock_now_ns();
        pr_load_wire_send(all->stream[i].wire, request.data, request.size_bytes);
        pr_byte_buffer_free(&request);
    }
    return PR_OK;
}

static void note_memory(crowd *all)
{
    int64_t bytes = pr_load_target_rss_bytes(all->target);
    if (bytes > all->peak_bytes)
        all->peak_bytes = bytes;
}

static pr_status await_all(crowd *all)
{
    int64_t looked_ns = 0, heard_ns = pr_clock_now_ns(), heard = 0;
    while (all->over < all->count) {
        pr_load_loop_turn(&all->target->loop, LOOK_MS);
        int64_t now_ns = pr_clock_now_ns();
        if (now_ns - looked_ns > LOOK_MS * INT64_C(1000000)) {
            note_memory(all);
            looked_ns = now_ns;
        }
        if (all->events + all->over > heard)
            heard_ns = now_ns;
        heard = all->events + all->over;
        if (now_ns - heard_ns > SILENCE_MS * INT64_C(1000000))
            return pr_fail(
                PR_ERR_TIMEOUT, "no event for %d s, %d of %d streams have ended", SILENCE_MS / 1000,
                all->over, all->count);
    }
    return PR_OK;
}

static void print_rows(crowd *all, int64_t took_ns, pr_load_cpu begin, int64_t before_bytes)
{
    pr_load_target *target = all->target;
    pr_load_target_row(target, "streams", all->count);
    pr_load_target_row(target, "wrong_streams", all->wrong);
    pr_load_target_row(target, "events", (double)all->events);
    pr_load_target_row(target, "seconds", (double)took_ns / 1e9);
    pr_load_target_row(target, "events_per_s", (double)all->events / ((double)took_ns / 1e9));
    pr_load_target_quantiles(target, "ttft_ms", all->first, all->firsts);
    pr_load_target_quantiles(target, "itl_ms", all->gap, all->gaps);
    pr_load_cpu end = pr_load_target_cpu(target);
    if (target->thread_folder[0] && all->events > 0) {
        double thousands = 1e3 * (double)all->events;
        pr_load_target_row(
            target, "http_thread_us_per_event", (double)(end.all_ns - begin.all_ns) / thousands);
        pr_load_target_row(
            target, "http_thread_user_us_per_event",
            (double)(end.user_ns - begin.user_ns) / thousands);
    }
    pr_load_target_row(target, "rss_before_bytes", (double)before_bytes);
    pr_load_target_row(target, "rss_peak_bytes", (double)all->peak_bytes);
    pr_load_target_row(target, "rss_after_bytes", (double)pr_load_target_rss_bytes(target));
}

static void let_go(crowd *all)
{
    for (int32_t i = 0; i < all->count; i++) {
        if (all->stream[i].wire)
            pr_load_wire_close(all->stream[i].wire, false);
        pr_sse_reader_clear(&all->stream[i].reader);
    }
    free(all->stream);
    free(all->first);
    free(all->gap);
}

static pr_status
run_round(pr_load_target *target, const pr_load_options *options, const pr_load_case *cases)
{
    size_t count = (size_t)options->count;
    crowd all = {.target = target, .count = options->count, .tokens = options->tokens};
    all.stream = calloc(count, sizeof *all.stream);
    all.first = malloc(count * sizeof *all.first);
    all.gap = malloc(count * (size_t)options->tokens * sizeof *all.gap);
    if (!all.stream || !all.first || !all.gap) {
        all.count = 0;
        let_go(&all);
        return pr_fail(PR_ERR_RESOURCE, "no memory for %d streams", options->count);
    }
    int64_t before_bytes = pr_load_target_rss_bytes(target);
    int64_t begin_ns = pr_clock_now_ns();
    pr_load_cpu cpu = pr_load_target_cpu(target);
    pr_status status = begin(&all, cases);
    if (status == PR_OK)
        status = await_all(&all);
    int64_t took_ns = pr_clock_now_ns() - begin_ns;
    if (status == PR_OK) {
        print_rows(&all, took_ns, cpu, before_bytes);
        if (all.wrong > 0)
            status = pr_fail(
                PR_ERR_REQUEST, "%d of %d streams differ from the reply alone", all.wrong,
                all.count);
    }
    let_go(&all);
    return status;
}

pr_status pr_load_streams(pr_load_target *target, const pr_load_options *options)
{
    pr_load_case *cases = NULL;
    PR_TRY(
        pr_load_case_gather(target, options->count, options->tokens, options->reference, &cases));
    pr_status status = PR_OK;
    for (int32_t round = 0; status == PR_OK && round < options->rounds; round++) {
        status = run_round(target, options, cases);
        if (status == PR_OK)
            status = pr_load_target_await_rest(target, 10000);
    }
    pr_load_case_free(cases, options->count);
    return status;
}
