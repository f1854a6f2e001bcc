// SPDX-License-Identifier: BSD-3-Clause
// A placement as an SVG picture: nodes, NUMA domains, ranks coloured by role, the ranks of a tp lane joined,
// arrows from prefill groups to their nearest decode groups, a legend. Follows the reader's light or dark
// scheme; needs no fonts, scripts or other files. The same placement gives the same bytes.
#ifndef PR_LAUNCHER_PLAN_PLAN_DRAWING_H
#define PR_LAUNCHER_PLAN_PLAN_DRAWING_H

#include "launcher/plan/plan_placement.h"

// title: the first line, any text. Errors: PR_ERR_IO, PR_ERR_RESOURCE.
pr_status pr_plan_drawing_write(
    const pr_plan_placement *placement, const char *title, const char *path) PR_MUST_CHECK;

#endif
