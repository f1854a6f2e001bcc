// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/workload.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launcher/simulate/run_csv.h"
#include "launcher/simulate/run_hdf5.h"
#include "runtime/base/log.h"

static pr_status check_writable(const char *path)
{
    FILE *file = path ? fopen(path, "a") : NULL;
    if (path && !file)
        return pr_fail(PR_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    if (file)
        fclose(file);
    return PR_OK;
}

pr_status pr_workload_read(const pr_options *options, pr_trace *trace)
{
    if (!options->trace)
        return pr_fail(PR_ERR_ARGUMENT, "--trace FILE is missing");
#ifndef PR_HAVE_HDF5
    if (options->hdf5)
        return pr_fail(
            PR_ERR_ARGUMENT, "--hdf5: this build has no HDF5; use --dump FILE for CSV, or build "
                             "with HDF5's development files");
#endif
    pr_trace_params params = {
        .path = options->trace,
        .block_tokens = options->block_tokens,
        .raw = strcmp(options->arrivals, "raw") == 0,
        .most = options->requests,
        .copies = options->copies,
        .rate_per_s = options->rate,
        .seed = (uint64_t)options->trace_seed,
    };
    PR_TRY(check_writable(options->dump));
    PR_TRY(check_writable(options->hdf5));
    return pr_trace_read(&params, trace);
}

pr_job_queue_params pr_workload_queue(const pr_options *options)
{
    enum { MOST_JOBS = 1 << 30, MOST_TENANTS = 1 << 16 };
    return (pr_job_queue_params){
        .fair = strcmp(options->fairness, "vtc") == 0,
        .prompt_weight = 1,
        .output_weight = 2,
        .guard_s = options->starvation_guard > 0 ? options->starvation_guard : (double)INFINITY,
        .most_jobs = MOST_JOBS,
        .most_tenants = MOST_TENANTS,
    };
}

pr_flow_params pr_workload_flow(const pr_options *options)
{
    return (pr_flow_params){
        .ttl_s = options->queue_ttl,
        .most_prompt_tokens = options->queue_tokens,
    };
}

// ---- About the run ----

// As the shell would take it, but for quoting; "" where the system does not tell.
static void read_command_line(char *text, size_t size_bytes)
{
    FILE *file = fopen("/proc/self/cmdline", "rb");
    size_t length = file ? fread(text, 1, size_bytes - 1, file) : 0;
    if (file)
        fclose(file);
    while (length > 0 && text[length - 1] == '\0')
        length--;
    for (size_t i = 0; i < length; i++)
        text[i] = text[i] == '\0' ? ' ' : text[i];
    text[length] = '\0';
}

static void set_text(json_t *about, const char *name, const char *text)
{
    json_object_set_new(about, name, json_string(text));
}

static void set_integer(json_t *about, const char *name, int64_t integer)
{
    json_object_set_new(about, name, json_integer(integer));
}

static void set_real(json_t *about, const char *name, double real)
{
    json_object_set_new(about, name, json_real(real));
}

json_t *pr_workload_about(const pr_options *options, const pr_trace *trace)
{
    char command_line[4096];
    json_t *about = json_object();
    read_command_line(command_line, sizeof command_line);
    set_text(about, "version", PR_VERSION);
    set_text(about, "command_line", command_line);
    set_text(about, "trace", options->trace);
    set_text(about, "trace_sha256", trace->sha256);
    set_integer(about, "requests", trace->requests);
    set_text(about, "arrivals", options->arrivals);
    set_integer(about, "copies", options->copies);
    set_integer(about, "block_tokens", trace->block_tokens);
    set_real(about, "rate_per_s", options->rate);
    set_integer(about, "seed", options->trace_seed);
    set_text(about, "fairness", options->fairness);
    set_real(about, "starvation_guard_s", options->starvation_guard);
    set_real(about, "queue_ttl_s", options->queue_ttl);
    set_integer(about, "queue_tokens", options->queue_tokens);
    return about;
}

void pr_workload_add_cost(json_t *about, const pr_cost_model *cost)
{
    set_real(about, "cost_a_s", cost->chunk_s);
    set_real(about, "cost_b_s", cost->chunk_token_s);
    set_real(about, "cost_c_s", cost->chunk_pair_s);
    set_real(about, "cost_d0_s", cost->step_s);
    set_real(about, "cost_d1_s", cost->step_sequence_s);
    set_real(about, "cost_d2_s", cost->step_context_s);
    set_real(about, "cost_alpha_s", cost->transfer_s);
    set_real(about, "cost_beta_bytes_per_s", cost->transfer_bytes_per_s);
    set_real(about, "cost_kappa_bytes", cost->kv_bytes_per_token);
    set_integer(about, "cost_chunk_tokens", cost->chunk_tokens);
    set_integer(about, "cost_max_batch", cost->max_batch);
    set_integer(about, "cost_capacity_tokens", cost->capacity_tokens);
}

pr_status pr_workload_write(const pr_options *options, const pr_run_record *record, json_t *about)
{
    if (options->dump)
        PR_TRY(pr_run_csv_write(record, options->dump));
    if (options->hdf5)
        PR_TRY(pr_run_hdf5_write(record, about, options->hdf5));
    return PR_OK;
}
