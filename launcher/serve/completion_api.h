// SPDX-License-Identifier: BSD-3-Clause
// OpenAI's completions and chat completions: a body becomes a call. Source: OpenAI API reference.
#ifndef PR_LAUNCHER_SERVE_COMPLETION_API_H
#define PR_LAUNCHER_SERVE_COMPLETION_API_H

#include "launcher/serve/route.h"

pr_route_handler pr_completion_api_complete, pr_completion_api_chat;

#endif
