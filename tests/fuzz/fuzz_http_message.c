// SPDX-License-Identifier: BSD-3-Clause
// A request, fed at once and in pieces: the outcome must be the same, and what was accepted must be what the
// rules promise. The first byte seeds the cuts.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/http/http_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const pr_http_limits limits = {
    .most_head_bytes = 512, .most_target_bytes = 64, .most_body_bytes = 256};

static void require(bool holds)
{
    if (!holds)
        abort();
}

static pr_http_progress
feed(pr_http_message *message, const char *data, size_t size, uint32_t seed, size_t *taken)
{
    pr_http_progress progress = PR_HTTP_MORE;
    size_t piece = size, more;
    *taken = 0;
    pr_http_message_begin(message, &limits);
    while (*taken < size && (progress == PR_HTTP_MORE || progress == PR_HTTP_HEAD)) {
        if (seed) {
            seed = seed * 1664525 + 1013904223;
            piece = 1 + (seed >> 24) % 7;
        }
        if (piece > size - *taken)
            piece = size - *taken;
        progress = pr_http_message_feed(message, data + *taken, piece, &more);
        require(more == piece || progress != PR_HTTP_MORE);
        *taken += more;
    }
    return progress == PR_HTTP_HEAD ? PR_HTTP_MORE : progress;
}

static void check_text(const char *text)
{
    for (; *text; text++)
        require((unsigned char)*text >= ' ' && *text != 0x7f);
}

static void check_accepted(const pr_http_message *message)
{
    const char *path = pr_http_message_path(message), *te;
    const char *length = pr_http_message_field(message, "content-length");
    te = pr_http_message_field(message, "Transfer-Encoding");
    require(path[0] == '/' || strcmp(path, "*") == 0);
    check_text(pr_http_message_method(message));
    check_text(path);
    check_text(pr_http_message_query(message));
    require(!(te && length) && !(te && message->minor == 0));
    require(message->minor == 0 || pr_http_message_field(message, "host"));
    require(message->body_bytes <= limits.most_body_bytes);
    require(message->head_bytes <= limits.most_head_bytes);
    if (!te)
        require(message->body_bytes == (length ? strtoul(length, NULL, 10) : 0));
    if (message->body)
        require(message->body[message->body_bytes] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pr_http_message whole, pieces;
    size_t taken, taken_in_pieces;
    if (size < 1)
        return 0;
    const char *text = (const char *)data + 1;
    pr_http_progress progress = feed(&whole, text, size - 1, 0, &taken);
    pr_http_progress other = feed(&pieces, text, size - 1, data[0] + 1u, &taken_in_pieces);
    require(progress == other && taken == taken_in_pieces);
    require(whole.status == pieces.status && whole.reason == pieces.reason);
    require(whole.text_bytes == pieces.text_bytes && whole.body_bytes == pieces.body_bytes);
    require(whole.text_bytes == 0 || memcmp(whole.text, pieces.text, whole.text_bytes) == 0);
    require(whole.body_bytes == 0 || memcmp(whole.body, pieces.body, whole.body_bytes) == 0);
    require((progress == PR_HTTP_REFUSED) == (whole.status != 0));
    if (progress == PR_HTTP_COMPLETE)
        check_accepted(&whole);
    pr_http_message_end(&whole);
    pr_http_message_end(&pieces);
    return 0;
}
