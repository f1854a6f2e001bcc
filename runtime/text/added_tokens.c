// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/text/added_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/text/json_field.h"
#include "runtime/text/utf8.h"

typedef struct token {
    char *text;
    size_t size_bytes;
    int32_t id;
    int32_t order;  // of two with the same normalized text, the earlier one is found
    bool single_word, strip_left, strip_right, normalized, special;
} token;

// Tokens sorted by text, so that those with a common prefix stand together.
typedef struct token_set {
    pr_byte_buffer token;  // token[tokens]
    int32_t first[257];    // tokens whose first byte is b: first[b]..first[b + 1]
} token_set;

struct pr_added_tokens {
    token_set set[2];  // raw, normalized
    bool *special;     // [ids]
};

// ---- loading

static pr_status
copy_text(const char *text, size_t size_bytes, const pr_normalizer *normalizer, token *fresh)
{
    pr_byte_buffer copy = {0};
    bool start_kept;
    pr_byte_buffer_append(&copy, text, size_bytes);
    pr_status status = pr_byte_buffer_check(&copy);
    if (status == PR_OK && fresh->normalized)
        status = pr_normalizer_apply(normalizer, &copy, NULL, &start_kept);
    if (status == PR_OK && copy.size_bytes == 0)
        status = pr_fail(
            PR_ERR_FORMAT, "tokenizer: added token '%.100s' is empty, or made so by the normalizer",
            text);
    if (status != PR_OK) {
        pr_byte_buffer_free(&copy);
        return status;
    }
    fresh->text = copy.data;
    fresh->size_bytes = copy.size_bytes;
    return PR_OK;
}

// The vocabulary's id stands when the file disagrees with itself, as in the library.
static pr_status find_id(
    pr_vocabulary *vocabulary, const char *text, size_t size_bytes, json_int_t id, int32_t *found)
{
    *found = pr_vocabulary_find(vocabulary, text, size_bytes);
    if (*found < 0) {
        PR_TRY(pr_vocabulary_add(vocabulary, text, size_bytes, id));
        *found = (int32_t)id;
    } else if (*found != id) {
        pr_log(
            PR_LOG_WARN,
            "tokenizer: added token '%.100s' has id %lld in added_tokens and %d in "
            "model.vocab; %d is used",
            text, (long long)id, *found, *found);
    }
    return PR_OK;
}

static pr_status load_token(
    const json_t *json, const pr_normalizer *normalizer, pr_vocabulary *vocabulary, token *fresh)
{
    static const char where[] = "added_tokens";
    const char *text;
    size_t size_bytes;
    json_int_t id;
    PR_TRY(pr_json_field_string(json, where, "content", &text, &size_bytes));
    PR_TRY(pr_json_field_integer(json, where, "id", &id));
    PR_TRY(pr_json_field_bool(json, where, "single_word", &fresh->single_word));
    PR_TRY(pr_json_field_bool(json, where, "lstrip", &fresh->strip_left));
    PR_TRY(pr_json_field_bool(json, where, "rstrip", &fresh->strip_right));
    PR_TRY(pr_json_field_bool(json, where, "normalized", &fresh->normalized));
    PR_TRY(pr_json_field_bool(json, where, "special", &fresh->special));
    PR_TRY(find_id(vocabulary, text, size_bytes, id, &fresh->id));
    PR_TRY(copy_text(text, size_bytes, normalizer, fresh));
    // A normalized token decodes to its normalized spelling, as the library does.
    pr_status status =
        pr_vocabulary_set_decoded(vocabulary, fresh->id, fresh->text, fresh->size_bytes);
    if (status != PR_OK)
        free(fresh->text);
    return status;
}

static pr_status load_tokens(
    pr_added_tokens *added,
    const json_t *json,
    const pr_normalizer *normalizer,
    pr_vocabulary *vocabulary)
{
    if (!json || json_is_null(json))
        return PR_OK;
    if (!json_is_array(json))
        return pr_fail(PR_ERR_FORMAT, "tokenizer: added_tokens is not an array");
    for (size_t i = 0; i < json_array_size(json); i++) {
        token fresh = {0};
        PR_TRY(load_token(json_array_get(json, i), normalizer, vocabulary, &fresh));
        fresh.order = (int32_t)i + (fresh.special ? 0 : INT32_MAX / 2);  // special ones first
        pr_byte_buffer *set = &added->set[fresh.normalized].token;
        pr_byte_buffer_append(set, &fresh, sizeof fresh);
        if (set->failed)
            free(fresh.text);
        PR_TRY(pr_byte_buffer_check(set));
    }
    return PR_OK;
}

static int compare_tokens(const void *left, const void *right)
{
    const token *a = left, *b = right;
    size_t common = a->size_bytes < b->size_bytes ? a->size_bytes : b->size_bytes;
    int order = memcmp(a->text, b->text, common);
    if (order != 0)
        return order;
    if (a->size_bytes != b->size_bytes)
        return a->size_bytes < b->size_bytes ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

static void index_set(token_set *set)
{
    token *item = set->token.data;
    int32_t count = (int32_t)(set->token.size_bytes / sizeof *item), at = 0;
    if (count > 0)
        qsort(item, (size_t)count, sizeof *item, compare_tokens);
    for (int byte = 0; byte <= 256; byte++) {
        while (at < count && (uint8_t)item[at].text[0] < byte)
            at++;
        set->first[byte] = at;
    }
}

static pr_status note_special(pr_added_tokens *added, const pr_vocabulary *vocabulary)
{
    added->special = calloc((size_t)pr_vocabulary_size(vocabulary), sizeof *added->special);
    if (!added->special)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for added tokens");
    for (int s = 0; s < 2; s++) {
        const token *item = added->set[s].token.data;
        for (size_t i = 0; i < added->set[s].token.size_bytes / sizeof *item; i++)
            added->special[item[i].id] |= item[i].special;
    }
    return PR_OK;
}

pr_status pr_added_tokens_create(
    const json_t *json,
    const pr_normalizer *normalizer,
    pr_vocabulary *vocabulary,
    pr_added_tokens **added)
{
    pr_added_tokens *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for added tokens");
    pr_status status = load_tokens(fresh, json, normalizer, vocabulary);
    if (status == PR_OK)
        status = note_special(fresh, vocabulary);
    if (status != PR_OK) {
        pr_added_tokens_destroy(fresh);
        return status;
    }
    index_set(&fresh->set[0]);
    index_set(&fresh->set[1]);
    *added = fresh;
    return PR_OK;
}

void pr_added_tokens_destroy(pr_added_tokens *added)
{
    if (!added)
        return;
    for (int s = 0; s < 2; s++) {
        token *item = added->set[s].token.data;
        for (size_t i = 0; i < added->set[s].token.size_bytes / sizeof *item; i++)
            free(item[i].text);
        pr_byte_buffer_free(&added->set[s].token);
    }
    free(added->special);
    free(added);
}

const bool *pr_added_tokens_special(const pr_added_tokens *added) { return added->special; }

// ---- finding

// First of item[low..high) whose byte at depth is at least `byte`; all share the bytes before.
static int32_t lower_bound(const token *item, int32_t low, int32_t high, size_t depth, int byte)
{
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if ((uint8_t)item[middle].text[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool has_mark(const uint8_t *mark, size_t begin, size_t end)
{
    return mark && end > begin && memchr(mark + begin, 1, end - begin);
}

// The longest token at the front of the text, or NULL. Special ones with a marked byte do not count, so that
// marked text cannot hide a special token behind it either.
static const token *
longest_at(const token_set *set, const char *text, size_t size_bytes, const uint8_t *mark)
{
    const token *item = set->token.data, *longest = NULL;
    int32_t low = set->first[(uint8_t)text[0]], high = set->first[(uint8_t)text[0] + 1];
    for (size_t depth = 1; low < high; depth++) {
        if (item[low].size_bytes == depth && !(item[low].special && has_mark(mark, 0, depth)))
            longest = &item[low];
        while (low < high && item[low].size_bytes == depth)
            low++;
        if (depth == size_bytes)
            break;
        low = lower_bound(item, low, high, depth, (uint8_t)text[depth]);
        high = lower_bound(item, low, high, depth, (uint8_t)text[depth] + 1);
    }
    return longest;
}

static bool stands_alone(const char *text, size_t size_bytes, size_t start, size_t end)
{
    if (start > 0) {
        size_t at = pr_utf8_previous(text, start);
        if (pr_utf8_is_word(pr_utf8_next(text, &at)))
            return false;
    }
    return end == size_bytes || !pr_utf8_is_word(pr_utf8_next(text, &end));
}

static size_t skip_spaces_left(const char *text, size_t start)
{
    while (start > 0) {
        size_t previous = pr_utf8_previous(text, start), at = previous;
        if (!pr_utf8_is_space(pr_utf8_next(text, &at)))
            break;
        start = previous;
    }
    return start;
}

static size_t skip_spaces_right(const char *text, size_t size_bytes, size_t end)
{
    while (end < size_bytes) {
        size_t next = end;
        if (!pr_utf8_is_space(pr_utf8_next(text, &next)))
            break;
        end = next;
    }
    return end;
}

static void
add_token(const pr_piece *whole, size_t start, size_t end, int32_t id, pr_pieces *pieces)
{
    pr_piece fresh = {whole->start + start, end - start, id, whole->first && start == 0, false};
    pr_byte_buffer_append(&pieces->piece, &fresh, sizeof fresh);
}

static void
add_text(const pr_piece *whole, size_t start, size_t end, const uint8_t *mark, pr_pieces *pieces)
{
    pr_piece fresh = {
        whole->start + start, end - start, -1, whole->first && start == 0,
        has_mark(mark, start, end)};
    if (start < end)
        pr_byte_buffer_append(&pieces->piece, &fresh, sizeof fresh);
}

void pr_added_tokens_cut(
    const pr_added_tokens *added,
    bool normalized,
    bool with_special,
    const uint8_t *mark,
    const pr_piece *whole,
    pr_pieces *pieces)
{
    const char *text = (const char *)pieces->text.data + whole->start;
    const token_set *set = &added->set[normalized];
    size_t size = whole->size_bytes, done = 0;
    for (size_t at = 0; at < size;) {
        const token *found = longest_at(set, text + at, size - at, mark ? mark + at : NULL);
        if (!found) {
            at++;
            continue;
        }
        size_t start = at, end = at + found->size_bytes;
        at = end;
        if ((found->special && !with_special) ||
            (found->single_word && !stands_alone(text, size, start, end)))
            continue;
        if (found->strip_left) {
            start = skip_spaces_left(text, start);
            start = start < done ? done : start;
        }
        if (found->strip_right)
            end = skip_spaces_right(text, size, end);
        add_text(whole, done, start, mark, pieces);
        add_token(whole, start, end, found->id, pieces);
        done = end;
    }
    add_text(whole, done, size, mark, pieces);
}
