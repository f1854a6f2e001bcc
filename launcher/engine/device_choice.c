// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/engine/device_choice.h"

#include <stdio.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"
#include "kernels/gpu/gpu_choice.h"
#include "kernels/gpu/gpu_device.h"
#include "launcher/engine/memory_budget.h"

static pr_status
open_cpu(const pr_options *options, const pr_thread_choice *threads, pr_device_choice *choice)
{
    const pr_cpu_device_params params = {
        .isa = options->cpu_isa,
        .threads = threads->threads,
        .cpu = threads->cpu,
        .shares_cores = threads->shares_cores,
    };
    PR_TRY(pr_cpu_device_open(&params, &choice->device));
    choice->devices = 1;
    snprintf(choice->text, sizeof choice->text, "cpu");
    return PR_OK;
}

static pr_status open_gpu(
    const pr_options *options,
    const pr_gpu_choice *gpu,
    const pr_thread_choice *threads,
    pr_device_choice *choice)
{
    const pr_gpu_device_params params = {
        .backend = gpu->backend,
        .index = gpu->index,
        .threads = threads->threads,
        .cpu = threads->cpu,
        .shares_cores = threads->shares_cores,
        .graphs = strcmp(options->device_graphs, "on") == 0,
    };
    char memory[24];
    PR_TRY(pr_gpu_device_open(&params, &choice->device));
    choice->devices = gpu->devices;
    pr_memory_text(gpu->facts.memory_bytes, memory);
    snprintf(
        choice->text, sizeof choice->text, "%s (%s, %s), %s", gpu->facts.name, gpu->backend->name,
        gpu->facts.architecture, memory);
    return PR_OK;
}

pr_status pr_device_choice_open(
    const pr_options *options,
    const pr_thread_choice *threads,
    int32_t number,
    pr_device_choice *choice)
{
    pr_gpu_choice gpu;
    *choice = (pr_device_choice){0};
    PR_TRY(pr_gpu_choice_make(options->device, number, &gpu));
    return gpu.backend ? open_gpu(options, &gpu, threads, choice)
                       : open_cpu(options, threads, choice);
}

void pr_device_choice_close(pr_device_choice *choice)
{
    pr_device *device = choice->device;
    if (!device)
        return;
    if (device->is_host)
        pr_cpu_device_close(device);
    else
        pr_gpu_device_close(device);
    choice->device = NULL;
}

int32_t pr_device_choice_sharers(const pr_device_choice *choice, int32_t ranks)
{
    return ranks > choice->devices ? (ranks + choice->devices - 1) / choice->devices : 1;
}
