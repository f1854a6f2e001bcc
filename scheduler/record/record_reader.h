// SPDX-License-Identifier: BSD-3-Clause
// Reads what record.h writes, one event at a time.
// Input is not trusted: PR_ERR_FORMAT names the line. Cost: linear in the line. Threads: one.
#ifndef PR_SCHEDULER_RECORD_RECORD_READER_H
#define PR_SCHEDULER_RECORD_RECORD_READER_H

#include <stdio.h>

#include "scheduler/scheduler.h"

typedef struct pr_record_reader pr_record_reader;

typedef enum pr_record_kind {
    PR_RECORD_SUBMIT,
    PR_RECORD_REPORT,
    PR_RECORD_CANCEL,
    PR_RECORD_ADVANCE,
    PR_RECORD_END,
    PR_RECORD_LOST,
    PR_RECORD_BACK,
    PR_RECORD_PAUSE,
    PR_RECORD_PLAN,
    PR_RECORD_ROLE,
    PR_RECORD_NEXT,
    PR_RECORD_HASH,
} pr_record_kind;

typedef struct pr_record_admission {
    uint64_t id;
    int32_t lane, cached;
    bool arrives;
} pr_record_admission;

typedef struct pr_record_handover {
    uint64_t id;
    int32_t from_group, to_group, blocks;
} pr_record_handover;

// Arrays are the reader's until the next read.
typedef struct pr_record_event {
    pr_record_kind kind;
    int64_t now_ns;       // of the last ADVANCE, this one included
    pr_request *request;  // SUBMIT: given to the caller
    pr_report report;     // REPORT
    uint64_t id;          // CANCEL
    int64_t end_ns;       // END
    pr_at_end at_end;     // END
    int32_t calls;        // NEXT
    uint64_t hash;        // NEXT: the lower 32 bits; HASH
    pr_role role;         // ROLE, of group
    bool paused;          // PAUSE
    // LOST, BACK, ROLE: group. PLAN: all
    uint64_t plan;
    int32_t group, max_steps, chunks, admissions;
    const pr_record_admission *admission;
    int32_t handovers;
    const pr_record_handover *handover;
} pr_record_event;

// Reads the first line. The stream is borrowed for the reader's life.
pr_status pr_record_reader_open(FILE *events, pr_record_reader **reader) PR_MUST_CHECK;
void pr_record_reader_close(pr_record_reader *reader);

// With the layout they point to, the reader's.
const pr_scheduler_params *pr_record_reader_params(const pr_record_reader *reader);

// *more: false at the end of the file, or after PR_RECORD_HASH.
pr_status
pr_record_reader_next(pr_record_reader *reader, pr_record_event *event, bool *more) PR_MUST_CHECK;

int64_t pr_record_reader_line(const pr_record_reader *reader);  // of the last event, from 1

// PR_ERR_FORMAT with the number of the line read last.
pr_status pr_record_reader_fail(const pr_record_reader *reader, const char *what);

#endif
