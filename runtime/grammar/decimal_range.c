// SPDX-License-Identifier: BSD-3-Clause
// A range of digit strings is walked with two flags: still equal to the low bound, still equal to the high
// one. Built from the last digit to the first, four nodes a digit.
#include "runtime/grammar/decimal_range.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FREE, AT_LOW, AT_HIGH, AT_BOTH, STATES };

typedef struct digit_range {
    uint8_t low[PR_DECIMAL_MOST_DIGITS], high[PR_DECIMAL_MOST_DIGITS];
} digit_range;

static void write_digits(int64_t value, int32_t digits, uint8_t *digit)
{
    for (int32_t i = digits - 1; i >= 0; i--, value /= 10)
        digit[i] = (uint8_t)(value % 10);
}

// One digit in a state; after[] are the states behind it.
static int32_t
one_digit(pr_grammar_builder *builder, int state, int low, int high, const int32_t after[STATES])
{
    bool at_low = state == AT_LOW || state == AT_BOTH,
         at_high = state == AT_HIGH || state == AT_BOTH;
    pr_grammar_edge edge[3];
    int32_t edges = 0;
    int from = at_low ? low : 0, to = at_high ? high : 9;
    if (state == AT_BOTH && low == high)
        return pr_grammar_builder_bytes(builder, '0' + low, '0' + low, after[AT_BOTH]);
    if (from > to)
        return PR_GRAMMAR_NOWHERE;
    if (at_low)
        edge[edges++] =
            (pr_grammar_edge){(uint8_t)('0' + low), (uint8_t)('0' + low), after[AT_LOW]};
    if (at_high)
        edge[edges++] =
            (pr_grammar_edge){(uint8_t)('0' + high), (uint8_t)('0' + high), after[AT_HIGH]};
    from += at_low;
    to -= at_high;
    if (from <= to)
        edge[edges++] = (pr_grammar_edge){(uint8_t)('0' + from), (uint8_t)('0' + to), after[FREE]};
    return pr_grammar_builder_edges(builder, edge, edges);
}

// ---- Integers

// low and high have the same number of digits.
static int32_t
same_length(pr_grammar_builder *builder, int64_t low, int64_t high, int32_t digits, int32_t next)
{
    digit_range range;
    int32_t after[STATES] = {next, next, next, next};
    write_digits(low, digits, range.low);
    write_digits(high, digits, range.high);
    for (int32_t i = digits - 1; i >= 0; i--) {
        int32_t here[STATES];
        for (int state = 0; state < STATES; state++)
            here[state] = one_digit(builder, state, range.low[i], range.high[i], after);
        memcpy(after, here, sizeof after);
    }
    return after[AT_BOTH];
}

// 0 <= low.
static int32_t not_negative(pr_grammar_builder *builder, int64_t low, int64_t high, int32_t next)
{
    int32_t node = PR_GRAMMAR_NOWHERE;
    int64_t first = 0, last = 9;
    for (int32_t digits = 1; digits <= PR_DECIMAL_MOST_DIGITS; digits++) {
        int64_t from = low > first ? low : first, to = high < last ? high : last;
        if (from <= to)
            node = pr_grammar_builder_split(
                builder, node, same_length(builder, from, to, digits, next));
        first = last + 1;
        last = digits < PR_DECIMAL_MOST_DIGITS ? last * 10 + 9 : last;
    }
    return node;
}

int32_t
pr_decimal_range_integers(pr_grammar_builder *builder, int64_t low, int64_t high, int32_t next)
{
    int32_t node = PR_GRAMMAR_NOWHERE;
    if (high >= 0)
        node = not_negative(builder, low > 0 ? low : 0, high, next);
    if (low < 0) {
        int32_t size = not_negative(builder, high < 0 ? -high : 1, -low, next);
        node = pr_grammar_builder_split(
            builder, node, pr_grammar_builder_bytes(builder, '-', '-', size));
    }
    return node;
}

// ---- Numbers with a fraction

// A bound that is not negative, as digits.
typedef struct decimal {
    bool exclusive;
    int64_t whole;
    uint8_t fraction[PR_DECIMAL_MOST_DIGITS];
    bool is_longer;  // the fraction has digits that are not all zero behind these
} decimal;

static void read_fraction(const char *text, int32_t zeros, decimal *bound)
{
    int32_t at = 0;
    for (; zeros > 0 && at < PR_DECIMAL_MOST_DIGITS; zeros--)
        bound->fraction[at++] = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (at < PR_DECIMAL_MOST_DIGITS)
            bound->fraction[at++] = (uint8_t)(*text - '0');
        else
            bound->is_longer |= *text != '0';
    }
}

// |value| is below 1e18. The shortest decimal that reads back as the value counts as the value.
static decimal decimal_of(double value, bool exclusive)
{
    decimal bound = {.exclusive = exclusive};
    value = fabs(value);
    char text[64], digits[32] = "";
    for (int precision = 14; precision <= 16; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    char *mark = strchr(text, 'e');
    int exponent = mark ? (int)strtol(mark + 1, NULL, 10) : 0;
    snprintf(digits, sizeof digits, "%c%.*s", text[0], (int)(mark - text - 2), text + 2);
    int32_t length = (int32_t)strlen(digits), at = 0;
    for (; at <= exponent; at++)
        bound.whole = bound.whole * 10 + (at < length ? digits[at] - '0' : 0);
    read_fraction(at < length ? digits + at : "", exponent < -1 ? -exponent - 1 : 0, &bound);
    return bound;
}

// Whether a text of `digits` fraction digits, all equal to the bound's, may end there.
static bool may_end(const decimal *bound, int32_t digits, bool is_low)
{
    bool rest = bound->is_longer;
    for (int32_t i = digits; i < PR_DECIMAL_MOST_DIGITS; i++)
        rest |= bound->fraction[i] != 0;
    return rest ? !is_low : !bound->exclusive;
}

static bool state_may_end(int state, const decimal *low, const decimal *high, int32_t digits)
{
    bool at_low = state == AT_LOW || state == AT_BOTH,
         at_high = state == AT_HIGH || state == AT_BOTH;
    return (!at_low || may_end(low, digits, true)) && (!at_high || may_end(high, digits, false));
}

// What may follow an integer part: nothing, or a point and 1..most digits. The integer part is that of the
// bounds that the state names.
static int32_t fraction(
    pr_grammar_builder *builder,
    int state,
    const decimal *low,
    const decimal *high,
    int32_t most,
    int32_t next)
{
    int32_t after[STATES] = {-1, -1, -1, -1}, here[STATES];
    for (int32_t digits = most; digits >= 1; digits--) {
        for (int i = 0; i < STATES; i++) {
            int32_t end = state_may_end(i, low, high, digits) ? next : PR_GRAMMAR_NOWHERE;
            here[i] = pr_grammar_builder_split(builder, end, after[i]);
        }
        for (int i = 0; i < STATES; i++)
            after[i] =
                one_digit(builder, i, low->fraction[digits - 1], high->fraction[digits - 1], here);
    }
    int32_t point = PR_GRAMMAR_NOWHERE;
    if (after[state] != PR_GRAMMAR_NOWHERE)
        point = pr_grammar_builder_bytes(builder, '.', '.', after[state]);
    return state_may_end(state, low, high, 0) ? pr_grammar_builder_split(builder, next, point)
                                              : point;
}

static int32_t digits_of(int64_t value)
{
    int32_t digits = 1;
    for (; value >= 10; value /= 10)
        digits++;
    return digits;
}

// 0 <= low.
static int32_t
numbers_between(pr_grammar_builder *builder, const decimal *low, const decimal *high, int32_t next)
{
    int32_t most = PR_DECIMAL_DIGITS - digits_of(high->whole);
    if (low->whole > high->whole)
        return PR_GRAMMAR_NOWHERE;
    if (most < 0)
        most = 0;
    if (low->whole == high->whole)
        return not_negative(
            builder, low->whole, low->whole, fraction(builder, AT_BOTH, low, high, most, next));
    int32_t at_low = fraction(builder, AT_LOW, low, high, most, next);
    int32_t at_high = fraction(builder, AT_HIGH, low, high, most, next);
    int32_t between = fraction(builder, FREE, low, high, most, next);
    int32_t node = not_negative(builder, low->whole, low->whole, at_low);
    node = pr_grammar_builder_split(
        builder, node, not_negative(builder, high->whole, high->whole, at_high));
    if (low->whole + 1 <= high->whole - 1)
        node = pr_grammar_builder_split(
            builder, node, not_negative(builder, low->whole + 1, high->whole - 1, between));
    return node;
}

static decimal open_end(const pr_decimal_bound *other)
{
    double size = other->given ? fabs(other->value) : 0;
    int64_t whole = PR_DECIMAL_LARGEST_OPEN;
    while ((double)whole < size && whole < PR_DECIMAL_LARGEST)
        whole = whole * 10 + 9;
    return (decimal){.whole = whole};
}

// Bounds beyond what has digits here leave the side open, or nothing at all.
static bool is_beyond(double value) { return value >= 1e15; }

int32_t pr_decimal_range_numbers(
    pr_grammar_builder *builder, pr_decimal_bound low, pr_decimal_bound high, int32_t next)
{
    int32_t node = PR_GRAMMAR_NOWHERE;
    decimal zero = {0}, above_zero = {.exclusive = true};
    if ((low.given && is_beyond(low.value)) || (high.given && is_beyond(-high.value)))
        return PR_GRAMMAR_NOWHERE;
    low.given = low.given && !is_beyond(-low.value);
    high.given = high.given && !is_beyond(high.value);
    if (!high.given || high.value >= 0) {
        decimal from = low.given && low.value >= 0 ? decimal_of(low.value, low.exclusive) : zero;
        decimal to = high.given ? decimal_of(high.value, high.exclusive) : open_end(&low);
        node = numbers_between(builder, &from, &to, next);
    }
    if (!low.given || low.value < 0) {
        bool below_zero = high.given && high.value < 0;
        decimal from = below_zero ? decimal_of(-high.value, high.exclusive) : above_zero;
        decimal to = low.given ? decimal_of(-low.value, low.exclusive) : open_end(&high);
        int32_t size = numbers_between(builder, &from, &to, next);
        if (size != PR_GRAMMAR_NOWHERE)
            node = pr_grammar_builder_split(
                builder, node, pr_grammar_builder_bytes(builder, '-', '-', size));
    }
    return node;
}
