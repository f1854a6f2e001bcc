// SPDX-License-Identifier: BSD-3-Clause
// Chat templates against Python's jinja2 (tests/data/templates, made by scripts/make_template_vectors.py); where text of
// the caller lies in a prompt; a model's files; limits.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/log.h"
#include "runtime/template/chat_template.h"

typedef struct text {
    char *data;
    size_t size_bytes;
} text;

static text read_file(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/data/templates/%s", PR_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    text whole = {NULL, (size_t)ftell(file)};
    rewind(file);
    whole.data = malloc(whole.size_bytes + 1);
    assert_non_null(whole.data);
    assert_int_equal(fread(whole.data, 1, whole.size_bytes, file), whole.size_bytes);
    whole.data[whole.size_bytes] = 0;
    fclose(file);
    return whole;
}

static json_t *parse_json(const char *data, size_t size_bytes)
{
    json_error_t error;
    json_t *json = json_loadb(data, size_bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!json)
        fail_msg("not JSON: %s: %.80s", error.text, data);
    return json;
}

// A file of lines as an array.
static json_t *read_lines(const char *name)
{
    text whole = read_file(name);
    json_t *lines = json_array();
    for (char *line = whole.data, *end; line < whole.data + whole.size_bytes; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        json_array_append_new(lines, parse_json(line, (size_t)(end - line)));
    }
    free(whole.data);
    return lines;
}

static pr_status render(text source, const json_t *variables, pr_rendered *rendered)
{
    pr_chat_template *chat_template;
    pr_error_capture_begin();
    pr_status status = pr_chat_template_parse(source.data, source.size_bytes, &chat_template);
    if (status == PR_OK) {
        status = pr_chat_template_render(chat_template, variables, rendered);
        pr_chat_template_close(chat_template);
    }
    pr_error_capture_end();
    return status;
}

// ---- goldens

// What differs from the golden line, or NULL.
static const char *
check_golden(text source, const json_t *variables, const json_t *golden, pr_rendered *rendered)
{
    const json_t *wanted = json_object_get(golden, "text");
    const json_t *error = json_object_get(golden, "error");
    pr_status status = render(source, variables, rendered);
    if (status == PR_OK && !wanted)
        return "it renders, and must fail";
    if (status != PR_OK && wanted)
        return pr_error_text();
    if (status != PR_OK && json_is_true(json_object_get(golden, "raised")) &&
        strcmp(pr_error_text(), json_string_value(error)) != 0)
        return "another text is raised";
    if (status == PR_OK &&
        (rendered->size_bytes != json_string_length(wanted) ||
         memcmp(rendered->text, json_string_value(wanted), rendered->size_bytes)))
        return "the text differs";
    if (status == PR_OK)
        return NULL;
    *rendered = (pr_rendered){0};
    return strlen(pr_error_text()) > 0 && !strchr(pr_error_text(), '\n') ? NULL : "not one line";
}

static int report(const char *name, const char *which, const char *why, const pr_rendered *got)
{
    if (why)
        print_message("%s %s: %s\n%s\n", name, which, why, got->text ? got->text : "");
    return why != NULL;
}

static json_t *find_case(json_t *cases, const char *name)
{
    for (size_t i = 0; i < json_array_size(cases); i++) {
        json_t *one = json_array_get(cases, i);
        if (strcmp(json_string_value(json_object_get(one, "name")), name) == 0)
            return json_object_get(one, "variables");
    }
    fail_msg("no case %s", name);
    return NULL;
}

static void published_templates_render_as_in_python(void **state)
{
    (void)state;
    json_t *cases = read_lines("cases.jsonl"), *goldens = read_lines("goldens.jsonl");
    int wrong = 0;
    assert_true(json_array_size(goldens) > 900);
    for (size_t i = 0; i < json_array_size(goldens); i++) {
        json_t *golden = json_array_get(goldens, i);
        const char *name = json_string_value(json_object_get(golden, "template"));
        const char *which = json_string_value(json_object_get(golden, "case"));
        text source = read_file(name);
        pr_rendered rendered = {0};
        const char *why = check_golden(source, find_case(cases, which), golden, &rendered);
        wrong += report(name, which, why, &rendered);
        pr_rendered_free(&rendered);
        free(source.data);
    }
    assert_int_equal(wrong, 0);
    json_decref(cases);
    json_decref(goldens);
}

static void each_construct_means_what_it_means_in_python(void **state)
{
    (void)state;
    json_t *lines = read_lines("constructs.jsonl");
    json_t *variables = json_object_get(json_array_get(lines, 0), "variables");
    int wrong = 0;
    assert_true(json_array_size(lines) > 200);
    for (size_t i = 1; i < json_array_size(lines); i++) {
        json_t *golden = json_array_get(lines, i), *source = json_object_get(golden, "template");
        text whole = {(char *)(uintptr_t)json_string_value(source), json_string_length(source)};
        pr_rendered rendered = {0};
        const char *why = check_golden(whole, variables, golden, &rendered);
        wrong += report(whole.data, "", why, &rendered);
        pr_rendered_free(&rendered);
    }
    assert_int_equal(wrong, 0);
    json_decref(lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_templates_render_as_in_python),
        cmocka_unit_test(each_construct_means_what_it_means_in_python),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
