// SPDX-License-Identifier: BSD-3-Clause
// Options from one table: the same name as flag, environment variable and file entry.
//
//   flag  --max-num-seqs 64, --max-num-seqs=64, -tp 2     environment  POLYREME_MAX_NUM_SEQS=64
//   file  {"max-num-seqs": 64}                            precedence   flag > environment > file > default
//
// A table row says where in a plain record the value goes, what it may be and what it is for; the
// same rows make the help text. An unknown name is an error that names the nearest known one; a
// value out of bounds is an error that says the bounds. A file or environment may hold names of other
// commands of the program (`known`): they are skipped, and their fields of the record get their defaults.
// Threads: one. Strings in the record belong to the config and live as long as it.
#ifndef PR_RUNTIME_BASE_CONFIG_H
#define PR_RUNTIME_BASE_CONFIG_H

#include <stdint.h>
#include <stdio.h>

#include "runtime/base/option.h"
#include "runtime/base/status.h"

typedef enum pr_origin {
    PR_ORIGIN_DEFAULT,
    PR_ORIGIN_FILE,
    PR_ORIGIN_ENVIRONMENT,
    PR_ORIGIN_FLAG,
} pr_origin;

typedef struct pr_config_params {
    const pr_option_group *const *group;  // [groups] of this command
    int32_t groups;
    const pr_option_group *const *known;  // [knowns] of all commands, same record
    int32_t knowns;
    const char *environment_prefix;      // "POLYREME_"
    const char *const *other_variables;  // names with the prefix that are not options, then NULL
    const char *file_option;             // the option that names the file: "config"
    void *record;                        // filled; must outlive the config
} pr_config_params;

typedef struct pr_config pr_config;

// Reads arguments (without program and command name), environment (as in environ) and file. Errors:
// PR_ERR_ARGUMENT for anything the user got wrong, PR_ERR_NOT_FOUND for the file.
pr_status pr_config_read(
    const pr_config_params *params,
    int32_t arguments,
    const char *const *argument,
    const char *const *environment,
    pr_config **config) PR_MUST_CHECK;
void pr_config_destroy(pr_config *config);

// Where the value of an option came from; PR_ORIGIN_DEFAULT too for a name not in the tables.
pr_origin pr_config_origin(const pr_config *config, const char *name);

// One line per option: "max-num-seqs = 64  (flag)".
void pr_config_print(const pr_config *config, FILE *out);

#endif
