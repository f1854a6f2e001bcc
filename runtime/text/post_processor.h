// SPDX-License-Identifier: BSD-3-Clause
// What is put around an encoded text: the special tokens of a TemplateProcessing (a beginning-of-
// sequence token, mostly). ByteLevel post-processors only correct offsets, which we do not keep.
// Threads: immutable once loaded.
#ifndef PR_RUNTIME_TEXT_POST_PROCESSOR_H
#define PR_RUNTIME_TEXT_POST_PROCESSOR_H

#include <jansson.h>

#include "runtime/base/status.h"
#include "runtime/text/byte_buffer.h"
#include "runtime/text/vocabulary.h"

typedef struct pr_post_processor pr_post_processor;

// json: the "post_processor" of a tokenizer file; NULL or null adds nothing.
pr_status pr_post_processor_create(
    const json_t *json,
    const pr_vocabulary *vocabulary,
    pr_post_processor **post_processor) PR_MUST_CHECK;
void pr_post_processor_destroy(pr_post_processor *post_processor);

// One token, or nothing (-1), instead of what the file puts in front of the text, or behind it.
pr_status
pr_post_processor_set_front(pr_post_processor *post_processor, int32_t token) PR_MUST_CHECK;
pr_status
pr_post_processor_set_back(pr_post_processor *post_processor, int32_t token) PR_MUST_CHECK;

// token: int32_t[], changed in place.
pr_status pr_post_processor_apply(const pr_post_processor *post_processor, pr_byte_buffer *token)
    PR_MUST_CHECK;

#endif
