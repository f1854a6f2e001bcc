// SPDX-License-Identifier: BSD-3-Clause
#include "benchmarks/serve/load_junk.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/hash.h"

#define PICK(dice, list) (list)[pr_load_dice_below(dice, sizeof(list) / sizeof *(list))]

enum { MOST_DEPTH = 5, MOST_NESTED = 20000, MOST_FIELD_BYTES = 60000, POSTS = 6 };

// Every path but that which ends the run; the first POSTS take bodies.
static const char *const paths[] = {
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/completions/render",
    "/v1/chat/completions/render",
    "/tokenize",
    "/detokenize",
    "/v1/models",
    "/v1/models/demo",
    "/health",
    "/version",
    "/load",
    "/metrics",
    "/tokenizer_info",
    "/v1/polyreme/status",
    "/",
    "/nowhere",
    "/v1/models/%00%ff../..",
};

static const char *const names[] = {
    "prompt",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "n",
    "stream",
    "stream_options",
    "include_usage",
    "stop",
    "logprobs",
    "top_logprobs",
    "echo",
    "seed",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "ignore_eos",
    "min_tokens",
    "stop_token_ids",
    "model",
    "user",
    "tools",
    "tool_choice",
    "response_format",
    "type",
    "json_schema",
    "schema",
    "properties",
    "items",
    "enum",
    "pattern",
    "role",
    "content",
    "name",
    "function",
    "parameters",
    "tokens",
    "add_special_tokens",
    "truncate_prompt_tokens",
    "priority",
    "chat_template_kwargs",
    "structured_outputs",
    "regex",
    "choice",
    "text",
    "tool_calls",
    "arguments",
    "id",
    "\\u0000",
    "",
};

static const char *const values[] = {
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "2",
    "16",
    "0.5",
    "1e308",
    "-1e308",
    "1e-308",
    "2048",
    "4096",
    "2147483647",
    "2147483648",
    "-2147483649",
    "9223372036854775807",
    "9223372036854775808",
    "1e999",
    "-0",
    "\"\"",
    "\"a\"",
    "\"user\"",
    "\"system\"",
    "\"tool\"",
    "\"function\"",
    "\"object\"",
    "\"json_object\"",
    "\"json_schema\"",
    "\"regex\"",
    "\"auto\"",
    "\"required\"",
    "\"none\"",
    "\"\\u0000\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\xff\xfe\"",
    "\"\xc3\xa9\xe2\x82\xac\"",
    "\"(a|b)*c{1,3}\"",
    "\"[\"",
    "\"<|im_start|>\"",
    "\"{% for %}\"",
    "[]",
    "{}",
    "[[]]",
    "[0]",
    "[1,2,3]",
    "[-1]",
    "[99999999]",
    "[null]",
    "{\"a\":1}",
    "demo",
    "NaN",
    "Infinity",
    "'x'",
};

uint64_t pr_load_dice_draw(pr_load_dice *dice)
{
    dice->state += 0x9e3779b97f4a7c15u;
    return pr_hash_mix(dice->state);
}

static bool chance(pr_load_dice *dice, size_t of) { return pr_load_dice_below(dice, of) == 0; }

static void text(pr_byte_buffer *out, const char *words)
{
    pr_byte_buffer_append(out, words, strlen(words));
}

static void noise(pr_load_dice *dice, size_t bytes, pr_byte_buffer *out)
{
    unsigned char *made = pr_byte_buffer_extend(out, bytes);
    for (size_t i = 0; made && i < bytes; i++)
        made[i] = (unsigned char)pr_load_dice_draw(dice);
}

static void repeat(const char *words, size_t times, pr_byte_buffer *out)
{
    for (size_t i = 0; i < times; i++)
        text(out, words);
}

// ---- Bodies ----

static void fields(pr_load_dice *dice, int32_t depth, pr_byte_buffer *out);

static void value(pr_load_dice *dice, int32_t depth, pr_byte_buffer *out)
{
    size_t kind = depth >= MOST_DEPTH ? 0 : pr_load_dice_below(dice, 4);
    size_t items = pr_load_dice_below(dice, 4);
    if (kind < 2) {
        text(out, PICK(dice, values));
    } else if (kind == 2) {
        text(out, "{");
        fields(dice, depth + 1, out);
        text(out, "}");
    } else {
        text(out, "[");
        for (size_t i = 0; i < items; i++) {
            text(out, i > 0 ? "," : "");
            value(dice, depth + 1, out);
        }
        text(out, "]");
    }
}

static void fields(pr_load_dice *dice, int32_t depth, pr_byte_buffer *out)
{
    size_t count = pr_load_dice_below(dice, 5);
    for (size_t i = 0; i < count; i++) {
        text(out, i > 0 ? ",\"" : "\"");
        text(out, PICK(dice, names));
        text(out, "\":");
        value(dice, depth, out);
    }
}

static const char *const good_beginnings[] = {
    "{\"prompt\":\"And he\",\"max_tokens\":4",
    "{\"prompt\":[1,2,3],\"max_tokens\":3,\"stream\":true",
    "{\"prompt\":[\"a\",\"b\"],\"n\":2,\"max_tokens\":2,\"logprobs\":2,\"echo\":true",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Who?\"}],\"max_tokens\":4",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Who?\"}],\"max_tokens\":4,\"stream\":true",
    ("{\"messages\":[{\"role\":\"user\",\"content\":\"1\"}],\"max_tokens\":8,\"tools\":[{\"type\":"
     "\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}]"),
    "{\"prompt\":\"x\",\"max_tokens\":8,\"response_format\":{\"type\":\"json_object\"}",
    "{\"prompt\":\"x\",\"max_tokens\":2000,\"stream\":true,\"ignore_eos\":true",
    "{\"tokens\":[5,6,7]",
};

// A good body with a few fields more, of which any may be wrong; or one of nothing but those.
static void make_body(pr_load_dice *dice, pr_byte_buffer *body)
{
    pr_byte_buffer more = {0};
    fields(dice, 0, &more);
    if (chance(dice, 4)) {
        text(body, "{");
    } else {
        text(body, PICK(dice, good_beginnings));
        text(body, more.size_bytes > 0 ? "," : "");
    }
    pr_byte_buffer_append(body, more.size_bytes > 0 ? more.data : "", more.size_bytes);
    text(body, chance(dice, 30) ? "" : "}");
    pr_byte_buffer_free(&more);
}

static void nest(pr_load_dice *dice, pr_byte_buffer *body)
{
    size_t depth = pr_load_dice_below(dice, MOST_NESTED);
    bool lists = chance(dice, 2), within = chance(dice, 2);
    text(body, within ? "{\"prompt\":\"a\",\"max_tokens\":1,\"response_format\":" : "");
    repeat(lists ? "[" : "{\"items\":", depth, body);
    text(body, lists ? "" : "1");
    repeat(lists ? "]" : "}", depth, body);
    text(body, within ? "}" : "");
}

// ---- Requests ----

static void head(
    const pr_load_target *target,
    const char *method,
    const char *path,
    const char *more,
    pr_byte_buffer *out)
{
    text(out, method);
    text(out, " ");
    text(out, path);
    text(out, " HTTP/1.1\r\n");
    text(out, target->fields);
    text(out, more);
}

static void post(
    const pr_load_target *target, const char *path, const pr_byte_buffer *body, pr_byte_buffer *out)
{
    char length[64];
    snprintf(length, sizeof length, "Content-Length: %zu\r\n\r\n", body->size_bytes);
    head(target, "POST", path, length, out);
    pr_byte_buffer_append(out, body->size_bytes > 0 ? body->data : "", body->size_bytes);
}

static const char *draw_post_path(pr_load_dice *dice)
{
    return chance(dice, 8) ? PICK(dice, paths) : paths[pr_load_dice_below(dice, POSTS)];
}

static void make_request(pr_load_dice *dice, const pr_load_target *target, pr_byte_buffer *out)
{
    pr_byte_buffer body = {0};
    make_body(dice, &body);
    post(target, draw_post_path(dice), &body, out);
    pr_byte_buffer_free(&body);
}

static void make_noise(pr_load_dice *dice, const pr_load_target *target, pr_byte_buffer *out)
{
    (void)target;
    noise(dice, 1 + pr_load_dice_below(dice, 4000), out);
}

// Bits turned, pieces taken out, put in or copied.
static void make_mutant(pr_load_dice *dice, const pr_load_target *target, pr_byte_buffer *out)
{
    size_t begin = out->size_bytes, changes = 1 + pr_load_dice_below(dice, 8);
    make_request(dice, target, out);
    for (size_t i = 0; i < changes && out->size_bytes > begin + 1; i++) {
        size_t bytes = out->size_bytes - begin, at = pr_load_dice_below(dice, bytes);
        size_t length = 1 + pr_load_dice_below(dice, bytes - at < 16 ? bytes - at : 16);
        char *made = (char *)out->data + begin;
        if (chance(dice, 3)) {
            made[at] = (char)(made[at] ^ (1 << pr_load_dice_below(dice, 8)));
        } else if (chance(dice, 2)) {
            memmove(made + at, made + at + length, bytes - at - length);
            out->size_bytes -= length;
        } else {
            memmove(made + pr_load_dice_below(dice, bytes - length + 1), made + at, length);
        }
    }
}

static void make_stump(pr_load_dice *dice, const pr_load_target *target, pr_byte_buffer *out)
{
    size_t begin = out->size_bytes;
    make_request(dice, target, out);
    out->size_bytes = begin + 1 + pr_load_dice_below(dice, out->size_bytes - begin);
}

static void make_queue(pr_load_dice *dice, const pr_load_target *target, pr_byte_buffer *out)
{
    size_t requests = 1 + pr_load_dice_below(dice, 12);
    for (size_t i = 0; i < requests; i++) {
        if (chance(dice, 3))
            head(target, "GET", PICK(dice, paths), "\r\n", out);
        else
            make_request(dice, target, out);
    }
    if (chance(dice, 2))
        make_noise(dice, target, out);
}

static void make_long_head(pr_load_dice *dice, const pr_load_target *target, pr_byte_buffer *out)
{
    size_t bytes = pr_load_dice_below(dice, MOST_FIELD_BYTES);
    head(target, "GET", chance(dice, 4) ? "" : PICK(dice, paths), "", out);
    if (chance(dice, 2)) {
        text(out, "X-A: ");
        repeat("a", bytes, out);
    } else {
        repeat("A: b\r\n", bytes / 6, out);
    }
    text(out, chance(dice, 4) ? "" : "\r\n\r\n");
}

static void make_nested(pr_load_dice *dice, const pr_load_target *target, pr_byte_buffer *out)
{
    pr_byte_buffer body = {0};
    nest(dice, &body);
    post(target, draw_post_path(dice), &body, out);
    pr_byte_buffer_free(&body);
}

static void make_zeros(pr_load_dice *dice, const pr_load_target *target, pr_byte_buffer *out)
{
    size_t begin = out->size_bytes, zeros = 1 + pr_load_dice_below(dice, 6);
    make_request(dice, target, out);
    for (size_t i = 0; i < zeros; i++)
        ((char *)out->data)[begin + pr_load_dice_below(dice, out->size_bytes - begin)] = '\0';
}

// Lengths and codings that contradict each other or themselves.
static void make_framing(pr_load_dice *dice, const pr_load_target *target, pr_byte_buffer *out)
{
    static const char *const framings[] = {
        "Content-Length: 18446744073709551616\r\n\r\n",
        "Content-Length: 999999999999\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: 5, 5\r\n\r\nhello",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\nT: x\r\n\r\n",
        "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        "Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}",
        "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "Host: other\r\n\r\n",
        " folded: x\r\n\r\n",
        "A : b\r\n\r\n",
        "Origin: http://evil.example\r\nContent-Length: 2\r\n\r\n{}",
        "X-Request-Id: \x01\x7f\xff\r\nContent-Length: 2\r\n\r\n{}",
        "x-slo-ttft-ms: -99999999999999999999\r\nContent-Length: 2\r\n\r\n{}",
        "\n\n",
    };
    head(target, chance(dice, 4) ? "PUT" : "POST", PICK(dice, paths), PICK(dice, framings), out);
    if (chance(dice, 3))
        make_noise(dice, target, out);
}

const char *pr_load_junk_make(pr_load_dice *dice, const pr_load_target *target, pr_byte_buffer *out)
{
    static const struct {
        const char *name;
        void (*make)(pr_load_dice *, const pr_load_target *, pr_byte_buffer *);
    } kinds[] = {
        {"noise", make_noise},      {"mutant", make_mutant},       {"stump", make_stump},
        {"request", make_request},  {"request", make_request},     {"request", make_request},
        {"pipelined", make_queue},  {"long head", make_long_head}, {"nested", make_nested},
        {"with zeros", make_zeros}, {"framing", make_framing},
    };
    size_t kind = pr_load_dice_below(dice, sizeof kinds / sizeof *kinds);
    kinds[kind].make(dice, target, out);
    return kinds[kind].name;
}
