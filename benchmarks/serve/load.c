// SPDX-License-Identifier: BSD-3-Clause
// Load and abuse of a serving run on this machine: what benchmarks/serve/run and tests/system/serve_load.sh run.
//
//   load MODE ENDPOINT-FILE COUNT [tokens=32] [rounds=1] [limit=60] [seed=1] [reference=FILE]
//
// MODE: streams, idle, slow or garbage (load_modes.h). Exit code 0: all held; 1: one line says what did not.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "benchmarks/serve/load_modes.h"
#include "runtime/base/log.h"

static const struct {
    const char *name;
    pr_status (*run)(pr_load_target *, const pr_load_options *);
} modes[] = {
    {"streams", pr_load_streams},
    {"idle", pr_load_idle},
    {"slow", pr_load_slow},
    {"garbage", pr_load_garbage},
};

enum { MODES = sizeof modes / sizeof *modes };

// What stands after NAME=, or NULL.
static const char *value_of(const char *word, const char *name)
{
    size_t length = strlen(name);
    return strncmp(word, name, length) == 0 && word[length] == '=' ? word + length + 1 : NULL;
}

static bool take_word(const char *word, pr_load_options *options)
{
    const char *value;
    if ((value = value_of(word, "tokens")))
        options->tokens = atoi(value);
    else if ((value = value_of(word, "rounds")))
        options->rounds = atoi(value);
    else if ((value = value_of(word, "limit")))
        options->limit_s = atoi(value);
    else if ((value = value_of(word, "seed")))
        options->seed = strtoull(value, NULL, 10);
    else if ((value = value_of(word, "reference")))
        options->reference = value;
    return value != NULL;
}

static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int usage(void)
{
    fprintf(
        stderr, "usage: load streams|idle|slow|garbage ENDPOINT-FILE COUNT [tokens=N] [rounds=N] "
                "[limit=SECONDS] [seed=N] [reference=FILE]\n");
    return 2;
}

int main(int words, char **word)
{
    pr_load_options options = {.tokens = 32, .rounds = 1, .limit_s = 60, .seed = 1};
    pr_load_target target;
    int mode = 0;
    if (words < 4)
        return usage();
    while (mode < MODES && strcmp(modes[mode].name, word[1]) != 0)
        mode++;
    options.count = atoi(word[3]);
    bool good = mode < MODES && options.count > 0;
    for (int i = 4; i < words; i++)
        good &= take_word(word[i], &options);
    if (!good || options.tokens < 1 || options.rounds < 1)
        return usage();
    raise_descriptors();
    if (pr_load_target_open(word[2], word[1], &target) != PR_OK)
        return 1;
    pr_status status = modes[mode].run(&target, &options);
    pr_load_target_close(&target);
    return status == PR_OK ? 0 : 1;
}
