// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/slot.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/sampling/sampler.h"

pr_status pr_slots_create(
    int32_t count,
    int32_t max_model_len,
    int32_t block_tokens,
    pr_constraints *constraints,
    pr_slots **slots)
{
    pr_slots *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the sequence table");
    made->block_tokens = block_tokens;
    made->max_tokens = max_model_len + 1;
    made->max_blocks = (max_model_len + block_tokens) / block_tokens + 1;
    made->slots = count;
    made->constraints = constraints;
    made->slot = calloc((size_t)count, sizeof *made->slot);
    bool complete = made->slot != NULL;
    for (int32_t i = 0; complete && i < count; i++) {
        made->slot[i].token = malloc((size_t)made->max_tokens * sizeof(int32_t));
        made->slot[i].block = malloc((size_t)made->max_blocks * sizeof(int32_t));
        complete = made->slot[i].token && made->slot[i].block;
    }
    if (!complete) {
        pr_slots_destroy(made);
        return pr_fail(
            PR_ERR_RESOURCE,
            "no memory for %d sequences of %d tokens: lower --max-num-seqs or --max-model-len",
            count, max_model_len);
    }
    *slots = made;
    return PR_OK;
}

void pr_slots_destroy(pr_slots *slots)
{
    if (!slots)
        return;
    for (int32_t i = 0; slots->slot && i < slots->slots; i++) {
        pr_slot_release(&slots->slot[i]);
        free(slots->slot[i].token);
        free(slots->slot[i].block);
    }
    free(slots->slot);
    free(slots);
}

pr_slot *pr_slots_find(pr_slots *slots, uint64_t id)
{
    for (int32_t i = 0; i < slots->slots; i++) {
        pr_slot *slot = &slots->slot[i];
        if (slot->request && slot->request->id == id)
            return slot;
    }
    return NULL;
}

void pr_slot_release(pr_slot *slot)
{
    pr_constraint_release(slot->constraint);
    slot->constraint = NULL;
    pr_request_destroy(slot->request);
    slot->request = NULL;
}

static pr_slot *free_slot(pr_slots *slots)
{
    for (int32_t i = 0; i < slots->slots; i++) {
        if (!slots->slot[i].request)
            return &slots->slot[i];
    }
    return NULL;
}

// The outputs so far are read again: the grammar stands where it stood.
static pr_status admit_grammar(pr_slots *slots, const pr_admission *admission, pr_slot *slot)
{
    const pr_grammar_source *source = &slot->request->sampling.grammar;
    if (source->kind == PR_GRAMMAR_NONE)
        return PR_OK;
    PR_TRY(pr_constraints_admit(slots->constraints, source, &slot->constraint));
    for (int32_t i = 0; i < admission->outputs; i++) {
        if (!pr_constraint_take(slot->constraint, admission->output[i]))
            return pr_fail(
                PR_ERR_INTERNAL, "output %d of request %llu does not fit its grammar", i,
                (unsigned long long)slot->request->id);
    }
    return PR_OK;
}

bool pr_slot_add_token(pr_slot *slot, int32_t token)
{
    if (slot->constraint && !pr_constraint_take(slot->constraint, token))
        return false;
    slot->token[slot->total++] = token;
    return true;
}

pr_status pr_slots_admit(pr_slots *slots, const pr_admission *admission)
{
    const pr_request *request = admission->request;
    int32_t total = request->prompt_tokens + admission->outputs;
    pr_slot *slot = free_slot(slots);
    if (!slot || total > slots->max_tokens || admission->blocks > slots->max_blocks)
        return pr_fail(
            PR_ERR_INTERNAL, "request %llu does not fit the worker: %d tokens, %d blocks, slot %s",
            (unsigned long long)request->id, total, admission->blocks, slot ? "free" : "none");
    PR_TRY(pr_request_copy(request, &slot->request));
    PR_TRY(admit_grammar(slots, admission, slot));
    slot->generation = admission->generation;
    slot->total = total;
    slot->computed = admission->arrives ? total : admission->computed;
    slot->prefilled = false;
    slot->hands_over = admission->hands_over;
    slot->blocks = admission->blocks;
    memcpy(slot->token, request->prompt, (size_t)request->prompt_tokens * sizeof(int32_t));
    if (admission->outputs > 0)
        memcpy(
            slot->token + request->prompt_tokens, admission->output,
            (size_t)admission->outputs * sizeof(int32_t));
    if (admission->blocks > 0)
        memcpy(slot->block, admission->block, (size_t)admission->blocks * sizeof(int32_t));
    return PR_OK;
}

void pr_slots_release_all(pr_slots *slots)
{
    for (int32_t i = 0; i < slots->slots; i++)
        pr_slot_release(&slots->slot[i]);
}

pr_status pr_slots_grant(pr_slots *slots, const pr_grant *grant)
{
    pr_slot *slot = pr_slots_find(slots, grant->id);
    if (!slot)  // it ended by itself before the grant came
        return PR_OK;
    if (slot->blocks + grant->blocks > slots->max_blocks)
        return pr_fail(
            PR_ERR_INTERNAL, "request %llu was granted more blocks than its context can hold",
            (unsigned long long)grant->id);
    memcpy(slot->block + slot->blocks, grant->block, (size_t)grant->blocks * sizeof(int32_t));
    slot->blocks += grant->blocks;
    return PR_OK;
}

static pr_finish finish_of(const pr_slot *slot, int32_t index, int32_t token)
{
    pr_finish finish = pr_sampler_finish(&slot->request->sampling, index, token);
    if (finish == PR_FINISH_NONE && slot->hands_over)
        return PR_FINISH_HANDED;
    return finish;
}

// A sequence whose grammar is at its end, and which has no stop token to say so, ends here.
static bool is_at_end(const pr_slot *slot)
{
    pr_constraint_mask mask;
    if (!slot->constraint || slot->request->sampling.stop_tokens > 0)
        return false;
    pr_constraint_find_mask(slot->constraint, &mask);
    return !mask.any;
}

pr_finish pr_slot_keep_sampled(pr_slot *slot, int32_t index, int32_t token)
{
    pr_finish finish = finish_of(slot, index, token);
    if (finish != PR_FINISH_NONE && finish != PR_FINISH_HANDED)
        return finish;
    if (!pr_slot_add_token(slot, token) || is_at_end(slot))
        return PR_FINISH_STOP;
    return finish;
}
