// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/journal/assembly.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/journal/journal_folder.h"
#include "runtime/base/file_write.h"
#include "runtime/base/log.h"
#include "runtime/text/byte_buffer.h"

enum { BUFFER_BYTES = 1 << 20 };

typedef struct assembly {
    const pr_assembly_params *params;
    pr_journal_reader **reader;  // [numbers], opened when first needed
    char *draft;
    int descriptor;
    pr_byte_buffer buffer;  // lines not yet written
} assembly;

static pr_status fail_write(const assembly *work)
{
    return pr_fail(
        PR_ERR_IO,
        "cannot write %s: %s: all results are in %s; make room there, then go on with --resume",
        work->draft, strerror(errno), work->params->folder);
}

static pr_status write_buffer(assembly *work)
{
    const pr_byte_buffer *from = &work->buffer;
    if (pr_file_write(work->descriptor, from->data, from->size_bytes) != from->size_bytes)
        return fail_write(work);
    pr_byte_buffer_clear(&work->buffer);
    return PR_OK;
}

static pr_status open_reader(assembly *work, int32_t file)
{
    if (work->reader[file])
        return PR_OK;
    char *path = pr_journal_folder_file(work->params->folder, work->params->number[file]);
    pr_status status = path ? pr_journal_reader_open(path, &work->reader[file])
                            : pr_fail(PR_ERR_RESOURCE, "no memory for the output");
    free(path);
    return status;
}

static pr_status copy_line(assembly *work, int64_t position)
{
    const pr_journal_entry *entry = pr_journal_index_find(work->params->index, position);
    if (!entry || !entry->done)
        return pr_fail(
            PR_ERR_INTERNAL, "line %lld of the input has no result", (long long)position + 1);
    PR_TRY(open_reader(work, entry->file));
    void *line = pr_byte_buffer_extend(&work->buffer, entry->result_bytes);
    if (!line)
        return pr_byte_buffer_check(&work->buffer);
    PR_TRY(pr_journal_reader_copy(
        work->reader[entry->file], entry->result_offset, line, entry->result_bytes));
    return work->buffer.size_bytes < BUFFER_BYTES ? PR_OK : write_buffer(work);
}

// ---- Orders ----

static pr_status copy_in_input_order(assembly *work)
{
    for (int64_t i = work->params->first; i < work->params->end; i++)
        PR_TRY(copy_line(work, i));
    return PR_OK;
}

static int compare_completion(const void *a, const void *b, void *context)
{
    const pr_journal_index *index = context;
    const pr_journal_entry *left = &index->entry[*(const int64_t *)a];
    const pr_journal_entry *right = &index->entry[*(const int64_t *)b];
    if (left->file != right->file)
        return left->file < right->file ? -1 : 1;
    return left->result_offset < right->result_offset ? -1 : 1;
}

static pr_status copy_in_order_of_completion(assembly *work)
{
    const pr_journal_index *index = work->params->index;
    int64_t first = work->params->first, lines = work->params->end - first;
    if (work->params->end > index->positions)
        return pr_fail(PR_ERR_INTERNAL, "the last lines of the input have no result");
    int64_t *position = malloc((size_t)lines * sizeof *position + 1);
    if (!position)
        return pr_fail(PR_ERR_RESOURCE, "no memory to order %lld results", (long long)lines);
    for (int64_t i = 0; i < lines; i++)
        position[i] = first + i;
    qsort_r(
        position, (size_t)lines, sizeof *position, compare_completion,
        (void *)(uintptr_t)(const void *)index);
    pr_status status = PR_OK;
    for (int64_t i = 0; status == PR_OK && i < lines; i++)
        status = copy_line(work, position[i]);
    free(position);
    return status;
}

// ---- The file ----

static pr_status open_draft(assembly *work)
{
    const pr_assembly_params *params = work->params;
    work->draft = pr_journal_folder_draft(params->folder, params->number[params->numbers - 1]);
    if (!work->draft)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the output");
    work->descriptor = open(work->draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return work->descriptor >= 0 ? PR_OK : fail_write(work);
}

static pr_status write_file(assembly *work)
{
    PR_TRY(open_draft(work));
    PR_TRY(
        work->params->input_order ? copy_in_input_order(work) : copy_in_order_of_completion(work));
    PR_TRY(write_buffer(work));
    if (fsync(work->descriptor) != 0 || rename(work->draft, work->params->output) != 0)
        return fail_write(work);
    pr_journal_folder_sync(work->params->output);
    return PR_OK;
}

pr_status pr_assembly_write(const pr_assembly_params *params)
{
    assembly work = {.params = params, .descriptor = -1};
    work.reader = calloc((size_t)params->numbers, sizeof(pr_journal_reader *));
    if (!work.reader)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the output");
    pr_status status = write_file(&work);
    if (work.descriptor >= 0) {
        close(work.descriptor);
        if (status != PR_OK)
            (void)unlink(work.draft);
    }
    for (int32_t i = 0; i < params->numbers; i++)
        pr_journal_reader_close(work.reader[i]);
    free(work.reader);
    free(work.draft);
    pr_byte_buffer_free(&work.buffer);
    return status;
}
