// SPDX-License-Identifier: BSD-3-Clause
// Encoding, in this order: added tokens in the raw text; the normalizer on what is between; added
// tokens in its result; the pre-tokenizer; byte-pair encoding of each word; the post-processor.
#include "runtime/text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/text/json_field.h"
#include "runtime/text/tokenizer_parts.h"
#include "runtime/text/utf8.h"

// Texts and files beyond these sizes are mistakes or attacks; sums of sizes below stay far from
// overflow, and a token count stays an int32_t.
#define MAX_TEXT_BYTES ((size_t)1 << 28)
#define MAX_FILE_BYTES ((size_t)1 << 29)

// ---- loading

static pr_status check_model(const json_t *model)
{
    const json_t *type = json_object_get(model, "type");
    if (!json_is_object(model))
        return pr_fail(PR_ERR_FORMAT, "tokenizer: \"model\" is missing or not an object");
    if (!type && json_object_get(model, "merges"))  // early files of BPE models name no type
        return PR_OK;
    if (!json_is_string(type))
        return pr_fail(PR_ERR_FORMAT, "tokenizer: model.type is missing or not a string");
    if (strcmp(json_string_value(type), "BPE") != 0)
        return pr_fail(
            PR_ERR_UNSUPPORTED, "tokenizer: model '%.100s' is not supported: only BPE is",
            json_string_value(type));
    return PR_OK;
}

static pr_status load_parts(const json_t *file, pr_tokenizer *tokenizer)
{
    const json_t *model = json_object_get(file, "model");
    PR_TRY(check_model(model));
    PR_TRY(pr_vocabulary_create(json_object_get(model, "vocab"), &tokenizer->vocabulary));
    PR_TRY(pr_bpe_create(model, tokenizer->vocabulary, &tokenizer->bpe));
    PR_TRY(pr_normalizer_create(json_object_get(file, "normalizer"), &tokenizer->normalizer));
    PR_TRY(pr_added_tokens_create(
        json_object_get(file, "added_tokens"), tokenizer->normalizer, tokenizer->vocabulary,
        &tokenizer->added));
    PR_TRY(
        pr_pre_tokenizer_create(json_object_get(file, "pre_tokenizer"), &tokenizer->pre_tokenizer));
    PR_TRY(pr_post_processor_create(
        json_object_get(file, "post_processor"), tokenizer->vocabulary,
        &tokenizer->post_processor));
    return pr_decoder_create(json_object_get(file, "decoder"), &tokenizer->decoder);
}

pr_status pr_tokenizer_parse(const char *json, size_t size_bytes, pr_tokenizer **tokenizer)
{
    json_error_t error;
    if (size_bytes > MAX_FILE_BYTES)
        return pr_fail(
            PR_ERR_FORMAT, "tokenizer: %zu bytes of JSON; at most %zu are read", size_bytes,
            MAX_FILE_BYTES);
    json_t *file = json_loadb(json, size_bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!file)
        return pr_fail(
            PR_ERR_FORMAT, "tokenizer: not valid JSON at line %d column %d: %s", error.line,
            error.column, error.text);
    pr_tokenizer *fresh = calloc(1, sizeof *fresh);
    pr_status status = fresh ? load_parts(file, fresh)
                             : pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for a tokenizer");
    json_decref(file);
    if (status != PR_OK) {
        pr_tokenizer_close(fresh);
        return status;
    }
    *tokenizer = fresh;
    return PR_OK;
}

void pr_tokenizer_close(pr_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    pr_decoder_destroy(tokenizer->decoder);
    pr_post_processor_destroy(tokenizer->post_processor);
    pr_pre_tokenizer_destroy(tokenizer->pre_tokenizer);
    pr_added_tokens_destroy(tokenizer->added);
    pr_normalizer_destroy(tokenizer->normalizer);
    pr_bpe_destroy(tokenizer->bpe);
    pr_vocabulary_destroy(tokenizer->vocabulary);
    free(tokenizer);
}

// PR_ERR_NOT_FOUND, without a line, when there is no such file.
static pr_status read_file(const char *path, pr_byte_buffer *text)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return PR_ERR_NOT_FOUND;
    char block[1 << 16];
    for (size_t got; (got = fread(block, 1, sizeof block, file)) > 0;) {
        pr_byte_buffer_append(text, block, got);
        if (text->size_bytes > MAX_FILE_BYTES)
            break;
    }
    bool failed = ferror(file);
    fclose(file);
    return failed ? pr_fail(PR_ERR_IO, "%s: cannot be read", path) : pr_byte_buffer_check(text);
}

// A switch of tokenizer_config.json ("add_bos_token") and the token it is about ("bos_token": a
// string, or an object with the string as "content"). *given: the switch is there, and *token is
// the token to add, or -1.
static pr_status find_switched_token(
    const pr_tokenizer *tokenizer,
    const json_t *config,
    const char *path,
    const char *name,
    const char *switch_name,
    bool *given,
    int32_t *token)
{
    bool on = false;
    const json_t *field = json_object_get(config, name);
    *token = -1;
    *given = json_is_boolean(json_object_get(config, switch_name));
    PR_TRY(pr_json_field_optional_bool(config, path, switch_name, &on));
    if (json_is_object(field))
        field = json_object_get(field, "content");
    if (!on || !json_is_string(field))
        return PR_OK;
    *token = pr_tokenizer_find(tokenizer, json_string_value(field));
    if (*token < 0)
        return pr_fail(
            PR_ERR_FORMAT, "%s: %s '%.100s' is not a token of tokenizer.json", path, name,
            json_string_value(field));
    return PR_OK;
}

// add_bos_token and add_eos_token, where given, replace what tokenizer.json puts on their side.
static pr_status apply_config(const json_t *config, const char *path, pr_tokenizer *tokenizer)
{
    bool given;
    int32_t token;
    PR_TRY(
        find_switched_token(tokenizer, config, path, "bos_token", "add_bos_token", &given, &token));
    if (given)
        PR_TRY(pr_post_processor_set_front(tokenizer->post_processor, token));
    PR_TRY(
        find_switched_token(tokenizer, config, path, "eos_token", "add_eos_token", &given, &token));
    if (given)
        PR_TRY(pr_post_processor_set_back(tokenizer->post_processor, token));
    return PR_OK;
}

static pr_status load_config(const char *path, pr_tokenizer *tokenizer)
{
    pr_byte_buffer text = {0};
    json_error_t error;
    pr_status status = read_file(path, &text);
    if (status == PR_ERR_NOT_FOUND)
        return PR_OK;
    if (status == PR_OK) {
        json_t *config =
            json_loadb(text.size_bytes ? text.data : "", text.size_bytes, JSON_ALLOW_NUL, &error);
        status = config ? apply_config(config, path, tokenizer)
                        : pr_fail(
                              PR_ERR_FORMAT, "%s: not valid JSON at line %d column %d: %s", path,
                              error.line, error.column, error.text);
        json_decref(config);
    }
    pr_byte_buffer_free(&text);
    return status;
}

pr_status pr_tokenizer_open(const char *directory, pr_tokenizer **tokenizer)
{
    char path[4096];
    pr_byte_buffer text = {0};
    pr_tokenizer *fresh = NULL;
    if (strlen(directory) > sizeof path - 32)
        return pr_fail(PR_ERR_ARGUMENT, "%.100s...: the path is too long", directory);
    snprintf(path, sizeof path, "%s/tokenizer.json", directory);
    pr_status status = read_file(path, &text);
    if (status == PR_ERR_NOT_FOUND)
        (void)pr_fail(
            status, "%s: cannot be opened; a model directory has its tokenizer.json", path);
    if (status == PR_OK)
        status = pr_tokenizer_parse(text.size_bytes ? text.data : "", text.size_bytes, &fresh);
    pr_byte_buffer_free(&text);
    PR_TRY(status);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", directory);
    status = load_config(path, fresh);
    if (status != PR_OK) {
        pr_tokenizer_close(fresh);
        return status;
    }
    *tokenizer = fresh;
    return PR_OK;
}

// ---- looking up

int32_t pr_tokenizer_size(const pr_tokenizer *tokenizer)
{
    return pr_vocabulary_size(tokenizer->vocabulary);
}

bool pr_tokenizer_is_special(const pr_tokenizer *tokenizer, int32_t token)
{
    return token >= 0 && token < pr_tokenizer_size(tokenizer) &&
           pr_added_tokens_special(tokenizer->added)[token];
}

pr_status
pr_tokenizer_raw_bytes(const pr_tokenizer *tokenizer, int32_t token, pr_byte_buffer *bytes)
{
    size_t size_bytes;
    const pr_vocabulary *vocabulary = tokenizer->vocabulary;
    if (token < 0 || token >= pr_vocabulary_size(vocabulary) ||
        pr_tokenizer_is_special(tokenizer, token))
        return PR_OK;
    const char *text = pr_vocabulary_text(vocabulary, token, &size_bytes);
    if (!text || pr_vocabulary_find_in_model(vocabulary, text, size_bytes) != token)
        return PR_OK;
    text = pr_vocabulary_decoded(vocabulary, token, &size_bytes);
    return pr_decoder_raw_bytes(tokenizer->decoder, text, size_bytes, bytes);
}

int32_t pr_tokenizer_find(const pr_tokenizer *tokenizer, const char *content)
{
    return pr_vocabulary_find(tokenizer->vocabulary, content, strlen(content));
}

// ---- encoding

typedef struct encoding {
    const pr_tokenizer *tokenizer;
    bool parse_special, has_marks;
    pr_pieces pieces, spare;
    pr_byte_buffer mark;  // [bytes of pieces.text] before the normalizer, if has_marks
    pr_byte_buffer normalized, normalized_mark;
    pr_bpe_work work;
    pr_byte_buffer token;  // int32_t[]
} encoding;

static void free_encoding(encoding *e)
{
    pr_pieces_free(&e->pieces);
    pr_pieces_free(&e->spare);
    pr_byte_buffer_free(&e->mark);
    pr_byte_buffer_free(&e->normalized);
    pr_byte_buffer_free(&e->normalized_mark);
    pr_bpe_work_free(&e->work);
    pr_byte_buffer_free(&e->token);
}

static const uint8_t *marks_of(const encoding *e, const pr_byte_buffer *mark)
{
    return e->has_marks ? mark->data : NULL;
}

// One stretch of raw text: normalized, and cut at the added tokens of the normalized text.
static pr_status normalize_piece(encoding *e, const pr_piece *piece, pr_pieces *to)
{
    bool start_kept;
    const char *text = (const char *)e->pieces.text.data + piece->start;
    pr_byte_buffer_clear(&e->normalized);
    pr_byte_buffer_append(&e->normalized, text, piece->size_bytes);
    PR_TRY(pr_byte_buffer_check(&e->normalized));
    pr_byte_buffer_clear(&e->normalized_mark);
    if (e->has_marks)
        pr_byte_buffer_append(
            &e->normalized_mark, (const char *)e->mark.data + piece->start, piece->size_bytes);
    PR_TRY(pr_byte_buffer_check(&e->normalized_mark));
    PR_TRY(pr_normalizer_apply(
        e->tokenizer->normalizer, &e->normalized, e->has_marks ? &e->normalized_mark : NULL,
        &start_kept));
    if (e->normalized.size_bytes == 0)
        return PR_OK;
    pr_piece whole = {
        to->text.size_bytes, e->normalized.size_bytes, -1, piece->first && start_kept, false};
    pr_byte_buffer_append(&to->text, e->normalized.data, e->normalized.size_bytes);
    PR_TRY(pr_byte_buffer_check(&to->text));
    pr_added_tokens_cut(
        e->tokenizer->added, true, e->parse_special, marks_of(e, &e->normalized_mark), &whole, to);
    return PR_OK;
}

static pr_status normalize(encoding *e)
{
    pr_pieces *to = &e->spare;
    for (size_t i = 0; i < pr_pieces_count(&e->pieces); i++) {
        const pr_piece *piece = (const pr_piece *)e->pieces.piece.data + i;
        if (piece->token >= 0)
            pr_byte_buffer_append(
                &to->piece, &(pr_piece){to->text.size_bytes, 0, piece->token, false, false},
                sizeof *piece);
        else
            PR_TRY(normalize_piece(e, piece, to));
    }
    PR_TRY(pr_byte_buffer_check(&to->piece));
    pr_pieces swap = e->pieces;
    e->pieces = e->spare;
    e->spare = swap;
    return PR_OK;
}

static pr_status encode_words(encoding *e)
{
    const bool *special = pr_added_tokens_special(e->tokenizer->added);
    for (size_t i = 0; i < pr_pieces_count(&e->pieces); i++) {
        const pr_piece *piece = (const pr_piece *)e->pieces.piece.data + i;
        const bool *barred = e->parse_special && !piece->guarded ? NULL : special;
        if (piece->token >= 0)
            pr_byte_buffer_append(&e->token, &piece->token, sizeof piece->token);
        else
            PR_TRY(pr_bpe_encode(
                e->tokenizer->bpe, (const char *)e->pieces.text.data + piece->start,
                piece->size_bytes, barred, &e->work, &e->token));
    }
    return pr_byte_buffer_check(&e->token);
}

static void repair_part(encoding *e, const char *text, size_t begin, size_t end, bool marked)
{
    size_t before = e->pieces.text.size_bytes;
    (void)pr_utf8_repair(text + begin, end - begin, true, &e->pieces.text);
    size_t size = e->pieces.text.size_bytes - before;
    void *place = e->has_marks ? pr_byte_buffer_extend(&e->mark, size) : NULL;
    if (place && size > 0)
        memset(place, marked, size);
}

static bool is_inside_character(const char *text, size_t size_bytes, size_t at)
{
    return at > 0 && at < size_bytes && ((uint8_t)text[at] & 0xc0) == 0x80;
}

// Parts are repaired one by one, so that marks stay with their bytes; ranges grow to whole characters.
static pr_status
repair(encoding *e, const char *text, size_t size_bytes, const pr_text_range *range, int32_t ranges)
{
    size_t done = 0;
    for (int32_t i = 0; i < ranges; i++) {
        size_t begin = range[i].begin, end = range[i].end;
        size_t earliest = i > 0 ? range[i - 1].end : 0;
        if (begin < earliest || end < begin || end > size_bytes)
            return pr_fail(
                PR_ERR_ARGUMENT, "range %d of a text to encode is out of order or beyond its end",
                i);
        while (begin > done && is_inside_character(text, size_bytes, begin))
            begin--;
        while (is_inside_character(text, size_bytes, end))
            end++;
        if (begin > done)
            repair_part(e, text, done, begin, false);
        begin = begin > done ? begin : done;
        if (end > begin && range[i].end > range[i].begin) {
            repair_part(e, text, begin, end, true);
            done = end;
        } else {
            done = begin;
        }
    }
    if (done < size_bytes)
        repair_part(e, text, done, size_bytes, false);
    PR_TRY(pr_byte_buffer_check(&e->mark));
    return pr_byte_buffer_check(&e->pieces.text);
}

static pr_status encode(encoding *e, bool add_special)
{
    const pr_tokenizer *tokenizer = e->tokenizer;
    pr_piece whole = {0, e->pieces.text.size_bytes, -1, true, false};
    if (whole.size_bytes > 0)
        pr_added_tokens_cut(
            tokenizer->added, false, e->parse_special, marks_of(e, &e->mark), &whole, &e->pieces);
    PR_TRY(pr_byte_buffer_check(&e->pieces.piece));
    PR_TRY(normalize(e));
    PR_TRY(pr_pre_tokenizer_apply(tokenizer->pre_tokenizer, &e->pieces, &e->spare));
    PR_TRY(encode_words(e));
    return add_special ? pr_post_processor_apply(tokenizer->post_processor, &e->token) : PR_OK;
}

static pr_status check_size(size_t size_bytes)
{
    if (size_bytes > MAX_TEXT_BYTES)
        return pr_fail(
            PR_ERR_ARGUMENT, "a text of %zu bytes is too long to encode: the limit is %zu",
            size_bytes, MAX_TEXT_BYTES);
    return PR_OK;
}

// Gives the tokens out, and frees the rest.
static pr_status finish(encoding *e, pr_status status, int32_t **token, int32_t *tokens)
{
    if (status == PR_OK && !e->token.data && !pr_byte_buffer_extend(&e->token, 0))
        status = pr_byte_buffer_check(&e->token);  // an empty list is an allocation too
    if (status == PR_OK) {
        *token = e->token.data;
        *tokens = (int32_t)(e->token.size_bytes / sizeof(int32_t));
        e->token = (pr_byte_buffer){0};
    }
    free_encoding(e);
    return status;
}

pr_status pr_tokenizer_encode(
    const pr_tokenizer *tokenizer,
    const char *text,
    size_t size_bytes,
    bool add_special,
    bool parse_special,
    int32_t **token,
    int32_t *tokens)
{
    PR_TRY(check_size(size_bytes));
    encoding e = {.tokenizer = tokenizer, .parse_special = parse_special};
    pr_status status = repair(&e, text, size_bytes, NULL, 0);
    if (status == PR_OK)
        status = encode(&e, add_special);
    return finish(&e, status, token, tokens);
}

pr_status pr_tokenizer_encode_marked(
    const pr_tokenizer *tokenizer,
    const char *text,
    size_t size_bytes,
    bool add_special,
    const pr_text_range *range,
    int32_t ranges,
    int32_t **token,
    int32_t *tokens)
{
    PR_TRY(check_size(size_bytes));
    encoding e = {.tokenizer = tokenizer, .parse_special = true, .has_marks = ranges > 0};
    pr_status status = repair(&e, text, size_bytes, range, ranges);
    if (status == PR_OK)
        status = encode(&e, add_special);
    return finish(&e, status, token, tokens);
}

// ---- decoding

pr_status pr_tokenizer_decode(
    const pr_tokenizer *tokenizer,
    const int32_t *token,
    int32_t tokens,
    bool skip_special,
    char **text,
    size_t *size_bytes)
{
    pr_detokenizer *detokenizer;
    pr_byte_buffer whole = {0};
    const char *piece;
    size_t piece_bytes;
    PR_TRY(pr_detokenizer_create(tokenizer, skip_special, &detokenizer));
    pr_status status = PR_OK;
    for (int32_t i = 0; i < tokens && status == PR_OK; i++) {
        status = pr_detokenizer_feed(detokenizer, token[i], &piece, &piece_bytes);
        if (status == PR_OK)
            pr_byte_buffer_append(&whole, piece, piece_bytes);
    }
    if (status == PR_OK)
        status = pr_detokenizer_finish(detokenizer, &piece, &piece_bytes);
    if (status == PR_OK) {
        pr_byte_buffer_append(&whole, piece, piece_bytes);
        pr_byte_buffer_append(&whole, "", 1);
        status = pr_byte_buffer_check(&whole);
    }
    pr_detokenizer_destroy(detokenizer);
    if (status != PR_OK) {
        pr_byte_buffer_free(&whole);
        return status;
    }
    *text = whole.data;
    *size_bytes = whole.size_bytes - 1;
    return PR_OK;
}
