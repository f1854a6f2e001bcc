// SPDX-License-Identifier: BSD-3-Clause
// A run record as HDF5, with what is needed to repeat the run.
//
//   /          attributes: the entries of `about` (text, integer, real), one by one
//   /requests  [requests] compound; the names of run_csv.h up to priority. NAN: never happened
//   /rejected  [rejected] compound {id, reason}
//   /spans     [spans] compound {group, what, begin, end, id}; `what` is the letter's code
//   /busy      [prefill + decode groups] seconds
// Built without HDF5, writing fails with a line that says so.
#ifndef PR_LAUNCHER_SIMULATE_RUN_HDF5_H
#define PR_LAUNCHER_SIMULATE_RUN_HDF5_H

#include <jansson.h>

#include "launcher/simulate/run_record.h"

pr_status
pr_run_hdf5_write(const pr_run_record *record, json_t *about, const char *path) PR_MUST_CHECK;

#endif
