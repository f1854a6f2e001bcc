// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/http/http_message.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "launcher/http/http_target.h"

enum { MOST_FIELDS = 128, MOST_METHOD_BYTES = 32, VERSION_BYTES = 8, MOST_SIZE_DIGITS = 16 };

enum {  // what the next byte belongs to; the states of a group stand together
    START,
    START_LF,
    METHOD,
    TARGET,
    VERSION,
    LINE_LF,
    FIELD,  // a name, or the end of the head
    NAME,
    BLANKS,
    VALUE,
    VALUE_LF,
    HEAD_LF,
    SIZE,
    EXTENSION,
    SIZE_LF,
    CHUNK_CR,
    CHUNK_LF,
    CHUNK,
    LENGTH,
    COMPLETE,
    REFUSED
};

static void refuse(pr_http_message *message, int32_t status, const char *reason)
{
    message->state = REFUSED;
    message->status = status;
    message->reason = reason;
}

static bool is_token(unsigned char byte)
{
    if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
        (byte >= '0' && byte <= '9') || byte == '-')
        return true;
    return byte && strchr("!#$%&'*+.^_`|~", byte);
}

static bool is_text(unsigned char byte) { return (byte >= ' ' && byte != 0x7f) || byte == '\t'; }

static void append(pr_http_message *message, char byte)
{
    if (message->text_bytes == message->text_capacity) {
        size_t capacity = message->text_capacity ? 2 * message->text_capacity : 512;
        char *grown = realloc(message->text, capacity);
        if (!grown) {
            refuse(message, 503, "There is no memory for the request.");
            return;
        }
        message->text = grown;
        message->text_capacity = capacity;
    }
    message->text[message->text_bytes++] = byte;
}

// ---- The request line ----

static void end_line(pr_http_message *message)
{
    const char *version = message->text + message->version;
    if (strlen(version) != VERSION_BYTES || strncmp(version, "HTTP/", 5) != 0 || version[5] < '0' ||
        version[5] > '9' || version[6] != '.' || version[7] < '0' || version[7] > '9') {
        refuse(message, 400, "The request line is malformed.");
        return;
    }
    if (version[5] != '1' || version[7] > '1') {
        refuse(message, 505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
        return;
    }
    message->minor = version[7] - '0';
    message->text_bytes = message->version;
    pr_http_target target = {.options = strcmp(message->text, "OPTIONS") == 0};
    const char *reason = pr_http_target_split(message->text + message->target, &target);
    if (reason) {
        refuse(message, 400, reason);
        return;
    }
    message->path = message->target + target.path;
    message->query = message->target + target.query;
    message->state = FIELD;
}

// One blank between two parts; a part ends with a NUL.
static void end_part(pr_http_message *message, int32_t state, size_t *begin)
{
    append(message, '\0');
    *begin = message->text_bytes;
    if (message->state != REFUSED)
        message->state = state;
}

static void step_start(pr_http_message *message, unsigned char byte)
{
    // Some clients send an empty line after a body; one is skipped.
    if (message->state == START_LF && byte == '\n') {
        message->blank_line = true;
        message->state = START;
    } else if (message->state == START && byte == '\r' && !message->blank_line) {
        message->state = START_LF;
    } else if (message->state == START && is_token(byte)) {
        append(message, (char)byte);
        message->state = message->status ? REFUSED : METHOD;
    } else {
        refuse(message, 400, "This is not an HTTP request.");
    }
}

static void step_line(pr_http_message *message, unsigned char byte)
{
    bool method = message->state == METHOD, target = message->state == TARGET;
    size_t bytes = message->text_bytes;
    if (method && byte == ' ') {
        end_part(message, TARGET, &message->target);
    } else if (method && is_token(byte) && bytes < MOST_METHOD_BYTES) {
        append(message, (char)byte);
    } else if (target && byte == ' ' && bytes > message->target) {
        end_part(message, VERSION, &message->version);
    } else if (target && byte > ' ' && byte < 0x7f) {
        if (bytes - message->target >= message->limits->most_target_bytes)
            refuse(message, 414, "The request target is too long.");
        else
            append(message, (char)byte);
    } else if (message->state == VERSION && byte == '\r') {
        size_t end;
        end_part(message, LINE_LF, &end);
    } else if (
        message->state == VERSION && byte > ' ' && byte < 0x7f &&
        bytes - message->version < VERSION_BYTES) {
        append(message, (char)byte);
    } else if (message->state == LINE_LF && byte == '\n') {
        end_line(message);
    } else {
        refuse(message, 400, "The request line is malformed.");
    }
}

// ---- Header fields and trailers ----

// The items of a comma-separated list: true and the next one, or false at the end.
static bool next_item(const char **list, const char **item, size_t *bytes)
{
    const char *at = *list;
    if (!at)
        return false;
    at += strspn(at, " \t");
    size_t length = strcspn(at, ",");
    *list = at[length] ? at + length + 1 : NULL;
    while (length > 0 && (at[length - 1] == ' ' || at[length - 1] == '\t'))
        length--;
    *item = at;
    *bytes = length;
    return true;
}

static bool is_item(const char *item, size_t bytes, const char *word)
{
    return bytes == strlen(word) && strncasecmp(item, word, bytes) == 0;
}

static void note_content_length(pr_http_message *message, const char *value)
{
    const int64_t beyond_all = INT64_MAX / 16;
    const char *item;
    size_t bytes;
    while (next_item(&value, &item, &bytes)) {
        int64_t length = 0;
        for (size_t i = 0; i < bytes; i++) {
            if (item[i] < '0' || item[i] > '9')
                bytes = 0;
            else
                length = length < beyond_all ? length * 10 + (item[i] - '0') : beyond_all;
        }
        if (bytes == 0) {
            refuse(message, 400, "Content-Length is not a number.");
            return;
        }
        if (message->content_length >= 0 && message->content_length != length) {
            refuse(message, 400, "Two values of Content-Length differ.");
            return;
        }
        message->content_length = length;
    }
}

static void note_host(pr_http_message *message, const char *value)
{
    for (; *value; value++) {
        if (strchr(" \t/?#@\\", *value) || (unsigned char)*value >= 0x7f)
            refuse(message, 400, "The Host field is malformed.");
    }
    if (++message->hosts > 1)
        refuse(message, 400, "There are two Host fields.");
}

static void note_connection(pr_http_message *message, const char *value)
{
    const char *item;
    size_t bytes;
    while (next_item(&value, &item, &bytes)) {
        message->close |= is_item(item, bytes, "close");
        message->keep |= is_item(item, bytes, "keep-alive");
    }
}

static void note_coding(pr_http_message *message, const char *value)
{
    if (++message->codings > 1)
        refuse(message, 400, "There are two Transfer-Encoding fields.");
    else if (strcasecmp(value, "chunked") != 0)
        refuse(message, 501, "No transfer coding but chunked is understood.");
    message->chunked = true;
}

static void note_expect(pr_http_message *message, const char *value)
{
    if (message->minor == 0)
        return;
    message->expects = true;
    if (strcasecmp(value, "100-continue") != 0)
        refuse(message, 417, "No expectation but 100-continue can be met.");
}

// The field that begins at `field` has ended.
static void end_field(pr_http_message *message)
{
    while (message->text_bytes > message->value &&
           strchr(" \t", message->text[message->text_bytes - 1]))
        message->text_bytes--;
    append(message, '\0');
    if (message->state == REFUSED)
        return;
    message->state = FIELD;
    if (message->trailers) {
        message->text_bytes = message->field;
        return;
    }
    const char *name = message->text + message->field, *value = message->text + message->value;
    if (++message->fields > MOST_FIELDS)
        refuse(message, 431, "There are too many header fields.");
    else if (strcmp(name, "host") == 0)
        note_host(message, value);
    else if (strcmp(name, "content-length") == 0)
        note_content_length(message, value);
    else if (strcmp(name, "transfer-encoding") == 0)
        note_coding(message, value);
    else if (strcmp(name, "connection") == 0)
        note_connection(message, value);
    else if (strcmp(name, "expect") == 0)
        note_expect(message, value);
}

// Where the request ends.
static void end_head(pr_http_message *message)
{
    int64_t length = message->content_length;
    if (message->minor == 1 && message->hosts == 0)
        refuse(message, 400, "The Host field is missing.");
    else if (message->chunked && message->minor == 0)
        refuse(message, 400, "HTTP/1.0 knows no Transfer-Encoding.");
    else if (message->chunked && length >= 0)
        refuse(message, 400, "Both Content-Length and Transfer-Encoding are given.");
    else if (length > 0 && (uint64_t)length > message->limits->most_body_bytes)
        refuse(message, 413, "The request body is too large.");
    else if (message->chunked)
        message->state = SIZE;
    else
        message->state = length > 0 ? LENGTH : COMPLETE;
    message->remaining_bytes = length > 0 ? (uint64_t)length : 0;
}

static void step_field(pr_http_message *message, unsigned char byte)
{
    int32_t state = message->state;
    if (state == FIELD && byte == '\r') {
        message->state = HEAD_LF;
    } else if (state == FIELD && is_token(byte)) {
        message->state = NAME;
        message->field = message->text_bytes;
        append(message, (char)(byte >= 'A' && byte <= 'Z' ? byte + 32 : byte));
    } else if (state == NAME && is_token(byte)) {
        append(message, (char)(byte >= 'A' && byte <= 'Z' ? byte + 32 : byte));
    } else if (state == NAME && byte == ':') {
        end_part(message, BLANKS, &message->value);
    } else if ((state == BLANKS || state == VALUE) && byte == '\r') {
        message->state = VALUE_LF;
    } else if (state == BLANKS && (byte == ' ' || byte == '\t')) {
        return;
    } else if ((state == BLANKS || state == VALUE) && is_text(byte)) {
        message->state = VALUE;
        append(message, (char)byte);
    } else if (state == VALUE_LF && byte == '\n') {
        end_field(message);
    } else if (state == HEAD_LF && byte == '\n') {
        if (message->trailers)
            message->state = COMPLETE;
        else
            end_head(message);
    } else {
        refuse(message, 400, "A header field is malformed.");
    }
}

// ---- The body ----

static int digit_value(unsigned char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 32;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static void end_size(pr_http_message *message)
{
    message->digits = 0;
    message->trailers = message->remaining_bytes == 0;
    message->state = message->trailers ? FIELD : CHUNK;
    if (message->remaining_bytes > message->limits->most_body_bytes - message->body_bytes)
        refuse(message, 413, "The request body is too large.");
}

static void step_chunk(pr_http_message *message, unsigned char byte)
{
    int32_t state = message->state;
    int digit = digit_value(byte);
    if (state == SIZE && digit >= 0 && message->digits < MOST_SIZE_DIGITS) {
        message->remaining_bytes = message->remaining_bytes * 16 + (uint64_t)digit;
        message->digits++;
    } else if (state == SIZE && byte == ';' && message->digits > 0) {
        message->state = EXTENSION;
    } else if ((state == EXTENSION || (state == SIZE && message->digits > 0)) && byte == '\r') {
        message->state = SIZE_LF;
    } else if (state == EXTENSION && is_text(byte)) {
        return;
    } else if (state == SIZE_LF && byte == '\n') {
        end_size(message);
    } else if (state == CHUNK_CR && byte == '\r') {
        message->state = CHUNK_LF;
    } else if (state == CHUNK_LF && byte == '\n') {
        message->state = SIZE;
    } else {
        refuse(message, 400, "The chunks of the request body are malformed.");
    }
}

static bool make_body_room(pr_http_message *message, size_t more_bytes)
{
    size_t needed = message->body_bytes + more_bytes + 1;
    if (needed <= message->body_capacity)
        return true;
    size_t capacity = message->body_capacity ? message->body_capacity : 1024;
    while (capacity < needed)
        capacity *= 2;
    char *grown = realloc(message->body, capacity);
    if (!grown)
        return false;
    message->body = grown;
    message->body_capacity = capacity;
    return true;
}

static size_t take_body(pr_http_message *message, const char *data, size_t size_bytes)
{
    size_t taken =
        size_bytes < message->remaining_bytes ? size_bytes : (size_t)message->remaining_bytes;
    if (!make_body_room(message, taken)) {
        refuse(message, 503, "There is no memory for the request body.");
        return 0;
    }
    memcpy(message->body + message->body_bytes, data, taken);
    message->body_bytes += taken;
    message->body[message->body_bytes] = '\0';
    message->remaining_bytes -= taken;
    if (message->remaining_bytes == 0)
        message->state = message->chunked ? CHUNK_CR : COMPLETE;
    return taken;
}

// ---- The whole ----

static void step(pr_http_message *message, unsigned char byte)
{
    int32_t state = message->state;
    bool sizes = state >= SIZE && state <= CHUNK_LF;
    if (!sizes || state == EXTENSION)
        message->head_bytes++;
    if (message->head_bytes > message->limits->most_head_bytes)
        refuse(
            message, state <= TARGET ? 414 : 431,
            state <= TARGET ? "The request target is too long." : "The header is too large.");
    else if (state <= START_LF)
        step_start(message, byte);
    else if (state <= LINE_LF)
        step_line(message, byte);
    else if (state <= HEAD_LF)
        step_field(message, byte);
    else
        step_chunk(message, byte);
}

void pr_http_message_begin(pr_http_message *message, const pr_http_limits *limits)
{
    *message = (pr_http_message){.limits = limits, .content_length = -1};
}

void pr_http_message_end(pr_http_message *message)
{
    free(message->text);
    free(message->body);
    message->text = message->body = NULL;
}

pr_http_progress pr_http_message_feed(
    pr_http_message *message, const char *data, size_t size_bytes, size_t *taken_bytes)
{
    size_t at = 0;
    bool head = message->state <= HEAD_LF && !message->trailers;
    while (at < size_bytes && message->state < COMPLETE) {
        if (message->state == CHUNK || message->state == LENGTH)
            at += take_body(message, data + at, size_bytes - at);
        else
            step(message, (unsigned char)data[at++]);
        if (head && (message->state == SIZE || message->state == LENGTH)) {
            *taken_bytes = at;
            return PR_HTTP_HEAD;
        }
    }
    *taken_bytes = at;
    if (message->state == REFUSED)
        return PR_HTTP_REFUSED;
    return message->state == COMPLETE ? PR_HTTP_COMPLETE : PR_HTTP_MORE;
}

const char *pr_http_message_method(const pr_http_message *message) { return message->text; }

const char *pr_http_message_path(const pr_http_message *message)
{
    return message->text + message->path;
}

const char *pr_http_message_query(const pr_http_message *message)
{
    return message->text + message->query;
}

const char *pr_http_message_field(const pr_http_message *message, const char *name)
{
    const char *at = message->text + message->version;
    for (int32_t i = 0; i < message->fields; i++) {
        const char *value = at + strlen(at) + 1;
        if (strcasecmp(at, name) == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

bool pr_http_message_keeps_alive(const pr_http_message *message)
{
    return !message->close && (message->minor == 1 || message->keep);
}

size_t pr_http_message_held_bytes(const pr_http_message *message)
{
    return message->text_capacity + message->body_capacity;
}

void pr_http_message_drop_body(pr_http_message *message)
{
    free(message->body);
    message->body = NULL;
    message->body_bytes = message->body_capacity = 0;
}
