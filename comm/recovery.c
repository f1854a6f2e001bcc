// SPDX-License-Identifier: BSD-3-Clause
#include "comm/recovery.h"

#include <stdlib.h>
#include <string.h>

#include "comm/world.h"

enum { ASK_EVERY_NS = 1000000 };

static struct {
    bool (*in_vain)(void *context);
    void *context;
    int64_t asked_ns;
} asked;

bool pr_recovery_is_possible(void)
{
    const char *value = getenv("OMPI_MCA_orte_enable_recovery");
    return value && (strcmp(value, "1") == 0 || strcmp(value, "true") == 0) &&
           pr_world_is_launched();
}

void pr_recovery_ask(bool (*in_vain)(void *context), void *context)
{
    asked.in_vain = in_vain;
    asked.context = context;
}

bool pr_recovery_is_in_vain(int64_t now_ns)
{
    if (!asked.in_vain || now_ns - asked.asked_ns < ASK_EVERY_NS)
        return false;
    asked.asked_ns = now_ns;
    return asked.in_vain(asked.context);
}
