// SPDX-License-Identifier: BSD-3-Clause
// The output of a finished batch: the results from the files of its journal, put together in a draft
// in the journal's folder, which takes the output's place when it is whole and on disk. The draft bears the
// number of its run: two runs that finish at once do not write the same.
// Threads: one. Memory: 8 bytes a line in the order of completion.
#ifndef PR_LAUNCHER_JOURNAL_ASSEMBLY_H
#define PR_LAUNCHER_JOURNAL_ASSEMBLY_H

#include "launcher/journal/journal_index.h"

typedef struct pr_assembly_params {
    const char *output, *folder;
    const int32_t
        *number;  // [numbers] of the files that the index calls 0, 1, ...; the last is this run's
    int32_t numbers;
    const pr_journal_index *index;
    int64_t first, end;  // positions
    bool input_order;    // else in the order of completion
} pr_assembly_params;

// PR_ERR_IO: what was at the output's place is still there, and so is the journal.
pr_status pr_assembly_write(const pr_assembly_params *params) PR_MUST_CHECK;

#endif
