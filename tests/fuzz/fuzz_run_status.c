// SPDX-License-Identifier: BSD-3-Clause
// The status of any server as a picture: no more lines than asked for, and no control character but line breaks.
// The first two bytes are the size of the terminal, the rest is JSON.
#include <stdint.h>
#include <stdlib.h>

#include "launcher/client/run_status.h"
#include "launcher/client/top_view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds)
{
    if (!holds)
        abort();
}

static void render(const pr_run_status *status, int32_t columns, int32_t rows)
{
    pr_byte_buffer out = {0};
    pr_rate_history history = {0};
    pr_rate_history_add(&history, 1, status->generated_per_s);
    pr_top_view view = {
        .status = status,
        .before = status,
        .between_s = 1,
        .output = &history,
        .now_s = 1,
        .url = status->layout,
        .columns = columns,
        .rows = rows,
        .unicode = true,
        .keys = true,
    };
    pr_top_view_render(&view, &out);
    int32_t breaks = 0;
    for (size_t i = 0; i < out.size_bytes; i++) {
        unsigned char c = ((unsigned char *)out.data)[i];
        must((c >= ' ' && c != 0x7f) || c == '\n');
        breaks += c == '\n';
    }
    must(breaks < rows || (breaks == 0 && rows == 0));
    pr_byte_buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    json_t *root = json_loadb((const char *)data + 2, size - 2, JSON_ALLOW_NUL, NULL);
    pr_run_status status;
    if (root && pr_run_status_parse(root, &status) == PR_OK) {
        render(&status, data[0], data[1]);
        pr_run_status_clear(&status);
    }
    json_decref(root);
    return 0;
}
