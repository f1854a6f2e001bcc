// SPDX-License-Identifier: BSD-3-Clause
// What a run did when, as a Chrome trace (JSON) for ui.perfetto.dev or chrome://tracing:
//
//   process = first rank of a group   steps of each lane as slices, KV use as a counter
//   process "requests"                each request as nested spans: request > queued, prefill, decode;
//                                     instants where its KV moved or was lost; the queue as a counter
//
// Times are the controller's: a step ends when its report is there. The file is an array that grows by whole
// events, so it can be read also when the run was killed; after most_bytes it is ended, with one warning.
// Memory: bounded: 64 KiB of text and a table of the requests under way; who finds no room in it is left out.
// Cost: some hundred ns an event, a write each 64 KiB or second. Threads: one, the controller's.
// Source: "Trace Event Format" (the Chromium project's document of that name).
#ifndef PR_LAUNCHER_OBSERVE_TIMELINE_H
#define PR_LAUNCHER_OBSERVE_TIMELINE_H

#include "launcher/serve/snapshot.h"

typedef struct pr_timeline pr_timeline;

typedef struct pr_timeline_params {
    const char *path;
    const pr_layout *layout;  // borrowed
    int64_t most_bytes;
    int64_t begin_ns;  // is 0 in the file
} pr_timeline_params;

pr_status pr_timeline_open(const pr_timeline_params *params, pr_timeline **timeline) PR_MUST_CHECK;
void pr_timeline_close(pr_timeline *timeline, int64_t now_ns);  // NULL: no effect

void pr_timeline_arrived(pr_timeline *timeline, int64_t now_ns, const pr_request *request);
void pr_timeline_planned(pr_timeline *timeline, int64_t now_ns, const pr_plan *plan);
void pr_timeline_reported(pr_timeline *timeline, int64_t now_ns, const pr_report *report);
void pr_timeline_token(pr_timeline *timeline, int64_t now_ns, const pr_token_report *token);
// Without a last token: "cancelled", "rejected".
void pr_timeline_ended(pr_timeline *timeline, int64_t now_ns, uint64_t id, const char *why);
void pr_timeline_sample(pr_timeline *timeline, const pr_snapshot *snapshot);

#endif
