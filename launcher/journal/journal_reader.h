// SPDX-License-Identifier: BSD-3-Clause
// The records of one journal file, in order, up to the first that is not whole. Reads in large pieces;
// memory: one piece, or the largest record.
// Threads: one.
#ifndef PR_LAUNCHER_JOURNAL_JOURNAL_READER_H
#define PR_LAUNCHER_JOURNAL_JOURNAL_READER_H

#include "launcher/journal/journal_record.h"
#include "runtime/base/status.h"

typedef struct pr_journal_reader pr_journal_reader;

typedef struct pr_journal_record {
    pr_journal_kind kind;
    const void *data;  // [size_bytes], 8-byte aligned; valid until the next call
    size_t size_bytes;
    int64_t offset;  // of the data in the file
} pr_journal_record;

pr_status pr_journal_reader_open(const char *path, pr_journal_reader **reader) PR_MUST_CHECK;
void pr_journal_reader_close(pr_journal_reader *reader);

// *more: false at the end. PR_ERR_IO; PR_ERR_FORMAT: a whole record of another version.
pr_status pr_journal_reader_next(pr_journal_reader *reader, pr_journal_record *record, bool *more)
    PR_MUST_CHECK;

// After the end: bytes behind the last whole record.
int64_t pr_journal_reader_torn_bytes(const pr_journal_reader *reader);
// After the end: whether a later record begins there. Then the file was not cut while it was written, it is
// damaged. PR_ERR_IO.
pr_status pr_journal_reader_look_on(pr_journal_reader *reader, bool *damaged) PR_MUST_CHECK;

// Copies [offset, offset + size_bytes) of the file.
pr_status pr_journal_reader_copy(
    const pr_journal_reader *reader, int64_t offset, void *data, size_t size_bytes) PR_MUST_CHECK;

#endif
