// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/batch/id_set.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

// Where the id is, or the free place where it belongs.
static pr_id_place *find(const pr_id_set *set, uint64_t hash, uint64_t check)
{
    size_t at = hash & (set->places - 1);
    while (set->place[at].line && (set->place[at].hash != hash || set->place[at].check != check))
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
            *find(&larger, from->hash, from->check) = *from;
    }
    free(set->place);
    *set = larger;
    return PR_OK;
}

pr_status pr_id_set_add(pr_id_set *set, const char *id, int64_t line, int64_t *earlier)
{
    uint64_t hash = pr_hash_bytes(3, id, strlen(id)), check = pr_hash_bytes(4, id, strlen(id));
    if (set->ids * 4 >= set->places * 3)
        PR_TRY(grow(set));
    pr_id_place *place = find(set, hash, check);
    *earlier = place->line;
    if (place->line)
        return PR_OK;
    *place = (pr_id_place){.hash = hash, .check = check, .line = line};
    set->ids++;
    return PR_OK;
}

void pr_id_set_clear(pr_id_set *set)
{
    free(set->place);
    *set = (pr_id_set){0};
}
