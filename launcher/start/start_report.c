// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/start/start_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/engine/memory_budget.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

void pr_start_begin(pr_start_report *report)
{
    *report = (pr_start_report){.begin_ns = pr_clock_now_ns()};
    report->last_ns = report->begin_ns;
}

void pr_start_mark(pr_start_report *report, pr_start_part part)
{
    int64_t now_ns = pr_clock_now_ns();
    report->part_ns[part] += now_ns - report->last_ns;
    report->last_ns = now_ns;
}

// Huge pages of this process, anonymous ones and those of mapped files. 0 where the system does not say.
static int64_t read_huge_bytes(void)
{
    char line[256];
    long long kib = 0, found;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "AnonHugePages: %lld", &found) == 1 ||
            sscanf(line, "FilePmdMapped: %lld", &found) == 1)
            kib += found;
    if (file)
        fclose(file);
    return kib * 1024;
}

void pr_start_note_weights(pr_start_report *report, const pr_shard *shard)
{
    if (!shard)
        return;
    report->weights = (pr_start_weights){
        .read_bytes = shard->read_bytes,
        .packed_bytes = shard->packed_bytes,
        .huge_bytes = read_huge_bytes(),
        .on_device = !shard->device->is_host,
        .load_ns = report->part_ns[PR_START_WEIGHTS],
        .threads = shard->device->threads,
    };
    if (report->weights.huge_bytes > shard->packed_bytes)
        report->weights.huge_bytes = shard->packed_bytes;
}

static void tell(const pr_start_weights *sum, int32_t ranks, pr_load_mode mode, bool converted)
{
    char read_text[24], packed_text[24], where[32] = "to the GPU";
    double seconds = (double)sum->load_ns * 1e-9, all = (double)sum->packed_bytes;
    pr_memory_text(sum->read_bytes, read_text);
    pr_memory_text(sum->packed_bytes, packed_text);
    if (converted && mode == PR_LOAD_MMAP) {
        pr_log(
            PR_LOG_INFO,
            "weights: %s used in place by %d rank%s after %.2f s, read as they are needed",
            packed_text, (int)ranks, ranks == 1 ? "" : "s", seconds);
        return;
    }
    if (!sum->on_device)
        snprintf(
            where, sizeof where, "%.0f%% on huge pages",
            all > 0 ? 100 * (double)sum->huge_bytes / all : 0);
    pr_log(
        PR_LOG_INFO, "weights: %s %s, %s %s by %d rank%s x %d thread%s in %.2f s, %.2f GB/s; %s",
        read_text, mode == PR_LOAD_READ ? "read" : "mapped", packed_text,
        converted ? "taken as converted" : "packed", (int)ranks, ranks == 1 ? "" : "s",
        (int)sum->threads, sum->threads == 1 ? "" : "s", seconds,
        seconds > 0 ? (double)sum->read_bytes / seconds * 1e-9 : 0, where);
}

pr_status
pr_start_tell_weights(pr_start_report *report, pr_world *world, pr_load_mode mode, bool converted)
{
    int32_t ranks = pr_world_ranks(world), holders = 0;
    pr_start_weights *all = calloc((size_t)ranks, sizeof *all), sum = {0};
    if (!all)
        return pr_fail(PR_ERR_RESOURCE, "no memory to sum up the start");
    pr_status status = pr_world_gather_all(world, &report->weights, all, sizeof *all);
    for (int32_t i = 0; status == PR_OK && i < ranks; i++) {
        holders += all[i].threads > 0;
        sum.read_bytes += all[i].read_bytes;
        sum.packed_bytes += all[i].packed_bytes;
        sum.huge_bytes += all[i].huge_bytes;
        sum.on_device = sum.on_device || all[i].on_device;
        if (all[i].load_ns > sum.load_ns)
            sum.load_ns = all[i].load_ns;
        if (all[i].threads > sum.threads)
            sum.threads = all[i].threads;
    }
    if (status == PR_OK && pr_world_rank(world) == 0)
        tell(&sum, holders, mode, converted);
    free(all);
    return status;
}

void pr_start_tell_parts(const pr_start_report *report)
{
    static const char *const name[PR_START_PARTS] = {"MPI", "model", "weights", "KV", "groups"};
    char text[256];
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < PR_START_PARTS; i++)
        used += (size_t)snprintf(
            text + used, sizeof text - used, "%s%s %.2f", i > 0 ? ", " : "", name[i],
            (double)report->part_ns[i] * 1e-9);
    pr_log(
        PR_LOG_DEBUG, "start-up %.2f s: %s", (double)(report->last_ns - report->begin_ns) * 1e-9,
        text);
}
