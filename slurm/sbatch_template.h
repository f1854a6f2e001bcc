// SPDX-License-Identifier: BSD-3-Clause
// The job scripts that come with the program (templates/), and how they are filled.
//
//   #SBATCH --nodes=@NODES@           a value in its place
//   #SBATCH --account=@ACCOUNT@       not given: ##SBATCH --account=ACCOUNT, which Slurm ignores and people see
//   model=@MODEL@                     text for the shell must come quoted (pr_sbatch_template_quote)
//
// Threads: any; nothing is kept.
#ifndef PR_SLURM_SBATCH_TEMPLATE_H
#define PR_SLURM_SBATCH_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/base/status.h"

enum { PR_SBATCH_TEMPLATES = 6 };

typedef struct pr_sbatch_template {
    const char *kind;  // "batch-array"
    const char *summary;
    const unsigned char *text;
    const size_t *bytes;
} pr_sbatch_template;

extern const pr_sbatch_template pr_sbatch_template_all[PR_SBATCH_TEMPLATES];

typedef struct pr_sbatch_value {
    const char *name;  // "NODES"
    const char *text;  // NULL: not given
} pr_sbatch_value;

// NULL: none of this name.
const pr_sbatch_template *pr_sbatch_template_find(const char *kind);

// Whether @NAME@ is in it.
bool pr_sbatch_template_uses(const pr_sbatch_template *made, const char *name);

// PR_ERR_INTERNAL: a name in the template has no value, outside a line of #SBATCH.
pr_status pr_sbatch_template_fill(
    const pr_sbatch_template *made,
    const pr_sbatch_value *value,  // [values]
    int32_t values,
    FILE *out) PR_MUST_CHECK;

// text as one word of bash. PR_ERR_ARGUMENT: the quoted word needs more than size_bytes.
pr_status pr_sbatch_template_quote(const char *text, char *quoted, size_t size_bytes) PR_MUST_CHECK;

#endif
