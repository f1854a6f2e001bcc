// SPDX-License-Identifier: BSD-3-Clause
// A file that holds one API key: made with random bytes, and read only while nobody else may read it.
// Threads: any.
#ifndef PR_LAUNCHER_SERVE_KEY_FILE_H
#define PR_LAUNCHER_SERVE_KEY_FILE_H

#include "runtime/base/status.h"

enum { PR_KEY_BYTES = 512 };  // longest key, with its end

// A new random key of 256 bits into the file, mode 0600, and into key. What was there is replaced.
pr_status pr_key_file_make(const char *path, char key[PR_KEY_BYTES]) PR_MUST_CHECK;

// The first line. PR_ERR_ARGUMENT: the file is another user's, or group or others may read it, or its first line
// is no key (1..510 printable ASCII characters without blanks). PR_ERR_IO: it cannot be read.
pr_status pr_key_file_read(const char *path, char key[PR_KEY_BYTES]) PR_MUST_CHECK;

#endif
