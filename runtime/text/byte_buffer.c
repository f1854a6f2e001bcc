// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/text/byte_buffer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

static bool grow(pr_byte_buffer *buffer, size_t size_bytes)
{
    size_t wanted = buffer->size_bytes + size_bytes;
    size_t capacity = buffer->capacity_bytes < 64 ? 64 : buffer->capacity_bytes;
    if (buffer->failed || wanted < size_bytes || wanted > SIZE_MAX / 2)
        return false;
    while (capacity < wanted)
        capacity *= 2;
    void *data = realloc(buffer->data, capacity);
    if (!data)
        return false;
    buffer->data = data;
    buffer->capacity_bytes = capacity;
    return true;
}

void *pr_byte_buffer_extend(pr_byte_buffer *buffer, size_t size_bytes)
{
    if (buffer->capacity_bytes - buffer->size_bytes < size_bytes || !buffer->data) {
        if (!grow(buffer, size_bytes)) {
            buffer->failed = true;
            return NULL;
        }
    }
    void *place = (char *)buffer->data + buffer->size_bytes;
    buffer->size_bytes += size_bytes;
    return place;
}

void pr_byte_buffer_append(pr_byte_buffer *buffer, const void *data, size_t size_bytes)
{
    if (size_bytes == 0)
        return;
    void *place = pr_byte_buffer_extend(buffer, size_bytes);
    if (place)
        memcpy(place, data, size_bytes);
}

void pr_byte_buffer_free(pr_byte_buffer *buffer)
{
    free(buffer->data);
    *buffer = (pr_byte_buffer){0};
}

pr_status pr_byte_buffer_check(const pr_byte_buffer *buffer)
{
    if (buffer->failed)
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for a buffer of more than %zu bytes", buffer->size_bytes);
    return PR_OK;
}
