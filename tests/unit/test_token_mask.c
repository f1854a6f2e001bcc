// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/sampling/constraint.h"
#include "runtime/sampling/sampler.h"

static uint64_t random_state;

static int32_t below(int32_t limit)
{
    random_state += 0x9e3779b97f4a7c15u;
    return (int32_t)(pr_hash_mix(random_state) % (uint64_t)limit);
}

// ---- Vocabularies

// Tokens of these texts, one after the other; "" has no bytes.
static pr_token_bytes *table_of(const char *const *text, int32_t tokens)
{
    pr_token_bytes *table;
    size_t size = 0, at = (size_t)tokens;
    for (int32_t i = 0; i < tokens; i++)
        size += strlen(text[i]);
    assert_int_equal(
        pr_token_bytes_create(tokens, (int64_t)(size + (size_t)tokens), &table), PR_OK);
    for (int32_t i = 0; i < tokens; i++) {
        table->packed[i] = (uint8_t)strlen(text[i]);
        memcpy(table->packed + at, text[i], strlen(text[i]));
        at += strlen(text[i]);
    }
    assert_int_equal(pr_token_bytes_index(table), PR_OK);
    return table;
}

static pr_token_bytes *demo_table(int32_t tokens)
{
    pr_tokenizer *tokenizer;
    pr_token_bytes *table;
    assert_int_equal(pr_tokenizer_open(PR_SOURCE_DIR "/models/demo", &tokenizer), PR_OK);
    assert_int_equal(pr_token_bytes_from_tokenizer(tokenizer, tokens, &table), PR_OK);
    pr_tokenizer_close(tokenizer);
    return table;
}

static pr_grammar_source source_of(pr_grammar_kind kind, const char *text)
{
    return (pr_grammar_source){kind, (int32_t)strlen(text), (char *)(uintptr_t)text};
}

static pr_constraint *admit(pr_constraints *constraints, pr_grammar_kind kind, const char *text)
{
    pr_constraint *constraint;
    pr_grammar_source source = source_of(kind, text);
    assert_int_equal(pr_constraints_admit(constraints, &source, &constraint), PR_OK);
    return constraint;
}

// ---- Masks against every token tried by itself

static const struct grammar_case {
    pr_grammar_kind kind;
    const char *text;
} cases[] = {
    {PR_GRAMMAR_JSON_OBJECT, ""},
    {PR_GRAMMAR_REGEX, "[a-z ]{2,40}(\\.|!)"},
    {PR_GRAMMAR_REGEX, "(a|b|the |and )*[^x]{0,3}x"},
    {PR_GRAMMAR_REGEX, "(.{3,9},){1,300}"},
    {PR_GRAMMAR_CHOICE, "[\"and\",\"And the\",\"And the Lord\",\"x\"]"},
    {PR_GRAMMAR_JSON_SCHEMA,
     "{\"properties\":{\"name\":{\"type\":\"string\",\"minLength\":3,\"maxLength\":60},\"n\":{"
     "\"type\":"
     "\"integer\",\"minimum\":-7,\"maximum\":1234},\"d\":{\"format\":\"date\"},\"l\":{\"type\":"
     "\"array\","
     "\"items\":{\"enum\":[\"and\",\"the\",1.5,null]},\"maxItems\":30}},\"required\":[\"n\"],"
     "\"additionalProperties\":{\"type\":\"string\",\"maxLength\":2}}"},
    {PR_GRAMMAR_JSON_SCHEMA,
     "{\"$ref\":\"#/$defs/"
     "t\",\"$defs\":{\"t\":{\"type\":\"array\",\"items\":{\"anyOf\":[{\"$ref\":\"#/$defs/t\"},"
     "{\"type\":\"number\",\"minimum\":0.5,\"exclusiveMaximum\":7},{\"type\":\"string\","
     "\"pattern\":\"the\"}]},"
     "\"minItems\":1,\"maxItems\":3}}}"},
};

static bool fits(
    const pr_grammar *grammar,
    pr_matcher_scratch *scratch,
    const pr_matcher_state *from,
    const pr_token_bytes *table,
    int32_t token)
{
    pr_matcher_state state;
    int32_t size_bytes;
    const uint8_t *bytes = pr_token_bytes_of(table, token, &size_bytes);
    pr_matcher_copy(from, &state);
    return bytes && pr_matcher_advance(grammar, scratch, &state, bytes, size_bytes);
}

// A random walk, weighted towards rare tokens; masks are compared at each state. -> states seen
static int walk(
    const struct grammar_case *each,
    const pr_token_bytes *table,
    pr_token_masks *masks,
    uint64_t serial,
    int steps)
{
    pr_grammar *grammar;
    pr_matcher_scratch *scratch;
    pr_matcher_state state;
    pr_grammar_source source = source_of(each->kind, each->text);
    assert_int_equal(pr_grammar_compile(&source, &grammar), PR_OK);
    assert_int_equal(pr_matcher_scratch_create(&scratch), PR_OK);
    pr_matcher_begin(grammar, scratch, &state);
    int seen = 0;
    for (; seen < steps; seen++) {
        pr_token_mask mask;
        int32_t possible = 0, chosen = -1;
        pr_token_masks_find(masks, grammar, serial, &state, &mask);
        for (int32_t i = 0; i < table->tokens; i++) {
            bool fit = fits(grammar, scratch, &state, table, i);
            assert_int_equal(mask.bit[i / 64] >> (i % 64) & 1, fit);
            if (fit && below(++possible) == 0)
                chosen = i;
        }
        assert_int_equal(mask.any, possible > 0);
        if (possible == 0)
            break;
        assert_true(pr_token_masks_advance(masks, grammar, chosen, &state));
    }
    pr_matcher_scratch_destroy(scratch);
    pr_grammar_destroy(grammar);
    return seen;
}

static void a_mask_is_what_trying_every_token_gives(void **state)
{
    (void)state;
    pr_token_bytes *table = demo_table(2048);
    pr_token_masks *masks;
    pr_token_masks_params params = {.table = table, .vocabulary = 2048, .cache_bytes = 1 << 20};
    assert_int_equal(pr_token_masks_create(&params, &masks), PR_OK);
    int seen = 0;
    random_state = 11;
    for (int round = 0; round < 6; round++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            seen += walk(&cases[i], table, masks, i + 1, 40);
    }
    pr_token_masks_counts counts = pr_token_masks_count(masks);
    assert_true(seen > 600);
    assert_true(counts.found > 100 && counts.made > 100);
    pr_token_masks_destroy(masks);
    pr_token_bytes_destroy(table);
}

// A cache of the least size, so that masks are replaced; one state is looked at again and again.
static void a_replaced_mask_is_made_again_the_same(void **state)
{
    (void)state;
    pr_token_bytes *table = demo_table(2048);
    pr_token_masks *masks;
    pr_token_masks_params params = {.table = table, .vocabulary = 2048, .cache_bytes = 0};
    assert_int_equal(pr_token_masks_create(&params, &masks), PR_OK);
    random_state = 5;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            walk(&cases[i], table, masks, i + 1, 25);
    }
    pr_token_masks_destroy(masks);
    pr_token_bytes_destroy(table);
}

static int32_t find_token(const pr_token_bytes *table, const char *text)
{
    for (int32_t token = 0; token < table->tokens; token++) {
        int32_t size_bytes;
        const uint8_t *bytes = pr_token_bytes_of(table, token, &size_bytes);
        if (bytes && (size_t)size_bytes == strlen(text) &&
            memcmp(bytes, text, (size_t)size_bytes) == 0)
            return token;
    }
    fail_msg("no token '%s'", text);
    return -1;
}

// Letter by letter past the lower limit and up to the upper one: tokens are longer than a letter, so near a
// limit some fit and some do not.
static void masks_are_right_next_to_every_limit(void **state)
{
    (void)state;
    pr_token_bytes *table = demo_table(2048);
    pr_token_masks *masks;
    pr_token_masks_params params = {.table = table, .vocabulary = 2048, .cache_bytes = 1 << 20};
    assert_int_equal(pr_token_masks_create(&params, &masks), PR_OK);
    pr_grammar *grammar;
    pr_matcher_scratch *scratch;
    pr_matcher_state now;
    pr_grammar_source source = source_of(PR_GRAMMAR_REGEX, "[a-m]{40,90}[n-z]{0,40}");
    assert_int_equal(pr_grammar_compile(&source, &grammar), PR_OK);
    assert_int_equal(pr_matcher_scratch_create(&scratch), PR_OK);
    pr_token_masks_begin(masks, grammar, &now);
    int32_t letter = find_token(table, "a");
    for (int i = 0; i <= 90; i++) {
        pr_token_mask mask;
        pr_token_masks_find(masks, grammar, 1, &now, &mask);
        for (int32_t token = 0; token < 2048; token++)
            assert_int_equal(
                mask.bit[token / 64] >> (token % 64) & 1,
                fits(grammar, scratch, &now, table, token));
        assert_true(i == 90 || pr_token_masks_advance(masks, grammar, letter, &now));
    }
    assert_true(pr_token_masks_count(masks).found > 20);
    pr_matcher_scratch_destroy(scratch);
    pr_grammar_destroy(grammar);
    pr_token_masks_destroy(masks);
    pr_token_bytes_destroy(table);
}

static void long_counts_share_masks(void **state)
{
    (void)state;
    pr_token_bytes *table = demo_table(2048);
    pr_token_masks *masks;
    pr_token_masks_params params = {.table = table, .vocabulary = 2048, .cache_bytes = 1 << 20};
    assert_int_equal(pr_token_masks_create(&params, &masks), PR_OK);
    pr_grammar *grammar;
    pr_grammar_source source = source_of(PR_GRAMMAR_REGEX, "[a-z]{100,2000}");
    pr_matcher_state now;
    assert_int_equal(pr_grammar_compile(&source, &grammar), PR_OK);
    pr_token_masks_begin(masks, grammar, &now);
    int32_t token = find_token(table, "a");
    for (int i = 0; i < 2000; i++) {
        pr_token_mask mask;
        pr_token_masks_find(masks, grammar, 1, &now, &mask);
        assert_true(mask.any);
        assert_true(pr_token_masks_advance(masks, grammar, token, &now));
    }
    assert_true(now.ends && now.stacks == 0);
    assert_true(pr_token_masks_count(masks).made < 120);
    pr_grammar_destroy(grammar);
    pr_token_masks_destroy(masks);
    pr_token_bytes_destroy(table);
}

// ---- Constraints

static void a_vocabulary_of_one_letter_follows_the_grammar(void **state)
{
    (void)state;
    static const char *const text[] = {"a", "b", "ab", "", "aab", "b"};
    pr_token_bytes *table = table_of(text, 6);
    pr_constraints *constraints;
    pr_constraint_mask mask;
    assert_int_equal(pr_constraints_create(table, 70, &constraints), PR_OK);
    pr_constraint *constraint = admit(constraints, PR_GRAMMAR_REGEX, "a{2}b?");
    pr_constraint_find_mask(constraint, &mask);
    assert_int_equal(mask.allowed[0], 1 | 1 << 4);  // a, aab
    assert_int_equal(mask.allowed[1], 0);
    assert_false(mask.may_end);
    assert_false(pr_constraint_take(constraint, 2));
    assert_false(pr_constraint_take(constraint, 3));
    assert_false(pr_constraint_take(constraint, 99));
    assert_false(pr_constraint_take(constraint, -1));
    assert_true(pr_constraint_take(constraint, 0));
    pr_constraint_find_mask(constraint, &mask);
    assert_int_equal(mask.allowed[0], 1 | 1 << 2);  // a, ab
    assert_true(pr_constraint_take(constraint, 0));
    pr_constraint_find_mask(constraint, &mask);
    assert_int_equal(mask.allowed[0], 1 << 1 | 1 << 5);  // both b
    assert_true(mask.may_end && mask.any);
    assert_true(pr_constraint_take(constraint, 5));
    pr_constraint_find_mask(constraint, &mask);
    assert_true(mask.may_end && !mask.any);
    pr_constraint_release(constraint);
    pr_constraints_destroy(constraints);
    pr_token_bytes_destroy(table);
}

static void a_gap_in_the_vocabulary_leaves_no_token(void **state)
{
    (void)state;
    static const char *const text[] = {"a"};
    pr_token_bytes *table = table_of(text, 1);
    pr_constraints *constraints;
    pr_constraint_mask mask;
    assert_int_equal(pr_constraints_create(table, 1, &constraints), PR_OK);
    pr_constraint *constraint = admit(constraints, PR_GRAMMAR_REGEX, "ab");
    assert_true(pr_constraint_take(constraint, 0));
    pr_constraint_find_mask(constraint, &mask);
    assert_true(!mask.any && !mask.may_end);
    pr_constraint_release(constraint);
    pr_constraints_destroy(constraints);
    pr_token_bytes_destroy(table);
}

static void sequences_with_one_source_share_its_grammar(void **state)
{
    (void)state;
    static const char *const text[] = {"a"};
    pr_token_bytes *table = table_of(text, 1);
    pr_constraints *constraints;
    pr_constraint *held[100];
    assert_int_equal(pr_constraints_create(table, 1, &constraints), PR_OK);
    for (int i = 0; i < 100; i++) {
        held[i] = admit(constraints, PR_GRAMMAR_REGEX, i % 2 ? "a*" : "a+");
        assert_int_equal(pr_constraints_grammars(constraints), i ? 2 : 1);
    }
    pr_constraint *same_text = admit(constraints, PR_GRAMMAR_JSON_SCHEMA, "{}");
    assert_int_equal(pr_constraints_grammars(constraints), 3);
    for (int i = 0; i < 100; i++)
        pr_constraint_release(held[i]);
    pr_constraint_release(same_text);
    for (int i = 0; i < 200; i++) {  // unused ones are kept, but not all
        char regex[16] = "a";
        regex[1] = (char)('A' + i % 26);
        regex[2] = (char)('a' + i / 26);
        pr_constraint_release(admit(constraints, PR_GRAMMAR_REGEX, regex));
    }
    assert_in_range(pr_constraints_grammars(constraints), 2, 64);
    pr_error_capture_begin();
    pr_grammar_source wrong = source_of(PR_GRAMMAR_REGEX, "(");
    assert_int_equal(pr_constraints_admit(constraints, &wrong, &held[0]), PR_ERR_REQUEST);
    pr_error_capture_end();
    pr_constraint_release(NULL);
    pr_constraints_destroy(constraints);
    pr_token_bytes_destroy(table);
}

static void special_tokens_have_no_bytes(void **state)
{
    (void)state;
    pr_token_bytes *table = demo_table(2100);
    int32_t size_bytes, with_bytes = 0;
    for (int32_t i = 2045; i < 2100; i++)
        assert_null(pr_token_bytes_of(table, i, &size_bytes));
    for (int32_t i = 0; i < 2045; i++)
        with_bytes += pr_token_bytes_of(table, i, &size_bytes) != NULL;
    assert_int_equal(with_bytes, 2045);
    pr_token_bytes_destroy(table);
}

// ---- The mask in the sampler

static int32_t draw(pr_sampling *sampling, uint64_t allowed, bool may_stop, bool must_stop)
{
    pr_sampler *sampler;
    pr_sampled sampled;
    uint64_t bits[2] = {allowed, 0};
    float logits[70];
    for (int i = 0; i < 70; i++)
        logits[i] = (float)(i % 7);
    logits[69] = 100;
    assert_int_equal(pr_sampler_create(70, &sampler), PR_OK);
    pr_sampler_args args = {
        .sampling = sampling,
        .logits = logits,
        .allowed = bits,
        .may_stop = may_stop,
        .must_stop = must_stop,
    };
    pr_sampler_draw(sampler, &args, &sampled);
    pr_sampler_destroy(sampler);
    return sampled.token;
}

static void the_sampler_draws_what_the_mask_allows(void **state)
{
    (void)state;
    pr_sampling sampling;
    pr_sampling_defaults(&sampling);
    sampling.stop_tokens = 1;
    sampling.stop_token[0] = 69;
    for (uint64_t seed = 0; seed < 50; seed++) {
        sampling.temperature = seed % 2 ? 1.5f : 0;
        sampling.seed = seed;
        int32_t token = draw(&sampling, 1u << 3 | 1u << 9, false, false);
        assert_true(token == 3 || token == 9);
        assert_int_equal(draw(&sampling, 1u << 3, true, false), 69);
        assert_int_equal(draw(&sampling, 0, true, true), 69);
    }
    sampling.stop_token[0] = 3;  // a stop token that has bytes ends only where the grammar does
    assert_int_equal(draw(&sampling, 1u << 3 | 1u << 1, false, false), 1);
}

static void min_tokens_holds_until_the_grammar_must_end(void **state)
{
    (void)state;
    pr_sampling sampling;
    pr_sampling_defaults(&sampling);
    sampling.temperature = 0;
    sampling.min_tokens = 4;
    sampling.stop_tokens = 1;
    sampling.stop_token[0] = 69;
    assert_int_equal(draw(&sampling, 1u << 3, true, false), 3);
    assert_int_equal(draw(&sampling, 0, true, true), 69);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mask_is_what_trying_every_token_gives),
        cmocka_unit_test(a_replaced_mask_is_made_again_the_same),
        cmocka_unit_test(masks_are_right_next_to_every_limit),
        cmocka_unit_test(long_counts_share_masks),
        cmocka_unit_test(a_vocabulary_of_one_letter_follows_the_grammar),
        cmocka_unit_test(a_gap_in_the_vocabulary_leaves_no_token),
        cmocka_unit_test(sequences_with_one_source_share_its_grammar),
        cmocka_unit_test(special_tokens_have_no_bytes),
        cmocka_unit_test(the_sampler_draws_what_the_mask_allows),
        cmocka_unit_test(min_tokens_holds_until_the_grammar_must_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
