// SPDX-License-Identifier: BSD-3-Clause
// Candidates are ranked by (logit descending, token ascending), a total order, so ties have one
// answer. The ranking is lazy: the candidates near the top go into a heap, the rest only if that runs
// empty, and only as many are popped as top-k, top-p or the draw look at: usually a few.
#include "runtime/sampling/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/elementary.h"
#include "runtime/base/log.h"
#include "runtime/sampling/vocabulary_sum.h"

// exp(-8): what lies deeper is seldom looked at.
static const double near_exponent = 8;

typedef struct candidate {
    float logit;
    int32_t token;
} candidate;

struct pr_sampler {
    int32_t vocabulary;
    float impossible[64];  // -infinity each
    float *raw;            // [V] the logits as given, for logprobs
    int32_t *count;        // [V] how often in the output; all 0 between draws
    bool *seen;            // [V] penalised already; all false between draws
    candidate *heap;       // [V] gathered and not yet ranked
    int32_t *order;        // [V] the ranked tokens
    double *weight;        // [V] of the ranked tokens: probability relative to the largest
    int32_t waiting;       // in the heap
    int32_t ranked;
    // Of the draw. The depth of a token is the largest logit less its own.
    const float *logits;
    float largest;
    double temperature;
    double near_depth, most_depth;  // of the heap's first filling; of a candidate
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
        for (int i = 0; i < 64; i++)
            made->impossible[i] = -INFINITY;
        made->raw = malloc(size * sizeof *made->raw);
        made->count = calloc(size, sizeof *made->count);
        made->seen = calloc(size, sizeof *made->seen);
        made->heap = malloc(size * sizeof *made->heap);
        made->order = malloc(size * sizeof *made->order);
        made->weight = malloc(size * sizeof *made->weight);
    }
    if (!made || !made->raw || !made->count || !made->seen || !made->heap || !made->order ||
        !made->weight) {
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
    free(sampler->heap);
    free(sampler->order);
    free(sampler->weight);
    free(sampler);
}

static bool is_token(const pr_sampler *sampler, int32_t token)
{
    return token >= 0 && token < sampler->vocabulary;
}

static int32_t chunk_end(const pr_sampler *sampler, int32_t begin)
{
    int32_t left = sampler->vocabulary - begin;
    return begin + (left < PR_VOCABULARY_CHUNK ? left : PR_VOCABULARY_CHUNK);
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
    pr_vocabulary_sum sum;
    pr_vocabulary_sum_begin(&sum);
    for (int32_t begin = 0, end; begin < sampler->vocabulary; begin = end) {
        end = chunk_end(sampler, begin);
        for (int32_t i = begin; i < end; i++)
            pr_vocabulary_sum_add(&sum, i, pr_exp_f64((double)sampler->raw[i] - (double)largest));
        pr_vocabulary_sum_end_chunk(&sum);
    }
    return (double)largest + pr_log_f64(sum.total);
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
    float logit = is_token(sampler, sampled->token) ? sampler->raw[sampled->token] : -INFINITY;
    sampled->logprob = (float)((double)logit - normaliser);
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

static void apply_mask(const pr_sampler *sampler, const pr_sampler_args *args)
{
    const pr_sampling *sampling = args->sampling;
    float stop[PR_MAX_STOP_TOKENS], *logits = args->logits;
    for (int32_t i = 0; i < sampling->stop_tokens; i++) {
        bool kept = args->may_stop && is_token(sampler, sampling->stop_token[i]);
        stop[i] = kept ? logits[sampling->stop_token[i]] : -INFINITY;
    }
    for (int32_t begin = 0; begin < sampler->vocabulary; begin += 64) {
        uint64_t bits = args->allowed[begin / 64];
        int32_t end = begin + 64 < sampler->vocabulary ? begin + 64 : sampler->vocabulary;
        if (bits == 0)  // most words of most masks
            memcpy(logits + begin, sampler->impossible, (size_t)(end - begin) * sizeof *logits);
        for (int32_t i = begin; i < end && bits != 0 && bits != UINT64_MAX; i++)
            logits[i] = bits >> (i - begin) & 1 ? logits[i] : -INFINITY;
    }
    for (int32_t i = 0; i < sampling->stop_tokens; i++) {
        if (is_token(sampler, sampling->stop_token[i]))
            logits[sampling->stop_token[i]] = stop[i];
    }
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

static double depth_of(const pr_sampler *sampler, float logit)
{
    return (double)sampler->largest - (double)at_most_finite(logit);
}

static double weight_of(const pr_sampler *sampler, double depth)
{
    return pr_exp_f64(-depth / sampler->temperature);
}

// Candidates are the possible tokens whose probability is at least min_p of the largest.
static void begin_ranking(pr_sampler *sampler, const pr_sampling *sampling, const float *logits)
{
    sampler->logits = logits;
    sampler->temperature = (double)sampling->temperature;
    sampler->largest = at_most_finite(logits[largest_token(sampler, logits)]);
    sampler->most_depth = DBL_MAX;
    if (sampling->min_p > 0)
        sampler->most_depth = -sampler->temperature * pr_log_f64((double)sampling->min_p);
    sampler->near_depth = near_exponent * sampler->temperature;
    if (sampler->near_depth > sampler->most_depth)
        sampler->near_depth = sampler->most_depth;
    sampler->waiting = sampler->ranked = 0;
}

static int32_t count_candidates(const pr_sampler *sampler)
{
    int32_t candidates = 0;
    for (int32_t i = 0; i < sampler->vocabulary; i++)
        candidates += depth_of(sampler, sampler->logits[i]) <= sampler->most_depth;
    return candidates;
}

static double weight_of_candidates(const pr_sampler *sampler)
{
    pr_vocabulary_sum sum;
    pr_vocabulary_sum_begin(&sum);
    for (int32_t begin = 0, end; begin < sampler->vocabulary; begin = end) {
        end = chunk_end(sampler, begin);
        for (int32_t i = begin; i < end; i++) {
            double depth = depth_of(sampler, sampler->logits[i]);
            if (depth <= sampler->most_depth)
                pr_vocabulary_sum_add(&sum, i, weight_of(sampler, depth));
        }
        pr_vocabulary_sum_end_chunk(&sum);
    }
    return sum.total;
}

// Fills the empty heap: at first with what is near the top, then with all the rest.
static void gather(pr_sampler *sampler)
{
    double above = sampler->ranked == 0 ? -1 : sampler->near_depth;
    double to = sampler->ranked == 0 ? sampler->near_depth : sampler->most_depth;
    for (int32_t i = 0; i < sampler->vocabulary; i++) {
        double depth = depth_of(sampler, sampler->logits[i]);
        if (depth > above && depth <= to)
            sampler->heap[sampler->waiting++] = (candidate){at_most_finite(sampler->logits[i]), i};
    }
    for (int32_t i = sampler->waiting / 2 - 1; i >= 0; i--)
        sift_down(sampler->heap, sampler->waiting, i);
}

// Weight of the candidate of this rank, which is below the number of candidates.
static double weight_at(pr_sampler *sampler, int32_t rank)
{
    while (sampler->ranked <= rank) {
        if (sampler->waiting == 0)
            gather(sampler);
        candidate first = sampler->heap[0];
        sampler->order[sampler->ranked] = first.token;
        sampler->weight[sampler->ranked++] = weight_of(sampler, depth_of(sampler, first.logit));
        sampler->heap[0] = sampler->heap[--sampler->waiting];
        sift_down(sampler->heap, sampler->waiting, 0);
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

// The shortest prefix of the ranking that holds top_p of the total, which becomes the prefix's.
static int32_t cut_top_p(pr_sampler *sampler, float top_p, int32_t kept, double *total)
{
    double target = (double)top_p * *total, sum = weight_at(sampler, 0);
    int32_t prefix = 1;
    while (prefix < kept && sum < target)
        sum += weight_at(sampler, prefix++);
    *total = sum;
    return prefix;
}

static int32_t draw_token(pr_sampler *sampler, const pr_sampler_args *args)
{
    const pr_sampling *sampling = args->sampling;
    double total = 0;
    begin_ranking(sampler, sampling, args->logits);
    int32_t kept = count_candidates(sampler);
    if (kept == 0)
        return 0;
    if (sampling->top_k <= 0) {
        total = weight_of_candidates(sampler);
    } else {
        kept = sampling->top_k < kept ? sampling->top_k : kept;
        for (int32_t i = 0; i < kept; i++)
            total += weight_at(sampler, i);
    }
    if (sampling->top_p < 1)
        kept = cut_top_p(sampler, sampling->top_p, kept, &total);
    double target = uniform(sampling, args->outputs) * total, sum = weight_at(sampler, 0);
    int32_t rank = 0;
    while (rank < kept - 1 && sum <= target)
        sum += weight_at(sampler, ++rank);
    return sampler->order[rank];
}

void pr_sampler_draw(pr_sampler *sampler, const pr_sampler_args *args, pr_sampled *sampled)
{
    const pr_sampling *sampling = args->sampling;
    bool logprobs = sampling->top_logprobs >= 0;
    if (logprobs)
        keep_raw(sampler, args->logits);
    apply_bias(sampler, sampling, args->logits);
    bool ends = args->allowed && args->must_stop;
    if (args->outputs < sampling->min_tokens && !ends)
        forbid_stop_tokens(sampler, sampling, args->logits);
    apply_penalties(sampler, args);
    if (args->allowed)
        apply_mask(sampler, args);
    sampled->token = sampling->temperature > 0 ? draw_token(sampler, args)
                                               : largest_token(sampler, args->logits);
    sampled->logprob = 0;
    sampled->tops = 0;
    if (logprobs)
        report_logprobs(sampler, sampling->top_logprobs, sampled);
}

void pr_sampler_score(
    pr_sampler *sampler, const float *logits, int32_t token, int32_t tops, pr_sampled *sampled)
{
    keep_raw(sampler, logits);
    sampled->token = token;
    report_logprobs(sampler, tops, sampled);
}

pr_finish pr_sampler_finish(const pr_sampling *sampling, int32_t index, int32_t token)
{
    for (int32_t i = 0; i < sampling->stop_tokens; i++) {
        if (sampling->stop_token[i] == token)
            return PR_FINISH_STOP;
    }
    return index >= sampling->max_tokens - 1 ? PR_FINISH_LENGTH : PR_FINISH_NONE;
}
