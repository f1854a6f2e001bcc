// SPDX-License-Identifier: BSD-3-Clause
// Strings and numbers.
#include <math.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/grammar/decimal_range.h"
#include "runtime/grammar/regex.h"
#include "runtime/grammar/schema_parts.h"

// ---- Formats

#define DATE                                                                                       \
    "[12][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"   \
    "02-(0[1-9]|1[0-9]|2[0-8]))"
#define TIME                                                                                       \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]" \
    ")"
#define BYTE "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define WORD "[0-9a-fA-F]{1,4}"
#define LABEL "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
#define HEX "[0-9a-fA-F]"

// Regular expressions of texts that RFC 3339, 4122, 5321, 2673, 4291, 1123 and 3986 allow; not all of them.
static const struct string_format {
    const char *name, *regex;
} formats[] = {
    {"date", DATE},
    {"time", TIME},
    {"date-time", DATE "T" TIME},
    {"uuid", HEX "{8}-" HEX "{4}-" HEX "{4}-" HEX "{4}-" HEX "{12}"},
    {"email", "[a-zA-Z0-9_+-]{1,32}(\\.[a-zA-Z0-9_+-]{1,30})?@" LABEL "(\\." LABEL "){1,2}"},
    {"ipv4", BYTE "(\\." BYTE "){3}"},
    {"ipv6", WORD "(:" WORD "){7}|::(" WORD "(:" WORD "){0,5})?|" WORD "::(" WORD "(:" WORD
                  "){0,4})?|" WORD "(:" WORD ")::(" WORD "(:" WORD "){0,3})?|" WORD "(:" WORD
                  "){2}::(" WORD "(:" WORD "){0,2})?|" WORD "(:" WORD "){3}::(" WORD "(:" WORD
                  ")?)?|" WORD "(:" WORD "){4}::(" WORD ")?"},
    {"hostname", LABEL "(\\." LABEL "){0,3}"},
    {"uri", "https?://" LABEL "(\\." LABEL "){0,3}(:[1-9][0-9]{0,3})?(/[a-zA-Z0-9._~-]{0,64}){0,8}"
            "(\\?[a-zA-Z0-9._~=&-]{0,128})?(#[a-zA-Z0-9._~-]{0,64})?"},
};

static const char *find_format(const char *name)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, name) == 0)
            return formats[i].regex;
    }
    return NULL;
}

// ---- Strings

typedef struct string_limits {
    int32_t min, max;
} string_limits;

// A pattern and limits together would be an intersection; limits that the pattern keeps by itself are fine.
static pr_status check_length(
    const pr_regex *regex,
    const string_limits *limits,
    pr_regex_use use,
    const char *keyword,
    const pr_schema_place *place)
{
    int32_t min, max;
    pr_regex_length(regex, &min, &max);
    bool bounded = use == PR_REGEX_JSON_WHOLE && max >= 0;
    if (min >= limits->min && (limits->max < 0 || (bounded && max <= limits->max)))
        return PR_OK;
    return pr_schema_refuse(
        place,
        "'%s' together with '%s' is not supported unless the %s alone keeps the lengths: write "
        "them into it, as in ^[a-z]{%d,%d}$",
        keyword, limits->max < 0 ? "minLength" : "maxLength", keyword, limits->min,
        limits->max < 0 ? limits->min + 8 : limits->max);
}

// Whether every outermost alternative has both anchors: then a search is a match of the whole.
static bool is_anchored(const pr_regex *regex)
{
    const pr_regex_node *node = regex->node.data;
    for (int32_t each = node[regex->root].child; each >= 0; each = node[each].next) {
        int32_t first = node[each].child, last = first;
        while (last >= 0 && node[last].next >= 0)
            last = node[last].next;
        if (first < 0 || node[first].op != PR_REGEX_BEGIN || node[last].op != PR_REGEX_END)
            return false;
    }
    return true;
}

static pr_status build_regex(
    pr_schema *schema,
    const char *text,
    const char *keyword,
    const string_limits *limits,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start)
{
    pr_regex regex;
    char what[PR_SCHEMA_PLACE_BYTES];
    pr_schema_place inside = pr_schema_inside(place, keyword);
    bool format = strcmp(keyword, "format") == 0;
    pr_schema_describe(&inside, what, sizeof what);
    pr_status status = pr_regex_parse(what, text, strlen(text), &regex);
    if (status == PR_OK) {
        pr_regex_use use =
            format || is_anchored(&regex) ? PR_REGEX_JSON_WHOLE : PR_REGEX_JSON_SEARCH;
        status = check_length(&regex, limits, use, keyword, &inside);
        if (status == PR_OK)
            status = pr_regex_build(what, &regex, use, schema->rules, next, start);
    }
    pr_regex_free(&regex);
    return status;
}

pr_status pr_schema_string_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start)
{
    const char *pattern = NULL, *format = NULL;
    string_limits limits = {.max = PR_GRAMMAR_NO_LIMIT};
    PR_TRY(pr_schema_count(json, place, "minLength", &limits.min));
    PR_TRY(pr_schema_count(json, place, "maxLength", &limits.max));
    PR_TRY(pr_schema_string(json, place, "pattern", &pattern));
    PR_TRY(pr_schema_string(json, place, "format", &format));
    if (pattern && format)
        return pr_schema_refuse(
            place, "'pattern' together with 'format' is not supported: keep one");
    *start = PR_GRAMMAR_NOWHERE;
    if (limits.max >= 0 && limits.max < limits.min)
        return PR_OK;
    if (!pattern && !format) {
        *start = pr_json_rules_string(schema->rules, limits.min, limits.max, next);
        return PR_OK;
    }
    const char *text = pattern ? pattern : find_format(format);
    if (!text)
        return pr_schema_refuse(
            place,
            "'format' is '%.64s': supported are date, time, date-time, uuid, email, ipv4, ipv6, "
            "hostname and uri",
            format);
    next = pr_grammar_builder_bytes(schema->rules->builder, '"', '"', next);
    PR_TRY(build_regex(schema, text, pattern ? "pattern" : "format", &limits, place, next, start));
    *start = pr_grammar_builder_bytes(schema->rules->builder, '"', '"', *start);
    return PR_OK;
}

// ---- Numbers

typedef struct number_limits {
    pr_decimal_bound low, high;
} number_limits;

static pr_status read_bound(
    const json_t *json,
    const pr_schema_place *place,
    const char *keyword,
    bool exclusive,
    pr_decimal_bound *bound)
{
    const json_t *found = json_object_get(json, keyword);
    bool is_low = strstr(keyword, "inimum") != NULL;
    if (!found)
        return PR_OK;
    if (!json_is_number(found))
        return pr_schema_refuse(place, "'%s' must be a number", keyword);
    double value = json_number_value(found);
    bool stricter = is_low ? value > bound->value : value < bound->value;
    if (!bound->given || stricter || (exclusive && value == bound->value))
        *bound = (pr_decimal_bound){.given = true, .exclusive = exclusive, .value = value};
    return PR_OK;
}

static pr_status
read_bounds(const json_t *json, const pr_schema_place *place, number_limits *limits)
{
    *limits = (number_limits){0};
    PR_TRY(read_bound(json, place, "minimum", false, &limits->low));
    PR_TRY(read_bound(json, place, "exclusiveMinimum", true, &limits->low));
    PR_TRY(read_bound(json, place, "maximum", false, &limits->high));
    return read_bound(json, place, "exclusiveMaximum", true, &limits->high);
}

// Of an integer's bounds: the integers themselves, which a double may not hold.
static int64_t integer_bound(const json_t *json, bool is_low, int64_t outermost)
{
    const char *plain = is_low ? "minimum" : "maximum";
    const char *exclusive = is_low ? "exclusiveMinimum" : "exclusiveMaximum";
    const char *names[] = {plain, exclusive};
    int64_t bound = outermost;
    bool given = false;
    for (int i = 0; i < 2; i++) {
        const json_t *found = json_object_get(json, names[i]);
        int64_t value = 0, step = i == 1 ? (is_low ? 1 : -1) : 0;
        if (!found)
            continue;
        if (json_is_integer(found)) {
            json_int_t whole = json_integer_value(found);
            value = whole > PR_DECIMAL_MOST    ? PR_DECIMAL_MOST + 1
                    : whole < -PR_DECIMAL_MOST ? -PR_DECIMAL_MOST - 1
                                               : whole + step;
        } else {
            double real = json_number_value(found), rounded = is_low ? ceil(real) : floor(real);
            value = rounded > 1e18    ? PR_DECIMAL_MOST + 1
                    : rounded < -1e18 ? -PR_DECIMAL_MOST - 1
                                      : (int64_t)rounded + (rounded == real ? step : 0);
        }
        if (!given || (is_low ? value > bound : value < bound))
            bound = value;
        given = true;
    }
    return bound;
}

static int32_t build_integers(pr_schema *schema, const json_t *json, int32_t next)
{
    int64_t low = integer_bound(json, true, -PR_DECIMAL_LARGEST);
    int64_t high = integer_bound(json, false, PR_DECIMAL_LARGEST);
    // An open side reaches beyond the other side's bound.
    if (low > PR_DECIMAL_LARGEST && high == PR_DECIMAL_LARGEST)
        high = PR_DECIMAL_MOST;
    if (high < -PR_DECIMAL_LARGEST && low == -PR_DECIMAL_LARGEST)
        low = -PR_DECIMAL_MOST;
    low = low < -PR_DECIMAL_MOST ? -PR_DECIMAL_MOST : low;
    high = high > PR_DECIMAL_MOST ? PR_DECIMAL_MOST : high;
    if (low > high)
        return PR_GRAMMAR_NOWHERE;
    return pr_decimal_range_integers(schema->rules->builder, low, high, next);
}

pr_status pr_schema_number_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    bool integer,
    int32_t next,
    int32_t *start)
{
    number_limits limits;
    PR_TRY(read_bounds(json, place, &limits));
    if (integer)
        *start = build_integers(schema, json, next);
    else if (limits.low.given || limits.high.given)
        *start = pr_decimal_range_numbers(schema->rules->builder, limits.low, limits.high, next);
    else
        *start = pr_json_rules_number(schema->rules, next);
    return PR_OK;
}
