// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/value/template_heap.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

enum { BLOCK_BYTES = 1 << 14 };

typedef struct pr_template_heap_block {
    struct pr_template_heap_block *older;
    size_t used_bytes, size_bytes;
    alignas(max_align_t) char data[];
} heap_block;

static heap_block *add_block(pr_template_heap *heap, size_t size_bytes)
{
    size_t data_bytes = size_bytes > BLOCK_BYTES ? size_bytes : BLOCK_BYTES;
    heap_block *fresh = malloc(sizeof *fresh + data_bytes);
    if (!fresh) {
        (void)pr_fail(PR_ERR_RESOURCE, "chat template: no memory for %zu bytes", data_bytes);
        return NULL;
    }
    *fresh = (heap_block){.older = heap->newest, .size_bytes = data_bytes};
    heap->newest = fresh;
    return fresh;
}

void *pr_template_heap_take(pr_template_heap *heap, size_t size_bytes)
{
    size_t rounded = (size_bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    heap_block *block = heap->newest;
    if (size_bytes > PR_TEMPLATE_HEAP_MAX_BYTES ||
        rounded > PR_TEMPLATE_HEAP_MAX_BYTES - heap->taken_bytes) {
        (void)pr_template_heap_fail(
            heap, "values take more than %zu MiB: send less text, or use a simpler template",
            PR_TEMPLATE_HEAP_MAX_BYTES >> 20);
        return NULL;
    }
    if (!block || block->size_bytes - block->used_bytes < rounded)
        block = add_block(heap, rounded);
    if (!block)
        return NULL;
    void *place = block->data + block->used_bytes;
    block->used_bytes += rounded;
    heap->taken_bytes += rounded;
    return place;
}

void *pr_template_heap_take_zeroed(pr_template_heap *heap, size_t size_bytes)
{
    void *place = pr_template_heap_take(heap, size_bytes);
    if (place)
        memset(place, 0, size_bytes);
    return place;
}

void pr_template_heap_clear(pr_template_heap *heap)
{
    for (heap_block *block = heap->newest, *older; block; block = older) {
        older = block->older;
        free(block);
    }
    *heap = (pr_template_heap){0};
}

pr_status pr_template_heap_charge(pr_template_heap *heap, size_t steps)
{
    if (steps > (size_t)(PR_TEMPLATE_HEAP_MAX_STEPS - heap->steps))
        return pr_template_heap_fail(
            heap, "the render takes more than %lld steps: send less, or use a simpler template",
            (long long)PR_TEMPLATE_HEAP_MAX_STEPS);
    heap->steps += (int64_t)steps;
    return PR_OK;
}

// Names in a message come from templates and requests, and may be cut within a character: a message is one line
// of UTF-8 all the same.
static void make_line(char *text)
{
    for (uint8_t *byte = (uint8_t *)text; *byte; byte++) {
        size_t more = *byte >= 0xf0 ? 3 : *byte >= 0xe0 ? 2 : *byte >= 0xc0 ? 1 : 0, found = 0;
        while (found < more && (byte[found + 1] & 0xc0) == 0x80)
            found++;
        if (found < more || *byte < 0x20 || (more == 0 && *byte >= 0x7f))
            *byte = '?';
        else
            byte += more;
    }
}

pr_status pr_template_heap_fail(const pr_template_heap *heap, const char *format, ...)
{
    char text[768];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    make_line(text);
    return pr_fail(PR_ERR_REQUEST, "chat template line %d: %s", heap->line, text);
}
