// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/grammar/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/grammar/regex.h"
#include "runtime/grammar/schema.h"

static pr_status build_schema(const pr_grammar_source *source, pr_json_rules *rules, int32_t *start)
{
    json_error_t error;
    json_t *document = json_loadb(
        source->text ? source->text : "", (size_t)source->size_bytes,
        JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
    if (!document)
        return pr_fail(
            PR_ERR_REQUEST, "the json schema is not valid JSON: line %d column %d: %s", error.line,
            error.column, error.text);
    pr_status status = pr_schema_build(document, rules, start);
    json_decref(document);
    return status;
}

static pr_status build_regex(const pr_grammar_source *source, pr_json_rules *rules, int32_t *start)
{
    pr_regex regex;
    int32_t end = pr_grammar_builder_return(rules->builder);
    pr_status status = pr_regex_parse(
        "regex", source->text ? source->text : "", (size_t)source->size_bytes, &regex);
    if (status == PR_OK)
        status = pr_regex_build("regex", &regex, PR_REGEX_WHOLE, rules, end, start);
    pr_regex_free(&regex);
    return status;
}

static pr_status build_listed(const json_t *list, pr_json_rules *rules, int32_t *start)
{
    size_t count = json_array_size(list);
    if (count == 0)
        return pr_fail(PR_ERR_REQUEST, "choice must be a list of at least one string");
    pr_grammar_text *text = calloc(count, sizeof *text);
    if (!text)
        return pr_fail(PR_ERR_RESOURCE, "no memory for %zu choices", count);
    pr_status status = PR_OK;
    for (size_t i = 0; i < count && status == PR_OK; i++) {
        const json_t *item = json_array_get(list, i);
        text[i] = (pr_grammar_text){json_string_value(item), json_string_length(item)};
        if (!text[i].data)
            status = pr_fail(PR_ERR_REQUEST, "choice %zu is not a string", i);
    }
    if (status == PR_OK)
        *start = pr_grammar_builder_texts(
            rules->builder, text, (int32_t)count, pr_grammar_builder_return(rules->builder));
    free(text);
    return status;
}

static pr_status build_choice(const pr_grammar_source *source, pr_json_rules *rules, int32_t *start)
{
    json_error_t error;
    json_t *list = json_loadb(
        source->text ? source->text : "", (size_t)source->size_bytes, JSON_ALLOW_NUL, &error);
    pr_status status = json_is_array(list)
                           ? build_listed(list, rules, start)
                           : pr_fail(PR_ERR_REQUEST, "choice must be a list of strings");
    json_decref(list);
    return status;
}

static pr_status build(const pr_grammar_source *source, pr_json_rules *rules, int32_t *start)
{
    if (source->size_bytes > PR_GRAMMAR_MAX_TEXT_BYTES)
        return pr_fail(
            PR_ERR_REQUEST, "a grammar of %d bytes: at most %d are taken", source->size_bytes,
            PR_GRAMMAR_MAX_TEXT_BYTES);
    switch (source->kind) {
    case PR_GRAMMAR_JSON_OBJECT:
        *start = pr_json_rules_object(rules, pr_grammar_builder_return(rules->builder));
        return PR_OK;
    case PR_GRAMMAR_JSON_SCHEMA:
        return build_schema(source, rules, start);
    case PR_GRAMMAR_REGEX:
        return build_regex(source, rules, start);
    case PR_GRAMMAR_CHOICE:
        return build_choice(source, rules, start);
    case PR_GRAMMAR_NONE:
        break;
    }
    return pr_fail(PR_ERR_INTERNAL, "there is no grammar to compile");
}

pr_status pr_grammar_compile(const pr_grammar_source *source, pr_grammar **grammar)
{
    pr_grammar_builder builder = {0};
    pr_json_rules rules = {.builder = &builder};
    int32_t start = PR_GRAMMAR_NOWHERE;
    pr_status status = build(source, &rules, &start);
    if (status == PR_OK)
        status = pr_grammar_builder_finish(&builder, start, grammar);
    pr_grammar_builder_free(&builder);
    return status;
}
