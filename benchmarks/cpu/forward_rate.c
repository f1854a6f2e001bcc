// SPDX-License-Identifier: BSD-3-Clause
// Times pr_forward_run for benchmarks/cpu/run: one line asks, one JSON line answers. peer_rate.py
// answers the same lines for llama.cpp.
//
//   prefill TOKENS               {"tokens": T, "seconds": S}
//   decode BATCH CONTEXT STEPS   {"tokens": T, "seconds": S}   BATCH sequences, CONTEXT tokens before
//   greedy STEPS TOKEN...        {"token": [...], "logits": [the first 64 of the prompt's last row]}
//   release                      gives back the memory of the KV cache
//
// A prompt goes in steps of 512 tokens, logits for its last token only; a decode step has one token of
// every sequence and the logits of all. Sampling is outside. One prompt is computed, saved, and put
// into the blocks of every sequence.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/cpu/rate_engine.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { LINE_BYTES = 65536, LOGITS_SHOWN = 64, MOST_STEPS = 64, MOST_LENGTH = 1 << 20 };

static int32_t step_token[PR_RATE_STEP_TOKENS], step_position[PR_RATE_STEP_TOKENS];
static int32_t output_row[PR_RATE_MOST_SEQUENCES];
static pr_segment segment[PR_RATE_MOST_SEQUENCES];

// The same numbers as tokens_of in peer_rate.py.
static int32_t next_token(uint64_t *state, int32_t vocabulary)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((*state >> 33) % (uint64_t)vocabulary);
}

// ---- Steps ----

// `count` tokens of sequence 0 from position `start`; logits of the last one if wanted.
static pr_status
run_chunk(pr_rate_engine *engine, int32_t start, int32_t count, bool last, float **logits)
{
    segment[0] = (pr_segment){
        .rows = count, .start_position = start, .block = pr_rate_engine_blocks(engine, 0)};
    engine->filled = 0;
    for (int32_t i = 0; i < count; i++)
        step_position[i] = start + i;
    output_row[0] = count - 1;
    pr_forward_batch batch = {
        .tokens = count,
        .token = step_token,
        .position = step_position,
        .segments = 1,
        .segment = segment,
        .outputs = last,
        .output_row = output_row,
    };
    return pr_forward_run(engine->forward, &batch, logits);
}

static pr_status run_prompt(pr_rate_engine *engine, int32_t tokens)
{
    uint64_t state = 1;
    float *logits;
    for (int32_t start = 0; start < tokens; start += PR_RATE_STEP_TOKENS) {
        int32_t left = tokens - start;
        int32_t count = left < PR_RATE_STEP_TOKENS ? left : PR_RATE_STEP_TOKENS;
        for (int32_t i = 0; i < count; i++)
            step_token[i] = next_token(&state, engine->model->vocabulary);
        PR_TRY(run_chunk(engine, start, count, count == left, &logits));
    }
    return PR_OK;
}

static pr_status run_decode_step(pr_rate_engine *engine, int32_t position, uint64_t *state)
{
    float *logits;
    for (int32_t i = 0; i < engine->sequences; i++) {
        segment[i] = (pr_segment){
            .first_row = i,
            .rows = 1,
            .start_position = position,
            .block = pr_rate_engine_blocks(engine, i)};
        step_token[i] = next_token(state, engine->model->vocabulary);
        step_position[i] = position;
        output_row[i] = i;
    }
    pr_forward_batch batch = {
        .tokens = engine->sequences,
        .token = step_token,
        .position = step_position,
        .segments = engine->sequences,
        .segment = segment,
        .outputs = engine->sequences,
        .output_row = output_row,
    };
    return pr_forward_run(engine->forward, &batch, &logits);
}

// ---- Requests ----

static void answer(int32_t tokens, int64_t ns)
{
    printf("{\"tokens\": %d, \"seconds\": %.9f}\n", tokens, (double)ns * 1e-9);
}

static pr_status prefill(pr_rate_engine *engine, int32_t tokens)
{
    PR_TRY(pr_rate_engine_reserve(engine, 1, tokens));
    int64_t begin_ns = pr_clock_now_ns();
    PR_TRY(run_prompt(engine, tokens));
    answer(tokens, pr_clock_now_ns() - begin_ns);
    return PR_OK;
}

static pr_status fill(pr_rate_engine *engine, int32_t sequences, int32_t context)
{
    PR_TRY(pr_rate_engine_reserve(engine, sequences, context + MOST_STEPS));
    if (engine->filled == context)
        return PR_OK;
    pr_status status = pr_rate_engine_restore(engine, context);
    if (status != PR_ERR_NOT_FOUND)
        return status;
    PR_TRY(run_prompt(engine, context));
    PR_TRY(pr_rate_engine_save(engine, context));
    return pr_rate_engine_restore(engine, context);
}

static pr_status decode(pr_rate_engine *engine, int32_t sequences, int32_t context, int32_t steps)
{
    if (sequences > PR_RATE_MOST_SEQUENCES || steps > MOST_STEPS)
        return pr_fail(
            PR_ERR_ARGUMENT, "decode: at most %d sequences and %d steps", PR_RATE_MOST_SEQUENCES,
            MOST_STEPS);
    PR_TRY(fill(engine, sequences, context));
    uint64_t state = 2;
    int64_t ns = 0;
    for (int32_t step = 0; step < steps; step++) {
        int64_t begin_ns = pr_clock_now_ns();
        PR_TRY(run_decode_step(engine, context + step, &state));
        ns += pr_clock_now_ns() - begin_ns;
    }
    answer(sequences * steps, ns);
    return PR_OK;
}

static int32_t largest(const float *logits, int32_t count)
{
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

static pr_status
greedy(pr_rate_engine *engine, int32_t steps, const int32_t *prompt, int32_t prompts)
{
    float shown[LOGITS_SHOWN], *logits;
    int32_t vocabulary = engine->model->vocabulary;
    PR_TRY(pr_rate_engine_reserve(engine, 1, prompts + steps));
    memcpy(step_token, prompt, (size_t)prompts * sizeof *prompt);
    PR_TRY(run_chunk(engine, 0, prompts, true, &logits));
    memcpy(shown, logits, sizeof shown);
    printf("{\"token\": [");
    for (int32_t step = 0; step < steps; step++) {
        step_token[0] = largest(logits, vocabulary);
        printf("%s%d", step ? ", " : "", step_token[0]);
        PR_TRY(run_chunk(engine, prompts + step, 1, true, &logits));
    }
    printf("], \"logits\": [");
    for (int32_t i = 0; i < LOGITS_SHOWN; i++)
        printf("%s%.8g", i ? ", " : "", (double)shown[i]);
    printf("]}\n");
    return PR_OK;
}

// ---- The line protocol ----

// Numbers after the verb; -1 if one is none, out of bounds, or there are too many.
static int32_t read_numbers(char *text, int32_t *number, int32_t most)
{
    int32_t count = 0;
    for (char *word = strtok(text, " \n"); word; word = strtok(NULL, " \n")) {
        char *end;
        long value = strtol(word, &end, 10);
        if (*end || value < 0 || value > MOST_LENGTH || count == most)
            return -1;
        number[count++] = (int32_t)value;
    }
    return count;
}

static pr_status serve_line(pr_rate_engine *engine, char *line)
{
    int32_t number[PR_RATE_STEP_TOKENS + 1] = {0};
    size_t verb_bytes = strcspn(line, " \n");
    bool more = line[verb_bytes] != '\0';
    line[verb_bytes] = '\0';
    int32_t count = more ? read_numbers(line + verb_bytes + 1, number, PR_RATE_STEP_TOKENS + 1) : 0;
    if (strcmp(line, "prefill") == 0 && count == 1 && number[0] > 0)
        return prefill(engine, number[0]);
    if (strcmp(line, "decode") == 0 && count == 3 && number[0] > 0)
        return decode(engine, number[0], number[1], number[2]);
    if (strcmp(line, "greedy") == 0 && count > 1)
        return greedy(engine, number[0], number + 1, count - 1);
    if (strcmp(line, "release") == 0 && count == 0) {
        pr_rate_engine_release(engine);
        printf("{}\n");
        return PR_OK;
    }
    return pr_fail(
        PR_ERR_ARGUMENT,
        "'%s': wanted prefill TOKENS, decode BATCH CONTEXT STEPS, greedy STEPS TOKEN... or release",
        line);
}

static pr_status serve(pr_rate_engine *engine)
{
    static char line[LINE_BYTES];
    printf("{\"ready\": \"%s\", \"threads\": %d}\n", engine->device->isa, engine->options.threads);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        PR_TRY(serve_line(engine, line));
        fflush(stdout);
    }
    return PR_OK;
}

// ---- Flags ----

static pr_status set_option(pr_rate_options *options, const char *flag, const char *value)
{
    if (strcmp(flag, "--threads") == 0 && atoi(value) > 0)
        options->threads = atoi(value);
    else if (strcmp(flag, "--isa") == 0)
        options->isa = value;
    else if (strcmp(flag, "--states") == 0)
        options->states = value;
    else if (strcmp(flag, "--kv") == 0 && strcmp(value, "bfloat16") == 0)
        options->kv_dtype = PR_BF16;
    else if (strcmp(flag, "--kv") == 0 && strcmp(value, "float32") == 0)
        options->kv_dtype = PR_F32;
    else if (strcmp(flag, "--quantization") == 0 && strcmp(value, "int8") == 0)
        options->quantization = PR_QUANTIZATION_INT8;
    else if (strcmp(flag, "--quantization") == 0 && strcmp(value, "int4") == 0)
        options->quantization = PR_QUANTIZATION_INT4;
    else
        return pr_fail(
            PR_ERR_ARGUMENT,
            "%s %s: forward_rate MODEL [--threads N] [--isa NAME] [--quantization int8|int4]"
            " [--kv float32|bfloat16] [--states DIR]",
            flag, value);
    return PR_OK;
}

static pr_status run(int arguments, char **argument)
{
    pr_rate_options options = {.isa = "auto", .states = ".", .threads = 1, .kv_dtype = PR_BF16};
    options.model = arguments > 1 ? argument[1] : "";
    for (int i = 2; i < arguments; i += 2)
        PR_TRY(set_option(&options, argument[i], i + 1 < arguments ? argument[i + 1] : ""));
    pr_rate_engine engine;
    pr_status status = pr_rate_engine_open(&options, &engine);
    if (status == PR_OK)
        status = serve(&engine);
    pr_rate_engine_close(&engine);
    return status;
}

int main(int arguments, char **argument) { return run(arguments, argument) == PR_OK ? 0 : 1; }
