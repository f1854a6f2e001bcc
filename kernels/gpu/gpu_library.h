// SPDX-License-Identifier: BSD-3-Clause
// Opens a back end's shared object, which lies beside the program: polyreme_cuda.so and so on. It stays open.
#ifndef PR_KERNELS_GPU_GPU_LIBRARY_H
#define PR_KERNELS_GPU_GPU_LIBRARY_H

#include "kernels/gpu/gpu_backend.h"
#include "runtime/base/status.h"

// name: "cuda", "hip", "emulated", "emulated64". PR_ERR_UNSUPPORTED: it is not there, or of another version.
pr_status pr_gpu_library_open(const char *name, const pr_gpu_backend **backend) PR_MUST_CHECK;

#endif
