// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/run_table.h"

#include <math.h>

// A number in its column, or "-" for one that there is none of.
static void print_cell(FILE *out, int width, int digits, double value)
{
    if (isfinite(value))
        fprintf(out, "%*.*f", width, digits, value);
    else
        fprintf(out, "%*s", width, "-");
}

void pr_run_table_begin(FILE *out)
{
    static const char format[] = "%-20s %6s |%8s%8s%8s%8s |%6s%6s |%6s%6s |%6s%8s%6s%6s |%7s\n";
    fprintf(
        out, format, "", "", "TTFT s", "", "", "", "TBT ms", "", "SLO-A", "SLO-B", "hit", "fetched",
        "util", "imbal", "wall");
    fprintf(
        out, format, "policy", "speed", "mean", "p50", "p90", "p99", "mean", "p99", "%", "%", "%",
        "%", "", "", "s");
}

void pr_run_table_row(FILE *out, const pr_run_point *point)
{
    const pr_statistics *s = &point->statistics;
    fprintf(out, "%-20s %6.3g |", point->policy, point->speed);
    print_cell(out, 8, 3, s->ttft_s.mean);
    print_cell(out, 8, 3, s->ttft_s.p50);
    print_cell(out, 8, 3, s->ttft_s.p90);
    print_cell(out, 8, 3, s->ttft_s.p99);
    fputs(" |", out);
    print_cell(out, 6, 1, s->tbt_s.mean * 1e3);
    print_cell(out, 6, 1, s->tbt_s.p99 * 1e3);
    fputs(" |", out);
    print_cell(out, 6, 1, s->goodput_a * 100);
    print_cell(out, 6, 1, s->goodput_b * 100);
    fputs(" |", out);
    print_cell(out, 6, 1, s->hit_rate * 100);
    print_cell(out, 8, 1, s->fetch_rate * 100);
    print_cell(out, 6, 2, s->utilisation);
    print_cell(out, 6, 2, s->imbalance);
    fputs(" |", out);
    print_cell(out, 7, 2, point->wall_s);
    fputc('\n', out);
    int64_t unfinished = s->requests - s->finished - s->rejected;
    if (s->rejected > 0 || unfinished > 0)
        fprintf(
            out, "%-20s   of %lld requests %lld were rejected, %lld did not finish\n", "",
            (long long)s->requests, (long long)s->rejected, (long long)unfinished);
    if (point->role_changes > 0)
        fprintf(
            out, "%-20s   groups changed their roles %lld times\n", "",
            (long long)point->role_changes);
    fflush(out);
}

json_t *pr_run_point_json(const pr_run_point *point)
{
    json_t *object = json_pack(
        "{s:s, s:f, s:f, s:I, s:I, s:I}", "policy", point->policy, "speed", point->speed, "wall_s",
        point->wall_s, "events", (json_int_t)point->events, "decisions",
        (json_int_t)point->decisions, "role_changes", (json_int_t)point->role_changes);
    json_t *statistics = pr_statistics_json(&point->statistics);
    json_object_update(object, statistics);
    json_decref(statistics);
    return object;
}
