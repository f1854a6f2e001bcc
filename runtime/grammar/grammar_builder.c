// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/grammar/grammar_builder.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/grammar/grammar_check.h"

// Two EDGES nodes are joined into one up to so many edges: beyond, copying would cost more than it saves.
enum { MOST_JOINED_EDGES = 128 };

void pr_grammar_builder_free(pr_grammar_builder *builder)
{
    pr_byte_buffer_free(&builder->node);
    pr_byte_buffer_free(&builder->edge);
    pr_byte_buffer_free(&builder->rule);
    pr_byte_buffer_free(&builder->run);
}

static int32_t node_count(const pr_grammar_builder *builder)
{
    return (int32_t)(builder->node.size_bytes / sizeof(pr_grammar_node));
}

static int32_t edge_count(const pr_grammar_builder *builder)
{
    return (int32_t)(builder->edge.size_bytes / sizeof(pr_grammar_edge));
}

static int32_t add_node(pr_grammar_builder *builder, pr_grammar_node node)
{
    int32_t index = node_count(builder);
    if (index >= PR_GRAMMAR_MAX_NODES)
        builder->full = true;
    if (builder->full)
        return PR_GRAMMAR_NOWHERE;
    pr_byte_buffer_append(&builder->node, &node, sizeof node);
    return builder->node.failed ? PR_GRAMMAR_NOWHERE : index;
}

static const pr_grammar_node *node_at(const pr_grammar_builder *builder, int32_t index)
{
    return (const pr_grammar_node *)builder->node.data + index;
}

int32_t pr_grammar_builder_return(pr_grammar_builder *builder)
{
    return add_node(builder, (pr_grammar_node){.op = PR_GRAMMAR_RETURN});
}

int32_t
pr_grammar_builder_edges(pr_grammar_builder *builder, const pr_grammar_edge *edge, int32_t edges)
{
    int32_t first = edge_count(builder), kept = 0;
    for (int32_t i = 0; i < edges; i++) {
        if (edge[i].next == PR_GRAMMAR_NOWHERE)
            continue;
        pr_byte_buffer_append(&builder->edge, &edge[i], sizeof edge[i]);
        kept++;
    }
    if (edge_count(builder) > PR_GRAMMAR_MAX_EDGES || builder->edge.failed)
        builder->full = true;
    if (kept == 0)
        return PR_GRAMMAR_NOWHERE;
    return add_node(
        builder, (pr_grammar_node){.op = PR_GRAMMAR_EDGES, .other = first, .max = kept});
}

int32_t pr_grammar_builder_bytes(pr_grammar_builder *builder, int low, int high, int32_t next)
{
    pr_grammar_edge edge = {(uint8_t)low, (uint8_t)high, next};
    return pr_grammar_builder_edges(builder, &edge, 1);
}

int32_t pr_grammar_builder_text(
    pr_grammar_builder *builder, const char *text, size_t size_bytes, int32_t next)
{
    for (size_t i = size_bytes; i > 0; i--) {
        int byte = (unsigned char)text[i - 1];
        next = pr_grammar_builder_bytes(builder, byte, byte, next);
    }
    return next;
}

// ---- Trees of texts

static int compare_texts(const void *a, const void *b)
{
    const pr_grammar_text *left = a, *right = b;
    size_t shorter = left->size_bytes < right->size_bytes ? left->size_bytes : right->size_bytes;
    int order = shorter > 0 ? memcmp(left->data, right->data, shorter) : 0;
    return order ? order
                 : (left->size_bytes > right->size_bytes) - (left->size_bytes < right->size_bytes);
}

static size_t shared_bytes(const pr_grammar_text *a, const pr_grammar_text *b)
{
    size_t shared = 0;
    while (shared < a->size_bytes && shared < b->size_bytes && a->data[shared] == b->data[shared])
        shared++;
    return shared;
}

// An inner node of the tree that is still open: it lies `depth` bytes below the root, its finished
// branches are edges on a stack from `first_edge` on.
typedef struct open_branch {
    size_t depth;
    size_t first_edge_bytes;
    bool ends;  // a text ends here
} open_branch;

// Closes the innermost branch and hangs it, with the bytes between, below `to_depth`.
static void close_branch(
    pr_grammar_builder *builder,
    pr_byte_buffer *branches,
    pr_byte_buffer *edges,
    const pr_grammar_text *text,
    size_t to_depth,
    int32_t next)
{
    branches->size_bytes -= sizeof(open_branch);
    open_branch branch = *(open_branch *)((char *)branches->data + branches->size_bytes);
    size_t count = (edges->size_bytes - branch.first_edge_bytes) / sizeof(pr_grammar_edge);
    int32_t node = PR_GRAMMAR_NOWHERE;
    if (count > 0)
        node = pr_grammar_builder_edges(
            builder,
            (const pr_grammar_edge *)edges->data +
                branch.first_edge_bytes / sizeof(pr_grammar_edge),
            (int32_t)count);
    if (branch.ends)
        node = pr_grammar_builder_split(builder, next, node);
    edges->size_bytes = branch.first_edge_bytes;
    size_t below = to_depth + 1;
    node = pr_grammar_builder_text(builder, text->data + below, branch.depth - below, node);
    uint8_t byte = (uint8_t)text->data[to_depth];
    pr_grammar_edge edge = {byte, byte, node};
    pr_byte_buffer_append(edges, &edge, sizeof edge);
}

static open_branch *innermost(pr_byte_buffer *branches)
{
    return (open_branch *)((char *)branches->data + branches->size_bytes) - 1;
}

static void open_at(pr_byte_buffer *branches, pr_byte_buffer *edges, size_t depth)
{
    open_branch branch = {.depth = depth, .first_edge_bytes = edges->size_bytes};
    pr_byte_buffer_append(branches, &branch, sizeof branch);
}

// Closes every branch deeper than `depth`. A branch that does not exist at `depth` yet is opened; it
// takes over the edge that was hung below.
static void close_to(
    pr_grammar_builder *builder,
    pr_byte_buffer *branches,
    pr_byte_buffer *edges,
    const pr_grammar_text *text,
    size_t depth,
    int32_t next)
{
    while (innermost(branches)->depth > depth) {
        size_t parent = (innermost(branches) - 1)->depth;
        size_t to = parent < depth ? depth : parent;
        close_branch(builder, branches, edges, text, to, next);
        if (innermost(branches)->depth < to) {
            edges->size_bytes -= sizeof(pr_grammar_edge);
            open_at(branches, edges, to);
            edges->size_bytes += sizeof(pr_grammar_edge);
        }
    }
}

static int32_t build_tree(
    pr_grammar_builder *builder,
    const pr_grammar_text *text,
    int32_t texts,
    int32_t next,
    pr_byte_buffer *branches,
    pr_byte_buffer *edges)
{
    open_at(branches, edges, 0);
    for (int32_t i = 0; i < texts && !branches->failed && !edges->failed; i++) {
        size_t shared = i > 0 ? shared_bytes(&text[i - 1], &text[i]) : 0;
        if (i > 0)
            close_to(builder, branches, edges, &text[i - 1], shared, next);
        if (innermost(branches)->depth < text[i].size_bytes)
            open_at(branches, edges, text[i].size_bytes);
        if (!branches->failed)
            innermost(branches)->ends = true;
    }
    if (branches->failed || edges->failed)
        return PR_GRAMMAR_NOWHERE;
    close_to(builder, branches, edges, &text[texts - 1], 0, next);
    int32_t node = pr_grammar_builder_edges(
        builder, edges->data, (int32_t)(edges->size_bytes / sizeof(pr_grammar_edge)));
    return innermost(branches)->ends ? pr_grammar_builder_split(builder, next, node) : node;
}

int32_t pr_grammar_builder_texts(
    pr_grammar_builder *builder, pr_grammar_text *text, int32_t texts, int32_t next)
{
    pr_byte_buffer branches = {0}, edges = {0};
    if (texts == 0)
        return PR_GRAMMAR_NOWHERE;
    qsort(text, (size_t)texts, sizeof *text, compare_texts);
    int32_t node = build_tree(builder, text, texts, next, &branches, &edges);
    builder->node.failed |= branches.failed || edges.failed;
    pr_byte_buffer_free(&branches);
    pr_byte_buffer_free(&edges);
    return node;
}

// ---- Code points

// Runs [0, runs) agree on their first `depth` bytes. At most four levels deep.
static int32_t spell(
    pr_grammar_builder *builder, const pr_utf8_run *run, int32_t runs, int32_t depth, int32_t next)
{
    pr_grammar_edge edge[256];
    int32_t edges = 0;
    if (depth == run[0].bytes)
        return next;
    for (int32_t i = 0, end; i < runs && edges < 256; i = end) {
        end = i + 1;
        while (end < runs && run[end].bytes == run[i].bytes &&
               run[end].low[depth] == run[i].low[depth])
            end++;
        edge[edges++] = (pr_grammar_edge){
            run[i].low[depth], run[i].high[depth],
            spell(builder, run + i, end - i, depth + 1, next)};
    }
    return pr_grammar_builder_edges(builder, edge, edges);
}

int32_t
pr_grammar_builder_code_point(pr_grammar_builder *builder, const pr_code_points *set, int32_t next)
{
    pr_byte_buffer_clear(&builder->run);
    pr_code_points_spell(set, &builder->run);
    int32_t runs = (int32_t)(builder->run.size_bytes / sizeof(pr_utf8_run));
    if (builder->run.failed || runs == 0 || next == PR_GRAMMAR_NOWHERE)
        return PR_GRAMMAR_NOWHERE;
    return spell(builder, builder->run.data, runs, 0, next);
}

// ---- Control

static bool can_join(const pr_grammar_builder *builder, int32_t first, int32_t second)
{
    const pr_grammar_node *a = node_at(builder, first), *b = node_at(builder, second);
    return a->op == PR_GRAMMAR_EDGES && b->op == PR_GRAMMAR_EDGES &&
           a->max + b->max <= MOST_JOINED_EDGES;
}

int32_t pr_grammar_builder_split(pr_grammar_builder *builder, int32_t first, int32_t second)
{
    if (first == PR_GRAMMAR_NOWHERE || first == second)
        return second;
    if (second == PR_GRAMMAR_NOWHERE)
        return first;
    if (!can_join(builder, first, second))
        return add_node(
            builder, (pr_grammar_node){.op = PR_GRAMMAR_SPLIT, .next = first, .other = second});
    pr_grammar_edge joined[MOST_JOINED_EDGES];
    const pr_grammar_edge *edge = builder->edge.data;
    const pr_grammar_node *a = node_at(builder, first), *b = node_at(builder, second);
    memcpy(joined, edge + a->other, (size_t)a->max * sizeof *joined);
    memcpy(joined + a->max, edge + b->other, (size_t)b->max * sizeof *joined);
    return pr_grammar_builder_edges(builder, joined, a->max + b->max);
}

int32_t pr_grammar_builder_repeat(
    pr_grammar_builder *builder, int32_t body, int32_t min, int32_t max, int32_t next)
{
    if (next == PR_GRAMMAR_NOWHERE || (body == PR_GRAMMAR_NOWHERE && min > 0))
        return PR_GRAMMAR_NOWHERE;
    if (body == PR_GRAMMAR_NOWHERE || max == 0)
        return next;
    pr_grammar_node node = {
        .op = PR_GRAMMAR_REPEAT, .next = next, .other = body, .min = min, .max = max};
    return add_node(builder, node);
}

int32_t pr_grammar_builder_rule(pr_grammar_builder *builder)
{
    int32_t index = (int32_t)(builder->rule.size_bytes / sizeof(int32_t));
    int32_t start = PR_GRAMMAR_NOWHERE;
    pr_byte_buffer_append(&builder->rule, &start, sizeof start);
    return index;
}

void pr_grammar_builder_set_rule(pr_grammar_builder *builder, int32_t rule, int32_t start)
{
    if (!builder->rule.failed)
        ((int32_t *)builder->rule.data)[rule] = start;
}

int32_t pr_grammar_builder_call(pr_grammar_builder *builder, int32_t rule, int32_t next)
{
    if (next == PR_GRAMMAR_NOWHERE)
        return PR_GRAMMAR_NOWHERE;
    return add_node(builder, (pr_grammar_node){.op = PR_GRAMMAR_CALL, .next = next, .other = rule});
}

// ---- The end

static pr_status link_calls(const pr_grammar_builder *builder, pr_grammar_node *node, int32_t nodes)
{
    const int32_t *rule = builder->rule.data;
    for (int32_t i = 0; i < nodes; i++) {
        if (node[i].op == PR_GRAMMAR_CALL)
            node[i].other = rule[node[i].other];
    }
    return PR_OK;
}

static pr_status check_size(const pr_grammar_builder *builder)
{
    PR_TRY(pr_byte_buffer_check(&builder->node));
    PR_TRY(pr_byte_buffer_check(&builder->edge));
    PR_TRY(pr_byte_buffer_check(&builder->rule));
    PR_TRY(pr_byte_buffer_check(&builder->run));
    if (builder->full)
        return pr_fail(
            PR_ERR_REQUEST, "the grammar needs more than %d nodes or %d edges: make it smaller",
            PR_GRAMMAR_MAX_NODES, PR_GRAMMAR_MAX_EDGES);
    return PR_OK;
}

pr_status
pr_grammar_builder_finish(pr_grammar_builder *builder, int32_t start, pr_grammar **grammar)
{
    PR_TRY(check_size(builder));
    if (start == PR_GRAMMAR_NOWHERE)
        return pr_fail(PR_ERR_REQUEST, "no text at all can match the grammar");
    pr_grammar *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a grammar");
    made->nodes = node_count(builder);
    made->edges = edge_count(builder);
    made->start = start;
    made->node = builder->node.data;
    made->edge = builder->edge.data;
    builder->node = builder->edge = (pr_byte_buffer){0};
    pr_status status = link_calls(builder, made->node, made->nodes);
    if (status == PR_OK)
        status = pr_grammar_check(made);
    if (status != PR_OK) {
        pr_grammar_destroy(made);
        return status;
    }
    *grammar = made;
    return PR_OK;
}

void pr_grammar_destroy(pr_grammar *grammar)
{
    if (!grammar)
        return;
    free(grammar->node);
    free(grammar->edge);
    free(grammar);
}
