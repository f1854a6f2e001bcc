// SPDX-License-Identifier: BSD-3-Clause
// A journal file and what is known from it. The first byte of the input says what is done with the rest:
//   0  it is a file as it lies on a disk
//   1  it is a row of records {u8 kind, u8 size, data}, which are sealed as a writer would, so that what is inside
//      them is reached too
// Positions of more than 16 bits are left out: an index takes memory for all positions below.
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "launcher/journal/journal_index.h"
#include "runtime/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_POSITIONS = 1 << 16 };

static void write_all(int descriptor, const void *data, size_t size)
{
    if (write(descriptor, data, size) != (ssize_t)size)
        abort();
}

static void write_sealed(int descriptor, const uint8_t *data, size_t size)
{
    for (uint32_t number = 0; size >= 2; number++) {
        pr_journal_frame frame;
        _Alignas(8) uint8_t copy[256] = {0};
        size_t bytes = data[1] < size - 2 ? data[1] : size - 2;
        memcpy(copy, data + 2, bytes);
        pr_journal_record_seal(&frame, (pr_journal_kind)(data[0] % 7), number, copy, bytes);
        write_all(descriptor, &frame, sizeof frame);
        write_all(descriptor, copy, pr_journal_padded(bytes));
        data += 2 + bytes;
        size -= 2 + bytes;
    }
}

static bool is_far(const pr_journal_record *record)
{
    int64_t position;
    if (record->kind != PR_JOURNAL_CLAIM || record->size_bytes < sizeof position)
        return false;
    memcpy(&position, record->data, sizeof position);
    return position >= MOST_POSITIONS;
}

// What the index promises: indices without gaps, no tokens of a finished line, sums that fit.
static void check(const pr_journal_index *index)
{
    int64_t claimed = 0, done = 0;
    for (int64_t i = 0; i < index->positions; i++) {
        const pr_journal_entry *entry = pr_journal_index_find(index, i);
        if (!entry)
            continue;
        claimed++;
        done += entry->done;
        if (entry->done && entry->answers > 0)
            abort();
        for (int32_t a = 0; a < entry->answers; a++) {
            for (int32_t t = 0; t < entry->answer[a].tokens; t++) {
                const pr_token_report *token = &entry->answer[a].token[t];
                if (token->index != t || token->tops < 0 || token->tops > PR_MAX_TOP_LOGPROBS)
                    abort();
            }
        }
    }
    if (claimed != index->totals.claimed || done != index->totals.answered + index->totals.refused)
        abort();
}

static void read_back(pr_journal_reader *reader)
{
    pr_journal_index index = {0};
    pr_journal_record record;
    bool more = true;
    int64_t end = 0;
    for (;;) {
        if (pr_journal_reader_next(reader, &record, &more) != PR_OK || !more)
            break;
        if (record.offset != end + (int64_t)sizeof(pr_journal_frame) ||
            (uintptr_t)record.data % 8 != 0)
            abort();
        end = record.offset + (int64_t)pr_journal_padded(record.size_bytes);
        if (!is_far(&record) && pr_journal_index_add(&index, 0, &record) != PR_OK)
            abort();
    }
    check(&index);
    pr_journal_index_clear(&index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    pr_journal_reader *reader;
    int descriptor = memfd_create("journal", MFD_CLOEXEC);
    if (size == 0 || descriptor < 0)
        return 0;
    if (data[0] % 2 == 0)
        write_all(descriptor, data + 1, size - 1);
    else
        write_sealed(descriptor, data + 1, size - 1);
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    pr_error_capture_begin();
    if (pr_journal_reader_open(path, &reader) == PR_OK) {
        read_back(reader);
        pr_journal_reader_close(reader);
    }
    pr_error_capture_end();
    close(descriptor);
    return 0;
}
