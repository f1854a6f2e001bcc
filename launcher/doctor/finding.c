// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/doctor/finding.h"

#include <stdarg.h>
#include <stdio.h>

pr_finding *pr_finding_add(
    pr_findings *findings, pr_finding_level level, const char *subject, const char *format, ...)
{
    if (findings->count == PR_MAX_FINDINGS)
        findings->count--;
    pr_finding *finding = &findings->finding[findings->count++];
    *finding = (pr_finding){.level = level, .subject = subject};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->text, sizeof finding->text, format, arguments);
    va_end(arguments);
    return finding;
}

void pr_finding_advise(pr_finding *finding, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->advice, sizeof finding->advice, format, arguments);
    va_end(arguments);
}

const char *pr_finding_level_name(pr_finding_level level)
{
    static const char *const name[] = {"ok", "note", "problem"};
    return name[level];
}
