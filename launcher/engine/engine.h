// SPDX-License-Identifier: BSD-3-Clause
// Everything one rank holds, opened in order and agreed on by all ranks at each stage, so that a
// fault on one rank ends all of them with one line and without a hang.
//
//   options -> model -> layout -> weights of this rank's shard -> KV pages -> groups -> worker
//   and on rank 0 also: tokenizer, scheduler, controller (its own thread)
#ifndef PR_LAUNCHER_ENGINE_ENGINE_H
#define PR_LAUNCHER_ENGINE_ENGINE_H

#include "launcher/controller.h"
#include "launcher/engine/device_choice.h"
#include "launcher/leave/run_watch.h"
#include "launcher/options.h"
#include "launcher/placement/thread_choice.h"
#include "launcher/start/load_watch.h"
#include "launcher/start/start_report.h"
#include "runtime/sampling/token_bytes.h"
#include "runtime/text/tokenizer.h"

typedef struct pr_engine {
    const pr_options *options;
    pr_world *world;
    int32_t rank, ranks;
    bool nothing_to_do;
    pr_layout layout;
    pr_model *model;
    pr_tokenizer *tokenizer;  // rank 0 only
    pr_token_bytes *token_bytes;
    char *model_name;  // what requests call it
    int32_t max_model_len;
    int32_t kv_blocks;  // per lane
    pr_dtype kv_dtype;
    pr_start_report start;
    pr_load_watch load_watch;  // rank 0
    pr_quantization quantization;
    pr_scheduler_params scheduler;
    // This rank's place; group_index -1: the dedicated controller.
    int32_t group_index, lane;
    pr_thread_choice threads;         // of this rank
    pr_thread_choice *every_threads;  // [ranks], where lost ranks are replaced; else NULL
    int32_t numa;                     // where they are; -1: in several domains
    pr_weights *weights;
    pr_device_choice device;
    int32_t node_number, node_ranks;  // which of this node's ranks it is
    pr_shard *shard;
    pr_kv_store *store;
    pr_group *group;
    pr_parallel *parallel;
    pr_kv_transfer *transfer;
    pr_control *control, *controller_control;
    pr_run_watch *watch;  // NULL in a world of one rank
    pr_worker *worker;
    pr_end_watch *end;  // rank 0, while a face that has an end runs
    FILE *record;
    pr_timeline *timeline;  // rank 0, or NULL
} pr_engine;

enum { PR_ENGINE_PING_MS = 5000 };

// What the command opens on rank 0 (input, output) before the model is loaded; a fault there ends
// all ranks as one in the stages above does.
typedef struct pr_engine_prepare {
    pr_status (*call)(void *context);
    void *context;
    const bool *nothing_to_do;  // after the call; NULL: never
} pr_engine_prepare;

// Collective over the world. On an error every rank returns one, rank by rank the same, and nothing
// is left open. *engine is NULL where there is nothing to do, on every rank. PR_ERR_INTERRUPTED: a signal
// on any rank; told.
pr_status pr_engine_open(
    const pr_options *options, const pr_engine_prepare *prepare, pr_engine **engine) PR_MUST_CHECK;

// Fills engine->model_name from the options: --served-model-name, or the last part of the path.
pr_status pr_engine_name_model(pr_engine *engine) PR_MUST_CHECK;

// Collective over the group, which there is: the worker, whose plans begin after this one.
pr_status pr_engine_create_worker(pr_engine *engine, uint64_t plan_number) PR_MUST_CHECK;

// Collective: the watchdog, before the first stage.
pr_status pr_engine_watch(pr_engine *engine) PR_MUST_CHECK;
// In a process that replaces a lost rank: has it watched; without an invitation, or if that fails, it is not.
void pr_engine_join_watch(pr_engine *engine, const void *invitation, size_t size_bytes);

// Collective: runs the face on rank 0 (NULL elsewhere) until it is done or interrupted by a signal on any
// rank. *controller (rank 0) stays valid for its counts until close.
pr_status
pr_engine_run(pr_engine *engine, const pr_face *face, pr_controller **controller) PR_MUST_CHECK;

// The signal that ended the run, whichever rank it came to, or 0.
int pr_engine_signal(void);

// Of a process whose engine did not open: the status, or 128 + the signal on the first rank and 0 on others.
int pr_engine_exit_code(pr_status status);

// Collective when status is PR_OK; after an error on any rank, ends the whole job.
void pr_engine_close(pr_engine *engine, pr_controller *controller, pr_status status);

#endif
