// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/serve/completion_api.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/request/chat_request.h"
#include "launcher/serve/serve_calls.h"
#include "runtime/base/hash.h"

// A request that names itself draws the same tokens whenever it comes; another one has a seed of its own.
static uint64_t default_seed(const pr_gateway *gateway, const pr_http_exchange *exchange)
{
    const char *id = pr_http_header(exchange, "x-request-id");
    if (id && id[0])
        return pr_completion_request_seed(id);
    return pr_hash_mix(gateway->secret ^ pr_hash_mix(gateway->made));
}

// Milliseconds of a header that llm-d's gateway sets; as the body's field of that name.
static pr_status take_target(
    const pr_http_exchange *exchange,
    const char *header,
    pr_target target,
    pr_completion_request *request,
    pr_refusal *refusal)
{
    char *end;
    const char *text = pr_http_header(exchange, header);
    if (!text)
        return PR_OK;
    long long milliseconds = strtoll(text, &end, 10);
    if (end == text || *end)
        return pr_refuse(refusal, header, "the header '%s' must be whole milliseconds", header);
    return pr_completion_request_set_target(request, target, header, milliseconds, refusal);
}

static pr_status take_headers(
    const pr_http_exchange *exchange,
    uint64_t salt,
    pr_completion_request *request,
    pr_refusal *refusal)
{
    const char *tenant = pr_http_header(exchange, "x-llm-d-inference-fairness-id");
    if (tenant)
        request->tenant = pr_completion_request_tenant(tenant, strlen(tenant));
    if (salt != 0)  // a user of another key is another user
        request->tenant = request->tenant ? pr_hash_mix(request->tenant ^ salt) : salt;
    PR_TRY(take_target(exchange, "x-slo-ttft-ms", PR_TARGET_TTFT, request, refusal));
    PR_TRY(take_target(exchange, "x-slo-tpot-ms", PR_TARGET_TPOT, request, refusal));
    PR_TRY(take_target(exchange, "x-llm-d-slo-ttft-ms", PR_TARGET_TTFT, request, refusal));
    return take_target(exchange, "x-llm-d-slo-tpot-ms", PR_TARGET_TPOT, request, refusal);
}

// Before memory is at risk: what is accepted is bounded, the rest may come again.
static bool has_room(pr_gateway *gateway, pr_http_exchange *exchange)
{
    if (pr_gateway_get_phase(gateway) == PR_GATEWAY_DRAINING) {
        pr_route_refuse(
            exchange, 503, "rejected-shutting-down", "the server is draining: ask another one");
        return false;
    }
    if (gateway->sequences < gateway->options->max_queue)
        return true;
    pr_route_refuse(
        exchange, 429, "rejected-saturated",
        "as many requests as --max-queue allows are under way: try again");
    return false;
}

// Prompts of open sequences together; each is kept a few times on its way, 4 bytes a token.
enum { MOST_PROMPT_TOKENS = 1 << 25 };

// The choices of one request count as so many.
static pr_status
check_room(const pr_gateway *gateway, const pr_completion_request *request, pr_refusal *refusal)
{
    int32_t most = gateway->options->max_queue, sequences = request->prompts * request->n;
    if (sequences > most)
        return pr_refuse(
            refusal, "n", "the request asks for %d choices, --max-queue allows %d at once",
            sequences, most);
    bool fits =
        gateway->prompt_tokens == 0 ||
        gateway->prompt_tokens + pr_completion_request_prompt_tokens(request) * request->n <=
            MOST_PROMPT_TOKENS;
    if (gateway->sequences + sequences <= most && fits)
        return PR_OK;
    pr_status status = pr_refuse(
        refusal, NULL, "%s: try again",
        fits ? "as many requests as --max-queue allows are under way"
             : "the prompts under way fill the memory for prompts");
    pr_refusal_set_status(refusal, 429);
    return status;
}

typedef pr_status reader(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request **request,
    pr_refusal *refusal);

static void
answer(pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller, reader *read)
{
    pr_refusal refusal;
    pr_completion_request *request = NULL;
    pr_completion_context context = gateway->context;
    if (!has_room(gateway, exchange))
        return;
    json_t *body = pr_route_body(exchange);
    if (!body)
        return;
    context.default_seed = default_seed(gateway, exchange);
    pr_status status = read(&context, body, &request, &refusal);
    json_decref(body);
    if (status == PR_OK)
        status = check_room(gateway, request, &refusal);
    if (status == PR_OK)
        status = take_headers(exchange, caller->salt, request, &refusal);
    if (status == PR_OK) {
        pr_serve_calls_begin(gateway, exchange, request, caller->salt);
        return;
    }
    pr_completion_request_destroy(request);
    pr_serve_calls_reply_error(exchange, &refusal);
}

void pr_completion_api_complete(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    answer(gateway, exchange, caller, pr_completion_request_parse);
}

void pr_completion_api_chat(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    answer(gateway, exchange, caller, pr_chat_request_parse);
}
