// SPDX-License-Identifier: BSD-3-Clause
// Writes the events and decisions of a scheduler as text, one line each; record_reader.h reads them.
//
//   polyreme-events 2 <parameters> <layout>          the first line
//   dispatch <policy> <fair> <jobs> <tenants> <3 numbers of the queue and 9 of the cost model> <chunk> <batch>
//          <capacity> <queued tokens> <ttl> <shed> <suffix>    the second; numbers as C's %a
//          [<period> <TPOT target> <rotate>]       where groups may change their roles
//   advance <ns>                                     the time of the events that follow
//   submit <id> <priority> <salt> <tenant> <ttft_target_ms> <tpot_target_ms> <sibling> <choice>
//          <max_tokens> <n> <n prompt tokens> [<n> <n outputs of an earlier run>]
//   report <plan> <step> <group> <lane> <finished>
//          <step_ns> <prefill_rows> <decode_sequences> <prefill_pairs> <decode_context>
//          <tokens> {<id> <generation> <index> <token> <finish>}
//          <chunks> {<id> <generation> <computed>} <arrivals> {<id> <generation> <intact>}
//   cancel <id>
//   end <ns> <at end: 0 leave, 1 reject>            of the run's time; 0: none
//   lost <group> | back <group> | pause <0 or 1>
//   plan <number> <group> <max_steps> <chunks> <admissions> {<id> <lane> <cached> <arrives>}
//          <handovers> {<id> <from group> <to group> <blocks>}
//                                                    a decision, for the reader: a replay makes it anew
//   role <group> <role>                              the same: the group has changed its role
//   next <calls> <decisions>                         calls of next since the event before; hash, 32 bits
//   hash <decisions>                                 the last line: what a replay must come to
//
// Sampling parameters and prompts' meaning are not in it, only what decisions and times depend on.
#ifndef PR_SCHEDULER_RECORD_H
#define PR_SCHEDULER_RECORD_H

#include "scheduler/record/record_reader.h"
#include "scheduler/scheduler_state.h"

// All: no effect while the scheduler does not record.
void pr_record_begin(pr_scheduler *scheduler);
void pr_record_submit(pr_scheduler *scheduler, const pr_request *request);
void pr_record_report(pr_scheduler *scheduler, const pr_report *report);
void pr_record_cancel(pr_scheduler *scheduler, uint64_t id);
void pr_record_group(pr_scheduler *scheduler, pr_record_kind kind, int32_t value);
void pr_record_advance(pr_scheduler *scheduler, int64_t now_ns);
void pr_record_end_time(pr_scheduler *scheduler, int64_t end_ns, pr_at_end at_end);
void pr_record_next(pr_scheduler *scheduler);
void pr_record_plan(pr_scheduler *scheduler, const pr_plan *plan);
void pr_record_role(pr_scheduler *scheduler, int32_t group, pr_role role);
void pr_record_end(pr_scheduler *scheduler);

#endif
