// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/cache/kv_cache.h"
#include "runtime/cache/prefix_index.h"

static pr_kv_cache *make_cache(int32_t blocks, int32_t block_tokens, bool prefix_caching)
{
    pr_kv_cache_params params = {
        .blocks = blocks, .block_tokens = block_tokens, .prefix_caching = prefix_caching};
    pr_kv_cache *cache;
    assert_int_equal(pr_kv_cache_create(&params, &cache), PR_OK);
    pr_kv_cache_check(cache);
    return cache;
}

// Opens, makes room for the prompt and publishes it.
static pr_kv_sequence *
run_prompt(pr_kv_cache *cache, uint64_t salt, const int32_t *token, int32_t tokens, int32_t *cached)
{
    pr_kv_sequence *sequence;
    pr_kv_copy copy;
    assert_int_equal(pr_kv_cache_open(cache, salt, token, tokens, &sequence, cached, &copy), PR_OK);
    assert_int_equal(pr_kv_cache_extend(cache, sequence, tokens), PR_OK);
    pr_kv_cache_publish(cache, sequence, token, tokens);
    pr_kv_cache_check(cache);
    return sequence;
}

static int32_t block_at(const pr_kv_sequence *sequence, int32_t i)
{
    int32_t blocks;
    const int32_t *block = pr_kv_sequence_blocks(sequence, &blocks);
    assert_true(i < blocks);
    return block[i];
}

static void a_second_sequence_shares_the_published_prefix(void **state)
{
    (void)state;
    pr_kv_cache *cache = make_cache(8, 4, true);
    int32_t a[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, b[9] = {1, 2, 3, 4, 5, 6, 7, 8, 11};
    int32_t cached;
    pr_kv_sequence *first = run_prompt(cache, 0, a, 10, &cached);
    assert_int_equal(cached, 0);
    assert_int_equal(pr_kv_cache_match(cache, 0, b, 9), 8);
    assert_int_equal(pr_kv_cache_match(cache, 0, b, 7), 4);
    pr_kv_sequence *second = run_prompt(cache, 0, b, 9, &cached);
    assert_int_equal(cached, 8);
    assert_int_equal(block_at(first, 0), block_at(second, 0));
    assert_int_equal(block_at(first, 1), block_at(second, 1));
    assert_int_not_equal(block_at(first, 2), block_at(second, 2));
    assert_int_equal(pr_kv_cache_used_blocks(cache), 4);
    assert_int_equal(pr_kv_cache_cached_blocks(cache), 2);
    pr_kv_cache_close(cache, first);
    assert_int_equal(pr_kv_cache_used_blocks(cache), 3);
    pr_kv_cache_close(cache, second);
    assert_int_equal(pr_kv_cache_free_blocks(cache), 8);
    assert_int_equal(pr_kv_cache_cached_blocks(cache), 2);
    pr_kv_cache_check(cache);
    pr_kv_cache_destroy(cache);
}

static void a_block_is_found_only_behind_its_own_parent(void **state)
{
    (void)state;
    pr_kv_cache *cache = make_cache(8, 2, true);
    int32_t a[5] = {1, 2, 7, 7, 0}, other[5] = {3, 4, 7, 7, 0}, tail[3] = {7, 7, 0}, cached;
    pr_kv_cache_close(cache, run_prompt(cache, 0, a, 5, &cached));
    assert_int_equal(pr_kv_cache_match(cache, 0, other, 5), 0);
    assert_int_equal(pr_kv_cache_match(cache, 0, tail, 3), 0);
    pr_kv_cache_close(cache, run_prompt(cache, 0, other, 2, &cached));
    assert_int_equal(pr_kv_cache_match(cache, 0, other, 5), 2);
    pr_kv_cache_destroy(cache);
}

static void salts_separate_tenants(void **state)
{
    (void)state;
    pr_kv_cache *cache = make_cache(8, 2, true);
    int32_t a[5] = {1, 2, 3, 4, 5}, cached;
    pr_kv_cache_close(cache, run_prompt(cache, 1, a, 5, &cached));
    assert_int_equal(pr_kv_cache_match(cache, 2, a, 5), 0);
    pr_kv_cache_close(cache, run_prompt(cache, 2, a, 5, &cached));
    assert_int_equal(cached, 0);
    assert_int_equal(pr_kv_cache_cached_blocks(cache), 4);
    assert_int_equal(pr_kv_cache_match(cache, 1, a, 5), 4);
    pr_kv_cache_destroy(cache);
}

static void a_fully_cached_prompt_gets_a_copy_of_its_last_block(void **state)
{
    (void)state;
    pr_kv_cache *cache = make_cache(8, 4, true);
    int32_t a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, cached;
    pr_kv_sequence *first = run_prompt(cache, 0, a, 8, &cached), *second;
    pr_kv_copy copy;
    assert_int_equal(pr_kv_cache_match(cache, 0, a, 8), 7);
    assert_int_equal(pr_kv_cache_open(cache, 0, a, 8, &second, &cached, &copy), PR_OK);
    assert_int_equal(cached, 7);
    assert_int_equal(copy.from, block_at(first, 1));
    assert_int_equal(copy.to, block_at(second, 1));
    assert_int_not_equal(copy.from, copy.to);
    pr_kv_cache_check(cache);
    pr_kv_cache_publish(cache, second, a, 8);  // the same content again: stays private
    assert_int_equal(pr_kv_cache_cached_blocks(cache), 2);
    pr_kv_cache_check(cache);
    pr_kv_cache_close(cache, second);
    pr_kv_cache_close(cache, first);
    pr_kv_cache_destroy(cache);
}

static void the_copy_takes_the_source_itself_when_nothing_else_is_left(void **state)
{
    (void)state;
    pr_kv_cache *cache = make_cache(2, 4, true);
    int32_t a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, cached;
    pr_kv_sequence *first = run_prompt(cache, 0, a, 8, &cached), *second;
    int32_t source = block_at(first, 1);
    pr_kv_copy copy;
    assert_int_equal(pr_kv_cache_open(cache, 0, a, 8, &second, &cached, &copy), PR_ERR_RESOURCE);
    pr_kv_cache_check(cache);
    pr_kv_cache_close(cache, first);
    assert_int_equal(pr_kv_cache_open(cache, 0, a, 8, &second, &cached, &copy), PR_OK);
    assert_int_equal(cached, 7);
    assert_int_equal(copy.from, -1);
    assert_int_equal(block_at(second, 1), source);
    pr_kv_cache_check(cache);
    pr_kv_cache_publish(cache, second, a, 8);
    assert_int_equal(pr_kv_cache_cached_blocks(cache), 2);
    pr_kv_cache_close(cache, second);
    pr_kv_cache_destroy(cache);
}

static void eviction_is_least_recently_used_and_leaf_first(void **state)
{
    (void)state;
    pr_kv_cache *cache = make_cache(8, 2, true);
    int32_t a[5] = {1, 2, 3, 4, 0}, b[5] = {5, 6, 7, 8, 0}, again[3] = {1, 2, 9}, c = 10, cached;
    pr_kv_cache_close(cache, run_prompt(cache, 0, a, 4, &cached));
    pr_kv_cache_close(cache, run_prompt(cache, 0, b, 4, &cached));
    pr_kv_cache_close(cache, run_prompt(cache, 0, again, 3, &cached));
    assert_int_equal(cached, 2);
    // Four blocks are free; then a's leaf goes, b's leaf, b's root, and a's root, used last.
    int32_t left_a[9] = {4, 4, 4, 4, 4, 2, 2, 2, 0}, left_b[9] = {4, 4, 4, 4, 4, 4, 2, 0, 0};
    pr_kv_sequence *taker;
    pr_kv_copy copy;
    assert_int_equal(pr_kv_cache_open(cache, 0, &c, 1, &taker, &cached, &copy), PR_OK);
    for (int32_t blocks = 1; blocks <= 8; blocks++) {
        assert_int_equal(pr_kv_cache_extend(cache, taker, 2 * blocks), PR_OK);
        pr_kv_cache_check(cache);
        assert_int_equal(pr_kv_cache_match(cache, 0, a, 5), left_a[blocks]);
        assert_int_equal(pr_kv_cache_match(cache, 0, b, 5), left_b[blocks]);
    }
    pr_kv_cache_close(cache, taker);
    pr_kv_cache_destroy(cache);
}

static void a_refused_extend_changes_nothing(void **state)
{
    (void)state;
    pr_kv_cache *cache = make_cache(4, 2, true);
    int32_t a[5] = {1, 2, 3, 4, 0}, b[3] = {5, 6, 7}, cached, blocks;
    pr_kv_cache_close(cache, run_prompt(cache, 0, a, 4, &cached));
    pr_kv_sequence *holder = run_prompt(cache, 0, b, 3, &cached);
    assert_int_equal(pr_kv_cache_extend(cache, holder, 9), PR_ERR_RESOURCE);
    assert_int_equal(pr_kv_cache_extend(cache, holder, INT32_MAX), PR_ERR_RESOURCE);
    pr_kv_cache_check(cache);
    pr_kv_sequence_blocks(holder, &blocks);
    assert_int_equal(blocks, 2);
    assert_int_equal(pr_kv_cache_match(cache, 0, a, 5), 4);
    assert_int_equal(pr_kv_cache_free_blocks(cache), 2);
    assert_int_equal(pr_kv_cache_extend(cache, holder, 8), PR_OK);
    assert_int_equal(pr_kv_cache_match(cache, 0, a, 5), 0);
    pr_kv_cache_close(cache, holder);
    pr_kv_cache_destroy(cache);
}

static void without_prefix_caching_nothing_is_kept(void **state)
{
    (void)state;
    pr_kv_cache *cache = make_cache(4, 2, false);
    int32_t a[5] = {1, 2, 3, 4, 5}, cached;
    pr_kv_sequence *first = run_prompt(cache, 0, a, 5, &cached);
    assert_int_equal(pr_kv_cache_match(cache, 0, a, 5), 0);
    assert_int_equal(pr_kv_cache_cached_blocks(cache), 0);
    pr_kv_cache_close(cache, first);
    assert_int_equal(pr_kv_cache_free_blocks(cache), 4);
    pr_kv_cache_check(cache);
    pr_kv_cache_destroy(cache);
}

static void what_is_forgotten_is_free_and_not_found(void **state)
{
    (void)state;
    pr_kv_cache *cache = make_cache(8, 4, true);
    int32_t a[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, cached;
    pr_kv_cache_close(cache, run_prompt(cache, 0, a, 12, &cached));
    assert_int_equal(pr_kv_cache_cached_blocks(cache), 3);
    pr_kv_cache_forget(cache);
    pr_kv_cache_check(cache);
    assert_int_equal(pr_kv_cache_cached_blocks(cache), 0);
    assert_int_equal(pr_kv_cache_free_blocks(cache), 8);
    assert_int_equal(pr_kv_cache_match(cache, 0, a, 12), 0);
    pr_kv_cache_close(cache, run_prompt(cache, 0, a, 12, &cached));
    assert_int_equal(cached, 0);
    pr_kv_cache_destroy(cache);
}

static void wrong_sizes_are_refused(void **state)
{
    (void)state;
    pr_kv_cache *cache = NULL;
    pr_kv_cache_params none = {.block_tokens = 16, .prefix_caching = true};
    pr_kv_cache_params empty = {.blocks = 4, .prefix_caching = true};
    pr_error_capture_begin();
    assert_int_equal(pr_kv_cache_create(&none, &cache), PR_ERR_ARGUMENT);
    assert_int_equal(pr_kv_cache_create(&empty, &cache), PR_ERR_ARGUMENT);
    assert_null(cache);
    pr_kv_sequence *sequence;
    pr_kv_copy copy;
    int32_t cached, token = 1;
    cache = make_cache(2, 2, true);
    assert_int_equal(
        pr_kv_cache_open(cache, 0, &token, 0, &sequence, &cached, &copy), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    pr_kv_cache_destroy(cache);
}

// With as many buckets as blocks, 512 siblings collide in the table many times.
static void a_hash_collision_never_gives_another_prefix(void **state)
{
    (void)state;
    enum { BLOCKS = 512 };
    pr_prefix_index *index;
    assert_int_equal(pr_prefix_index_create(BLOCKS, 1, &index), PR_OK);
    for (int32_t i = 0; i < BLOCKS; i++)
        pr_prefix_index_insert(index, i, 9, PR_PREFIX_ROOT, &i);
    pr_prefix_index_check(index);
    for (int32_t i = 0; i < 4 * BLOCKS; i++)
        assert_int_equal(pr_prefix_index_find(index, 9, PR_PREFIX_ROOT, &i), i < BLOCKS ? i : -1);
    for (int32_t i = 0; i < BLOCKS; i += 2)
        pr_prefix_index_remove(index, i);
    pr_prefix_index_check(index);
    for (int32_t i = 0; i < BLOCKS; i++)
        assert_int_equal(pr_prefix_index_find(index, 9, PR_PREFIX_ROOT, &i), i % 2 ? i : -1);
    pr_prefix_index_destroy(index);
}

// ---- The naive model: every block's state spelled out, every search a scan.

enum { M_BLOCKS = 24, M_TOKENS = 3, M_SEQUENCES = 8, M_LENGTH = 60, M_ROUNDS = 100000 };

typedef struct model_block {
    int references;
    bool published;
    uint64_t salt, used;
    int depth;                 // blocks in the chain, this one included
    int32_t prefix[M_LENGTH];  // all tokens up to this block's end
} model_block;

typedef struct model_sequence {
    pr_kv_sequence *real;
    uint64_t salt;
    int tokens, length;  // written; whole
    int blocks, published;
    bool detached;
    int32_t token[M_LENGTH];
    int block[M_LENGTH];
} model_sequence;

typedef struct model {
    model_block block[M_BLOCKS];
    model_sequence sequence[M_SEQUENCES];
    uint64_t time, random;
    int opens, copies, refusals, evictions;
} model;

static uint32_t below(model *m, uint32_t limit)
{
    m->random += 0x9e3779b97f4a7c15u;
    return (uint32_t)(pr_hash_mix(m->random) >> 33) % limit;
}

static int model_find(const model *m, uint64_t salt, const int32_t *token, int depth)
{
    for (int i = 0; i < M_BLOCKS; i++) {
        const model_block *b = &m->block[i];
        if (b->published && b->salt == salt && b->depth == depth &&
            memcmp(b->prefix, token, (size_t)depth * M_TOKENS * sizeof *token) == 0)
            return i;
    }
    return -1;
}

static int model_idle(const model *m)
{
    int idle = 0;
    for (int i = 0; i < M_BLOCKS; i++)
        idle += m->block[i].references == 0;
    return idle;
}

static bool model_has_child(const model *m, int parent)
{
    const model_block *p = &m->block[parent];
    for (int i = 0; i < M_BLOCKS; i++) {
        const model_block *b = &m->block[i];
        if (b->published && b->salt == p->salt && b->depth == p->depth + 1 &&
            memcmp(b->prefix, p->prefix, (size_t)p->depth * M_TOKENS * sizeof *p->prefix) == 0)
            return true;
    }
    return false;
}

// The real cache names the block it took; the model says whether it was right to.
static void model_take(model *m, int block)
{
    model_block *taken = &m->block[block];
    assert_int_equal(taken->references, 0);
    if (taken->published) {
        m->evictions++;
        assert_false(model_has_child(m, block));
        for (int i = 0; i < M_BLOCKS; i++) {
            const model_block *b = &m->block[i];
            if (b->references > 0 || i == block)
                continue;
            assert_true(b->published);  // no free block was passed over
            assert_true(model_has_child(m, i) || b->used > taken->used);
        }
    }
    taken->published = false;
    taken->references = 1;
}

static void model_open(pr_kv_cache *cache, model *m, model_sequence *s)
{
    pr_kv_copy copy;
    int32_t cached, blocks;
    s->salt = below(m, 2);
    s->length = 1 + (int)below(m, 20);
    for (int i = 0; i < M_LENGTH; i++)
        s->token[i] = (int32_t)below(m, 10) == 0;  // few different prompts
    int found = 0, last = -1, next;
    while ((found + 1) * M_TOKENS <= s->length &&
           (next = model_find(m, s->salt, s->token, found + 1)) >= 0) {
        s->block[found++] = next;
        last = next;
    }
    bool cut = found > 0 && found * M_TOKENS == s->length;
    int usable = cut ? s->length - 1 : found * M_TOKENS;
    assert_int_equal(pr_kv_cache_match(cache, s->salt, s->token, s->length), usable);
    pr_status status =
        pr_kv_cache_open(cache, s->salt, s->token, s->length, &s->real, &cached, &copy);
    int shared = usable / M_TOKENS, idle = model_idle(m);
    for (int i = 0; i < shared; i++)
        idle -= m->block[s->block[i]].references == 0;
    if (cut && idle == 0) {
        assert_int_equal(status, PR_ERR_RESOURCE);
        s->real = NULL;
        m->refusals++;
        return;
    }
    m->opens++;
    assert_int_equal(status, PR_OK);
    assert_int_equal(cached, usable);
    for (int i = 0; i < shared; i++)
        m->block[s->block[i]].references++;
    const int32_t *table = pr_kv_sequence_blocks(s->real, &blocks);
    assert_int_equal(blocks, shared + cut);
    for (int i = 0; i < shared; i++)
        assert_int_equal(table[i], s->block[i]);
    s->blocks = s->published = shared;
    s->detached = false;
    s->tokens = usable;
    assert_int_equal(copy.from >= 0, cut && table[shared] != last);
    if (!cut)
        return;
    s->block[s->blocks++] = table[shared];
    if (copy.from >= 0) {
        m->copies++;
        assert_int_equal(copy.from, last);
        assert_int_equal(copy.to, table[shared]);
        m->block[last].references++;  // held while the copy is found
        model_take(m, copy.to);
        m->block[last].references--;
        m->block[last].used = ++m->time;
    } else {
        assert_int_equal(idle, 1);
        model_take(m, last);
    }
}

static void model_extend(pr_kv_cache *cache, model *m, model_sequence *s)
{
    int more = s->length + (int)below(m, 8), wanted, idle = model_idle(m);
    if (more > M_LENGTH)
        more = M_LENGTH;
    wanted = (more + M_TOKENS - 1) / M_TOKENS;
    pr_status status = pr_kv_cache_extend(cache, s->real, more);
    if (wanted - s->blocks > idle) {
        assert_int_equal(status, PR_ERR_RESOURCE);
        m->refusals++;
        return;
    }
    assert_int_equal(status, PR_OK);
    s->length = more;
    int32_t blocks;
    const int32_t *table = pr_kv_sequence_blocks(s->real, &blocks);
    for (; s->blocks < wanted; s->blocks++) {
        s->block[s->blocks] = table[s->blocks];
        model_take(m, table[s->blocks]);
    }
    assert_int_equal(blocks, s->blocks);
}

static void model_publish(pr_kv_cache *cache, model *m, model_sequence *s)
{
    int room = s->blocks * M_TOKENS < s->length ? s->blocks * M_TOKENS : s->length;
    if (room <= s->tokens)
        return;
    s->tokens += 1 + (int)below(m, (uint32_t)(room - s->tokens));
    pr_kv_cache_publish(cache, s->real, s->token, s->tokens);
    for (; (s->published + 1) * M_TOKENS <= s->tokens && !s->detached;) {
        if (model_find(m, s->salt, s->token, s->published + 1) >= 0) {
            s->detached = true;
            break;
        }
        model_block *b = &m->block[s->block[s->published++]];
        b->published = true;
        b->salt = s->salt;
        b->depth = s->published;
        memcpy(b->prefix, s->token, (size_t)b->depth * M_TOKENS * sizeof *s->token);
    }
}

static void model_close(pr_kv_cache *cache, model *m, model_sequence *s)
{
    pr_kv_cache_close(cache, s->real);
    s->real = NULL;
    for (int i = s->blocks - 1; i >= 0; i--) {
        m->block[s->block[i]].references--;
        m->block[s->block[i]].used = ++m->time;
    }
}

// What a watch has been told: each chain once while it is stored.
typedef struct watched {
    uint64_t chain[M_BLOCKS];
    int32_t depth[M_BLOCKS];
    int blocks;
} watched;

static int find_watched(const watched *seen, uint64_t chain)
{
    int i = 0;
    while (i < seen->blocks && seen->chain[i] != chain)
        i++;
    return i;
}

static void see_stored(void *context, const pr_kv_block *block)
{
    watched *seen = context;
    assert_int_equal(find_watched(seen, block->chain), seen->blocks);
    assert_int_equal(block->tokens, M_TOKENS);
    assert_true(block->chain == pr_prefix_index_next_chain(block->parent, block->token, M_TOKENS));
    int parent = find_watched(seen, block->parent);
    if (block->depth == 1)
        assert_true(block->parent == pr_prefix_index_root_chain(block->salt));
    else
        assert_true(parent < seen->blocks && seen->depth[parent] == block->depth - 1);
    seen->chain[seen->blocks] = block->chain;
    seen->depth[seen->blocks++] = block->depth;
}

static void see_evicted(void *context, uint64_t chain, int32_t depth)
{
    watched *seen = context;
    int i = find_watched(seen, chain);
    assert_true(i < seen->blocks);
    assert_int_equal(seen->depth[i], depth);
    seen->chain[i] = seen->chain[--seen->blocks];
    seen->depth[i] = seen->depth[seen->blocks];
}

static void random_use_agrees_with_a_naive_model(void **state)
{
    (void)state;
    watched seen = {0};
    pr_kv_cache_params params = {
        .blocks = M_BLOCKS,
        .block_tokens = M_TOKENS,
        .prefix_caching = true,
        .watch = {.context = &seen, .stored = see_stored, .evicted = see_evicted},
    };
    pr_kv_cache *cache;
    assert_int_equal(pr_kv_cache_create(&params, &cache), PR_OK);
    model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->random = 1;
    for (int round = 0; round < M_ROUNDS; round++) {
        model_sequence *s = &m->sequence[below(m, M_SEQUENCES)];
        uint32_t what = below(m, 8);
        if (!s->real)
            model_open(cache, m, s);
        else if (what < 3)
            model_extend(cache, m, s);
        else if (what < 6)
            model_publish(cache, m, s);
        else if (what < 7)
            model_close(cache, m, s);
        int published = 0;
        for (int i = 0; i < M_BLOCKS; i++)
            published += m->block[i].published;
        assert_int_equal(pr_kv_cache_cached_blocks(cache), published);
        assert_int_equal(seen.blocks, published);
        assert_int_equal(pr_kv_cache_free_blocks(cache), model_idle(m));
        assert_int_equal(pr_kv_cache_used_blocks(cache), M_BLOCKS - model_idle(m));
        pr_kv_cache_check(cache);
    }
    print_message(
        "%d opens, %d copies, %d evictions, %d refusals\n", m->opens, m->copies, m->evictions,
        m->refusals);
    assert_true(m->copies > 100 && m->evictions > 100 && m->refusals > 100);
    pr_kv_cache_destroy(cache);  // with sequences still open
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_sequence_shares_the_published_prefix),
        cmocka_unit_test(a_block_is_found_only_behind_its_own_parent),
        cmocka_unit_test(salts_separate_tenants),
        cmocka_unit_test(a_fully_cached_prompt_gets_a_copy_of_its_last_block),
        cmocka_unit_test(the_copy_takes_the_source_itself_when_nothing_else_is_left),
        cmocka_unit_test(eviction_is_least_recently_used_and_leaf_first),
        cmocka_unit_test(a_refused_extend_changes_nothing),
        cmocka_unit_test(without_prefix_caching_nothing_is_kept),
        cmocka_unit_test(what_is_forgotten_is_free_and_not_found),
        cmocka_unit_test(wrong_sizes_are_refused),
        cmocka_unit_test(a_hash_collision_never_gives_another_prefix),
        cmocka_unit_test(random_use_agrees_with_a_naive_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
