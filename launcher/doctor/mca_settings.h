// SPDX-License-Identifier: BSD-3-Clause
// What a text of Open MPI's settings says of one of them: openmpi-mca-params.conf, "pml = ^ucx" a line.
// Pure. Source: the comments of the file that Open MPI installs.
#ifndef PR_LAUNCHER_DOCTOR_MCA_SETTINGS_H
#define PR_LAUNCHER_DOCTOR_MCA_SETTINGS_H

#include <stdbool.h>

enum { PR_MCA_VALUE_BYTES = 256 };

// The last value given counts. False: none.
bool pr_mca_settings_find(const char *settings, const char *name, char value[PR_MCA_VALUE_BYTES]);

// Whether a list of components such as "ob1,ucx" or "^ucx,pt2pt" lets Open MPI take the one. "" lets it take all.
bool pr_mca_settings_allow(const char *list, const char *component);

#endif
