// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/batch/batch_output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/batch/batch_state.h"
#include "launcher/batch/result_file.h"
#include "launcher/batch/state_writer.h"
#include "launcher/journal/journal_folder.h"
#include "launcher/journal/model_identity.h"
#include "runtime/base/clock.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"

enum { STATE_MS = 5000, IDENTITY_BYTES = 512 };

// Finished lines that wait for an earlier one in memory; beyond it, no more of the input is taken.
enum { MAX_HELD_LINES = 65536 };

struct pr_batch_output {
    const pr_options *options;
    pr_result_file *stream;  // or
    pr_journal *journal;     // from begin on
    char identity[IDENTITY_BYTES];
    pr_state_writer *state;  // while it runs
    int64_t told_ns;         // when the state was last told
    bool superseded;         // the state is another run's
};

// ---- Opening ----

static bool is_streamed(const pr_options *options)
{
    struct stat file;
    if (strcmp(options->output, "-") == 0 || strcmp(options->journal, "off") == 0)
        return true;
    return stat(options->output, &file) == 0 && !S_ISREG(file.st_mode) && !S_ISDIR(file.st_mode);
}

static pr_status fail_output(const pr_options *options, int reason)
{
    return pr_fail(
        PR_ERR_IO, "cannot write output %s: %s: choose another path with -o", options->output,
        strerror(reason));
}

// The output is made beside its place at the end: better to learn now that it cannot be.
static pr_status check_place(const pr_options *options)
{
    struct stat file;
    if (stat(options->output, &file) == 0 && S_ISDIR(file.st_mode))
        return fail_output(options, EISDIR);
    char *folder = pr_journal_folder_parent(options->output);
    if (!folder)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the output");
    int reason = access(folder, W_OK | X_OK) == 0 ? 0 : errno;
    free(folder);
    return reason == 0 ? PR_OK : fail_output(options, reason);
}

// What is there from before, and whether it is to be gone on with.
static pr_status look_back(const pr_options *options, bool *complete)
{
    pr_batch_state state;
    bool there, journal;
    PR_TRY(check_place(options));
    PR_TRY(pr_batch_state_read(options->output, &state, &there));
    PR_TRY(pr_journal_exists(options->output, &journal));
    bool done = there && state.phase == PR_BATCH_DONE && access(options->output, F_OK) == 0;
    if (done) {  // its run may have been killed while it removed its journal
        pr_journal_discard(options->output);
        journal = false;
    }
    if (there && state.phase == PR_BATCH_RUNNING)
        pr_log(
            PR_LOG_WARN, "another run may still be working on %s: this one takes over",
            options->output);
    if (journal && !options->resume)
        return pr_journal_refuse_earlier(options->output);
    *complete = options->resume && done;
    if (*complete)
        pr_log(
            PR_LOG_INFO, "%s is complete: %lld answered, %lld refused; nothing to resume",
            options->output, (long long)state.answered, (long long)state.refused);
    return PR_OK;
}

pr_status pr_batch_output_open(const pr_options *options, pr_batch_output **output, bool *complete)
{
    *complete = false;
    bool streamed = is_streamed(options);
    if (streamed && options->resume)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "--resume needs a journal: give a file with -o and leave --journal at auto");
    if (!streamed)
        PR_TRY(look_back(options, complete));
    *output = NULL;
    if (*complete)
        return PR_OK;
    pr_batch_output *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the output");
    made->options = options;
    bool input_order = strcmp(options->order, "input") == 0;
    pr_status status =
        streamed ? pr_result_file_open(options->output, input_order, &made->stream) : PR_OK;
    if (status != PR_OK) {
        free(made);
        return status;
    }
    *output = made;
    return PR_OK;
}

// All that the bytes of an answer depend on besides its request (docs/journal.md). Layout, kernels and
// memory are not among it.
static pr_status describe(const pr_engine *engine, char *text, uint64_t *identity)
{
    const pr_options *options = engine->options;
    uint64_t model, template = 0;
    unsigned long long shuffle = (unsigned long long)options->shuffle_seed;
    PR_TRY(pr_model_identity(options->model, &model));
    if (options->chat_template)
        PR_TRY(pr_model_identity_of_file(options->chat_template, &template));
    snprintf(
        text, IDENTITY_BYTES,
        "model %s (%08x), dtype %s, weights %s, KV %s, max-model-len %d, part %s, shuffle seed "
        "%llu, chat template %s (%x), parsers %s %s%s%s",
        engine->model_name, (unsigned)model, options->dtype ? options->dtype : "auto",
        pr_options_weights_text(engine->quantization), pr_dtype_name(engine->kv_dtype),
        (int)engine->max_model_len, options->part ? options->part : "all", shuffle,
        options->chat_template ? options->chat_template : "its own", (unsigned)template,
        options->tool_call_parser, options->reasoning_parser,
        options->allow_special_in_content ? ", special tokens in content" : "",
        options->trust_request_chat_template ? ", templates of requests" : "");
    *identity = pr_hash_bytes(model, text, strlen(text));
    return PR_OK;
}

static void fill_state(const pr_batch_output *output, pr_batch_phase phase, pr_batch_state *state)
{
    const pr_journal_totals totals = pr_batch_output_totals(output);
    *state = (pr_batch_state){
        .phase = phase,
        .requests = -1,
        .answered = totals.answered,
        .refused = totals.refused,
    };
}

static pr_status tell_running(pr_batch_output *output)
{
    pr_batch_state state;
    output->told_ns = pr_clock_now_ns();
    fill_state(output, PR_BATCH_RUNNING, &state);
    return output->state ? pr_state_writer_tell(output->state, &state)
                         : pr_batch_state_write(output->options->output, &state);
}

// A state from before says nothing about a file that is streamed to.
static pr_status begin_stream(pr_batch_output *output)
{
    PR_TRY(pr_result_file_begin(output->stream));
    return strcmp(output->options->output, "-") == 0
               ? PR_OK
               : pr_batch_state_remove(output->options->output);
}

pr_status pr_batch_output_begin(pr_batch_output *output, const pr_engine *engine)
{
    uint64_t identity;
    bool goes_on;
    if (output->stream)
        return begin_stream(output);
    PR_TRY(describe(engine, output->identity, &identity));
    PR_TRY(pr_journal_exists(output->options->output, &goes_on));
    if (!goes_on)  // first the state: an earlier run's "done" is not about the journal that comes
        PR_TRY(tell_running(output));
    PR_TRY(pr_journal_open(
        &(pr_journal_params){
            .output = output->options->output,
            .resume = output->options->resume,
            .sync_ms = output->options->journal_sync,
            .identity = identity,
            .identity_text = output->identity,
        },
        &output->journal));
    const pr_journal_totals totals = pr_batch_output_totals(output);
    if (totals.claimed > 0)
        pr_log(
            PR_LOG_INFO, "resumed: %lld answered and %lld refused before, %lld more begun",
            (long long)totals.answered, (long long)totals.refused,
            (long long)(totals.claimed - totals.answered - totals.refused));
    PR_TRY(tell_running(output));
    return pr_state_writer_create(output->options->output, &output->state);
}

void pr_batch_output_close(pr_batch_output *output)
{
    if (!output)
        return;
    pr_status status = pr_result_file_close(output->stream);
    status = pr_journal_close(output->journal, false);
    pr_state_writer_destroy(output->state);
    (void)status;  // end has reported it on the way that matters
    free(output);
}

// ---- Lines and results ----

bool pr_batch_output_takes_more(const pr_batch_output *output)
{
    return !output->stream || output->options->shuffle_seed != 0 ||
           pr_result_file_held(output->stream) < MAX_HELD_LINES;
}

pr_journal_totals pr_batch_output_totals(const pr_batch_output *output)
{
    return output->journal ? pr_journal_known(output->journal)->totals : (pr_journal_totals){0};
}

static pr_journal_claim claim_of(const pr_input_line *line)
{
    return (pr_journal_claim){
        .position = line->position,
        .number = line->number,
        .line_hash = pr_hash_bytes((uint64_t)line->too_long, line->text, line->size_bytes),
    };
}

pr_status pr_batch_output_find(
    pr_batch_output *output, const pr_input_line *line, const pr_journal_entry **known)
{
    *known = NULL;
    if (!output->journal)
        return PR_OK;
    const pr_journal_claim claim = claim_of(line);
    return pr_journal_find(output->journal, &claim, known);
}

pr_status pr_batch_output_end_input(const pr_batch_output *output, int64_t lines)
{
    if (!output->journal || pr_journal_known(output->journal)->positions <= lines)
        return PR_OK;
    return pr_fail(
        PR_ERR_ARGUMENT,
        "the input has ended after %lld lines, but %s.journal knows one that comes later: resume "
        "with "
        "the input of that run, or remove the journal",
        (long long)lines, output->options->output);
}

pr_status
pr_batch_output_claim(pr_batch_output *output, const pr_input_line *line, const pr_id_key *key)
{
    if (!output->journal)
        return PR_OK;
    pr_journal_claim claim = claim_of(line);
    claim.id_hash = key ? key->hash : 0;
    claim.id_check = key ? key->check : 0;
    return pr_journal_add_claim(output->journal, &claim);
}

pr_status pr_batch_output_token(
    pr_batch_output *output, int64_t position, int32_t answer, const pr_token_report *token)
{
    return output->journal ? pr_journal_add_token(output->journal, position, answer, token) : PR_OK;
}

void pr_batch_output_forget_tokens(pr_batch_output *output, int64_t position)
{
    pr_journal_forget_tokens(output->journal, position);
}

pr_status pr_batch_output_put(pr_batch_output *output, const pr_journal_result *result, char *line)
{
    if (output->stream)
        return pr_result_file_put(output->stream, result->position, line);
    if (!line)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a result line");
    pr_status status = pr_journal_add_result(output->journal, result, line);
    free(line);
    return status;
}

pr_status pr_batch_output_flush(pr_batch_output *output)
{
    if (!output->journal)
        return PR_OK;
    PR_TRY(pr_journal_flush(output->journal));
    if (pr_clock_now_ns() - output->told_ns < (int64_t)STATE_MS * 1000000)
        return PR_OK;
    pr_status status = pr_journal_look_for_others(output->journal);
    output->superseded = status == PR_ERR_PEER;
    PR_TRY(status);
    return tell_running(output);
}

// ---- The end ----

static pr_status end_stream(pr_batch_output *output)
{
    pr_status status = pr_result_file_close(output->stream);
    output->stream = NULL;
    return status;
}

static pr_status
write_last_state(pr_batch_output *output, pr_batch_phase phase, const pr_batch_ending *ending)
{
    pr_batch_state state;
    const pr_journal_totals totals = pr_batch_output_totals(output);
    pr_state_writer_destroy(output->state);  // what it writes comes before
    output->state = NULL;
    fill_state(output, phase, &state);
    if (ending->end >= 0)
        state.requests = ending->end - ending->first;
    state.begun = totals.claimed - totals.answered - totals.refused;
    state.end_unix_s = ending->end_unix_s;
    state.idle_tail_s = ending->idle_tail_s;
    snprintf(state.reason, sizeof state.reason, "%s", ending->reason ? ending->reason : "");
    return pr_batch_state_write(output->options->output, &state);
}

static pr_status preempt(pr_batch_output *output, const pr_batch_ending *ending)
{
    PR_TRY(pr_journal_flush(output->journal));
    PR_TRY(write_last_state(output, PR_BATCH_PREEMPTED, ending));
    pr_journal *journal = output->journal;
    output->journal = NULL;
    return pr_journal_close(journal, true);
}

// First the state, then the journal: whatever is there when the run is killed, a resume knows what is
// left to do.
static pr_status finish(pr_batch_output *output, const pr_batch_ending *ending)
{
    const pr_options *options = output->options;
    PR_TRY(pr_journal_assemble(
        output->journal, ending->first, ending->end, strcmp(options->order, "input") == 0));
    PR_TRY(write_last_state(output, PR_BATCH_DONE, ending));
    // A run that began in the meantime has read this journal and needs it: it will put away both.
    pr_error_capture_begin();
    bool alone = pr_journal_look_for_others(output->journal) == PR_OK;
    pr_error_capture_end();
    if (alone)
        pr_journal_discard(options->output);
    return PR_OK;
}

pr_status
pr_batch_output_end(pr_batch_output *output, const pr_batch_ending *ending, bool *resumable)
{
    *resumable = !ending->complete && output->journal != NULL;
    if (output->stream)
        return end_stream(output);
    pr_status status = ending->complete ? finish(output, ending) : preempt(output, ending);
    output->superseded = status == PR_ERR_PEER;
    if (status != PR_OK)
        pr_batch_output_salvage(output, pr_error_text());
    return status;
}

bool pr_batch_output_interrupt(pr_batch_output *output, const char *reason)
{
    return !output->stream && write_last_state(
                                  output, PR_BATCH_PREEMPTED,
                                  &(pr_batch_ending){.end = -1, .reason = reason}) == PR_OK;
}

void pr_batch_output_salvage(pr_batch_output *output, const char *reason)
{
    pr_status status = output->stream ? end_stream(output) : PR_OK;
    if (output->journal && !output->superseded) {
        status = pr_journal_flush(output->journal);
        status = write_last_state(
            output, PR_BATCH_FAILED, &(pr_batch_ending){.end = -1, .reason = reason});
        pr_log(
            PR_LOG_INFO, "what was done is in %s.journal: go on with --resume",
            output->options->output);
    }
    (void)status;  // the run has failed already
}
