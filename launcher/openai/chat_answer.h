// SPDX-License-Identifier: BSD-3-Clause
// The message of a chat reply, from the deltas of a message parser: whole, or as the `delta` of a stream's chunk. Both are
// made of the same pieces, so that a client that adds up a stream has the whole message.
//
//   deltas    CONTENT "Hm."   TOOL_BEGIN f   TOOL_ARGUMENTS "{}"
//   message   {"role":"assistant","content":"Hm.","refusal":null,"tool_calls":[{"id":"call_..","type":"function",
//              "function":{"name":"f","arguments":"{}"}}]}
//   delta     {"role":"assistant","content":"Hm.","tool_calls":[{"index":0,"id":..,"type":..,"function":{..}}]}
//
// Reasoning stands in `reasoning_content` and in `reasoning`. New values are NULL without memory.
// Threads: none of its own. Source: OpenAI API reference (chat completions); reasoning as vLLM has it.
#ifndef PR_LAUNCHER_OPENAI_CHAT_ANSWER_H
#define PR_LAUNCHER_OPENAI_CHAT_ANSWER_H

#include "launcher/openai/answer.h"
#include "launcher/openai/message_parser.h"
#include "runtime/text/byte_buffer.h"

// What the ids of a choice's calls are derived from: the same in a stream and in a whole reply.
typedef struct pr_chat_calls {
    const char *request_id;
    int32_t choice;
    bool
        short_ids;  // nine letters, which Mistral's templates demand; else "call_" and 24 hex digits
} pr_chat_calls;

typedef struct pr_chat_answer {  // all zero: nothing yet
    pr_byte_buffer content, reasoning;
    struct pr_chat_call *call;  // [calls]
    int32_t calls, capacity;
} pr_chat_answer;

pr_status
pr_chat_answer_add(pr_chat_answer *chat, const pr_delta *delta, int32_t deltas) PR_MUST_CHECK;
void pr_chat_answer_free(pr_chat_answer *chat);

json_t *pr_chat_answer_message(const pr_chat_answer *chat, const pr_chat_calls *calls);
// One choice of a whole reply.
json_t *pr_chat_answer_choice(
    const pr_chat_answer *chat,
    const pr_chat_calls *calls,
    const pr_answer *answer,
    const pr_tokenizer *tokenizer);

// The `delta` of one chunk. first: the choice's first, which has the role too. {} if there is nothing to say.
json_t *
pr_chat_answer_delta(const pr_chat_calls *calls, const pr_delta *delta, int32_t deltas, bool first);

// As pr_answer_finish_reason; a stop after calls is "tool_calls".
json_t *pr_chat_answer_finish_reason(const pr_answer *answer, int32_t calls);
// {"content":[...],"refusal":null} of tokens [from, to); null if not asked for.
json_t *pr_chat_answer_logprobs(
    const pr_answer *answer, const pr_tokenizer *tokenizer, int32_t from, int32_t to);

#endif
