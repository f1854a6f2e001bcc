// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/observe/histogram.h"

const pr_histogram_scale pr_histogram_ttft = {
    22, {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
         1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0}};
const pr_histogram_scale pr_histogram_gap = {
    19,
    {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
     40.0, 80.0}};
const pr_histogram_scale pr_histogram_latency = {
    21, {0.3,  0.5,  0.8,  1.0,  1.5,   2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
         30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0}};
const pr_histogram_scale pr_histogram_iteration = {
    13, {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}};
const pr_histogram_scale pr_histogram_choices = {5, {1, 2, 5, 10, 20}};

pr_histogram_scale pr_histogram_tokens(int32_t most)
{
    static const int32_t mantissa[] = {1, 2, 5};
    pr_histogram_scale scale = {0};
    double power = 1;
    for (int32_t i = 0; scale.bounds < PR_HISTOGRAM_BOUNDS; i++) {
        double bound = mantissa[i % 3] * power;
        if (bound > most)
            break;
        scale.bound[scale.bounds++] = bound;
        if (i % 3 == 2)
            power *= 10;
    }
    return scale;
}

int32_t pr_histogram_place(const pr_histogram_scale *scale, double value)
{
    int32_t place = 0;
    while (place < scale->bounds && value > scale->bound[place])
        place++;
    return place;
}

void pr_histogram_add(pr_histogram *histogram, double value)
{
    histogram->count[pr_histogram_place(histogram->scale, value)]++;
    histogram->values++;
    histogram->sum += value;
}
