// SPDX-License-Identifier: BSD-3-Clause
// `polyreme plan MODEL --split N --trace F`: how many of N groups should prefill and how many decode.
// A group is one lane, as the other options of plan describe it on --machine, or as --cost says.
#ifndef PR_LAUNCHER_PLAN_SPLIT_MODE_H
#define PR_LAUNCHER_PLAN_SPLIT_MODE_H

#include "launcher/options.h"

int pr_split_mode(const pr_options *options);  // an exit code

#endif
