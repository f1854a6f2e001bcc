// SPDX-License-Identifier: BSD-3-Clause
// The directory that `polyreme convert` makes: that it is a new one, and the small files of a model that go
// along with its weights.
// Threads: the caller's.
#ifndef PR_LAUNCHER_CONVERT_CONVERT_FILES_H
#define PR_LAUNCHER_CONVERT_CONVERT_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

// Makes the directory, or takes an empty one. *made: it was not there. PR_ERR_ARGUMENT: there is something
// in it; PR_ERR_IO: it cannot be made or written to.
pr_status pr_convert_files_make_directory(const char *path, bool *made) PR_MUST_CHECK;

// Copies every plain file that holds no weights (by its ending) and is not hidden.
pr_status pr_convert_files_copy(const char *from, const char *to, int32_t *files) PR_MUST_CHECK;

#endif
