// SPDX-License-Identifier: BSD-3-Clause
// Rotary embedding parameters out of config.json, in both spellings: rope_theta and rope_scaling,
// or rope_parameters (transformers v5) with everything inside. The frequencies themselves are
// pr_rope_frequencies of model.h. Facts: docs/models.md §rope.
#ifndef PR_RUNTIME_MODEL_ROPE_H
#define PR_RUNTIME_MODEL_ROPE_H

#include "runtime/model/config_field.h"
#include "runtime/model/model.h"

// default_theta is the family's; max_positions stands in for a missing original length.
pr_status
pr_rope_read(const pr_config *config, double default_theta, int32_t max_positions, pr_rope *rope)
    PR_MUST_CHECK;

#endif
