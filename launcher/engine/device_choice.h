// SPDX-License-Identifier: BSD-3-Clause
// The device of one rank, as --device wants it: the CPU, or one of the node's GPUs.
#ifndef PR_LAUNCHER_ENGINE_DEVICE_CHOICE_H
#define PR_LAUNCHER_ENGINE_DEVICE_CHOICE_H

#include "launcher/options.h"
#include "launcher/placement/thread_choice.h"
#include "runtime/device.h"

enum { PR_DEVICE_TEXT_BYTES = 192 };

typedef struct pr_device_choice {
    pr_device *device;
    int32_t devices;  // of which each rank of this node takes one in turn; 1: they share it
    char text[PR_DEVICE_TEXT_BYTES];  // "NVIDIA H200 (cuda, sm_90), 139.8 GiB", "cpu"
} pr_device_choice;

// For rank `number` of those that compute on this node. threads: of the host. Errors: those of gpu_choice.h and
// the devices.
pr_status pr_device_choice_open(
    const pr_options *options,
    const pr_thread_choice *threads,
    int32_t number,
    pr_device_choice *choice) PR_MUST_CHECK;
void pr_device_choice_close(pr_device_choice *choice);

// How many of a node's ranks share the memory of one device.
int32_t pr_device_choice_sharers(const pr_device_choice *choice, int32_t ranks);

#endif
