// SPDX-License-Identifier: BSD-3-Clause
// The operations of operations/*.cu as a table: the same in every back end.
#ifndef PR_KERNELS_GPU_OPERATIONS_TABLE_H
#define PR_KERNELS_GPU_OPERATIONS_TABLE_H

#include "kernels/gpu/gpu_operations.h"

extern "C" const pr_gpu_operations pr_gpu_operations_table;

#endif
