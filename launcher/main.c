// SPDX-License-Identifier: BSD-3-Clause
// The program's front door: finds the command, reads its options, runs it. Nothing here calls MPI, so
// help, plan and doctor work on login nodes where MPI_Init outside a job would abort.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/recovery.h"
#include "comm/world.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "runtime/base/log.h"

enum { MAX_GROUPS = 10 };

typedef struct command {
    const char *name;
    const char *summary;
    const char *usage;    // after the name
    const char *example;  // one line
    int (*run)(const pr_options *options);
    const pr_option_group *group[MAX_GROUPS];  // ends with NULL if shorter
} command;

static int run_version(const pr_options *options)
{
    (void)options;
    if (pr_world_is_first())
        printf("polyreme %s\n", PR_VERSION);
    return PR_EXIT_OK;
}

static const command commands[] = {
    {"serve",
     "answer OpenAI's API over HTTP, on all ranks of the job",
     "MODEL [options]",
     "mpirun -n 4 polyreme serve models/demo --port 8000",
     pr_serve_command,
     {&pr_options_model, &pr_options_serve, &pr_options_access, &pr_options_messages,
      &pr_options_layout, &pr_options_engine, &pr_options_scheduling, &pr_options_job,
      &pr_options_general}},
    {"batch",
     "answer a JSONL file of requests, on all ranks of the job",
     "MODEL -i FILE -o FILE [options]",
     "mpirun -n 4 polyreme batch models/demo -i models/demo/requests.jsonl -o results.jsonl",
     pr_batch_command,
     {&pr_options_model, &pr_options_batch, &pr_options_messages, &pr_options_layout,
      &pr_options_engine, &pr_options_scheduling, &pr_options_job, &pr_options_general}},
    {"generate",
     "continue one prompt, text to standard output as it comes",
     "MODEL -p TEXT [options]",
     "polyreme generate models/demo -p \"In the beginning\" -n 64",
     pr_generate_command,
     {&pr_options_model, &pr_options_generate, &pr_options_layout, &pr_options_engine,
      &pr_options_scheduling, &pr_options_general}},
    {"chat",
     "talk to the model of a serving run, in a terminal or from a script",
     "[--url URL | --endpoint-file FILE] [options]",
     "polyreme chat --endpoint-file run.json --stats",
     pr_chat_command,
     {&pr_options_client, &pr_options_access, &pr_options_chat, &pr_options_general}},
    {"top",
     "watch a serving run: its groups, queue, KV memory, rates and latencies",
     "[--url URL | --endpoint-file FILE] [options]",
     "polyreme top --endpoint-file run.json",
     pr_top_command,
     {&pr_options_client, &pr_options_access, &pr_options_top, &pr_options_report,
      &pr_options_general}},
    {"bench",
     "replay a trace on the live runtime with its arrival times, lengths scaled down",
     "MODEL --trace FILE [options]",
     "mpirun -n 4 polyreme bench models/demo --trace "
     "tests/data/traces/mooncake_conversation.jsonl.gz "
     "--requests 100 --speed 20",
     pr_bench_command,
     {&pr_options_model, &pr_options_workload, &pr_options_bench, &pr_options_layout,
      &pr_options_engine, &pr_options_scheduling, &pr_options_report, &pr_options_general}},
    {"simulate",
     "run the scheduler on virtual time: a trace on modelled groups, or a recorded run again",
     "--trace FILE | --replay FILE | --calibrate FILE [options]",
     "polyreme simulate --trace tests/data/traces/mooncake_conversation.jsonl.gz --speed 1,1.5",
     pr_simulate_command,
     {&pr_options_workload, &pr_options_simulate, &pr_options_fleet, &pr_options_scheduling,
      &pr_options_engine, &pr_options_report, &pr_options_general}},
    {"plan",
     "show which ranks would do what with a model, and why; never starts MPI",
     "MODEL [--ranks N] [options]",
     "polyreme plan models/demo --ranks 4 --machine cpu",
     pr_plan_command,
     {&pr_options_model, &pr_options_plan, &pr_options_layout, &pr_options_engine,
      &pr_options_workload, &pr_options_fleet, &pr_options_scheduling, &pr_options_report,
      &pr_options_general}},
    {"convert",
     "pack a model's weights once, for a start without packing",
     "MODEL --output DIR [options]",
     "polyreme convert models/demo --output demo-int8 --quantization int8",
     pr_convert_command,
     {&pr_options_model, &pr_options_convert, &pr_options_general}},
    {"doctor",
     "check this machine and environment, and say what to do",
     "[MODEL] [options]",
     "polyreme doctor models/demo",
     pr_doctor_command,
     {&pr_options_doctor, &pr_options_report, &pr_options_general}},
    {"emit",
     "print a job script for Slurm, ready to be submitted",
     "sbatch KIND --model MODEL [options]",
     "polyreme emit sbatch batch --model models/demo -i models/demo/requests.jsonl > job.sh",
     pr_emit_command,
     {&pr_options_emit, &pr_options_general}},
    {"job",
     "say which job of Slurm or Kubernetes this is, and when it ends",
     "[options]",
     "polyreme job",
     pr_job_command,
     {&pr_options_report, &pr_options_general}},
    {"version", "print the version", "", "polyreme version", run_version, {&pr_options_general}},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static const command *find_command(const char *name)
{
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static int32_t count_groups(const command *chosen)
{
    int32_t groups = 0;
    while (groups < MAX_GROUPS && chosen->group[groups])
        groups++;
    return groups;
}

static void print_program_help(FILE *out)
{
    fputs(
        "Usage: polyreme COMMAND [arguments]\n"
        "MPI-native inference of large language models: many ranks, one stroke.\n\nCommands:\n",
        out);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs(
        "  help       show this text, or the help of a command: polyreme help COMMAND\n"
        "\nEvery option is also an environment variable (--max-num-seqs is POLYREME_MAX_NUM_SEQS)\n"
        "and an entry of a file given by --config.\n"
        "\nExit codes: 0 ok, 2 usage, 3 some batch requests failed, 4 model or file, 5 MPI or\n"
        "transport, 6 out of memory.\n",
        out);
}

static void print_command_help(const command *chosen, bool all, FILE *out)
{
    fprintf(
        out, "Usage: polyreme %s %s\nPurpose: %s.\n", chosen->name, chosen->usage, chosen->summary);
    for (int32_t i = 0; i < count_groups(chosen); i++)
        pr_option_group_print(chosen->group[i], all, out);
    fprintf(out, "\nExample:\n  %s\n", chosen->example);
    if (!all)
        fprintf(out, "\nAll options: polyreme %s --help=all\n", chosen->name);
}

// 0 = no help asked for, 1 = short, 2 = all.
static int wants_help(int arguments, const char *const *argument)
{
    for (int i = 0; i < arguments && strcmp(argument[i], "--") != 0; i++) {
        if (strcmp(argument[i], "--help=all") == 0)
            return 2;
        if (strcmp(argument[i], "--help") == 0 || strcmp(argument[i], "-h") == 0)
            return 1;
    }
    return 0;
}

static int fail_unknown_command(const char *name)
{
    if (!pr_world_is_first())
        return PR_EXIT_USAGE;
    const char *candidate[COMMANDS];
    for (int i = 0; i < COMMANDS; i++)
        candidate[i] = commands[i].name;
    const char *nearest = pr_option_nearest(name, candidate, COMMANDS);
    if (nearest)
        fprintf(stderr, "polyreme: unknown command '%s': did you mean '%s'?\n", name, nearest);
    else
        fprintf(stderr, "polyreme: unknown command '%s': see polyreme --help\n", name);
    return PR_EXIT_USAGE;
}

static int run_command(const command *chosen, int arguments, const char *const *argument)
{
    pr_options options;
    pr_config *config;
    pr_log_level level = PR_LOG_INFO;
    bool silent = !pr_world_is_first();
    pr_error_capture_begin();
    pr_status status = pr_options_read(
        chosen->group, count_groups(chosen), arguments, argument, &options, &config);
    pr_error_capture_end();
    if (status != PR_OK) {
        if (!silent)
            fprintf(stderr, "polyreme %s: %s\n", chosen->name, pr_error_text());
        return PR_EXIT_USAGE;
    }
    int code = PR_EXIT_OK;
    if (options.show_config) {
        if (!silent)
            pr_config_print(config, stdout);
    } else if (pr_log_parse_level(options.log_level, &level) != PR_OK) {
        code = PR_EXIT_USAGE;
    } else {
        pr_log_set_level(level);
        pr_log_set_json(strcmp(options.log_format, "json") == 0);
        code = chosen->run(&options);
    }
    pr_config_destroy(config);
    return code;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    const char *const *arguments = (const char *const *)argv + 2;
    if (strcmp(name, "--version") == 0)
        return run_version(NULL);
    bool asks_help = strcmp(name, "help") == 0;
    if (argc < 2 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 ||
        (asks_help && argc == 2)) {
        if (pr_world_is_first())
            print_program_help(argc < 2 ? stderr : stdout);
        return argc < 2 ? PR_EXIT_USAGE : PR_EXIT_OK;
    }
    const command *chosen = find_command(asks_help ? argv[2] : name);
    if (!chosen)
        return fail_unknown_command(asks_help ? argv[2] : name);
    int help = asks_help ? 2 : wants_help(argc - 2, arguments);
    if (help) {
        if (pr_world_is_first())
            print_command_help(chosen, help == 2, stdout);
        return PR_EXIT_OK;
    }
    int code = run_command(chosen, argc - 2, arguments);
    if (!pr_recovery_is_possible())
        return code;
    fflush(NULL);
    _exit(code);  // MPI is not finalized (comm/recovery.h)
}
