// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/parse/delta_list.h"

void pr_delta_list_clear(pr_delta_list *list)
{
    pr_byte_buffer_clear(&list->text);
    pr_byte_buffer_clear(&list->delta);
    list->deltas = 0;
}

void pr_delta_list_free(pr_delta_list *list)
{
    pr_byte_buffer_free(&list->text);
    pr_byte_buffer_free(&list->delta);
}

void pr_delta_list_add(
    pr_delta_list *list, pr_delta_kind kind, int32_t tool, const char *text, size_t size_bytes)
{
    pr_delta *last = list->deltas > 0 ? (pr_delta *)list->delta.data + list->deltas - 1 : NULL;
    if (size_bytes == 0 && kind != PR_DELTA_TOOL_BEGIN)
        return;
    pr_byte_buffer_append(&list->text, text, size_bytes);
    if (last && last->kind == kind && last->tool == tool && kind != PR_DELTA_TOOL_BEGIN) {
        last->size_bytes += size_bytes;
        return;
    }
    pr_delta *made = pr_byte_buffer_extend(&list->delta, sizeof *made);
    if (!made)
        return;
    *made = (pr_delta){.kind = kind, .tool = tool, .size_bytes = size_bytes};
    list->deltas++;
}

pr_status pr_delta_list_finish(pr_delta_list *list, const pr_delta **delta, int32_t *deltas)
{
    pr_delta *made = list->delta.data;
    const char *text = list->text.data;
    PR_TRY(pr_byte_buffer_check(&list->text));
    PR_TRY(pr_byte_buffer_check(&list->delta));
    for (int32_t i = 0; i < list->deltas; i++) {
        made[i].text = text;
        text += made[i].size_bytes;
    }
    *delta = made;
    *deltas = list->deltas;
    return PR_OK;
}
