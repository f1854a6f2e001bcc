// SPDX-License-Identifier: BSD-3-Clause
// Logits of the whole forward pass against transformers (tests/data/golden/README.md), on every CPU
// device, in prefill, chunked prefill and decode; and the same bits from all of those.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"
#include "runtime/base/log.h"
#include "runtime/model/forward.h"
#include "runtime/sampling/sampler.h"

enum { BLOCK_TOKENS = 16, BLOCKS = 16, MAX_TOKENS = 128 };

static const char *const models[] = {
    "llama-tiny",        "llama-llama3",    "llama-linear",     "qwen2",
    "qwen2-yarn",        "qwen3",           "qwen3-yarn",       "qwen3-moe",
    "qwen3-moe-sharded", "qwen3-moe-fused", "qwen3-moe-nonorm", "mixtral-tiny",
    "mixtral-fused",
};
enum { MODELS = sizeof(models) / sizeof(models[0]) };

// One model on one device, ready to step.
typedef struct engine {
    pr_model *model;
    pr_weights *weights;
    pr_device *device;
    pr_shard *shard;
    pr_kv_store *store;
    pr_parallel *parallel;
    pr_forward *forward;
} engine;

static void open_engine(engine *e, const char *name, const char *isa)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/tests/data/models/%s", PR_SOURCE_DIR, name);
    assert_int_equal(pr_model_open(path, &e->model), PR_OK);
    assert_int_equal(pr_weights_open(path, &e->weights), PR_OK);
    assert_int_equal(
        pr_cpu_device_open(&(pr_cpu_device_params){.isa = isa, .threads = 1}, &e->device), PR_OK);
    pr_shard_params shard = {
        .model = e->model,
        .weights = e->weights,
        .place = {.tp = 1, .ranks = 1},
        .device = e->device,
    };
    assert_int_equal(pr_shard_load(&shard, &e->shard), PR_OK);
    pr_kv_store_params params = {
        .layers = e->model->layers,
        .blocks = BLOCKS,
        .block_tokens = BLOCK_TOKENS,
        .kv_heads = e->model->kv_heads,
        .head_size = e->model->head_size,
        .dtype = PR_F32,
    };
    assert_int_equal(pr_kv_store_create(e->device, &params, &e->store), PR_OK);
    assert_int_equal(
        pr_parallel_alone_create(
            e->model->experts, e->model->experts_chosen, e->model->hidden, MAX_TOKENS,
            &e->parallel),
        PR_OK);
    pr_forward_limits limits = {
        .max_tokens = MAX_TOKENS, .max_outputs = MAX_TOKENS, .max_positions = 128};
    assert_int_equal(
        pr_forward_create(e->model, e->shard, e->store, e->parallel, &limits, &e->forward), PR_OK);
}

static void close_engine(engine *e)
{
    pr_forward_destroy(e->forward);
    pr_parallel_alone_destroy(e->parallel);
    pr_kv_store_destroy(e->store);
    pr_shard_unload(e->shard);
    pr_cpu_device_close(e->device);
    pr_weights_close(e->weights);
    pr_model_close(e->model);
}

// One step: logits [rows][V] of positions first.. of the only sequence. The blocks are the pool's,
// in an order that is no order.
static const float *step(engine *e, const int32_t *token, int32_t first, int32_t rows)
{
    static const int32_t table[8] = {11, 3, 14, 0, 7, 9, 1, 12};
    int32_t row[MAX_TOKENS], position[MAX_TOKENS];
    for (int32_t i = 0; i < rows; i++) {
        row[i] = i;
        position[i] = first + i;
    }
    pr_segment segment = {.rows = rows, .start_position = first, .block = table};
    pr_forward_batch batch = {
        .tokens = rows,
        .token = token + first,
        .position = position,
        .segments = 1,
        .segment = &segment,
        .outputs = rows,
        .output_row = row,
    };
    float *logits;
    assert_int_equal(pr_forward_run(e->forward, &batch, &logits), PR_OK);
    return logits;
}

// Logits of positions 0..tokens-1 to logits [tokens][V], `chunk` positions a step.
static void
run_in_chunks(engine *e, const int32_t *token, int32_t tokens, int32_t chunk, float *logits)
{
    size_t vocabulary = (size_t)e->model->vocabulary;
    for (int32_t first = 0; first < tokens; first += chunk) {
        int32_t rows = tokens - first < chunk ? tokens - first : chunk;
        const float *part = step(e, token, first, rows);
        memcpy(
            logits + (size_t)first * vocabulary, part, (size_t)rows * vocabulary * sizeof(float));
    }
}

typedef struct golden_case {
    int32_t prompt, added, vocabulary;
    const int32_t *token;  // [prompt + added]
    const float *logits;   // [prompt + added][V]
} golden_case;

// The whole file; *cases of them are at most 8.
static char *read_golden(const char *name, golden_case *cases, int32_t *count)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/tests/data/golden/%s.bin", PR_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(size);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, size, file), size);
    fclose(file);
    assert_memory_equal(data, "PRGOLD01", 8);
    int32_t vocabulary, p, n;
    memcpy(&vocabulary, data + 8, 4);
    memcpy(count, data + 12, 4);
    assert_in_range(*count, 1, 8);
    char *at = data + 16;
    for (int32_t i = 0; i < *count; i++) {
        memcpy(&p, at, 4);
        memcpy(&n, at + 4, 4);
        int32_t *token = (int32_t *)(void *)(at + 8);
        float *logits = (float *)(void *)(token + p + n);
        cases[i] = (golden_case){
            .prompt = p, .added = n, .vocabulary = vocabulary, .token = token, .logits = logits};
        at = (char *)(logits + (size_t)(p + n) * (size_t)vocabulary);
    }
    assert_ptr_equal(at, data + size);
    return data;
}

static int32_t largest(const float *logits, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) {
        if (logits[i] > logits[best])
            best = i;
    }
    return best;
}

// max |a - b| / max |b| of the worst row.
static double worst_error(const golden_case *golden, const float *logits)
{
    double worst = 0;
    for (int32_t row = 0; row < golden->prompt + golden->added; row++) {
        double difference = 0, scale = 0;
        for (int32_t i = 0; i < golden->vocabulary; i++) {
            size_t at = (size_t)row * (size_t)golden->vocabulary + (size_t)i;
            double right = (double)golden->logits[at];
            difference = fmax(difference, fabs((double)logits[at] - right));
            scale = fmax(scale, fabs(right));
            assert_true(isfinite(logits[at]));
        }
        worst = fmax(worst, difference / scale);
    }
    return worst;
}

static void check_greedy(const golden_case *golden, const float *logits)
{
    for (int32_t k = 0; k < golden->added; k++) {
        size_t row = (size_t)(golden->prompt - 1 + k) * (size_t)golden->vocabulary;
        assert_int_equal(
            largest(logits + row, golden->vocabulary), golden->token[golden->prompt + k]);
    }
}

// log-softmax of a row of the file, in double.
static double golden_logprob(const golden_case *golden, int32_t row, int32_t token)
{
    const float *logits = golden->logits + (size_t)row * (size_t)golden->vocabulary;
    double top = (double)logits[largest(logits, golden->vocabulary)], sum = 0;
    for (int32_t i = 0; i < golden->vocabulary; i++)
        sum += exp((double)logits[i] - top);
    return (double)logits[token] - top - log(sum);
}

// Each token of the sequence given those before it, as a request for prompt logprobs has it.
static double worst_logprob_error(const golden_case *golden, const float *logits)
{
    pr_sampler *sampler;
    double worst = 0;
    assert_int_equal(pr_sampler_create(golden->vocabulary, &sampler), PR_OK);
    for (int32_t row = 0; row + 1 < golden->prompt + golden->added; row++) {
        pr_sampled sampled;
        pr_sampler_score(
            sampler, logits + (size_t)row * (size_t)golden->vocabulary, golden->token[row + 1], 5,
            &sampled);
        double right = golden_logprob(golden, row, sampled.token);
        worst = fmax(worst, fabs((double)sampled.logprob - right));
        assert_int_equal(sampled.tops, 5);
        for (int32_t i = 0; i < sampled.tops; i++) {
            right = golden_logprob(golden, row, sampled.top[i].token);
            worst = fmax(worst, fabs((double)sampled.top[i].logprob - right));
        }
    }
    pr_sampler_destroy(sampler);
    return worst;
}

// Generates: a prefill of the prompt, then the engine's own tokens go back in, one a step.
static void decode_greedily(engine *e, const golden_case *golden)
{
    int32_t token[MAX_TOKENS], length = golden->prompt, vocabulary = golden->vocabulary;
    memcpy(token, golden->token, (size_t)length * sizeof(int32_t));
    const float *logits = step(e, token, 0, length);
    logits += (size_t)(length - 1) * (size_t)vocabulary;
    for (int32_t k = 0; k < golden->added; k++) {
        token[length] = largest(logits, vocabulary);
        logits = step(e, token, length, 1);
        length++;
    }
    assert_memory_equal(token, golden->token, (size_t)length * sizeof(int32_t));
}

typedef struct comparison {
    double worst_error, worst_logprob_error;
    bool rounded;  // activations, to the bfloat16 of the weights
} comparison;

static comparison compare_model(const char *name, const char *isa, float **reference)
{
    static const int32_t chunks[] = {MAX_TOKENS, 1, 7, 16};
    engine e;
    golden_case cases[8];
    int32_t count;
    comparison worst = {0};
    open_engine(&e, name, isa);
    worst.rounded = e.shard->embedding_dtype == PR_BF16;
    char *data = read_golden(name, cases, &count);
    for (int32_t c = 0; c < count; c++) {
        const golden_case *golden = &cases[c];
        assert_int_equal(golden->vocabulary, e.model->vocabulary);
        size_t bytes = (size_t)(golden->prompt + golden->added) * (size_t)golden->vocabulary * 4;
        for (int i = 0; i < 4; i++) {
            float *logits = malloc(bytes);
            run_in_chunks(&e, golden->token, golden->prompt + golden->added, chunks[i], logits);
            worst.worst_error = fmax(worst.worst_error, worst_error(golden, logits));
            check_greedy(golden, logits);
            if (reference[c] == NULL) {
                worst.worst_logprob_error =
                    fmax(worst.worst_logprob_error, worst_logprob_error(golden, logits));
                reference[c] = logits;  // the first device's whole prefill
                continue;
            }
            assert_memory_equal(logits, reference[c], bytes);
            free(logits);
        }
        decode_greedily(&e, golden);
    }
    free(data);
    close_engine(&e);
    return worst;
}

static void every_model_device_and_chunking_matches_transformers(void **state)
{
    (void)state;
    static const char *const isas[] = {"reference", "avx2", "avx512", "avx512bf16"};
    for (int m = 0; m < MODELS; m++) {
        float *reference[8] = {0};
        for (int i = 0; i < 4; i++) {
            pr_device *probe;
            pr_error_capture_begin();
            pr_status supported =
                pr_cpu_device_open(&(pr_cpu_device_params){.isa = isas[i], .threads = 1}, &probe);
            pr_error_capture_end();
            if (supported != PR_OK)
                continue;
            pr_cpu_device_close(probe);
            comparison worst = compare_model(models[m], isas[i], reference);
            print_message(
                "%-18s %-10s worst relative error %.2e, logprob %.2e\n", models[m], isas[i],
                worst.worst_error, worst.worst_logprob_error);
            // A difference in the last bit of a sum may round to the next bfloat16, 2^-8 away.
            assert_true(worst.worst_error <= (worst.rounded ? 2e-2 : 1e-4));
            assert_true(worst.worst_logprob_error <= (worst.rounded ? 5e-2 : 1e-4));
        }
        for (int c = 0; c < 8; c++)
            free(reference[c]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_device_and_chunking_matches_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
