// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/options.h"

#include <string.h>
#include <unistd.h>

#include "launcher/job_choice.h"
#include "launcher/plan/machine.h"
#include "runtime/base/log.h"

#define FIELD(name) offsetof(pr_options, name)
#define COUNT(array) ((int32_t)(sizeof(array) / sizeof(array)[0]))

// clang-format off
static const pr_option general[] = {
    {.name = "config", .value_name = "FILE", .kind = PR_OPTION_STRING, .offset = FIELD(config),
     .help = "JSON object of options, {\"max-num-seqs\": 32}; flags and environment override it"},
    {.name = "show-config", .kind = PR_OPTION_FLAG, .offset = FIELD(show_config),
     .help = "print every option with its value and where it came from, and stop"},
    {.name = "log-level", .value_name = "LEVEL", .kind = PR_OPTION_STRING, .offset = FIELD(log_level),
     .standard = "info", .choices = "error|warn|info|debug", .common = true,
     .help = "the least important lines to print"},
    {.name = "log-format", .value_name = "FORMAT", .kind = PR_OPTION_STRING,
     .offset = FIELD(log_format), .standard = "text", .choices = "text|json",
     .help = "json = each line one object: time, level, rank, text"},
};

static const pr_option model[] = {
    {.name = "model", .value_name = "MODEL", .kind = PR_OPTION_STRING, .offset = FIELD(model),
     .position = 1, .required = true, .common = true,
     .help = "directory with config.json, tokenizer.json and *.safetensors"},
    {.name = "served-model-name", .value_name = "NAME", .kind = PR_OPTION_STRING,
     .offset = FIELD(served_model_name),
     .help = "what requests call the model; default: the last part of MODEL"},
};

static const pr_option layout[] = {
    {.name = "mixed", .value_name = "LAYOUT", .kind = PR_OPTION_STRING, .offset = FIELD(mixed),
     .common = true, .help = "groups that do prefill and decode: 2x4:tp=2 is two of four ranks with tp 2"},
    {.name = "prefill", .value_name = "LAYOUT", .kind = PR_OPTION_STRING, .offset = FIELD(prefill),
     .common = true, .help = "groups that do prefill only; needs --decode"},
    {.name = "decode", .value_name = "LAYOUT", .kind = PR_OPTION_STRING, .offset = FIELD(decode),
     .common = true, .help = "groups that do decode only; needs --prefill"},
    {.name = "tensor-parallel-size", .letters = "tp", .value_name = "N", .kind = PR_OPTION_INT,
     .offset = FIELD(tensor_parallel_size), .standard = "0", .least = 0, .most = 8, .common = true,
     .help = "ranks that share each attention head set, in groups that name no tp; 0 = chosen"},
    {.name = "dedicated-controller", .kind = PR_OPTION_FLAG, .offset = FIELD(dedicated_controller),
     .help = "rank 0 only schedules and holds no model"},
    {.name = "rank-order", .value_name = "HOW", .kind = PR_OPTION_STRING, .offset = FIELD(rank_order),
     .standard = "auto", .choices = "auto|launcher",
     .help = "which rank does what: auto = ranks that talk most sit nearest, however they were started; launcher = as it numbered them"},
};

static const pr_option engine[] = {
    {.name = "max-model-len", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(max_model_len),
     .standard = "0", .least = 0, .most = 16777216, .common = true,
     .help = "longest prompt plus output in tokens; 0 = the model's"},
    {.name = "max-num-seqs", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(max_num_seqs),
     .standard = "64", .least = 1, .most = 65536, .common = true,
     .help = "sequences running at once in one lane"},
    {.name = "max-num-batched-tokens", .value_name = "N", .kind = PR_OPTION_INT,
     .offset = FIELD(max_num_batched_tokens), .standard = "512", .least = 1, .most = 1048576,
     .common = true, .help = "tokens one lane computes in one step"},
    {.name = "memory", .value_name = "BYTES", .kind = PR_OPTION_INT64, .offset = FIELD(memory),
     .standard = "0", .least = 0, .most = 1e15, .common = true,
     .help = "memory each rank may use, of its GPU if it has one, e.g. 16GiB; 0 = nine tenths of its share of what is free"},
    {.name = "block-size", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(block_size),
     .standard = "16", .least = 16, .most = 1024, .multiple = 16, .help = "tokens of one KV block"},
    {.name = "kv-blocks", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(kv_blocks),
     .standard = "0", .least = 0, .most = 134217728,
     .help = "KV blocks of one lane; 0 = what memory allows and max-num-seqs needs"},
    {.name = "kv-cache-dtype", .value_name = "TYPE", .kind = PR_OPTION_STRING,
     .offset = FIELD(kv_cache_dtype), .standard = "auto", .choices = "auto|float32|bfloat16",
     .help = "type of KV entries; auto is float32 for float32 weights, else bfloat16"},
    {.name = "dtype", .value_name = "TYPE", .kind = PR_OPTION_STRING, .offset = FIELD(dtype),
     .standard = "auto", .choices = "auto|float32",
     .help = "what weights and activations are multiplied in; auto is the type of the weights"},
    {.name = "quantization", .value_name = "KIND", .kind = PR_OPTION_STRING,
     .offset = FIELD(quantization), .standard = "none", .choices = "none|int8|int4", .common = true,
     .help = "what the weights become while they are loaded; activations are int8 then"},
    {.name = "load", .value_name = "HOW", .kind = PR_OPTION_STRING, .offset = FIELD(load),
     .standard = "auto", .choices = "auto|mmap|read",
     .help = "how weights come from their files: by read calls onto huge pages, or mapped, which ranks share if the model is converted; auto = mmap on tmpfs, else read"},
    {.name = "enable-prefix-caching", .kind = PR_OPTION_FLAG, .offset = FIELD(enable_prefix_caching),
     .standard = "true", .help = "keep the KV of finished prompts for prompts that begin alike (--no-... = off)"},
    {.name = "lease-steps", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(lease_steps),
     .standard = "32", .least = 1, .most = 4096,
     .help = "decode steps a group may run on one plan"},
    {.name = "device", .value_name = "NAME", .kind = PR_OPTION_STRING, .offset = FIELD(device),
     .standard = "auto", .common = true,
     .help = "what computes: auto = a GPU if there is one, cpu, cuda or hip; ranks of a node take its GPUs in turn, cuda:1 and cuda:GPU-1a2b name one"},
    {.name = "device-graphs", .value_name = "WHEN", .kind = PR_OPTION_STRING, .offset = FIELD(device_graphs),
     .standard = "on", .choices = "on|off",
     .help = "let a GPU run decode steps as recorded graphs; off launches each kernel by itself, with the same bytes"},
    {.name = "cpu-isa", .value_name = "NAME", .kind = PR_OPTION_STRING, .offset = FIELD(cpu_isa),
     .standard = "auto", .choices = "auto|reference|neon|avx2|avx512|avx512bf16",
     .help = "kernels of the cpu device; all give the same bytes"},
    {.name = "threads", .value_name = "N|auto", .kind = PR_OPTION_INT, .offset = FIELD(threads),
     .standard = "auto", .zero = "auto", .least = 0, .most = 256, .common = true,
     .help = "threads that each rank computes with; auto = its share of the cores in its mask, whatever OMP_NUM_THREADS says. The bytes do not depend on it"},
    {.name = "bind", .value_name = "HOW", .kind = PR_OPTION_STRING, .offset = FIELD(bind),
     .standard = "auto", .choices = "auto|on|off",
     .help = "each thread on a core of its own; auto = where a launcher or a mask says that the cores are ours"},
    {.name = "comm-timeout", .value_name = "MS", .kind = PR_OPTION_INT, .offset = FIELD(comm_timeout),
     .standard = "60000", .least = 100, .most = 86400000,
     .help = "longest wait for another rank before it counts as lost"},
    {.name = "watchdog", .value_name = "SECONDS", .kind = PR_OPTION_FLOAT, .offset = FIELD(watchdog),
     .standard = "10", .least = 0, .most = 86400,
     .help = "silence of a rank after which it counts as stuck, is named and ends the run; 0 = never (debuggers)"},
    {.name = "respawn", .value_name = "WHEN", .kind = PR_OPTION_STRING, .offset = FIELD(respawn),
     .standard = "auto", .choices = "auto|off",
     .help = "start a process for a lost rank, under mpirun --enable-recovery; off does without its group"},
    {.name = "exchange", .value_name = "NAME", .kind = PR_OPTION_STRING, .offset = FIELD(exchange),
     .standard = "auto", .choices = "auto|direct|nccl|shared|messages",
     .help = "what carries rows between the ranks of a group; auto is the quickest there is: within a node direct "
             "between GPUs that reach each other, else shared memory, which GPUs copy to and from; "
             "nccl (or RCCL) also between nodes"},
    {.name = "control", .value_name = "NAME", .kind = PR_OPTION_STRING, .offset = FIELD(control),
     .standard = "auto", .choices = "auto|ucx|tcp", .help = "what carries plans and reports"},
    {.name = "record", .value_name = "FILE", .kind = PR_OPTION_STRING, .offset = FIELD(record),
     .help = "write the scheduler's events and decisions, for a replay"},
    {.name = "trace-file", .value_name = "FILE", .kind = PR_OPTION_STRING, .offset = FIELD(trace_file),
     .help = "write what requests and groups did when, as a Chrome trace for ui.perfetto.dev"},
    {.name = "trace-file-size", .value_name = "BYTES", .kind = PR_OPTION_INT64,
     .offset = FIELD(trace_file_size), .standard = "256MiB", .least = 65536, .most = 1e15,
     .help = "end the trace there"},
};

static const pr_option batch[] = {
    {.name = "input", .letters = "i", .value_name = "FILE", .kind = PR_OPTION_STRING,
     .offset = FIELD(input), .required = true, .common = true,
     .help = "requests, one JSON object a line (OpenAI batch format)"},
    {.name = "output", .letters = "o", .value_name = "FILE", .kind = PR_OPTION_STRING,
     .offset = FIELD(output), .common = true,
     .help = "answers, one JSON object a line, there when all are done; - is standard output, as they come"},
    {.name = "resume", .kind = PR_OPTION_FLAG, .offset = FIELD(resume), .common = true,
     .help = "go on where an earlier run of the same batch ended; from the beginning if there was none"},
    {.name = "state", .value_name = "FILE", .kind = PR_OPTION_STRING, .offset = FIELD(state),
     .suffices = true, .common = true,
     .help = "say how far the batch with this output is: running, preempted, failed or done, and counts"},
    {.name = "part", .value_name = "I/N", .kind = PR_OPTION_STRING, .offset = FIELD(part),
     .common = true,
     .help = "only the I-th of N equal parts of the input, counted from 0; the outputs in order are the whole"},
    {.name = "journal", .value_name = "HOW", .kind = PR_OPTION_STRING, .offset = FIELD(journal),
     .standard = "auto", .choices = "auto|off",
     .help = "keep tokens and answers in OUT.journal until all is done; off: write OUT as answers come"},
    {.name = "journal-sync", .value_name = "MS", .kind = PR_OPTION_INT, .offset = FIELD(journal_sync),
     .standard = "1000", .least = 0, .most = 3600000,
     .help = "what a machine that stops may lose; 0 = nothing, each step waits for the disk"},
    {.name = "order", .value_name = "ORDER", .kind = PR_OPTION_STRING, .offset = FIELD(order),
     .standard = "input", .choices = "input|completion", .common = true,
     .help = "order of the answers"},
    {.name = "validate-only", .kind = PR_OPTION_FLAG, .offset = FIELD(validate_only), .common = true,
     .help = "check every line of the input, compute nothing"},
    {.name = "shuffle-seed", .value_name = "N", .kind = PR_OPTION_INT64, .offset = FIELD(shuffle_seed),
     .standard = "0", .least = 0, .most = 9e18,
     .help = "submit the requests in an order drawn from this seed; 0 = as they come"},
    {.name = "max-waiting", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(max_waiting),
     .standard = "4096", .least = 1, .most = 16777216,
     .help = "requests held in memory ahead of the scheduler"},
};

static const pr_option messages[] = {
    {.name = "chat-template", .value_name = "FILE", .kind = PR_OPTION_STRING,
     .offset = FIELD(chat_template),
     .help = "Jinja template of chats; default: the model's own"},
    {.name = "tool-call-parser", .value_name = "NAME", .kind = PR_OPTION_STRING,
     .offset = FIELD(tool_call_parser), .standard = "auto",
     .help = "how the model writes tool calls: hermes, llama3_json, mistral, none; auto looks at the template"},
    {.name = "reasoning-parser", .value_name = "NAME", .kind = PR_OPTION_STRING,
     .offset = FIELD(reasoning_parser), .standard = "auto",
     .help = "how the model marks its reasoning: qwen3, deepseek_r1, none; auto looks at the template"},
    {.name = "trust-request-chat-template", .kind = PR_OPTION_FLAG,
     .offset = FIELD(trust_request_chat_template),
     .help = "requests may bring a chat template of their own, which can write special tokens"},
    {.name = "allow-special-in-content", .kind = PR_OPTION_FLAG,
     .offset = FIELD(allow_special_in_content),
     .help = "text of messages may become special tokens, as in other engines (prompt injection)"},
};

static const pr_option serve[] = {
    {.name = "host", .value_name = "ADDRESS", .kind = PR_OPTION_STRING, .offset = FIELD(host),
     .standard = "127.0.0.1", .common = true,
     .help = "address to listen on; 0.0.0.0 = all, also from other machines"},
    {.name = "port", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(port),
     .standard = "8000", .least = 0, .most = 65535, .common = true,
     .help = "TCP port; 0 = any free one"},
    {.name = "uds", .value_name = "PATH", .kind = PR_OPTION_STRING, .offset = FIELD(uds),
     .help = "listen on this Unix socket instead of a port"},
    {.name = "ssl-certfile", .value_name = "FILE", .kind = PR_OPTION_STRING,
     .offset = FIELD(ssl_certfile), .help = "certificate chain in PEM: serve over TLS"},
    {.name = "ssl-keyfile", .value_name = "FILE", .kind = PR_OPTION_STRING,
     .offset = FIELD(ssl_keyfile), .help = "its private key in PEM"},
    {.name = "cors-origin", .value_name = "ORIGIN", .kind = PR_OPTION_STRING,
     .offset = FIELD(cors_origin), .help = "web pages from there may ask; * = from anywhere"},
    {.name = "generate-api-key", .kind = PR_OPTION_FLAG, .offset = FIELD(generate_api_key),
     .standard = "true",
     .help = "under a batch system, make a key beside the endpoint file if none is given (--no-... = off)"},
    {.name = "protect-metrics", .kind = PR_OPTION_FLAG, .offset = FIELD(protect_metrics),
     .help = "/metrics asks for the key too"},
    {.name = "endpoints-yaml", .value_name = "FILE", .kind = PR_OPTION_STRING,
     .offset = FIELD(endpoints_yaml),
     .help = "llm-d's list of endpoints; default: endpoints.yaml beside the endpoint file"},
    {.name = "kv-events", .value_name = "ENDPOINT", .kind = PR_OPTION_STRING,
     .offset = FIELD(kv_events),
     .help = "publish KV blocks over ZeroMQ as vLLM does: tcp://*:5557 binds, tcp://HOST:5557 connects"},
    {.name = "kv-events-replay", .value_name = "ENDPOINT", .kind = PR_OPTION_STRING,
     .offset = FIELD(kv_events_replay), .help = "answer who missed KV events there, e.g. tcp://*:5558"},
    {.name = "max-queue", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(max_queue),
     .standard = "4096", .least = 1, .most = 16777216, .common = true,
     .help = "sequences under way, running or waiting; who comes beyond gets 429"},
    {.name = "drain-timeout", .value_name = "S", .kind = PR_OPTION_FLOAT,
     .offset = FIELD(drain_timeout), .standard = "60", .least = 0, .most = 1e6, .common = true,
     .help = "time that open requests have to finish once the server is told to end"},
    {.name = "max-body", .value_name = "BYTES", .kind = PR_OPTION_INT64, .offset = FIELD(max_body),
     .standard = "64MiB", .least = 1024, .most = 1e12, .help = "longest body of a request"},
    {.name = "stream-buffer", .value_name = "BYTES", .kind = PR_OPTION_INT64,
     .offset = FIELD(stream_buffer), .standard = "1MiB", .least = 65536, .most = 1e12,
     .help = "unread output of one stream; a client that leaves more unread is cancelled"},
    {.name = "max-connections", .value_name = "N", .kind = PR_OPTION_INT,
     .offset = FIELD(max_connections), .standard = "20000", .least = 1, .most = 1000000,
     .help = "connections at once"},
    {.name = "read-timeout", .value_name = "S", .kind = PR_OPTION_FLOAT,
     .offset = FIELD(read_timeout), .standard = "30", .least = 0.1, .most = 1e6,
     .help = "for the head of a request, and between two pieces of its body"},
    {.name = "idle-timeout", .value_name = "S", .kind = PR_OPTION_FLOAT,
     .offset = FIELD(idle_timeout), .standard = "75", .least = 0.1, .most = 1e6,
     .help = "how long a connection is kept between requests"},
};

static const pr_option generate[] = {
    {.name = "prompt", .letters = "p", .value_name = "TEXT", .kind = PR_OPTION_STRING,
     .offset = FIELD(prompt), .common = true, .help = "text to continue; without it, standard input"},
    {.name = "max-tokens", .letters = "n", .value_name = "N", .kind = PR_OPTION_INT,
     .offset = FIELD(max_tokens), .standard = "128", .least = 1, .most = 16777216, .common = true,
     .help = "tokens to generate at most"},
    {.name = "temperature", .value_name = "X", .kind = PR_OPTION_FLOAT, .offset = FIELD(temperature),
     .standard = "1", .least = 0, .most = 100, .common = true,
     .help = "0 = always the likeliest token; the model's own default comes first"},
    {.name = "seed", .value_name = "N", .kind = PR_OPTION_INT64, .offset = FIELD(seed),
     .standard = "0", .least = 0, .most = 9e18, .common = true,
     .help = "the same seed gives the same tokens"},
    {.name = "top-p", .value_name = "X", .kind = PR_OPTION_FLOAT, .offset = FIELD(top_p),
     .standard = "1", .least = 1e-6, .most = 1, .help = "draw from the likeliest tokens that make up this probability"},
    {.name = "top-k", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(top_k),
     .standard = "0", .least = -1, .most = 1048576, .help = "draw from so many likeliest tokens; 0 or -1 = all"},
    {.name = "min-p", .value_name = "X", .kind = PR_OPTION_FLOAT, .offset = FIELD(min_p),
     .standard = "0", .least = 0, .most = 1, .help = "drop tokens less likely than this part of the likeliest"},
    {.name = "repetition-penalty", .value_name = "X", .kind = PR_OPTION_FLOAT,
     .offset = FIELD(repetition_penalty), .standard = "1", .least = 1e-3, .most = 100,
     .help = "above 1 makes tokens of prompt and output less likely"},
    {.name = "presence-penalty", .value_name = "X", .kind = PR_OPTION_FLOAT,
     .offset = FIELD(presence_penalty), .standard = "0", .least = -2, .most = 2,
     .help = "taken from the logits of tokens that the output has"},
    {.name = "frequency-penalty", .value_name = "X", .kind = PR_OPTION_FLOAT,
     .offset = FIELD(frequency_penalty), .standard = "0", .least = -2, .most = 2,
     .help = "taken once for each time the output has the token"},
    {.name = "stop", .value_name = "TEXT", .kind = PR_OPTION_STRINGS, .offset = FIELD(stop),
     .common = true, .help = "end before this text; may be given several times"},
    {.name = "ignore-eos", .kind = PR_OPTION_FLAG, .offset = FIELD(ignore_eos),
     .help = "go on after the model's end token"},
    {.name = "logprobs", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(logprobs),
     .standard = "-1", .least = -1, .most = 20,
     .help = "print each token's log probability and the N likeliest; -1 = none"},
};

static const pr_option workload[] = {
    {.name = "trace", .value_name = "FILE", .kind = PR_OPTION_STRING, .offset = FIELD(trace),
     .common = true,
     .help = "requests to run: Mooncake JSONL, CSV with arrived_at, or lengths alone; plain or gzip"},
    {.name = "speed", .value_name = "X", .kind = PR_OPTION_STRING, .offset = FIELD(speed),
     .standard = "1", .common = true,
     .help = "arrival times are divided by it; simulate takes several: 1,1.5,2"},
    {.name = "requests", .value_name = "N", .kind = PR_OPTION_INT64, .offset = FIELD(requests),
     .standard = "0", .least = 0, .most = 1e12, .common = true,
     .help = "only the first N of the trace; 0 = all"},
    {.name = "arrivals", .value_name = "HOW", .kind = PR_OPTION_STRING, .offset = FIELD(arrivals),
     .standard = "spread", .choices = "spread|raw",
     .help = "spread = requests with one stamp are spread to the next; raw = as stamped"},
    {.name = "rate", .value_name = "X", .kind = PR_OPTION_FLOAT, .offset = FIELD(rate),
     .standard = "0", .least = 0, .most = 1e9,
     .help = "requests per second (Poisson) of a trace that has lengths alone"},
    {.name = "copies", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(copies),
     .standard = "1", .least = 1, .most = 1048576,
     .help = "weak scaling: the trace so many times, sharing nothing but a universal first block"},
    {.name = "block-tokens", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(block_tokens),
     .standard = "512", .least = 1, .most = 1048576, .help = "tokens that one id of the trace stands for"},
    {.name = "trace-seed", .value_name = "N", .kind = PR_OPTION_INT64, .offset = FIELD(trace_seed),
     .standard = "1", .least = 0, .most = 9e18, .help = "the same seed gives the same run"},
    {.name = "dump", .value_name = "FILE", .kind = PR_OPTION_STRING, .offset = FIELD(dump),
     .common = true, .help = "write one CSV line for each request"},
    {.name = "hdf5", .value_name = "FILE", .kind = PR_OPTION_STRING, .offset = FIELD(hdf5),
     .help = "write requests, spans and everything needed to repeat the run as HDF5"},
};

static const pr_option scheduling[] = {
    {.name = "policy", .value_name = "NAME", .kind = PR_OPTION_STRING, .offset = FIELD(policy),
     .standard = "lps", .common = true,
     .help = "where a request runs and when: NAME[/ORDER][:KEY=VALUE,..]"},
    {.name = "fairness", .value_name = "HOW", .kind = PR_OPTION_STRING, .offset = FIELD(fairness),
     .standard = "vtc", .choices = "none|vtc",
     .help = "vtc = the tenant that received least is served first (virtual token counters)"},
    {.name = "starvation-guard", .value_name = "S", .kind = PR_OPTION_FLOAT,
     .offset = FIELD(starvation_guard), .standard = "0", .least = 0, .most = 1e9,
     .help = "who has waited so many seconds goes first; 0 = no guard"},
    {.name = "short-suffix", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(short_suffix),
     .standard = "64", .least = 0, .most = 1048576,
     .help = "a decode group that lacks at most N tokens of a prompt computes them itself; 0 = never"},
    {.name = "queue-ttl", .value_name = "S", .kind = PR_OPTION_FLOAT, .offset = FIELD(queue_ttl),
     .standard = "0", .least = 0, .most = 1e9,
     .help = "who has not started after so many seconds is rejected; 0 = waits for ever"},
    {.name = "queue-tokens", .value_name = "N", .kind = PR_OPTION_INT64,
     .offset = FIELD(queue_tokens), .standard = "0", .least = 0, .most = 1e15,
     .help = "reject what comes while so many prompt tokens wait; 0 = no bound"},
    {.name = "balance", .value_name = "HOW", .kind = PR_OPTION_STRING, .offset = FIELD(balance),
     .standard = "auto", .choices = "auto|off|rotate",
     .help = "auto = of three or more prefill and decode groups one changes its role when that helps; rotate = each period one does (tests)"},
    {.name = "balance-period", .value_name = "S", .kind = PR_OPTION_FLOAT,
     .offset = FIELD(balance_period), .standard = "20", .least = 1e-3, .most = 1e9,
     .help = "how often the loads of prefill and decode are compared"},
    {.name = "tpot-target", .value_name = "S", .kind = PR_OPTION_FLOAT, .offset = FIELD(tpot_target),
     .standard = "0.1", .least = 1e-6, .most = 1e6,
     .help = "time between tokens that balance holds decode groups to"},
};

static const pr_option job[] = {
    {.name = "walltime", .value_name = "auto|off|TIME", .kind = PR_OPTION_STRING,
     .offset = FIELD(walltime), .standard = "auto", .common = true,
     .help = "when this run will be ended: auto = as Slurm or Kubernetes says; TIME, from the start, as for Slurm: 90 (minutes), 5:00, 1:30:00, 2-12 (days-hours)"},
    {.name = "walltime-reserve", .value_name = "S", .kind = PR_OPTION_FLOAT,
     .offset = FIELD(walltime_reserve), .standard = "20", .least = 0, .most = 86400,
     .help = "time kept free before that end for the last writes"},
};

static const pr_option fleet[] = {
    {.name = "cost", .value_name = "NAME", .kind = PR_OPTION_STRING, .offset = FIELD(cost),
     .standard = "a100-llama3-70b", .common = true,
     .help = "step times: a100-llama3-70b or h100-llama3-70b, with constants replaced: NAME,a=0.02"},
    {.name = "cache-blocks", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(cache_blocks),
     .standard = "4096", .least = 1, .most = 134217728,
     .help = "blocks of the trace that one prefill group's cache holds"},
    {.name = "ttft-limit", .value_name = "S", .kind = PR_OPTION_FLOAT, .offset = FIELD(ttft_limit),
     .standard = "60", .least = 0, .most = 1e9,
     .help = "capacity also asks for this 99th percentile of TTFT, against starvation; 0 = does not"},
};

static const pr_option simulate[] = {
    {.name = "groups", .value_name = "GROUPS", .kind = PR_OPTION_STRING, .offset = FIELD(groups),
     .standard = "prefill=8,decode=8", .common = true, .help = "how many groups of each role"},
    {.name = "capacity", .value_name = "SLO", .kind = PR_OPTION_STRING, .offset = FIELD(capacity),
     .choices = "slo-a|slo-b", .common = true,
     .help = "find the highest speed at which nine in ten requests meet the target"},
    {.name = "spans", .value_name = "N", .kind = PR_OPTION_INT64, .offset = FIELD(spans),
     .standard = "0", .least = 0, .most = 1e9,
     .help = "keep the first N spans of the groups' work for the chart, with --hdf5 or --dump"},
    {.name = "engine", .value_name = "LIST", .kind = PR_OPTION_STRING, .offset = FIELD(engine),
     .standard = "none",
     .help = "what groups can do beyond the reference model: layers,gather,heat,whole,spread; all; none"},
    {.name = "known-outputs", .kind = PR_OPTION_FLAG, .offset = FIELD(known_outputs),
     .help = "decode placement knows true output lengths, as in published reference figures"},
    {.name = "replay", .value_name = "FILE", .kind = PR_OPTION_STRING, .offset = FIELD(replay),
     .common = true, .help = "what batch --record FILE wrote: decide again and compare"},
    {.name = "calibrate", .value_name = "FILE", .kind = PR_OPTION_STRING,
     .offset = FIELD(calibrate), .common = true,
     .help = "fit step times to what batch --record FILE wrote, and predict that run"},
};

static const pr_option bench[] = {
    {.name = "scale-tokens", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(scale_tokens),
     .standard = "64", .least = 1, .most = 1048576, .common = true,
     .help = "divide the trace's prompts, outputs and blocks by N, for a small model"},
};

static const pr_option convert[] = {
    {.name = "output", .letters = "o", .value_name = "DIR", .kind = PR_OPTION_STRING,
     .offset = FIELD(output), .common = true, .help = "the directory to make"},
    {.name = "quantization", .value_name = "KIND", .kind = PR_OPTION_STRING,
     .offset = FIELD(quantization), .standard = "none", .choices = "none|int8|int4", .common = true,
     .help = "what the weights become; a run of the converted model need not say it again"},
    {.name = "threads", .value_name = "N|auto", .kind = PR_OPTION_INT, .offset = FIELD(threads),
     .standard = "auto", .zero = "auto", .least = 0, .most = 256, .common = true,
     .help = "threads that pack; auto = all that this process may use"},
    {.name = "verify", .kind = PR_OPTION_FLAG, .offset = FIELD(verify), .common = true,
     .help = "MODEL is converted: read it and compare its checksums"},
};

static const pr_option plan[] = {
    {.name = "ranks", .value_name = "N|auto", .kind = PR_OPTION_INT, .offset = FIELD(ranks),
     .standard = "auto", .zero = "auto", .least = 0, .most = 1048576, .common = true,
     .help = "MPI ranks the run would have; auto = one for each NUMA domain of the nodes, one on --machine"},
    {.name = "machine", .value_name = "NAME", .kind = PR_OPTION_STRING, .offset = FIELD(machine),
     .choices = PR_MACHINE_NAMES, .common = true,
     .help = "forecast times and rates on this machine, with its memory; one rank on each device"},
    {.name = "nodes", .value_name = "N|auto", .kind = PR_OPTION_INT, .offset = FIELD(nodes),
     .standard = "auto", .zero = "auto", .least = 0, .most = 65536, .common = true,
     .help = "nodes that the ranks are spread over; auto = one, or what --machine's devices need"},
    {.name = "nodes-per-switch", .value_name = "N", .kind = PR_OPTION_INT,
     .offset = FIELD(nodes_per_switch), .standard = "0", .least = 0, .most = 65536,
     .help = "nodes under each lowest switch; 0 = all under one"},
    {.name = "topology", .value_name = "TEXT", .kind = PR_OPTION_STRING, .offset = FIELD(topology),
     .common = true,
     .help = "a node in hwloc's words, 'numa:2(memory=64GB) core:8 pu:1'; default: this machine"},
    {.name = "svg", .value_name = "FILE", .kind = PR_OPTION_STRING, .offset = FIELD(svg),
     .common = true, .help = "draw which rank sits where"},
    {.name = "prompt-tokens", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(prompt_tokens),
     .standard = "1024", .least = 1, .most = 16777216, .common = true,
     .help = "length of the prompts in the forecast"},
    {.name = "output-tokens", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(output_tokens),
     .standard = "256", .least = 1, .most = 16777216, .common = true,
     .help = "length of the outputs in the forecast"},
    {.name = "split", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(split),
     .standard = "0", .least = 0, .most = 1048576, .common = true,
     .help = "find how many of N groups should prefill and how many decode, for --trace"},
    {.name = "slo", .value_name = "SLO", .kind = PR_OPTION_STRING, .offset = FIELD(slo),
     .standard = "slo-b", .choices = "slo-a|slo-b",
     .help = "the target that nine in ten requests must meet, for --split"},
};

static const pr_option emit[] = {
    {.name = "what", .value_name = "WHAT", .kind = PR_OPTION_STRING, .offset = FIELD(what),
     .position = 1, .required = true, .choices = "sbatch", .common = true,
     .help = "what to print: sbatch, a job script for Slurm"},
    {.name = "kind", .value_name = "KIND", .kind = PR_OPTION_STRING, .offset = FIELD(kind),
     .position = 2, .common = true, .help = "which one; without it they are listed"},
    {.name = "model", .value_name = "MODEL", .kind = PR_OPTION_STRING, .offset = FIELD(model),
     .common = true, .help = "directory with config.json, tokenizer.json and *.safetensors"},
    {.name = "input", .letters = "i", .value_name = "FILE", .kind = PR_OPTION_STRING,
     .offset = FIELD(input), .common = true, .help = "requests, one JSON object a line"},
    {.name = "output", .letters = "o", .value_name = "FILE", .kind = PR_OPTION_STRING,
     .offset = FIELD(output), .common = true,
     .help = "results; of scaling a folder. Default: results.jsonl, scaling"},
    {.name = "endpoint-file", .value_name = "FILE", .kind = PR_OPTION_STRING,
     .offset = FIELD(endpoint_file), .common = true,
     .help = "where the service writes its address and state, for its clients; default: polyreme-endpoint.json"},
    {.name = "nodes", .letters = "N", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(nodes),
     .standard = "1", .least = 1, .most = 65536, .common = true, .help = "nodes of a job"},
    {.name = "ranks-per-node", .value_name = "N", .kind = PR_OPTION_INT,
     .offset = FIELD(ranks_per_node), .standard = "1", .least = 1, .most = 1024, .common = true,
     .help = "ranks on each: one for a GPU, or for a NUMA node (see polyreme plan)"},
    {.name = "prefill-nodes", .value_name = "N", .kind = PR_OPTION_INT,
     .offset = FIELD(prefill_nodes), .standard = "1", .least = 1, .most = 65536,
     .help = "nodes that do prefill, of hetjob"},
    {.name = "decode-nodes", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(decode_nodes),
     .standard = "1", .least = 1, .most = 65536, .help = "nodes that do decode, of hetjob"},
    {.name = "time", .letters = "t", .value_name = "TIME", .kind = PR_OPTION_STRING,
     .offset = FIELD(time), .standard = "1:00:00", .common = true,
     .help = "limit of one job, as for Slurm: 90 (minutes), 1:30:00, 2-12 (days-hours)"},
    {.name = "partition", .value_name = "NAME", .kind = PR_OPTION_STRING, .offset = FIELD(partition),
     .common = true, .help = "partition; several with commas"},
    {.name = "decode-partition", .value_name = "NAME", .kind = PR_OPTION_STRING,
     .offset = FIELD(decode_partition), .help = "that of the decode nodes; default: --partition"},
    {.name = "account", .letters = "A", .value_name = "NAME", .kind = PR_OPTION_STRING,
     .offset = FIELD(account), .common = true, .help = "whose time is used"},
    {.name = "gpus-per-node", .value_name = "N", .kind = PR_OPTION_STRING,
     .offset = FIELD(gpus_per_node), .common = true,
     .help = "GPUs of each node, all of which each of its ranks sees; N or TYPE:N"},
    {.name = "job-name", .letters = "J", .value_name = "NAME", .kind = PR_OPTION_STRING,
     .offset = FIELD(job_name), .help = "name in the queue; default: polyreme-KIND"},
    {.name = "parts", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(parts),
     .standard = "8", .least = 1, .most = 100000, .help = "jobs of batch-array"},
    {.name = "parts-at-once", .value_name = "N", .kind = PR_OPTION_INT,
     .offset = FIELD(parts_at_once), .standard = "0", .least = 0, .most = 100000,
     .help = "of them at most so many run; 0 = all"},
    {.name = "rank-counts", .value_name = "LIST", .kind = PR_OPTION_STRING,
     .offset = FIELD(rank_counts), .standard = "1", .help = "numbers of ranks that scaling compares: 1,2,4"},
    {.name = "lead-minutes", .value_name = "N", .kind = PR_OPTION_INT, .offset = FIELD(lead_minutes),
     .standard = "15", .least = 1, .most = 10000,
     .help = "so long before its end a chain's job lets its successor start"},
    {.name = "run-options", .value_name = "TEXT", .kind = PR_OPTION_STRING,
     .offset = FIELD(run_options), .common = true,
     .help = "more options of serve or batch, as the shell reads them: --run-options='--max-num-seqs 128'"},
};

static const pr_option doctor[] = {
    {.name = "model", .value_name = "MODEL", .kind = PR_OPTION_STRING, .offset = FIELD(model),
     .position = 1, .common = true, .help = "directory of a model that a run would load"},
    {.name = "start-mpi", .kind = PR_OPTION_FLAG, .offset = FIELD(start_mpi), .common = true,
     .help = "start MPI too, in a child process for 20 s at most; also under mpirun or srun"},
};

static const pr_option report[] = {
    {.name = "json", .kind = PR_OPTION_FLAG, .offset = FIELD(json), .common = true,
     .help = "print one JSON object instead of text"},
};

static const pr_option access_options[] = {
    {.name = "endpoint-file", .value_name = "FILE", .kind = PR_OPTION_STRING,
     .offset = FIELD(endpoint_file), .common = true,
     .help = "where serve writes its address and state, and clients read them"},
    {.name = "api-key", .value_name = "KEY", .kind = PR_OPTION_STRINGS, .offset = FIELD(api_key),
     .common = true, .help = "key that requests carry; other users may see it in ps, a file is safer"},
    {.name = "api-key-file", .value_name = "FILE", .kind = PR_OPTION_STRING,
     .offset = FIELD(api_key_file), .common = true, .help = "file with the key on a line of its own"},
};

static const pr_option client[] = {
    {.name = "url", .value_name = "URL", .kind = PR_OPTION_STRING, .offset = FIELD(url),
     .common = true,
     .help = "the server: http://host:port, https://host/v1 or unix:PATH; default: the endpoint file's, else http://127.0.0.1:8000/v1"},
    {.name = "ssl-ca", .value_name = "FILE", .kind = PR_OPTION_STRING, .offset = FIELD(ssl_ca),
     .help = "PEM certificates to trust instead of the system's, for https"},
    {.name = "insecure", .kind = PR_OPTION_FLAG, .offset = FIELD(insecure),
     .help = "take any certificate: whoever is in between can read and change everything"},
};

static const pr_option chat[] = {
    {.name = "prompt", .letters = "p", .value_name = "TEXT", .kind = PR_OPTION_STRING,
     .offset = FIELD(prompt), .common = true, .help = "one message: print its answer and end"},
    {.name = "system", .value_name = "TEXT", .kind = PR_OPTION_STRING, .offset = FIELD(system),
     .common = true, .help = "what the model is told before the first message"},
    {.name = "model", .value_name = "NAME", .kind = PR_OPTION_STRING, .offset = FIELD(model),
     .common = true, .help = "which of the server's models, only as flag; default: its first"},
    {.name = "max-tokens", .letters = "n", .value_name = "N", .kind = PR_OPTION_INT,
     .offset = FIELD(max_tokens), .standard = "0", .least = 0, .most = 16777216, .common = true,
     .help = "tokens of one answer at most; 0 = the server's default"},
    {.name = "temperature", .value_name = "X", .kind = PR_OPTION_FLOAT, .offset = FIELD(temperature),
     .standard = "1", .least = 0, .most = 100, .common = true,
     .help = "0 = always the likeliest token; not given = the server's default"},
    {.name = "seed", .value_name = "N", .kind = PR_OPTION_INT64, .offset = FIELD(seed),
     .standard = "0", .least = 0, .most = 9e18, .common = true,
     .help = "the same seed gives the same answers; not given = the server draws one"},
    {.name = "stats", .kind = PR_OPTION_FLAG, .offset = FIELD(stats), .common = true,
     .help = "tokens, time to the first and tokens/s of each answer, on standard error"},
};

static const pr_option top[] = {
    {.name = "interval", .value_name = "S", .kind = PR_OPTION_FLOAT, .offset = FIELD(interval),
     .standard = "1", .least = 0.1, .most = 3600, .common = true, .help = "time between two looks"},
    {.name = "once", .kind = PR_OPTION_FLAG, .offset = FIELD(once), .common = true,
     .help = "print one report and end; so it is where the output is no terminal"},
};
// clang-format on

const pr_option_group pr_options_general = {"General", general, COUNT(general)};
const pr_option_group pr_options_model = {"Model", model, COUNT(model)};
const pr_option_group pr_options_layout = {"Layout", layout, COUNT(layout)};
const pr_option_group pr_options_engine = {"Engine", engine, COUNT(engine)};
const pr_option_group pr_options_batch = {"Batch", batch, COUNT(batch)};
const pr_option_group pr_options_messages = {"Messages", messages, COUNT(messages)};
const pr_option_group pr_options_serve = {"Serving", serve, COUNT(serve)};
const pr_option_group pr_options_generate = {"Generation", generate, COUNT(generate)};
const pr_option_group pr_options_workload = {"Workload", workload, COUNT(workload)};
const pr_option_group pr_options_scheduling = {"Scheduling", scheduling, COUNT(scheduling)};
const pr_option_group pr_options_job = {"Job", job, COUNT(job)};
const pr_option_group pr_options_bench = {"Bench", bench, COUNT(bench)};
const pr_option_group pr_options_fleet = {"Fleet", fleet, COUNT(fleet)};
const pr_option_group pr_options_simulate = {"Simulation", simulate, COUNT(simulate)};
const pr_option_group pr_options_plan = {"Plan", plan, COUNT(plan)};
const pr_option_group pr_options_emit = {"Job script", emit, COUNT(emit)};
const pr_option_group pr_options_doctor = {"Doctor", doctor, COUNT(doctor)};
const pr_option_group pr_options_report = {"Output", report, COUNT(report)};

const pr_option_group pr_options_access = {"Access", access_options, COUNT(access_options)};
const pr_option_group pr_options_client = {"Server", client, COUNT(client)};
const pr_option_group pr_options_chat = {"Chat", chat, COUNT(chat)};
const pr_option_group pr_options_convert = {"Convert", convert, COUNT(convert)};
const pr_option_group pr_options_top = {"View", top, COUNT(top)};

// A field that two groups fill has the default of the later one where a command has neither.
const pr_option_group *const pr_options_all[PR_OPTION_GROUPS] = {
    &pr_options_emit,       &pr_options_convert, &pr_options_chat,     &pr_options_top,
    &pr_options_access,     &pr_options_client,  &pr_options_general,  &pr_options_model,
    &pr_options_layout,     &pr_options_engine,  &pr_options_batch,    &pr_options_generate,
    &pr_options_plan,       &pr_options_report,  &pr_options_simulate, &pr_options_workload,
    &pr_options_scheduling, &pr_options_bench,   &pr_options_fleet,    &pr_options_messages,
    &pr_options_serve,      &pr_options_job,     &pr_options_doctor,
};

// Variables with our prefix that are no options: the tests' and checks' own.
static const char *const other_variables[] = {
    "POLYREME_SOURCE", "POLYREME_BUILD", "POLYREME_CHECK", "POLYREME_TEST_CORRUPT_KV", NULL};

// What no single row can say.
static pr_status check_together(const pr_options *options)
{
    bool quantises = options->quantization && strcmp(options->quantization, "none") != 0;
    if (quantises && options->dtype && strcmp(options->dtype, "float32") == 0)
        return pr_fail(
            PR_ERR_ARGUMENT, "--dtype float32 with --quantization %s: give one of the two",
            options->quantization);
    int64_t walltime_s;
    const char *walltime = options->walltime ? options->walltime : "auto";
    if (strcmp(walltime, "auto") != 0 && strcmp(walltime, "off") != 0)
        PR_TRY(pr_job_choice_parse_duration("--walltime (or auto, off)", walltime, &walltime_s));
    if (options->max_num_batched_tokens < options->max_num_seqs)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "--max-num-batched-tokens %d is less than --max-num-seqs %d: a step must have "
            "room for one token of every sequence",
            (int)options->max_num_batched_tokens, (int)options->max_num_seqs);
    return PR_OK;
}

pr_status pr_options_read(
    const pr_option_group *const *group,
    int32_t groups,
    int32_t arguments,
    const char *const *argument,
    pr_options *options,
    pr_config **config)
{
    memset(options, 0, sizeof *options);
    pr_config_params params = {
        .group = group,
        .groups = groups,
        .known = pr_options_all,
        .knowns = PR_OPTION_GROUPS,
        .environment_prefix = "POLYREME_",
        .other_variables = other_variables,
        .file_option = "config",
        .record = options,
    };
    pr_config *made;
    PR_TRY(pr_config_read(&params, arguments, argument, (const char *const *)environ, &made));
    pr_status status = check_together(options);
    if (status != PR_OK) {
        pr_config_destroy(made);
        return status;
    }
    options->origins = made;
    *config = made;
    return PR_OK;
}

bool pr_options_given(const pr_options *options, const char *name)
{
    return options->origins && pr_config_origin(options->origins, name) != PR_ORIGIN_DEFAULT;
}

bool pr_options_given_as_flag(const pr_options *options, const char *name)
{
    return options->origins && pr_config_origin(options->origins, name) == PR_ORIGIN_FLAG;
}

pr_dtype pr_options_kv_dtype(const pr_options *options, pr_dtype weight_dtype)
{
    if (strcmp(options->kv_cache_dtype, "auto") == 0)
        return pr_options_quantization(options) == PR_QUANTIZATION_FLOAT32 ? PR_F32
               : weight_dtype == PR_F32                                    ? PR_F32
                                                                           : PR_BF16;
    return strcmp(options->kv_cache_dtype, "bfloat16") == 0 ? PR_BF16 : PR_F32;
}

pr_quantization pr_options_quantization(const pr_options *options)
{
    if (!options->quantization || strcmp(options->quantization, "none") == 0)
        return options->dtype && strcmp(options->dtype, "float32") == 0 ? PR_QUANTIZATION_FLOAT32
                                                                        : PR_QUANTIZATION_NONE;
    return strcmp(options->quantization, "int8") == 0 ? PR_QUANTIZATION_INT8 : PR_QUANTIZATION_INT4;
}

const char *pr_options_weights_text(pr_quantization quantization)
{
    static const char *const text[] = {
        [PR_QUANTIZATION_NONE] = "as stored",
        [PR_QUANTIZATION_INT8] = "quantised to int8",
        [PR_QUANTIZATION_INT4] = "quantised to int4, lm_head to int8",
        [PR_QUANTIZATION_FLOAT32] = "widened to float32",
    };
    return text[quantization];
}

pr_load_mode pr_options_load_mode(const pr_options *options)
{
    if (!options->load || strcmp(options->load, "auto") == 0)
        return PR_LOAD_AUTO;
    return strcmp(options->load, "read") == 0 ? PR_LOAD_READ : PR_LOAD_MMAP;
}

pr_exchange pr_options_exchange(const pr_options *options)
{
    if (strcmp(options->exchange, "auto") == 0)
        return PR_EXCHANGE_AUTO;
    if (strcmp(options->exchange, "direct") == 0)
        return PR_EXCHANGE_DIRECT;
    if (strcmp(options->exchange, "nccl") == 0)
        return PR_EXCHANGE_NCCL;
    return strcmp(options->exchange, "shared") == 0 ? PR_EXCHANGE_SHARED : PR_EXCHANGE_MESSAGES;
}

pr_balance_params pr_options_balance(const pr_options *options)
{
    return (pr_balance_params){
        .period_s = strcmp(options->balance, "off") == 0 ? 0 : options->balance_period,
        .tpot_target_s = options->tpot_target,
        .rotate = strcmp(options->balance, "rotate") == 0,
    };
}
