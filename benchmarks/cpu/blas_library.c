// SPDX-License-Identifier: BSD-3-Clause
#include "benchmarks/cpu/blas_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };  // cblas.h

typedef void cblas_sgemm_call(
    int,
    int,
    int,
    int,
    int,
    int,
    float,
    const float *,
    int,
    const float *,
    int,
    float,
    float *,
    int);
typedef int dnnl_sgemm_call(
    char,
    char,
    int64_t,
    int64_t,
    int64_t,
    float,
    const float *,
    int64_t,
    const float *,
    int64_t,
    float,
    float *,
    int64_t);

static void call_cblas(const pr_blas_library *library, const pr_blas_args *a)
{
    cblas_sgemm_call *call;
    memcpy(&call, &library->call, sizeof call);
    call(
        ROW_MAJOR, PLAIN, TRANSPOSED, a->rows, a->outputs, a->cols, 1, a->x, a->cols, a->weight,
        a->cols, 0, a->y, a->outputs);
}

static void call_dnnl(const pr_blas_library *library, const pr_blas_args *a)
{
    dnnl_sgemm_call *call;
    memcpy(&call, &library->call, sizeof call);
    call(
        'N', 'T', a->rows, a->outputs, a->cols, 1, a->x, a->cols, a->weight, a->cols, 0, a->y,
        a->outputs);
}

static pr_blas_library libraries[PR_BLAS_LIBRARIES] = {
    {.name = "OpenBLAS",
     .package = "libopenblas-dev",
     .matmul = call_cblas,
     .file = {"libopenblas.so.0", "libopenblas.so"},
     .symbol = "cblas_sgemm"},
    {.name = "BLIS",
     .package = "libblis-dev",
     .matmul = call_cblas,
     .file = {"libblis.so.4", "libblis.so.3", "libblis.so"},
     .symbol = "cblas_sgemm"},
    {.name = "oneDNN",
     .package = "libdnnl-dev",
     .matmul = call_dnnl,
     .file = {"libdnnl.so.3", "libdnnl.so.2", "libdnnl.so"},
     .symbol = "dnnl_sgemm"},
};

pr_blas_library *pr_blas_library_open_all(int32_t threads)
{
    char count[16];
    snprintf(count, sizeof count, "%d", threads);
    setenv("OPENBLAS_NUM_THREADS", count, 1);
    setenv("BLIS_NUM_THREADS", count, 1);
    setenv("OMP_NUM_THREADS", count, 1);
    for (int i = 0; i < PR_BLAS_LIBRARIES; i++) {
        void *object = NULL;
        for (int j = 0; libraries[i].file[j] && !object; j++)
            object = dlopen(libraries[i].file[j], RTLD_NOW | RTLD_LOCAL);
        if (object)
            libraries[i].call = dlsym(object, libraries[i].symbol);
    }
    return libraries;
}
