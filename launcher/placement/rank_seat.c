// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/placement/rank_seat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

// Texts seen so far, each with its number; looked up by hash first.
typedef struct name_list {
    int32_t count;
    uint64_t *hash;  // [ranks]
    int32_t *first;  // [ranks] a rank that has the text
} name_list;

static uint64_t hash_of(const char *text, size_t length)
{
    uint64_t hash = UINT64_C(14695981039346656037);  // FNV-1a
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    return hash;
}

static const char *text_of(const pr_rank_names *names, bool host)
{
    return host ? names->host : names->switches;
}

// The number of the first `length` bytes of a rank's host or switches.
static int32_t number_of(
    name_list *list, const pr_rank_names *names, int32_t rank, bool host, const size_t *length)
{
    const char *text = text_of(&names[rank], host);
    uint64_t hash = hash_of(text, length[rank]);
    for (int32_t i = 0; i < list->count; i++) {
        int32_t other = list->first[i];
        if (list->hash[i] == hash && length[other] == length[rank] &&
            memcmp(text_of(&names[other], host), text, length[rank]) == 0)
            return i;
    }
    list->hash[list->count] = hash;
    list->first[list->count] = rank;
    return list->count++;
}

// Bytes of a path without its last `parts` parts; 0 if it has no more than those.
static size_t length_without(const char *path, int32_t parts)
{
    size_t length = strlen(path);
    for (int32_t i = 0; i < parts && length > 0; i++) {
        do
            length--;
        while (length > 0 && path[length] != '.');
    }
    return length;
}

static pr_switch_fact fact_of(const pr_rank_names *names, int32_t ranks, const pr_rank_seat *seat)
{
    bool known = false, many = false;
    for (int32_t i = 0; i < ranks; i++) {
        known |= names[i].switches[0] != '\0';
        many |= seat[i].switches[PR_SWITCH_LEVELS - 1] != 0;
    }
    return many ? PR_SWITCHES_MANY : known ? PR_SWITCHES_ONE : PR_SWITCHES_UNKNOWN;
}

// Whether ranks of one node name different switches. first: [ranks], a rank of each node.
static bool contradict(const pr_rank_seat *seat, int32_t ranks, const int32_t *first)
{
    for (int32_t i = 0; i < ranks; i++) {
        const pr_rank_seat *other = &seat[first[seat[i].node]];
        if (memcmp(seat[i].switches, other->switches, sizeof other->switches) != 0)
            return true;
    }
    return false;
}

static void number_all(
    const pr_rank_names *names,
    int32_t ranks,
    pr_rank_seat *seat,
    name_list *list,
    size_t *length,
    pr_switch_fact *fact)
{
    for (int32_t level = 0; level < PR_SWITCH_LEVELS; level++) {
        list->count = 0;
        for (int32_t i = 0; i < ranks; i++) {
            length[i] = length_without(names[i].switches, PR_SWITCH_LEVELS - 1 - level);
            seat[i].switches[level] = number_of(list, names, i, false, length);
        }
    }
    list->count = 0;
    for (int32_t i = 0; i < ranks; i++) {
        length[i] = strlen(names[i].host);
        seat[i].node = number_of(list, names, i, true, length);
        seat[i].numa = names[i].numa;
    }
    *fact = fact_of(names, ranks, seat);
    if (!contradict(seat, ranks, list->first))
        return;
    *fact = PR_SWITCHES_DISCARDED;
    for (int32_t i = 0; i < ranks; i++)
        memset(seat[i].switches, 0, sizeof seat[i].switches);
}

pr_status pr_rank_seats_number(
    const pr_rank_names *names, int32_t ranks, pr_rank_seat *seat, pr_switch_fact *fact)
{
    name_list list = {
        .hash = calloc((size_t)ranks, sizeof *list.hash),
        .first = calloc((size_t)ranks, sizeof *list.first),
    };
    size_t *length = calloc((size_t)ranks, sizeof *length);
    pr_status status = PR_OK;
    if (list.hash && list.first && length)
        number_all(names, ranks, seat, &list, length, fact);
    else
        status = pr_fail(PR_ERR_RESOURCE, "no memory for the seats of %d ranks", (int)ranks);
    free(list.hash);
    free(list.first);
    free(length);
    return status;
}

void pr_rank_switches_of(const char *address, const char *pattern, char switches[PR_SWITCH_BYTES])
{
    size_t used = 0;
    switches[0] = '\0';
    while (address && pattern && *address && *pattern) {
        size_t part = strcspn(address, "."), kind = strcspn(pattern, ".");
        bool is_switch = kind == strlen("switch") && strncmp(pattern, "switch", kind) == 0;
        if (is_switch && used + part + 2 > PR_SWITCH_BYTES) {
            switches[0] = '\0';  // cut names could be mistaken for others
            return;
        }
        if (is_switch)
            used += (size_t)snprintf(
                switches + used, PR_SWITCH_BYTES - used, "%s%.*s", used ? "." : "", (int)part,
                address);
        address += part + (address[part] == '.');
        pattern += kind + (pattern[kind] == '.');
    }
}

int32_t pr_rank_seat_distance(const pr_rank_seat *a, const pr_rank_seat *b)
{
    if (a->node == b->node)
        return 0;
    int32_t level = PR_SWITCH_LEVELS;
    while (level > 0 && a->switches[level - 1] != b->switches[level - 1])
        level--;
    return PR_SWITCH_LEVELS - level + 1;
}
