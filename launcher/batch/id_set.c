// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/batch/id_set.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

// Where the id is, or the free place where it belongs.
static pr_id_place *find(const pr_id_set *set, const pr_id_key *key)
{
    size_t at = key->hash & (set->places - 1);
    while (set->place[at].line &&
           (set->place[at].key.hash != key->hash || set->place[at].key.check != key->check))
        at = (at + 1) & (set->places - 1);
    return &set->place[at];
}

static pr_status grow(pr_id_set *set)
{
    pr_id_set larger = {.ids = set->ids, .places = set->places ? set->places * 2 : 1024};
    larger.place = calloc(larger.places, sizeof *larger.place);
    if (!larger.place)
        return pr_fail(PR_ERR_RESOURCE, "no memory to remember %zu custom_ids", set->ids);
    for (size_t i = 0; i < set->places; i++) {
        const pr_id_place *from = &set->place[i];
        if (from->line)
            *find(&larger, &from->key) = *from;
    }
    free(set->place);
    *set = larger;
    return PR_OK;
}

pr_id_key pr_id_set_key(const char *id)
{
    size_t length = strlen(id);
    return (pr_id_key){.hash = pr_hash_bytes(3, id, length), .check = pr_hash_bytes(4, id, length)};
}

pr_status pr_id_set_add(pr_id_set *set, const pr_id_key *key, int64_t line, int64_t *earlier)
{
    if (set->ids * 4 >= set->places * 3)
        PR_TRY(grow(set));
    pr_id_place *place = find(set, key);
    *earlier = place->line;
    if (place->line)
        return PR_OK;
    *place = (pr_id_place){.key = *key, .line = line};
    set->ids++;
    return PR_OK;
}

void pr_id_set_clear(pr_id_set *set)
{
    free(set->place);
    *set = (pr_id_set){0};
}
