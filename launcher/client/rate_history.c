// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/client/rate_history.h"

#include <math.h>

void pr_rate_history_add(pr_rate_history *history, double time_s, double value)
{
    if (isnan(value))
        return;
    history->time_s[history->next] = time_s;
    history->value[history->next] = value;
    history->next = (history->next + 1) % PR_RATE_HISTORY_SAMPLES;
    if (history->samples < PR_RATE_HISTORY_SAMPLES)
        history->samples++;
}

// The mean of the samples in (from, to], or NAN.
static double mean_between(const pr_rate_history *history, double from_s, double to_s)
{
    double sum = 0;
    int32_t count = 0;
    for (int32_t i = 0; i < history->samples; i++) {
        if (history->time_s[i] > from_s && history->time_s[i] <= to_s) {
            sum += history->value[i];
            count++;
        }
    }
    return count ? sum / count : (double)NAN;
}

void pr_rate_history_spans(
    const pr_rate_history *history, double now_s, int32_t spans, double *mean)
{
    double span_s = (double)PR_RATE_HISTORY_S / spans, begin_s = now_s - PR_RATE_HISTORY_S;
    for (int32_t i = 0; i < spans; i++) {
        double to_s = i + 1 == spans ? now_s : begin_s + (i + 1) * span_s;
        mean[i] = mean_between(history, begin_s + i * span_s, to_s);
        if (isnan(mean[i]) && i > 0)
            mean[i] = mean[i - 1];
    }
}
