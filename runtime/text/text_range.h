// SPDX-License-Identifier: BSD-3-Clause
// A part of a text, in bytes.
#ifndef PR_RUNTIME_TEXT_TEXT_RANGE_H
#define PR_RUNTIME_TEXT_TEXT_RANGE_H

#include <stddef.h>

typedef struct pr_text_range {
    size_t begin, end;  // [begin, end)
} pr_text_range;

#endif
