// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/grammar/grammar_check.h"

#include <stdbool.h>
#include <stdlib.h>

#include "runtime/base/log.h"

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

static int32_t need_of(const pr_grammar *grammar, int32_t index)
{
    return index < 0 ? PR_GRAMMAR_ENDLESS : grammar->node[index].need;
}

static int32_t need_of_edges(const pr_grammar *grammar, const pr_grammar_node *node)
{
    int32_t need = PR_GRAMMAR_ENDLESS;
    for (int32_t i = 0; i < node->max; i++)
        need = smaller(need, need_of(grammar, grammar->edge[node->other + i].next));
    return need;
}

static int32_t find_need(const pr_grammar *grammar, const pr_grammar_node *node)
{
    int32_t next = 0, other = 0;
    if (node->op == PR_GRAMMAR_RETURN)
        return 0;
    if (node->op == PR_GRAMMAR_EDGES)
        return need_of_edges(grammar, node);
    next = need_of(grammar, node->next);
    other = need_of(grammar, node->other);
    if (node->op == PR_GRAMMAR_SPLIT)
        return smaller(next, other);
    if (node->op == PR_GRAMMAR_REPEAT && node->min == 0)
        return next;
    return larger(next, other + 1);
}

// Nodes are built from the end, so one pass settles all but the calls of rules that were built later.
static void fill_needs(pr_grammar *grammar)
{
    for (int32_t i = 0; i < grammar->nodes; i++)
        grammar->node[i].need = PR_GRAMMAR_ENDLESS;
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t i = 0; i < grammar->nodes; i++) {
            pr_grammar_node *node = &grammar->node[i];
            int32_t need = find_need(grammar, node);
            if (need > PR_GRAMMAR_MAX_DEPTH)
                need = PR_GRAMMAR_ENDLESS;
            changed |= need != node->need;
            node->need = need;
        }
    }
}

// Which nodes may reach their RETURN without a byte.
static void fill_nullable(const pr_grammar *grammar, bool *nullable)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t i = 0; i < grammar->nodes; i++) {
            const pr_grammar_node *node = &grammar->node[i];
            bool next = node->next >= 0 && nullable[node->next], holds = false;
            bool other = node->op != PR_GRAMMAR_EDGES && node->other >= 0 && nullable[node->other];
            if (node->op == PR_GRAMMAR_RETURN)
                holds = true;
            else if (node->op == PR_GRAMMAR_SPLIT)
                holds = next || other;
            else if (node->op == PR_GRAMMAR_CALL)
                holds = next && other;
            else if (node->op == PR_GRAMMAR_REPEAT)
                holds = next && (node->min == 0 || other);
            changed |= holds != nullable[i];
            nullable[i] = holds;
        }
    }
}

// The nodes that may be next before a byte is read.
static int32_t
find_followers(const pr_grammar *grammar, const bool *nullable, int32_t index, int32_t follower[2])
{
    const pr_grammar_node *node = &grammar->node[index];
    int32_t followers = 0;
    if (node->op == PR_GRAMMAR_RETURN || node->op == PR_GRAMMAR_EDGES)
        return 0;
    if (node->other >= 0)
        follower[followers++] = node->other;
    bool passes = node->op == PR_GRAMMAR_SPLIT || (node->other >= 0 && nullable[node->other]) ||
                  (node->op == PR_GRAMMAR_REPEAT && node->min == 0);
    if (passes)
        follower[followers++] = node->next;
    return followers;
}

enum { UNSEEN, OPEN, CLOSED };

// Depth first; a way back to a node that is still open is a cycle without a byte.
static bool has_cycle(
    const pr_grammar *grammar, const bool *nullable, uint8_t *colour, int32_t *stack, int32_t root)
{
    int32_t depth = 0;
    if (colour[root] != UNSEEN)
        return false;
    stack[depth++] = root;
    while (depth > 0) {
        int32_t index = stack[depth - 1], follower[2];
        if (colour[index] != UNSEEN) {
            colour[index] = CLOSED;
            depth--;
            continue;
        }
        colour[index] = OPEN;
        int32_t followers = find_followers(grammar, nullable, index, follower);
        for (int32_t i = 0; i < followers; i++) {
            if (colour[follower[i]] == OPEN)
                return true;
            if (colour[follower[i]] == UNSEEN)
                stack[depth++] = follower[i];
        }
    }
    return false;
}

static pr_status check_left_recursion(const pr_grammar *grammar)
{
    size_t nodes = (size_t)grammar->nodes;
    bool *nullable = calloc(nodes, sizeof *nullable), cycle = false;
    uint8_t *colour = calloc(nodes, sizeof *colour);
    int32_t *stack = malloc((2 * nodes + 2) * sizeof *stack);
    pr_status status = PR_OK;
    if (nullable && colour && stack) {
        fill_nullable(grammar, nullable);
        for (int32_t i = 0; i < grammar->nodes && !cycle; i++)
            cycle = has_cycle(grammar, nullable, colour, stack, i);
        if (cycle)
            status = pr_fail(
                PR_ERR_REQUEST,
                "a $ref leads back to itself without anything between: give it a property or an "
                "item to go through");
    } else {
        status = pr_fail(PR_ERR_RESOURCE, "no memory to check a grammar");
    }
    free(nullable);
    free(colour);
    free(stack);
    return status;
}

pr_status pr_grammar_check(pr_grammar *grammar)
{
    fill_needs(grammar);
    if (need_of(grammar, grammar->start) + 1 > PR_GRAMMAR_MAX_DEPTH)
        return pr_fail(
            PR_ERR_REQUEST,
            "no text can match the grammar, or none that is nested less than %d deep",
            PR_GRAMMAR_MAX_DEPTH);
    return check_left_recursion(grammar);
}
