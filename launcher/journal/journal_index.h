// SPDX-License-Identifier: BSD-3-Clause
// What is known of each line of the input, by position: claimed, its tokens so far, or where its result
// stands. Filled from the records of all files of a journal, and kept up to date by the run that writes.
// A later record of something known changes nothing: whoever computed it, the bytes are the same.
// Threads: one. Memory: 72 bytes a position; tokens only of lines without a result.
#ifndef PR_LAUNCHER_JOURNAL_JOURNAL_INDEX_H
#define PR_LAUNCHER_JOURNAL_JOURNAL_INDEX_H

#include "launcher/journal/journal_reader.h"
#include "runtime/batch/plan.h"

// The tokens of one sequence of a line, from index 0 on without a gap.
typedef struct pr_journal_answer {
    int32_t answer, tokens, capacity;
    pr_token_report *token;  // [tokens], with owned tops; id and generation are 0
} pr_journal_answer;

typedef struct pr_journal_entry {
    bool claimed, done, refused;
    int32_t file;  // of the result, as numbered by the caller
    pr_journal_claim claim;
    int64_t result_offset;  // of the result's line in its file
    uint32_t result_bytes;
    int32_t answers;
    pr_journal_answer *answer;  // [answers], in the order of their first token
} pr_journal_entry;

typedef struct pr_journal_totals {
    int64_t claimed, answered, refused;    // lines
    int64_t prompt_tokens, output_tokens;  // of answered lines
} pr_journal_totals;

typedef struct pr_journal_index {
    pr_journal_entry *entry;      // [capacity]
    int64_t positions, capacity;  // positions: 1 + the largest seen
    pr_journal_totals totals;
} pr_journal_index;

void pr_journal_index_clear(pr_journal_index *index);

// Takes a record of file number `file`. One that cannot be is ignored. PR_ERR_RESOURCE.
pr_status pr_journal_index_add(
    pr_journal_index *index, int32_t file, const pr_journal_record *record) PR_MUST_CHECK;

pr_status
pr_journal_index_claim(pr_journal_index *index, const pr_journal_claim *claim) PR_MUST_CHECK;
// The result's line stands at offset of the file.
void pr_journal_index_finish(
    pr_journal_index *index,
    int32_t file,
    const pr_journal_result *result,
    int64_t line_offset,
    size_t line_bytes);
// Its tokens are no longer needed: they are where they go on.
void pr_journal_index_forget_tokens(pr_journal_index *index, int64_t position);

// NULL: nothing is known of it.
const pr_journal_entry *pr_journal_index_find(const pr_journal_index *index, int64_t position);

#endif
