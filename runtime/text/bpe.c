// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/text/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/text/json_field.h"
#include "runtime/text/utf8.h"

// Below this many symbols, scanning an array beats a heap.
enum { SHORT_WORD = 96, DIRECT_CHARACTERS = 1 << 16, NO_RANK = INT32_MAX };

typedef struct merge {
    uint64_t pair;  // left id in the high half, right id in the low; EMPTY_PAIR: a free slot
    int32_t rank;
    int32_t id;
} merge;

#define EMPTY_PAIR UINT64_MAX

struct pr_bpe {
    const pr_vocabulary *vocabulary;
    merge *slot;  // [slots]: open addressing, linear probing
    size_t slots;
    int32_t character[DIRECT_CHARACTERS];  // id of a one-character token, or -1
    int32_t byte[256];                     // id of <0xNN>, or -1
    int32_t unknown;                       // id of unk_token, or -1
    bool byte_fallback, fuse_unknown, ignore_merges;
};

// Symbols of a word form a linked list in both merge procedures.
typedef struct symbol {
    int32_t id;  // -1: was joined to its left neighbour
    int32_t previous, next;
    int32_t rank, merged;  // of joining with next (array scan only)
} symbol;

typedef struct candidate {
    int32_t rank, position, id;
} candidate;

// ---- loading

static const merge *find_merge(const pr_bpe *bpe, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = pr_hash_mix(pair) & (bpe->slots - 1);
    while (bpe->slot[at].pair != EMPTY_PAIR) {
        if (bpe->slot[at].pair == pair)
            return &bpe->slot[at];
        at = (at + 1) & (bpe->slots - 1);
    }
    return NULL;
}

static void put_merge(pr_bpe *bpe, uint64_t pair, int32_t rank, int32_t id)
{
    size_t at = pr_hash_mix(pair) & (bpe->slots - 1);
    while (bpe->slot[at].pair != EMPTY_PAIR && bpe->slot[at].pair != pair)
        at = (at + 1) & (bpe->slots - 1);
    bpe->slot[at] = (merge){pair, rank, id};
}

static pr_status
split_merge(const json_t *item, size_t index, const char *half[2], size_t half_bytes[2])
{
    const json_t *left = json_array_get(item, 0), *right = json_array_get(item, 1);
    if (json_is_array(item) && json_array_size(item) == 2 && json_is_string(left) &&
        json_is_string(right)) {
        half[0] = json_string_value(left), half_bytes[0] = json_string_length(left);
        half[1] = json_string_value(right), half_bytes[1] = json_string_length(right);
        return PR_OK;
    }
    const char *line = json_string_value(item);
    size_t line_bytes = json_string_length(item);
    const char *space = line ? memchr(line, ' ', line_bytes) : NULL;
    if (space) {
        half[0] = line, half_bytes[0] = (size_t)(space - line);
        half[1] = space + 1, half_bytes[1] = line_bytes - half_bytes[0] - 1;
        if (!memchr(half[1], ' ', half_bytes[1]))
            return PR_OK;
    }
    return pr_fail(
        PR_ERR_FORMAT, "tokenizer: merge %zu is neither \"left right\" nor [\"left\", \"right\"]",
        index);
}

static pr_status add_merge(
    pr_bpe *bpe,
    const char *half[2],
    const size_t half_bytes[2],
    size_t index,
    pr_byte_buffer *joined)
{
    int32_t id[3];
    pr_byte_buffer_clear(joined);
    pr_byte_buffer_append(joined, half[0], half_bytes[0]);
    pr_byte_buffer_append(joined, half[1], half_bytes[1]);
    PR_TRY(pr_byte_buffer_check(joined));
    const char *text[3] = {half[0], half[1], joined->data};
    size_t text_bytes[3] = {half_bytes[0], half_bytes[1], joined->size_bytes};
    for (int i = 0; i < 3; i++) {
        id[i] = text_bytes[i] == 0
                    ? -1
                    : pr_vocabulary_find_in_model(bpe->vocabulary, text[i], text_bytes[i]);
        if (id[i] < 0)
            return pr_fail(
                PR_ERR_FORMAT,
                "tokenizer: merge %zu names token '%.*s', which is not in model.vocab", index,
                text_bytes[i] < 100 ? (int)text_bytes[i] : 100, text[i]);
    }
    put_merge(bpe, (uint64_t)(uint32_t)id[0] << 32 | (uint32_t)id[1], (int32_t)index, id[2]);
    return PR_OK;
}

static pr_status load_merges(pr_bpe *bpe, const json_t *model)
{
    const json_t *merges;
    PR_TRY(pr_json_field_array(model, "model", "merges", &merges));
    size_t count = json_array_size(merges);
    bpe->slots = 64;
    while (bpe->slots < 2 * count + 2)
        bpe->slots *= 2;
    bpe->slot = malloc(bpe->slots * sizeof *bpe->slot);
    if (!bpe->slot || count >= NO_RANK)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for %zu merges", count);
    for (size_t i = 0; i < bpe->slots; i++)
        bpe->slot[i].pair = EMPTY_PAIR;
    pr_byte_buffer joined = {0};
    pr_status status = PR_OK;
    for (size_t i = 0; i < count && status == PR_OK; i++) {
        const json_t *item = json_array_get(merges, i);
        const char *line = json_string_value(item), *half[2] = {NULL, NULL};
        size_t half_bytes[2] = {0, 0};
        if (line && strncmp(line, "#version", 8) == 0)  // header line of a merges.txt
            continue;
        status = split_merge(item, i, half, half_bytes);
        if (status == PR_OK)
            status = add_merge(bpe, half, half_bytes, i, &joined);
    }
    pr_byte_buffer_free(&joined);
    return status;
}

static void load_characters(pr_bpe *bpe)
{
    memset(bpe->character, 0xff, sizeof bpe->character);
    for (int32_t id = 0; id < pr_vocabulary_size(bpe->vocabulary); id++) {
        size_t size_bytes, position = 0;
        const char *text = pr_vocabulary_text(bpe->vocabulary, id, &size_bytes);
        if (!text || size_bytes == 0)
            continue;
        uint32_t code_point = pr_utf8_next(text, &position);
        if (position == size_bytes && code_point < DIRECT_CHARACTERS)
            bpe->character[code_point] = id;
    }
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        bpe->byte[i] = pr_vocabulary_find_in_model(bpe->vocabulary, name, 6);
    }
}

static pr_status refuse_foreign_fields(const json_t *model)
{
    static const char *const affix[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const json_t *field = json_object_get(model, affix[i]);
        if (field && !json_is_null(field) && json_string_length(field) != 0)
            return pr_fail(PR_ERR_UNSUPPORTED, "tokenizer: BPE with %s is not supported", affix[i]);
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (json_is_number(dropout) && json_number_value(dropout) != 0.0)
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "tokenizer: BPE with dropout is for training: set model.dropout to null");
    return PR_OK;
}

static pr_status load_unknown(pr_bpe *bpe, const json_t *model)
{
    const json_t *field = json_object_get(model, "unk_token");
    bpe->unknown = -1;
    if (!field || json_is_null(field))
        return PR_OK;
    const char *text;
    size_t size_bytes;
    PR_TRY(pr_json_field_string(model, "model", "unk_token", &text, &size_bytes));
    bpe->unknown = pr_vocabulary_find_in_model(bpe->vocabulary, text, size_bytes);
    if (bpe->unknown < 0)
        return pr_fail(PR_ERR_FORMAT, "tokenizer: unk_token '%.100s' is not in model.vocab", text);
    return PR_OK;
}

static pr_status load(pr_bpe *bpe, const json_t *model)
{
    PR_TRY(refuse_foreign_fields(model));
    PR_TRY(load_unknown(bpe, model));
    PR_TRY(pr_json_field_optional_bool(model, "model", "byte_fallback", &bpe->byte_fallback));
    PR_TRY(pr_json_field_optional_bool(model, "model", "fuse_unk", &bpe->fuse_unknown));
    PR_TRY(pr_json_field_optional_bool(model, "model", "ignore_merges", &bpe->ignore_merges));
    PR_TRY(load_merges(bpe, model));
    load_characters(bpe);
    return PR_OK;
}

pr_status pr_bpe_create(const json_t *model, const pr_vocabulary *vocabulary, pr_bpe **bpe)
{
    pr_bpe *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for merges");
    fresh->vocabulary = vocabulary;
    pr_status status = load(fresh, model);
    if (status != PR_OK) {
        pr_bpe_destroy(fresh);
        return status;
    }
    *bpe = fresh;
    return PR_OK;
}

void pr_bpe_destroy(pr_bpe *bpe)
{
    if (!bpe)
        return;
    free(bpe->slot);
    free(bpe);
}

// ---- a word's symbols

static void add_symbol(pr_bpe_work *work, int32_t id)
{
    int32_t index = (int32_t)(work->symbol.size_bytes / sizeof(symbol));
    symbol *fresh = pr_byte_buffer_extend(&work->symbol, sizeof *fresh);
    if (fresh)
        *fresh = (symbol){id, index - 1, index + 1, NO_RANK, -1};
}

static bool add_bytes(const pr_bpe *bpe, const char *bytes, size_t size_bytes, pr_bpe_work *work)
{
    for (size_t i = 0; i < size_bytes; i++) {
        if (bpe->byte[(uint8_t)bytes[i]] < 0)
            return false;
    }
    for (size_t i = 0; i < size_bytes; i++)
        add_symbol(work, bpe->byte[(uint8_t)bytes[i]]);
    return true;
}

// A run of unknown characters is held until the next known one; byte tokens overtake it. That order
// is the library's.
static pr_status make_symbols(const pr_bpe *bpe, const char *word, size_t size, pr_bpe_work *work)
{
    bool unknown_held = false;
    pr_byte_buffer_clear(&work->symbol);
    for (size_t at = 0; at < size;) {
        size_t start = at;
        uint32_t code_point = pr_utf8_next(word, &at);
        int32_t id = code_point < DIRECT_CHARACTERS
                         ? bpe->character[code_point]
                         : pr_vocabulary_find_in_model(bpe->vocabulary, word + start, at - start);
        if (id < 0 && bpe->byte_fallback && add_bytes(bpe, word + start, at - start, work))
            continue;
        if (unknown_held && (id >= 0 || !bpe->fuse_unknown)) {
            add_symbol(work, bpe->unknown);
            unknown_held = false;
        }
        if (id >= 0)
            add_symbol(work, id);
        else
            unknown_held = bpe->unknown >= 0;
    }
    if (unknown_held)
        add_symbol(work, bpe->unknown);
    return pr_byte_buffer_check(&work->symbol);
}

// ---- merging

typedef struct word_view {
    const pr_bpe *bpe;
    const bool *barred;
    symbol *symbol;  // [symbols]
    int32_t symbols;
} word_view;

static const merge *merge_at(const word_view *word, int32_t position)
{
    int32_t next = word->symbol[position].next;
    if (next >= word->symbols)
        return NULL;
    const merge *found = find_merge(word->bpe, word->symbol[position].id, word->symbol[next].id);
    return found && word->barred && word->barred[found->id] ? NULL : found;
}

static void join_with_next(const word_view *word, int32_t position, int32_t id)
{
    symbol *left = &word->symbol[position], *right = &word->symbol[left->next];
    left->id = id;
    left->next = right->next;
    right->id = -1;
    if (left->next < word->symbols)
        word->symbol[left->next].previous = position;
}

static void note_merge(const word_view *word, int32_t position)
{
    const merge *found = merge_at(word, position);
    word->symbol[position].rank = found ? found->rank : NO_RANK;
    word->symbol[position].merged = found ? found->id : -1;
}

static void merge_by_scan(const word_view *word)
{
    for (int32_t i = 0; i < word->symbols; i++)
        note_merge(word, i);
    for (;;) {
        int32_t best = 0;
        for (int32_t i = word->symbol[0].next; i < word->symbols; i = word->symbol[i].next) {
            if (word->symbol[i].rank < word->symbol[best].rank)
                best = i;
        }
        if (word->symbol[best].rank == NO_RANK)
            return;
        join_with_next(word, best, word->symbol[best].merged);
        note_merge(word, best);
        if (word->symbol[best].previous >= 0)
            note_merge(word, word->symbol[best].previous);
    }
}

static bool comes_before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static void heap_push(pr_byte_buffer *heap, candidate fresh)
{
    size_t at = heap->size_bytes / sizeof fresh;
    if (!pr_byte_buffer_extend(heap, sizeof fresh))
        return;
    candidate *item = heap->data;
    for (; at > 0 && comes_before(&fresh, &item[(at - 1) / 2]); at = (at - 1) / 2)
        item[at] = item[(at - 1) / 2];
    item[at] = fresh;
}

static candidate heap_pop(pr_byte_buffer *heap)
{
    candidate *item = heap->data, top = item[0];
    size_t count = heap->size_bytes / sizeof top - 1, at = 0;
    candidate last = item[count];
    heap->size_bytes = count * sizeof top;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < count && comes_before(&item[child + 1], &item[child]))
            child++;
        if (child >= count || !comes_before(&item[child], &last))
            break;
        item[at] = item[child];
        at = child;
    }
    item[at] = last;
    return top;
}

static void push_merge(const word_view *word, int32_t position, pr_byte_buffer *heap)
{
    const merge *found = merge_at(word, position);
    if (found)
        heap_push(heap, (candidate){found->rank, position, found->id});
}

// Entries whose pair has changed since they were pushed are recognised when popped: symbols only
// grow, so the pair now there, if it merges at all, makes another token.
static pr_status merge_by_heap(const word_view *word, pr_byte_buffer *heap)
{
    pr_byte_buffer_clear(heap);
    for (int32_t i = 0; i < word->symbols; i++)
        push_merge(word, i, heap);
    while (heap->size_bytes > 0 && !heap->failed) {
        candidate top = heap_pop(heap);
        if (word->symbol[top.position].id < 0)
            continue;
        const merge *found = merge_at(word, top.position);
        if (!found || found->id != top.id)
            continue;
        join_with_next(word, top.position, top.id);
        push_merge(word, top.position, heap);
        if (word->symbol[top.position].previous >= 0)
            push_merge(word, word->symbol[top.position].previous, heap);
    }
    return pr_byte_buffer_check(heap);
}

pr_status pr_bpe_encode(
    const pr_bpe *bpe,
    const char *word,
    size_t size_bytes,
    const bool *barred,
    pr_bpe_work *work,
    pr_byte_buffer *token)
{
    if (bpe->ignore_merges) {
        int32_t id = pr_vocabulary_find_in_model(bpe->vocabulary, word, size_bytes);
        if (id >= 0 && !(barred && barred[id])) {
            pr_byte_buffer_append(token, &id, sizeof id);
            return pr_byte_buffer_check(token);
        }
    }
    PR_TRY(make_symbols(bpe, word, size_bytes, work));
    word_view view = {bpe, barred, work->symbol.data, 0};
    view.symbols = (int32_t)(work->symbol.size_bytes / sizeof(symbol));
    if (view.symbols == 0)
        return PR_OK;
    if (view.symbols <= SHORT_WORD)
        merge_by_scan(&view);
    else
        PR_TRY(merge_by_heap(&view, &work->heap));
    for (int32_t i = 0; i < view.symbols; i = view.symbol[i].next)
        pr_byte_buffer_append(token, &view.symbol[i].id, sizeof(int32_t));
    return pr_byte_buffer_check(token);
}

void pr_bpe_work_free(pr_bpe_work *work)
{
    pr_byte_buffer_free(&work->symbol);
    pr_byte_buffer_free(&work->heap);
}
