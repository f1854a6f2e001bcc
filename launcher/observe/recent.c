// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/observe/recent.h"

#include <math.h>
#include <string.h>

static const double least_s = 1e-5;
static const int64_t second_ns = 1000000000;

enum { PER_OCTAVE = 8 };

static int32_t bucket_of(double value_s)
{
    if (!(value_s > least_s))
        return 0;
    double place = PER_OCTAVE * log2(value_s / least_s);
    return place < PR_RECENT_BUCKETS - 1 ? (int32_t)place : PR_RECENT_BUCKETS - 1;
}

static int64_t slot_number_at(int64_t now_ns)
{
    return now_ns / (PR_RECENT_SLOT_S * second_ns) + 1;
}

void pr_recent_values_add(pr_recent_values *recent, int64_t now_ns, double value_s)
{
    int64_t number = slot_number_at(now_ns);
    int32_t slot = (int32_t)(number % PR_RECENT_SLOTS);
    if (recent->slot_number[slot] != number) {
        memset(recent->count[slot], 0, sizeof recent->count[slot]);
        recent->slot_number[slot] = number;
    }
    recent->count[slot][bucket_of(value_s)]++;
}

double pr_recent_values_quantile(const pr_recent_values *recent, int64_t now_ns, double part)
{
    int64_t sum[PR_RECENT_BUCKETS] = {0}, values = 0, seen = 0;
    for (int32_t slot = 0; slot < PR_RECENT_SLOTS; slot++) {
        if (recent->slot_number[slot] == 0 ||
            recent->slot_number[slot] <= slot_number_at(now_ns) - PR_RECENT_SLOTS)
            continue;
        for (int32_t i = 0; i < PR_RECENT_BUCKETS; i++) {
            sum[i] += recent->count[slot][i];
            values += recent->count[slot][i];
        }
    }
    if (values == 0)
        return 0;
    int64_t wanted = (int64_t)ceil(part * (double)values);
    int32_t bucket = 0;
    while (bucket < PR_RECENT_BUCKETS - 1 && (seen += sum[bucket]) < wanted)
        bucket++;
    return least_s * exp2((bucket + 0.5) / PER_OCTAVE);
}

void pr_recent_sum_add(pr_recent_sum *recent, int64_t now_ns, int64_t amount)
{
    int64_t second = now_ns / second_ns + 1;
    int32_t slot = (int32_t)(second % (PR_RECENT_SECONDS + 1));
    if (recent->second[slot] != second) {
        recent->second[slot] = second;
        recent->amount[slot] = 0;
    }
    recent->amount[slot] += amount;
}

double pr_recent_sum_rate(const pr_recent_sum *recent, int64_t now_ns)
{
    int64_t second = now_ns / second_ns + 1, sum = 0;
    for (int32_t slot = 0; slot <= PR_RECENT_SECONDS; slot++) {
        if (recent->second[slot] > 0 && recent->second[slot] >= second - PR_RECENT_SECONDS)
            sum += recent->amount[slot];
    }
    double passed_s = PR_RECENT_SECONDS + (double)(now_ns % second_ns) * 1e-9;
    return (double)sum / passed_s;
}
