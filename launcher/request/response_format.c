// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/request/response_format.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/request/request_field.h"
#include "runtime/base/log.h"
#include "runtime/grammar/grammar.h"

// ---- From a field to a source

// `name` is the field that is blamed.
static pr_status set_source(
    pr_grammar_kind kind,
    const char *text,
    size_t size_bytes,
    const char *name,
    pr_sampling *sampling,
    pr_refusal *refusal)
{
    pr_grammar_source *source = &sampling->grammar;
    if (source->kind != PR_GRAMMAR_NONE)
        return pr_refuse(
            refusal, name, "'%s' comes second: give one form of the output only", name);
    if (size_bytes > PR_GRAMMAR_MAX_TEXT_BYTES)
        return pr_refuse(
            refusal, name, "'%s' has %zu bytes: at most %d are taken", name, size_bytes,
            PR_GRAMMAR_MAX_TEXT_BYTES);
    source->kind = kind;
    source->size_bytes = (int32_t)size_bytes;
    if (size_bytes == 0)
        return PR_OK;
    source->text = malloc(size_bytes);
    if (!source->text)
        return pr_refuse(refusal, name, "no memory for '%s'", name);
    memcpy(source->text, text, size_bytes);
    return PR_OK;
}

static pr_status set_json(
    pr_grammar_kind kind,
    const json_t *value,
    const char *name,
    pr_sampling *sampling,
    pr_refusal *refusal)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text)
        return pr_refuse(refusal, name, "'%s' cannot be read", name);
    pr_status status = set_source(kind, text, strlen(text), name, sampling, refusal);
    free(text);
    return status;
}

// A schema as an object, or as the text of one.
static pr_status
take_schema(const json_t *value, const char *name, pr_sampling *sampling, pr_refusal *refusal)
{
    if (json_is_string(value))
        return set_source(
            PR_GRAMMAR_JSON_SCHEMA, json_string_value(value), json_string_length(value), name,
            sampling, refusal);
    if (!json_is_object(value) && !json_is_boolean(value))
        return pr_refuse(refusal, name, "'%s' must be a JSON schema", name);
    return set_json(PR_GRAMMAR_JSON_SCHEMA, value, name, sampling, refusal);
}

static pr_status
take_regex(const json_t *value, const char *name, pr_sampling *sampling, pr_refusal *refusal)
{
    if (!json_is_string(value))
        return pr_refuse(refusal, name, "'%s' must be a string: a regular expression", name);
    return set_source(
        PR_GRAMMAR_REGEX, json_string_value(value), json_string_length(value), name, sampling,
        refusal);
}

static pr_status
take_choice(const json_t *value, const char *name, pr_sampling *sampling, pr_refusal *refusal)
{
    if (!json_is_array(value))
        return pr_refuse(refusal, name, "'%s' must be a list of strings", name);
    return set_json(PR_GRAMMAR_CHOICE, value, name, sampling, refusal);
}

static pr_status
take_json_object(const json_t *value, const char *name, pr_sampling *sampling, pr_refusal *refusal)
{
    if (!json_is_boolean(value))
        return pr_refuse(refusal, name, "'%s' must be true or false", name);
    if (json_is_false(value))
        return PR_OK;
    return set_source(PR_GRAMMAR_JSON_OBJECT, NULL, 0, name, sampling, refusal);
}

static pr_status
refuse_grammar(const json_t *value, const char *name, pr_sampling *sampling, pr_refusal *refusal)
{
    (void)value;
    (void)sampling;
    return pr_refuse(
        refusal, name, "'%s' is not supported: use a JSON schema, a regular expression or a choice",
        name);
}

// ---- The fields

typedef struct format_field {
    const char *outer, *name;  // outer NULL: in the body itself
    pr_status (*take)(
        const json_t *value, const char *name, pr_sampling *sampling, pr_refusal *refusal);
} format_field;

static const format_field fields[] = {
    {NULL, "guided_json", take_schema},
    {NULL, "guided_regex", take_regex},
    {NULL, "guided_choice", take_choice},
    {NULL, "guided_grammar", refuse_grammar},
    {NULL, "structural_tag", refuse_grammar},
    {"structured_outputs", "json", take_schema},
    {"structured_outputs", "regex", take_regex},
    {"structured_outputs", "choice", take_choice},
    {"structured_outputs", "json_object", take_json_object},
    {"structured_outputs", "grammar", refuse_grammar},
    {"structured_outputs", "structural_tag", refuse_grammar},
};

static pr_status take_json_schema(const json_t *format, pr_sampling *sampling, pr_refusal *refusal)
{
    static const char name[] = "response_format.json_schema";
    const json_t *given = pr_request_field(format, "json_schema");
    const json_t *schema = pr_request_field(given, "schema");
    if (!json_is_object(given))
        return pr_refuse(refusal, name, "'%s' must be an object with 'name' and 'schema'", name);
    if (!schema)
        return pr_refuse(refusal, name, "'%s' has no 'schema'", name);
    return take_schema(schema, "response_format.json_schema.schema", sampling, refusal);
}

static pr_status
take_response_format(const json_t *body, pr_sampling *sampling, pr_refusal *refusal)
{
    const json_t *format = pr_request_field(body, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (!format)
        return PR_OK;
    if (type && strcmp(type, "text") == 0)
        return PR_OK;
    if (type && strcmp(type, "json_object") == 0)
        return set_source(PR_GRAMMAR_JSON_OBJECT, NULL, 0, "response_format", sampling, refusal);
    if (type && strcmp(type, "json_schema") == 0)
        return take_json_schema(format, sampling, refusal);
    if (type && strcmp(type, "structural_tag") == 0)
        return pr_refuse(
            refusal, "response_format",
            "'response_format' of type structural_tag is not supported");
    return pr_refuse(
        refusal, "response_format",
        "'response_format' must be an object with 'type' text, json_object or json_schema");
}

// A wrong grammar is its sender's, and so is the line about it. `name` is the field it came in.
static pr_status check(const pr_sampling *sampling, const char *name, pr_refusal *refusal)
{
    pr_grammar *grammar;
    if (sampling->grammar.kind == PR_GRAMMAR_NONE)
        return PR_OK;
    pr_error_capture_begin();
    pr_status status = pr_grammar_compile(&sampling->grammar, &grammar);
    pr_error_capture_end();
    if (status != PR_OK)
        return pr_refuse(refusal, name, "'%s': %s", name, pr_error_text());
    pr_grammar_destroy(grammar);
    return PR_OK;
}

pr_status pr_response_format_take(const json_t *body, pr_sampling *sampling, pr_refusal *refusal)
{
    const json_t *outputs = pr_request_field(body, "structured_outputs");
    const char *from = "response_format";
    PR_TRY(take_response_format(body, sampling, refusal));
    if (outputs && !json_is_object(outputs))
        return pr_refuse(refusal, "structured_outputs", "'structured_outputs' must be an object");
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char name[64];
        const json_t *value = pr_request_field(fields[i].outer ? outputs : body, fields[i].name);
        if (!value)
            continue;
        snprintf(
            name, sizeof name, "%s%s%s", fields[i].outer ? fields[i].outer : "",
            fields[i].outer ? "." : "", fields[i].name);
        PR_TRY(fields[i].take(value, name, sampling, refusal));
        from = fields[i].outer ? fields[i].outer : fields[i].name;
    }
    return check(sampling, from, refusal);
}

pr_status pr_response_format_set_schema(
    const char *schema, const char *parameter, pr_sampling *sampling, pr_refusal *refusal)
{
    PR_TRY(
        set_source(PR_GRAMMAR_JSON_SCHEMA, schema, strlen(schema), parameter, sampling, refusal));
    return check(sampling, parameter, refusal);
}
