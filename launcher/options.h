// SPDX-License-Identifier: BSD-3-Clause
// Every option of every command as one plain record, and the tables that fill it (options.c). A field
// has the name of its flag; a command sees the groups its row in main.c lists, the other fields keep
// their defaults. A flag that means what vLLM's means carries vLLM's name.
#ifndef PR_LAUNCHER_OPTIONS_H
#define PR_LAUNCHER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/group.h"
#include "runtime/base/config.h"
#include "runtime/base/dtype.h"
#include "runtime/device.h"
#include "runtime/model/weights_file.h"
#include "scheduler/balance/balance.h"

typedef struct pr_options {
    // general
    const char *config;
    bool show_config;
    const char *log_level, *log_format;

    const char *model;              // the model directory
    const char *served_model_name;  // NULL = last part of the path

    // layout
    const char *prefill, *decode, *mixed;  // "2x4:tp=2", or NULL
    int32_t tensor_parallel_size;          // 0 = chosen
    bool dedicated_controller;
    const char *rank_order;  // "auto" or "launcher"

    // engine
    int32_t max_model_len;  // 0 = the model's
    int32_t block_size;     // B
    int32_t kv_blocks;      // per lane; 0 = chosen
    const char *kv_cache_dtype;
    const char *dtype;         // "auto" or "float32"; NULL is auto
    const char *quantization;  // "none", "int8" or "int4"; NULL is none
    const char *load;          // "auto", "mmap" or "read"; NULL is auto
    int32_t max_num_batched_tokens;
    int32_t max_num_seqs;
    bool enable_prefix_caching;
    int32_t lease_steps;
    int64_t memory;  // bytes each rank may use; 0 = chosen
    const char *device;
    const char *device_graphs;
    const char *cpu_isa;
    int32_t threads;       // of each rank; 0 = chosen
    const char *bind;      // "auto", "on" or "off"
    int32_t comm_timeout;  // ms
    double watchdog;       // s; 0 = off
    const char *respawn;
    const char *exchange;
    const char *control;
    const char *record;       // FILE or NULL
    const char *trace_file;   // FILE or NULL
    int64_t trace_file_size;  // bytes

    // batch
    const char *input, *output;
    const char *order;     // "input" or "completion"
    int64_t shuffle_seed;  // 0 = off
    bool validate_only;
    bool resume;
    const char *journal;   // "auto" or "off"
    int32_t journal_sync;  // ms
    const char *part;      // "0/4", or NULL
    const char *state;     // FILE or NULL
    int32_t max_waiting;   // requests read ahead of the scheduler

    // serve
    const char *host;
    int32_t port;     // 0 = any free one
    const char *uds;  // path of a Unix socket, or NULL
    const char *ssl_certfile, *ssl_keyfile;
    const char *cors_origin;
    int64_t max_body, stream_buffer;  // bytes
    int32_t max_connections, max_queue;
    double read_timeout, idle_timeout, drain_timeout;  // s
    const char *chat_template;                         // FILE or NULL
    const char *tool_call_parser, *reasoning_parser;
    bool allow_special_in_content, trust_request_chat_template;
    bool generate_api_key, protect_metrics;
    const char *endpoints_yaml;                // FILE or NULL
    const char *kv_events, *kv_events_replay;  // ZeroMQ endpoints or NULL

    // batch, serve: the job that runs us
    const char *walltime;     // "auto", "off" or a time; NULL is auto
    double walltime_reserve;  // s

    // generate: sampling values not given come from the model's generation_config.json
    // (pr_options_given tells)
    const char *prompt;
    int32_t max_tokens;
    double temperature, top_p, min_p;
    int32_t top_k;
    double repetition_penalty, presence_penalty, frequency_penalty;
    int64_t seed;
    pr_strings stop;
    bool ignore_eos;
    int32_t logprobs;  // -1 = none

    // workload (simulate, bench)
    const char *trace;     // FILE or NULL
    const char *speed;     // one or, for simulate, several: "1,1.5,2"
    int64_t requests;      // of the trace; 0 = all
    const char *arrivals;  // "spread" or "raw"
    double rate;           // requests per second of a trace without stamps
    int32_t copies;
    int32_t block_tokens;  // that one id of the trace stands for
    int64_t trace_seed;
    const char *dump, *hdf5;

    // scheduling
    const char *policy;  // one or, for simulate, several: "lps,least-tokens"
    const char *fairness;
    double starvation_guard;  // s; 0 = none
    int32_t short_suffix;
    double queue_ttl;       // s; 0 = none
    int64_t queue_tokens;   // 0 = no bound
    const char *balance;    // "auto", "off" or, for tests, "rotate"
    double balance_period;  // s
    double tpot_target;     // s

    // simulate
    const char *groups;    // "prefill=8,decode=8"
    const char *capacity;  // "slo-a", "slo-b" or NULL
    double ttft_limit;     // s, of the 99th percentile at capacity; 0 = none
    const char *cost;
    int32_t cache_blocks;  // of one prefill group, in blocks of the trace
    int64_t spans;         // kept for the chart of groups
    bool known_outputs;
    const char *engine;              // what the modelled groups can do
    const char *replay, *calibrate;  // FILE or NULL

    // bench
    int32_t scale_tokens;

    // convert
    bool verify;

    // plan
    int32_t ranks;        // 0 = chosen
    const char *machine;  // NULL = no forecast
    int32_t prompt_tokens, output_tokens;
    int32_t nodes, nodes_per_switch;  // 0 = chosen; all under one switch
    const char *topology;             // of a node, in hwloc's words; NULL = this machine's
    const char *svg;                  // FILE or NULL
    int32_t split;                    // groups to divide; 0 = none
    const char *slo;                  // "slo-a" or "slo-b"

    // serve, chat, top: who may ask, and where. Clients use one key.
    pr_strings api_key;
    const char *api_key_file;
    const char *endpoint_file;

    // chat, top
    const char *url;     // NULL = the endpoint file's, or this machine's usual one
    const char *ssl_ca;  // FILE or NULL
    bool insecure;

    // chat; model names what the server calls it
    const char *system;
    bool stats;

    // top
    double interval;  // s
    bool once;

    // emit; model, input, output, nodes and endpoint_file are those of others
    const char *what, *kind;
    int32_t ranks_per_node, prefill_nodes, decode_nodes;
    const char *time, *partition, *decode_partition, *account, *gpus_per_node, *job_name;
    int32_t parts, parts_at_once;  // 0 = all
    const char *rank_counts;       // "1,2,4"
    int32_t lead_minutes;
    const char *run_options;

    // doctor
    bool start_mpi;

    // plan, doctor, simulate, bench, top
    bool json;

    const pr_config *origins;  // where each value came from; NULL in tests
} pr_options;

extern const pr_option_group pr_options_general;
extern const pr_option_group pr_options_model;
extern const pr_option_group pr_options_layout;
extern const pr_option_group pr_options_engine;
extern const pr_option_group pr_options_batch;
extern const pr_option_group pr_options_messages;
extern const pr_option_group pr_options_serve;
extern const pr_option_group pr_options_job;
extern const pr_option_group pr_options_generate;
extern const pr_option_group pr_options_workload;
extern const pr_option_group pr_options_scheduling;
extern const pr_option_group pr_options_simulate;
extern const pr_option_group pr_options_bench;
extern const pr_option_group pr_options_fleet;
extern const pr_option_group pr_options_plan;
extern const pr_option_group pr_options_emit;
extern const pr_option_group pr_options_doctor;
extern const pr_option_group pr_options_report;
extern const pr_option_group pr_options_access;
extern const pr_option_group pr_options_client;
extern const pr_option_group pr_options_chat;
extern const pr_option_group pr_options_top;
extern const pr_option_group pr_options_convert;

enum { PR_OPTION_GROUPS = 23 };
extern const pr_option_group *const pr_options_all[PR_OPTION_GROUPS];

// Fills the record from arguments (after the command's name), environment and file. *config owns the
// strings; destroy it when the command is done.
pr_status pr_options_read(
    const pr_option_group *const *group,
    int32_t groups,
    int32_t arguments,
    const char *const *argument,
    pr_options *options,
    pr_config **config) PR_MUST_CHECK;

// Whether the user gave the option, by any way.
bool pr_options_given(const pr_options *options, const char *name);
bool pr_options_given_as_flag(const pr_options *options, const char *name);

// auto follows the weights: float32 for float32, else bfloat16.
pr_dtype pr_options_kv_dtype(const pr_options *options, pr_dtype weight_dtype);
pr_quantization pr_options_quantization(const pr_options *options);
// What becomes of the weights, for people.
const char *pr_options_weights_text(pr_quantization quantization);
pr_load_mode pr_options_load_mode(const pr_options *options);
pr_exchange pr_options_exchange(const pr_options *options);
pr_balance_params pr_options_balance(const pr_options *options);

#endif
