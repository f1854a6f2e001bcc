// SPDX-License-Identifier: BSD-3-Clause
// Which ranks form which groups: from flags where given, chosen otherwise, always with a reason.
//
//   flag grammar   PIECE[,PIECE...]   PIECE = NxR[:tp=T]   N groups of R ranks with tp T
//   chosen         dense model: groups of tp ranks; mixture of experts: one group of all ranks;
//                  tp = the smallest that the model can be cut by and that fits the memory
//
// Pure: the same facts give the same layout on every rank.
#ifndef PR_LAUNCHER_ENGINE_LAYOUT_CHOICE_H
#define PR_LAUNCHER_ENGINE_LAYOUT_CHOICE_H

#include <stddef.h>

#include "launcher/engine/memory_budget.h"
#include "runtime/batch/layout.h"

enum { PR_LAYOUT_TEXT_BYTES = 1024 };

// *why: one line per decision, each ended by a newline. Errors: PR_ERR_ARGUMENT (flags that do not
// fit the ranks, the grammar or the model; the message says what fits).
pr_status pr_layout_choose(
    const pr_memory_facts *facts, int32_t ranks, pr_layout *layout, char why[PR_LAYOUT_TEXT_BYTES])
    PR_MUST_CHECK;

// The flags that give this layout: "--prefill 1x2:tp=2 --decode 1x4".
void pr_layout_describe(const pr_layout *layout, char text[PR_LAYOUT_TEXT_BYTES]);

// "rank 0", "ranks 1 to 3".
void pr_layout_ranks_text(const pr_group_layout *group, char text[32]);

// "rank 3 (decode group 1)"; "rank 3" without a layout.
enum { PR_LAYOUT_RANK_BYTES = 64 };
void pr_layout_rank_text(const pr_layout *layout, int32_t rank, char text[PR_LAYOUT_RANK_BYTES]);

#endif
