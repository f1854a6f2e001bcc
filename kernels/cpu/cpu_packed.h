// SPDX-License-Identifier: BSD-3-Clause
// Packed matrices from a store (pr_device.matrix_load): the panels as cpu_matrix.h describes them, whole,
// one after the other. A part is
//
//   rows from one multiple of 16 to another, all slices   one piece: used in place, or read in big pieces
//   some slices                                           a piece of every panel
//   rows from elsewhere                                   lanes moved between two panels each
#ifndef PR_KERNELS_CPU_PACKED_H
#define PR_KERNELS_CPU_PACKED_H

#include "kernels/cpu/cpu_matrix.h"

extern const char pr_cpu_packed_layout[];

size_t pr_cpu_packed_bytes(const pr_packed_shape *shape);
const void *pr_cpu_packed_of(const pr_matrix *matrix);
// Errors: PR_ERR_ARGUMENT (no such part), PR_ERR_RESOURCE, PR_ERR_IO (silent).
pr_status pr_cpu_packed_load(pr_device *device, const pr_packed_source *source, pr_matrix **matrix)
    PR_MUST_CHECK;

#endif
