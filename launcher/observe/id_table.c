// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/observe/id_table.h"

#include <stdlib.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

typedef struct entry {
    uint64_t id;
    bool used;
    int32_t number;
} entry;

struct pr_id_table {
    uint64_t mask;
    int32_t most, entries;
    entry *entry;  // [mask + 1]
};

pr_status pr_id_table_create(int32_t most, pr_id_table **table)
{
    pr_id_table *made = calloc(1, sizeof *made);
    uint64_t size = 2;
    while (size < 2 * (uint64_t)most)
        size *= 2;
    if (made)
        made->entry = calloc(size, sizeof *made->entry);
    if (!made || !made->entry) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a table of %d ids", (int)most);
    }
    made->mask = size - 1;
    made->most = most;
    *table = made;
    return PR_OK;
}

void pr_id_table_destroy(pr_id_table *table)
{
    if (!table)
        return;
    free(table->entry);
    free(table);
}

// Where the id is, or the free place where it would go.
static uint64_t place_of(const pr_id_table *table, uint64_t id)
{
    uint64_t at = pr_hash_mix(id) & table->mask;
    while (table->entry[at].used && table->entry[at].id != id)
        at = (at + 1) & table->mask;
    return at;
}

int32_t *pr_id_table_add(pr_id_table *table, uint64_t id)
{
    uint64_t at = place_of(table, id);
    if (table->entry[at].used || table->entries == table->most)
        return NULL;
    table->entry[at] = (entry){.id = id, .used = true};
    table->entries++;
    return &table->entry[at].number;
}

int32_t *pr_id_table_find(const pr_id_table *table, uint64_t id)
{
    entry *found = &table->entry[place_of(table, id)];
    return found->used ? &found->number : NULL;
}

void pr_id_table_remove(pr_id_table *table, uint64_t id)
{
    uint64_t hole = place_of(table, id);
    if (!table->entry[hole].used)
        return;
    table->entries--;
    for (uint64_t at = (hole + 1) & table->mask; table->entry[at].used;
         at = (at + 1) & table->mask) {
        uint64_t home = pr_hash_mix(table->entry[at].id) & table->mask;
        // It may move up unless its home lies behind the hole.
        if (((at - home) & table->mask) < ((at - hole) & table->mask))
            continue;
        table->entry[hole] = table->entry[at];
        hole = at;
    }
    table->entry[hole].used = false;
}

bool pr_id_table_next(const pr_id_table *table, uint64_t *cursor, uint64_t *id, int32_t *number)
{
    while (*cursor <= table->mask) {
        const entry *each = &table->entry[(*cursor)++];
        if (!each->used)
            continue;
        *id = each->id;
        *number = each->number;
        return true;
    }
    return false;
}
