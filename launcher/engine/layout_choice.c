// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/engine/layout_choice.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/model/shard.h"

static const int32_t degrees[] = {1, 2, 4, 8};
enum { DEGREES = 4 };

__attribute__((format(printf, 2, 3))) static void append(char *text, const char *format, ...)
{
    size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, PR_LAYOUT_TEXT_BYTES - used, format, arguments);
    va_end(arguments);
}

// ---- which tp ----

static bool can_be_cut(const pr_memory_facts *facts, int32_t ranks, int32_t tp)
{
    pr_place place = {.tp = tp, .ranks = ranks};
    if (ranks % tp != 0)
        return false;
    pr_error_capture_begin();
    pr_status status = pr_shard_check(facts->model, &place);
    pr_error_capture_end();
    return status == PR_OK;
}

static bool fits_memory(const pr_memory_facts *facts, int32_t ranks, int32_t tp)
{
    pr_memory_budget budget;
    pr_memory_budget_of(facts, ranks, tp, &budget);
    return budget.blocks_fit >= budget.blocks_least;
}

// The smallest tp for a group of `ranks` ranks (0: of tp ranks, out of `total`). If none fits the
// memory: the largest possible, and the memory budget will say what is missing.
static int32_t choose_tp(const pr_memory_facts *facts, int32_t ranks, int32_t total, char *why)
{
    int32_t largest = 1;
    for (int i = 0; i < DEGREES; i++) {
        int32_t tp = degrees[i], of = ranks ? ranks : tp;
        if (total % tp != 0 || !can_be_cut(facts, of, tp))
            continue;
        largest = tp;
        if (!fits_memory(facts, of, tp))
            continue;
        append(why, "tp %d: the smallest that fits the memory of a rank\n", (int)tp);
        return tp;
    }
    append(why, "tp %d: the largest possible; the model does not fit the memory\n", (int)largest);
    return largest;
}

// ---- flags ----

// One positive number at *at; 0 if there is none.
static int32_t take_number(const char **at)
{
    char *end;
    if (**at < '0' || **at > '9')
        return 0;
    long value = strtol(*at, &end, 10);
    *at = end;
    return value > 0 && value <= 1 << 20 ? (int32_t)value : 0;
}

static bool take_text(const char **at, const char *text)
{
    size_t length = strlen(text);
    if (strncmp(*at, text, length) != 0)
        return false;
    *at += length;
    return true;
}

static pr_status fail_tp_of_ranks(const char *flag, const char *text, int32_t ranks, int32_t tp)
{
    int32_t fewer = ranks / tp * tp, lower = tp;
    while (ranks % lower != 0)
        lower /= 2;
    if (fewer > 0)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "--%s %s: %d ranks are not a multiple of tp %d; nearest that fits: --%s 1x%d:tp=%d or "
            "1x%d:tp=%d",
            flag, text, (int)ranks, (int)tp, flag, (int)fewer, (int)tp, (int)ranks, (int)lower);
    return pr_fail(
        PR_ERR_ARGUMENT,
        "--%s %s: %d ranks are fewer than tp %d; nearest that fits: --%s 1x%d:tp=%d", flag, text,
        (int)ranks, (int)tp, flag, (int)ranks, (int)lower);
}

static pr_status add_groups(
    const char *flag,
    const char *text,
    int32_t copies,
    const pr_group_layout *group,
    pr_layout *layout)
{
    if (copies > PR_MAX_GROUPS - layout->groups)
        return pr_fail(
            PR_ERR_ARGUMENT, "--%s %s: more than %d groups", flag, text, (int)PR_MAX_GROUPS);
    for (int32_t i = 0; i < copies; i++) {
        pr_group_layout *added = &layout->group[layout->groups++];
        *added = *group;
        added->first_rank = layout->ranks;
        layout->ranks += group->ranks;
    }
    return PR_OK;
}

// Appends the groups of one flag. layout->ranks counts the ranks used so far.
static pr_status parse_flag_groups(
    const pr_memory_facts *facts,
    const char *flag,
    const char *text,
    pr_role role,
    pr_layout *layout,
    char *why)
{
    const char *at = text;
    do {
        pr_group_layout group = {.role = role, .tp = facts->options->tensor_parallel_size};
        int32_t copies = take_number(&at);
        bool good = copies && take_text(&at, "x") && (group.ranks = take_number(&at));
        if (good && take_text(&at, ":tp="))
            good = (group.tp = take_number(&at));
        if (!good || (*at && *at != ','))
            return pr_fail(
                PR_ERR_ARGUMENT,
                "--%s '%s' is not a layout: use NxR or NxR:tp=T (N groups of R ranks), e.g. "
                "2x4:tp=2",
                flag, text);
        if (group.tp > 8 || (group.tp & (group.tp - 1)) != 0)
            return pr_fail(
                PR_ERR_ARGUMENT, "--%s %s: tp %d: use 1, 2, 4 or 8", flag, text, (int)group.tp);
        if (group.tp && group.ranks % group.tp != 0)
            return fail_tp_of_ranks(flag, text, group.ranks, group.tp);
        if (!group.tp) {
            append(why, "--%s 1x%d: ", flag, (int)group.ranks);
            group.tp = choose_tp(facts, group.ranks, group.ranks, why);
        }
        pr_place place = {.tp = group.tp, .ranks = group.ranks};
        PR_TRY(pr_shard_check(facts->model, &place));
        PR_TRY(add_groups(flag, text, copies, &group, layout));
    } while (take_text(&at, ","));
    return PR_OK;
}

static pr_status
fail_rank_sum(const pr_options *options, int32_t named, int32_t decode_named, int32_t usable)
{
    const char *less = options->dedicated_controller ? " (one is the controller's)" : "";
    if (options->mixed)
        return pr_fail(
            PR_ERR_ARGUMENT, "--mixed %s names %d ranks, the run has %d%s: --mixed 1x%d fits",
            options->mixed, (int)named, (int)usable, less, (int)usable);
    int32_t rest = usable - (named - decode_named);
    if (rest > 0)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "--prefill %s --decode %s name %d ranks, the run has %d%s: --decode 1x%d fits beside "
            "this "
            "prefill",
            options->prefill, options->decode, (int)named, (int)usable, less, (int)rest);
    return pr_fail(
        PR_ERR_ARGUMENT,
        "--prefill %s --decode %s name %d ranks, the run has %d%s: start more ranks",
        options->prefill, options->decode, (int)named, (int)usable, less);
}

static pr_status
layout_from_flags(const pr_memory_facts *facts, int32_t usable, pr_layout *layout, char *why)
{
    const pr_options *options = facts->options;
    int32_t before = layout->ranks, decode_named = 0;
    append(why, "layout: given by flags\n");
    if (options->mixed) {
        PR_TRY(parse_flag_groups(facts, "mixed", options->mixed, PR_ROLE_MIXED, layout, why));
    } else {
        PR_TRY(parse_flag_groups(facts, "prefill", options->prefill, PR_ROLE_PREFILL, layout, why));
        int32_t prefill_end = layout->ranks;
        PR_TRY(parse_flag_groups(facts, "decode", options->decode, PR_ROLE_DECODE, layout, why));
        decode_named = layout->ranks - prefill_end;
    }
    int32_t named = layout->ranks - before;
    if (named != usable)
        return fail_rank_sum(options, named, decode_named, usable);
    return PR_OK;
}

// ---- chosen ----

static pr_status check_given_tp(const pr_memory_facts *facts, int32_t usable)
{
    int32_t tp = facts->options->tensor_parallel_size;
    if ((tp & (tp - 1)) != 0)
        return pr_fail(PR_ERR_ARGUMENT, "--tensor-parallel-size %d: use 1, 2, 4 or 8", (int)tp);
    if (usable % tp != 0) {
        int32_t lower = tp;
        while (usable % lower != 0)
            lower /= 2;
        return pr_fail(
            PR_ERR_ARGUMENT, "-tp %d: %d ranks are not a multiple of it; nearest that fits: -tp %d",
            (int)tp, (int)usable, (int)lower);
    }
    pr_place place = {.tp = tp, .ranks = facts->model->experts ? usable : tp};
    return pr_shard_check(facts->model, &place);
}

static pr_status
layout_chosen(const pr_memory_facts *facts, int32_t usable, pr_layout *layout, char *why)
{
    bool one_group = facts->model->experts > 0;
    int32_t tp = facts->options->tensor_parallel_size;
    if (tp) {
        PR_TRY(check_given_tp(facts, usable));
        append(why, "tp %d: given\n", (int)tp);
    } else {
        tp = choose_tp(facts, one_group ? usable : 0, usable, why);
    }
    pr_group_layout group = {.role = PR_ROLE_MIXED, .ranks = one_group ? usable : tp, .tp = tp};
    // Many thousand ranks of a dense model: several lanes a group, so that the groups can be counted.
    while (usable / group.ranks > PR_MAX_GROUPS || usable % group.ranks != 0)
        group.ranks += tp;
    if (one_group)
        append(
            why, "one group: its %d experts are spread over all ranks\n",
            (int)facts->model->experts);
    else
        append(
            why, "%d groups: a dense model steps independently in each\n",
            (int)(usable / group.ranks));
    append(why, "mixed: every group does prefill and decode (--prefill and --decode split them)\n");
    return add_groups("mixed", "(chosen)", usable / group.ranks, &group, layout);
}

pr_status pr_layout_choose(
    const pr_memory_facts *facts, int32_t ranks, pr_layout *layout, char why[PR_LAYOUT_TEXT_BYTES])
{
    const pr_options *options = facts->options;
    int32_t controller = options->dedicated_controller ? 1 : 0;
    why[0] = '\0';
    if (options->mixed && (options->prefill || options->decode))
        return pr_fail(
            PR_ERR_ARGUMENT, "--mixed excludes --prefill and --decode: give one or the other");
    if (!options->prefill != !options->decode)
        return pr_fail(
            PR_ERR_ARGUMENT, "--prefill and --decode come together: --%s is missing",
            options->prefill ? "decode" : "prefill");
    if (ranks <= controller)
        return pr_fail(
            PR_ERR_ARGUMENT, "--dedicated-controller needs at least two ranks, the run has %d",
            (int)ranks);
    *layout = (pr_layout){.ranks = controller, .dedicated_controller = controller};
    bool given = options->mixed || options->prefill;
    if (given)
        PR_TRY(layout_from_flags(facts, ranks - controller, layout, why));
    else
        PR_TRY(layout_chosen(facts, ranks - controller, layout, why));
    if (controller)
        append(why, "rank 0 only schedules: --dedicated-controller\n");
    layout->ranks = ranks;
    return PR_OK;
}

void pr_layout_describe(const pr_layout *layout, char text[PR_LAYOUT_TEXT_BYTES])
{
    text[0] = '\0';
    for (int32_t i = 0; i < layout->groups;) {
        const pr_group_layout *group = &layout->group[i];
        int32_t copies = 1;
        while (i + copies < layout->groups && group[copies].role == group->role &&
               group[copies].ranks == group->ranks && group[copies].tp == group->tp)
            copies++;
        bool same_flag = i > 0 && group[-1].role == group->role;
        if (same_flag)
            append(text, ",");
        else
            append(text, "%s--%s ", i ? " " : "", pr_role_name(group->role));
        append(text, "%dx%d", (int)copies, (int)group->ranks);
        if (group->tp > 1)
            append(text, ":tp=%d", (int)group->tp);
        i += copies;
    }
    if (layout->dedicated_controller)
        append(text, " --dedicated-controller");
}

void pr_layout_ranks_text(const pr_group_layout *group, char text[32])
{
    int first = (int)group->first_rank, last = first + (int)group->ranks - 1;
    if (first == last)
        snprintf(text, 32, "rank %d", first);
    else
        snprintf(text, 32, "ranks %d to %d", first, last);
}

void pr_layout_rank_text(const pr_layout *layout, int32_t rank, char text[PR_LAYOUT_RANK_BYTES])
{
    int32_t index = layout ? pr_layout_group_of(layout, rank) : -1;
    if (!layout)
        snprintf(text, PR_LAYOUT_RANK_BYTES, "rank %d", rank);
    else if (index < 0)
        snprintf(text, PR_LAYOUT_RANK_BYTES, "rank %d (no group)", rank);
    else
        snprintf(
            text, PR_LAYOUT_RANK_BYTES, "rank %d (%s group %d)", rank,
            pr_role_name(layout->group[index].role), index);
}
