// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/backend/operations_table.h"

// Those that have no file yet are NULL.
#pragma weak pr_gpu_embed
#pragma weak pr_gpu_rmsnorm
#pragma weak pr_gpu_add
#pragma weak pr_gpu_gated
#pragma weak pr_gpu_rope_store
#pragma weak pr_gpu_matmul
#pragma weak pr_gpu_experts
#pragma weak pr_gpu_attention_scratch_bytes
#pragma weak pr_gpu_attention
#pragma weak pr_gpu_topk
#pragma weak pr_gpu_permute_scratch_bytes
#pragma weak pr_gpu_permute
#pragma weak pr_gpu_gather
#pragma weak pr_gpu_combine
#pragma weak pr_gpu_slab_gather
#pragma weak pr_gpu_slab_scatter
#pragma weak pr_gpu_sample_scratch_bytes
#pragma weak pr_gpu_sample
#pragma weak pr_gpu_logprobs

const pr_gpu_operations pr_gpu_operations_table = {
    pr_gpu_embed,
    pr_gpu_rmsnorm,
    pr_gpu_add,
    pr_gpu_gated,
    pr_gpu_rope_store,
    pr_gpu_matmul,
    pr_gpu_experts,
    pr_gpu_attention_scratch_bytes,
    pr_gpu_attention,
    pr_gpu_topk,
    pr_gpu_permute_scratch_bytes,
    pr_gpu_permute,
    pr_gpu_gather,
    pr_gpu_combine,
    pr_gpu_slab_gather,
    pr_gpu_slab_scatter,
    pr_gpu_sample_scratch_bytes,
    pr_gpu_sample,
    pr_gpu_logprobs,
};
