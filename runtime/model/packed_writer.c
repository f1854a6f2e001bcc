// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/packed_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

struct pr_packed_writer {
    char path[PATH_MAX], beside[PATH_MAX];
    int descriptor;
    bool finished;
    uint64_t end;  // where the next blob may begin
    size_t room;
    pr_packed_table table;
};

static pr_status fail_write(const pr_packed_writer *writer)
{
    return pr_fail(
        PR_ERR_IO, "cannot write %s: %s: choose another directory or free space", writer->path,
        strerror(errno));
}

pr_status pr_packed_writer_open(
    const char *path, const char *layout, pr_quantization quantization, pr_packed_writer **writer)
{
    pr_packed_writer *made = calloc(1, sizeof *made);
    if (!made || !(made->table.layout = strdup(layout))) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "%s: no memory to write it", path);
    }
    made->table.quantization = quantization;
    made->end = PR_PACKED_ALIGNMENT;
    made->descriptor = -1;
    pr_status status = PR_OK;
    snprintf(made->path, sizeof made->path, "%s", path);
    if (snprintf(made->beside, sizeof made->beside, "%s.tmp", path) >= (int)sizeof made->beside)
        errno = ENAMETOOLONG;
    else
        made->descriptor = open(made->beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (made->descriptor < 0) {
        status = fail_write(made);
        pr_packed_writer_close(made);
        return status;
    }
    *writer = made;
    return PR_OK;
}

static pr_status
write_at(pr_packed_writer *writer, uint64_t at, const void *data, size_t size_bytes)
{
    for (const char *next = data; size_bytes > 0;) {
        ssize_t written = pwrite(writer->descriptor, next, size_bytes, (off_t)at);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return fail_write(writer);
        next += written;
        at += (uint64_t)written;
        size_bytes -= (size_t)written;
    }
    return PR_OK;
}

static pr_status make_room(pr_packed_writer *writer)
{
    if (writer->table.count < writer->room)
        return PR_OK;
    size_t room = writer->room > 0 ? 2 * writer->room : 256;
    pr_packed_entry *grown = realloc(writer->table.entry, room * sizeof *grown);
    if (!grown)
        return pr_fail(PR_ERR_RESOURCE, "%s: no memory for its table", writer->path);
    writer->table.entry = grown;
    writer->room = room;
    return PR_OK;
}

static uint64_t round_up(uint64_t at)
{
    return (at + PR_PACKED_ALIGNMENT - 1) / PR_PACKED_ALIGNMENT * PR_PACKED_ALIGNMENT;
}

pr_status pr_packed_writer_add(
    pr_packed_writer *writer, const pr_packed_entry *entry, const void *data, size_t size_bytes)
{
    PR_TRY(make_room(writer));
    char *name = strdup(entry->name);
    if (!name)
        return pr_fail(PR_ERR_RESOURCE, "%s: no memory for its table", writer->path);
    pr_packed_entry *added = &writer->table.entry[writer->table.count++];
    *added = *entry;
    added->name = name;
    added->begin = round_up(writer->end);
    added->end = writer->end = added->begin + size_bytes;
    added->hash = pr_hash_bytes(0, data, size_bytes);
    return write_at(writer, added->begin, data, size_bytes);
}

pr_status pr_packed_writer_finish(pr_packed_writer *writer)
{
    unsigned char bytes[PR_PACKED_HEAD_BYTES];
    char *text = pr_packed_table_print(&writer->table);
    if (!text)
        return pr_fail(PR_ERR_RESOURCE, "%s: no memory for its table", writer->path);
    pr_packed_head head = {.table_begin = round_up(writer->end), .table_bytes = strlen(text)};
    head.table_hash = pr_hash_bytes(0, text, head.table_bytes);
    pr_packed_head_encode(&head, bytes);
    pr_status status = write_at(writer, head.table_begin, text, head.table_bytes);
    free(text);
    PR_TRY(status);
    PR_TRY(write_at(writer, 0, bytes, sizeof bytes));
    if (fsync(writer->descriptor) != 0 || rename(writer->beside, writer->path) != 0)
        return fail_write(writer);
    writer->finished = true;
    return PR_OK;
}

void pr_packed_writer_close(pr_packed_writer *writer)
{
    if (!writer)
        return;
    if (writer->descriptor >= 0) {
        close(writer->descriptor);
        if (!writer->finished)
            (void)unlink(writer->beside);
    }
    pr_packed_table_release(&writer->table);
    free(writer);
}

int64_t pr_packed_writer_bytes(const pr_packed_writer *writer) { return (int64_t)writer->end; }
