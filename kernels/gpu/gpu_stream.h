// SPDX-License-Identifier: BSD-3-Clause
// A queue of work on one GPU: what is put in runs in order. A cudaStream_t or hipStream_t behind an opaque name.
#ifndef PR_KERNELS_GPU_GPU_STREAM_H
#define PR_KERNELS_GPU_GPU_STREAM_H

typedef struct pr_gpu_stream pr_gpu_stream;

#endif
