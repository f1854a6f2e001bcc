// SPDX-License-Identifier: BSD-3-Clause
// The journal of a batch: a folder OUT.journal beside the output OUT, in which each run that works on
// OUT keeps one file of its own (journal_record.h), 000001.journal, 000002.journal, ... What is in the
// files is durable: claims of input lines, tokens as they come, results. When every line has its result
// they are put together, OUT appears as a whole, and the folder can go.
//
// No locks: files are only created (O_EXCL) and appended to, each by one process, so local disks, NFS
// and Lustre serve alike. A run that finds a file numbered after its own, or its own gone, has been
// superseded and ends. Two runs at once cost time but no bytes: what both compute is the same.
// Threads: one. Format and rules: docs/journal.md.
#ifndef PR_LAUNCHER_JOURNAL_JOURNAL_H
#define PR_LAUNCHER_JOURNAL_JOURNAL_H

#include "launcher/journal/journal_index.h"

typedef struct pr_journal pr_journal;

typedef struct pr_journal_params {
    const char *output;  // borrowed for the journal's life
    bool resume;         // else it is an error if an earlier run has left a journal
    int32_t sync_ms;     // journal_writer.h
    uint64_t identity;   // of what answers depend on
    const char *identity_text;
} pr_journal_params;

// Whether OUT has a journal with files in it. PR_ERR_IO.
pr_status pr_journal_exists(const char *output, bool *exists) PR_MUST_CHECK;

// An earlier run's is there and resume was not asked for: PR_ERR_ARGUMENT, with the line that says so.
pr_status pr_journal_refuse_earlier(const char *output) PR_MUST_CHECK;

// Reads what earlier runs left and begins this run's file. PR_ERR_ARGUMENT: it is there and resume was
// not asked for, or it is of another model or other options.
pr_status pr_journal_open(const pr_journal_params *params, pr_journal **journal) PR_MUST_CHECK;

// Removes it. What cannot be removed is told, and stays.
void pr_journal_discard(const char *output);

// Only reads; for a report on a run that may be going on elsewhere.
pr_status pr_journal_read(const char *output, pr_journal_index *index) PR_MUST_CHECK;

const pr_journal_index *pr_journal_known(const pr_journal *journal);

// What is known of a line; NULL: nothing. PR_ERR_ARGUMENT if another line is known there: the input has
// changed. Of the claim only position, number and line_hash matter.
pr_status pr_journal_find(
    const pr_journal *journal,
    const pr_journal_claim *claim,
    const pr_journal_entry **known) PR_MUST_CHECK;
// A line of the input was taken. Fails as find does.
pr_status pr_journal_add_claim(pr_journal *journal, const pr_journal_claim *claim) PR_MUST_CHECK;
pr_status pr_journal_add_token(
    pr_journal *journal, int64_t position, int32_t answer, const pr_token_report *token)
    PR_MUST_CHECK;
// The line, with its newline, is the result.
pr_status pr_journal_add_result(
    pr_journal *journal, const pr_journal_result *result, const char *line) PR_MUST_CHECK;
// The known tokens of a line have been taken up.
void pr_journal_forget_tokens(pr_journal *journal, int64_t position);

// What came since the last flush survives this process from here on.
pr_status pr_journal_flush(pr_journal *journal) PR_MUST_CHECK;

// PR_ERR_PEER: another run has taken over, or has finished. To be asked every few seconds.
pr_status pr_journal_look_for_others(const pr_journal *journal) PR_MUST_CHECK;

// Puts the results of positions [first, end), all of which must be there, together as OUT: in the
// order of the input, or of their completion. PR_ERR_PEER: as above. Then only close and discard are left.
pr_status pr_journal_assemble(pr_journal *journal, int64_t first, int64_t end, bool input_order)
    PR_MUST_CHECK;

// Flushes and closes; `in_order`: says in the file that the run has ended by itself. NULL is fine.
pr_status pr_journal_close(pr_journal *journal, bool in_order) PR_MUST_CHECK;

#endif
