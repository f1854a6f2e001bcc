// SPDX-License-Identifier: BSD-3-Clause
#include "benchmarks/serve/load_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"

// Of the reference pass: a batch of few, so that it does not take all day.
enum { TOGETHER = 16, SILENCE_MS = 60000 };

static const char *const openings[] = {
    "And he went",        "In the beginning",    "The sword of",
    "Then said the king", "And it came to pass", "He that hath",
    "Behold, I",          "The house of",        "Woe unto",
    "Blessed are they",   "And the men",         "Hear the word",
    "The LORD said",
};
enum { OPENINGS = sizeof openings / sizeof *openings };

static void name_case(int32_t i, int32_t tokens, char name[40])
{
    snprintf(name, 40, "load-%d-%d", tokens, i);
}

void pr_load_case_body(int32_t i, int32_t tokens, bool stream, char body[PR_LOAD_BODY_BYTES])
{
    char prompt[128];
    snprintf(prompt, sizeof prompt, "%s, %d times", openings[i % OPENINGS], i);
    int bytes = pr_load_case_is_chat(i)
                    ? snprintf(
                          body, PR_LOAD_BODY_BYTES,
                          "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]", prompt)
                    : snprintf(body, PR_LOAD_BODY_BYTES, "{\"prompt\":\"%s\"", prompt);
    snprintf(
        body + bytes, (size_t)(PR_LOAD_BODY_BYTES - bytes),
        ",\"max_tokens\":%d,\"ignore_eos\":true%s%s}", tokens,
        i % 8 == 7 ? ",\"stop\":[\"; and\",\" thy\"]" : "",
        stream ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" : "");
}

static pr_status keep(pr_load_case *made, const char *text, size_t bytes, const char *finish)
{
    made->text = malloc(bytes + 1);
    if (!made->text)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a reply");
    memcpy(made->text, text, bytes);
    made->text[bytes] = '\0';
    made->text_bytes = bytes;
    snprintf(made->finish, sizeof made->finish, "%s", finish);
    return PR_OK;
}

static pr_status read_reply(const pr_load_answer *answer, pr_load_case *made)
{
    json_t *reply = json_loadb(answer->text.data, answer->text.size_bytes, JSON_ALLOW_NUL, NULL);
    json_t *choice = json_array_get(json_object_get(reply, "choices"), 0);
    json_t *text = made->chat ? json_object_get(json_object_get(choice, "message"), "content")
                              : json_object_get(choice, "text");
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    pr_status status;
    made->tokens = (int32_t)json_integer_value(
        json_object_get(json_object_get(reply, "usage"), "completion_tokens"));
    if (answer->status != 200 || !finish || made->tokens < 1)
        status = pr_fail(
            PR_ERR_REQUEST, "%s: answered %d: %.300s", made->name, answer->status,
            answer->text.size_bytes > 0 ? (const char *)answer->text.data : "");
    else  // content is null where a chat says nothing
        status = keep(
            made, json_string_value(text) ? json_string_value(text) : "", json_string_length(text),
            finish);
    json_decref(reply);
    return status;
}

// ---- The reference pass ----

typedef struct seat {
    struct pass *pass;
    int32_t i;  // which case it asks for
    pr_load_wire *wire;
    pr_load_answer answer;
} seat;

typedef struct pass {
    pr_load_target *target;
    pr_load_case *cases;
    int32_t count, tokens, next, done;
    pr_status status;
    seat seat[TOGETHER];
} pass;

static void ask_next(seat *at)
{
    pass *all = at->pass;
    char body[PR_LOAD_BODY_BYTES];
    pr_byte_buffer request = {0};
    if (all->next == all->count)
        return;
    at->i = all->next++;
    pr_load_case *made = &all->cases[at->i];
    name_case(at->i, all->tokens, made->name);
    made->chat = pr_load_case_is_chat(at->i);
    pr_byte_buffer_clear(&at->answer.text);
    pr_load_case_body(at->i, all->tokens, false, body);
    pr_load_target_write(all->target, pr_load_case_path(at->i), made->name, body, &request);
    pr_load_wire_send(at->wire, request.data, request.size_bytes);
    pr_byte_buffer_free(&request);
}

static void on_body(void *context, const char *bytes, size_t size_bytes)
{
    seat *at = context;
    pr_byte_buffer_append(&at->answer.text, bytes, size_bytes);
}

static void on_replied(void *context, pr_load_wire *wire)
{
    seat *at = context;
    pass *all = at->pass;
    at->answer.status = wire->reply.status;
    if (all->status == PR_OK)
        all->status = read_reply(&at->answer, &all->cases[at->i]);
    all->done++;
    ask_next(at);
}

static void on_closed(void *context, pr_load_wire *wire, bool clean)
{
    seat *at = context;
    (void)wire, (void)clean;
    at->wire = NULL;
    if (at->pass->status == PR_OK)
        at->pass->status = pr_fail(PR_ERR_PEER, "the server closed a connection in use");
}

static const pr_load_user user = {.body = on_body, .replied = on_replied, .closed = on_closed};

static pr_status ask_all(pass *all)
{
    int64_t heard_ns = pr_clock_now_ns();
    int32_t heard = 0;
    for (int32_t i = 0; i < TOGETHER; i++) {
        all->seat[i].pass = all;
        PR_TRY(pr_load_wire_open(&all->target->loop, &user, &all->seat[i], 0, &all->seat[i].wire));
        ask_next(&all->seat[i]);
    }
    while (all->status == PR_OK && all->done < all->count) {
        pr_load_loop_turn(&all->target->loop, 100);
        if (all->done > heard)
            heard_ns = pr_clock_now_ns();
        heard = all->done;
        if (pr_clock_now_ns() - heard_ns > SILENCE_MS * INT64_C(1000000))
            return pr_fail(PR_ERR_TIMEOUT, "no reply came for %d s", SILENCE_MS / 1000);
    }
    return all->status;
}

static pr_status
ask_together(pr_load_target *target, int32_t count, int32_t tokens, pr_load_case *cases)
{
    pass all = {.target = target, .cases = cases, .count = count, .tokens = tokens};
    pr_status status = ask_all(&all);
    for (int32_t i = 0; i < TOGETHER; i++) {
        if (all.seat[i].wire)
            pr_load_wire_close(all.seat[i].wire, false);
        pr_byte_buffer_free(&all.seat[i].answer.text);
    }
    return status;
}

// ---- The file: an array of replies ----

static pr_status read_file(const char *path, int32_t count, int32_t tokens, pr_load_case *cases)
{
    json_t *list = json_load_file(path, JSON_ALLOW_NUL, NULL);
    pr_status status = PR_OK;
    if ((int32_t)json_array_size(list) < count)
        status = PR_ERR_NOT_FOUND;
    for (int32_t i = 0; status == PR_OK && i < count; i++) {
        json_t *entry = json_array_get(list, (size_t)i), *text = json_object_get(entry, "text");
        const char *finish = json_string_value(json_object_get(entry, "finish"));
        pr_load_case *made = &cases[i];
        name_case(i, tokens, made->name);
        made->chat = pr_load_case_is_chat(i);
        made->tokens = (int32_t)json_integer_value(json_object_get(entry, "tokens"));
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (!name || strcmp(name, made->name) != 0 || !finish || !json_is_string(text))
            status = pr_fail(PR_ERR_FORMAT, "%s: other replies: remove it", path);
        else
            status = keep(made, json_string_value(text), json_string_length(text), finish);
    }
    json_decref(list);
    return status;
}

static pr_status write_file(const char *path, const pr_load_case *cases, int32_t count)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < count; i++)
        json_array_append_new(
            list, json_pack(
                      "{s:s, s:s%, s:i, s:s}", "name", cases[i].name, "text", cases[i].text,
                      cases[i].text_bytes, "tokens", cases[i].tokens, "finish", cases[i].finish));
    int code = json_dump_file(list, path, JSON_INDENT(1));
    json_decref(list);
    return code == 0 ? PR_OK : pr_fail(PR_ERR_IO, "cannot write %s", path);
}

pr_status pr_load_case_gather(
    pr_load_target *target, int32_t count, int32_t tokens, const char *path, pr_load_case **cases)
{
    pr_load_case *made = calloc((size_t)count + 1, sizeof *made);
    pr_status status = PR_ERR_NOT_FOUND;
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for %d replies", count);
    if (path)
        status = read_file(path, count, tokens, made);
    if (status == PR_ERR_NOT_FOUND) {
        status = ask_together(target, count, tokens, made);
        if (status == PR_OK && path)
            status = write_file(path, made, count);
    }
    if (status == PR_OK)
        *cases = made;
    else
        pr_load_case_free(made, count);
    return status;
}

void pr_load_case_free(pr_load_case *cases, int32_t count)
{
    for (int32_t i = 0; cases && i < count; i++)
        free(cases[i].text);
    free(cases);
}

pr_status
pr_load_case_check(pr_load_target *target, const pr_load_case *expected, int32_t i, int32_t tokens)
{
    char body[PR_LOAD_BODY_BYTES];
    pr_load_answer answer = {0};
    pr_load_case again = {.chat = expected->chat};
    snprintf(again.name, sizeof again.name, "%s", expected->name);
    pr_load_case_body(i, tokens, false, body);
    pr_status status =
        pr_load_target_ask(target, pr_load_case_path(i), again.name, body, SILENCE_MS, &answer);
    if (status == PR_OK)
        status = read_reply(&answer, &again);
    if (status == PR_OK &&
        (again.text_bytes != expected->text_bytes || again.tokens != expected->tokens ||
         memcmp(again.text, expected->text, again.text_bytes) != 0 ||
         strcmp(again.finish, expected->finish) != 0))
        status = pr_fail(
            PR_ERR_REQUEST, "%s: another reply than before: '%s', not '%s'", again.name, again.text,
            expected->text);
    free(again.text);
    pr_byte_buffer_free(&answer.text);
    return status;
}
