// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/sampling/token_automaton.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

// A walk needs the states of one token's bytes at once at most: far fewer than there is room for.
enum { MOST_STATES = 4096, SLOTS = 16384 };
#define MEMORY_BYTES ((size_t)16 << 20)

pr_status pr_token_automaton_create(pr_token_automaton **automaton)
{
    pr_token_automaton *made = calloc(1, sizeof *made);
    if (made) {
        made->next = malloc(MOST_STATES * sizeof *made->next);
        made->hash = malloc(MOST_STATES * sizeof *made->hash);
        made->offset = malloc(MOST_STATES * sizeof *made->offset);
        made->slot = malloc(SLOTS * sizeof *made->slot);
        made->memory = malloc(MEMORY_BYTES);
    }
    if (!made || !made->next || !made->hash || !made->offset || !made->slot || !made->memory) {
        pr_token_automaton_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for the automaton of token masks");
    }
    pr_status status = pr_matcher_scratch_create(&made->scratch);
    if (status != PR_OK) {
        pr_token_automaton_destroy(made);
        return status;
    }
    *automaton = made;
    return PR_OK;
}

void pr_token_automaton_destroy(pr_token_automaton *automaton)
{
    if (!automaton)
        return;
    pr_matcher_scratch_destroy(automaton->scratch);
    free(automaton->next);
    free(automaton->hash);
    free(automaton->offset);
    free(automaton->slot);
    free(automaton->memory);
    free(automaton);
}

// Number 0 is the dead state, from which nothing leads away.
void pr_token_automaton_flush(pr_token_automaton *automaton)
{
    memset(automaton->slot, 0, SLOTS * sizeof *automaton->slot);
    memset(automaton->next[PR_AUTOMATON_DEAD], 0, sizeof *automaton->next);
    automaton->states = 1;
    automaton->memory_used = 0;
    automaton->flushes++;
}

void pr_token_automaton_use(
    pr_token_automaton *automaton, const pr_grammar *grammar, uint64_t serial)
{
    if (automaton->grammar == grammar && automaton->serial == serial)
        return;
    automaton->grammar = grammar;
    automaton->serial = serial;
    pr_token_automaton_flush(automaton);
}

// ---- A state in memory: its counts, its stacks, its frames

static size_t stored_bytes(const pr_matcher_state *state)
{
    return (3 * sizeof(int32_t) + (size_t)state->stacks * sizeof *state->stack +
            (size_t)state->frames * sizeof *state->frame + 15) &
           ~(size_t)15;
}

static void store(const pr_matcher_state *state, unsigned char *at)
{
    int32_t head[3] = {state->stacks, state->frames, state->ends};
    memcpy(at, head, sizeof head);
    memcpy(at + sizeof head, state->stack, (size_t)state->stacks * sizeof *state->stack);
    memcpy(
        at + sizeof head + (size_t)state->stacks * sizeof *state->stack, state->frame,
        (size_t)state->frames * sizeof *state->frame);
}

static void load(const unsigned char *at, pr_matcher_state *state)
{
    int32_t head[3];
    memcpy(head, at, sizeof head);
    state->stacks = head[0];
    state->frames = head[1];
    state->ends = head[2] != 0;
    memcpy(state->stack, at + sizeof head, (size_t)state->stacks * sizeof *state->stack);
    memcpy(
        state->frame, at + sizeof head + (size_t)state->stacks * sizeof *state->stack,
        (size_t)state->frames * sizeof *state->frame);
}

bool pr_token_automaton_enter(
    pr_token_automaton *automaton, const pr_matcher_state *state, uint16_t *number)
{
    uint64_t hash[2];
    *number = PR_AUTOMATON_DEAD;
    if (pr_matcher_is_dead(state))
        return true;
    pr_matcher_hash(state, hash);
    size_t slot = hash[0] & (SLOTS - 1), size = stored_bytes(state);
    for (; automaton->slot[slot] != 0; slot = (slot + 1) & (SLOTS - 1)) {
        *number = automaton->slot[slot];
        if (memcmp(automaton->hash[*number], hash, sizeof hash) == 0)
            return true;
    }
    if (automaton->states == MOST_STATES || automaton->memory_used + size > MEMORY_BYTES)
        return false;
    *number = (uint16_t)automaton->states++;
    automaton->slot[slot] = *number;
    memcpy(automaton->hash[*number], hash, sizeof hash);
    automaton->offset[*number] = automaton->memory_used;
    store(state, automaton->memory + automaton->memory_used);
    automaton->memory_used += size;
    memset(automaton->next[*number], 0xff, sizeof *automaton->next);
    automaton->made++;
    return true;
}

bool pr_token_automaton_step(pr_token_automaton *automaton, uint16_t from, uint8_t byte)
{
    uint16_t number;
    load(automaton->memory + automaton->offset[from], &automaton->loaded);
    pr_matcher_step(
        automaton->grammar, automaton->scratch, &automaton->loaded, byte, &automaton->stepped);
    if (!pr_token_automaton_enter(automaton, &automaton->stepped, &number))
        return false;
    automaton->next[from][byte] = number;
    return true;
}
