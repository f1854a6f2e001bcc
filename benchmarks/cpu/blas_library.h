// SPDX-License-Identifier: BSD-3-Clause
// The float32 matmuls of OpenBLAS, BLIS and oneDNN, loaded at run time: none is needed to build.
// Threads: one; the libraries have threads of their own. Source: the libraries' C interfaces.
#ifndef PR_BENCHMARKS_CPU_BLAS_LIBRARY_H
#define PR_BENCHMARKS_CPU_BLAS_LIBRARY_H

#include <stdint.h>

typedef struct pr_blas_library pr_blas_library;

typedef struct pr_blas_args {
    int32_t rows, cols, outputs;
    const float *x;       // [rows][cols]
    const float *weight;  // [outputs][cols]
    float *y;             // [rows][outputs]
} pr_blas_args;

struct pr_blas_library {
    const char *name, *package;  // Debian's
    void (*matmul)(const pr_blas_library *library, const pr_blas_args *args);
    const char *file[4];  // shared objects, tried in order, NULL ends
    const char *symbol;
    void *call;  // NULL: not on this machine
};

enum { PR_BLAS_LIBRARIES = 3 };

// Loads what is there, each with so many threads. Once in a process.
pr_blas_library *pr_blas_library_open_all(int32_t threads);  // [PR_BLAS_LIBRARIES], static

#endif
