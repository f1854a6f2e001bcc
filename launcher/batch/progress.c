// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/batch/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { BAR_WIDTH = 24 };

static const int64_t SECOND_NS = 1000000000;

void pr_progress_begin(pr_progress *progress)
{
    *progress = (pr_progress){
        .terminal = isatty(STDERR_FILENO),
        .begin_ns = pr_clock_now_ns(),
        .interval_ns = 5 * SECOND_NS,
    };
    progress->last_ns = progress->begin_ns;
}

static void draw_bar(const pr_progress_state *state, double rate)
{
    char bar[BAR_WIDTH + 1];
    int64_t filled = state->taken > 0 ? state->answered * BAR_WIDTH / state->taken : 0;
    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    fprintf(
        stderr, "\r[%s] %lld/%lld%s requests, %lld tokens, %.0f tokens/s ", bar,
        (long long)state->answered, (long long)state->taken, state->input_ended ? "" : "+",
        (long long)state->output_tokens, rate);
    fflush(stderr);
}

void pr_progress_show(pr_progress *progress, const pr_progress_state *state)
{
    int64_t now_ns = pr_clock_now_ns();
    int64_t interval_ns = progress->terminal ? SECOND_NS / 5 : progress->interval_ns;
    if (now_ns - progress->last_ns < interval_ns)
        return;
    progress->last_ns = now_ns;
    double seconds = (double)(now_ns - progress->begin_ns) * 1e-9;
    double rate = (double)state->output_tokens / seconds;
    if (progress->terminal) {
        draw_bar(state, rate);
        return;
    }
    pr_log(
        PR_LOG_INFO, "%lld of %lld%s requests, %lld prompt and %lld output tokens, %.0f tokens/s",
        (long long)state->answered, (long long)state->taken, state->input_ended ? "" : "+",
        (long long)state->prompt_tokens, (long long)state->output_tokens, rate);
    if (now_ns - progress->begin_ns > 60 * SECOND_NS)
        progress->interval_ns = 30 * SECOND_NS;
}

void pr_progress_end(pr_progress *progress)
{
    if (progress->terminal)
        fputs("\r\033[K", stderr);
}
