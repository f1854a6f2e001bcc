// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/topology.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifdef PR_HAVE_HWLOC
#include <hwloc.h>
#endif

// The number after "MemAvailable:" and the like, in bytes, or 0.
static int64_t read_meminfo(const char *key)
{
    char line[256];
    int64_t kilobytes = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, strlen(key)) == 0)
            sscanf(line + strlen(key), " %" SCNd64, &kilobytes);
    }
    if (file)
        fclose(file);
    return kilobytes * 1024;
}

// A file with one number, or -1 if there is none ("max" included).
static int64_t read_number(const char *path)
{
    int64_t value = -1;
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    if (fscanf(file, "%" SCNd64, &value) != 1)
        value = -1;
    fclose(file);
    return value;
}

// Limit and use of this process's memory cgroup (version 2, then version 1 as containers see it).
static int64_t read_cgroup(int64_t *used)
{
    char line[512], path[640];
    FILE *file = fopen("/proc/self/cgroup", "r");
    int64_t limit = -1;
    while (file && limit < 0 && fgets(line, sizeof line, file)) {
        if (strncmp(line, "0::", 3) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", line + 3);
        limit = read_number(path);
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.current", line + 3);
        *used = read_number(path);
    }
    if (file)
        fclose(file);
    if (limit < 0) {
        limit = read_number("/sys/fs/cgroup/memory.max");
        *used = read_number("/sys/fs/cgroup/memory.current");
    }
    if (limit < 0) {
        limit = read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes");
        *used = read_number("/sys/fs/cgroup/memory/memory.usage_in_bytes");
    }
    return limit;
}

static void read_memory(pr_topology *topology)
{
    topology->memory_bytes = read_meminfo("MemTotal:");
    topology->available_bytes = read_meminfo("MemAvailable:");
    int64_t used = -1, limit = read_cgroup(&used);
    if (limit <= 0 || limit >= topology->memory_bytes)
        return;
    topology->cgroup_limit_bytes = limit;
    int64_t left = used > 0 && used < limit ? limit - used : limit;
    if (left < topology->available_bytes)
        topology->available_bytes = left;
}

#ifdef PR_HAVE_HWLOC
static void read_cores(pr_topology *topology)
{
    static char source[32];
    hwloc_topology_t machine;
    if (hwloc_topology_init(&machine) != 0)
        return;
    if (hwloc_topology_load(machine) == 0) {
        topology->packages = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_PACKAGE);
        topology->numa_nodes = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_NUMANODE);
        topology->cores = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_CORE);
        topology->threads = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_PU);
        unsigned version = hwloc_get_api_version();
        snprintf(source, sizeof source, "hwloc %u.%u", version >> 16, (version >> 8) & 255);
        topology->source = source;
    }
    hwloc_topology_destroy(machine);
}
#else
static void read_cores(pr_topology *topology) { (void)topology; }
#endif

void pr_topology_read(pr_topology *topology)
{
    *topology = (pr_topology){.source = "sysconf"};
    read_cores(topology);
    if (topology->threads <= 0)
        topology->threads = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t usable;
    topology->usable_threads =
        sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : topology->threads;
    read_memory(topology);
}
