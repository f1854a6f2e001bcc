// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a plan and as a report: once as they are, once with a header that fits, so that the
// body's checks are reached. What is accepted must be written again as the same bytes.
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/batch/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void try_plan(const unsigned char *data, size_t size)
{
    pr_plan *plan;
    unsigned char *again = NULL;
    size_t size_again = 0;
    if (pr_plan_decode(data, size, &plan) != PR_OK)
        return;
    must(pr_plan_encode(plan, &again, &size_again) == PR_OK);
    must(size_again == size && memcmp(again, data, size) == 0);
    for (int32_t i = 0; i < plan->admissions; i++) {
        pr_request *copy;
        must(pr_request_copy(plan->admission[i].request, &copy) == PR_OK);
        pr_request_destroy(copy);
    }
    free(again);
    pr_plan_free(plan);
}

static void try_report(const unsigned char *data, size_t size)
{
    pr_report *report;
    unsigned char *again = NULL;
    size_t size_again = 0;
    if (pr_report_decode(data, size, &report) != PR_OK)
        return;
    must(pr_report_encode(report, &again, &size_again) == PR_OK);
    must(size_again == size && memcmp(again, data, size) == 0);
    free(again);
    pr_report_free(report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *exact = malloc(size > 0 ? size : 1);
    must(exact != NULL);
    if (size > 0)
        memcpy(exact, data, size);
    pr_error_capture_begin();
    try_plan(exact, size);
    try_report(exact, size);
    if (size >= 16) {
        memcpy(exact, "PRM1\3\0\1\0", 8);
        for (int i = 0; i < 8; i++)
            exact[8 + i] = (unsigned char)((uint64_t)size >> (8 * i));
        try_plan(exact, size);
        exact[6] = 2;
        try_report(exact, size);
    }
    pr_error_capture_end();
    free(exact);
    return 0;
}
