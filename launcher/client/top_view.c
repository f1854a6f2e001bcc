// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/client/top_view.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "launcher/client/plain_text.h"

enum {
    FIGURE = 16,         // bytes of a number as text
    MAX_SPANS = 120,     // of the line of bars
    GROUP_COLUMNS = 61,  // of a row of groups without its KV column
    KV_TEXT_COLUMNS = 12,
    MAX_BAR = 30,
    RANK_COLUMNS = 24,
};

typedef struct page {
    const pr_top_view *view;
    pr_byte_buffer *out;
    int32_t row, used;  // columns of this row
} page;

static const char bold[] = "1", dim[] = "2", green[] = "32", yellow[] = "33", red[] = "31";

// ---- pieces of a line ----

static void put_bytes(page *p, const char *text)
{
    pr_byte_buffer_append(p->out, text, strlen(text));
}

static void put_text(page *p, const char *style, const char *text)
{
    bool escape = style && p->view->colour;
    if (p->row >= p->view->rows)
        return;
    if (escape) {
        put_bytes(p, "\033[");
        put_bytes(p, style);
        put_bytes(p, "m");
    }
    p->used += pr_plain_text_line(text, strlen(text), p->view->columns - p->used, p->out);
    if (escape)
        put_bytes(p, "\033[0m");
}

static void put(page *p, const char *style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void put(page *p, const char *style, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put_text(p, style, text);
}

static void end_line(page *p)
{
    p->row++;
    p->used = 0;
    if (p->row < p->view->rows)
        put_bytes(p, "\n");
}

// "12", "3.4", "1.2k", "35M"; "-" when not known.
static const char *figure(double value, char text[FIGURE])
{
    static const char units[] = " kMGTPE";
    int unit = 0;
    if (isnan(value))
        return "-";
    if (value >= 1e18)
        return "huge";
    while (value >= 999.5) {
        value /= 1000;
        unit++;
    }
    bool small = value < 9.95 && (unit > 0 || value != floor(value));
    int length = snprintf(text, FIGURE, small ? "%.1f" : "%.0f", value);
    if (unit > 0)
        snprintf(text + length, FIGURE - (size_t)length, "%c", units[unit]);
    return text;
}

static const char *latency(double seconds, char text[FIGURE])
{
    if (isnan(seconds))
        return "-";
    if (seconds >= 1e6)
        return "huge";
    if (seconds >= 0.9995)
        snprintf(text, FIGURE, seconds < 99.5 ? "%.2f s" : "%.0f s", seconds);
    else
        snprintf(text, FIGURE, seconds < 0.00995 ? "%.1f ms" : "%.0f ms", seconds * 1e3);
    return text;
}

static const char *duration(double seconds, char text[FIGURE])
{
    if (isnan(seconds))
        return "-";
    if (seconds >= 1e8)
        return "huge";
    int s = (int)seconds;
    if (s >= 86400)
        snprintf(text, FIGURE, "%dd%02dh", s / 86400, s / 3600 % 24);
    else if (s >= 3600)
        snprintf(text, FIGURE, "%dh%02dm", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(text, FIGURE, "%dm%02ds", s / 60, s % 60);
    else
        snprintf(text, FIGURE, "%ds", s);
    return text;
}

static double share(double part, double whole)
{
    if (isnan(part) || isnan(whole) || whole <= 0)
        return (double)NAN;
    return part < whole ? part / whole : 1;
}

// A part that is not empty shows at least one cell.
static void put_bar(page *p, double part, int32_t width)
{
    const pr_top_view *view = p->view;
    int32_t filled = isnan(part) ? 0 : (int32_t)lround(part * width);
    filled = filled == 0 && part > 0 ? 1 : filled;
    const char *style = part >= 0.95 ? red : part >= 0.8 ? yellow : green;
    for (int32_t i = 0; i < width; i++) {
        bool full = i < filled;
        const char *cell = view->unicode ? (full ? "█" : "░") : (full ? "#" : ".");
        put_text(p, full ? style : dim, cell);
    }
}

// Eight heights; the highest span fills its cell.
static void put_spark(page *p, double value, double most)
{
    static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const letters[] = {"_", ".", ":", "-", "=", "+", "*", "#"};
    if (isnan(value)) {
        put_text(p, NULL, " ");
        return;
    }
    int level = most > 0 ? (int)(value / most * 7.999) : 0;
    put_text(p, green, p->view->unicode ? blocks[level] : letters[level]);
}

// ---- the lines above the groups ----

static const char *or_dash(const char *text) { return text[0] ? text : "-"; }

static void put_header(page *p)
{
    const pr_run_status *s = p->view->status;
    char text[FIGURE];
    bool ready = strcmp(s->state, "ready") == 0;
    put(p, bold, "%s", or_dash(s->model));
    put(p, ready ? green : yellow, "  %s", or_dash(s->state));
    put(p, NULL, "  polyreme %s  up %s", or_dash(s->version), duration(s->uptime_s, text));
    if (s->job_id[0])
        put(p, NULL, "  job %s", s->job_id);
    put(p, dim, "  %s", p->view->url);
    end_line(p);
    put(p, dim, "%s", s->layout[0] ? s->layout : "layout -");
    if (!isnan(s->max_model_len))
        put(p, dim, "  context %.0f", s->max_model_len);
    if (!isnan(s->block_tokens))
        put(p, dim, "  block %.0f", s->block_tokens);
    put(p, dim, "  connections %s", figure(s->connections, text));
    end_line(p);
}

static void put_requests(page *p)
{
    const pr_run_status *s = p->view->status;
    char a[FIGURE], b[FIGURE], c[FIGURE], d[FIGURE], e[FIGURE], f[FIGURE];
    put(p, bold, "Requests  ");
    put(p, NULL, "running %s  waiting %s", figure(s->running, a), figure(s->waiting, b));
    put(p, NULL, "  ended: stop %s, length %s", figure(s->ended_stop, c),
        figure(s->ended_length, d));
    put(p, NULL, ", abort %s", figure(s->ended_abort, e));
    put(p, s->ended_error > 0 ? red : NULL, ", error %s", figure(s->ended_error, f));
    end_line(p);
}

static void put_tokens(page *p)
{
    const pr_run_status *s = p->view->status;
    char a[FIGURE], b[FIGURE], c[FIGURE], d[FIGURE], e[FIGURE];
    put(p, bold, "Tokens    ");
    put(p, NULL, "in %s/s  out %s/s", figure(s->prompt_per_s, a), figure(s->generated_per_s, b));
    put(p, NULL, "  so far: in %s (%s cached)", figure(s->prompt_tokens, c),
        figure(s->cached_tokens, d));
    put(p, NULL, ", out %s", figure(s->generated_tokens, e));
    end_line(p);
}

static void put_kv(page *p)
{
    const pr_run_status *s = p->view->status;
    char a[FIGURE], b[FIGURE], c[FIGURE];
    double part = share(s->kv_used_blocks, s->kv_blocks);
    put(p, bold, "KV        ");
    put_bar(p, part, 20);
    if (isnan(part))
        put(p, NULL, "   -");
    else
        put(p, NULL, " %3.0f%%", part * 100);
    put(p, NULL, "  %s of %s blocks used", figure(s->kv_used_blocks, a), figure(s->kv_blocks, b));
    put(p, NULL, ", %s cached", figure(s->kv_cached_blocks, c));
    end_line(p);
}

static void put_quantiles(page *p, const char *name, const pr_run_quantiles *q)
{
    char a[FIGURE], b[FIGURE], c[FIGURE];
    put(p, bold, "%-10s", name);
    put(p, NULL, "p50 %-10s p90 %-10s p99 %s", latency(q->p50, a), latency(q->p90, b),
        latency(q->p99, c));
    end_line(p);
}

static void put_history(page *p)
{
    const pr_top_view *view = p->view;
    double mean[MAX_SPANS], most = 0;
    char text[FIGURE];
    int32_t spans = view->columns - 35;
    if (!view->output || spans < 5)
        return;
    spans = spans > MAX_SPANS ? MAX_SPANS : spans > 60 ? 60 : spans;
    pr_rate_history_spans(view->output, view->now_s, spans, mean);
    for (int32_t i = 0; i < spans; i++)
        most = mean[i] > most ? mean[i] : most;
    put(p, bold, "Output/s  ");
    for (int32_t i = 0; i < spans; i++)
        put_spark(p, mean[i], most);
    put(p, dim, "  last minute, most %s", figure(most, text));
    end_line(p);
}

// ---- groups and ranks ----

static void put_group_heading(page *p)
{
    int32_t kv = p->view->columns - GROUP_COLUMNS;
    kv = kv < KV_TEXT_COLUMNS             ? KV_TEXT_COLUMNS
         : kv > MAX_BAR + KV_TEXT_COLUMNS ? MAX_BAR + KV_TEXT_COLUMNS
                                          : kv;
    put(p, bold, "%3s %-8s %9s %3s %5s  %-*s %8s %8s %8s", "#", "role", "ranks", "tp", "run", kv,
        "KV used/all", "tokens/s", "ms/step", "steps/s");
    end_line(p);
}

// Steps are counted from the start: a rate needs an earlier look at the same group.
static double steps_per_s(const pr_top_view *view, int32_t at)
{
    const pr_run_status *before = view->before;
    if (!before || at >= before->groups || view->between_s <= 0)
        return (double)NAN;
    double steps = view->status->group[at].steps - before->group[at].steps;
    return steps >= 0 ? steps / view->between_s : (double)NAN;
}

static void ranks_text(const pr_run_group *group, char *text, size_t capacity)
{
    if (isnan(group->first_rank) || isnan(group->ranks) || group->ranks < 1)
        snprintf(text, capacity, "-");
    else if (group->ranks < 2)
        snprintf(text, capacity, "%.0f", group->first_rank);
    else
        snprintf(
            text, capacity, "%.0f-%.0f", group->first_rank, group->first_rank + group->ranks - 1);
}

static void put_group(page *p, int32_t at)
{
    const pr_run_group *g = &p->view->status->group[at];
    char index[FIGURE], ranks[64], tp[FIGURE], run[FIGURE], used[FIGURE], all[FIGURE];
    char steps[FIGURE], step[FIGURE], tokens[FIGURE], kv[64];
    int32_t bar = p->view->columns - GROUP_COLUMNS - KV_TEXT_COLUMNS;
    bar = bar > MAX_BAR ? MAX_BAR : bar;
    ranks_text(g, ranks, sizeof ranks);
    put(p, NULL, "%3s %-8s %9s %3s %5s  ", figure(g->index, index), or_dash(g->role), ranks,
        figure(g->tp, tp), figure(g->running, run));
    if (bar > 0)
        put_bar(p, share(g->kv_used_blocks, g->kv_blocks), bar);
    snprintf(kv, sizeof kv, "%s/%s", figure(g->kv_used_blocks, used), figure(g->kv_blocks, all));
    put(p, NULL, "%*s %8s %8s %8s", KV_TEXT_COLUMNS, kv, figure(g->tokens_per_s, tokens),
        figure(g->step_ms, step), figure(steps_per_s(p->view, at), steps));
    end_line(p);
}

static void put_groups(page *p)
{
    const pr_run_status *s = p->view->status;
    int32_t room = p->view->rows - p->row - 1;
    int32_t shown = s->groups <= room ? s->groups : room - 1;
    if (s->groups == 0 || shown < 1)
        return;
    put_group_heading(p);
    for (int32_t i = 0; i < shown; i++)
        put_group(p, i);
    if (shown < s->groups) {
        put(p, dim, "... and %d more groups", (int)(s->groups - shown));
        end_line(p);
    }
}

// All or none: half a list of ranks says nothing.
static void put_ranks(page *p)
{
    const pr_run_status *s = p->view->status;
    int32_t across = p->view->columns / RANK_COLUMNS;
    if (s->ranks == 0 || across == 0)
        return;
    int32_t lines = (s->ranks + across - 1) / across;
    if (lines > p->view->rows - p->row - 2)
        return;
    end_line(p);
    put(p, bold, "Ranks");
    end_line(p);
    for (int32_t i = 0; i < s->ranks; i++) {
        char rank[FIGURE], group[FIGURE], text[64];
        bool last = (i + 1) % across == 0 || i + 1 == s->ranks;
        int length = snprintf(
            text, sizeof text, "%s %s", figure(s->rank[i].rank, rank), or_dash(s->rank[i].role));
        if (!isnan(s->rank[i].group))  // a controller is in none
            snprintf(
                text + length, sizeof text - (size_t)length, ", group %s",
                figure(s->rank[i].group, group));
        put(p, NULL, "%-*s", last ? 0 : RANK_COLUMNS, text);
        if (last)
            end_line(p);
    }
}

static void put_note(page *p)
{
    if (!p->view->note)
        return;
    put(p, red, "%s", p->view->note);
    end_line(p);
}

void pr_top_view_render(const pr_top_view *view, pr_byte_buffer *out)
{
    page p = {.view = view, .out = out};
    if (!view->status) {
        put(&p, bold, "polyreme top");
        put(&p, dim, "  %s", view->url);
        end_line(&p);
        put_note(&p);
    } else {
        put_header(&p);
        put_note(&p);
        end_line(&p);
        put_requests(&p);
        put_tokens(&p);
        put_kv(&p);
        put_quantiles(&p, "TTFT", &view->status->ttft);
        put_quantiles(&p, "ITL", &view->status->itl);
        put_quantiles(&p, "Whole", &view->status->e2e);
        put_history(&p);
        end_line(&p);
        put_groups(&p);
        put_ranks(&p);
    }
    if (view->keys)
        put(&p, dim, "q quits");
}
