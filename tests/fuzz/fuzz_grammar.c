// SPDX-License-Identifier: BSD-3-Clause
// A kind, the length of a text (two bytes), the text, then bytes for the matcher. Whatever compiles keeps
// its bounds, never gets stuck, and is not changed by blurred counts within their horizon.
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/grammar/matcher.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static pr_matcher_state state, next, blurred;

static void must(bool holds)
{
    if (!holds)
        abort();
}

// Some byte leads on from every stack.
static void check_state(const pr_grammar *grammar, pr_matcher_scratch *scratch)
{
    must(!pr_matcher_is_dead(&state));
    must(state.stacks <= PR_MATCHER_MAX_STACKS && state.frames <= PR_MATCHER_MAX_FRAMES);
    for (int32_t i = 0; i < state.stacks; i++) {
        const pr_matcher_stack *stack = &state.stack[i];
        const pr_grammar_node *top =
            &grammar->node[state.frame[stack->first + stack->depth - 1].node];
        must(top->op == PR_GRAMMAR_EDGES && stack->depth + top->need <= PR_GRAMMAR_MAX_DEPTH);
    }
    bool goes_on = state.stacks == 0;
    for (int byte = 0; byte < 256 && !goes_on; byte++) {
        pr_matcher_step(grammar, scratch, &state, (uint8_t)byte, &next);
        goes_on = !pr_matcher_is_dead(&next);
    }
    must(goes_on);
}

// The next bytes fit the state as it is and the blurred one alike.
static void check_blur(
    const pr_grammar *grammar, pr_matcher_scratch *scratch, const uint8_t *bytes, size_t size)
{
    int32_t count = size < 4 ? (int32_t)size : 4;
    pr_matcher_copy(&state, &next);
    pr_matcher_copy(&state, &blurred);
    pr_matcher_blur(grammar, &blurred, 4);
    bool full = next.stacks > PR_MATCHER_MAX_STACKS / 8;  // what is forgotten may differ
    bool fits = pr_matcher_advance(grammar, scratch, &next, bytes, count);
    bool fits_blurred = pr_matcher_advance(grammar, scratch, &blurred, bytes, count);
    must(full || (fits == fits_blurred && (!fits || next.ends == blurred.ends)));
}

static void walk(const pr_grammar *grammar, const uint8_t *bytes, size_t size)
{
    static pr_matcher_scratch *scratch;
    if (!scratch)
        must(pr_matcher_scratch_create(&scratch) == PR_OK);
    pr_matcher_begin(grammar, scratch, &state);
    check_state(grammar, scratch);
    for (size_t i = 0; i < size && i < 300; i++) {
        check_blur(grammar, scratch, bytes + i, size - i);
        if (pr_matcher_advance(grammar, scratch, &state, bytes + i, 1))
            check_state(grammar, scratch);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    size_t length = (size_t)(data[1] | data[2] << 8), left = size - 3;
    length = length < left ? length : left;
    pr_grammar_source source = {
        .kind = (pr_grammar_kind)(1 + data[0] % (PR_GRAMMAR_KINDS - 1)),
        .size_bytes = (int32_t)length,
        .text = malloc(length > 0 ? length : 1),
    };
    must(source.text != NULL);
    memcpy(source.text, data + 3, length);
    pr_grammar *grammar;
    pr_error_capture_begin();
    pr_status status = pr_grammar_compile(&source, &grammar);
    pr_error_capture_end();
    free(source.text);
    must(status == PR_OK || status == PR_ERR_REQUEST);
    if (status != PR_OK)
        return 0;
    walk(grammar, data + 3 + length, left - length);
    pr_grammar_destroy(grammar);
    return 0;
}
