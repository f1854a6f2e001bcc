// SPDX-License-Identifier: BSD-3-Clause
// Between text, tokens and prompts, without computing anything: what clients and llm-d's scheduler ask to know prompts as
// this server does. Shapes: vLLM's (tokenize, detokenize, tokenizer_info, render).
#ifndef PR_LAUNCHER_SERVE_TEXT_API_H
#define PR_LAUNCHER_SERVE_TEXT_API_H

#include "launcher/serve/route.h"

pr_route_handler pr_text_api_tokenize, pr_text_api_detokenize, pr_text_api_info;
pr_route_handler pr_text_api_render, pr_text_api_render_chat;

#endif
