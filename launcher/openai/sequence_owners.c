// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/openai/sequence_owners.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

void pr_sequence_owners_begin(pr_sequence_owners *owners)
{
    *owners = (pr_sequence_owners){.first_id = 1, .next_id = 1};
}

void pr_sequence_owners_end(pr_sequence_owners *owners)
{
    free(owners->owner);
    *owners = (pr_sequence_owners){0};
}

static void forget_ended(pr_sequence_owners *owners)
{
    uint64_t ids = owners->next_id - owners->first_id, ended = 0;
    while (ended < ids && !owners->owner[ended])
        ended++;
    if (ended == 0)
        return;
    memmove(owners->owner, owners->owner + ended, (ids - ended) * sizeof *owners->owner);
    owners->first_id += ended;
}

static pr_status make_room(pr_sequence_owners *owners, uint64_t count)
{
    uint64_t needed = owners->next_id - owners->first_id + count;
    if (needed <= owners->capacity)
        return PR_OK;
    forget_ended(owners);
    needed = owners->next_id - owners->first_id + count;
    if (needed <= owners->capacity / 2)  // half free: forgetting again is a while off
        return PR_OK;
    uint64_t capacity = needed * 4;
    void **grown = realloc(owners->owner, capacity * sizeof *grown);
    if (!grown)
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for %llu sequences", (unsigned long long)capacity);
    owners->owner = grown;
    owners->capacity = capacity;
    return PR_OK;
}

pr_status
pr_sequence_owners_add(pr_sequence_owners *owners, void *owner, int32_t count, uint64_t *first_id)
{
    PR_TRY(make_room(owners, (uint64_t)count));
    *first_id = owners->next_id;
    for (int32_t i = 0; i < count; i++)
        owners->owner[owners->next_id++ - owners->first_id] = owner;
    return PR_OK;
}

void pr_sequence_owners_remove(pr_sequence_owners *owners, uint64_t first_id, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        owners->owner[first_id + (uint64_t)i - owners->first_id] = NULL;
}

void *pr_sequence_owners_find(const pr_sequence_owners *owners, uint64_t id)
{
    if (id < owners->first_id || id >= owners->next_id)
        return NULL;
    return owners->owner[id - owners->first_id];
}
