// SPDX-License-Identifier: BSD-3-Clause
// One client request on its way to its reply: the sequences it stands for (prompts x n) and their growing
// answers. A batch line and an HTTP request are both one of these, so both say the same.
// Threads: one at a time.
#ifndef PR_LAUNCHER_OPENAI_REPLY_H
#define PR_LAUNCHER_OPENAI_REPLY_H

#include "launcher/openai/answer.h"
#include "launcher/openai/chat_answer.h"
#include "launcher/openai/sequence_owners.h"

typedef struct pr_reply {
    pr_completion_request *request;  // owned
    int32_t answers, unfinished;
    pr_answer *answer;         // [answers] choice i of prompt p is p * n + i
    pr_prompt_scores *scores;  // [prompts] for `echo` with `logprobs`; else NULL
    uint64_t first_id;         // of its sequences; consecutive
    int32_t cached_tokens;     // of its prompts, as far as they were admitted
} pr_reply;

// Takes the request, also when it fails (then nothing is left to end).
pr_status pr_reply_begin(
    pr_completion_request *request, const pr_tokenizer *tokenizer, pr_reply *reply) PR_MUST_CHECK;
void pr_reply_end(pr_reply *reply);

// Gives its sequences their ids; `owner` is whose they are.
pr_status pr_reply_number(pr_reply *reply, pr_sequence_owners *owners, void *owner) PR_MUST_CHECK;

// A new request for the scheduler: sequence `index`, numbered before, which goes on after the tokens its answer
// has already. The salt separates prefix caches.
pr_status pr_reply_sequence(
    const pr_reply *reply, int32_t index, uint64_t salt, pr_request **request) PR_MUST_CHECK;

static inline pr_answer *pr_reply_answer(const pr_reply *reply, uint64_t id)
{
    return &reply->answer[id - reply->first_id];
}

// Keeps the logprob of a prompt's token; the entry is of one of its sequences.
void pr_reply_prompt_logprob(pr_reply *reply, const pr_prompt_logprob *entry);

int64_t pr_reply_prompt_tokens(const pr_reply *reply);
int64_t pr_reply_output_tokens(const pr_reply *reply);

typedef struct pr_reply_names {
    const char *id;
    int64_t created;  // s since 1970
    const char *model;
    bool tells_cached;  // usage says how many prompt tokens were cached
} pr_reply_names;

// The object of a whole reply, new; NULL without memory.
json_t *
pr_reply_body(const pr_reply *reply, const pr_tokenizer *tokenizer, const pr_reply_names *names);
json_t *pr_reply_usage(const pr_reply *reply, bool tells_cached);
// Of the tool calls of answer `index`, in a reply of this id.
pr_chat_calls pr_reply_calls(const pr_reply *reply, int32_t index, const char *id);
// What `echo` puts before the text of answer `index`: malloc'ed, NULL if nothing.
char *pr_reply_echo(
    const pr_reply *reply, const pr_tokenizer *tokenizer, int32_t index, size_t *size_bytes);

#endif
