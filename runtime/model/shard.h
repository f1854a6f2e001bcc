// SPDX-License-Identifier: BSD-3-Clause
// One rank's part of the weights, packed for its device, and the arithmetic of who holds what.
//
//   cut along rows (columns of the product):  q, k, v (by head), gate, up (by I), lm_head (by V)
//   cut along columns (K of the product):     o_proj, dense down_proj: always PR_SLICES slices,
//                                             tp rank r computes slices [8r/tp, 8(r+1)/tp)
//   whole on one rank of the group:           experts [E*r/R, E*(r+1)/R)
//   on every rank:                            norms, MoE gate, embedding (mapped, rows read on use)
//
// Quantisation is for the matrices: lm_head is int8 where the others are int4, and what decides between
// experts (the MoE gate), the norms, the biases and the embedding stay as stored.
#ifndef PR_RUNTIME_MODEL_SHARD_H
#define PR_RUNTIME_MODEL_SHARD_H

#include <stdatomic.h>

#include "runtime/device.h"
#include "runtime/model/model.h"
#include "runtime/model/weights_file.h"

// Where a rank stands in its group.
typedef struct pr_place {
    int32_t tp, tp_rank;
    int32_t ranks, rank;  // of the group
} pr_place;

typedef struct pr_layer_weights {
    float *attention_norm;            // [H]
    float *mlp_norm;                  // [H]
    pr_matrix *q, *k, *v;             // [h*d/tp][H], [g*d/tp][H] x 2
    pr_matrix *o;                     // [H][h*d/tp]
    float *q_bias, *k_bias, *v_bias;  // this rank's rows, or NULL
    float *o_bias;                    // [H], or NULL; added once, after the reduce
    float *q_norm, *k_norm;           // [d], or NULL
    pr_matrix *gate, *up, *down;      // dense: [I/tp][H] x 2, [H][I/tp]; NULL in MoE layers
    pr_matrix *expert_gate;           // MoE: [E][H]
    int32_t experts;                  // local
    pr_matrix **expert_gate_proj;     // [local]: [I][H]
    pr_matrix **expert_up_proj;       // [local]: [I][H]
    pr_matrix **expert_down_proj;     // [local]: [H][I]
    pr_matrix_stack *gate_stack, *up_stack, *down_stack;  // of the experts; NULL if they need none
} pr_layer_weights;

typedef struct pr_shard {
    pr_device *device;
    pr_place place;
    const void *embedding;  // [V][H], of the device's table_create
    pr_dtype embedding_dtype;
    pr_matrix *head;    // lm_head rows [V*r/tp, V*(r+1)/tp)
    float *final_norm;  // [H]
    int32_t layers;
    pr_layer_weights *layer;      // [L]
    int64_t read_bytes;           // bytes of the files that loading touched (without the embedding)
    int64_t packed_bytes;         // that the matrices take on the device
    struct pr_read_ahead *ahead;  // of weights used in place: has the system fetch them; or NULL
} pr_shard;

// Whether the model can be cut this way. Errors name the rule and the nearest tp that fits:
// tp in {1,2,4,8}; h, g, I and the cut columns divisible by tp; ranks a multiple of tp.
pr_status pr_shard_check(const pr_model *model, const pr_place *place) PR_MUST_CHECK;

// Bytes of the files that pr_shard_load will touch, computed from the config alone with all
// weights in `dtype` (what `plan` prints; equal to read_bytes for a checkpoint of one dtype).
int64_t pr_shard_predict_bytes(const pr_model *model, const pr_place *place, pr_dtype dtype);

// Of lm_head where the other matrices have `quantization`.
pr_quantization pr_shard_head_quantization(pr_quantization quantization);

typedef struct pr_shard_params {
    const pr_model *model;
    const pr_weights *weights;
    pr_place place;
    pr_quantization quantization;  // of weights as stored; converted ones keep theirs
    pr_device *device;
    pr_load_mode load;                  // 0: PR_LOAD_AUTO
    atomic_int_fast64_t *loaded_bytes;  // grows meanwhile, for who watches; or NULL
    const atomic_int *stop;  // not 0: loading ends with PR_ERR_INTERRUPTED, untold; or NULL
} pr_shard_params;

// Loads and packs. Checks the existence, shape and dtype of every tensor this rank needs first.
// The weights file must stay open as long as the shard (the embedding stays mapped).
pr_status pr_shard_load(const pr_shard_params *params, pr_shard **shard) PR_MUST_CHECK;
// One without any weights, to walk with (shard_walk.h).
pr_status pr_shard_make(const pr_shard_params *params, pr_shard **shard) PR_MUST_CHECK;
void pr_shard_unload(pr_shard *shard);

#endif
