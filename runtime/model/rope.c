// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/rope.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/elementary.h"
#include "runtime/base/log.h"

static const double two_pi = 6.283185307179586476925286766559;

// Bounds that keep every later expression finite.
static const double max_factor = 1e6, max_theta = 1e15;

static pr_status read_type(const pr_config *scaling, pr_rope_type *type)
{
    static const char *const names[] = {"default", "linear", "llama3", "yarn"};
    const char *name = names[0];
    PR_TRY(pr_config_string(scaling, "type", &name));
    PR_TRY(pr_config_string(scaling, "rope_type", &name));
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, names[i]) == 0) {
            *type = (pr_rope_type)i;
            return PR_OK;
        }
    }
    return pr_fail(
        PR_ERR_UNSUPPORTED,
        "%s: rope type '%s' is not supported: default, linear, llama3 and yarn are", scaling->path,
        name);
}

// The part of m(factor, scale) = 0.1 scale ln factor + 1 of the YaRN paper's attention factor.
static double attention_scale(double factor, double scale)
{
    return factor <= 1 ? 1 : 0.1 * scale * pr_log_f64(factor) + 1;
}

static pr_status read_yarn(const pr_config *scaling, int32_t max_positions, pr_rope *rope)
{
    double mscale = 0, mscale_all_dim = 0;
    if (!pr_config_has(scaling, "factor"))
        rope->factor = (double)max_positions / (double)rope->original_positions;
    PR_TRY(pr_config_number(scaling, "beta_fast", 1e-3, max_factor, &rope->beta_fast));
    PR_TRY(pr_config_number(scaling, "beta_slow", 1e-3, max_factor, &rope->beta_slow));
    PR_TRY(pr_config_number(scaling, "mscale", 0, 100, &mscale));
    PR_TRY(pr_config_number(scaling, "mscale_all_dim", 0, 100, &mscale_all_dim));
    PR_TRY(pr_config_bool(scaling, "truncate", &rope->truncate));
    rope->attention_factor = attention_scale(rope->factor, 1);
    if (mscale > 0 && mscale_all_dim > 0) {
        rope->attention_factor =
            attention_scale(rope->factor, mscale) / attention_scale(rope->factor, mscale_all_dim);
    }
    return pr_config_number(scaling, "attention_factor", 1e-3, 1e3, &rope->attention_factor);
}

static pr_status read_llama3(const pr_config *scaling, pr_rope *rope)
{
    PR_TRY(pr_config_require(scaling, "low_freq_factor"));
    PR_TRY(pr_config_require(scaling, "high_freq_factor"));
    PR_TRY(pr_config_number(scaling, "low_freq_factor", 1e-3, max_factor, &rope->low_freq_factor));
    PR_TRY(
        pr_config_number(scaling, "high_freq_factor", 1e-3, max_factor, &rope->high_freq_factor));
    if (rope->high_freq_factor <= rope->low_freq_factor) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: high_freq_factor %g must be above low_freq_factor %g",
            scaling->path, rope->high_freq_factor, rope->low_freq_factor);
    }
    return PR_OK;
}

static pr_status refuse_partial(const pr_config *config)
{
    double partial = 1;
    PR_TRY(pr_config_number(config, "partial_rotary_factor", 0, 1, &partial));
    if (partial < 1) {
        return pr_fail(
            PR_ERR_UNSUPPORTED, "%s: partial_rotary_factor %g is not supported, only 1 is",
            config->path, partial);
    }
    return PR_OK;
}

// Models that mix kinds of layers keep one object per kind.
static pr_status refuse_per_layer(const pr_config *scaling)
{
    const char *key;
    json_t *value;
    json_object_foreach(scaling->object, key, value)
    {
        if (json_is_object(value)) {
            return pr_fail(
                PR_ERR_UNSUPPORTED,
                "%s: one set of RoPE parameters per layer type (%s) is not supported",
                scaling->path, key);
        }
    }
    return PR_OK;
}

static pr_status read_scaling(
    const pr_config *config, const pr_config *scaling, int32_t max_positions, pr_rope *rope)
{
    PR_TRY(refuse_per_layer(scaling));
    PR_TRY(refuse_partial(scaling));
    PR_TRY(read_type(scaling, &rope->type));
    PR_TRY(pr_config_number(scaling, "rope_theta", 1.001, max_theta, &rope->theta));
    if (rope->type == PR_ROPE_DEFAULT)
        return PR_OK;
    if (rope->type != PR_ROPE_YARN)
        PR_TRY(pr_config_require(scaling, "factor"));
    PR_TRY(pr_config_number(scaling, "factor", 1e-3, max_factor, &rope->factor));
    // A value beside rope_scaling goes before the one inside, as in transformers.
    const pr_config *holder =
        pr_config_has(config, "original_max_position_embeddings") ? config : scaling;
    int32_t original = max_positions;
    PR_TRY(pr_config_integer(holder, "original_max_position_embeddings", 1, INT32_MAX, &original));
    rope->original_positions = original;
    if (rope->type == PR_ROPE_YARN)
        return read_yarn(scaling, max_positions, rope);
    return rope->type == PR_ROPE_LLAMA3 ? read_llama3(scaling, rope) : PR_OK;
}

pr_status
pr_rope_read(const pr_config *config, double default_theta, int32_t max_positions, pr_rope *rope)
{
    *rope = (pr_rope){
        .type = PR_ROPE_DEFAULT,
        .theta = default_theta,
        .factor = 1,
        .beta_fast = 32,
        .beta_slow = 1,
        .attention_factor = 1,
        .original_positions = max_positions,
        .truncate = true,
    };
    PR_TRY(refuse_partial(config));
    PR_TRY(pr_config_number(config, "rope_theta", 1.001, max_theta, &rope->theta));
    const char *key = pr_config_has(config, "rope_scaling") ? "rope_scaling" : "rope_parameters";
    if (!pr_config_has(config, key))
        return PR_OK;
    char path[1024];
    snprintf(path, sizeof path, "%s: %s", config->path, key);
    const pr_config scaling = {path, json_object_get(config->object, key)};
    if (!json_is_object(scaling.object))
        return pr_fail(PR_ERR_FORMAT, "%s must be an object", path);
    return read_scaling(config, &scaling, max_positions, rope);
}

// ---- frequencies -----------------------------------------------------------------------------

// The (fractional) index of the pair that turns `rotations` times in the original length.
static double yarn_pair(const pr_rope *rope, int32_t head_size, double rotations)
{
    double turns = (double)rope->original_positions / (rotations * two_pi);
    return head_size * pr_log_f64(turns) / (2 * pr_log_f64(rope->theta));
}

static void yarn_range(const pr_rope *rope, int32_t head_size, double *low, double *high)
{
    *low = yarn_pair(rope, head_size, rope->beta_fast);
    *high = yarn_pair(rope, head_size, rope->beta_slow);
    if (rope->truncate) {
        *low = floor(*low);
        *high = ceil(*high);
    }
    *low = fmax(*low, 0);
    *high = fmin(*high, head_size - 1);
    if (*low == *high)
        *high += 0.001;  // the ramp below divides by their difference
}

static double yarn_frequency(const pr_rope *rope, double plain, double low, double high, int32_t i)
{
    double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
    return plain / rope->factor * ramp + plain * (1 - ramp);
}

static double llama3_frequency(const pr_rope *rope, double plain)
{
    double turns = (double)rope->original_positions * plain / two_pi;  // in the original length
    if (turns < rope->low_freq_factor)
        return plain / rope->factor;
    if (turns > rope->high_freq_factor)
        return plain;
    double smooth =
        (turns - rope->low_freq_factor) / (rope->high_freq_factor - rope->low_freq_factor);
    return (1 - smooth) * plain / rope->factor + smooth * plain;
}

void pr_rope_frequencies(const pr_rope *rope, int32_t head_size, double *inverse_frequency)
{
    double low = 0, high = 1, log_theta = pr_log_f64(rope->theta);
    if (rope->type == PR_ROPE_YARN)
        yarn_range(rope, head_size, &low, &high);
    for (int32_t i = 0; i < head_size / 2; i++) {
        double plain = pr_exp_f64(-2.0 * i / head_size * log_theta);
        switch (rope->type) {
        case PR_ROPE_DEFAULT:
            inverse_frequency[i] = plain;
            break;
        case PR_ROPE_LINEAR:
            inverse_frequency[i] = plain / rope->factor;
            break;
        case PR_ROPE_LLAMA3:
            inverse_frequency[i] = llama3_frequency(rope, plain);
            break;
        case PR_ROPE_YARN:
            inverse_frequency[i] = yarn_frequency(rope, plain, low, high, i);
            break;
        }
    }
}
