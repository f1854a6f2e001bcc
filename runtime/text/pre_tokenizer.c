// SPDX-License-Identifier: BSD-3-Clause
// Every kind is made of four steps: put a space in front, cut at a pattern, mark spaces, turn bytes
// into the byte-level alphabet.
#include "runtime/text/pre_tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/json_field.h"
#include "runtime/text/pattern.h"
#include "runtime/text/utf8.h"

// The splitter that ByteLevel carries inside. Source: GPT-2's published pattern.
static const char byte_level_regex[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

typedef enum step_kind { STEP_PREFIX_SPACE, STEP_CUT, STEP_MARK_SPACES, STEP_BYTES } step_kind;
typedef enum cut_behavior {
    CUT_REMOVED,
    CUT_ISOLATED,
    CUT_MERGED_WITH_PREVIOUS,
    CUT_MERGED_WITH_NEXT,
    CUT_CONTIGUOUS
} cut_behavior;
typedef enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } prepend_scheme;

typedef struct cutter_step {
    step_kind kind;
    pr_pattern *pattern;  // cut
    cut_behavior behavior;
    bool invert;
    char mark[4];  // mark spaces: the character a space becomes
    size_t mark_bytes;
    prepend_scheme scheme;
} cutter_step;

struct pr_pre_tokenizer {
    pr_byte_buffer step;  // step[steps]
};

// ---- loading

static cutter_step *add_step(pr_pre_tokenizer *pre_tokenizer, step_kind kind)
{
    cutter_step *fresh = pr_byte_buffer_extend(&pre_tokenizer->step, sizeof *fresh);
    if (fresh)
        *fresh = (cutter_step){.kind = kind};
    return fresh;
}

static pr_status load_behavior(const json_t *json, cut_behavior *value)
{
    static const char *const names[] = {
        "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name;
    size_t size_bytes;
    PR_TRY(pr_json_field_string(json, "pre_tokenizer Split", "behavior", &name, &size_bytes));
    for (int i = 0; i < 5; i++) {
        if (strcmp(name, names[i]) == 0) {
            *value = (cut_behavior)i;
            return PR_OK;
        }
    }
    return pr_fail(
        PR_ERR_FORMAT, "tokenizer: pre_tokenizer Split: behavior '%.100s' is unknown", name);
}

static pr_status load_split(pr_pre_tokenizer *pre_tokenizer, const json_t *json)
{
    cutter_step *cut = add_step(pre_tokenizer, STEP_CUT);
    if (!cut)
        return pr_byte_buffer_check(&pre_tokenizer->step);
    PR_TRY(load_behavior(json, &cut->behavior));
    PR_TRY(pr_json_field_bool(json, "pre_tokenizer Split", "invert", &cut->invert));
    return pr_pattern_parse(json, "pre_tokenizer Split", &cut->pattern);
}

static pr_status load_byte_level(pr_pre_tokenizer *pre_tokenizer, const json_t *json)
{
    bool prefix, use_regex = true;
    PR_TRY(pr_json_field_bool(json, "pre_tokenizer ByteLevel", "add_prefix_space", &prefix));
    PR_TRY(pr_json_field_optional_bool(json, "pre_tokenizer ByteLevel", "use_regex", &use_regex));
    if (prefix)
        (void)add_step(pre_tokenizer, STEP_PREFIX_SPACE);
    if (use_regex) {
        cutter_step *cut = add_step(pre_tokenizer, STEP_CUT);
        if (!cut)
            return pr_byte_buffer_check(&pre_tokenizer->step);
        cut->behavior = CUT_ISOLATED;
        PR_TRY(
            pr_pattern_create_regex(byte_level_regex, sizeof byte_level_regex - 1, &cut->pattern));
    }
    (void)add_step(pre_tokenizer, STEP_BYTES);
    return pr_byte_buffer_check(&pre_tokenizer->step);
}

static pr_status load_digits(pr_pre_tokenizer *pre_tokenizer, const json_t *json)
{
    bool individual;
    cutter_step *cut = add_step(pre_tokenizer, STEP_CUT);
    if (!cut)
        return pr_byte_buffer_check(&pre_tokenizer->step);
    PR_TRY(pr_json_field_bool(json, "pre_tokenizer Digits", "individual_digits", &individual));
    cut->behavior = individual ? CUT_ISOLATED : CUT_CONTIGUOUS;
    return pr_pattern_create_regex("\\p{N}", 5, &cut->pattern);
}

// Files older than prepend_scheme say add_prefix_space.
static pr_status load_scheme(const json_t *json, prepend_scheme *scheme)
{
    static const char *const names[] = {"always", "first", "never"};
    const json_t *field = json_object_get(json, "prepend_scheme");
    *scheme = PREPEND_ALWAYS;
    if (!field || json_is_null(field)) {
        bool prefix = true;
        PR_TRY(pr_json_field_optional_bool(
            json, "pre_tokenizer Metaspace", "add_prefix_space", &prefix));
        *scheme = prefix ? PREPEND_ALWAYS : PREPEND_NEVER;
        return PR_OK;
    }
    for (int i = 0; i < 3; i++) {
        if (json_is_string(field) && strcmp(json_string_value(field), names[i]) == 0) {
            *scheme = (prepend_scheme)i;
            return PR_OK;
        }
    }
    return pr_fail(
        PR_ERR_FORMAT,
        "tokenizer: pre_tokenizer Metaspace: prepend_scheme is not always, first or never");
}

static pr_status load_metaspace(pr_pre_tokenizer *pre_tokenizer, const json_t *json)
{
    static const char where[] = "pre_tokenizer Metaspace";
    const char *mark_text;
    size_t mark_bytes;
    bool split = true;
    PR_TRY(pr_json_field_character(json, where, "replacement", &mark_text, &mark_bytes));
    PR_TRY(pr_json_field_optional_bool(json, where, "split", &split));
    cutter_step *mark = add_step(pre_tokenizer, STEP_MARK_SPACES);
    if (!mark)
        return pr_byte_buffer_check(&pre_tokenizer->step);
    memcpy(mark->mark, mark_text, mark_bytes);
    mark->mark_bytes = mark_bytes;
    PR_TRY(load_scheme(json, &mark->scheme));
    if (!split)
        return PR_OK;
    cutter_step *cut = add_step(pre_tokenizer, STEP_CUT);
    if (!cut)
        return pr_byte_buffer_check(&pre_tokenizer->step);
    cut->behavior = CUT_MERGED_WITH_NEXT;
    return pr_pattern_create_literal(mark_text, mark_bytes, &cut->pattern);
}

static pr_status load(pr_pre_tokenizer *pre_tokenizer, const json_t *json, int depth)
{
    const char *type;
    PR_TRY(pr_json_field_type(json, "pre_tokenizer", &type));
    if (strcmp(type, "Split") == 0)
        return load_split(pre_tokenizer, json);
    if (strcmp(type, "ByteLevel") == 0)
        return load_byte_level(pre_tokenizer, json);
    if (strcmp(type, "Digits") == 0)
        return load_digits(pre_tokenizer, json);
    if (strcmp(type, "Metaspace") == 0)
        return load_metaspace(pre_tokenizer, json);
    if (strcmp(type, "Sequence") != 0)
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "tokenizer: pre_tokenizer '%.100s' is not supported: use Split, ByteLevel, Digits, "
            "Metaspace or Sequence",
            type);
    const json_t *list;
    PR_TRY(pr_json_field_array(json, "pre_tokenizer Sequence", "pretokenizers", &list));
    if (depth == PR_JSON_FIELD_MAX_DEPTH)
        return pr_fail(PR_ERR_FORMAT, "tokenizer: pre_tokenizer Sequences are nested too deep");
    for (size_t i = 0; i < json_array_size(list); i++)
        PR_TRY(load(pre_tokenizer, json_array_get(list, i), depth + 1));
    return PR_OK;
}

pr_status pr_pre_tokenizer_create(const json_t *json, pr_pre_tokenizer **pre_tokenizer)
{
    pr_pre_tokenizer *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for a pre_tokenizer");
    pr_status status = json && !json_is_null(json) ? load(fresh, json, 0) : PR_OK;
    if (status != PR_OK) {
        pr_pre_tokenizer_destroy(fresh);
        return status;
    }
    *pre_tokenizer = fresh;
    return PR_OK;
}

void pr_pre_tokenizer_destroy(pr_pre_tokenizer *pre_tokenizer)
{
    if (!pre_tokenizer)
        return;
    cutter_step *steps = pre_tokenizer->step.data;
    for (size_t i = 0; i < pre_tokenizer->step.size_bytes / sizeof(cutter_step); i++)
        pr_pattern_destroy(steps[i].pattern);
    pr_byte_buffer_free(&pre_tokenizer->step);
    free(pre_tokenizer);
}

// ---- cutting

typedef struct span {
    size_t start, end;
    bool match;
} span;

static void add_span(pr_byte_buffer *spans, size_t start, size_t end, bool match)
{
    span *fresh = pr_byte_buffer_extend(spans, sizeof *fresh);
    if (fresh)
        *fresh = (span){start, end, match};
}

// The text as matches and what is between them; invert calls each by the other's name.
static pr_status find_spans(pr_pattern_search *search, bool invert, pr_byte_buffer *spans)
{
    size_t end_before = 0, start, end;
    bool found;
    pr_byte_buffer_clear(spans);
    for (;;) {
        PR_TRY(pr_pattern_search_next(search, &found, &start, &end));
        if (!found)
            break;
        if (end_before != start)
            add_span(spans, end_before, start, invert);
        add_span(spans, start, end, !invert);
        end_before = end;
    }
    if (end_before != search->size_bytes)
        add_span(spans, end_before, search->size_bytes, invert);
    return pr_byte_buffer_check(spans);
}

// Joins neighbours as the behaviour says; returns the new count. A match joins a gap, and no second
// match joins with it.
static size_t join_spans(span *item, size_t count, cut_behavior behavior)
{
    size_t kept = 0;
    bool match_before = false;
    for (size_t i = 0; i < count; i++) {
        bool joins = behavior == CUT_CONTIGUOUS             ? item[i].match == match_before
                     : behavior == CUT_MERGED_WITH_PREVIOUS ? item[i].match && !match_before
                                                            : false;
        match_before = item[i].match;
        if (joins && kept > 0)
            item[kept - 1].end = item[i].end;
        else
            item[kept++] = item[i];
    }
    return kept;
}

// The mirror image of merging with the previous: from the right, in place at the array's end.
// Returns the index of the first span kept.
static size_t join_spans_with_next(span *item, size_t count)
{
    size_t first = count;
    bool match_after = false;
    for (size_t i = count; i-- > 0;) {
        bool joins = item[i].match && !match_after && first < count;
        match_after = item[i].match;
        if (joins)
            item[first].start = item[i].start;
        else
            item[--first] = item[i];
    }
    return first;
}

static void add_cut_pieces(
    const cutter_step *step, const pr_piece *whole, pr_byte_buffer *spans, pr_byte_buffer *pieces)
{
    span *item = spans->data;
    size_t count = spans->size_bytes / sizeof *item, first = 0;
    if (step->behavior == CUT_MERGED_WITH_NEXT)
        first = join_spans_with_next(item, count);
    else if (step->behavior != CUT_ISOLATED && step->behavior != CUT_REMOVED)
        count = join_spans(item, count, step->behavior);
    for (size_t i = first; i < count; i++) {
        bool removed = step->behavior == CUT_REMOVED && item[i].match;
        pr_piece *fresh;
        if (removed || item[i].start == item[i].end)
            continue;
        if ((fresh = pr_byte_buffer_extend(pieces, sizeof *fresh)))
            *fresh = (pr_piece){
                whole->start + item[i].start, item[i].end - item[i].start, -1,
                whole->first && item[i].start == 0, whole->guarded};
    }
}

static pr_status cut(const cutter_step *step, pr_pieces *from, pr_pieces *to)
{
    pr_pattern_search search;
    pr_byte_buffer spans = {0}, text = from->text;
    PR_TRY(pr_pattern_search_begin(step->pattern, &search));
    pr_status status = PR_OK;
    for (size_t i = 0; i < pr_pieces_count(from) && status == PR_OK; i++) {
        const pr_piece *piece = (const pr_piece *)from->piece.data + i;
        if (piece->token >= 0) {
            pr_byte_buffer_append(&to->piece, piece, sizeof *piece);
            continue;
        }
        pr_pattern_search_set(&search, (char *)from->text.data + piece->start, piece->size_bytes);
        status = find_spans(&search, step->invert, &spans);
        if (status == PR_OK)
            add_cut_pieces(step, piece, &spans, &to->piece);
    }
    from->text = to->text;  // the text itself stays as it is
    to->text = text;
    pr_pattern_search_end(&search);
    pr_byte_buffer_free(&spans);
    return status;
}

// ---- steps that change the text

static void put_prefix_space(const char *text, size_t size_bytes, pr_byte_buffer *out)
{
    if (text[0] != ' ')
        pr_byte_buffer_append(out, " ", 1);
    pr_byte_buffer_append(out, text, size_bytes);
}

static void mark_spaces(
    const cutter_step *step, const char *text, size_t size_bytes, bool first, pr_byte_buffer *out)
{
    bool marked = text[0] == ' ' || (size_bytes >= step->mark_bytes &&
                                     memcmp(text, step->mark, step->mark_bytes) == 0);
    if (!marked && (step->scheme == PREPEND_ALWAYS || (step->scheme == PREPEND_FIRST && first)))
        pr_byte_buffer_append(out, step->mark, step->mark_bytes);
    for (size_t at = 0; at < size_bytes;) {
        const char *space = memchr(text + at, ' ', size_bytes - at);
        size_t end = space ? (size_t)(space - text) : size_bytes;
        pr_byte_buffer_append(out, text + at, end - at);
        if (space)
            pr_byte_buffer_append(out, step->mark, step->mark_bytes);
        at = end + 1;
    }
}

static void write_bytes(const char *text, size_t size_bytes, pr_byte_buffer *out)
{
    char *place = pr_byte_buffer_extend(out, 2 * size_bytes);
    size_t used = 0;
    for (size_t i = 0; place && i < size_bytes; i++) {
        uint32_t character = pr_byte_level_character((uint8_t)text[i]);
        if (character < 0x80) {
            place[used++] = (char)character;
        } else {
            place[used++] = (char)(0xc0 | character >> 6);
            place[used++] = (char)(0x80 | (character & 0x3f));
        }
    }
    if (place)
        out->size_bytes -= 2 * size_bytes - used;
}

static void rewrite(const cutter_step *step, const pr_pieces *from, pr_pieces *to)
{
    for (size_t i = 0; i < pr_pieces_count(from); i++) {
        pr_piece piece = ((const pr_piece *)from->piece.data)[i];
        const char *text = (const char *)from->text.data + piece.start;
        size_t start = to->text.size_bytes;
        if (piece.token < 0) {
            if (step->kind == STEP_PREFIX_SPACE)
                put_prefix_space(text, piece.size_bytes, &to->text);
            else if (step->kind == STEP_MARK_SPACES)
                mark_spaces(step, text, piece.size_bytes, piece.first, &to->text);
            else
                write_bytes(text, piece.size_bytes, &to->text);
        }
        piece.start = start;
        piece.size_bytes = to->text.size_bytes - start;
        pr_byte_buffer_append(&to->piece, &piece, sizeof piece);
    }
}

pr_status
pr_pre_tokenizer_apply(const pr_pre_tokenizer *pre_tokenizer, pr_pieces *pieces, pr_pieces *spare)
{
    const cutter_step *steps = pre_tokenizer->step.data;
    for (size_t i = 0; i < pre_tokenizer->step.size_bytes / sizeof(cutter_step); i++) {
        pr_pieces_clear(spare);
        if (steps[i].kind == STEP_CUT)
            PR_TRY(cut(&steps[i], pieces, spare));
        else
            rewrite(&steps[i], pieces, spare);
        PR_TRY(pr_byte_buffer_check(&spare->text));
        PR_TRY(pr_byte_buffer_check(&spare->piece));
        pr_pieces swap = *pieces;
        *pieces = *spare;
        *spare = swap;
    }
    return PR_OK;
}
