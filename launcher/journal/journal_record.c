// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/journal/journal_record.h"

#include "runtime/base/hash.h"

static const uint32_t MAGIC = 0x6a6e7250;  // "Prnj"

enum { CHECKED_BYTES = offsetof(pr_journal_frame, checksum) };

static uint64_t checksum_of(const pr_journal_frame *frame, const void *data)
{
    uint64_t seed = pr_hash_bytes(0, frame, CHECKED_BYTES);
    return frame->size_bytes ? pr_hash_bytes(seed, data, frame->size_bytes) : seed;
}

void pr_journal_record_seal(
    pr_journal_frame *frame,
    pr_journal_kind kind,
    uint32_t number,
    const void *data,
    size_t size_bytes)
{
    *frame = (pr_journal_frame){
        .magic = MAGIC,
        .version = PR_JOURNAL_VERSION,
        .kind = (uint16_t)kind,
        .size_bytes = (uint32_t)size_bytes,
        .number = number,
    };
    frame->checksum = checksum_of(frame, data);
}

bool pr_journal_record_is_frame(const pr_journal_frame *frame, uint32_t number)
{
    return frame->magic == MAGIC && frame->number == number;
}

bool pr_journal_record_is_whole(const pr_journal_frame *frame, const void *data)
{
    return frame->checksum == checksum_of(frame, data);
}
