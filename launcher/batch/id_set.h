// SPDX-License-Identifier: BSD-3-Clause
// The custom_ids of a batch so far, each with the line it stands on. Keeps two 64-bit hashes instead
// of the text: 24 bytes a place and at least three places in eight used, so a million lines take 50 MB
// however long their ids are. (That two of 10^9 different ids share both hashes: about 1 in 10^21.)
#ifndef PR_LAUNCHER_BATCH_ID_SET_H
#define PR_LAUNCHER_BATCH_ID_SET_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_id_key {
    uint64_t hash, check;
} pr_id_key;

typedef struct pr_id_place {
    pr_id_key key;
    int64_t line;  // 0: free
} pr_id_place;

typedef struct pr_id_set {
    size_t ids, places;  // places: power of two, or 0
    pr_id_place *place;
} pr_id_set;

pr_id_key pr_id_set_key(const char *id);

// *earlier: 0 and the id is in the set now, or the line it was added with before.
pr_status
pr_id_set_add(pr_id_set *set, const pr_id_key *key, int64_t line, int64_t *earlier) PR_MUST_CHECK;
void pr_id_set_clear(pr_id_set *set);

#endif
