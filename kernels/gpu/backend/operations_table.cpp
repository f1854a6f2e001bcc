// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/backend/operations_table.h"

// clang would make a constant the device's, too, which has no host functions.
#if !defined(__HIP_DEVICE_COMPILE__)
const pr_gpu_operations pr_gpu_operations_table = {
    .embed = pr_gpu_embed,
    .rmsnorm = pr_gpu_rmsnorm,
    .add = pr_gpu_add,
    .gated = pr_gpu_gated,
    .rope_store = pr_gpu_rope_store,
    .matmul_scratch_bytes = pr_gpu_matmul_scratch_bytes,
    .matmul = pr_gpu_matmul,
    .experts_scratch_bytes = pr_gpu_experts_scratch_bytes,
    .experts = pr_gpu_experts,
    .attention_scratch_bytes = pr_gpu_attention_scratch_bytes,
    .attention = pr_gpu_attention,
    .topk = pr_gpu_topk,
    .permute_scratch_bytes = pr_gpu_permute_scratch_bytes,
    .permute = pr_gpu_permute,
    .gather = pr_gpu_gather,
    .combine = pr_gpu_combine,
    .slab_gather = pr_gpu_slab_gather,
    .slab_scatter = pr_gpu_slab_scatter,
    .sample_scratch_bytes = pr_gpu_sample_scratch_bytes,
    .sample = pr_gpu_sample,
    .logprobs = pr_gpu_logprobs,
    .exchange_dispatch_send = pr_gpu_exchange_dispatch_send,
    .exchange_dispatch_receive = pr_gpu_exchange_dispatch_receive,
    .exchange_combine_send = pr_gpu_exchange_combine_send,
    .exchange_combine_receive = pr_gpu_exchange_combine_receive,
    .exchange_reduce_send = pr_gpu_exchange_reduce_send,
    .exchange_reduce_receive = pr_gpu_exchange_reduce_receive,
};
#endif
