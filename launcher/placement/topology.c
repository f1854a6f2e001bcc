// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/placement/topology.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifdef PR_HAVE_HWLOC
#include <hwloc.h>
#endif

#include "launcher/doctor/cgroup_limits.h"
#include "runtime/base/log.h"

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

static void read_memory(pr_topology *topology)
{
    topology->memory_bytes = read_meminfo("MemTotal:");
    topology->available_bytes = read_meminfo("MemAvailable:");
    pr_cgroup_limits cgroup;
    pr_cgroup_limits_read("", &cgroup);
    int64_t limit = cgroup.memory_bytes, used = cgroup.memory_used_bytes;
    if (limit <= 0 || limit >= topology->memory_bytes)
        return;
    int64_t left = used > 0 && used < limit ? limit - used : limit;
    if (left < topology->available_bytes)
        topology->available_bytes = left;
}

static void clear_map(pr_core_map *map)
{
    for (int32_t cpu = 0; cpu < PR_MAX_CPUS; cpu++)
        map->core[cpu] = map->numa[cpu] = -1;
}

#ifdef PR_HAVE_HWLOC
// The place among all of the first NUMA node that the hardware thread is near to.
static int16_t find_numa(hwloc_topology_t machine, hwloc_obj_t thread)
{
    hwloc_obj_t node = NULL;
    for (int16_t i = 0; (node = hwloc_get_next_obj_by_type(machine, HWLOC_OBJ_NUMANODE, node));
         i++) {
        if (hwloc_bitmap_intersects(node->cpuset, thread->cpuset))
            return i;
    }
    return 0;
}

static void read_map(hwloc_topology_t machine, pr_core_map *map)
{
    hwloc_obj_t thread = NULL;
    while ((thread = hwloc_get_next_obj_by_type(machine, HWLOC_OBJ_PU, thread))) {
        hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(machine, HWLOC_OBJ_CORE, thread);
        unsigned number = (core ? core : thread)->logical_index;
        if (thread->os_index >= PR_MAX_CPUS || number >= PR_MAX_CPUS)
            continue;
        map->core[thread->os_index] = (int16_t)number;
        map->numa[thread->os_index] = find_numa(machine, thread);
    }
}

// described: of which machine, in hwloc's words; NULL: this one, or what hwloc's variables say. *other: it is
// not this machine. Leaves the topology as it is if there is nothing to read.
static void read_cores(const char *described, pr_topology *topology, bool *other)
{
    static char source[32];
    hwloc_topology_t machine;
    if (hwloc_topology_init(&machine) != 0)
        return;
    bool good = !described || hwloc_topology_set_synthetic(machine, described) == 0;
    if (good && hwloc_topology_load(machine) == 0) {
        topology->packages = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_PACKAGE);
        topology->numa_nodes = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_NUMANODE);
        topology->cores = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_CORE);
        topology->threads = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_PU);
        read_map(machine, &topology->map);
        *other = !hwloc_topology_is_thissystem(machine);
        if (described && strstr(described, "memory="))
            topology->memory_bytes = (int64_t)hwloc_get_root_obj(machine)->total_memory;
        unsigned version = hwloc_get_api_version();
        snprintf(source, sizeof source, "hwloc %u.%u", version >> 16, (version >> 8) & 255);
        topology->source = source;
    }
    hwloc_topology_destroy(machine);
}
static const bool can_describe = true;
#else
static void read_cores(const char *described, pr_topology *topology, bool *other)
{
    (void)described;
    (void)topology;
    (void)other;
}
static const bool can_describe = false;
#endif

// Without hwloc: so many cores of one hardware thread.
static void assume_cores(pr_topology *topology)
{
    topology->threads = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    for (int32_t cpu = 0; cpu < topology->threads && cpu < PR_MAX_CPUS; cpu++) {
        topology->map.core[cpu] = (int16_t)cpu;
        topology->map.numa[cpu] = 0;
    }
}

static void read_usable(pr_topology *topology, bool other)
{
    cpu_set_t mask;
    bool known = !other && sched_getaffinity(0, sizeof mask, &mask) == 0;
    topology->whole = true;
    for (int32_t cpu = 0; cpu < PR_MAX_CPUS; cpu++) {
        bool exists = topology->map.core[cpu] >= 0;
        if (known && !CPU_ISSET((size_t)cpu, &mask)) {
            topology->whole &= !exists;
        } else if (exists) {
            pr_cpu_set_add(&topology->usable, cpu);
            topology->usable_threads++;
        }
    }
}

void pr_topology_read(pr_topology *topology)
{
    *topology = (pr_topology){.source = "sysconf"};
    bool other = false;
    clear_map(&topology->map);
    read_cores(NULL, topology, &other);
    if (topology->threads <= 0)
        assume_cores(topology);
    read_usable(topology, other);
    read_memory(topology);
}

pr_status pr_topology_describe(const char *described, pr_topology *topology)
{
    bool other = true;
    *topology = (pr_topology){0};
    clear_map(&topology->map);
    if (!can_describe)
        return pr_fail(
            PR_ERR_UNSUPPORTED, "this program was built without hwloc, which reads '%s'",
            described);
    read_cores(described, topology, &other);
    if (topology->threads <= 0)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "'%s' does not describe a machine as hwloc does, e.g. 'pack:2 numa:4 core:16 pu:2'",
            described);
    read_usable(topology, other);
    topology->available_bytes = topology->memory_bytes;
    return PR_OK;
}

void pr_topology_bind_caller(int32_t cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}
