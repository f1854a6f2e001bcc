// SPDX-License-Identifier: BSD-3-Clause
// The deltas of one feed of a message parser: neighbours of one kind become one.
// Threads: none of its own.
#ifndef PR_LAUNCHER_PARSE_DELTA_LIST_H
#define PR_LAUNCHER_PARSE_DELTA_LIST_H

#include "launcher/openai/message_parser.h"
#include "runtime/text/byte_buffer.h"

typedef struct pr_delta_list {
    pr_byte_buffer text;   // all deltas' texts, one after the other
    pr_byte_buffer delta;  // pr_delta[deltas]; `text` is NULL until finish
    int32_t deltas;
} pr_delta_list;

void pr_delta_list_clear(pr_delta_list *list);
void pr_delta_list_free(pr_delta_list *list);
void pr_delta_list_add(
    pr_delta_list *list, pr_delta_kind kind, int32_t tool, const char *text, size_t size_bytes);
// Valid until the list changes. PR_ERR_RESOURCE when an add found no memory.
pr_status
pr_delta_list_finish(pr_delta_list *list, const pr_delta **delta, int32_t *deltas) PR_MUST_CHECK;

#endif
