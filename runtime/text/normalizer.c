// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/text/normalizer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/base/log.h"
#include "runtime/text/json_field.h"
#include "runtime/text/pattern.h"
#include "runtime/text/utf8.h"

typedef enum step_kind { STEP_NFC, STEP_REPLACE, STEP_PREPEND, STEP_STRIP } step_kind;

typedef struct normalizer_step {
    step_kind kind;
    pr_pattern *pattern;  // replace
    char *content;        // replace, prepend
    size_t content_bytes;
    bool strip_left, strip_right;
} normalizer_step;

struct pr_normalizer {
    pr_byte_buffer step;  // step[steps]
};

// ---- loading

static pr_status
load_content(const json_t *json, const char *where, const char *key, normalizer_step *fresh)
{
    const char *text;
    PR_TRY(pr_json_field_string(json, where, key, &text, &fresh->content_bytes));
    fresh->content = malloc(fresh->content_bytes + 1);
    if (!fresh->content)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for %s", where);
    memcpy(fresh->content, text, fresh->content_bytes);
    return PR_OK;
}

static pr_status load_step(const json_t *json, const char *type, normalizer_step *fresh)
{
    if (strcmp(type, "NFC") == 0) {
        fresh->kind = STEP_NFC;
        return PR_OK;
    }
    if (strcmp(type, "Prepend") == 0) {
        fresh->kind = STEP_PREPEND;
        return load_content(json, "normalizer Prepend", "prepend", fresh);
    }
    if (strcmp(type, "Replace") == 0) {
        fresh->kind = STEP_REPLACE;
        PR_TRY(load_content(json, "normalizer Replace", "content", fresh));
        return pr_pattern_parse(json, "normalizer Replace", &fresh->pattern);
    }
    if (strcmp(type, "Strip") == 0) {
        fresh->kind = STEP_STRIP;
        PR_TRY(pr_json_field_bool(json, "normalizer Strip", "strip_left", &fresh->strip_left));
        return pr_json_field_bool(json, "normalizer Strip", "strip_right", &fresh->strip_right);
    }
    return pr_fail(
        PR_ERR_UNSUPPORTED,
        "tokenizer: normalizer '%.100s' is not supported: use NFC, Replace, Prepend, Strip or "
        "Sequence",
        type);
}

static pr_status load(pr_normalizer *normalizer, const json_t *json, int depth)
{
    const char *type;
    PR_TRY(pr_json_field_type(json, "normalizer", &type));
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list;
        PR_TRY(pr_json_field_array(json, "normalizer Sequence", "normalizers", &list));
        if (depth == PR_JSON_FIELD_MAX_DEPTH)
            return pr_fail(PR_ERR_FORMAT, "tokenizer: normalizer Sequences are nested too deep");
        for (size_t i = 0; i < json_array_size(list); i++)
            PR_TRY(load(normalizer, json_array_get(list, i), depth + 1));
        return PR_OK;
    }
    normalizer_step *fresh = pr_byte_buffer_extend(&normalizer->step, sizeof *fresh);
    if (!fresh)
        return pr_byte_buffer_check(&normalizer->step);
    *fresh = (normalizer_step){0};
    return load_step(json, type, fresh);
}

pr_status pr_normalizer_create(const json_t *json, pr_normalizer **normalizer)
{
    pr_normalizer *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for a normalizer");
    pr_status status = json && !json_is_null(json) ? load(fresh, json, 0) : PR_OK;
    if (status != PR_OK) {
        pr_normalizer_destroy(fresh);
        return status;
    }
    *normalizer = fresh;
    return PR_OK;
}

void pr_normalizer_destroy(pr_normalizer *normalizer)
{
    if (!normalizer)
        return;
    normalizer_step *steps = normalizer->step.data;
    for (size_t i = 0; i < normalizer->step.size_bytes / sizeof(normalizer_step); i++) {
        pr_pattern_destroy(steps[i].pattern);
        free(steps[i].content);
    }
    pr_byte_buffer_free(&normalizer->step);
    free(normalizer);
}

// ---- applying

// All characters below U+0300 (first byte 0xcc) are their own composition.
static bool is_plainly_composed(const pr_byte_buffer *text)
{
    const uint8_t *bytes = text->data;
    for (size_t i = 0; i < text->size_bytes; i++) {
        if (bytes[i] >= 0xcc)
            return false;
    }
    return true;
}

static pr_status compose_stretch(const char *bytes, size_t size_bytes, pr_byte_buffer *out)
{
    utf8proc_uint8_t *composed = NULL;
    if (size_bytes == 0)
        return PR_OK;
    utf8proc_ssize_t size = utf8proc_map(
        (const utf8proc_uint8_t *)bytes, (utf8proc_ssize_t)size_bytes, &composed,
        UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (size < 0)
        return pr_fail(
            PR_ERR_RESOURCE, "tokenizer: NFC of %zu bytes: %s", size_bytes, utf8proc_errmsg(size));
    pr_byte_buffer_append(out, composed, (size_t)size);
    free(composed);
    return PR_OK;
}

// U+11A7 composes with nothing, but utf8proc takes it for an empty final consonant and drops it
// behind a Hangul syllable; so the text is composed in stretches between.
static pr_status compose_part(const char *bytes, size_t size_bytes, pr_byte_buffer *out)
{
    static const char vowel[3] = "\xe1\x86\xa7";
    const char *end = bytes + size_bytes;
    while (bytes < end) {
        const char *found = memmem(bytes, (size_t)(end - bytes), vowel, sizeof vowel);
        PR_TRY(compose_stretch(bytes, (size_t)((found ? found : end) - bytes), out));
        if (found)
            pr_byte_buffer_append(out, vowel, sizeof vowel);
        bytes = found ? found + sizeof vowel : end;
    }
    return PR_OK;
}

// A text under change: what is done, and the marks of it if the text has marks.
typedef struct change {
    pr_byte_buffer text, mark;
    const uint8_t *from_mark;  // NULL: no marks
} change;

static void fill_mark(change *c, size_t size_bytes, bool marked)
{
    void *place = c->from_mark ? pr_byte_buffer_extend(&c->mark, size_bytes) : NULL;
    if (place && size_bytes > 0)
        memset(place, marked, size_bytes);
}

static bool has_mark(const change *c, size_t begin, size_t end)
{
    return c->from_mark && end > begin && memchr(c->from_mark + begin, 1, end - begin);
}

static void keep(change *c, const char *bytes, size_t begin, size_t end)
{
    pr_byte_buffer_append(&c->text, bytes + begin, end - begin);
    if (c->from_mark)
        pr_byte_buffer_append(&c->mark, c->from_mark + begin, end - begin);
}

static pr_status
finish_change(change *c, pr_status status, pr_byte_buffer *text, pr_byte_buffer *mark)
{
    if (status == PR_OK)
        status = pr_byte_buffer_check(&c->text);
    if (status == PR_OK)
        status = pr_byte_buffer_check(&c->mark);
    pr_byte_buffer_free(status == PR_OK ? text : &c->text);
    if (status == PR_OK)
        *text = c->text;
    if (mark) {
        pr_byte_buffer_free(status == PR_OK ? mark : &c->mark);
        if (status == PR_OK)
            *mark = c->mark;
    }
    return status;
}

static const uint8_t *bytes_of(const pr_byte_buffer *mark) { return mark ? mark->data : NULL; }

// Nothing composes with an ASCII character behind it, so the text may be cut in front of one: a part that
// composition changes is marked if any of it was.
static pr_status compose_marked(change *c, const char *bytes, size_t size_bytes)
{
    for (size_t begin = 0, end; begin < size_bytes; begin = end) {
        size_t before = c->text.size_bytes;
        for (end = begin + 1; end < size_bytes && (uint8_t)bytes[end] >= 0x80;)
            end++;
        PR_TRY(compose_part(bytes + begin, end - begin, &c->text));
        PR_TRY(pr_byte_buffer_check(&c->text));
        size_t size = c->text.size_bytes - before;
        if (size == end - begin && memcmp((char *)c->text.data + before, bytes + begin, size) == 0)
            pr_byte_buffer_append(&c->mark, c->from_mark + begin, size);
        else
            fill_mark(c, size, has_mark(c, begin, end));
    }
    return PR_OK;
}

static pr_status compose(pr_byte_buffer *text, pr_byte_buffer *mark)
{
    change c = {.from_mark = bytes_of(mark)};
    if (is_plainly_composed(text))
        return PR_OK;
    pr_status status = mark ? compose_marked(&c, text->data, text->size_bytes)
                            : compose_part(text->data, text->size_bytes, &c.text);
    return finish_change(&c, status, text, mark);
}

static pr_status
replace(const normalizer_step *step, pr_byte_buffer *text, pr_byte_buffer *mark, bool *start_kept)
{
    change c = {.from_mark = bytes_of(mark)};
    pr_pattern_search search;
    const char *bytes = text->data;
    size_t copied = 0, start, end;
    bool found = true;
    PR_TRY(pr_pattern_search_begin(step->pattern, &search));
    pr_pattern_search_set(&search, bytes, text->size_bytes);
    pr_status status = PR_OK;
    while ((status = pr_pattern_search_next(&search, &found, &start, &end)) == PR_OK && found) {
        if (start == 0 && end > 0 && step->content_bytes == 0)
            *start_kept = false;
        keep(&c, bytes, copied, start);
        pr_byte_buffer_append(&c.text, step->content, step->content_bytes);
        fill_mark(&c, step->content_bytes, has_mark(&c, start, end));
        copied = end;
    }
    keep(&c, bytes, copied, text->size_bytes);
    pr_pattern_search_end(&search);
    return finish_change(&c, status, text, mark);
}

static pr_status prepend(const normalizer_step *step, pr_byte_buffer *text, pr_byte_buffer *mark)
{
    change c = {.from_mark = bytes_of(mark)};
    pr_byte_buffer_append(&c.text, step->content, step->content_bytes);
    fill_mark(&c, step->content_bytes, false);
    keep(&c, text->data, 0, text->size_bytes);
    return finish_change(&c, PR_OK, text, mark);
}

static void
strip(const normalizer_step *step, pr_byte_buffer *text, pr_byte_buffer *mark, bool *start_kept)
{
    char *bytes = text->data;
    size_t start = 0, end = text->size_bytes;
    while (step->strip_left && start < end) {
        size_t next = start;
        if (!pr_utf8_is_space(pr_utf8_next(bytes, &next)))
            break;
        start = next;
    }
    while (step->strip_right && end > start) {
        size_t previous = pr_utf8_previous(bytes, end), at = previous;
        if (!pr_utf8_is_space(pr_utf8_next(bytes, &at)))
            break;
        end = previous;
    }
    if (start > 0)
        *start_kept = false;
    memmove(bytes, bytes + start, end - start);
    text->size_bytes = end - start;
    if (mark) {
        memmove(mark->data, (char *)mark->data + start, end - start);
        mark->size_bytes = end - start;
    }
}

static pr_status apply_step(
    const normalizer_step *step, pr_byte_buffer *text, pr_byte_buffer *mark, bool *start_kept)
{
    switch (step->kind) {
    case STEP_NFC:
        return compose(text, mark);
    case STEP_REPLACE:
        return replace(step, text, mark, start_kept);
    case STEP_PREPEND:
        return prepend(step, text, mark);
    case STEP_STRIP:
        strip(step, text, mark, start_kept);
        return PR_OK;
    }
    return PR_OK;
}

pr_status pr_normalizer_apply(
    const pr_normalizer *normalizer, pr_byte_buffer *text, pr_byte_buffer *mark, bool *start_kept)
{
    const normalizer_step *steps = normalizer->step.data;
    *start_kept = true;
    for (size_t i = 0; i < normalizer->step.size_bytes / sizeof(normalizer_step); i++) {
        if (text->size_bytes > 0)  // nothing is done to an empty text, not even Prepend
            PR_TRY(apply_step(&steps[i], text, mark, start_kept));
    }
    return PR_OK;
}
