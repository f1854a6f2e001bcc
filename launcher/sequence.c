// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/sequence.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

pr_status pr_sequences_create(
    int32_t slots, int32_t max_model_len, int32_t block_tokens, pr_sequences **sequences)
{
    pr_sequences *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the sequence table");
    made->block_tokens = block_tokens;
    made->max_tokens = max_model_len + 1;
    made->max_blocks = (max_model_len + block_tokens) / block_tokens + 1;
    made->slots = slots;
    made->slot = calloc((size_t)slots, sizeof *made->slot);
    bool complete = made->slot != NULL;
    for (int32_t i = 0; complete && i < slots; i++) {
        made->slot[i].token = malloc((size_t)made->max_tokens * sizeof(int32_t));
        made->slot[i].block = malloc((size_t)made->max_blocks * sizeof(int32_t));
        complete = made->slot[i].token && made->slot[i].block;
    }
    if (!complete) {
        pr_sequences_destroy(made);
        return pr_fail(
            PR_ERR_RESOURCE,
            "no memory for %d sequences of %d tokens: lower --max-num-seqs or --max-model-len",
            slots, max_model_len);
    }
    *sequences = made;
    return PR_OK;
}

void pr_sequences_destroy(pr_sequences *sequences)
{
    if (!sequences)
        return;
    for (int32_t i = 0; sequences->slot && i < sequences->slots; i++) {
        pr_sequence_release(&sequences->slot[i]);
        free(sequences->slot[i].token);
        free(sequences->slot[i].block);
    }
    free(sequences->slot);
    free(sequences);
}

pr_sequence *pr_sequences_find(pr_sequences *sequences, uint64_t id)
{
    for (int32_t i = 0; i < sequences->slots; i++) {
        pr_sequence *sequence = &sequences->slot[i];
        if (sequence->request && sequence->request->id == id)
            return sequence;
    }
    return NULL;
}

void pr_sequence_release(pr_sequence *sequence)
{
    pr_request_destroy(sequence->request);
    sequence->request = NULL;
}

static pr_sequence *free_slot(pr_sequences *sequences)
{
    for (int32_t i = 0; i < sequences->slots; i++) {
        if (!sequences->slot[i].request)
            return &sequences->slot[i];
    }
    return NULL;
}

pr_status pr_sequences_admit(pr_sequences *sequences, const pr_admission *admission)
{
    const pr_request *request = admission->request;
    int32_t total = request->prompt_tokens + admission->outputs;
    pr_sequence *sequence = free_slot(sequences);
    if (!sequence || total > sequences->max_tokens || admission->blocks > sequences->max_blocks)
        return pr_fail(
            PR_ERR_INTERNAL, "request %llu does not fit the worker: %d tokens, %d blocks, slot %s",
            (unsigned long long)request->id, total, admission->blocks, sequence ? "free" : "none");
    PR_TRY(pr_request_copy(request, &sequence->request));
    sequence->generation = admission->generation;
    sequence->total = total;
    sequence->computed = admission->arrives ? total : admission->computed;
    sequence->waits = admission->arrives;
    sequence->hands_over = admission->hands_over;
    sequence->blocks = admission->blocks;
    memcpy(sequence->token, request->prompt, (size_t)request->prompt_tokens * sizeof(int32_t));
    if (admission->outputs > 0)
        memcpy(
            sequence->token + request->prompt_tokens, admission->output,
            (size_t)admission->outputs * sizeof(int32_t));
    if (admission->blocks > 0)
        memcpy(sequence->block, admission->block, (size_t)admission->blocks * sizeof(int32_t));
    return PR_OK;
}

pr_status pr_sequences_grant(pr_sequences *sequences, const pr_grant *grant)
{
    pr_sequence *sequence = pr_sequences_find(sequences, grant->id);
    if (!sequence)  // it ended by itself before the grant came
        return PR_OK;
    if (sequence->blocks + grant->blocks > sequences->max_blocks)
        return pr_fail(
            PR_ERR_INTERNAL, "request %llu was granted more blocks than its context can hold",
            (unsigned long long)grant->id);
    memcpy(
        sequence->block + sequence->blocks, grant->block, (size_t)grant->blocks * sizeof(int32_t));
    sequence->blocks += grant->blocks;
    return PR_OK;
}
