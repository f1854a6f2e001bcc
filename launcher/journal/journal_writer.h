// SPDX-License-Identifier: BSD-3-Clause
// Appends records to a new file of a journal. Records collect in memory until flush gives them to the
// system in one write: what was flushed survives the end of the process, however it comes. A thread of
// its own makes it survive the machine too (fdatasync), every sync_ms while there is something new.
// Threads: one, beside its own. Cost: one system call for each flush with something to write.
#ifndef PR_LAUNCHER_JOURNAL_JOURNAL_WRITER_H
#define PR_LAUNCHER_JOURNAL_JOURNAL_WRITER_H

#include "launcher/journal/journal_record.h"
#include "runtime/base/status.h"

typedef struct pr_journal_writer pr_journal_writer;

// Creates the file, which must not be there (PR_ERR_NOT_FOUND and nothing told if it is: another
// writer was quicker). sync_ms 0: every flush waits for the disk.
pr_status pr_journal_writer_create(const char *path, int32_t sync_ms, pr_journal_writer **writer)
    PR_MUST_CHECK;
// Flushes, waits for the disk. After an error of any function only this is left.
pr_status pr_journal_writer_close(pr_journal_writer *writer) PR_MUST_CHECK;

// A record whose data is head[head_bytes] and then tail[tail_bytes]. PR_ERR_RESOURCE.
pr_status pr_journal_writer_add(
    pr_journal_writer *writer,
    pr_journal_kind kind,
    const void *head,
    size_t head_bytes,
    const void *tail,
    size_t tail_bytes) PR_MUST_CHECK;

// A token, into the record that collects those of one flush.
pr_status pr_journal_writer_add_token(
    pr_journal_writer *writer, const pr_journal_token *token, const void *tops, size_t tops_bytes)
    PR_MUST_CHECK;

// PR_ERR_IO: the line says what the disk said.
pr_status pr_journal_writer_flush(pr_journal_writer *writer) PR_MUST_CHECK;

// Where the data of the record added last will stand in the file. No token was added since.
int64_t pr_journal_writer_last_offset(const pr_journal_writer *writer);

#endif
