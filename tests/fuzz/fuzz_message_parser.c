// SPDX-License-Identifier: BSD-3-Clause
// What a model writes is taken apart within its bounds, and the same however it is cut. The first byte picks
// the format, the second the cuts, the rest is the text. Without calls and reasoning, content is the text.
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/openai/message_parser.h"
#include "runtime/base/hash.h"
#include "runtime/text/byte_buffer.h"
#include "runtime/text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct parsed {
    pr_byte_buffer record;  // kinds, calls and texts; neighbours of one kind are one
    pr_byte_buffer content;
    int32_t kind, tool, calls;
} parsed;

static bool is_valid(const char *text, size_t size_bytes)
{
    pr_byte_buffer repaired = {0};
    pr_utf8_repair(text, size_bytes, true, &repaired);
    bool valid = repaired.size_bytes == size_bytes && memcmp(repaired.data, text, size_bytes) == 0;
    pr_byte_buffer_free(&repaired);
    return valid;
}

static void note(parsed *reply, const pr_delta *delta)
{
    assert(delta->size_bytes > 0 && is_valid(delta->text, delta->size_bytes));
    bool begin = delta->kind == PR_DELTA_TOOL_BEGIN;
    bool arguments = delta->kind == PR_DELTA_TOOL_ARGUMENTS;
    assert(!begin || delta->tool == reply->calls);
    assert(!arguments || delta->tool == reply->calls - 1);
    assert(begin || arguments || delta->tool == 0);
    reply->calls += begin;
    if (begin || reply->kind != (int32_t)delta->kind || reply->tool != delta->tool) {
        char head[2] = {(char)0xff, (char)delta->kind};
        pr_byte_buffer_append(&reply->record, head, sizeof head);
        reply->kind = (int32_t)delta->kind;
        reply->tool = delta->tool;
    }
    pr_byte_buffer_append(&reply->record, delta->text, delta->size_bytes);
    if (delta->kind == PR_DELTA_CONTENT)
        pr_byte_buffer_append(&reply->content, delta->text, delta->size_bytes);
}

// Cut behind byte i where the hash of `key` and i says so; key 0: nowhere, key 1: everywhere.
static void
parse(const pr_message_format *format, const char *text, size_t size, uint64_t key, parsed *reply)
{
    pr_message_parser *parser;
    const pr_delta *delta;
    int32_t deltas;
    *reply = (parsed){.kind = -1};
    const char *named = format->tools == PR_TOOL_FORMAT_NAMED ? "f" : NULL;
    if (pr_message_parser_create(format, named, &parser) != PR_OK)
        abort();
    for (size_t from = 0, i = 0; i <= size; i++) {
        bool last = i == size;
        if (!last && key != 1 && (key == 0 || pr_hash_mix(key + i * 256) % 4 > 0))
            continue;
        if (pr_message_parser_feed(parser, text + from, i - from, last, &delta, &deltas) != PR_OK)
            abort();
        for (int32_t j = 0; j < deltas; j++)
            note(reply, &delta[j]);
        from = i;
    }
    assert(pr_message_parser_calls(parser) == reply->calls);
    pr_message_parser_destroy(parser);
}

static void check_same(const pr_byte_buffer *a, const pr_byte_buffer *b)
{
    assert(a->size_bytes == b->size_bytes);
    assert(a->size_bytes == 0 || memcmp(a->data, b->data, a->size_bytes) == 0);
}

static void free_reply(parsed *reply)
{
    pr_byte_buffer_free(&reply->record);
    pr_byte_buffer_free(&reply->content);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const pr_message_format format = {
        .tools = (pr_tool_format)((data[0] & 7) % 6),
        .reasoning = data[0] & 8,
        .thinks_already = data[0] & 16,
    };
    const char *text = (const char *)data + 2;
    parsed whole, cut;
    parse(&format, text, size - 2, 0, &whole);
    for (uint64_t key = 1; key < 4; key++) {
        parse(&format, text, size - 2, key == 1 ? 1 : data[1] + key, &cut);
        check_same(&whole.record, &cut.record);
        free_reply(&cut);
    }
    if (!format.reasoning && whole.calls == 0) {
        pr_byte_buffer repaired = {0};
        pr_utf8_repair(text, size - 2, true, &repaired);
        check_same(&whole.content, &repaired);
        pr_byte_buffer_free(&repaired);
    }
    free_reply(&whole);
    return 0;
}
