// SPDX-License-Identifier: BSD-3-Clause
// What operators, probes, dashboards and people look at, and how they ask the server to end.
#ifndef PR_LAUNCHER_SERVE_ADMIN_API_H
#define PR_LAUNCHER_SERVE_ADMIN_API_H

#include "launcher/serve/route.h"

pr_route_handler pr_admin_api_models, pr_admin_api_model, pr_admin_api_health, pr_admin_api_version;
pr_route_handler pr_admin_api_load, pr_admin_api_drain, pr_admin_api_metrics, pr_admin_api_status;
pr_route_handler pr_admin_api_page;

#endif
