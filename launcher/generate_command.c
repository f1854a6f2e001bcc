// SPDX-License-Identifier: BSD-3-Clause
// `polyreme generate`: one prompt, text to standard output as it comes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/commands.h"
#include "launcher/engine/engine.h"
#include "launcher/openai/answer.h"
#include "launcher/openai/json_text.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { REQUEST_ID = 1 };

typedef struct generate_run {
    const pr_engine *engine;
    pr_completion_request *request;
    pr_answer answer;
    size_t printed;  // bytes of the answer on standard output
    bool submitted;
    int64_t begin_ns, first_ns;
} generate_run;

static void set_if_given(const pr_options *options, json_t *body, const char *flag, json_t *value)
{
    char name[64];
    snprintf(name, sizeof name, "%s", flag);
    for (char *c = name; *c; c++)
        *c = *c == '-' ? '_' : *c;
    if (pr_options_given(options, flag))
        json_object_set(body, name, value);
    json_decref(value);
}

// The flags as the body of a request, so that both are checked by the same rules.
static json_t *body_from_flags(const pr_options *options)
{
    json_t *body = json_object(), *stops = json_array();
    for (int32_t i = 0; i < options->stop.count; i++)
        json_array_append_new(stops, json_string(options->stop.text[i]));
    json_object_set_new(body, "prompt", json_string(options->prompt));
    json_object_set_new(body, "max_tokens", json_integer(options->max_tokens));
    json_object_set_new(body, "seed", json_integer(options->seed));
    json_object_set_new(body, "stop", stops);
    json_object_set_new(body, "ignore_eos", json_boolean(options->ignore_eos));
    if (options->logprobs >= 0)
        json_object_set_new(body, "logprobs", json_integer(options->logprobs));
    set_if_given(options, body, "temperature", json_real(options->temperature));
    set_if_given(options, body, "top-p", json_real(options->top_p));
    set_if_given(options, body, "min-p", json_real(options->min_p));
    set_if_given(options, body, "top-k", json_integer(options->top_k));
    set_if_given(options, body, "repetition-penalty", json_real(options->repetition_penalty));
    set_if_given(options, body, "presence-penalty", json_real(options->presence_penalty));
    set_if_given(options, body, "frequency-penalty", json_real(options->frequency_penalty));
    return body;
}

static pr_status parse_flags(generate_run *run)
{
    const pr_engine *engine = run->engine;
    pr_refusal refusal;
    if (!engine->options->prompt)
        return pr_fail(PR_ERR_ARGUMENT, "the prompt is missing: give one with -p TEXT");
    pr_completion_context context = {
        .model = engine->model,
        .tokenizer = engine->tokenizer,
        .served_name = engine->model_name,
        .max_model_len = engine->max_model_len,
    };
    json_t *body = body_from_flags(engine->options);
    bool readable =
        json_object_get(body, "prompt") &&
        json_array_size(json_object_get(body, "stop")) == (size_t)engine->options->stop.count;
    pr_status status = readable
                           ? pr_completion_request_parse(&context, body, &run->request, &refusal)
                           : pr_refuse(&refusal, "prompt", "the prompt or a --stop is not UTF-8");
    json_decref(body);
    if (status != PR_OK)
        return pr_fail(PR_ERR_ARGUMENT, "%s", refusal.message);
    return pr_answer_begin(run->request, engine->tokenizer, &run->answer);
}

static pr_status feed(void *context, pr_controller *controller, bool *more)
{
    generate_run *run = context;
    *more = false;
    if (run->submitted)
        return PR_OK;
    run->submitted = true;
    const pr_completion_request *from = run->request;
    pr_request plain = {
        .id = REQUEST_ID,
        .prompt_tokens = from->prompt[0].tokens,
        .prompt = from->prompt[0].token,
        .sampling = from->sampling,
        .sibling_of = REQUEST_ID,
    };
    pr_request *request;
    PR_TRY(pr_request_copy(&plain, &request));
    pr_status status = pr_controller_submit(controller, request);
    if (status != PR_OK)
        pr_request_destroy(request);
    return status;
}

static void print_text(generate_run *run, size_t end)
{
    fwrite(run->answer.text + run->printed, 1, end - run->printed, stdout);
    fflush(stdout);
    run->printed = end;
}

static pr_status token(void *context, pr_controller *controller, const pr_token_report *report)
{
    generate_run *run = context;
    bool cancel = false;
    if (run->first_ns == 0)
        run->first_ns = pr_clock_now_ns();
    PR_TRY(pr_answer_add(&run->answer, run->engine->model, report, &cancel));
    if (cancel)
        PR_TRY(pr_controller_cancel(controller, report->id));
    print_text(run, pr_answer_settled(&run->answer));
    return PR_OK;
}

static pr_status rejected(void *context, pr_controller *controller, const pr_decision *decision)
{
    (void)context;
    (void)controller;
    return pr_fail(PR_ERR_REQUEST, "%s", decision->reason);
}

static void progress(void *context, const pr_scheduler_counts *counts)
{
    (void)context;
    (void)counts;
}

static void salvage(void *context)
{
    generate_run *run = context;
    print_text(run, run->answer.text_bytes);
    putchar('\n');
    fflush(stdout);
}

static void print_logprobs(const generate_run *run)
{
    json_t *choice = pr_answer_choice(&run->answer, run->engine->tokenizer, 0, NULL, 0);
    char *text = json_dumps(json_object_get(choice, "logprobs"), PR_JSON_DUMP_FLAGS);
    printf("%s\n", text ? text : "");
    free(text);
    json_decref(choice);
}

static void sum_up(generate_run *run)
{
    int32_t tokens = run->answer.tokens, prompt = run->request->prompt[0].tokens;
    print_text(run, run->answer.text_bytes);
    putchar('\n');
    if (run->request->sampling.top_logprobs >= 0)
        print_logprobs(run);
    if (tokens == 0)  // interrupted
        return;
    double prefill = (double)(run->first_ns - run->begin_ns) * 1e-9;
    double decode = (double)(pr_clock_now_ns() - run->first_ns) * 1e-9;
    pr_log(
        PR_LOG_INFO, "%d prompt tokens, first token after %.3f s; %d tokens, %.1f tokens/s", prompt,
        prefill, tokens, tokens > 1 && decode > 0 ? (double)(tokens - 1) / decode : 0.0);
}

static pr_status run_rank_zero(pr_engine *engine, generate_run *run, pr_controller **controller)
{
    pr_face face = {
        .context = run,
        .feed = feed,
        .token = token,
        .rejected = rejected,
        .progress = progress,
        .salvage = salvage,
    };
    PR_TRY(parse_flags(run));
    run->begin_ns = pr_clock_now_ns();
    PR_TRY(pr_engine_run(engine, &face, controller));
    sum_up(run);
    return PR_OK;
}

static pr_status prepare_nothing(void *context)
{
    (void)context;
    return PR_OK;
}

int pr_generate_command(const pr_options *options)
{
    pr_engine_prepare preparation = {.call = prepare_nothing};
    pr_engine *engine;
    pr_controller *controller = NULL;
    pr_status status = pr_engine_open(options, &preparation, &engine);
    if (status != PR_OK)
        return pr_engine_exit_code(status);
    generate_run run = {.engine = engine};
    if (engine->rank == 0)
        status = run_rank_zero(engine, &run, &controller);
    else
        status = pr_engine_run(engine, NULL, &controller);
    pr_answer_end(&run.answer);
    pr_completion_request_destroy(run.request);
    pr_engine_close(engine, controller, status);
    int signal_number = pr_world_is_first() ? pr_engine_signal() : 0;
    return signal_number ? 128 + signal_number : pr_exit_code(status);
}
