// SPDX-License-Identifier: BSD-3-Clause
// One number for the files of a model directory: names, sizes, and the first and last bytes of each.
// Other weights, another tokenizer or template give another number. Hidden files and *.md do not count.
// Cost: two small reads a file. Threads: any.
#ifndef PR_LAUNCHER_JOURNAL_MODEL_IDENTITY_H
#define PR_LAUNCHER_JOURNAL_MODEL_IDENTITY_H

#include <stdint.h>

#include "runtime/base/status.h"

// The same for one file that is not among them.
pr_status pr_model_identity_of_file(const char *path, uint64_t *identity) PR_MUST_CHECK;
pr_status pr_model_identity(const char *folder, uint64_t *identity) PR_MUST_CHECK;

#endif
