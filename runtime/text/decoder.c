// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/text/decoder.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/json_field.h"
#include "runtime/text/pattern.h"
#include "runtime/text/utf8.h"

typedef enum step_kind {
    STEP_JOIN,  // a space between pieces
    STEP_BYTE_LEVEL,
    STEP_REPLACE,
    STEP_BYTE_FALLBACK,
    STEP_FUSE,
    STEP_STRIP,
    STEP_METASPACE
} step_kind;

typedef struct decoder_step {
    step_kind kind;
    pr_pattern *pattern;  // replace
    char *content;        // replace: the new text; strip and metaspace: one character
    size_t content_bytes;
    json_int_t start, stop;  // strip: at most so many characters
    bool drop_leading;       // metaspace: marks of the first piece vanish
} decoder_step;

struct pr_decoder {
    pr_byte_buffer step;  // step[steps]
};

static size_t step_count(const pr_decoder *decoder)
{
    return decoder->step.size_bytes / sizeof(decoder_step);
}

// ---- loading

static decoder_step *add_step(pr_decoder *decoder, step_kind kind)
{
    decoder_step *fresh = pr_byte_buffer_extend(&decoder->step, sizeof *fresh);
    if (fresh)
        *fresh = (decoder_step){.kind = kind};
    return fresh;
}

static pr_status keep_content(const char *text, size_t size_bytes, decoder_step *fresh)
{
    fresh->content = malloc(size_bytes + 1);
    if (!fresh->content)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for a decoder");
    memcpy(fresh->content, text, size_bytes);
    fresh->content_bytes = size_bytes;
    return PR_OK;
}

static pr_status load_replace(const json_t *json, decoder_step *fresh)
{
    const char *text;
    size_t size_bytes;
    PR_TRY(pr_json_field_string(json, "decoder Replace", "content", &text, &size_bytes));
    PR_TRY(keep_content(text, size_bytes, fresh));
    return pr_pattern_parse(json, "decoder Replace", &fresh->pattern);
}

static pr_status load_strip(const json_t *json, decoder_step *fresh)
{
    const char *text;
    size_t size_bytes;
    PR_TRY(pr_json_field_character(json, "decoder Strip", "content", &text, &size_bytes));
    PR_TRY(pr_json_field_integer(json, "decoder Strip", "start", &fresh->start));
    PR_TRY(pr_json_field_integer(json, "decoder Strip", "stop", &fresh->stop));
    return keep_content(text, size_bytes, fresh);
}

static pr_status load_metaspace(const json_t *json, decoder_step *fresh)
{
    const char *text;
    size_t size_bytes;
    bool prefix = true;
    const char *scheme = json_string_value(json_object_get(json, "prepend_scheme"));
    PR_TRY(pr_json_field_character(json, "decoder Metaspace", "replacement", &text, &size_bytes));
    PR_TRY(pr_json_field_optional_bool(json, "decoder Metaspace", "add_prefix_space", &prefix));
    fresh->drop_leading = scheme ? strcmp(scheme, "never") != 0 : prefix;
    return keep_content(text, size_bytes, fresh);
}

static pr_status load_step(pr_decoder *decoder, const json_t *json, const char *type)
{
    static const char *const names[] = {"ByteLevel", "Replace", "ByteFallback",
                                        "Fuse",      "Strip",   "Metaspace"};
    int kind = 0;
    while (kind < 6 && strcmp(type, names[kind]) != 0)
        kind++;
    if (kind == 6)
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "tokenizer: decoder '%.100s' is not supported: use ByteLevel, Replace, ByteFallback, "
            "Fuse, Strip, Metaspace or Sequence",
            type);
    decoder_step *fresh = add_step(decoder, (step_kind)(STEP_BYTE_LEVEL + kind));
    if (!fresh)
        return pr_byte_buffer_check(&decoder->step);
    if (fresh->kind == STEP_REPLACE)
        return load_replace(json, fresh);
    if (fresh->kind == STEP_STRIP)
        return load_strip(json, fresh);
    return fresh->kind == STEP_METASPACE ? load_metaspace(json, fresh) : PR_OK;
}

static pr_status load(pr_decoder *decoder, const json_t *json, int depth)
{
    const char *type;
    PR_TRY(pr_json_field_type(json, "decoder", &type));
    if (strcmp(type, "Sequence") != 0)
        return load_step(decoder, json, type);
    const json_t *list;
    PR_TRY(pr_json_field_array(json, "decoder Sequence", "decoders", &list));
    if (depth == PR_JSON_FIELD_MAX_DEPTH)
        return pr_fail(PR_ERR_FORMAT, "tokenizer: decoder Sequences are nested too deep");
    for (size_t i = 0; i < json_array_size(list); i++)
        PR_TRY(load(decoder, json_array_get(list, i), depth + 1));
    return PR_OK;
}

pr_status pr_decoder_create(const json_t *json, pr_decoder **decoder)
{
    pr_decoder *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for a decoder");
    pr_status status = PR_OK;
    if (json && !json_is_null(json))
        status = load(fresh, json, 0);
    else if (!add_step(fresh, STEP_JOIN))
        status = pr_byte_buffer_check(&fresh->step);
    if (status != PR_OK) {
        pr_decoder_destroy(fresh);
        return status;
    }
    *decoder = fresh;
    return PR_OK;
}

void pr_decoder_destroy(pr_decoder *decoder)
{
    if (!decoder)
        return;
    decoder_step *steps = decoder->step.data;
    for (size_t i = 0; i < step_count(decoder); i++) {
        pr_pattern_destroy(steps[i].pattern);
        free(steps[i].content);
    }
    pr_byte_buffer_free(&decoder->step);
    free(decoder);
}

// ---- the stream

typedef struct step_state {
    pr_byte_buffer held;     // the open piece, or what of it may still change
    pr_byte_buffer changed;  // byte-level and replace: working space
    int64_t pieces;          // closed so far (metaspace, join)
    json_int_t stripped;     // strip: characters cut off the front; -1: past the front
} step_state;

struct pr_decoder_stream {
    const pr_decoder *decoder;
    pr_byte_buffer *out;
    step_state state[];  // [steps]
};

// A step's input: the fragment, then (ends) the end of its piece. Index steps is the way out.
static pr_status
push(pr_decoder_stream *stream, size_t index, const char *text, size_t size_bytes, bool ends);

static pr_status
push_byte_level(pr_decoder_stream *stream, size_t index, const char *text, size_t size_bytes)
{
    step_state *state = &stream->state[index];
    size_t before = state->held.size_bytes;
    for (size_t at = 0; at < size_bytes;) {
        int byte = pr_byte_level_byte(pr_utf8_next(text, &at));
        char value = (char)byte;
        if (byte < 0) {  // not in the alphabet: the whole token stands for itself
            state->held.size_bytes = before;
            pr_byte_buffer_append(&state->held, text, size_bytes);
            break;
        }
        pr_byte_buffer_append(&state->held, &value, 1);
    }
    pr_byte_buffer_clear(&state->changed);
    size_t used = pr_utf8_repair(state->held.data, state->held.size_bytes, false, &state->changed);
    PR_TRY(pr_byte_buffer_check(&state->held));
    PR_TRY(pr_byte_buffer_check(&state->changed));
    if (used > 0)
        memmove(state->held.data, (char *)state->held.data + used, state->held.size_bytes - used);
    state->held.size_bytes -= used;
    return push(stream, index + 1, state->changed.data, state->changed.size_bytes, false);
}

static pr_status
replace_all(const decoder_step *step, const pr_byte_buffer *from, pr_byte_buffer *to)
{
    pr_pattern_search search;
    const char *text = from->data;
    size_t copied = 0, start, end;
    bool found;
    PR_TRY(pr_pattern_search_begin(step->pattern, &search));
    pr_pattern_search_set(&search, from->size_bytes ? text : "", from->size_bytes);
    pr_status status = PR_OK;
    while (from->size_bytes > 0 &&
           (status = pr_pattern_search_next(&search, &found, &start, &end)) == PR_OK && found) {
        pr_byte_buffer_append(to, text + copied, start - copied);
        pr_byte_buffer_append(to, step->content, step->content_bytes);
        copied = end;
    }
    pr_pattern_search_end(&search);
    PR_TRY(status);
    if (from->size_bytes > copied)
        pr_byte_buffer_append(to, text + copied, from->size_bytes - copied);
    return pr_byte_buffer_check(to);
}

static pr_status push_replaced(pr_decoder_stream *stream, size_t index, const decoder_step *step)
{
    step_state *state = &stream->state[index];
    pr_byte_buffer_clear(&state->changed);
    PR_TRY(replace_all(step, &state->held, &state->changed));
    pr_byte_buffer_clear(&state->held);
    return push(stream, index + 1, state->changed.data, state->changed.size_bytes, true);
}

// The run of byte tokens is over: its text if it is UTF-8, else U+FFFD for each of its bytes.
static pr_status push_byte_run(pr_decoder_stream *stream, size_t index)
{
    step_state *state = &stream->state[index];
    size_t run = state->held.size_bytes;
    if (run == 0)
        return PR_OK;
    pr_byte_buffer_clear(&state->changed);
    (void)pr_utf8_repair(state->held.data, run, true, &state->changed);
    PR_TRY(pr_byte_buffer_check(&state->changed));
    pr_byte_buffer_clear(&state->held);
    if (state->changed.size_bytes == run && memcmp(state->changed.data, state->held.data, run) == 0)
        return push(stream, index + 1, state->changed.data, run, true);
    for (size_t i = 0; i < run; i++)
        PR_TRY(push(stream, index + 1, "\xef\xbf\xbd", 3, true));
    return PR_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

// The byte of a token <0xNN>, or -1.
static int byte_of_token(const char *text, size_t size_bytes)
{
    if (size_bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// Takes whole pieces: push() gathers fragments in `changed` first.
static pr_status push_byte_fallback(pr_decoder_stream *stream, size_t index)
{
    step_state *state = &stream->state[index];
    pr_byte_buffer piece = state->changed;
    state->changed = (pr_byte_buffer){0};
    int byte = byte_of_token(piece.data, piece.size_bytes);
    pr_status status;
    if (byte >= 0) {
        char value = (char)byte;
        pr_byte_buffer_append(&state->held, &value, 1);
        status = pr_byte_buffer_check(&state->held);
    } else {
        status = push_byte_run(stream, index);
        if (status == PR_OK)
            status = push(stream, index + 1, piece.data, piece.size_bytes, true);
    }
    pr_byte_buffer_free(&state->changed);
    state->changed = piece;
    pr_byte_buffer_clear(&state->changed);
    return status;
}

static bool starts_with_content(const decoder_step *step, const char *text, size_t size_bytes)
{
    return size_bytes >= step->content_bytes &&
           memcmp(text, step->content, step->content_bytes) == 0;
}

static pr_status push_strip(
    pr_decoder_stream *stream,
    size_t index,
    const decoder_step *step,
    const char *text,
    size_t size_bytes)
{
    step_state *state = &stream->state[index];
    while (size_bytes > 0 && state->stripped >= 0) {
        if (state->stripped >= step->start || !starts_with_content(step, text, size_bytes)) {
            state->stripped = -1;
            break;
        }
        text += step->content_bytes;
        size_bytes -= step->content_bytes;
        state->stripped++;
    }
    if (step->stop <= 0)
        return push(stream, index + 1, text, size_bytes, false);
    pr_byte_buffer_append(&state->held, text, size_bytes);
    return pr_byte_buffer_check(&state->held);
}

static pr_status end_strip(pr_decoder_stream *stream, size_t index, const decoder_step *step)
{
    step_state *state = &stream->state[index];
    size_t size = state->held.size_bytes;
    for (json_int_t i = 0; i < step->stop && size >= step->content_bytes; i++) {
        const char *tail = (const char *)state->held.data + size - step->content_bytes;
        if (!starts_with_content(step, tail, step->content_bytes))
            break;
        size -= step->content_bytes;
    }
    state->stripped = 0;
    pr_byte_buffer_clear(&state->held);
    return push(stream, index + 1, state->held.data, size, true);
}

static pr_status push_metaspace(
    pr_decoder_stream *stream,
    size_t index,
    const decoder_step *step,
    const char *text,
    size_t size_bytes)
{
    bool drop = step->drop_leading && stream->state[index].pieces == 0;
    size_t start = 0, at = 0;
    while (at < size_bytes) {
        if (!starts_with_content(step, text + at, size_bytes - at)) {
            (void)pr_utf8_next(text, &at);
            continue;
        }
        PR_TRY(push(stream, index + 1, text + start, at - start, false));
        if (!drop)
            PR_TRY(push(stream, index + 1, " ", 1, false));
        at += step->content_bytes;
        start = at;
    }
    return push(stream, index + 1, text + start, size_bytes - start, false);
}

static pr_status push_fragment(
    pr_decoder_stream *stream,
    size_t index,
    const decoder_step *step,
    const char *text,
    size_t size_bytes)
{
    step_state *state = &stream->state[index];
    switch (step->kind) {
    case STEP_JOIN:
    case STEP_FUSE:
        return push(stream, index + 1, text, size_bytes, false);
    case STEP_BYTE_LEVEL:
        return push_byte_level(stream, index, text, size_bytes);
    case STEP_REPLACE:
        pr_byte_buffer_append(&state->held, text, size_bytes);
        return pr_byte_buffer_check(&state->held);
    case STEP_BYTE_FALLBACK:
        pr_byte_buffer_append(&state->changed, text, size_bytes);
        return pr_byte_buffer_check(&state->changed);
    case STEP_STRIP:
        return push_strip(stream, index, step, text, size_bytes);
    case STEP_METASPACE:
        return push_metaspace(stream, index, step, text, size_bytes);
    }
    return PR_OK;
}

static pr_status end_piece(pr_decoder_stream *stream, size_t index, const decoder_step *step)
{
    stream->state[index].pieces++;
    switch (step->kind) {
    case STEP_FUSE:
    case STEP_BYTE_LEVEL:
        return PR_OK;  // all pieces become one, which ends with the text
    case STEP_REPLACE:
        return push_replaced(stream, index, step);
    case STEP_BYTE_FALLBACK:
        return push_byte_fallback(stream, index);
    case STEP_STRIP:
        return end_strip(stream, index, step);
    case STEP_JOIN:
    case STEP_METASPACE:
        return push(stream, index + 1, NULL, 0, true);
    }
    return PR_OK;
}

static pr_status
push(pr_decoder_stream *stream, size_t index, const char *text, size_t size_bytes, bool ends)
{
    if (index == step_count(stream->decoder)) {
        pr_byte_buffer_append(stream->out, text, size_bytes);
        return pr_byte_buffer_check(stream->out);
    }
    const decoder_step *step = (const decoder_step *)stream->decoder->step.data + index;
    if (size_bytes > 0)
        PR_TRY(push_fragment(stream, index, step, text, size_bytes));
    return ends ? end_piece(stream, index, step) : PR_OK;
}

pr_status pr_decoder_stream_create(const pr_decoder *decoder, pr_decoder_stream **stream)
{
    size_t steps = step_count(decoder);
    pr_decoder_stream *fresh = calloc(1, sizeof *fresh + steps * sizeof(step_state));
    if (!fresh)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory to decode");
    fresh->decoder = decoder;
    *stream = fresh;
    return PR_OK;
}

void pr_decoder_stream_destroy(pr_decoder_stream *stream)
{
    if (!stream)
        return;
    for (size_t i = 0; i < step_count(stream->decoder); i++) {
        pr_byte_buffer_free(&stream->state[i].held);
        pr_byte_buffer_free(&stream->state[i].changed);
    }
    free(stream);
}

pr_status pr_decoder_stream_feed(
    pr_decoder_stream *stream, const char *token, size_t size_bytes, pr_byte_buffer *out)
{
    const decoder_step *first = stream->decoder->step.data;
    stream->out = out;
    if (step_count(stream->decoder) > 0 && first->kind == STEP_JOIN && stream->state[0].pieces > 0)
        pr_byte_buffer_append(out, " ", 1);
    return push(stream, 0, token, size_bytes, true);
}

static pr_status finish_step(pr_decoder_stream *stream, size_t index, const decoder_step *step)
{
    step_state *state = &stream->state[index];
    if (step->kind == STEP_BYTE_FALLBACK)
        PR_TRY(push_byte_run(stream, index));
    if (step->kind == STEP_BYTE_LEVEL) {
        pr_byte_buffer_clear(&state->changed);
        (void)pr_utf8_repair(state->held.data, state->held.size_bytes, true, &state->changed);
        PR_TRY(pr_byte_buffer_check(&state->changed));
        PR_TRY(push(stream, index + 1, state->changed.data, state->changed.size_bytes, true));
    }
    if (step->kind == STEP_FUSE)
        PR_TRY(push(stream, index + 1, NULL, 0, true));
    pr_byte_buffer_clear(&state->held);
    pr_byte_buffer_clear(&state->changed);
    state->pieces = 0;
    state->stripped = 0;
    return PR_OK;
}

pr_status pr_decoder_stream_finish(pr_decoder_stream *stream, pr_byte_buffer *out)
{
    const decoder_step *steps = stream->decoder->step.data;
    stream->out = out;
    for (size_t i = 0; i < step_count(stream->decoder); i++)
        PR_TRY(finish_step(stream, i, &steps[i]));
    return PR_OK;
}

// ---- single tokens

// A token with a character outside of the alphabet stands for itself.
static void raw_byte_level(const pr_byte_buffer *from, pr_byte_buffer *to)
{
    for (size_t at = 0; at < from->size_bytes;) {
        int byte = pr_byte_level_byte(pr_utf8_next(from->data, &at));
        char value = (char)byte;
        if (byte < 0) {
            pr_byte_buffer_clear(to);
            pr_byte_buffer_append(to, from->data, from->size_bytes);
            return;
        }
        pr_byte_buffer_append(to, &value, 1);
    }
}

static void raw_metaspace(const decoder_step *step, const pr_byte_buffer *from, pr_byte_buffer *to)
{
    const char *text = from->data;
    for (size_t at = 0, start = 0; at < from->size_bytes; start = at) {
        bool mark = starts_with_content(step, text + at, from->size_bytes - at);
        (void)pr_utf8_next(text, &at);
        pr_byte_buffer_append(to, mark ? " " : text + start, mark ? 1 : at - start);
    }
}

// *bytes: the result is raw bytes, not text that further steps may read.
static pr_status
raw_step(const decoder_step *step, const pr_byte_buffer *from, pr_byte_buffer *to, bool *bytes)
{
    int byte = -1;
    char value;
    switch (step->kind) {
    case STEP_JOIN:
        break;
    case STEP_BYTE_LEVEL:
        raw_byte_level(from, to);
        *bytes = true;
        break;
    case STEP_REPLACE:
        return replace_all(step, from, to);
    case STEP_BYTE_FALLBACK:
        byte = byte_of_token(from->data, from->size_bytes);
        value = (char)byte;
        *bytes = byte >= 0;
        pr_byte_buffer_append(to, byte < 0 ? from->data : &value, byte < 0 ? from->size_bytes : 1);
        break;
    case STEP_METASPACE:
        raw_metaspace(step, from, to);
        break;
    case STEP_FUSE:
    case STEP_STRIP:
        pr_byte_buffer_append(to, from->data, from->size_bytes);
        break;
    }
    return pr_byte_buffer_check(to);
}

pr_status pr_decoder_raw_bytes(
    const pr_decoder *decoder, const char *token, size_t size_bytes, pr_byte_buffer *out)
{
    pr_byte_buffer from = {0}, to = {0};
    bool bytes = false;
    pr_byte_buffer_append(&from, token, size_bytes);
    pr_status status = pr_byte_buffer_check(&from);
    for (size_t i = 0; i < step_count(decoder) && !bytes && status == PR_OK; i++) {
        pr_byte_buffer_clear(&to);
        status = raw_step((const decoder_step *)decoder->step.data + i, &from, &to, &bytes);
        pr_byte_buffer swap = from;
        from = to;
        to = swap;
    }
    if (status == PR_OK) {
        pr_byte_buffer_append(out, from.data, from.size_bytes);
        status = pr_byte_buffer_check(out);
    }
    pr_byte_buffer_free(&from);
    pr_byte_buffer_free(&to);
    return status;
}
