// SPDX-License-Identifier: BSD-3-Clause
// One row of an option table: where in a plain record a value goes, what it may be, what it is for.
// config.h reads whole tables; this room parses and prints one value.
// Threads: any; nothing is kept.
#ifndef PR_RUNTIME_BASE_OPTION_H
#define PR_RUNTIME_BASE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/base/status.h"

enum { PR_MAX_STRINGS = 16 };

// The values of an option that may be given more than once.
typedef struct pr_strings {
    int32_t count;
    const char *text[PR_MAX_STRINGS];
} pr_strings;

typedef enum pr_option_kind {
    PR_OPTION_FLAG,     // bool: --name, --no-name, --name=true|false
    PR_OPTION_INT,      // int32_t; suffix k m g = powers of 1000, K M G = powers of 1024
    PR_OPTION_INT64,    // int64_t; the same suffixes, and KiB MiB GiB, kB MB GB
    PR_OPTION_FLOAT,    // double
    PR_OPTION_STRING,   // const char *, NULL if the default is NULL
    PR_OPTION_STRINGS,  // pr_strings; each flag adds one, a stronger origin replaces all
} pr_option_kind;

typedef struct pr_option {
    const char *name;        // "max-num-seqs"
    const char *letters;     // "tp" for -tp, or NULL
    const char *value_name;  // "N", "FILE"; NULL for flags
    pr_option_kind kind;
    size_t offset;         // of the field in the record
    const char *standard;  // default as text; NULL = 0, false, NULL (always NULL for STRINGS)
    double least, most;    // bounds of numbers; both 0 = none but the type's
    int32_t multiple;      // of which the number must be one; 0 = any
    const char *choices;   // "auto|cpu": all a string may be; NULL = anything
    const char *zero;      // "auto": a word for 0, of an integer; NULL = none
    int32_t position;      // n > 0: the n-th argument without a name fills it too
    bool required;
    bool suffices;     // where it is given, nothing is required
    bool common;       // shown by the short help
    const char *help;  // one sentence
} pr_option;

typedef struct pr_option_group {
    const char *heading;
    const pr_option *option;  // [options]
    int32_t options;
} pr_option_group;

// Parses text into *field (of the kind's type; a string is borrowed). spelling is how the user named
// the option, for messages. PR_ERR_ARGUMENT says what is allowed; the field is unchanged then.
pr_status pr_option_parse(
    const pr_option *option, const char *spelling, const char *text, void *field) PR_MUST_CHECK;
void pr_option_print_value(const pr_option *option, const void *field, FILE *out);

// The rows of a group as help text, only the common ones unless `all`. Nothing if there are none.
void pr_option_group_print(const pr_option_group *group, bool all, FILE *out);

// The candidate nearest to `text` by edit distance, or NULL if none is near.
const char *pr_option_nearest(const char *text, const char *const *candidate, int32_t candidates);

#endif
