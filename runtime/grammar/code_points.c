// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/grammar/code_points.h"

#include <stdlib.h>
#include <string.h>

static const uint32_t first_code_point = 1, last_code_point = 0x10ffff;
static const uint32_t first_surrogate = 0xd800, last_surrogate = 0xdfff;

void pr_code_points_free(pr_code_points *set) { pr_byte_buffer_free(&set->range); }

void pr_code_points_add(pr_code_points *set, uint32_t low, uint32_t high)
{
    pr_code_range range = {low, high};
    if (low <= high)
        pr_byte_buffer_append(&set->range, &range, sizeof range);
}

void pr_code_points_add_all(pr_code_points *set, const pr_code_points *other)
{
    if (other->range.size_bytes > 0)
        pr_byte_buffer_append(&set->range, other->range.data, other->range.size_bytes);
}

static int compare_ranges(const void *a, const void *b)
{
    const pr_code_range *left = a, *right = b;
    return (left->low > right->low) - (left->low < right->low);
}

static void add_within_universe(pr_code_points *set, pr_code_range range)
{
    if (range.low < first_code_point)
        range.low = first_code_point;
    if (range.high > last_code_point)
        range.high = last_code_point;
    if (range.low < first_surrogate && range.high > last_surrogate) {
        pr_code_points_add(set, range.low, first_surrogate - 1);
        range.low = last_surrogate + 1;
    } else if (range.low <= last_surrogate && range.high >= first_surrogate) {
        if (range.low >= first_surrogate)
            range.low = last_surrogate + 1;
        if (range.high <= last_surrogate)
            range.high = first_surrogate - 1;
    }
    pr_code_points_add(set, range.low, range.high);
}

void pr_code_points_normalise(pr_code_points *set)
{
    pr_code_points result = {0};
    pr_code_range *range = set->range.data;
    int32_t count = pr_code_points_count(set);
    if (count == 0)
        return;
    qsort(range, (size_t)count, sizeof *range, compare_ranges);
    pr_code_range open = range[0];
    for (int32_t i = 1; i < count; i++) {
        if (range[i].low <= open.high || range[i].low == open.high + 1) {
            open.high = range[i].high > open.high ? range[i].high : open.high;
            continue;
        }
        add_within_universe(&result, open);
        open = range[i];
    }
    add_within_universe(&result, open);
    result.range.failed |= set->range.failed;
    pr_code_points_free(set);
    *set = result;
}

void pr_code_points_negate(pr_code_points *set)
{
    pr_code_points result = {0};
    const pr_code_range *range = pr_code_points_ranges(set);
    uint32_t from = first_code_point;
    for (int32_t i = 0; i < pr_code_points_count(set); i++) {
        pr_code_points_add(&result, from, range[i].low - 1);
        from = range[i].high + 1;
    }
    pr_code_points_add(&result, from, last_code_point);
    result.range.failed |= set->range.failed;
    pr_code_points_free(set);
    *set = result;
    pr_code_points_normalise(set);
}

// set less other = not (not set or other).
void pr_code_points_subtract(pr_code_points *set, const pr_code_points *other)
{
    pr_code_points_negate(set);
    pr_code_points_add_all(set, other);
    pr_code_points_normalise(set);
    pr_code_points_negate(set);
}

static int32_t encode(uint32_t code_point, uint8_t *bytes)
{
    if (code_point < 0x80) {
        bytes[0] = (uint8_t)code_point;
        return 1;
    }
    int32_t count = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (int32_t i = count - 1; i > 0; i--, code_point >>= 6)
        bytes[i] = (uint8_t)(0x80 | (code_point & 0x3f));
    bytes[0] = (uint8_t)(0xf00u >> count | code_point);
    return count;
}

// The last code point up to which [low, high] is one run: same length, and every continuation byte
// after the first that differs takes all its values.
static uint32_t end_of_run(uint32_t low, uint32_t high)
{
    static const uint32_t last_of_length[] = {0x7f, 0x7ff, 0xffff, 0x10ffff};
    for (int i = 0; i < 4; i++) {
        if (low <= last_of_length[i] && high > last_of_length[i])
            high = last_of_length[i];
    }
    for (int shift = 6; shift <= 18 && low >= 0x80; shift += 6) {
        uint32_t mask = (1u << shift) - 1;
        if ((low & ~mask) == (high & ~mask))
            break;
        if ((low & mask) != 0)
            return low | mask;
        if ((high & mask) != mask)
            high = (high & ~mask) - 1;
    }
    return high;
}

void pr_code_points_spell(const pr_code_points *set, pr_byte_buffer *runs)
{
    const pr_code_range *range = pr_code_points_ranges(set);
    for (int32_t i = 0; i < pr_code_points_count(set); i++) {
        for (uint32_t low = range[i].low, high; low <= range[i].high; low = high + 1) {
            pr_utf8_run run = {0};
            high = end_of_run(low, range[i].high);
            run.bytes = encode(low, run.low);
            (void)encode(high, run.high);
            pr_byte_buffer_append(runs, &run, sizeof run);
        }
    }
}
