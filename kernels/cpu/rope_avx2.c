// SPDX-License-Identifier: BSD-3-Clause
// rope_store on AVX2.
#include "kernels/cpu/lanes_avx2.h"
#include "kernels/cpu/rope_rows.h"

void pr_rope_store_avx2(
    const pr_cpu_kernels *kernels,
    const pr_rope_store_args *args,
    int32_t token_begin,
    int32_t token_end)
{
    rope_store_tokens(kernels, args, token_begin, token_end);
}
