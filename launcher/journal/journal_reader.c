// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/journal/journal_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/log.h"

enum { PIECE_BYTES = 4 << 20 };

struct pr_journal_reader {
    char *path;
    int descriptor;
    unsigned char *buffer;  // [capacity]: bytes [begin, end) of the file at `offset` on
    size_t capacity, begin, end;
    int64_t offset;  // in the file, of buffer[begin]
    uint32_t number;
    int64_t size_bytes;  // of the file when it was opened; what is written later is not read
    bool ended;          // nothing more comes from the descriptor
    int64_t torn_bytes;
};

pr_status pr_journal_reader_open(const char *path, pr_journal_reader **reader)
{
    pr_journal_reader *made = calloc(1, sizeof *made);
    if (made)
        made->path = strdup(path);
    if (!made || !made->path) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory to read %s", path);
    }
    struct stat status_of_file;
    made->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (made->descriptor < 0 || fstat(made->descriptor, &status_of_file) != 0) {
        pr_status status =
            pr_fail(PR_ERR_IO, "cannot read the journal %s: %s", path, strerror(errno));
        pr_journal_reader_close(made);
        return status;
    }
    made->size_bytes = status_of_file.st_size;
    *reader = made;
    return PR_OK;
}

void pr_journal_reader_close(pr_journal_reader *reader)
{
    if (!reader)
        return;
    if (reader->descriptor >= 0)
        close(reader->descriptor);
    free(reader->buffer);
    free(reader->path);
    free(reader);
}

static pr_status make_room(pr_journal_reader *reader, size_t needed)
{
    size_t kept = reader->end - reader->begin;
    if (reader->begin > 0)
        memmove(reader->buffer, reader->buffer + reader->begin, kept);
    reader->begin = 0;
    reader->end = kept;
    size_t piece = reader->size_bytes < PIECE_BYTES ? (size_t)reader->size_bytes : PIECE_BYTES;
    size_t capacity = needed > piece ? needed : piece;
    if (capacity <= reader->capacity)
        return PR_OK;
    unsigned char *grown = realloc(reader->buffer, capacity);
    if (!grown)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a record of %zu bytes", needed);
    reader->buffer = grown;
    reader->capacity = capacity;
    return PR_OK;
}

// So many bytes from `begin` on, unless the file ends before.
static pr_status fill(pr_journal_reader *reader, size_t needed)
{
    if (reader->end - reader->begin >= needed || reader->ended)
        return PR_OK;
    PR_TRY(make_room(reader, needed));
    while (reader->end < needed && !reader->ended) {
        ssize_t got =
            read(reader->descriptor, reader->buffer + reader->end, reader->capacity - reader->end);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return pr_fail(
                PR_ERR_IO, "cannot read the journal %s: %s", reader->path, strerror(errno));
        reader->ended = got == 0;
        reader->end += (size_t)got;
    }
    return PR_OK;
}

static int64_t rest_of_file(const pr_journal_reader *reader)
{
    return reader->size_bytes - reader->offset;
}

pr_status pr_journal_reader_next(pr_journal_reader *reader, pr_journal_record *record, bool *more)
{
    pr_journal_frame frame;
    *more = false;
    PR_TRY(fill(reader, sizeof frame));
    size_t there = reader->end - reader->begin;
    if (there >= sizeof frame)
        memcpy(&frame, reader->buffer + reader->begin, sizeof frame);
    bool whole = there >= sizeof frame && pr_journal_record_is_frame(&frame, reader->number) &&
                 (int64_t)frame.size_bytes <= rest_of_file(reader);
    size_t bytes = whole ? sizeof frame + pr_journal_padded(frame.size_bytes) : 0;
    if (whole)
        PR_TRY(fill(reader, bytes));
    const unsigned char *data = reader->buffer + reader->begin + sizeof frame;
    whole =
        whole && reader->end - reader->begin >= bytes && pr_journal_record_is_whole(&frame, data);
    if (!whole) {
        reader->torn_bytes = rest_of_file(reader);
        return PR_OK;
    }
    if (frame.version != PR_JOURNAL_VERSION)
        return pr_fail(
            PR_ERR_FORMAT,
            "the journal %s is of version %d, and this program reads version %d: resume with the "
            "program that began it, or remove it",
            reader->path, (int)frame.version, (int)PR_JOURNAL_VERSION);
    *record = (pr_journal_record){
        .kind = (pr_journal_kind)frame.kind,
        .data = data,
        .size_bytes = frame.size_bytes,
        .offset = reader->offset + (int64_t)sizeof frame,
    };
    reader->begin += bytes;
    reader->offset += (int64_t)bytes;
    reader->number++;
    *more = true;
    return PR_OK;
}

int64_t pr_journal_reader_torn_bytes(const pr_journal_reader *reader) { return reader->torn_bytes; }

static bool is_later_frame(const pr_journal_reader *reader, const unsigned char *data)
{
    pr_journal_frame frame;
    memcpy(&frame, data, sizeof frame);
    return frame.number > reader->number && pr_journal_record_is_frame(&frame, frame.number);
}

pr_status pr_journal_reader_look_on(pr_journal_reader *reader, bool *damaged)
{
    *damaged = false;
    size_t at = sizeof(uint64_t);  // where frames may begin: behind the first that is none
    PR_TRY(fill(reader, sizeof(pr_journal_frame)));
    while (!*damaged && reader->end - reader->begin >= at + sizeof(pr_journal_frame)) {
        *damaged = is_later_frame(reader, reader->buffer + reader->begin + at);
        reader->begin += sizeof(uint64_t);
        reader->offset += (int64_t)sizeof(uint64_t);
        PR_TRY(fill(reader, at + sizeof(pr_journal_frame)));
    }
    return PR_OK;
}

pr_status pr_journal_reader_copy(
    const pr_journal_reader *reader, int64_t offset, void *data, size_t size_bytes)
{
    for (size_t done = 0; done < size_bytes;) {
        ssize_t got = pread(
            reader->descriptor, (char *)data + done, size_bytes - done, offset + (int64_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return pr_fail(
                PR_ERR_IO, "cannot read the journal %s: %s", reader->path,
                got < 0 ? strerror(errno) : "it became shorter");
        done += (size_t)got;
    }
    return PR_OK;
}
