// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/batch_run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/answer.h"
#include "launcher/batch_line.h"
#include "launcher/progress.h"
#include "runtime/base/log.h"

// One line of the input that became sequences: prompts x n of them.
typedef struct batch_item {
    int64_t number, position;
    char *custom_id;
    pr_completion_request *request;
    int32_t answers, unfinished;
    pr_answer *answer;  // [answers]
    uint64_t first_id;  // of its sequences; consecutive
} batch_item;

struct pr_batch_run {
    const pr_options *options;
    const pr_engine *engine;
    pr_batch_input *input;
    pr_result_file *output;
    bool input_ended;
    json_t *seen;  // custom_ids so far
    // Sequence id -> item; ids are 1, 2, 3, ... NULL when answered.
    batch_item **owner;
    uint64_t next_id, owner_capacity;
    pr_batch_totals totals;
    int64_t taken;
    pr_progress progress;
    pr_status status;  // of a callback that cannot return one
};

static pr_status open_output(pr_batch_run *run)
{
    const pr_options *options = run->options;
    if (!options->output)
        return pr_fail(PR_ERR_ARGUMENT, "the output is missing: give a file with -o FILE");
    bool input_order = strcmp(options->order, "input") == 0;
    return pr_result_file_open(options->output, input_order, &run->output);
}

pr_status pr_batch_run_create(const pr_options *options, pr_batch_run **run)
{
    pr_status status;
    pr_batch_run *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the batch");
    made->options = options;
    made->next_id = 1;
    made->seen = json_object();
    PR_TRY_GOTO(
        pr_batch_input_open(options->input, (uint64_t)options->shuffle_seed, &made->input), failed);
    if (!options->validate_only)
        PR_TRY_GOTO(open_output(made), failed);
    *run = made;
    return PR_OK;
failed:
    pr_batch_run_destroy(made);
    return status;
}

static void destroy_item(batch_item *item)
{
    for (int32_t i = 0; item->answer && i < item->answers; i++)
        pr_answer_end(&item->answer[i]);
    free(item->answer);
    pr_completion_request_destroy(item->request);
    free(item->custom_id);
    free(item);
}

void pr_batch_run_destroy(pr_batch_run *run)
{
    if (!run)
        return;
    for (uint64_t id = 1; id < run->next_id; id++) {
        batch_item *item = run->owner[id];
        if (item && item->first_id == id)
            destroy_item(item);
    }
    free(run->owner);
    json_decref(run->seen);
    pr_batch_input_close(run->input);
    pr_status closed = pr_result_file_close(run->output);
    (void)closed;  // finish has reported it on the way that matters
    free(run);
}

void pr_batch_run_attach(pr_batch_run *run, const pr_engine *engine)
{
    run->engine = engine;
    pr_progress_begin(&run->progress);
}

// ---- Lines that are refused ----

static pr_status put_refusal(
    pr_batch_run *run,
    const pr_input_line *line,
    const char *custom_id,
    const pr_refusal *refusal,
    bool readable)
{
    run->totals.refused++;
    if (!run->output) {
        if (readable)
            pr_log(PR_LOG_ERROR, "line %lld: %s", (long long)line->number, refusal->message);
        else
            pr_log(PR_LOG_ERROR, "%s", refusal->message);  // names the line itself
        return PR_OK;
    }
    return pr_result_file_put(
        run->output, line->position,
        pr_batch_line_refusal(custom_id, line->number, refusal, readable));
}

// ---- Lines that become sequences ----

static pr_status own_ids(pr_batch_run *run, batch_item *item)
{
    uint64_t needed = run->next_id + (uint64_t)item->answers;
    if (needed > run->owner_capacity) {
        uint64_t capacity = needed * 2;
        batch_item **grown = realloc(run->owner, capacity * sizeof *grown);
        if (!grown)
            return pr_fail(
                PR_ERR_RESOURCE, "no memory for %llu sequences", (unsigned long long)capacity);
        run->owner = grown;
        run->owner_capacity = capacity;
    }
    item->first_id = run->next_id;
    for (int32_t i = 0; i < item->answers; i++)
        run->owner[run->next_id++] = item;
    return PR_OK;
}

static void disown_ids(pr_batch_run *run, const batch_item *item)
{
    for (int32_t i = 0; i < item->answers; i++)
        run->owner[item->first_id + (uint64_t)i] = NULL;
}

static pr_status submit_answer(pr_controller *controller, const batch_item *item, int32_t index)
{
    const pr_completion_request *from = item->request;
    const pr_prompt *prompt = &from->prompt[index / from->n];
    pr_request plain = {
        .id = item->first_id + (uint64_t)index,
        .prompt_tokens = prompt->tokens,
        .prompt = prompt->token,
        .sampling = from->sampling,
        .priority = from->priority,
        .sibling_of = item->first_id + (uint64_t)(index - index % from->n),
    };
    plain.sampling.choice = index % from->n;
    pr_request *request;
    PR_TRY(pr_request_copy(&plain, &request));
    pr_status status = pr_controller_submit(controller, request);
    if (status != PR_OK)
        pr_request_destroy(request);
    return status;
}

static pr_status submit_item(pr_controller *controller, const batch_item *item)
{
    for (int32_t i = 0; i < item->answers; i++) {
        pr_status status = submit_answer(controller, item, i);
        if (status == PR_OK)
            continue;
        for (int32_t j = 0; j < i; j++)
            PR_TRY(pr_controller_cancel(controller, item->first_id + (uint64_t)j));
        return status;
    }
    return PR_OK;
}

static pr_status begin_answers(pr_batch_run *run, batch_item *item)
{
    item->answers = item->request->prompts * item->request->n;
    item->unfinished = item->answers;
    item->answer = calloc((size_t)item->answers, sizeof *item->answer);
    if (!item->answer)
        return pr_fail(PR_ERR_RESOURCE, "no memory for %d answers", item->answers);
    for (int32_t i = 0; i < item->answers; i++)
        PR_TRY(pr_answer_begin(item->request, run->engine->tokenizer, &item->answer[i]));
    return PR_OK;
}

// A fault of the scheduler's submit is the request's (it can never fit); others end the run.
static pr_status start_item(
    pr_batch_run *run, pr_controller *controller, const pr_input_line *line, batch_item *item)
{
    PR_TRY(begin_answers(run, item));
    PR_TRY(own_ids(run, item));
    pr_error_capture_begin();
    pr_status status = submit_item(controller, item);
    pr_error_capture_end();
    if (status == PR_OK) {
        run->taken++;
        return PR_OK;
    }
    pr_refusal refusal;
    pr_status refused = pr_refuse(&refusal, NULL, "%s", pr_error_text());
    (void)refused;
    disown_ids(run, item);
    status = put_refusal(run, line, item->custom_id, &refusal, true);
    destroy_item(item);
    return status;
}

static pr_status
check_new_id(pr_batch_run *run, const pr_batch_line *line, int64_t number, pr_refusal *refusal)
{
    const json_t *earlier = json_object_get(run->seen, line->custom_id);
    if (!earlier) {
        json_object_set_new(run->seen, line->custom_id, json_integer(number));
        return PR_OK;
    }
    pr_status status = pr_refuse(
        refusal, "custom_id", "line %lld: custom_id '%.80s' was used on line %lld: make it unique",
        (long long)number, line->custom_id, (long long)json_integer_value(earlier));
    refusal->code = "duplicate_custom_id";
    return status;
}

static pr_status parse_body(
    pr_batch_run *run,
    const pr_batch_line *parsed,
    pr_completion_request **request,
    pr_refusal *refusal)
{
    const pr_engine *engine = run->engine;
    pr_completion_context context = {
        .model = engine->model,
        .tokenizer = engine->tokenizer,
        .served_name = engine->model_name,
        .max_model_len = engine->max_model_len,
        .default_seed = pr_batch_line_seed(parsed->custom_id),
    };
    return pr_completion_request_parse(&context, parsed->body, request, refusal);
}

static pr_status take_line(pr_batch_run *run, pr_controller *controller, const pr_input_line *line)
{
    pr_batch_line parsed;
    pr_refusal refusal;
    pr_completion_request *request = NULL;
    pr_status status =
        pr_batch_line_parse(line->text, line->size_bytes, line->number, &parsed, &refusal);
    bool readable = status == PR_OK;
    if (status == PR_OK) {
        status = check_new_id(run, &parsed, line->number, &refusal);
        readable = status == PR_OK;
    }
    if (status == PR_OK)
        status = parse_body(run, &parsed, &request, &refusal);
    if (status != PR_OK) {
        status = put_refusal(run, line, parsed.custom_id, &refusal, readable);
        pr_batch_line_clear(&parsed);
        return status;
    }
    if (!controller) {  // only checking
        pr_batch_line_clear(&parsed);
        pr_completion_request_destroy(request);
        run->totals.answered++;
        return PR_OK;
    }
    batch_item *item = calloc(1, sizeof *item);
    if (item)
        item->custom_id = strdup(parsed.custom_id);
    pr_batch_line_clear(&parsed);
    if (!item || !item->custom_id)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a request");
    item->number = line->number;
    item->position = line->position;
    item->request = request;
    return start_item(run, controller, line, item);
}

pr_status pr_batch_run_validate(pr_batch_run *run)
{
    for (;;) {
        pr_input_line line;
        pr_input_state state;
        PR_TRY(pr_batch_input_next(run->input, &line, &state));
        if (state == PR_INPUT_END)
            return PR_OK;
        if (state == PR_INPUT_LINE)
            PR_TRY(take_line(run, NULL, &line));
        else
            usleep(10000);  // a pipe without data
    }
}

static pr_status feed(void *context, pr_controller *controller, bool *more)
{
    pr_batch_run *run = context;
    PR_TRY(run->status);
    while (!run->input_ended && pr_controller_waiting(controller) < run->options->max_waiting) {
        pr_input_line line;
        pr_input_state state;
        PR_TRY(pr_batch_input_next(run->input, &line, &state));
        if (state == PR_INPUT_LATER)
            break;
        if (state == PR_INPUT_END)
            run->input_ended = true;
        else
            PR_TRY(take_line(run, controller, &line));
    }
    *more = !run->input_ended;
    return PR_OK;
}

// ---- Answers ----

static json_t *usage(const batch_item *item)
{
    int64_t prompt = 0, output = 0;
    for (int32_t i = 0; i < item->request->prompts; i++)
        prompt += item->request->prompt[i].tokens;
    for (int32_t i = 0; i < item->answers; i++)
        output += item->answer[i].tokens;
    return json_pack(
        "{s:I, s:I, s:I}", "prompt_tokens", (json_int_t)prompt, "completion_tokens",
        (json_int_t)output, "total_tokens", (json_int_t)(prompt + output));
}

static char *prompt_text(const pr_batch_run *run, const batch_item *item, int32_t index)
{
    const pr_prompt *prompt = &item->request->prompt[index / item->request->n];
    char *text = NULL;
    size_t size_bytes;
    if (!item->request->echo || pr_tokenizer_decode(
                                    run->engine->tokenizer, prompt->token, prompt->tokens, true,
                                    &text, &size_bytes) != PR_OK)
        return strdup("");
    return text;
}

static json_t *answer_body(const pr_batch_run *run, const batch_item *item)
{
    json_t *choices = json_array();
    for (int32_t i = 0; i < item->answers; i++) {
        char *prefix = prompt_text(run, item, i);
        json_array_append_new(
            choices,
            pr_answer_choice(&item->answer[i], run->engine->tokenizer, i, prefix ? prefix : ""));
        free(prefix);
    }
    return json_pack(
        "{s:s, s:s, s:i, s:s, s:o, s:o}", "id", "", "object", "text_completion", "created", 0,
        "model", run->engine->model_name, "choices", choices, "usage", usage(item));
}

static void count_tokens(pr_batch_run *run, const batch_item *item)
{
    for (int32_t i = 0; i < item->request->prompts; i++)
        run->totals.prompt_tokens += item->request->prompt[i].tokens;
    for (int32_t i = 0; i < item->answers; i++)
        run->totals.output_tokens += item->answer[i].tokens;
}

static pr_status finish_item(pr_batch_run *run, batch_item *item)
{
    char *line = pr_batch_line_answer(item->custom_id, item->number, answer_body(run, item));
    pr_status status = pr_result_file_put(run->output, item->position, line);
    run->totals.answered++;
    count_tokens(run, item);
    disown_ids(run, item);
    destroy_item(item);
    return status;
}

static void token(void *context, pr_controller *controller, const pr_token_report *report)
{
    pr_batch_run *run = context;
    batch_item *item = run->owner[report->id];
    if (!item || run->status != PR_OK)
        return;
    pr_answer *answer = &item->answer[report->id - item->first_id];
    bool was_done = answer->done, cancel = false;
    run->status = pr_answer_add(answer, run->engine->model, report, &cancel);
    if (run->status != PR_OK)
        return;
    if (cancel)
        run->status = pr_controller_cancel(controller, report->id);
    if (answer->done && !was_done && --item->unfinished == 0 && run->status == PR_OK)
        run->status = finish_item(run, item);
}

static void rejected(void *context, uint64_t id, const char *reason)
{
    pr_batch_run *run = context;
    batch_item *item = run->owner[id];
    pr_refusal refusal;
    if (!item || run->status != PR_OK)
        return;
    pr_input_line line = {.number = item->number, .position = item->position};
    pr_status refused = pr_refuse(&refusal, NULL, "%s", reason);
    (void)refused;
    run->status = put_refusal(run, &line, item->custom_id, &refusal, true);
    disown_ids(run, item);
    destroy_item(item);
}

static void progress(void *context, const pr_scheduler_counts *counts)
{
    pr_batch_run *run = context;
    pr_progress_state state = {
        .answered = run->totals.answered,
        .taken = run->taken,
        .input_ended = run->input_ended,
        .prompt_tokens = counts->prefill_tokens,
        .output_tokens = counts->output_tokens,
    };
    pr_progress_show(&run->progress, &state);
}

pr_face pr_batch_run_face(pr_batch_run *run)
{
    return (pr_face){
        .context = run,
        .feed = feed,
        .token = token,
        .rejected = rejected,
        .progress = progress,
    };
}

pr_status pr_batch_run_finish(pr_batch_run *run, pr_batch_totals *totals)
{
    if (run->output)
        pr_progress_end(&run->progress);
    *totals = run->totals;
    pr_status status = pr_result_file_close(run->output);
    run->output = NULL;
    return run->status != PR_OK ? run->status : status;
}
