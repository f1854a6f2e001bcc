// SPDX-License-Identifier: BSD-3-Clause
// A small number for each of at most so many ids: a hash table with linear probing; an entry that goes moves those
// after it up, so there are no graves. Memory: at create. Cost: O(1) while at most half full, which it never exceeds.
// Threads: one.
#ifndef PR_LAUNCHER_OBSERVE_ID_TABLE_H
#define PR_LAUNCHER_OBSERVE_ID_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_id_table pr_id_table;

pr_status pr_id_table_create(int32_t most, pr_id_table **table) PR_MUST_CHECK;
void pr_id_table_destroy(pr_id_table *table);

// Where the number is; valid until the next add or remove. add: 0 at first; NULL: full, or the id is there.
int32_t *pr_id_table_add(pr_id_table *table, uint64_t id);
int32_t *pr_id_table_find(const pr_id_table *table, uint64_t id);  // NULL: not there
void pr_id_table_remove(pr_id_table *table, uint64_t id);          // not there: no effect
// Each id once, in no order that means anything, while none is added or removed. *cursor: 0 at first. False: no more.
bool pr_id_table_next(const pr_id_table *table, uint64_t *cursor, uint64_t *id, int32_t *number);

#endif
