// SPDX-License-Identifier: BSD-3-Clause
// A run record as CSV: one line per request, and a file of spans beside it.
//
//   id,arrival,n_in,n_out,prefill_group,decode_group,hit_tokens,fetch_tokens,t_prefill_start,t_first,
//   t_join,t_finish,tbt_mean,tbt_tail,tenant,priority,rejected          (one line; seconds, tokens)
//   group,what,begin,end,id                                             (NAME.spans.csv)
// What never happened is an empty field. Columns up to tbt_tail are those of the published reference runs.
#ifndef PR_LAUNCHER_SIMULATE_RUN_CSV_H
#define PR_LAUNCHER_SIMULATE_RUN_CSV_H

#include "launcher/simulate/run_record.h"

// Spans go to the path with ".csv" replaced by ".spans.csv", if the record has room for any.
pr_status pr_run_csv_write(const pr_run_record *record, const char *path) PR_MUST_CHECK;

#endif
