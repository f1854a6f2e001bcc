// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/sequence.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

pr_status pr_sequence_create(pr_request *request, int64_t arrival, pr_sequence **sequence)
{
    size_t tokens = (size_t)request->prompt_tokens + (size_t)request->sampling.max_tokens;
    pr_sequence *made = calloc(1, sizeof *made);
    int32_t *token = malloc(tokens * sizeof *token);
    if (!made || !token) {
        free(made);
        free(token);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a request of %zu tokens", tokens);
    }
    memcpy(token, request->prompt, (size_t)request->prompt_tokens * sizeof *token);
    if (request->outputs > 0)
        memcpy(
            token + request->prompt_tokens, request->output,
            (size_t)request->outputs * sizeof *token);
    made->request = request;
    made->token = token;
    made->tokens = request->prompt_tokens + request->outputs;
    made->arrival = arrival;
    made->generation = 1;
    *sequence = made;
    return PR_OK;
}

void pr_sequence_destroy(pr_sequence *sequence)
{
    pr_request_destroy(sequence->request);
    free(sequence->token);
    free(sequence->chain);
    free(sequence);
}

bool pr_sequence_before(const pr_sequence *a, const pr_sequence *b)
{
    if (a->request->priority != b->request->priority)
        return a->request->priority < b->request->priority;
    return a->arrival < b->arrival;
}

pr_seat *pr_sequence_decode_seat(pr_sequence *sequence)
{
    bool handed = sequence->seat[PR_SEAT_DECODE].lane != NULL;
    return &sequence->seat[handed ? PR_SEAT_DECODE : PR_SEAT_COMPUTE];
}

void pr_sequence_list_append(pr_sequence_list *list, pr_sequence *sequence)
{
    sequence->list = list;
    sequence->list_prev = list->last;
    sequence->list_next = NULL;
    if (list->last)
        list->last->list_next = sequence;
    else
        list->first = sequence;
    list->last = sequence;
    list->sequences++;
}

void pr_sequence_list_remove(pr_sequence *sequence)
{
    pr_sequence_list *list = sequence->list;
    if (sequence->list_prev)
        sequence->list_prev->list_next = sequence->list_next;
    else
        list->first = sequence->list_next;
    if (sequence->list_next)
        sequence->list_next->list_prev = sequence->list_prev;
    else
        list->last = sequence->list_prev;
    sequence->list = NULL;
    list->sequences--;
}

enum { FIRST_BUCKETS = 64 };

pr_status pr_sequence_table_create(pr_sequence_table *table)
{
    table->sequences = 0;
    table->buckets = FIRST_BUCKETS;
    table->bucket = calloc(FIRST_BUCKETS, sizeof(pr_sequence *));
    if (!table->bucket)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the table of requests");
    return PR_OK;
}

void pr_sequence_table_destroy(pr_sequence_table *table)
{
    for (int32_t i = 0; table->bucket && i < table->buckets; i++) {
        while (table->bucket[i]) {
            pr_sequence *sequence = table->bucket[i];
            table->bucket[i] = sequence->table_next;
            pr_sequence_destroy(sequence);
        }
    }
    free(table->bucket);
}

static pr_sequence **table_bucket(pr_sequence **bucket, int32_t buckets, uint64_t id)
{
    return &bucket[pr_hash_mix(id) & (uint64_t)(buckets - 1)];
}

static pr_status table_grow(pr_sequence_table *table)
{
    int32_t buckets = 2 * table->buckets;
    pr_sequence **bucket = calloc((size_t)buckets, sizeof(pr_sequence *));
    if (!bucket)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a table of %d requests", (int)buckets);
    for (int32_t i = 0; i < table->buckets; i++) {
        while (table->bucket[i]) {
            pr_sequence *sequence = table->bucket[i];
            table->bucket[i] = sequence->table_next;
            pr_sequence **to = table_bucket(bucket, buckets, sequence->request->id);
            sequence->table_next = *to;
            *to = sequence;
        }
    }
    free(table->bucket);
    table->bucket = bucket;
    table->buckets = buckets;
    return PR_OK;
}

pr_status pr_sequence_table_add(pr_sequence_table *table, pr_sequence *sequence)
{
    if (table->sequences == table->buckets)
        PR_TRY(table_grow(table));
    pr_sequence **to = table_bucket(table->bucket, table->buckets, sequence->request->id);
    sequence->table_next = *to;
    *to = sequence;
    table->sequences++;
    return PR_OK;
}

void pr_sequence_table_remove(pr_sequence_table *table, pr_sequence *sequence)
{
    pr_sequence **at = table_bucket(table->bucket, table->buckets, sequence->request->id);
    while (*at != sequence)
        at = &(*at)->table_next;
    *at = sequence->table_next;
    table->sequences--;
}

pr_sequence *pr_sequence_table_find(const pr_sequence_table *table, uint64_t id)
{
    pr_sequence *sequence = *table_bucket(table->bucket, table->buckets, id);
    while (sequence && sequence->request->id != id)
        sequence = sequence->table_next;
    return sequence;
}
