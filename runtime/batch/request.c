// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/batch/request.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

void pr_sampling_defaults(pr_sampling *sampling)
{
    *sampling = (pr_sampling){
        .temperature = 1,
        .top_p = 1,
        .repetition_penalty = 1,
        .max_tokens = 16,
        .top_logprobs = -1,
        .prompt_logprobs = -1,
    };
}

void pr_sampling_free(pr_sampling *sampling)
{
    free(sampling->bias);
    free(sampling->grammar.text);
}

// NULL for an empty array; false when there is no memory.
static bool copy_array(const void *array, int32_t count, size_t element_bytes, void **copy)
{
    *copy = NULL;
    if (count == 0)
        return true;
    *copy = malloc((size_t)count * element_bytes);
    if (*copy)
        memcpy(*copy, array, (size_t)count * element_bytes);
    return *copy != NULL;
}

pr_status pr_request_copy(const pr_request *request, pr_request **copy)
{
    pr_request *made = malloc(sizeof *made);
    if (made) {
        const pr_sampling *from = &request->sampling;
        void *prompt, *output = NULL, *bias = NULL, *grammar = NULL;
        *made = *request;
        bool complete =
            copy_array(request->prompt, request->prompt_tokens, sizeof *request->prompt, &prompt) &&
            copy_array(request->output, request->outputs, sizeof *request->output, &output) &&
            copy_array(from->bias, from->biases, sizeof *from->bias, &bias) &&
            copy_array(from->grammar.text, from->grammar.size_bytes, 1, &grammar);
        made->prompt = prompt;
        made->output = output;
        made->sampling.bias = bias;
        made->sampling.grammar.text = grammar;
        if (complete) {
            *copy = made;
            return PR_OK;
        }
    }
    pr_request_destroy(made);
    return pr_fail(
        PR_ERR_RESOURCE, "no memory to copy a request of %d tokens", request->prompt_tokens);
}

void pr_request_destroy(pr_request *request)
{
    if (!request)
        return;
    free(request->prompt);
    free(request->output);
    pr_sampling_free(&request->sampling);
    free(request);
}
