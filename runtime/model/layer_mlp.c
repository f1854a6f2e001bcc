// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/layer_mlp.h"

#include <stdlib.h>

#include "runtime/base/log.h"

struct pr_layer_mlp {
    pr_device *device;
    const pr_shard *shard;
    int32_t inner;  // of this rank
    float *gate;    // [T][I]
    float *up;      // [T][I]
};

pr_status pr_layer_mlp_create(
    const pr_model *model,
    const pr_shard *shard,
    const pr_forward_limits *limits,
    pr_layer_mlp **mlp)
{
    pr_layer_mlp *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for the MLP");
    made->device = shard->device;
    made->shard = shard;
    made->inner = model->inner / shard->place.tp;
    size_t size_bytes = (size_t)limits->max_tokens * (size_t)made->inner * sizeof(float);
    void *gate = NULL, *up = NULL;
    pr_status status = made->device->memory_take(made->device, size_bytes, &gate);
    if (status == PR_OK)
        status = made->device->memory_take(made->device, size_bytes, &up);
    int32_t columns = made->inner > model->hidden ? made->inner : model->hidden;
    if (status == PR_OK)
        status = made->device->reserve(made->device, limits->max_tokens, columns, 0);
    made->gate = gate;
    made->up = up;
    if (status != PR_OK) {
        pr_layer_mlp_destroy(made);
        return status;
    }
    *mlp = made;
    return PR_OK;
}

void pr_layer_mlp_destroy(pr_layer_mlp *mlp)
{
    if (mlp == NULL)
        return;
    mlp->device->memory_release(mlp->device, mlp->gate);
    mlp->device->memory_release(mlp->device, mlp->up);
    free(mlp);
}

void pr_layer_mlp_run(pr_layer_mlp *mlp, int32_t layer, int32_t tokens, const float *x, float *y)
{
    pr_device *device = mlp->device;
    const pr_layer_weights *weights = &mlp->shard->layer[layer];
    pr_gated_args gated = {
        .rows = tokens,
        .x = x,
        .gate = weights->gate,
        .up = weights->up,
        .scratch = mlp->up,
        .y = mlp->gate,
    };
    pr_matmul_args down = {.rows = tokens, .x = mlp->gate, .matrix = weights->down, .y = y};
    device->gated(device, &gated);
    device->matmul(device, &down, 1);
}
