// SPDX-License-Identifier: BSD-3-Clause
// The cases of gpu_bench: each function takes its memory, times its launches, writes its rows and gives the memory
// back. Names of rows carry the shape. Bytes are the least an operation can move: inputs read once, outputs written once.
#ifndef PR_BENCHMARKS_GPU_CASES_GPU_CASES_H
#define PR_BENCHMARKS_GPU_CASES_GPU_CASES_H

#include "benchmarks/gpu/gpu_meter.h"

pr_status pr_launch_cases_copy(pr_gpu_meter *meter) PR_MUST_CHECK;  // first: the limit of others
pr_status pr_launch_cases_run(pr_gpu_meter *meter) PR_MUST_CHECK;
pr_status pr_row_cases_run(pr_gpu_meter *meter) PR_MUST_CHECK;  // rows one by one
pr_status
pr_routing_cases_run(pr_gpu_meter *meter) PR_MUST_CHECK;         // topk, permute, gather, combine
pr_status pr_page_cases_run(pr_gpu_meter *meter) PR_MUST_CHECK;  // KV pages and slabs
pr_status pr_attention_cases_run(pr_gpu_meter *meter) PR_MUST_CHECK;
pr_status pr_matrix_cases_run(pr_gpu_meter *meter) PR_MUST_CHECK;  // matmul and experts
pr_status pr_exchange_cases_run(pr_gpu_meter *meter) PR_MUST_CHECK;
pr_status pr_token_cases_run(pr_gpu_meter *meter) PR_MUST_CHECK;  // sample, logprobs

#endif
