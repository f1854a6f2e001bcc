// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/journal/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/journal/assembly.h"
#include "launcher/journal/journal_folder.h"
#include "launcher/journal/journal_writer.h"
#include "runtime/base/log.h"

struct pr_journal {
    pr_journal_params params;
    char *folder;
    pr_journal_index index;
    int32_t *number, numbers;  // the files of earlier runs; then this run's
    pr_journal_writer *writer;
    char *own_path, *next_path;  // this run's file; that of one that would supersede it
};

pr_status pr_journal_exists(const char *output, bool *exists)
{
    int32_t *number, numbers;
    char *folder = pr_journal_folder_path(output);
    if (!folder)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the journal");
    pr_status status = pr_journal_folder_list(folder, &number, &numbers);
    if (status == PR_OK) {
        *exists = numbers > 0;
        free(number);
    }
    free(folder);
    return status;
}

void pr_journal_discard(const char *output)
{
    char *folder = pr_journal_folder_path(output);
    if (folder)
        pr_journal_folder_remove(folder);
    free(folder);
}

pr_status pr_journal_refuse_earlier(const char *output)
{
    return pr_fail(
        PR_ERR_ARGUMENT,
        "%s.journal holds an earlier run that is not finished: go on with --resume, or remove it",
        output);
}

// ---- Reading ----

// The first record says whose answers these are. A file without one (its run was killed while it began)
// says nothing, and has nothing.
static pr_status
check_identity(const pr_journal_params *params, const char *path, const pr_journal_record *record)
{
    pr_journal_opening opening;
    if (record->kind != PR_JOURNAL_OPENING || record->size_bytes < sizeof opening)
        return PR_OK;
    memcpy(&opening, record->data, sizeof opening);
    if (opening.identity == params->identity)
        return PR_OK;
    return pr_fail(
        PR_ERR_ARGUMENT,
        "the journal %s was begun with: %.*s; now it is: %s. Resume with the same, or remove it",
        path, (int)(record->size_bytes - sizeof opening),
        (const char *)record->data + sizeof opening, params->identity_text);
}

// params NULL: whoever's it is.
static pr_status
read_file(const pr_journal_params *params, const char *path, int32_t file, pr_journal_index *index)
{
    pr_journal_reader *reader;
    PR_TRY(pr_journal_reader_open(path, &reader));
    pr_status status = PR_OK;
    for (bool more = true; status == PR_OK && more;) {
        pr_journal_record record;
        status = pr_journal_reader_next(reader, &record, &more);
        if (status == PR_OK && more && params)
            status = check_identity(params, path, &record);
        if (status == PR_OK && more)
            status = pr_journal_index_add(index, file, &record);
    }
    bool damaged = false;
    if (status == PR_OK)
        status = pr_journal_reader_look_on(reader, &damaged);
    if (damaged)
        pr_log(
            PR_LOG_WARN,
            "the journal %s is damaged %lld bytes before its end: what comes there is computed "
            "again",
            path, (long long)pr_journal_reader_torn_bytes(reader));
    pr_journal_reader_close(reader);
    return status;
}

static pr_status read_files(
    const pr_journal_params *params,
    const char *folder,
    const int32_t *number,
    int32_t numbers,
    pr_journal_index *index)
{
    for (int32_t i = 0; i < numbers; i++) {
        char *path = pr_journal_folder_file(folder, number[i]);
        pr_status status = path ? read_file(params, path, i, index)
                                : pr_fail(PR_ERR_RESOURCE, "no memory for the journal");
        free(path);
        PR_TRY(status);
    }
    return PR_OK;
}

pr_status pr_journal_read(const char *output, pr_journal_index *index)
{
    int32_t *number, numbers;
    char *folder = pr_journal_folder_path(output);
    if (!folder)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the journal");
    *index = (pr_journal_index){0};
    pr_status status = pr_journal_folder_list(folder, &number, &numbers);
    if (status == PR_OK) {
        status = read_files(NULL, folder, number, numbers, index);
        free(number);
    }
    free(folder);
    if (status != PR_OK)
        pr_journal_index_clear(index);
    return status;
}

// ---- Opening ----

static pr_status create_writer(pr_journal *journal)
{
    int32_t last = journal->numbers > 0 ? journal->number[journal->numbers - 1] : 0;
    int32_t *grown =
        realloc(journal->number, ((size_t)journal->numbers + 1) * sizeof *journal->number);
    if (!grown)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the journal");
    journal->number = grown;
    pr_status status;
    do {
        char *path = pr_journal_folder_file(journal->folder, ++last);
        status = path ? pr_journal_writer_create(path, journal->params.sync_ms, &journal->writer)
                      : pr_fail(PR_ERR_RESOURCE, "no memory for the journal");
        free(path);
    } while (status == PR_ERR_NOT_FOUND);
    PR_TRY(status);
    journal->number[journal->numbers++] = last;
    journal->own_path = pr_journal_folder_file(journal->folder, last);
    journal->next_path = pr_journal_folder_file(journal->folder, last + 1);
    return journal->own_path && journal->next_path
               ? PR_OK
               : pr_fail(PR_ERR_RESOURCE, "no memory for the journal");
}

static pr_status begin_file(pr_journal *journal)
{
    const pr_journal_params *params = &journal->params;
    pr_journal_opening opening = {.identity = params->identity};
    PR_TRY(create_writer(journal));
    PR_TRY(pr_journal_writer_add(
        journal->writer, PR_JOURNAL_OPENING, &opening, sizeof opening, params->identity_text,
        strlen(params->identity_text)));
    PR_TRY(pr_journal_writer_flush(journal->writer));
    pr_journal_folder_sync(journal->next_path);
    pr_journal_folder_sync(journal->folder);
    return PR_OK;
}

static pr_status open_folder(pr_journal *journal)
{
    journal->folder = pr_journal_folder_path(journal->params.output);
    if (!journal->folder)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the journal");
    PR_TRY(pr_journal_folder_list(journal->folder, &journal->number, &journal->numbers));
    if (journal->numbers > 0 && !journal->params.resume)
        return pr_journal_refuse_earlier(journal->params.output);
    PR_TRY(read_files(
        &journal->params, journal->folder, journal->number, journal->numbers, &journal->index));
    PR_TRY(pr_journal_folder_create(journal->folder));
    return begin_file(journal);
}

pr_status pr_journal_open(const pr_journal_params *params, pr_journal **journal)
{
    pr_journal *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the journal");
    made->params = *params;
    pr_status status = open_folder(made);
    if (status != PR_OK) {
        pr_error_capture_begin();
        (void)!pr_journal_close(made, false);
        pr_error_capture_end();
        return status;
    }
    *journal = made;
    return PR_OK;
}

pr_status pr_journal_close(pr_journal *journal, bool in_order)
{
    pr_status status = PR_OK;
    if (!journal)
        return PR_OK;
    if (journal->writer && in_order)
        status = pr_journal_writer_flush(journal->writer);
    if (journal->writer && in_order && status == PR_OK)
        status = pr_journal_writer_add(journal->writer, PR_JOURNAL_CLOSING, NULL, 0, NULL, 0);
    pr_status closed = pr_journal_writer_close(journal->writer);
    pr_journal_index_clear(&journal->index);
    free(journal->number);
    free(journal->own_path);
    free(journal->next_path);
    free(journal->folder);
    free(journal);
    return status != PR_OK ? status : closed;
}

// ---- Writing ----

const pr_journal_index *pr_journal_known(const pr_journal *journal) { return &journal->index; }

pr_status pr_journal_find(
    const pr_journal *journal, const pr_journal_claim *claim, const pr_journal_entry **known)
{
    *known = pr_journal_index_find(&journal->index, claim->position);
    if (!*known || (*known)->claim.line_hash == claim->line_hash)
        return PR_OK;
    return pr_fail(
        PR_ERR_ARGUMENT,
        "line %lld of the input is not the one that %s knows: resume with the input of that run, "
        "or remove the journal",
        (long long)claim->number, journal->folder);
}

pr_status pr_journal_add_claim(pr_journal *journal, const pr_journal_claim *claim)
{
    const pr_journal_entry *known;
    PR_TRY(pr_journal_find(journal, claim, &known));
    if (known)
        return PR_OK;
    PR_TRY(pr_journal_writer_add(journal->writer, PR_JOURNAL_CLAIM, claim, sizeof *claim, NULL, 0));
    return pr_journal_index_claim(&journal->index, claim);
}

pr_status pr_journal_add_token(
    pr_journal *journal, int64_t position, int32_t answer, const pr_token_report *token)
{
    const pr_journal_token record = {
        .position = position,
        .answer = answer,
        .index = token->index,
        .token = token->token,
        .finish = token->finish,
        .logprob = token->logprob,
        .tops = token->tops,
    };
    return pr_journal_writer_add_token(
        journal->writer, &record, token->top, (size_t)token->tops * sizeof *token->top);
}

pr_status
pr_journal_add_result(pr_journal *journal, const pr_journal_result *result, const char *line)
{
    size_t line_bytes = strlen(line);
    PR_TRY(pr_journal_writer_add(
        journal->writer, PR_JOURNAL_RESULT, result, sizeof *result, line, line_bytes));
    int64_t offset = pr_journal_writer_last_offset(journal->writer) + (int64_t)sizeof *result;
    pr_journal_index_finish(&journal->index, journal->numbers - 1, result, offset, line_bytes);
    return PR_OK;
}

void pr_journal_forget_tokens(pr_journal *journal, int64_t position)
{
    pr_journal_index_forget_tokens(&journal->index, position);
}

pr_status pr_journal_look_for_others(const pr_journal *journal)
{
    if (access(journal->next_path, F_OK) == 0)
        return pr_fail(
            PR_ERR_PEER, "another run has taken over: it writes %s; this one ends",
            journal->next_path);
    if (access(journal->own_path, F_OK) != 0 && errno == ENOENT)
        return pr_fail(
            PR_ERR_PEER, "the journal %s is gone: another run has finished; this one ends",
            journal->own_path);
    return PR_OK;
}

pr_status pr_journal_flush(pr_journal *journal)
{
    return journal->writer ? pr_journal_writer_flush(journal->writer) : PR_OK;
}

// ---- The output ----

pr_status pr_journal_assemble(pr_journal *journal, int64_t first, int64_t end, bool input_order)
{
    const pr_assembly_params params = {
        .output = journal->params.output,
        .folder = journal->folder,
        .number = journal->number,
        .numbers = journal->numbers,
        .index = &journal->index,
        .first = first,
        .end = end,
        .input_order = input_order,
    };
    pr_status status = pr_journal_writer_close(journal->writer);
    journal->writer = NULL;
    PR_TRY(status);
    PR_TRY(pr_journal_look_for_others(journal));
    return pr_assembly_write(&params);
}
