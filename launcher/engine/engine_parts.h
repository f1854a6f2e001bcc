// SPDX-License-Identifier: BSD-3-Clause
// What one rank opens for itself, without the others, from the facts that engine.c has agreed on before:
// each fills its fields of the engine. Private to engine.c, which says in which order.
#ifndef PR_LAUNCHER_ENGINE_PARTS_H
#define PR_LAUNCHER_ENGINE_PARTS_H

#include "launcher/engine/engine.h"

// The model's files, their tokenizer (rank 0) and the device.
pr_status pr_engine_parts_open_model(pr_engine *engine) PR_MUST_CHECK;
// Its place in the layout; its part of the weights, and memory for KV.
pr_status pr_engine_parts_take_place(pr_engine *engine) PR_MUST_CHECK;
pr_status pr_engine_parts_create_transfer(pr_engine *engine) PR_MUST_CHECK;
// Rank 0's bytes of the tokens; on the others room for so many.
pr_status pr_engine_parts_build_token_bytes(pr_engine *engine) PR_MUST_CHECK;
pr_status
pr_engine_parts_room_for_token_bytes(pr_engine *engine, int64_t packed_bytes) PR_MUST_CHECK;
// Rank 0, where it was asked for.
pr_status pr_engine_parts_open_record(pr_engine *engine) PR_MUST_CHECK;
pr_status pr_engine_parts_open_timeline(pr_engine *engine) PR_MUST_CHECK;

#endif
