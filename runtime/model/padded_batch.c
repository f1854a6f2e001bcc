// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/padded_batch.h"

#include <assert.h>
#include <stdlib.h>

#include "runtime/base/log.h"

struct pr_padded_batch {
    pr_forward_batch batch;
    int32_t max_rows;
    int32_t *token, *position, *output_row;  // [max_rows]
    pr_segment *segment;                     // [max_rows]
};

pr_status pr_padded_batch_create(int32_t max_rows, pr_padded_batch **padded)
{
    pr_padded_batch *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for steps of %d rows", max_rows);
    size_t rows = (size_t)max_rows;
    made->max_rows = max_rows;
    made->token = calloc(rows, sizeof *made->token);
    made->position = calloc(rows, sizeof *made->position);
    made->output_row = calloc(rows, sizeof *made->output_row);
    made->segment = calloc(rows, sizeof *made->segment);
    if (!made->token || !made->position || !made->output_row || !made->segment) {
        pr_padded_batch_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory left for steps of %d rows", max_rows);
    }
    *padded = made;
    return PR_OK;
}

void pr_padded_batch_destroy(pr_padded_batch *padded)
{
    if (!padded)
        return;
    free(padded->token);
    free(padded->position);
    free(padded->output_row);
    free(padded->segment);
    free(padded);
}

bool pr_padded_batch_can(const pr_forward_batch *batch)
{
    return batch->tokens > 0 && batch->segments == batch->tokens && batch->outputs == batch->tokens;
}

const pr_forward_batch *
pr_padded_batch_fill(pr_padded_batch *padded, const pr_forward_batch *batch, int32_t rows)
{
    assert(pr_padded_batch_can(batch) && rows >= batch->tokens && rows <= padded->max_rows);
    for (int32_t t = 0; t < rows; t++) {
        int32_t from = t < batch->tokens ? t : 0;
        padded->token[t] = batch->token[from];
        padded->position[t] = batch->position[from];
        padded->output_row[t] = t;
        padded->segment[t] = batch->segment[from];
        padded->segment[t].first_row = t;
    }
    padded->batch = (pr_forward_batch){
        .tokens = rows,
        .token = padded->token,
        .position = padded->position,
        .segments = rows,
        .segment = padded->segment,
        .outputs = rows,
        .output_row = padded->output_row,
        .layer_done = batch->layer_done,
        .context = batch->context,
    };
    return &padded->batch;
}
