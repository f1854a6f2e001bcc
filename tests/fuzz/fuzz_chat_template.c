// SPDX-License-Identifier: BSD-3-Clause
// A template and, behind a NUL, its variables as JSON: whatever the bytes, a fault of one line, or a prompt that is UTF-8
// and whose ranges are in order.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/template/chat_template.h"
#include "runtime/text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_utf8(const char *text, size_t size_bytes)
{
    pr_byte_buffer same = {0};
    (void)pr_utf8_repair(text, size_bytes, true, &same);
    require(same.size_bytes == size_bytes);
    require(size_bytes == 0 || memcmp(same.data, text, size_bytes) == 0);
    pr_byte_buffer_free(&same);
}

static void check_fault(pr_status status)
{
    require(status < 0 && strlen(pr_error_text()) > 0);
    check_utf8(pr_error_text(), strlen(pr_error_text()));
}

static void try_render(const pr_chat_template *chat_template, const json_t *variables)
{
    pr_rendered rendered;
    pr_status status = pr_chat_template_render(chat_template, variables, &rendered);
    if (status != PR_OK) {
        check_fault(status);
        return;
    }
    size_t done = 0;
    check_utf8(rendered.text, rendered.size_bytes);
    for (int32_t i = 0; i < rendered.ranges; i++) {
        require(rendered.range[i].begin >= done && rendered.range[i].end > rendered.range[i].begin);
        require(i == 0 || rendered.range[i].begin > done);
        done = rendered.range[i].end;
    }
    require(done <= rendered.size_bytes);
    pr_rendered_free(&rendered);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    size_t template_bytes = end ? (size_t)(end - data) : size;
    pr_chat_template *chat_template;
    if (size > 1 << 16)
        return 0;
    json_t *variables =
        end ? json_loadb((const char *)end + 1, size - template_bytes - 1, JSON_ALLOW_NUL, NULL)
            : NULL;
    if (!variables)
        variables = json_object();
    pr_error_capture_begin();
    pr_status status = pr_chat_template_parse((const char *)data, template_bytes, &chat_template);
    if (status == PR_OK) {
        try_render(chat_template, variables);
        pr_chat_template_close(chat_template);
    } else {
        check_fault(status);
    }
    pr_error_capture_end();
    json_decref(variables);
    return 0;
}
