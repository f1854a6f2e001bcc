// SPDX-License-Identifier: BSD-3-Clause
// silu(gate) * up, operation by operation as pr_silu: for gated.cu, and for products that end with it.
#ifndef PR_GPU_MATRIX_GATED_CUH
#define PR_GPU_MATRIX_GATED_CUH

#include "kernels/gpu/language/gpu.cuh"

GPU_FUNCTION float gated_value(float gate, float up) { return gate / (1.0f + gpu_exp(-gate)) * up; }

#endif
