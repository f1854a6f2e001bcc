// SPDX-License-Identifier: BSD-3-Clause
#include "benchmarks/serve/load_reply.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void pr_load_reply_begin(pr_load_reply *reply)
{
    *reply = (pr_load_reply){.part = PR_LOAD_HEAD, .retry_after_s = -1, .left_bytes = -1};
}

static bool is_field(const char *line, const char *name, const char **value)
{
    size_t length = strlen(name);
    if (strncasecmp(line, name, length) != 0 || line[length] != ':')
        return false;
    *value = line + length + 1 + strspn(line + length + 1, " \t");
    return true;
}

static pr_load_progress end_head(pr_load_reply *reply)
{
    if (reply->status == 100) {  // the reply itself follows
        pr_load_reply_begin(reply);
        return PR_LOAD_MORE;
    }
    if (reply->status == 204 || reply->status == 304)
        return PR_LOAD_COMPLETE;
    if (reply->chunked) {
        reply->part = PR_LOAD_CHUNK_SIZE;
        return PR_LOAD_MORE;
    }
    reply->closes |= reply->left_bytes < 0;
    reply->part = reply->left_bytes < 0 ? PR_LOAD_TO_CLOSE : PR_LOAD_LENGTH;
    return reply->left_bytes == 0 ? PR_LOAD_COMPLETE : PR_LOAD_MORE;
}

static pr_load_progress take_head_line(pr_load_reply *reply)
{
    const char *value;
    if (reply->status == 0) {
        if (strncmp(reply->line, "HTTP/1.1 ", 9) != 0)
            return PR_LOAD_BROKEN;
        reply->status = atoi(reply->line + 9);
        return reply->status >= 100 && reply->status <= 599 ? PR_LOAD_MORE : PR_LOAD_BROKEN;
    }
    if (reply->line_bytes == 0)
        return end_head(reply);
    if (is_field(reply->line, "content-length", &value))
        reply->left_bytes = atoll(value);
    else if (is_field(reply->line, "transfer-encoding", &value))
        reply->chunked = strcasecmp(value, "chunked") == 0;
    else if (is_field(reply->line, "connection", &value))
        reply->closes |= strcasecmp(value, "close") == 0;
    else if (is_field(reply->line, "retry-after", &value))
        reply->retry_after_s = atoi(value);
    return PR_LOAD_MORE;
}

static pr_load_progress take_chunk_size(pr_load_reply *reply)
{
    char *end;
    reply->left_bytes = strtoll(reply->line, &end, 16);
    if (end == reply->line || reply->left_bytes < 0)
        return PR_LOAD_BROKEN;
    reply->part = reply->left_bytes == 0 ? PR_LOAD_TRAILER : PR_LOAD_CHUNK;
    return PR_LOAD_MORE;
}

static pr_load_progress take_line(pr_load_reply *reply)
{
    switch (reply->part) {
    case PR_LOAD_HEAD:
        return take_head_line(reply);
    case PR_LOAD_CHUNK_SIZE:
        return take_chunk_size(reply);
    case PR_LOAD_CHUNK_END:
        reply->part = PR_LOAD_CHUNK_SIZE;
        return reply->line_bytes == 0 ? PR_LOAD_MORE : PR_LOAD_BROKEN;
    default:
        return reply->line_bytes == 0 ? PR_LOAD_COMPLETE : PR_LOAD_MORE;
    }
}

// Takes bytes up to the line's end; the line counts without it.
static pr_load_progress
feed_line(pr_load_reply *reply, const char *bytes, size_t size_bytes, size_t *taken)
{
    const char *end = memchr(bytes, '\n', size_bytes);
    size_t length = end ? (size_t)(end - bytes) : size_bytes;
    if (reply->line_bytes + length >= sizeof reply->line)
        return PR_LOAD_BROKEN;
    memcpy(reply->line + reply->line_bytes, bytes, length);
    reply->line_bytes += length;
    *taken = length + (end ? 1 : 0);
    if (!end)
        return PR_LOAD_MORE;
    if (reply->line_bytes == 0 || reply->line[reply->line_bytes - 1] != '\r')
        return PR_LOAD_BROKEN;
    reply->line[--reply->line_bytes] = '\0';
    pr_load_progress progress = take_line(reply);
    reply->line_bytes = 0;
    return progress;
}

static pr_load_progress feed_body(
    pr_load_reply *reply,
    const char *bytes,
    size_t size_bytes,
    size_t *taken,
    pr_load_body *body,
    void *context)
{
    bool bounded = reply->part != PR_LOAD_TO_CLOSE;
    *taken =
        bounded && (int64_t)size_bytes > reply->left_bytes ? (size_t)reply->left_bytes : size_bytes;
    if (body)
        body(context, bytes, *taken);
    if (!bounded)
        return PR_LOAD_MORE;
    reply->left_bytes -= (int64_t)*taken;
    if (reply->left_bytes > 0)
        return PR_LOAD_MORE;
    if (reply->part == PR_LOAD_LENGTH)
        return PR_LOAD_COMPLETE;
    reply->part = PR_LOAD_CHUNK_END;
    return PR_LOAD_MORE;
}

pr_load_progress pr_load_reply_feed(
    pr_load_reply *reply,
    const char *bytes,
    size_t size_bytes,
    size_t *taken,
    pr_load_body *body,
    void *context)
{
    pr_load_progress progress = PR_LOAD_MORE;
    *taken = 0;
    while (progress == PR_LOAD_MORE && *taken < size_bytes) {
        bool in_body = reply->part == PR_LOAD_LENGTH || reply->part == PR_LOAD_CHUNK ||
                       reply->part == PR_LOAD_TO_CLOSE;
        size_t piece_bytes = 0;
        const char *at = bytes + *taken;
        progress = in_body ? feed_body(reply, at, size_bytes - *taken, &piece_bytes, body, context)
                           : feed_line(reply, at, size_bytes - *taken, &piece_bytes);
        *taken += piece_bytes;
    }
    return progress;
}

bool pr_load_reply_may_close(const pr_load_reply *reply) { return reply->part == PR_LOAD_TO_CLOSE; }
