// SPDX-License-Identifier: BSD-3-Clause
// A block is in exactly one of three places:
//   free        on the free stack; nothing of it is known
//   referenced  in the table of one sequence (private) or of several (published)
//   cached      published, no references; on the recency list, oldest first
// A sequence that references a block references all blocks before it in the chain, and close lets go
// of the deepest first. So a child always stands before its parent on the recency list, and evicting
// from its head is both least recently used and leaf first, in O(1).
#include "runtime/cache/kv_cache.h"

#include <assert.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "runtime/cache/prefix_index.h"

enum { NONE = -1, FIRST_TABLE_BLOCKS = 16 };

typedef struct block_state {
    int32_t references;
    int32_t next, previous;  // free stack (next only) or recency list
    uint64_t released;       // operation that put it on the recency list
} block_state;

struct pr_kv_sequence {
    pr_kv_sequence *next, *previous;
    uint64_t salt;
    int32_t blocks, capacity;
    int32_t *block;     // [capacity] the table
    int32_t published;  // leading blocks that are in the index
    bool detached;      // another sequence published the same first: publishes no more
};

struct pr_kv_cache {
    int32_t blocks, block_tokens;
    pr_prefix_index *index;  // NULL without prefix caching
    pr_kv_watch watch;
    block_state *block;  // [blocks]
    int32_t free_top, free_count;
    int32_t oldest, newest, cached_count;  // the recency list
    uint64_t operation;
    pr_kv_sequence *sequences;
};

static void push_free(pr_kv_cache *cache, int32_t block)
{
    cache->block[block].next = cache->free_top;
    cache->free_top = block;
    cache->free_count++;
}

static void append_recent(pr_kv_cache *cache, int32_t block)
{
    block_state *state = &cache->block[block];
    state->released = ++cache->operation;
    state->next = NONE;
    state->previous = cache->newest;
    if (cache->newest == NONE)
        cache->oldest = block;
    else
        cache->block[cache->newest].next = block;
    cache->newest = block;
    cache->cached_count++;
}

static void unlink_recent(pr_kv_cache *cache, int32_t block)
{
    const block_state *state = &cache->block[block];
    if (state->previous == NONE)
        cache->oldest = state->next;
    else
        cache->block[state->previous].next = state->next;
    if (state->next == NONE)
        cache->newest = state->previous;
    else
        cache->block[state->next].previous = state->previous;
    cache->cached_count--;
}

static bool is_published(const pr_kv_cache *cache, int32_t block)
{
    return cache->index && pr_prefix_index_holds(cache->index, block);
}

static void reference(pr_kv_cache *cache, int32_t block)
{
    if (cache->block[block].references++ == 0)
        unlink_recent(cache, block);
}

static void unreference(pr_kv_cache *cache, int32_t block)
{
    if (--cache->block[block].references > 0)
        return;
    if (is_published(cache, block))
        append_recent(cache, block);
    else
        push_free(cache, block);
}

static void forget_prefix(pr_kv_cache *cache, int32_t block)
{
    if (cache->watch.evicted)
        cache->watch.evicted(
            cache->watch.context, pr_prefix_index_chain(cache->index, block),
            pr_prefix_index_depth(cache->index, block));
    pr_prefix_index_remove(cache->index, block);
}

// A private block with one reference. There is one: the caller has looked.
static int32_t take_block(pr_kv_cache *cache)
{
    int32_t block = cache->free_top;
    if (block != NONE) {
        cache->free_top = cache->block[block].next;
        cache->free_count--;
    } else {
        block = cache->oldest;
        unlink_recent(cache, block);
        forget_prefix(cache, block);
    }
    cache->block[block].references = 1;
    return block;
}

pr_status pr_kv_cache_create(const pr_kv_cache_params *params, pr_kv_cache **cache)
{
    if (params->blocks < 1 || params->block_tokens < 1)
        return pr_fail(
            PR_ERR_ARGUMENT, "a KV cache needs at least one block of one token, not %d of %d",
            params->blocks, params->block_tokens);
    pr_kv_cache *made = calloc(1, sizeof *made);
    if (made)
        made->block = calloc((size_t)params->blocks, sizeof *made->block);
    if (!made || !made->block) {
        pr_kv_cache_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory to keep book of %d KV blocks", params->blocks);
    }
    if (params->prefix_caching) {
        pr_status status =
            pr_prefix_index_create(params->blocks, params->block_tokens, &made->index);
        if (status != PR_OK) {
            pr_kv_cache_destroy(made);
            return status;
        }
    }
    made->blocks = params->blocks;
    made->block_tokens = params->block_tokens;
    made->watch = params->watch;
    made->free_top = made->oldest = made->newest = NONE;
    for (int32_t i = params->blocks - 1; i >= 0; i--)
        push_free(made, i);
    *cache = made;
    return PR_OK;
}

static void free_sequence(pr_kv_sequence *sequence)
{
    free(sequence->block);
    free(sequence);
}

void pr_kv_cache_destroy(pr_kv_cache *cache)
{
    if (!cache)
        return;
    for (pr_kv_sequence *each = cache->sequences, *next; each; each = next) {
        next = each->next;
        free_sequence(each);
    }
    pr_prefix_index_destroy(cache->index);
    free(cache->block);
    free(cache);
}

// Leading tokens of published blocks, and the last of these blocks.
static int32_t find_prefix(
    const pr_kv_cache *cache, uint64_t salt, const int32_t *token, int32_t tokens, int32_t *last)
{
    int32_t found = 0;
    *last = PR_PREFIX_ROOT;
    if (!cache->index)
        return 0;
    while (tokens - found >= cache->block_tokens) {
        int32_t block = pr_prefix_index_find(cache->index, salt, *last, token + found);
        if (block < 0)
            break;
        *last = block;
        found += cache->block_tokens;
    }
    return found;
}

int32_t
pr_kv_cache_match(const pr_kv_cache *cache, uint64_t salt, const int32_t *token, int32_t tokens)
{
    int32_t last, found = find_prefix(cache, salt, token, tokens, &last);
    return found > 0 && found == tokens ? tokens - 1 : found;
}

static pr_status reserve_table(pr_kv_sequence *sequence, int64_t blocks)
{
    if (blocks <= sequence->capacity)
        return PR_OK;
    int64_t capacity = blocks < FIRST_TABLE_BLOCKS ? FIRST_TABLE_BLOCKS : blocks + blocks / 2;
    if (capacity > INT32_MAX)
        capacity = INT32_MAX;
    int32_t *table = realloc(sequence->block, (size_t)capacity * sizeof *table);
    if (!table)
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for a table of %lld KV blocks", (long long)blocks);
    sequence->block = table;
    sequence->capacity = (int32_t)capacity;
    return PR_OK;
}

static pr_status create_sequence(uint64_t salt, int32_t blocks, pr_kv_sequence **sequence)
{
    pr_kv_sequence *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a KV sequence");
    made->salt = salt;
    pr_status status = reserve_table(made, blocks);
    if (status != PR_OK) {
        free_sequence(made);
        return status;
    }
    *sequence = made;
    return PR_OK;
}

// A private block with the content of `source`. When no other block is left, `source` itself, which
// leaves the index: nobody else holds it, and its bytes are in place.
static int32_t take_copy(pr_kv_cache *cache, int32_t source, pr_kv_copy *copy)
{
    reference(cache, source);
    if (pr_kv_cache_free_blocks(cache) == 0) {
        forget_prefix(cache, source);
        return source;
    }
    int32_t block = take_block(cache);
    *copy = (pr_kv_copy){.from = source, .to = block};
    unreference(cache, source);
    return block;
}

static void link_sequence(pr_kv_cache *cache, pr_kv_sequence *sequence)
{
    sequence->next = cache->sequences;
    if (sequence->next)
        sequence->next->previous = sequence;
    cache->sequences = sequence;
}

static void unlink_sequence(pr_kv_cache *cache, pr_kv_sequence *sequence)
{
    if (sequence->previous)
        sequence->previous->next = sequence->next;
    else
        cache->sequences = sequence->next;
    if (sequence->next)
        sequence->next->previous = sequence->previous;
}

pr_status pr_kv_cache_open(
    pr_kv_cache *cache,
    uint64_t salt,
    const int32_t *token,
    int32_t tokens,
    pr_kv_sequence **sequence,
    int32_t *cached,
    pr_kv_copy *copy)
{
    if (tokens < 1)
        return pr_fail(PR_ERR_ARGUMENT, "a KV sequence needs at least one token, not %d", tokens);
    int32_t last, source = NONE;
    int32_t usable = find_prefix(cache, salt, token, tokens, &last);
    if (usable == tokens) {  // the last token is computed again, in a block of its own
        usable--;
        if (usable % cache->block_tokens != 0)
            source = last;
        last = pr_prefix_index_parent(cache->index, last);
    }
    // Where the source has no references there is at least the source itself.
    if (source != NONE && pr_kv_cache_free_blocks(cache) == 0)
        return PR_ERR_RESOURCE;
    int32_t shared = usable / cache->block_tokens;
    pr_kv_sequence *made = NULL;
    PR_TRY(create_sequence(salt, shared + 1, &made));
    for (int32_t i = shared - 1; i >= 0; i--) {
        made->block[i] = last;
        reference(cache, last);
        last = pr_prefix_index_parent(cache->index, last);
    }
    made->blocks = made->published = shared;
    *copy = (pr_kv_copy){.from = NONE, .to = NONE};
    if (source != NONE)
        made->block[made->blocks++] = take_copy(cache, source, copy);
    link_sequence(cache, made);
    *sequence = made;
    *cached = usable;
    return PR_OK;
}

pr_status pr_kv_cache_extend(pr_kv_cache *cache, pr_kv_sequence *sequence, int32_t tokens)
{
    int64_t wanted = ((int64_t)tokens + cache->block_tokens - 1) / cache->block_tokens;
    if (wanted - sequence->blocks > pr_kv_cache_free_blocks(cache))
        return PR_ERR_RESOURCE;
    PR_TRY(reserve_table(sequence, wanted));
    while (sequence->blocks < wanted)
        sequence->block[sequence->blocks++] = take_block(cache);
    return PR_OK;
}

static void
tell_stored(const pr_kv_cache *cache, uint64_t salt, int32_t block, const int32_t *token)
{
    if (!cache->watch.stored)
        return;
    int32_t parent = pr_prefix_index_parent(cache->index, block);
    const pr_kv_block told = {
        .chain = pr_prefix_index_chain(cache->index, block),
        .parent = parent == PR_PREFIX_ROOT ? pr_prefix_index_root_chain(salt)
                                           : pr_prefix_index_chain(cache->index, parent),
        .depth = pr_prefix_index_depth(cache->index, block),
        .salt = salt,
        .tokens = cache->block_tokens,
        .token = token,
    };
    cache->watch.stored(cache->watch.context, &told);
}

void pr_kv_cache_publish(
    pr_kv_cache *cache, pr_kv_sequence *sequence, const int32_t *token, int32_t tokens)
{
    int32_t full = tokens / cache->block_tokens;
    assert(full <= sequence->blocks);
    if (!cache->index)
        return;
    while (sequence->published < full && !sequence->detached) {
        int32_t i = sequence->published;
        int32_t parent = i > 0 ? sequence->block[i - 1] : PR_PREFIX_ROOT;
        const int32_t *content = token + (size_t)i * (size_t)cache->block_tokens;
        if (pr_prefix_index_find(cache->index, sequence->salt, parent, content) >= 0) {
            // Later blocks would hang under a block that this sequence does not hold.
            sequence->detached = true;
            return;
        }
        int32_t block = sequence->block[i];
        pr_prefix_index_insert(cache->index, block, sequence->salt, parent, content);
        sequence->published++;
        tell_stored(cache, sequence->salt, block, content);
    }
}

void pr_kv_cache_close(pr_kv_cache *cache, pr_kv_sequence *sequence)
{
    for (int32_t i = sequence->blocks - 1; i >= 0; i--)
        unreference(cache, sequence->block[i]);
    unlink_sequence(cache, sequence);
    free_sequence(sequence);
}

const int32_t *pr_kv_sequence_blocks(const pr_kv_sequence *sequence, int32_t *blocks)
{
    *blocks = sequence->blocks;
    return sequence->block;
}

int32_t pr_kv_cache_free_blocks(const pr_kv_cache *cache)
{
    return cache->free_count + cache->cached_count;
}

int32_t pr_kv_cache_used_blocks(const pr_kv_cache *cache)
{
    return cache->blocks - cache->free_count - cache->cached_count;
}

int32_t pr_kv_cache_cached_blocks(const pr_kv_cache *cache)
{
    return cache->index ? pr_prefix_index_count(cache->index) : 0;
}

void pr_kv_cache_forget(pr_kv_cache *cache)
{
    assert(pr_kv_cache_used_blocks(cache) == 0);
    while (cache->oldest != NONE) {
        int32_t block = cache->oldest;
        unlink_recent(cache, block);
        forget_prefix(cache, block);
        push_free(cache, block);
    }
}

static int32_t check_free_stack(const pr_kv_cache *cache)
{
    int32_t count = 0;
    for (int32_t i = cache->free_top; i != NONE; i = cache->block[i].next) {
        assert(cache->block[i].references == 0 && !is_published(cache, i));
        assert(count < cache->blocks);  // no cycle
        count++;
    }
    assert(count == cache->free_count);
    return count;
}

static int32_t check_recency_list(const pr_kv_cache *cache)
{
    int32_t count = 0, previous = NONE;
    for (int32_t i = cache->oldest; i != NONE; i = cache->block[i].next) {
        const block_state *state = &cache->block[i];
        assert(state->references == 0 && is_published(cache, i) && state->previous == previous);
        assert(previous == NONE || cache->block[previous].released < state->released);
        int32_t parent = pr_prefix_index_parent(cache->index, i);
        assert(
            parent == PR_PREFIX_ROOT || cache->block[parent].references > 0 ||
            cache->block[parent].released > state->released);
        (void)parent;
        previous = i;
        count++;
    }
    assert(count == cache->cached_count && previous == cache->newest);
    return count;
}

// One sequence's table: a published chain, then private blocks. Counts its references.
static void check_table(const pr_kv_cache *cache, const pr_kv_sequence *sequence, int32_t *count)
{
    assert(sequence->published <= sequence->blocks && sequence->blocks <= sequence->capacity);
    for (int32_t i = 0; i < sequence->blocks; i++) {
        int32_t block = sequence->block[i];
        assert(block >= 0 && block < cache->blocks);
        assert(is_published(cache, block) == (i < sequence->published));
        assert(i < sequence->published || cache->block[block].references == 1);
        assert(
            i >= sequence->published || pr_prefix_index_parent(cache->index, block) ==
                                            (i > 0 ? sequence->block[i - 1] : PR_PREFIX_ROOT));
        count[block]++;
    }
}

void pr_kv_cache_visit(
    const pr_kv_cache *cache,
    void (*visit)(void *context, uint64_t chain, int32_t depth),
    void *context)
{
    for (int32_t i = 0; i < cache->blocks; i++) {
        if (is_published(cache, i))
            visit(
                context, pr_prefix_index_chain(cache->index, i),
                pr_prefix_index_depth(cache->index, i));
    }
}

void pr_kv_cache_check(const pr_kv_cache *cache)
{
    int32_t *count = calloc((size_t)cache->blocks, sizeof *count);
    if (!count)
        return;
    for (const pr_kv_sequence *each = cache->sequences; each; each = each->next)
        check_table(cache, each, count);
    int32_t used = 0;
    for (int32_t i = 0; i < cache->blocks; i++) {
        assert(cache->block[i].references == count[i]);
        used += count[i] > 0;
    }
    free(count);
    int32_t idle = check_free_stack(cache) + check_recency_list(cache);
    assert(idle + used == cache->blocks);
    (void)idle;
    if (cache->index)
        pr_prefix_index_check(cache->index);
}
