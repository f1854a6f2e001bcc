// SPDX-License-Identifier: BSD-3-Clause
// Opens a back end of GPUs: polyreme_NAME.so in the folder of the running program, or in ../lib/polyreme from there. What
// it needs of a vendor's libraries is looked for only then, so the program itself needs none.
//
// A back end that is open stays open until the process ends: its kernels and its driver cannot be unloaded safely.
// Threads: any. Errors: PR_ERR_NOT_FOUND where there is no such file, PR_ERR_UNSUPPORTED where it cannot be used here.
#ifndef PR_KERNELS_GPU_GPU_LIBRARY_H
#define PR_KERNELS_GPU_GPU_LIBRARY_H

#include "kernels/gpu/gpu_backend.h"
#include "runtime/base/status.h"

// "cuda", "hip", "emulated" or "emulated64". Without devices it opens, too.
pr_status pr_gpu_library_open(const char *name, const pr_gpu_backend **backend) PR_MUST_CHECK;

// The path of such a file (size_bytes of it) if it is there, else "".
void pr_gpu_library_path(const char *name, char *path, size_t size_bytes);

#endif
