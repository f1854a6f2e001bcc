// SPDX-License-Identifier: BSD-3-Clause
// A line of a trace is taken within its bounds or refused, whatever it holds: first as JSON, then as
// CSV under the header that the line itself makes, then under a full one.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/simulate/trace_line.h"
#include "runtime/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(pr_status status, const pr_trace_line *line)
{
    if (status != PR_OK)
        return;
    assert(line->prompt_tokens >= 1 && line->outputs >= 1 && line->blocks >= 0);
    assert(isnan(line->stamp_s) || (line->stamp_s >= 0 && isfinite(line->stamp_s)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const pr_trace_columns full = {0, 2, 3, 1};
    char *text = malloc(size + 1);
    pr_byte_buffer ids = {0};
    pr_trace_line line = {0};
    pr_trace_columns columns;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    pr_error_capture_begin();
    pr_status status = pr_trace_line_read_json("trace", 1, text, 512, &line, &ids);
    check_line(status, &line);
    assert(status != PR_OK || ids.size_bytes == (size_t)line.blocks * sizeof(int64_t));
    if (pr_trace_columns_read("trace", text, &columns) == PR_OK)
        check_line(pr_trace_line_read_csv("trace", 1, text, &columns, &line), &line);
    check_line(pr_trace_line_read_csv("trace", 1, text, &full, &line), &line);
    pr_error_capture_end();
    pr_byte_buffer_free(&ids);
    free(text);
    return 0;
}
