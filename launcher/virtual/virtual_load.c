// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/virtual/virtual_load.h"

#include <stdlib.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

// The place of the id in the table, or the free one where it would be.
static int64_t *find_slot(const pr_virtual_load *load, uint64_t id)
{
    uint64_t mask = (uint64_t)load->slots - 1;
    for (uint64_t at = pr_hash_mix(id) & mask;; at = (at + 1) & mask) {
        int64_t *slot = &load->slot[at];
        if (*slot == 0 || load->request[*slot - 1].request->id == id)
            return slot;
    }
}

static pr_status grow(pr_virtual_load *load)
{
    int64_t room = load->room * 2 + 64, slots = 128;
    while (slots < room * 2)
        slots *= 2;
    pr_virtual_request *request = realloc(load->request, (size_t)room * sizeof *request);
    if (request)
        load->request = request;
    int64_t *slot = calloc((size_t)slots, sizeof *slot);
    if (!request || !slot) {
        free(slot);
        return pr_fail(PR_ERR_RESOURCE, "no memory for %lld requests", (long long)room);
    }
    free(load->slot);
    load->slot = slot;
    load->slots = slots;
    load->room = room;
    for (int64_t i = 0; i < load->requests; i++)
        *find_slot(load, load->request[i].request->id) = i + 1;
    return PR_OK;
}

pr_status pr_virtual_load_add(pr_virtual_load *load, pr_request *request, int64_t arrival_ns)
{
    if (load->requests == load->room)
        PR_TRY(grow(load));
    int64_t *slot = find_slot(load, request->id);
    if (*slot != 0)
        return pr_fail(
            PR_ERR_FORMAT, "request %llu is there twice", (unsigned long long)request->id);
    load->request[load->requests++] = (pr_virtual_request){
        .request = request,
        .arrival_ns = arrival_ns,
    };
    *slot = load->requests;
    return PR_OK;
}

pr_status
pr_virtual_load_output(pr_virtual_load *load, int64_t request, int32_t index, int32_t token)
{
    pr_virtual_request *of = &load->request[request];
    if (index != of->outputs)  // a token of an older admission, told again
        return PR_OK;
    if (index == of->output_room) {
        int32_t room = index * 2 + 16;
        int32_t *grown = realloc(of->output, (size_t)room * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory for %d tokens", (int)room);
        of->output = grown;
        of->output_room = room;
    }
    of->output[of->outputs++] = token;
    return PR_OK;
}

int64_t pr_virtual_load_find(const pr_virtual_load *load, uint64_t id)
{
    return load->slots > 0 ? *find_slot(load, id) - 1 : -1;
}

void pr_virtual_load_free(pr_virtual_load *load)
{
    for (int64_t i = 0; i < load->requests; i++) {
        pr_request_destroy(load->request[i].request);
        free(load->request[i].output);
    }
    free(load->request);
    free(load->slot);
    *load = (pr_virtual_load){0};
}
