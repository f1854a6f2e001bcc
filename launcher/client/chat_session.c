// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/client/chat_session.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/client/chat_reply.h"
#include "launcher/client/client_endpoint.h"
#include "launcher/client/http_client.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { MODELS_TIMEOUT_MS = 15000 };

struct pr_chat_session {
    pr_chat_session_params params;
    pr_client_endpoint endpoint;
    pr_http_client *client;  // NULL until connected
    char *model;             // NULL until known
    json_t *messages;
    char *system;
    bool draining_told;
    int64_t begin_ns, first_ns;  // of the turn; first 0 = nothing has come
};

static pr_status no_memory(void)
{
    return pr_fail(PR_ERR_RESOURCE, "no memory for the conversation");
}

static pr_status
add_message(json_t *messages, const char *role, const char *text, size_t size_bytes)
{
    json_t *content = json_stringn(text, size_bytes);
    if (!content)
        return pr_fail(PR_ERR_ARGUMENT, "the %s message is not UTF-8 text", role);
    json_t *message = json_object();
    bool good = message && json_object_set_new(message, "role", json_string(role)) == 0;
    good = json_object_set_new(message, "content", content) == 0 && good;
    good = json_array_append_new(messages, message) == 0 && good;
    return good ? PR_OK : no_memory();
}

pr_status pr_chat_session_reset(pr_chat_session *session)
{
    json_t *messages = json_array();
    pr_status status = messages ? PR_OK : no_memory();
    if (status == PR_OK && session->system && session->system[0])
        status = add_message(messages, "system", session->system, strlen(session->system));
    if (status != PR_OK) {
        json_decref(messages);
        return status;
    }
    json_decref(session->messages);
    session->messages = messages;
    return PR_OK;
}

pr_status pr_chat_session_set_system(pr_chat_session *session, const char *text)
{
    char *copy = strdup(text), *before = session->system;
    if (!copy)
        return no_memory();
    session->system = copy;
    pr_status status = pr_chat_session_reset(session);
    if (status != PR_OK) {
        session->system = before;
        free(copy);
        return status;
    }
    free(before);
    return PR_OK;
}

pr_status pr_chat_session_create(const pr_chat_session_params *params, pr_chat_session **session)
{
    pr_chat_session *made = calloc(1, sizeof *made);
    if (!made)
        return no_memory();
    made->params = *params;
    const char *system = params->options->system;
    pr_status status = pr_chat_session_set_system(made, system ? system : "");
    if (status != PR_OK) {
        pr_chat_session_destroy(made);
        return status;
    }
    *session = made;
    return PR_OK;
}

void pr_chat_session_destroy(pr_chat_session *session)
{
    if (!session)
        return;
    pr_http_client_destroy(session->client);
    pr_client_endpoint_clear(&session->endpoint);
    json_decref(session->messages);
    free(session->system);
    free(session->model);
    free(session);
}

// ---- where the next message goes ----

static pr_status open_client(pr_chat_session *session)
{
    const pr_client_endpoint *endpoint = &session->endpoint;
    pr_http_client_params params = {
        .url = endpoint->url,
        .unix_socket = endpoint->unix_socket,
        .key = endpoint->key,
        .ca_file = session->params.options->ssl_ca,
        .insecure = session->params.options->insecure,
        .direct = endpoint->from_file,
        .context = session->params.context,
        .stopped = session->params.stopped,
    };
    return pr_http_client_create(&params, &session->client);
}

static void tell_of_move(pr_chat_session *session)
{
    char text[512];
    snprintf(text, sizeof text, "another server has taken over: %s", session->endpoint.url);
    session->params.notice(session->params.context, text);
}

// Reads the endpoint again. *moved: it is not the one before (or the first).
static pr_status refresh(pr_chat_session *session, bool *moved)
{
    pr_client_endpoint endpoint;
    PR_TRY(pr_client_endpoint_read(session->params.options, &endpoint));
    bool first = session->client == NULL;
    *moved = first || !pr_client_endpoint_same(&endpoint, &session->endpoint);
    if (endpoint.draining && !session->draining_told)
        session->params.notice(
            session->params.context,
            "the server is draining: it ends what it has begun and takes nothing new; the one that "
            "takes over will be found through the endpoint file");
    session->draining_told = endpoint.draining;
    if (!*moved) {
        pr_client_endpoint_clear(&endpoint);
        return PR_OK;
    }
    pr_http_client_destroy(session->client);
    session->client = NULL;
    pr_client_endpoint_clear(&session->endpoint);
    session->endpoint = endpoint;
    free(session->model);
    session->model = NULL;
    if (!first)
        tell_of_move(session);
    return open_client(session);
}

static pr_status keep_model(pr_chat_session *session, const char *name)
{
    session->model = strdup(name);
    return session->model ? PR_OK : no_memory();
}

// Leaves the model NULL when it was stopped.
static pr_status find_model(pr_chat_session *session)
{
    const pr_options *options = session->params.options;
    if (session->model)
        return PR_OK;
    if (options->model && pr_options_given_as_flag(options, "model"))
        return keep_model(session, options->model);
    json_t *reply;
    PR_TRY(pr_http_client_get(session->client, "/models", MODELS_TIMEOUT_MS, &reply));
    if (!reply)
        return PR_OK;
    const json_t *first = json_array_get(json_object_get(reply, "data"), 0);
    const char *name = json_string_value(json_object_get(first, "id"));
    pr_status status = name ? keep_model(session, name)
                            : pr_fail(
                                  PR_ERR_FORMAT, "%s/models lists no model: name one with --model",
                                  session->endpoint.url);
    json_decref(reply);
    return status;
}

// Nobody answered, or somebody who takes nothing new: another server may be named in the file by now.
static bool may_have_moved(const pr_chat_session *session, pr_status status)
{
    bool refused = status == PR_ERR_REQUEST && pr_http_client_code(session->client) == 503;
    return session->client && session->endpoint.from_file && session->first_ns == 0 &&
           (status == PR_ERR_PEER || status == PR_ERR_TIMEOUT || refused);
}

pr_status pr_chat_session_connect(pr_chat_session *session, const char **model)
{
    bool moved;
    PR_TRY(refresh(session, &moved));
    PR_TRY(find_model(session));
    *model = session->model ? session->model : "";
    return PR_OK;
}

// ---- a turn ----

static json_t *make_body(const pr_chat_session *session)
{
    const pr_options *options = session->params.options;
    json_t *body = json_object();
    json_object_set_new(body, "model", json_string(session->model));
    json_object_set(body, "messages", session->messages);
    json_object_set_new(body, "stream", json_true());
    if (options->stats)
        json_object_set_new(body, "stream_options", json_pack("{s:b}", "include_usage", 1));
    if (options->max_tokens > 0)
        json_object_set_new(body, "max_tokens", json_integer(options->max_tokens));
    if (pr_options_given(options, "temperature"))
        json_object_set_new(body, "temperature", json_real(options->temperature));
    if (pr_options_given(options, "seed"))
        json_object_set_new(body, "seed", json_integer(options->seed));
    return body;
}

static void show(void *context, bool reasoning, const char *text, size_t size_bytes)
{
    pr_chat_session *session = context;
    if (session->first_ns == 0)
        session->first_ns = pr_clock_now_ns();
    session->params.show(session->params.context, reasoning, text, size_bytes);
}

static pr_status ask(pr_chat_session *session, pr_chat_reply *reply)
{
    json_t *body = make_body(session);
    pr_status status = pr_http_client_stream(
        session->client, "/chat/completions", body, pr_chat_reply_event, reply);
    json_decref(body);
    bool stopped = session->params.stopped(session->params.context);
    if (status == PR_OK && !stopped && !reply->done && !reply->finish[0])
        return pr_fail(
            PR_ERR_PEER, "the connection to %s ended in the middle of the answer",
            session->endpoint.url);
    return status;
}

static pr_status try_turn(pr_chat_session *session, pr_chat_reply *reply)
{
    session->begin_ns = pr_clock_now_ns();
    session->first_ns = 0;
    PR_TRY(find_model(session));
    return session->model ? ask(session, reply) : PR_OK;
}

static void fill_turn(
    const pr_chat_session *session, const pr_chat_reply *reply, bool stopped, pr_chat_turn *turn)
{
    int64_t begin_ns = session->begin_ns, first_ns = session->first_ns;
    *turn = (pr_chat_turn){
        .prompt_tokens = reply->prompt_tokens,
        .output_tokens = reply->output_tokens,
        .pieces = reply->pieces,
        .first_s = first_ns ? (double)(first_ns - begin_ns) * 1e-9 : (double)NAN,
        .total_s = (double)(pr_clock_now_ns() - begin_ns) * 1e-9,
        .stopped = stopped,
    };
    memcpy(turn->finish, reply->finish, sizeof turn->finish);
}

static pr_status run_turn(pr_chat_session *session, pr_chat_reply *reply)
{
    bool moved;
    PR_TRY(refresh(session, &moved));
    pr_status status = try_turn(session, reply);
    if (may_have_moved(session, status)) {
        PR_TRY(refresh(session, &moved));
        if (moved)
            status = try_turn(session, reply);
    }
    return status;
}

pr_status pr_chat_session_say(
    pr_chat_session *session, const char *text, size_t size_bytes, pr_chat_turn *turn)
{
    size_t before = json_array_size(session->messages);
    pr_chat_reply reply = {
        .context = session,
        .show = show,
        .prompt_tokens = -1,
        .output_tokens = -1,
    };
    PR_TRY(add_message(session->messages, "user", text, size_bytes));
    pr_status status = run_turn(session, &reply);
    bool stopped = session->params.stopped(session->params.context);
    bool said = reply.content.size_bytes > 0;
    if (status == PR_OK && (said || !stopped))
        status = add_message(
            session->messages, "assistant", said ? reply.content.data : "",
            reply.content.size_bytes);
    bool kept = status == PR_OK && json_array_size(session->messages) == before + 2;
    while (!kept && json_array_size(session->messages) > before)
        json_array_remove(session->messages, before);
    if (status == PR_OK)
        fill_turn(session, &reply, stopped, turn);
    pr_chat_reply_clear(&reply);
    return status;
}
