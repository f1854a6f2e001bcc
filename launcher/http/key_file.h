// SPDX-License-Identifier: BSD-3-Clause
// Files that hold API keys: made with random bytes, and read only while nobody else may read them.
// Threads: any.
#ifndef PR_LAUNCHER_HTTP_KEY_FILE_H
#define PR_LAUNCHER_HTTP_KEY_FILE_H

#include <stdio.h>

#include "runtime/base/status.h"

enum { PR_KEY_BYTES = 512 };  // longest key, with its end

// For reading; the caller closes it. PR_ERR_ARGUMENT: it is no file, another user's (but root's), or open to group or
// others. PR_ERR_IO: it cannot be opened. The opened file is looked at, not the path: what was checked is what is read.
pr_status pr_key_file_open(const char *path, FILE **file) PR_MUST_CHECK;

// A new random key into the file, mode 0600, and into key. What was there is replaced.
pr_status pr_key_file_make(const char *path, char key[PR_KEY_BYTES]) PR_MUST_CHECK;

// The first line, as open; PR_ERR_ARGUMENT also if it is no key (1..510 printable ASCII characters without blanks).
pr_status pr_key_file_read(const char *path, char key[PR_KEY_BYTES]) PR_MUST_CHECK;

#endif
