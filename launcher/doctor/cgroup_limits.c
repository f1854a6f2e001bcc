// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/doctor/cgroup_limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/doctor/mount_table.h"
#include "launcher/doctor/text_file.h"

enum { PATH_BYTES = 2048, LINE_BYTES = 256 };
static const int64_t no_limit_from = INT64_C(1) << 60;  // version 1 writes "none" as almost 2^63

// A hierarchy as one of its controllers is found in it.
typedef struct hierarchy {
    char directory[PATH_BYTES];  // of the process's group
    size_t top;                  // bytes of it that are the mount point
    bool second;                 // version 2
} hierarchy;

// The group's path in the line of /proc/self/cgroup that names the controller, "" for version 2.
static bool find_group(const char *groups, const char *controller, char *path, size_t size)
{
    for (const char *line = groups; *line;) {
        const char *names = strchr(line, ':'), *end = names ? strchr(names + 1, ':') : NULL;
        size_t rest = strcspn(line, "\n");
        if (end && end < line + rest) {
            char list[LINE_BYTES], named[LINE_BYTES + 2], wanted[64];
            snprintf(list, sizeof list, "%.*s", (int)(end - names - 1), names + 1);
            snprintf(named, sizeof named, ",%s,", list);
            snprintf(wanted, sizeof wanted, ",%s,", controller);
            if (strstr(named, wanted)) {
                snprintf(path, size, "%.*s", (int)(line + rest - end - 1), end + 1);
                return true;
            }
        }
        line += rest + (line[rest] == '\n');
    }
    return false;
}

static bool find_hierarchy(
    const char *root, const char *groups, const char *mounts, const char *controller, hierarchy *of)
{
    char path[PATH_BYTES / 2];
    pr_mount mount;
    // A controller of version 1 has a line with its name; of version 2 all share one without.
    of->second = !find_group(groups, controller, path, sizeof path);
    if (of->second && !find_group(groups, "", path, sizeof path))
        return false;
    if (!pr_mount_table_find_type(
            mounts, of->second ? "cgroup2" : "cgroup", of->second ? NULL : controller, &mount))
        return false;
    // A container sees its own group as the root of the mount, but may be told the whole path.
    const char *below = path;
    size_t shown = strlen(mount.root);
    if (shown > 1 && strncmp(path, mount.root, shown) == 0)
        below += shown;
    of->top = (size_t)snprintf(of->directory, sizeof of->directory, "%s%s", root, mount.point);
    if (strcmp(below, "/") != 0 && of->top < sizeof of->directory)
        snprintf(of->directory + of->top, sizeof of->directory - of->top, "%s", below);
    return of->top < sizeof of->directory;
}

static bool read_line(const char *directory, const char *name, char line[LINE_BYTES])
{
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return pr_text_file_read(path, line, LINE_BYTES);
}

// From the group outwards; false when the mount point was the last.
static bool go_outwards(hierarchy *of)
{
    char *end = strrchr(of->directory + of->top, '/');
    if (!end)
        return false;
    *end = '\0';
    return true;
}

static void read_memory(hierarchy of, pr_cgroup_limits *limits)
{
    do {
        char line[LINE_BYTES];
        int64_t limit = 0;
        if (!read_line(of.directory, of.second ? "memory.max" : "memory.limit_in_bytes", line) ||
            sscanf(line, "%" SCNd64, &limit) != 1 || limit <= 0 || limit >= no_limit_from ||
            (limits->memory_bytes > 0 && limit >= limits->memory_bytes))
            continue;
        limits->memory_bytes = limit;
        limits->memory_used_bytes = 0;
        if (read_line(of.directory, of.second ? "memory.current" : "memory.usage_in_bytes", line))
            sscanf(line, "%" SCNd64, &limits->memory_used_bytes);
    } while (go_outwards(&of));
}

static void read_processes(hierarchy of, pr_cgroup_limits *limits)
{
    do {
        char line[LINE_BYTES];
        int64_t limit = 0;
        if (read_line(of.directory, "pids.max", line) && sscanf(line, "%" SCNd64, &limit) == 1 &&
            limit > 0 && (limits->processes == 0 || limit < limits->processes))
            limits->processes = limit;
    } while (go_outwards(&of));
}

static double read_quota(const hierarchy *of)
{
    char line[LINE_BYTES];
    double quota_us = 0, period_us = 0;
    if (of->second) {
        if (!read_line(of->directory, "cpu.max", line) ||
            sscanf(line, "%lf %lf", &quota_us, &period_us) != 2)
            return 0;
    } else {
        if (!read_line(of->directory, "cpu.cfs_quota_us", line) ||
            sscanf(line, "%lf", &quota_us) != 1 ||
            !read_line(of->directory, "cpu.cfs_period_us", line) ||
            sscanf(line, "%lf", &period_us) != 1)
            return 0;
    }
    return quota_us > 0 && period_us > 0 ? quota_us / period_us : 0;
}

static void read_cpus(hierarchy of, pr_cgroup_limits *limits)
{
    do {
        double cpus = read_quota(&of);
        if (cpus > 0 && (limits->cpus <= 0 || cpus < limits->cpus))
            limits->cpus = cpus;
    } while (go_outwards(&of));
}

void pr_cgroup_limits_read(const char *root, pr_cgroup_limits *limits)
{
    char path[PATH_BYTES];
    hierarchy of;
    *limits = (pr_cgroup_limits){0};
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    char *groups = pr_text_file_load(path);
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    char *mounts = pr_text_file_load(path);
    if (groups && mounts) {
        if (find_hierarchy(root, groups, mounts, "memory", &of))
            read_memory(of, limits);
        if (find_hierarchy(root, groups, mounts, "pids", &of))
            read_processes(of, limits);
        if (find_hierarchy(root, groups, mounts, "cpu", &of))
            read_cpus(of, limits);
    }
    free(groups);
    free(mounts);
}
