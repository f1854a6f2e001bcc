// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/journal/journal_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/file_write.h"
#include "runtime/base/log.h"
#include "runtime/text/byte_buffer.h"

struct pr_journal_writer {
    char *path;
    int descriptor;
    int32_t sync_ms;
    uint32_t number;         // of the next record
    pr_byte_buffer records;  // sealed and not yet written
    pr_byte_buffer tokens;   // data of the record that is being collected
    int64_t written_bytes;   // of the file
    int64_t last_offset;
    bool failed;  // the file may end in half a record: nothing more is written
    // The thread that waits for the disk.
    bool syncs;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t call;
    bool dirty, ends;  // under the lock
    atomic_int sync_errno;
};

static void *sync_until_end(void *argument)
{
    pr_journal_writer *writer = argument;
    pthread_mutex_lock(&writer->lock);
    while (!writer->ends) {
        if (!writer->dirty) {
            pthread_cond_wait(&writer->call, &writer->lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        int64_t nanoseconds = until.tv_nsec + (int64_t)writer->sync_ms * 1000000;
        until.tv_sec += nanoseconds / 1000000000;
        until.tv_nsec = nanoseconds % 1000000000;
        while (!writer->ends &&
               pthread_cond_timedwait(&writer->call, &writer->lock, &until) != ETIMEDOUT)
            continue;
        writer->dirty = false;
        pthread_mutex_unlock(&writer->lock);
        if (fdatasync(writer->descriptor) != 0)
            atomic_store(&writer->sync_errno, errno);
        pthread_mutex_lock(&writer->lock);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

static pr_status start_thread(pr_journal_writer *writer)
{
    if (writer->sync_ms == 0)
        return PR_OK;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->call, NULL);
    if (pthread_create(&writer->thread, NULL, sync_until_end, writer) != 0)
        return pr_fail(PR_ERR_RESOURCE, "cannot start the journal's thread");
    pthread_setname_np(writer->thread, "journal");
    writer->syncs = true;
    return PR_OK;
}

static void destroy(pr_journal_writer *writer)
{
    if (writer->descriptor >= 0)
        close(writer->descriptor);
    pr_byte_buffer_free(&writer->records);
    pr_byte_buffer_free(&writer->tokens);
    free(writer->path);
    free(writer);
}

pr_status pr_journal_writer_create(const char *path, int32_t sync_ms, pr_journal_writer **writer)
{
    pr_journal_writer *made = calloc(1, sizeof *made);
    if (made)
        made->path = strdup(path);
    if (!made || !made->path) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for the journal");
    }
    made->sync_ms = sync_ms;
    made->descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    pr_status status = PR_OK;
    if (made->descriptor < 0 && errno == EEXIST)
        status = PR_ERR_NOT_FOUND;
    else if (made->descriptor < 0)
        status = pr_fail(
            PR_ERR_IO, "cannot write the journal %s: %s: choose another place with -o", path,
            strerror(errno));
    else
        status = start_thread(made);
    if (status != PR_OK) {
        destroy(made);
        return status;
    }
    *writer = made;
    return PR_OK;
}

pr_status pr_journal_writer_add(
    pr_journal_writer *writer,
    pr_journal_kind kind,
    const void *head,
    size_t head_bytes,
    const void *tail,
    size_t tail_bytes)
{
    pr_byte_buffer *to = &writer->records;
    pr_journal_frame frame;
    size_t size_bytes = head_bytes + tail_bytes, padded = pr_journal_padded(size_bytes);
    if (size_bytes > UINT32_MAX - sizeof frame)
        return pr_fail(PR_ERR_RESOURCE, "a result of %zu bytes is too long to keep", size_bytes);
    size_t begin = to->size_bytes;
    unsigned char *record = pr_byte_buffer_extend(to, sizeof frame + padded);
    if (!record)
        return pr_byte_buffer_check(to);
    unsigned char *data = record + sizeof frame;
    if (head_bytes > 0)
        memcpy(data, head, head_bytes);
    if (tail_bytes > 0)
        memcpy(data + head_bytes, tail, tail_bytes);
    memset(data + size_bytes, 0, padded - size_bytes);
    pr_journal_record_seal(&frame, kind, writer->number++, data, size_bytes);
    memcpy(record, &frame, sizeof frame);
    writer->last_offset = writer->written_bytes + (int64_t)(begin + sizeof frame);
    return PR_OK;
}

pr_status pr_journal_writer_add_token(
    pr_journal_writer *writer, const pr_journal_token *token, const void *tops, size_t tops_bytes)
{
    pr_byte_buffer_append(&writer->tokens, token, sizeof *token);
    pr_byte_buffer_append(&writer->tokens, tops, tops_bytes);
    return pr_byte_buffer_check(&writer->tokens);
}

static pr_status fail_write(pr_journal_writer *writer, int reason)
{
    writer->failed = true;
    return pr_fail(
        PR_ERR_IO, "cannot write the journal %s: %s: make room there, then go on with --resume",
        writer->path, strerror(reason));
}

static pr_status write_records(pr_journal_writer *writer)
{
    pr_byte_buffer *from = &writer->records;
    if (pr_file_write(writer->descriptor, from->data, from->size_bytes) != from->size_bytes)
        return fail_write(writer, errno);
    writer->written_bytes += (int64_t)from->size_bytes;
    pr_byte_buffer_clear(from);
    return PR_OK;
}

static pr_status wait_for_disk(pr_journal_writer *writer)
{
    if (!writer->syncs)
        return fdatasync(writer->descriptor) == 0 ? PR_OK : fail_write(writer, errno);
    pthread_mutex_lock(&writer->lock);
    if (!writer->dirty)
        pthread_cond_signal(&writer->call);
    writer->dirty = true;
    pthread_mutex_unlock(&writer->lock);
    int reason = atomic_load(&writer->sync_errno);
    return reason == 0 ? PR_OK : fail_write(writer, reason);
}

pr_status pr_journal_writer_flush(pr_journal_writer *writer)
{
    if (writer->tokens.size_bytes > 0) {
        PR_TRY(pr_journal_writer_add(
            writer, PR_JOURNAL_TOKENS, writer->tokens.data, writer->tokens.size_bytes, NULL, 0));
        pr_byte_buffer_clear(&writer->tokens);
    }
    if (writer->records.size_bytes == 0 || writer->failed)
        return PR_OK;
    PR_TRY(write_records(writer));
    return wait_for_disk(writer);
}

int64_t pr_journal_writer_last_offset(const pr_journal_writer *writer)
{
    return writer->last_offset;
}

pr_status pr_journal_writer_close(pr_journal_writer *writer)
{
    if (!writer)
        return PR_OK;
    pr_status status = pr_journal_writer_flush(writer);
    if (writer->syncs) {
        pthread_mutex_lock(&writer->lock);
        writer->ends = true;
        pthread_cond_signal(&writer->call);
        pthread_mutex_unlock(&writer->lock);
        pthread_join(writer->thread, NULL);
        pthread_cond_destroy(&writer->call);
        pthread_mutex_destroy(&writer->lock);
    }
    if (status == PR_OK && !writer->failed && fdatasync(writer->descriptor) != 0)
        status = fail_write(writer, errno);
    destroy(writer);
    return status;
}
