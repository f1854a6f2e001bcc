// SPDX-License-Identifier: BSD-3-Clause
// Small files of the system as text. A file that is not there is no error: systems differ.
#ifndef PR_LAUNCHER_DOCTOR_TEXT_FILE_H
#define PR_LAUNCHER_DOCTOR_TEXT_FILE_H

#include <stdbool.h>
#include <stddef.h>

// The first line, cut at the size, without its end.
bool pr_text_file_read(const char *path, char *line, size_t size);
// All of it; from malloc, NULL if it cannot be read.
char *pr_text_file_load(const char *path);

#endif
