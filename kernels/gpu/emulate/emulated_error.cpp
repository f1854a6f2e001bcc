// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/emulate/emulated_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static thread_local char last[256], taken[256];
static thread_local bool of_launch;

void pr_emulated_error_set(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(last, sizeof(last), format, list);
    va_end(list);
}

void pr_emulated_error_set_launch(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(last, sizeof(last), format, list);
    va_end(list);
    of_launch = true;
}

bool pr_emulated_error_of_launch(void) { return of_launch; }

const char *pr_emulated_error_take(void)
{
    memcpy(taken, last, sizeof(taken));
    last[0] = '\0';
    of_launch = false;
    return taken;
}
