// SPDX-License-Identifier: BSD-3-Clause
// Matrix products of one warp on 16 x 16 tiles, bfloat16 in, float32 sums: what tensor cores do, behind names that do not
// say whose. Every lane of the warp takes part in every call.
//
//   gpu_tile_a  a;  gpu_tile_load_a(a, from, stride)       16 rows x 16 of k, row-major: A[r][k] = from[r * stride + k]
//   gpu_tile_b  b;  gpu_tile_load_b(b, from, stride)       16 columns x 16 of k:         B[k][c] = from[c * stride + k]
//                   gpu_tile_load_b_across(b, from, stride)  the same, k down:           B[k][c] = from[k * stride + c]
//   row[GPU_TILE_A_ROWS]: row[i] is where row gpu_tile_a_row(i) of A begins, in any memory
//                   gpu_tile_load_rows(a, row, k)          A[r][j] = row r's [k + j], bfloat16
//   gpu_tile_floats f;                                     what will be an A, in float32:
//                   gpu_tile_load_floats(f, row, k)        row r's [k + j]
//                   gpu_tile_load_floats_part(f, row, k, depth)  the same, 0 from j = depth on: nothing is read there
//                   gpu_tile_round(a, f)                   A = bfloat16(f)
//   gpu_tile_sum c; c.value[i] = 0                         16 x 16, GPU_TILE_VALUES of them in each lane
//                   gpu_tile_row(i), gpu_tile_column(i)    where value i of this lane stands
//   gpu_tile_multiply(c, a, b)                             c += A B
//   gpu_tile_a_of_sum(a, c)                                A[r][k] = bfloat16(c[r][k]), without memory where the
//                                                          layouts allow it
//
// gpu_tile_load_a, _b and _b_across read shared memory only: there is an instruction for it. Their rows, and those of
// load_rows, begin at multiples of 16 bytes (stride a multiple of 8 elements); a stride of 8 more than a multiple of 16
// has no conflicts of banks. Rows of load_floats begin at multiples of 8 bytes, of
// load_floats_part anywhere.
// Numbers: gpu_tile_multiply adds 16 products to each sum in an order that the instruction fixes: the same for every
// row, column and lane. So a sum depends on its row of A, its column of B and the sequence of tiles, on nothing else;
// tests/kernel/test_gpu_matmul shows it. The emulation adds by fma, k ascending.
//   CUDA sm_80+    two mma.sync.m16n8k16 (columns 0-7, 8-15)      PTX ISA, "Matrix fragments for mma.m16n8k16"
//   HIP gfx90a+    one v_mfma_f32_16x16x16bf16_1k                 AMD matrix instruction calculator
#ifndef PR_GPU_LANGUAGE_TILE_CUH
#define PR_GPU_LANGUAGE_TILE_CUH

#include "kernels/gpu/language/gpu.cuh"

enum { GPU_TILE = 16, GPU_TILE_VALUES = GPU_TILE * GPU_TILE / GPU_WARP };

struct gpu_tile_sum {
    float value[GPU_TILE_VALUES];
};

#if defined(PR_GPU_EMULATED)
#include "kernels/gpu/language/tile_emulated.h"
#elif defined(__HIPCC__) || defined(__HIP__)
#include "kernels/gpu/language/tile_hip.cuh"
#else
#include "kernels/gpu/language/tile_cuda.cuh"
#endif

#endif
