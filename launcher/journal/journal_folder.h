// SPDX-License-Identifier: BSD-3-Clause
// The folder OUT.journal and the names of its files: 000001.journal, 000002.journal, ... and, while run 2
// puts the output together, 000002.output. Other names are left alone.
// Threads: any.
#ifndef PR_LAUNCHER_JOURNAL_JOURNAL_FOLDER_H
#define PR_LAUNCHER_JOURNAL_JOURNAL_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

// "OUT.journal", from malloc; NULL without memory.
char *pr_journal_folder_path(const char *output);
char *pr_journal_folder_file(const char *folder, int32_t number);
char *pr_journal_folder_draft(const char *folder, int32_t number);

// The numbers of the journal files, ascending, from malloc. A folder that is not there has none. PR_ERR_IO.
pr_status
pr_journal_folder_list(const char *folder, int32_t **number, int32_t *numbers) PR_MUST_CHECK;

// Makes the folder, if it is not there. PR_ERR_IO.
pr_status pr_journal_folder_create(const char *folder) PR_MUST_CHECK;
// The files with such names, and the folder if nothing else is in it. What cannot be removed is told, and
// stays.
void pr_journal_folder_remove(const char *folder);

// The folder that the file of this path is in, from malloc; NULL without memory.
char *pr_journal_folder_parent(const char *path);
// Makes what was created, renamed or removed in the folder of this path survive the machine.
void pr_journal_folder_sync(const char *path);

#endif
