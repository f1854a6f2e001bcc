// SPDX-License-Identifier: BSD-3-Clause
// What a model directory says a model is: config.json and generation_config.json, checked.
// Families: llama, qwen2, qwen3, qwen3_moe, mixtral (model_type). Facts and sources: docs/models.md.
// Threads: immutable after open.
#ifndef PR_RUNTIME_MODEL_MODEL_H
#define PR_RUNTIME_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

enum { PR_MAX_EOS = 8 };

typedef enum pr_family {
    PR_FAMILY_LLAMA,
    PR_FAMILY_QWEN2,
    PR_FAMILY_QWEN3,
    PR_FAMILY_QWEN3_MOE,
    PR_FAMILY_MIXTRAL,
} pr_family;

typedef enum pr_rope_type {
    PR_ROPE_DEFAULT,
    PR_ROPE_LINEAR,
    PR_ROPE_LLAMA3,
    PR_ROPE_YARN,
} pr_rope_type;

// rope_theta and rope_scaling (old spelling) or rope_parameters (transformers v5), resolved.
typedef struct pr_rope {
    pr_rope_type type;
    double theta;
    double factor;
    double low_freq_factor, high_freq_factor;  // llama3
    double beta_fast, beta_slow;               // yarn
    double attention_factor;                   // multiplies cos and sin; resolved, 1 unless yarn
    int64_t original_positions;
    bool truncate;  // yarn
} pr_rope;

typedef struct pr_model {
    char *path;  // the directory
    pr_family family;
    int32_t hidden;         // H
    int32_t layers;         // L
    int32_t query_heads;    // h
    int32_t kv_heads;       // g
    int32_t head_size;      // d
    int32_t inner;          // I of dense MLPs
    int32_t vocabulary;     // V
    int32_t max_positions;  // context length
    float norm_epsilon;
    bool tied_embeddings;
    bool qkv_bias;     // qwen2, or attention_bias of llama/qwen3
    bool output_bias;  // attention_bias of llama puts one on o_proj too
    bool qk_norm;      // qwen3, qwen3_moe
    pr_rope rope;
    int32_t experts;         // E, 0 for dense models
    int32_t experts_chosen;  // K
    int32_t expert_inner;    // I of one expert
    bool renormalise;        // norm_topk_prob; always for mixtral
    bool *layer_is_moe;      // [L]
    int32_t eos[PR_MAX_EOS];
    int32_t eos_count;
    int32_t bos;  // -1 if none
    // generation_config.json defaults for sampling (vLLM's --generation-config auto).
    double default_temperature;         // 1 if absent
    double default_top_p;               // 1
    int32_t default_top_k;              // 0 = off
    double default_repetition_penalty;  // 1
} pr_model;

// Errors: PR_ERR_NOT_FOUND (no directory or config.json), PR_ERR_FORMAT (not JSON, a field has the
// wrong type or is out of bounds), PR_ERR_UNSUPPORTED (another family, rope type, activation,
// sliding window in use, quantised weights ...; the message names what is supported).
pr_status pr_model_open(const char *path, pr_model **model) PR_MUST_CHECK;
void pr_model_close(pr_model *model);

const char *pr_family_name(pr_family family);

// inv_freq [d/2] as transformers computes it, in double. Source: docs/models.md §rope.
void pr_rope_frequencies(const pr_rope *rope, int32_t head_size, double *inverse_frequency);

#endif
