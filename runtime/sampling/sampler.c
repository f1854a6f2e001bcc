// SPDX-License-Identifier: BSD-3-Clause
// Candidates are ranked by (logit descending, token ascending), a total order, so ties have one
// answer. The ranking is lazy: a heap is built over all candidates in O(V) and only as many are
// popped as top-k, top-p or the draw look at, usually a few.
#include "runtime/sampling/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/elementary.h"
#include "runtime/base/log.h"

typedef struct candidate {
    float logit;
    int32_t token;
} candidate;

struct pr_sampler {
    int32_t vocabulary;
    float *raw;         // [V] the logits as given, for logprobs
    int32_t *count;     // [V] how often in the output; all 0 between draws
    bool *seen;         // [V] penalised already; all false between draws
    candidate *ranked;  // [V] heap in [0, heap), then the popped, the first popped last
    double *weight;     // [V] of the popped, in order of rank
    int32_t candidates, heap;
    float largest;       // of the candidates' logits
    double temperature;  // of the draw
};

pr_status pr_sampler_create(int32_t vocabulary, pr_sampler **sampler)
{
    if (vocabulary < 1)
        return pr_fail(
            PR_ERR_ARGUMENT, "a sampler needs a vocabulary of at least 1, not %d", vocabulary);
    pr_sampler *made = calloc(1, sizeof *made);
    size_t size = (size_t)vocabulary;
    if (made) {
        made->vocabulary = vocabulary;
        made->raw = malloc(size * sizeof *made->raw);
        made->count = calloc(size, sizeof *made->count);
        made->seen = calloc(size, sizeof *made->seen);
        made->ranked = malloc(size * sizeof *made->ranked);
        made->weight = malloc(size * sizeof *made->weight);
    }
    if (!made || !made->raw || !made->count || !made->seen || !made->ranked || !made->weight) {
        pr_sampler_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a sampler of vocabulary %d", vocabulary);
    }
    *sampler = made;
    return PR_OK;
}

void pr_sampler_destroy(pr_sampler *sampler)
{
    if (!sampler)
        return;
    free(sampler->raw);
    free(sampler->count);
    free(sampler->seen);
    free(sampler->ranked);
    free(sampler->weight);
    free(sampler);
}

static bool is_token(const pr_sampler *sampler, int32_t token)
{
    return token >= 0 && token < sampler->vocabulary;
}

static float at_most_finite(float logit) { return logit > FLT_MAX ? FLT_MAX : logit; }

// ---- Logprobs

// NaN counts as impossible, so that comparisons have one answer.
static void keep_raw(pr_sampler *sampler, const float *logits)
{
    for (int32_t i = 0; i < sampler->vocabulary; i++)
        sampler->raw[i] = isnan(logits[i]) ? -INFINITY : at_most_finite(logits[i]);
}

// log of the sum of exp(raw), or infinity when every token is impossible.
static double log_normaliser(const pr_sampler *sampler)
{
    float largest = -INFINITY;
    for (int32_t i = 0; i < sampler->vocabulary; i++)
        largest = sampler->raw[i] > largest ? sampler->raw[i] : largest;
    if (!(largest > -INFINITY))
        return (double)INFINITY;
    double sum = 0;
    for (int32_t i = 0; i < sampler->vocabulary; i++)
        sum += pr_exp_f64((double)sampler->raw[i] - (double)largest);
    return (double)largest + pr_log_f64(sum);
}

// The most likely tokens by insertion into a short list; a later equal one stays behind.
static void find_tops(const pr_sampler *sampler, int32_t tops, pr_logprob *top)
{
    int32_t found = 0;
    for (int32_t i = 0; i < sampler->vocabulary; i++) {
        float logit = sampler->raw[i];
        if (found == tops && (tops == 0 || logit <= top[tops - 1].logprob))
            continue;
        int32_t at = found < tops ? found++ : tops - 1;
        for (; at > 0 && top[at - 1].logprob < logit; at--)
            top[at] = top[at - 1];
        top[at] = (pr_logprob){i, logit};
    }
}

static void report_logprobs(const pr_sampler *sampler, int32_t asked, pr_sampled *sampled)
{
    double normaliser = log_normaliser(sampler);
    sampled->logprob = (float)((double)sampler->raw[sampled->token] - normaliser);
    sampled->tops = asked < sampler->vocabulary ? asked : sampler->vocabulary;
    find_tops(sampler, sampled->tops, sampled->top);
    for (int32_t i = 0; i < sampled->tops; i++)
        sampled->top[i].logprob = (float)((double)sampled->top[i].logprob - normaliser);
}

// ---- Changes of single logits

static void apply_bias(const pr_sampler *sampler, const pr_sampling *sampling, float *logits)
{
    for (int32_t i = 0; i < sampling->biases; i++) {
        if (is_token(sampler, sampling->bias[i].token))
            logits[sampling->bias[i].token] += sampling->bias[i].bias;
    }
}

static void
forbid_stop_tokens(const pr_sampler *sampler, const pr_sampling *sampling, float *logits)
{
    for (int32_t i = 0; i < sampling->stop_tokens; i++) {
        if (is_token(sampler, sampling->stop_token[i]))
            logits[sampling->stop_token[i]] = -INFINITY;
    }
}

// Penalises each distinct token of a list once.
static void
penalise(pr_sampler *sampler, const pr_sampler_args *args, const int32_t *token, int32_t tokens)
{
    float repetition = args->sampling->repetition_penalty;
    for (int32_t i = 0; i < tokens; i++) {
        if (!is_token(sampler, token[i]) || sampler->seen[token[i]])
            continue;
        float *logit = &args->logits[token[i]];
        int32_t count = sampler->count[token[i]];
        sampler->seen[token[i]] = true;
        *logit = *logit > 0 ? *logit / repetition : *logit * repetition;
        if (count > 0) {
            *logit -= args->sampling->frequency_penalty * (float)count;
            *logit -= args->sampling->presence_penalty;
        }
    }
}

static void forget(pr_sampler *sampler, const int32_t *token, int32_t tokens)
{
    for (int32_t i = 0; i < tokens; i++) {
        if (is_token(sampler, token[i])) {
            sampler->seen[token[i]] = false;
            sampler->count[token[i]] = 0;
        }
    }
}

static void apply_penalties(pr_sampler *sampler, const pr_sampler_args *args)
{
    const pr_sampling *sampling = args->sampling;
    bool repetition = sampling->repetition_penalty != 1;
    if (!repetition && sampling->frequency_penalty == 0 && sampling->presence_penalty == 0)
        return;
    for (int32_t i = 0; i < args->outputs; i++) {
        if (is_token(sampler, args->output[i]))
            sampler->count[args->output[i]]++;
    }
    int32_t prompt_tokens = repetition ? args->prompt_tokens : 0;
    penalise(sampler, args, args->prompt, prompt_tokens);
    penalise(sampler, args, args->output, args->outputs);
    forget(sampler, args->prompt, prompt_tokens);
    forget(sampler, args->output, args->outputs);
}

// ---- Choice

static int32_t largest_token(const pr_sampler *sampler, const float *logits)
{
    int32_t token = 0;
    float largest = -INFINITY;
    for (int32_t i = 0; i < sampler->vocabulary; i++) {
        if (logits[i] > largest) {
            largest = logits[i];
            token = i;
        }
    }
    return token;
}

static bool ranks_before(candidate a, candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

static void sift_down(candidate *heap, int32_t size, int32_t at)
{
    candidate moved = heap[at];
    for (int32_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && ranks_before(heap[child + 1], heap[child]))
            child++;
        if (!ranks_before(heap[child], moved))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static double weight_of(const pr_sampler *sampler, float logit)
{
    return pr_exp_f64(((double)logit - (double)sampler->largest) / sampler->temperature);
}

// All tokens that are possible and whose probability is at least min_p of the largest.
static void gather_candidates(pr_sampler *sampler, float min_p, const float *logits)
{
    float largest = logits[largest_token(sampler, logits)];
    double least = min_p > 0 ? sampler->temperature * pr_log_f64((double)min_p) : -(double)INFINITY;
    sampler->largest = at_most_finite(largest);
    sampler->candidates = 0;
    for (int32_t i = 0; i < sampler->vocabulary; i++) {
        float logit = at_most_finite(logits[i]);
        if (logit > -INFINITY && (double)logit - (double)sampler->largest >= least)
            sampler->ranked[sampler->candidates++] = (candidate){logit, i};
    }
    sampler->heap = sampler->candidates;
}

static double total_weight(const pr_sampler *sampler)
{
    double total = 0;
    for (int32_t i = 0; i < sampler->candidates; i++)
        total += weight_of(sampler, sampler->ranked[i].logit);
    return total;
}

// Weight of the candidate of this rank; ranks are asked for in order.
static double ranked_weight(pr_sampler *sampler, int32_t rank)
{
    while (sampler->candidates - sampler->heap <= rank) {
        candidate first = sampler->ranked[0];
        int32_t last = --sampler->heap;
        sampler->ranked[0] = sampler->ranked[last];
        sift_down(sampler->ranked, sampler->heap, 0);
        sampler->ranked[last] = first;
        sampler->weight[sampler->candidates - last - 1] = weight_of(sampler, first.logit);
    }
    return sampler->weight[rank];
}

// 53 random bits of (seed, choice, position) as a number in [0, 1).
static double uniform(const pr_sampling *sampling, int32_t position)
{
    uint32_t counter[4] = {(uint32_t)position, (uint32_t)sampling->choice, 0, 0}, bits[4];
    uint32_t key[2] = {(uint32_t)sampling->seed, (uint32_t)(sampling->seed >> 32)};
    pr_philox(counter, key, bits);
    uint64_t mantissa = (uint64_t)(bits[0] >> 5) << 26 | bits[1] >> 6;
    return (double)mantissa * 0x1p-53;
}

static int32_t draw_token(pr_sampler *sampler, const pr_sampler_args *args)
{
    const pr_sampling *sampling = args->sampling;
    sampler->temperature = (double)sampling->temperature;
    gather_candidates(sampler, sampling->min_p, args->logits);
    if (sampler->candidates == 0)
        return 0;
    bool top_k = sampling->top_k > 0 && sampling->top_k < sampler->candidates;
    int32_t kept = top_k ? sampling->top_k : sampler->candidates;
    double total = top_k ? 0 : total_weight(sampler);
    for (int32_t i = sampler->heap / 2 - 1; i >= 0; i--)
        sift_down(sampler->ranked, sampler->heap, i);
    for (int32_t i = 0; top_k && i < kept; i++)
        total += ranked_weight(sampler, i);
    if (sampling->top_p < 1) {
        double target = (double)sampling->top_p * total, sum = 0;
        int32_t prefix = 0;
        while (prefix < kept && (prefix == 0 || sum < target))
            sum += ranked_weight(sampler, prefix++);
        kept = prefix;
        total = sum;
    }
    double target = uniform(sampling, args->outputs) * total;
    double sum = ranked_weight(sampler, 0);
    int32_t rank = 0;
    while (rank < kept - 1 && sum <= target)
        sum += ranked_weight(sampler, ++rank);
    return sampler->ranked[sampler->candidates - 1 - rank].token;
}

void pr_sampler_draw(pr_sampler *sampler, const pr_sampler_args *args, pr_sampled *sampled)
{
    const pr_sampling *sampling = args->sampling;
    bool logprobs = sampling->top_logprobs >= 0;
    if (logprobs)
        keep_raw(sampler, args->logits);
    apply_bias(sampler, sampling, args->logits);
    if (args->outputs < sampling->min_tokens)
        forbid_stop_tokens(sampler, sampling, args->logits);
    apply_penalties(sampler, args);
    sampled->token = sampling->temperature > 0 ? draw_token(sampler, args)
                                               : largest_token(sampler, args->logits);
    sampled->logprob = 0;
    sampled->tops = 0;
    if (logprobs)
        report_logprobs(sampler, sampling->top_logprobs, sampled);
}

pr_finish pr_sampler_finish(const pr_sampling *sampling, int32_t index, int32_t token)
{
    for (int32_t i = 0; i < sampling->stop_tokens; i++) {
        if (sampling->stop_token[i] == token)
            return PR_FINISH_STOP;
    }
    return index >= sampling->max_tokens - 1 ? PR_FINISH_LENGTH : PR_FINISH_NONE;
}
