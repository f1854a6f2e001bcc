// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/batch/batch_run.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/batch/batch_line.h"
#include "launcher/batch/id_set.h"
#include "launcher/batch/progress.h"
#include "launcher/openai/reply.h"
#include "launcher/request/chat_request.h"
#include "runtime/base/log.h"

// One line of the input that became sequences: prompts x n of them.
typedef struct batch_item {
    int64_t number, position;
    char *custom_id;
    pr_reply reply;
} batch_item;

struct pr_batch_run {
    const pr_options *options;
    const pr_engine *engine;
    pr_completion_context context;  // of every line
    pr_batch_input *input;
    pr_result_file *output;
    bool input_ended;
    pr_id_set seen;             // custom_ids so far
    pr_sequence_owners owners;  // batch_items, until they are answered
    pr_batch_totals totals;
    int64_t taken;
    pr_progress progress;
};

// Finished lines that wait for an earlier one; beyond it, no more of the input is taken.
enum { MAX_HELD_LINES = 65536 };

// The output is emptied when the run begins, which must not be the input.
static pr_status check_different_files(const pr_options *options)
{
    struct stat input, output;
    if (stat(options->input, &input) != 0 || stat(options->output, &output) != 0 ||
        !S_ISREG(output.st_mode) || input.st_dev != output.st_dev || input.st_ino != output.st_ino)
        return PR_OK;
    return pr_fail(
        PR_ERR_ARGUMENT, "input and output are the same file %s: choose another path with -o",
        options->output);
}

static pr_status open_output(pr_batch_run *run)
{
    const pr_options *options = run->options;
    if (!options->output)
        return pr_fail(PR_ERR_ARGUMENT, "the output is missing: give a file with -o FILE");
    PR_TRY(check_different_files(options));
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
    pr_sequence_owners_begin(&made->owners);
    PR_TRY_GOTO(pr_completion_context_open(options, &made->context), failed);
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
    if (!item)
        return;
    pr_reply_end(&item->reply);
    free(item->custom_id);
    free(item);
}

void pr_batch_run_destroy(pr_batch_run *run)
{
    if (!run)
        return;
    for (uint64_t id = run->owners.first_id; id < run->owners.next_id; id++) {
        batch_item *item = pr_sequence_owners_find(&run->owners, id);
        if (item && item->reply.first_id + (uint64_t)item->reply.answers == id + 1)  // its last
            destroy_item(item);
    }
    pr_sequence_owners_end(&run->owners);
    pr_completion_context_close(&run->context);
    pr_id_set_clear(&run->seen);
    pr_batch_input_close(run->input);
    pr_status closed = pr_result_file_close(run->output);
    (void)closed;  // finish has reported it on the way that matters
    free(run);
}

pr_status pr_batch_run_attach(pr_batch_run *run, const pr_engine *engine)
{
    run->engine = engine;
    pr_completion_context_attach(&run->context, engine);
    pr_progress_begin(&run->progress);
    return run->output ? pr_result_file_begin(run->output) : PR_OK;
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

static void disown_ids(pr_batch_run *run, const batch_item *item)
{
    pr_sequence_owners_remove(&run->owners, item->reply.first_id, item->reply.answers);
}

static pr_status cancel_answers(pr_controller *controller, const batch_item *item, int32_t answers)
{
    for (int32_t i = 0; i < answers; i++)
        PR_TRY(pr_controller_cancel(controller, item->reply.first_id + (uint64_t)i));
    return PR_OK;
}

static pr_status submit_answer(pr_controller *controller, const batch_item *item, int32_t index)
{
    pr_request *request;
    PR_TRY(pr_reply_sequence(&item->reply, index, 0, &request));
    pr_status status = pr_controller_submit(controller, request);
    if (status != PR_OK)
        pr_request_destroy(request);
    return status;
}

static pr_status submit_item(pr_controller *controller, const batch_item *item)
{
    for (int32_t i = 0; i < item->reply.answers; i++) {
        pr_status status = submit_answer(controller, item, i);
        if (status == PR_OK)
            continue;
        PR_TRY(cancel_answers(controller, item, i));
        return status;
    }
    return PR_OK;
}

static pr_status refuse_item(
    pr_batch_run *run, const pr_input_line *line, batch_item *item, const pr_refusal *refusal)
{
    pr_status status = put_refusal(run, line, item->custom_id, refusal, true);
    disown_ids(run, item);
    destroy_item(item);
    return status;
}

// Takes the item. A request that can never fit is refused; another fault ends the run.
static pr_status start_item(
    pr_batch_run *run, pr_controller *controller, const pr_input_line *line, batch_item *item)
{
    pr_status status = pr_reply_number(&item->reply, &run->owners, item);
    if (status != PR_OK) {
        destroy_item(item);
        return status;
    }
    pr_error_capture_begin();
    status = submit_item(controller, item);
    pr_error_capture_end();
    if (status == PR_ERR_ARGUMENT) {
        pr_refusal refusal;
        (void)pr_refuse(&refusal, NULL, "%s", pr_error_text());
        return refuse_item(run, line, item, &refusal);
    }
    if (status != PR_OK)
        pr_log(PR_LOG_ERROR, "%s", pr_error_text());
    run->taken++;
    return status;
}

static pr_status
check_new_id(pr_batch_run *run, const pr_batch_line *line, int64_t number, pr_refusal *refusal)
{
    int64_t earlier;
    PR_TRY(pr_id_set_add(&run->seen, line->custom_id, number, &earlier));
    if (earlier == 0)
        return PR_OK;
    pr_status status = pr_refuse(
        refusal, "custom_id", "line %lld: custom_id '%.80s' was used on line %lld: make it unique",
        (long long)number, line->custom_id, (long long)earlier);
    refusal->code = "duplicate_custom_id";
    return status;
}

static pr_status parse_body(
    pr_batch_run *run,
    const pr_batch_line *parsed,
    pr_completion_request **request,
    pr_refusal *refusal)
{
    pr_completion_context context = run->context;
    context.default_seed = pr_completion_request_seed(parsed->custom_id);
    if (parsed->chat)
        return pr_chat_request_parse(&context, parsed->body, request, refusal);
    return pr_completion_request_parse(&context, parsed->body, request, refusal);
}

// Reads and checks a line. PR_ERR_REQUEST: *refusal, and whether the line itself was *readable.
static pr_status read_line(
    pr_batch_run *run,
    const pr_input_line *line,
    pr_batch_line *parsed,
    pr_completion_request **request,
    pr_refusal *refusal,
    bool *readable)
{
    *parsed = (pr_batch_line){0};
    *readable = false;
    if (line->too_long)
        return pr_refuse(
            refusal, NULL, "line %lld is longer than %d MiB: split it", (long long)line->number,
            PR_MAX_LINE_BYTES >> 20);
    PR_TRY(pr_batch_line_parse(line->text, line->size_bytes, line->number, parsed, refusal));
    PR_TRY(check_new_id(run, parsed, line->number, refusal));
    *readable = true;
    return parse_body(run, parsed, request, refusal);
}

static pr_status take_line(pr_batch_run *run, pr_controller *controller, const pr_input_line *line)
{
    pr_batch_line parsed;
    pr_refusal refusal;
    pr_completion_request *request = NULL;
    bool readable;
    pr_status status = read_line(run, line, &parsed, &request, &refusal, &readable);
    if (status == PR_ERR_REQUEST)
        status = put_refusal(run, line, parsed.custom_id, &refusal, readable);
    char *custom_id = request ? strdup(parsed.custom_id) : NULL;
    pr_batch_line_clear(&parsed);
    if (!request)
        return status;
    if (!controller) {  // only checking
        pr_completion_request_destroy(request);
        free(custom_id);
        run->totals.answered++;
        return PR_OK;
    }
    batch_item *item = calloc(1, sizeof *item);
    if (!item || !custom_id) {
        pr_completion_request_destroy(request);
        free(custom_id);
        free(item);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a request");
    }
    item->number = line->number;
    item->position = line->position;
    item->custom_id = custom_id;
    status = pr_reply_begin(request, run->engine->tokenizer, &item->reply);
    if (status != PR_OK) {
        destroy_item(item);
        return status;
    }
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

// Lines held back wait for an earlier one, which with a shuffled input may not have been taken yet.
static bool takes_more(const pr_batch_run *run, const pr_controller *controller)
{
    return !run->input_ended && !pr_controller_interrupted(controller) &&
           pr_controller_waiting(controller) < run->options->max_waiting &&
           (run->options->shuffle_seed != 0 || pr_result_file_held(run->output) < MAX_HELD_LINES);
}

static pr_status feed(void *context, pr_controller *controller, bool *more)
{
    pr_batch_run *run = context;
    while (takes_more(run, controller)) {
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

static void count_tokens(pr_batch_run *run, const batch_item *item)
{
    run->totals.prompt_tokens += pr_reply_prompt_tokens(&item->reply);
    run->totals.output_tokens += pr_reply_output_tokens(&item->reply);
}

static pr_status finish_item(pr_batch_run *run, batch_item *item)
{
    char id[64];
    pr_batch_line_name(item->custom_id, item->number, item->reply.request->chat, id, sizeof id);
    pr_reply_names names = {.id = id, .model = run->engine->model_name};
    json_t *body = pr_reply_body(&item->reply, run->engine->tokenizer, &names);
    char *line = pr_batch_line_answer(item->custom_id, item->number, body);
    pr_status status = pr_result_file_put(run->output, item->position, line);
    run->totals.answered++;
    count_tokens(run, item);
    disown_ids(run, item);
    destroy_item(item);
    return status;
}

static pr_status token(void *context, pr_controller *controller, const pr_token_report *report)
{
    pr_batch_run *run = context;
    batch_item *item = pr_sequence_owners_find(&run->owners, report->id);
    if (!item)  // it has its answer already, and this is about a sequence that was cancelled
        return PR_OK;
    pr_answer *answer = pr_reply_answer(&item->reply, report->id);
    bool was_done = answer->done, cancel = false;
    PR_TRY(pr_answer_add(answer, run->engine->model, report, &cancel));
    if (cancel)
        PR_TRY(pr_controller_cancel(controller, report->id));
    if (answer->done && !was_done && --item->reply.unfinished == 0)
        return finish_item(run, item);
    return PR_OK;
}

static pr_status prompt_logprobs(void *context, const pr_report *report)
{
    pr_batch_run *run = context;
    for (int32_t i = 0; i < report->prompt_logprobs; i++) {
        const pr_prompt_logprob *entry = &report->prompt_logprob[i];
        batch_item *item = pr_sequence_owners_find(&run->owners, entry->id);
        if (item)
            pr_reply_prompt_logprob(&item->reply, entry);
    }
    return PR_OK;
}

// One sequence of a request cannot be answered: the request gets an error, its others are cancelled.
static pr_status rejected(void *context, pr_controller *controller, const pr_decision *decision)
{
    pr_batch_run *run = context;
    batch_item *item = pr_sequence_owners_find(&run->owners, decision->id);
    if (!item)
        return PR_OK;
    pr_refusal refusal;
    pr_input_line line = {.number = item->number, .position = item->position};
    (void)pr_refuse(&refusal, NULL, "%s", decision->reason);
    pr_refusal_set_status(&refusal, decision->http_status);
    PR_TRY(cancel_answers(controller, item, item->reply.answers));
    return refuse_item(run, &line, item, &refusal);
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

// The answers that wait for an earlier one are not lost with the run.
static void salvage(void *context)
{
    pr_batch_run *run = context;
    pr_progress_end(&run->progress);
    pr_status closed = pr_result_file_close(run->output);
    (void)closed;  // the run has failed already
    run->output = NULL;
}

pr_face pr_batch_run_face(pr_batch_run *run)
{
    return (pr_face){
        .context = run,
        .feed = feed,
        .token = token,
        .prompt_logprobs = prompt_logprobs,
        .rejected = rejected,
        .progress = progress,
        .salvage = salvage,
    };
}

pr_status pr_batch_run_finish(pr_batch_run *run, pr_batch_totals *totals)
{
    if (run->output)
        pr_progress_end(&run->progress);
    *totals = run->totals;
    pr_status status = pr_result_file_close(run->output);
    run->output = NULL;
    return status;
}
