// SPDX-License-Identifier: BSD-3-Clause
// From the nodes that a byte leads to, all ways that need no further byte are followed, depth first, until
// they wait for one. `seen` holds the hashes of the stacks that were followed already: two ways to one
// stack are one, and loops without a byte end.
#include "runtime/grammar/matcher.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

enum {
    SEEN_SLOTS = 8192,   // a power of two
    MOST_SEEN = 4096,    // stacks followed for one byte
    MOST_WAITING = 512,  // stacks still to be followed
};

// hash[i] is that of the frames up to i.
typedef struct open_stack {
    int32_t depth;
    pr_matcher_frame frame[PR_GRAMMAR_MAX_DEPTH + 1];
    uint64_t hash[PR_GRAMMAR_MAX_DEPTH + 1];
} open_stack;

struct pr_matcher_scratch {
    const pr_grammar *grammar;
    pr_matcher_state *to;
    pr_matcher_state result;
    int32_t waiting_stacks, seen_stacks;
    open_stack waiting[MOST_WAITING];
    uint64_t seen[SEEN_SLOTS];  // 0: free
    int32_t used_slot[MOST_SEEN];
};

pr_status pr_matcher_scratch_create(pr_matcher_scratch **scratch)
{
    *scratch = calloc(1, sizeof **scratch);
    return *scratch ? PR_OK : pr_fail(PR_ERR_RESOURCE, "no memory to match grammars");
}

void pr_matcher_scratch_destroy(pr_matcher_scratch *scratch) { free(scratch); }

// ---- Stacks

static uint64_t frame_hash(uint64_t below, pr_matcher_frame frame)
{
    uint64_t value = (uint64_t)(uint32_t)frame.node << 32 | (uint32_t)frame.count;
    return pr_hash_mix(below * 0x9e3779b97f4a7c15u + value + 1) | 1;
}

static void set_top(open_stack *stack, int32_t node, int32_t count)
{
    int32_t top = stack->depth - 1;
    stack->frame[top] = (pr_matcher_frame){node, count};
    stack->hash[top] = frame_hash(top > 0 ? stack->hash[top - 1] : 0, stack->frame[top]);
}

static void push_frame(open_stack *stack, int32_t node)
{
    stack->depth++;
    set_top(stack, node, 0);
}

static uint64_t stack_hash(const open_stack *stack)
{
    return stack->depth > 0 ? stack->hash[stack->depth - 1] : 1;
}

static void copy_stack(open_stack *to, const open_stack *from)
{
    size_t depth = (size_t)from->depth;
    to->depth = from->depth;
    memcpy(to->frame, from->frame, depth * sizeof *to->frame);
    memcpy(to->hash, from->hash, depth * sizeof *to->hash);
}

// Whether a way with this node on top can reach its end within the depth there is.
static bool is_open(const pr_grammar *grammar, int32_t depth, int32_t node)
{
    return node >= 0 && depth + grammar->node[node].need <= PR_GRAMMAR_MAX_DEPTH;
}

// ---- Following

// False when the stack was there before.
static bool mark_seen(pr_matcher_scratch *scratch, uint64_t hash)
{
    uint32_t slot = (uint32_t)hash & (SEEN_SLOTS - 1);
    while (scratch->seen[slot] != 0) {
        if (scratch->seen[slot] == hash)
            return false;
        slot = (slot + 1) & (SEEN_SLOTS - 1);
    }
    if (scratch->seen_stacks < MOST_SEEN) {
        scratch->seen[slot] = hash;
        scratch->used_slot[scratch->seen_stacks++] = (int32_t)slot;
    }
    return true;
}

static void forget_seen(pr_matcher_scratch *scratch)
{
    for (int32_t i = 0; i < scratch->seen_stacks; i++)
        scratch->seen[scratch->used_slot[i]] = 0;
    scratch->seen_stacks = 0;
}

static void emit(pr_matcher_scratch *scratch, const open_stack *stack)
{
    pr_matcher_state *to = scratch->to;
    if (to->stacks == PR_MATCHER_MAX_STACKS || to->frames + stack->depth > PR_MATCHER_MAX_FRAMES)
        return;
    to->stack[to->stacks++] =
        (pr_matcher_stack){.hash = stack_hash(stack), .first = to->frames, .depth = stack->depth};
    memcpy(to->frame + to->frames, stack->frame, (size_t)stack->depth * sizeof *stack->frame);
    to->frames += stack->depth;
}

// The stack with another node on top is followed later.
static void follow_later(pr_matcher_scratch *scratch, const open_stack *stack, int32_t node)
{
    if (scratch->waiting_stacks == MOST_WAITING)
        return;
    open_stack *later = &scratch->waiting[scratch->waiting_stacks++];
    copy_stack(later, stack);
    set_top(later, node, 0);
}

// A call whose return would only return again needs no frame to come back to.
static void enter_call(const pr_grammar *grammar, open_stack *stack, const pr_grammar_node *node)
{
    if (grammar->node[node->next].op == PR_GRAMMAR_RETURN) {
        set_top(stack, node->other, 0);
        return;
    }
    set_top(stack, node->next, 0);
    push_frame(stack, node->other);
}

static void
enter_repeat(pr_matcher_scratch *scratch, open_stack *stack, const pr_grammar_node *node)
{
    pr_matcher_frame top = stack->frame[stack->depth - 1];
    bool may_leave = top.count >= node->min;
    bool may_enter = (node->max < 0 || top.count < node->max) &&
                     is_open(scratch->grammar, stack->depth + 1, node->other);
    if (!may_enter) {
        set_top(stack, node->next, 0);
        return;
    }
    if (may_leave)
        follow_later(scratch, stack, node->next);
    int32_t count = node->max < 0 && top.count >= node->min ? node->min : top.count + 1;
    set_top(stack, top.node, count);
    push_frame(stack, node->other);
}

static void split(pr_matcher_scratch *scratch, open_stack *stack, const pr_grammar_node *node)
{
    bool next = is_open(scratch->grammar, stack->depth, node->next);
    if (next && is_open(scratch->grammar, stack->depth, node->other))
        follow_later(scratch, stack, node->other);
    set_top(stack, next ? node->next : node->other, 0);
}

// Follows one stack to where it waits for a byte or ends.
static void follow(pr_matcher_scratch *scratch, open_stack *stack)
{
    const pr_grammar *grammar = scratch->grammar;
    while (mark_seen(scratch, stack_hash(stack))) {
        if (stack->depth == 0) {
            scratch->to->ends = true;
            return;
        }
        const pr_grammar_node *node = &grammar->node[stack->frame[stack->depth - 1].node];
        switch (node->op) {
        case PR_GRAMMAR_RETURN:
            stack->depth--;
            break;
        case PR_GRAMMAR_EDGES:
            emit(scratch, stack);
            return;
        case PR_GRAMMAR_SPLIT:
            split(scratch, stack, node);
            break;
        case PR_GRAMMAR_CALL:
            enter_call(grammar, stack, node);
            break;
        case PR_GRAMMAR_REPEAT:
            enter_repeat(scratch, stack, node);
            break;
        }
    }
}

// When too many ways were followed the rest is left, once there is one that goes on.
static void follow_waiting(pr_matcher_scratch *scratch)
{
    while (scratch->waiting_stacks > 0) {
        if (scratch->seen_stacks == MOST_SEEN && !pr_matcher_is_dead(scratch->to)) {
            scratch->waiting_stacks = 0;
            return;
        }
        open_stack stack;
        copy_stack(&stack, &scratch->waiting[--scratch->waiting_stacks]);
        follow(scratch, &stack);
    }
}

// ---- States

static void sort_stacks(pr_matcher_state *state)
{
    for (int32_t i = 1; i < state->stacks; i++) {
        pr_matcher_stack moved = state->stack[i];
        int32_t at = i;
        for (; at > 0 && state->stack[at - 1].hash > moved.hash; at--)
            state->stack[at] = state->stack[at - 1];
        state->stack[at] = moved;
    }
}

void pr_matcher_copy(const pr_matcher_state *from, pr_matcher_state *to)
{
    to->stacks = from->stacks;
    to->frames = from->frames;
    to->ends = from->ends;
    memcpy(to->stack, from->stack, (size_t)from->stacks * sizeof *to->stack);
    memcpy(to->frame, from->frame, (size_t)from->frames * sizeof *to->frame);
}

static void begin_result(pr_matcher_scratch *scratch, const pr_grammar *grammar)
{
    scratch->grammar = grammar;
    scratch->to = &scratch->result;
    scratch->result.stacks = scratch->result.frames = 0;
    scratch->result.ends = false;
    scratch->waiting_stacks = 0;
}

static void end_result(pr_matcher_scratch *scratch, pr_matcher_state *to)
{
    forget_seen(scratch);
    sort_stacks(&scratch->result);
    pr_matcher_copy(&scratch->result, to);
}

void pr_matcher_begin(
    const pr_grammar *grammar, pr_matcher_scratch *scratch, pr_matcher_state *state)
{
    open_stack stack = {0};
    begin_result(scratch, grammar);
    push_frame(&stack, grammar->start);
    follow(scratch, &stack);
    follow_waiting(scratch);
    end_result(scratch, state);
}

static void load_stack(const pr_matcher_state *state, int32_t index, open_stack *stack)
{
    const pr_matcher_frame *frame = state->frame + state->stack[index].first;
    stack->depth = state->stack[index].depth;
    for (int32_t i = 0; i < stack->depth; i++) {
        stack->frame[i] = frame[i];
        stack->hash[i] = frame_hash(i > 0 ? stack->hash[i - 1] : 0, frame[i]);
    }
}

void pr_matcher_step(
    const pr_grammar *grammar,
    pr_matcher_scratch *scratch,
    const pr_matcher_state *from,
    uint8_t byte,
    pr_matcher_state *to)
{
    open_stack loaded, stack;
    begin_result(scratch, grammar);
    for (int32_t i = 0; i < from->stacks; i++) {
        const pr_matcher_stack *each = &from->stack[i];
        const pr_grammar_node *node =
            &grammar->node[from->frame[each->first + each->depth - 1].node];
        bool is_loaded = false;
        for (int32_t k = 0; k < node->max; k++) {
            const pr_grammar_edge *edge = &grammar->edge[node->other + k];
            if (byte < edge->low || byte > edge->high || !is_open(grammar, each->depth, edge->next))
                continue;
            if (!is_loaded)
                load_stack(from, i, &loaded);
            is_loaded = true;
            copy_stack(&stack, &loaded);
            set_top(&stack, edge->next, 0);
            follow(scratch, &stack);
            follow_waiting(scratch);
        }
    }
    end_result(scratch, to);
}

bool pr_matcher_advance(
    const pr_grammar *grammar,
    pr_matcher_scratch *scratch,
    pr_matcher_state *state,
    const uint8_t *bytes,
    int32_t size_bytes)
{
    pr_matcher_state walk;
    pr_matcher_copy(state, &walk);
    for (int32_t i = 0; i < size_bytes; i++) {
        pr_matcher_step(grammar, scratch, &walk, bytes[i], &walk);
        if (pr_matcher_is_dead(&walk))
            return false;
    }
    pr_matcher_copy(&walk, state);
    return true;
}

// The least count with as many rounds to go, where both numbers are told apart up to the horizon.
static int32_t blur_count(const pr_grammar_node *node, int32_t count, int32_t horizon)
{
    bool far_from_max = node->max < 0 || node->max - count > horizon;
    if (node->op != PR_GRAMMAR_REPEAT || !far_from_max)
        return count;
    if (count >= node->min)
        return node->min;
    return node->min - count > horizon ? 0 : count;
}

void pr_matcher_blur(const pr_grammar *grammar, pr_matcher_state *state, int32_t horizon)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < state->stacks; i++) {
        pr_matcher_stack *stack = &state->stack[i];
        pr_matcher_frame *frame = state->frame + stack->first;
        for (int32_t k = 0; k < stack->depth; k++) {
            frame[k].count = blur_count(&grammar->node[frame[k].node], frame[k].count, horizon);
            stack->hash = frame_hash(k > 0 ? stack->hash : 0, frame[k]);
        }
    }
    sort_stacks(state);
    for (int32_t i = 0; i < state->stacks; i++) {
        if (kept == 0 || state->stack[kept - 1].hash != state->stack[i].hash)
            state->stack[kept++] = state->stack[i];
    }
    state->stacks = kept;
}

void pr_matcher_hash(const pr_matcher_state *state, uint64_t hash[2])
{
    hash[0] = state->ends ? 3 : 5;
    hash[1] = state->ends ? 7 : 11;
    for (int32_t i = 0; i < state->stacks; i++) {
        hash[0] = pr_hash_mix(hash[0] * 0x9e3779b97f4a7c15u + state->stack[i].hash);
        hash[1] = pr_hash_mix((hash[1] ^ state->stack[i].hash) * 0xd1342543de82ef95u + 1);
    }
}
