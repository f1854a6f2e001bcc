// SPDX-License-Identifier: BSD-3-Clause
// How far quantised weights move the next-token distributions of a model:
//
//   distributions MODEL --text FILE      documents between form feeds
//   distributions MODEL --tokens FILE    a document of token ids a line
//
// Every document is cut into windows, and each goes through the model with its weights as stored, as int8
// and as int4, in one step. Prints one JSON object: for each of them the mean loss of the next token in
// nats, and against the stored weights, over all positions, the divergence KL(stored || quantised) in
// nats and how often the likeliest token is the same.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"
#include "runtime/base/log.h"
#include "runtime/model/forward.h"
#include "runtime/text/tokenizer.h"

enum { WINDOW = 512, BLOCK_TOKENS = 16, BLOCKS = WINDOW / BLOCK_TOKENS, KINDS = 3 };

static const char *const kind_name[KINDS] = {"none", "int8", "int4"};

// The model with one kind of weights.
typedef struct engine {
    pr_shard *shard;
    pr_kv_store *store;
    pr_parallel *parallel;
    pr_forward *forward;
    double loss;  // summed
    int64_t same;
    double *divergence;  // [positions], grows
} engine;

typedef struct comparison {
    pr_model *model;
    pr_weights *weights;
    pr_device *device;
    engine engine[KINDS];
    int64_t positions, next_tokens, room;
    float *stored;  // [WINDOW][V], logits of the stored weights
} comparison;

static pr_status open_engine(comparison *c, pr_quantization kind)
{
    engine *e = &c->engine[kind];
    const pr_model *model = c->model;
    pr_shard_params shard = {
        .model = model,
        .weights = c->weights,
        .place = {.tp = 1, .ranks = 1},
        .quantization = kind,
        .device = c->device,
    };
    pr_kv_store_params store = {
        .layers = model->layers,
        .blocks = BLOCKS,
        .block_tokens = BLOCK_TOKENS,
        .kv_heads = model->kv_heads,
        .head_size = model->head_size,
        .dtype = PR_F32,
    };
    pr_forward_limits limits = {
        .max_tokens = WINDOW, .max_outputs = WINDOW, .max_positions = WINDOW};
    PR_TRY(pr_shard_load(&shard, &e->shard));
    PR_TRY(pr_kv_store_create(c->device, &store, &e->store));
    PR_TRY(pr_parallel_alone_create(
        model->experts, model->experts_chosen, model->hidden, WINDOW, &e->parallel));
    return pr_forward_create(model, e->shard, e->store, e->parallel, &limits, &e->forward);
}

static pr_status open_all(comparison *c, const char *path)
{
    PR_TRY(pr_model_open(path, &c->model));
    PR_TRY(pr_weights_open(path, &c->weights));
    PR_TRY(pr_cpu_device_open(&(pr_cpu_device_params){.isa = "auto", .threads = 1}, &c->device));
    for (int kind = 0; kind < KINDS; kind++)
        PR_TRY(open_engine(c, (pr_quantization)kind));
    c->stored = calloc((size_t)WINDOW * (size_t)c->model->vocabulary, sizeof *c->stored);
    return c->stored ? PR_OK : pr_fail(PR_ERR_RESOURCE, "no memory for logits");
}

// ---- Distributions ---------------------------------------------------------------------------

static int32_t largest(const float *logits, int32_t count)
{
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

// What to take from a logit for its logarithm of a probability.
static double normaliser(const float *logits, int32_t count)
{
    double most = (double)logits[largest(logits, count)], sum = 0;
    for (int32_t i = 0; i < count; i++)
        sum += exp((double)logits[i] - most);
    return most + log(sum);
}

static double divergence(const float *right, const float *other, int32_t count)
{
    double right_norm = normaliser(right, count), other_norm = normaliser(other, count), sum = 0;
    for (int32_t i = 0; i < count; i++) {
        double p = (double)right[i] - right_norm, q = (double)other[i] - other_norm;
        sum += exp(p) * (p - q);
    }
    return sum > 0 ? sum : 0;  // rounding of equal ones
}

static pr_status
run_window(comparison *c, engine *e, const int32_t *token, int32_t count, float **logits)
{
    int32_t row[WINDOW], block[BLOCKS];
    for (int32_t i = 0; i < count; i++)
        row[i] = i;
    for (int32_t i = 0; i < BLOCKS; i++)
        block[i] = i;
    pr_segment segment = {.rows = count, .block = block};
    pr_forward_batch batch = {
        .tokens = count,
        .token = token,
        .position = row,
        .segments = 1,
        .segment = &segment,
        .outputs = count,
        .output_row = row,
    };
    PR_TRY(pr_forward_run(e->forward, &batch, logits));
    int32_t vocabulary = c->model->vocabulary;
    for (int32_t i = 0; i + 1 < count; i++) {
        const float *next = *logits + (size_t)i * (size_t)vocabulary;
        e->loss += normaliser(next, vocabulary) - (double)next[token[i + 1]];
    }
    return PR_OK;
}

static pr_status make_room(comparison *c, int32_t count)
{
    if (c->positions + count <= c->room)
        return PR_OK;
    c->room = 2 * (c->positions + count);
    for (int kind = 1; kind < KINDS; kind++) {
        double *grown = realloc(c->engine[kind].divergence, (size_t)c->room * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory for %lld positions", (long long)c->room);
        c->engine[kind].divergence = grown;
    }
    return PR_OK;
}

static pr_status compare_window(comparison *c, const int32_t *token, int32_t count)
{
    size_t vocabulary = (size_t)c->model->vocabulary;
    float *logits;
    for (int32_t i = 0; i < count; i++)
        if (token[i] < 0 || token[i] >= c->model->vocabulary)
            return pr_fail(PR_ERR_ARGUMENT, "%d is no token of the model", token[i]);
    PR_TRY(make_room(c, count));
    PR_TRY(run_window(c, &c->engine[0], token, count, &logits));
    memcpy(c->stored, logits, (size_t)count * vocabulary * sizeof *logits);
    for (int kind = 1; kind < KINDS; kind++) {
        engine *e = &c->engine[kind];
        PR_TRY(run_window(c, e, token, count, &logits));
        for (int32_t i = 0; i < count; i++) {
            const float *right = c->stored + (size_t)i * vocabulary;
            const float *other = logits + (size_t)i * vocabulary;
            e->divergence[c->positions + i] = divergence(right, other, c->model->vocabulary);
            e->same += largest(right, c->model->vocabulary) == largest(other, c->model->vocabulary);
        }
    }
    c->positions += count;
    c->next_tokens += count - 1;
    return PR_OK;
}

static pr_status compare_document(comparison *c, const int32_t *token, int32_t count)
{
    int32_t most = c->model->max_positions < WINDOW ? c->model->max_positions : WINDOW;
    for (int32_t first = 0; first < count; first += most)
        PR_TRY(compare_window(c, token + first, count - first < most ? count - first : most));
    return PR_OK;
}

// ---- Documents -------------------------------------------------------------------------------

static pr_status compare_text(comparison *c, const char *path, char *text)
{
    pr_tokenizer *tokenizer;
    pr_status status = PR_OK;
    PR_TRY(pr_tokenizer_open(path, &tokenizer));
    for (char *part = strtok(text, "\f"); part && status == PR_OK; part = strtok(NULL, "\f")) {
        int32_t *token, tokens;
        status = pr_tokenizer_encode(tokenizer, part, strlen(part), true, false, &token, &tokens);
        if (status == PR_OK) {
            status = compare_document(c, token, tokens);
            free(token);
        }
    }
    pr_tokenizer_close(tokenizer);
    return status;
}

static pr_status compare_token_lines(comparison *c, char *text)
{
    int32_t token[WINDOW];
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        int32_t count = 0;
        char *end;
        for (char *at = line; count < WINDOW; at = end, count++) {
            token[count] = (int32_t)strtol(at, &end, 10);
            if (end == at)
                break;
        }
        PR_TRY(compare_document(c, token, count));
    }
    return PR_OK;
}

static pr_status read_file(const char *path, char **text)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return pr_fail(PR_ERR_IO, "cannot read %s", path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    *text = calloc((size_t)size + 1, 1);
    size_t got = *text ? fread(*text, 1, (size_t)size, file) : 0;
    fclose(file);
    return got == (size_t)size ? PR_OK : pr_fail(PR_ERR_IO, "cannot read all of %s", path);
}

// ---- The report ------------------------------------------------------------------------------

static int ascending(const void *a, const void *b)
{
    double left, right;
    memcpy(&left, a, sizeof left);
    memcpy(&right, b, sizeof right);
    return (left > right) - (left < right);
}

static json_t *kind_json(const comparison *c, int kind)
{
    const engine *e = &c->engine[kind];
    json_t *object = json_pack("{s:s}", "weights", kind_name[kind]);
    if (c->next_tokens)
        json_object_set_new(object, "loss", json_real(e->loss / (double)c->next_tokens));
    if (kind == 0)
        return object;
    double sum = 0;
    for (int64_t i = 0; i < c->positions; i++)
        sum += e->divergence[i];
    qsort(e->divergence, (size_t)c->positions, sizeof *e->divergence, ascending);
    json_object_set_new(object, "kl_mean", json_real(sum / (double)c->positions));
    json_object_set_new(object, "kl_median", json_real(e->divergence[(c->positions - 1) / 2]));
    json_object_set_new(object, "kl_p99", json_real(e->divergence[(c->positions - 1) * 99 / 100]));
    json_object_set_new(object, "kl_max", json_real(e->divergence[c->positions - 1]));
    json_object_set_new(
        object, "greedy_agreement", json_real((double)e->same / (double)c->positions));
    return object;
}

static void report(const comparison *c)
{
    json_t *kinds = json_array();
    for (int kind = 0; kind < KINDS; kind++)
        json_array_append_new(kinds, kind_json(c, kind));
    json_t *root = json_pack("{s:I, s:o}", "positions", (json_int_t)c->positions, "kinds", kinds);
    json_dumpf(root, stdout, JSON_REAL_PRECISION(6));
    puts("");
    json_decref(root);
}

static void close_all(comparison *c)
{
    for (int kind = 0; kind < KINDS; kind++) {
        engine *e = &c->engine[kind];
        pr_forward_destroy(e->forward);
        pr_parallel_alone_destroy(e->parallel);
        pr_kv_store_destroy(e->store);
        pr_shard_unload(e->shard);
        free(e->divergence);
    }
    pr_cpu_device_close(c->device);
    pr_weights_close(c->weights);
    pr_model_close(c->model);
    free(c->stored);
}

int main(int arguments, char **argument)
{
    comparison c = {0};
    char *text = NULL;
    bool words = arguments == 4 && strcmp(argument[2], "--text") == 0;
    if (!words && (arguments != 4 || strcmp(argument[2], "--tokens") != 0)) {
        fprintf(stderr, "use: distributions MODEL --text FILE | --tokens FILE\n");
        return 2;
    }
    pr_status status = open_all(&c, argument[1]);
    if (status == PR_OK)
        status = read_file(argument[3], &text);
    if (status == PR_OK)
        status = words ? compare_text(&c, argument[1], text) : compare_token_lines(&c, text);
    if (status == PR_OK && c.positions == 0)
        status = pr_fail(PR_ERR_ARGUMENT, "%s: no tokens in it", argument[3]);
    if (status == PR_OK)
        report(&c);
    close_all(&c);
    free(text);
    return status == PR_OK ? 0 : 1;
}
