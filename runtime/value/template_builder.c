// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/value/template_builder.h"

#include <string.h>

static bool fail(pr_template_builder *builder, pr_status status)
{
    builder->status = status;
    return false;
}

static bool grow(pr_template_builder *builder, size_t capacity)
{
    char *data = pr_template_heap_take(builder->heap, capacity);
    uint8_t *mark = NULL;
    if (!data)
        return fail(builder, PR_ERR_REQUEST);
    if (builder->mark) {
        mark = pr_template_heap_take(builder->heap, capacity);
        if (!mark)
            return fail(builder, PR_ERR_REQUEST);
        memcpy(mark, builder->mark, builder->size_bytes);
    }
    if (builder->size_bytes > 0)
        memcpy(data, builder->data, builder->size_bytes);
    builder->data = data;
    builder->mark = mark;
    builder->capacity_bytes = capacity;
    return true;
}

static bool make_room(pr_template_builder *builder, size_t size_bytes)
{
    if (builder->status != PR_OK)
        return false;
    if (size_bytes > PR_TEMPLATE_TEXT_MAX_BYTES - builder->size_bytes)
        return fail(
            builder, pr_template_heap_fail(
                         builder->heap, "a text grows beyond %zu MiB, the limit",
                         PR_TEMPLATE_TEXT_MAX_BYTES >> 20));
    pr_status status = pr_template_heap_charge(builder->heap, size_bytes / 64);
    if (status != PR_OK)
        return fail(builder, status);
    size_t wanted = builder->size_bytes + size_bytes;
    size_t doubled = builder->capacity_bytes < 32 ? 64 : builder->capacity_bytes * 2;
    return wanted <= builder->capacity_bytes || grow(builder, wanted > doubled ? wanted : doubled);
}

void pr_template_builder_reserve(pr_template_builder *builder, size_t size_bytes)
{
    if (builder->status == PR_OK && size_bytes <= PR_TEMPLATE_TEXT_MAX_BYTES &&
        size_bytes > builder->capacity_bytes)
        (void)grow(builder, size_bytes);
}

// Makes room for marks when the shade of what comes differs from what is there.
static bool agree_on_shade(pr_template_builder *builder, pr_template_shade shade)
{
    bool marked = shade == PR_TEMPLATE_MARKED;
    if (builder->mark)
        return true;
    if (builder->size_bytes == 0 && shade != PR_TEMPLATE_MIXED)
        builder->marked = marked;
    if (shade != PR_TEMPLATE_MIXED && builder->marked == marked)
        return true;
    builder->mark = pr_template_heap_take(builder->heap, builder->capacity_bytes);
    if (!builder->mark)
        return fail(builder, PR_ERR_REQUEST);
    memset(builder->mark, builder->marked, builder->size_bytes);
    return true;
}

void pr_template_builder_append(pr_template_builder *builder, pr_template_text text)
{
    if (text.size_bytes == 0 || !make_room(builder, text.size_bytes) ||
        !agree_on_shade(builder, text.shade))
        return;
    memcpy(builder->data + builder->size_bytes, text.data, text.size_bytes);
    if (builder->mark && text.shade == PR_TEMPLATE_MIXED)
        memcpy(builder->mark + builder->size_bytes, text.mark, text.size_bytes);
    else if (builder->mark)
        memset(
            builder->mark + builder->size_bytes, text.shade == PR_TEMPLATE_MARKED, text.size_bytes);
    builder->size_bytes += text.size_bytes;
}

void pr_template_builder_put(
    pr_template_builder *builder, const char *data, size_t size_bytes, bool marked)
{
    pr_template_builder_append(builder, pr_template_text_of(data, size_bytes, marked));
}

void pr_template_builder_put_word(pr_template_builder *builder, const char *word, bool marked)
{
    pr_template_builder_put(builder, word, strlen(word), marked);
}

void pr_template_builder_put_character(
    pr_template_builder *builder, uint32_t code_point, bool marked)
{
    char bytes[4];
    size_t size = code_point < 0x80 ? 1 : code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size; i-- > 1; code_point >>= 6)
        bytes[i] = (char)(0x80 | (code_point & 0x3f));
    bytes[0] = (char)(lead[size] | code_point);
    pr_template_builder_put(builder, bytes, size, marked);
}

pr_status pr_template_builder_finish(pr_template_builder *builder, pr_template_text *text)
{
    PR_TRY(builder->status);
    *text = pr_template_text_of(builder->data, builder->size_bytes, builder->marked);
    if (builder->mark) {
        text->shade = PR_TEMPLATE_MIXED;
        text->mark = builder->mark;
    }
    if (!text->data)
        text->data = "";
    *builder = pr_template_builder_of(builder->heap);
    return PR_OK;
}
