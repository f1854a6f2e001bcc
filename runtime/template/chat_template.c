// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/template/chat_template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/template/template_function.h"
#include "runtime/template/template_parser.h"
#include "runtime/template/template_render.h"
#include "runtime/text/byte_buffer.h"
#include "runtime/text/utf8.h"
#include "runtime/value/template_builder.h"

#define MAX_TEMPLATE_BYTES ((size_t)1 << 20)
#define MAX_FILE_BYTES ((size_t)64 << 20)

struct pr_chat_template {
    char *text;
    pr_template_program *program;
    pr_template_program *with_tools;  // for requests with tools, or NULL
    json_t *token;                    // special tokens by their names in tokenizer_config.json
    bool takes_parts;
};

// ---- render

// A message's role that is a word of the API is a choice, not text: it may be part of a special token.
static void unmark_roles(pr_template_value *messages)
{
    static const char *const roles[] = {"system",    "developer", "user",
                                        "assistant", "tool",      "function"};
    if (messages->kind != PR_TEMPLATE_LIST)
        return;
    for (size_t i = 0; i < messages->list->size; i++) {
        const pr_template_value *message = &messages->list->item[i];
        for (size_t k = 0; message->kind == PR_TEMPLATE_DICT && k < message->dict->size; k++) {
            pr_template_entry *entry = &message->dict->entry[k];
            if (!pr_template_text_equals(&entry->key.text, "role") ||
                entry->value.kind != PR_TEMPLATE_STRING)
                continue;
            for (size_t r = 0; r < sizeof roles / sizeof *roles; r++) {
                if (pr_template_text_equals(&entry->value.text, roles[r]))
                    entry->value.text.shade = PR_TEMPLATE_PLAIN;
            }
        }
    }
}

static pr_status set_function(
    pr_template_render *render, const pr_template_builtin *builtin, pr_template_value *value)
{
    pr_template_method *method = pr_template_heap_take_zeroed(&render->heap, sizeof *method);
    if (!method)
        return PR_ERR_REQUEST;
    method->builtin = builtin;
    *value = (pr_template_value){.kind = PR_TEMPLATE_FUNCTION, .method = method};
    return PR_OK;
}

// Variables that the template names: the caller's, then the model's tokens, then functions.
static pr_status set_globals(
    const pr_chat_template *chat_template, const json_t *variables, pr_template_render *render)
{
    const pr_template_program *program = render->program;
    render->global =
        pr_template_heap_take(&render->heap, program->symbols * sizeof *render->global);
    if (!render->global)
        return PR_ERR_REQUEST;
    for (size_t i = 0; i < program->symbols; i++) {
        const char *name = program->symbol[i].data;
        pr_template_value *global = &render->global[i];
        const json_t *given = json_object_get(variables, name);
        const json_t *token = json_object_get(chat_template->token, name);
        const pr_template_builtin *function =
            pr_template_builtin_find(pr_template_functions, &program->symbol[i]);
        *global = (pr_template_value){.kind = PR_TEMPLATE_ABSENT};
        if (given || token)
            PR_TRY(pr_template_value_read(
                &render->heap, given ? given : token, given != NULL, global));
        else if (function)
            PR_TRY(set_function(render, function, global));
        if (given && strcmp(name, "messages") == 0)
            unmark_roles(global);
    }
    return PR_OK;
}

static size_t count_ranges(const pr_template_text *text, pr_text_range *range)
{
    size_t ranges = 0;
    for (size_t at = 0; at < text->size_bytes;) {
        bool marked = pr_template_text_is_marked(text, at);
        size_t begin = at;
        while (at < text->size_bytes && pr_template_text_is_marked(text, at) == marked)
            at++;
        if (marked && range)
            range[ranges] = (pr_text_range){begin, at};
        ranges += marked;
    }
    return ranges;
}

static pr_status give_out(const pr_template_text *text, pr_rendered *rendered)
{
    size_t ranges = count_ranges(text, NULL);
    char *copy = malloc(text->size_bytes + 1);
    pr_text_range *range = malloc((ranges + 1) * sizeof *range);
    if (!copy || !range) {
        free(copy);
        free(range);
        return pr_fail(PR_ERR_RESOURCE, "chat template: no memory for the prompt");
    }
    memcpy(copy, text->data, text->size_bytes);
    copy[text->size_bytes] = 0;
    (void)count_ranges(text, range);
    *rendered = (pr_rendered){
        .text = copy, .size_bytes = text->size_bytes, .ranges = (int32_t)ranges, .range = range};
    return PR_OK;
}

static pr_status
run(const pr_chat_template *chat_template,
    const json_t *variables,
    pr_template_render *render,
    pr_rendered *rendered)
{
    const json_t *now = json_object_get(variables, "now");
    pr_template_builder output = pr_template_builder_of(&render->heap);
    pr_template_signal signal = PR_TEMPLATE_GO_ON;
    pr_template_text text;
    render->output = &output;
    render->has_now = json_is_integer(now);
    render->now_s = json_integer_value(now);
    render->heap.line = 1;
    PR_TRY(set_globals(chat_template, variables, render));
    render->scope = pr_template_heap_take_zeroed(&render->heap, sizeof *render->scope);
    if (!render->scope)
        return PR_ERR_REQUEST;
    PR_TRY(pr_template_run(render, &render->program->body, &signal));
    PR_TRY(pr_template_builder_finish(&output, &text));
    return give_out(&text, rendered);
}

pr_status pr_chat_template_render(
    const pr_chat_template *chat_template, const json_t *variables, pr_rendered *rendered)
{
    if (!json_is_object(variables))
        return pr_fail(PR_ERR_REQUEST, "chat template: the variables are not a JSON object");
    bool tools = json_array_size(json_object_get(variables, "tools")) > 0;
    pr_template_render render = {
        .program = tools && chat_template->with_tools ? chat_template->with_tools
                                                      : chat_template->program};
    pr_status status = run(chat_template, variables, &render, rendered);
    json_decref(render.parsed);
    pr_template_heap_clear(&render.heap);
    return status;
}

void pr_rendered_free(pr_rendered *rendered)
{
    free(rendered->text);
    free(rendered->range);
    *rendered = (pr_rendered){0};
}

// ---- parse

static void close_program(pr_template_program *program)
{
    if (program)
        pr_template_heap_clear(&program->heap);
    free(program);
}

static pr_status parse_program(const char *text, size_t size_bytes, pr_template_program **program)
{
    pr_byte_buffer repaired = {0};
    if (size_bytes > MAX_TEMPLATE_BYTES)
        return pr_fail(
            PR_ERR_FORMAT, "chat template: %zu bytes are too long, the limit is %zu", size_bytes,
            MAX_TEMPLATE_BYTES);
    (void)pr_utf8_repair(text, size_bytes, true, &repaired);
    pr_status status = pr_byte_buffer_check(&repaired);
    pr_template_program *fresh = calloc(1, sizeof *fresh);
    if (status == PR_OK && !fresh)
        status = pr_fail(PR_ERR_RESOURCE, "chat template: no memory for a template");
    if (status == PR_OK)
        status = pr_template_parser_run(
            fresh, repaired.size_bytes ? repaired.data : "", repaired.size_bytes);
    pr_byte_buffer_free(&repaired);
    if (status != PR_OK) {
        close_program(fresh);
        return status == PR_ERR_REQUEST ? PR_ERR_FORMAT : status;
    }
    *program = fresh;
    return PR_OK;
}

// Renders a message whose content is a list of one part: a template that walks over parts prints the
// part's text alone, others print the list, or raise.
static bool probe_parts(const pr_chat_template *chat_template)
{
    static const char word[] = "polyreme probes";
    pr_rendered rendered;
    bool takes_parts = false;
    json_t *variables = json_pack(
        "{s:[{s:s,s:[{s:s,s:s}]}],s:b,s:n}", "messages", "role", "user", "content", "type", "text",
        "text", word, "add_generation_prompt", 1, "tools");
    if (!variables)
        return false;
    pr_error_capture_begin();
    if (pr_chat_template_render(chat_template, variables, &rendered) == PR_OK) {
        takes_parts = strstr(rendered.text, word) && !strstr(rendered.text, "'text'") &&
                      !strstr(rendered.text, "\"text\"");
        pr_rendered_free(&rendered);
    }
    pr_error_capture_end();
    json_decref(variables);
    return takes_parts;
}

static pr_status set_text(pr_chat_template *chat_template, const char *text, size_t size_bytes)
{
    PR_TRY(parse_program(text, size_bytes, &chat_template->program));
    chat_template->text = malloc(size_bytes + 1);
    if (!chat_template->text)
        return pr_fail(PR_ERR_RESOURCE, "chat template: no memory for a template");
    if (size_bytes > 0)
        memcpy(chat_template->text, text, size_bytes);
    chat_template->text[size_bytes] = 0;
    return PR_OK;
}

static pr_chat_template *new_template(void)
{
    pr_chat_template *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        (void)pr_fail(PR_ERR_RESOURCE, "chat template: no memory for a template");
    return fresh;
}

pr_status
pr_chat_template_parse(const char *text, size_t size_bytes, pr_chat_template **chat_template)
{
    pr_chat_template *fresh = new_template();
    if (!fresh)
        return PR_ERR_RESOURCE;
    pr_status status = set_text(fresh, text, size_bytes);
    if (status != PR_OK) {
        pr_chat_template_close(fresh);
        return status;
    }
    fresh->takes_parts = probe_parts(fresh);
    *chat_template = fresh;
    return PR_OK;
}

void pr_chat_template_close(pr_chat_template *chat_template)
{
    if (!chat_template)
        return;
    close_program(chat_template->program);
    close_program(chat_template->with_tools);
    json_decref(chat_template->token);
    free(chat_template->text);
    free(chat_template);
}

const char *pr_chat_template_text(const pr_chat_template *chat_template)
{
    return chat_template->text;
}

bool pr_chat_template_takes_parts(const pr_chat_template *chat_template)
{
    return chat_template->takes_parts;
}

// ---- a model's files

// PR_ERR_NOT_FOUND, without a line, when there is no such file.
static pr_status read_file(const char *path, pr_byte_buffer *text)
{
    char block[1 << 14];
    FILE *file = fopen(path, "rb");
    if (!file)
        return PR_ERR_NOT_FOUND;
    for (size_t got; (got = fread(block, 1, sizeof block, file)) > 0;) {
        pr_byte_buffer_append(text, block, got);
        if (text->size_bytes > MAX_FILE_BYTES)
            break;
    }
    bool failed = ferror(file) || text->size_bytes > MAX_FILE_BYTES;
    fclose(file);
    return failed ? pr_fail(PR_ERR_IO, "%s: cannot be read, or is too large", path)
                  : pr_byte_buffer_check(text);
}

static pr_status load_text(const char *path, pr_chat_template *chat_template)
{
    pr_byte_buffer text = {0};
    pr_status status = read_file(path, &text);
    if (status == PR_OK)
        status = set_text(chat_template, text.size_bytes ? text.data : "", text.size_bytes);
    pr_byte_buffer_free(&text);
    return status;
}

// "<s>", or {"content": "<s>", ...}
static pr_status take_tokens(const json_t *config, pr_chat_template *chat_template)
{
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    chat_template->token = json_object();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *token = json_object_get(config, names[i]);
        if (json_is_object(token))
            token = json_object_get(token, "content");
        if (json_is_string(token) && json_object_set(chat_template->token, names[i], token) != 0)
            return pr_fail(PR_ERR_RESOURCE, "chat template: no memory for special tokens");
    }
    return PR_OK;
}

// One string, or a list of {"name": "default", "template": "..."}.
static pr_status
take_templates(const json_t *config, const char *path, pr_chat_template *chat_template)
{
    const json_t *field = json_object_get(config, "chat_template");
    if (json_is_string(field))
        return set_text(chat_template, json_string_value(field), json_string_length(field));
    if (field && !json_is_null(field) && !json_is_array(field))
        return pr_fail(PR_ERR_FORMAT, "%s: chat_template is neither a string nor a list", path);
    for (size_t i = 0; i < json_array_size(field); i++) {
        const json_t *entry = json_array_get(field, i), *name = json_object_get(entry, "name");
        const json_t *text = json_object_get(entry, "template");
        if (!json_is_string(name) || !json_is_string(text))
            return pr_fail(
                PR_ERR_FORMAT, "%s: chat_template[%zu] lacks its name or template", path, i);
        const char *data = json_string_value(text);
        size_t size = json_string_length(text);
        if (strcmp(json_string_value(name), "default") == 0 && !chat_template->program)
            PR_TRY(set_text(chat_template, data, size));
        if (strcmp(json_string_value(name), "tool_use") == 0 && !chat_template->with_tools)
            PR_TRY(parse_program(data, size, &chat_template->with_tools));
    }
    if (json_array_size(field) > 0 && !chat_template->program)
        return pr_fail(PR_ERR_FORMAT, "%s: chat_template has no entry named default", path);
    return PR_OK;
}

static pr_status load_config(const char *path, pr_chat_template *chat_template)
{
    pr_byte_buffer text = {0};
    json_error_t error;
    pr_status status = read_file(path, &text);
    if (status == PR_ERR_NOT_FOUND)
        return PR_OK;
    if (status == PR_OK) {
        json_t *config =
            json_loadb(text.size_bytes ? text.data : "", text.size_bytes, JSON_ALLOW_NUL, &error);
        status = config ? take_tokens(config, chat_template)
                        : pr_fail(
                              PR_ERR_FORMAT, "%s: not valid JSON at line %d column %d: %s", path,
                              error.line, error.column, error.text);
        if (status == PR_OK && !chat_template->program)
            status = take_templates(config, path, chat_template);
        json_decref(config);
    }
    pr_byte_buffer_free(&text);
    return status;
}

static pr_status load(const char *directory, const char *file, pr_chat_template *chat_template)
{
    char path[4096];
    if (strlen(directory) > sizeof path - 32)
        return pr_fail(PR_ERR_ARGUMENT, "%.100s...: the path is too long", directory);
    snprintf(path, sizeof path, "%s/chat_template.jinja", directory);
    pr_status status = load_text(file ? file : path, chat_template);
    if (status == PR_ERR_NOT_FOUND && file)
        return pr_fail(status, "%s: the chat template cannot be opened", file);
    if (status != PR_ERR_NOT_FOUND)
        PR_TRY(status);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", directory);
    return load_config(path, chat_template);
}

pr_status
pr_chat_template_open(const char *directory, const char *file, pr_chat_template **chat_template)
{
    pr_chat_template *fresh = new_template();
    if (!fresh)
        return PR_ERR_RESOURCE;
    pr_status status = load(directory, file, fresh);
    if (status != PR_OK || !fresh->program) {
        pr_chat_template_close(fresh);
        fresh = NULL;
    }
    PR_TRY(status);
    if (fresh)
        fresh->takes_parts = probe_parts(fresh);
    *chat_template = fresh;
    return PR_OK;
}
