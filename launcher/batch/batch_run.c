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
    pr_batch_output *output;  // NULL when only checking
    bool input_ended;
    bool out_of_time;           // the rest of the input is for the next run
    pr_id_set seen;             // custom_ids so far
    pr_sequence_owners owners;  // batch_items, until they are answered
    pr_batch_totals totals;
    int64_t lines;  // read, of this part of the input
    int64_t taken;  // of these, became sequences or were done before
    pr_progress progress;
};

// The output is replaced, which must not be the input.
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

static pr_status open_output(pr_batch_run *run, bool *complete)
{
    const pr_options *options = run->options;
    if (!options->output)
        return pr_fail(PR_ERR_ARGUMENT, "the output is missing: give a file with -o FILE");
    PR_TRY(check_different_files(options));
    return pr_batch_output_open(options, &run->output, complete);
}

pr_status pr_batch_run_create(const pr_options *options, pr_batch_run **run, bool *complete)
{
    pr_status status;
    *complete = false;
    *run = NULL;
    pr_batch_run *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the batch");
    made->options = options;
    pr_sequence_owners_begin(&made->owners);
    PR_TRY_GOTO(pr_completion_context_open(options, &made->context), failed);
    PR_TRY_GOTO(
        pr_batch_input_open(
            options->input, (uint64_t)options->shuffle_seed, options->part, &made->input),
        failed);
    if (!options->validate_only)
        PR_TRY_GOTO(open_output(made, complete), failed);
    if (!*complete) {
        *run = made;
        return PR_OK;
    }
    status = PR_OK;
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
    pr_batch_output_close(run->output);
    free(run);
}

pr_status pr_batch_run_attach(pr_batch_run *run, const pr_engine *engine)
{
    run->engine = engine;
    pr_completion_context_attach(&run->context, engine);
    pr_progress_begin(&run->progress);
    if (!run->output)
        return PR_OK;
    PR_TRY(pr_batch_output_begin(run->output, engine));
    const pr_journal_totals earlier = pr_batch_output_totals(run->output);
    run->totals = (pr_batch_totals){
        .answered = earlier.answered,
        .refused = earlier.refused,
        .prompt_tokens = earlier.prompt_tokens,
        .output_tokens = earlier.output_tokens,
        .earlier_answered = earlier.answered,
        .earlier_output_tokens = earlier.output_tokens,
    };
    return PR_OK;
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
    const pr_journal_result result = {.position = line->position, .refused = 1};
    return pr_batch_output_put(
        run->output, &result, pr_batch_line_refusal(custom_id, line->number, refusal, readable));
}

// ---- Lines that become sequences ----

static void disown_ids(pr_batch_run *run, const batch_item *item)
{
    pr_sequence_owners_remove(&run->owners, item->reply.first_id, item->reply.answers);
}

static pr_status finish_item(pr_batch_run *run, batch_item *item)
{
    char id[64];
    pr_batch_line_name(item->custom_id, item->number, item->reply.request->chat, id, sizeof id);
    pr_reply_names names = {.id = id, .model = run->engine->model_name};
    json_t *body = pr_reply_body(&item->reply, run->engine->tokenizer, &names);
    char *line = pr_batch_line_answer(item->custom_id, item->number, body);
    const pr_journal_result result = {
        .position = item->position,
        .prompt_tokens = pr_reply_prompt_tokens(&item->reply),
        .output_tokens = pr_reply_output_tokens(&item->reply),
    };
    pr_status status = pr_batch_output_put(run->output, &result, line);
    run->totals.answered++;
    run->totals.prompt_tokens += result.prompt_tokens;
    run->totals.output_tokens += result.output_tokens;
    disown_ids(run, item);
    destroy_item(item);
    return status;
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
        pr_status status = item->reply.answer[i].done ? PR_OK : submit_answer(controller, item, i);
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

// The tokens of an earlier run go into the answers as they did then. Where the prompt's logprobs are asked
// for, which no journal keeps, there are none.
static pr_status recall_tokens(pr_batch_run *run, batch_item *item, const pr_journal_entry *known)
{
    for (int32_t i = 0; i < known->answers; i++) {
        const pr_journal_answer *from = &known->answer[i];
        if (from->answer < 0 || from->answer >= item->reply.answers)
            continue;
        pr_answer *answer = &item->reply.answer[from->answer];
        for (int32_t t = 0; t < from->tokens && !answer->done; t++) {
            bool cancel;
            PR_TRY(pr_answer_add(answer, run->engine->model, &from->token[t], &cancel));
        }
        item->reply.unfinished -= answer->done;
    }
    pr_batch_output_forget_tokens(run->output, item->position);
    return PR_OK;
}

// Takes the item. A request that can never fit is refused; another fault ends the run.
static pr_status start_item(
    pr_batch_run *run,
    pr_controller *controller,
    const pr_input_line *line,
    const pr_journal_entry *known,
    batch_item *item)
{
    pr_status status = pr_reply_number(&item->reply, &run->owners, item);
    if (status != PR_OK) {
        destroy_item(item);
        return status;
    }
    run->taken++;
    if (known)
        PR_TRY(recall_tokens(run, item, known));  // the run's end frees the item
    if (item->reply.unfinished == 0)
        return finish_item(run, item);
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
    return status;
}

static pr_status
check_new_id(pr_batch_run *run, const pr_batch_line *line, int64_t number, pr_refusal *refusal)
{
    const pr_id_key key = pr_id_set_key(line->custom_id);
    int64_t earlier;
    PR_TRY(pr_id_set_add(&run->seen, &key, number, &earlier));
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

static batch_item *create_item(const pr_input_line *line, const char *custom_id)
{
    batch_item *item = calloc(1, sizeof *item);
    if (!item)
        return NULL;
    item->number = line->number;
    item->position = line->position;
    item->custom_id = strdup(custom_id);
    if (item->custom_id)
        return item;
    free(item);
    return NULL;
}

// Takes the request.
static pr_status start_request(
    pr_batch_run *run,
    pr_controller *controller,
    const pr_input_line *line,
    const pr_journal_entry *known,
    const char *custom_id,
    pr_completion_request *request)
{
    batch_item *item = create_item(line, custom_id);
    if (!item) {
        pr_completion_request_destroy(request);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a request");
    }
    pr_status status = pr_reply_begin(request, run->engine->tokenizer, &item->reply);
    if (status != PR_OK) {
        destroy_item(item);
        return status;
    }
    return start_item(run, controller, line, known, item);
}

static pr_status claim_line(pr_batch_run *run, const pr_input_line *line, const char *custom_id)
{
    if (!run->output)
        return PR_OK;
    if (!custom_id)
        return pr_batch_output_claim(run->output, line, NULL);
    const pr_id_key key = pr_id_set_key(custom_id);
    return pr_batch_output_claim(run->output, line, &key);
}

// A line that no earlier run has finished.
static pr_status take_new_line(
    pr_batch_run *run,
    pr_controller *controller,
    const pr_input_line *line,
    const pr_journal_entry *known)
{
    pr_batch_line parsed;
    pr_refusal refusal;
    pr_completion_request *request = NULL;
    bool readable;
    pr_status status = read_line(run, line, &parsed, &request, &refusal, &readable);
    if (status != PR_OK && status != PR_ERR_REQUEST)
        goto clear;
    pr_status claimed = claim_line(run, line, readable ? parsed.custom_id : NULL);
    if (claimed != PR_OK) {
        pr_completion_request_destroy(request);
        status = claimed;
    } else if (status == PR_ERR_REQUEST) {
        status = put_refusal(run, line, parsed.custom_id, &refusal, readable);
    } else if (controller) {
        status = start_request(run, controller, line, known, parsed.custom_id, request);
    } else {  // only checking
        pr_completion_request_destroy(request);
        run->totals.answered++;
    }
clear:
    pr_batch_line_clear(&parsed);
    return status;
}

static pr_status
skip_done_line(pr_batch_run *run, const pr_input_line *line, const pr_journal_claim *claim)
{
    const pr_id_key key = {.hash = claim->id_hash, .check = claim->id_check};
    int64_t earlier;
    run->taken++;
    if (key.hash == 0 && key.check == 0)
        return PR_OK;
    return pr_id_set_add(&run->seen, &key, line->number, &earlier);
}

// Of another part: only its id counts here.
static pr_status note_id(pr_batch_run *run, const pr_input_line *line)
{
    pr_batch_line parsed = {0};
    pr_refusal refusal;
    pr_status status = PR_OK;
    if (!line->too_long)
        status = pr_batch_line_parse(line->text, line->size_bytes, line->number, &parsed, &refusal);
    if (status == PR_OK && parsed.custom_id)
        status = check_new_id(run, &parsed, line->number, &refusal);
    pr_batch_line_clear(&parsed);
    return status == PR_ERR_REQUEST ? PR_OK : status;  // its own part refuses it
}

static pr_status take_line(pr_batch_run *run, pr_controller *controller, const pr_input_line *line)
{
    const pr_journal_entry *known = NULL;
    if (line->elsewhere)
        return note_id(run, line);
    run->lines++;
    if (run->output)
        PR_TRY(pr_batch_output_find(run->output, line, &known));
    if (known && known->done)
        return skip_done_line(run, line, &known->claim);
    return take_new_line(run, controller, line, known);
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
    return !run->input_ended && !run->out_of_time && !pr_controller_interrupted(controller) &&
           pr_controller_waiting(controller) < run->options->max_waiting &&
           pr_batch_output_takes_more(run->output);
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
        if (state == PR_INPUT_LINE) {
            PR_TRY(take_line(run, controller, &line));
        } else {
            run->input_ended = true;
            PR_TRY(pr_batch_output_end_input(run->output, run->lines));
        }
    }
    *more = !run->input_ended && !run->out_of_time;
    return PR_OK;
}

// ---- Answers ----

static pr_status token(void *context, pr_controller *controller, const pr_token_report *report)
{
    pr_batch_run *run = context;
    batch_item *item = pr_sequence_owners_find(&run->owners, report->id);
    if (!item)  // it has its answer already, and this is about a sequence that was cancelled
        return PR_OK;
    pr_answer *answer = pr_reply_answer(&item->reply, report->id);
    bool was_done = answer->done, cancel = false;
    if (!was_done && !item->reply.scores)
        PR_TRY(pr_batch_output_token(
            run->output, item->position, (int32_t)(report->id - item->reply.first_id), report));
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

static pr_status settle(void *context)
{
    pr_batch_run *run = context;
    return pr_batch_output_flush(run->output);
}

// All that is not answered is of the next run, with the tokens that the journal has.
static pr_status left(void *context, pr_controller *controller, uint64_t id)
{
    pr_batch_run *run = context;
    (void)controller;
    (void)id;
    run->out_of_time = true;
    return PR_OK;
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

static void salvage(void *context)
{
    pr_batch_run *run = context;
    pr_progress_end(&run->progress);
    pr_batch_output_salvage(run->output, pr_error_text());
}

pr_face pr_batch_run_face(pr_batch_run *run)
{
    return (pr_face){
        .context = run,
        .feed = feed,
        .token = token,
        .prompt_logprobs = prompt_logprobs,
        .rejected = rejected,
        .left = left,
        .has_end = true,
        .at_end = PR_AT_END_LEAVE,
        .settle = settle,
        .progress = progress,
        .salvage = salvage,
    };
}

bool pr_batch_run_interrupt(pr_batch_run *run, const char *reason)
{
    return run->output && pr_batch_output_interrupt(run->output, reason);
}

pr_status
pr_batch_run_finish(pr_batch_run *run, const pr_batch_ending *how, pr_batch_totals *totals)
{
    bool complete = run->input_ended && run->lines == run->totals.answered + run->totals.refused;
    pr_status status = PR_OK;
    if (run->output) {
        pr_progress_end(&run->progress);
        pr_batch_ending ending = *how;
        ending.complete = complete;
        ending.end = run->input_ended ? run->lines : -1;
        status = pr_batch_output_end(run->output, &ending, &run->totals.resumable);
    }
    run->totals.complete = complete;
    *totals = run->totals;
    return status;
}
