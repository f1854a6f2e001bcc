#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holds a live /metrics against what llm-d's endpoint picker, its autoscaler and vLLM's dashboards expect.

    metrics_contract.py http://127.0.0.1:8000 [model name]

Needs prometheus_client. Exit code 1 and one line for each breach.
"""
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

TTFT = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560]
GAP = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80]
LATENCY = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680]
ITERATION = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]
TOKENS = None  # 1, 2, 5, 10, ... up to the longest request

# The parser drops _total from a counter's family name.
GAUGES = ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"]
COUNTERS = [
    "vllm:prefix_cache_queries",
    "vllm:prefix_cache_hits",
    "vllm:num_preemptions",
    "vllm:prompt_tokens",
    "vllm:generation_tokens",
]
HISTOGRAMS = {
    "vllm:iteration_tokens_total": ITERATION,
    "vllm:time_to_first_token_seconds": TTFT,
    "vllm:inter_token_latency_seconds": GAP,
    "vllm:time_per_output_token_seconds": GAP,
    "vllm:request_time_per_output_token_seconds": GAP,
    "vllm:e2e_request_latency_seconds": LATENCY,
    "vllm:request_queue_time_seconds": LATENCY,
    "vllm:request_inference_time_seconds": LATENCY,
    "vllm:request_prefill_time_seconds": LATENCY,
    "vllm:request_decode_time_seconds": LATENCY,
    "vllm:request_prompt_tokens": TOKENS,
    "vllm:request_generation_tokens": TOKENS,
    "vllm:request_max_num_generation_tokens": TOKENS,
    "vllm:max_num_generation_tokens": TOKENS,
    "vllm:request_params_max_tokens": TOKENS,
    "vllm:request_params_n": [1, 2, 5, 10, 20],
}
GROUP = {"group", "role"}
OURS = {
    "polyreme_group_running": ("gauge", GROUP),
    "polyreme_group_kv_blocks": ("gauge", GROUP),
    "polyreme_group_kv_used_blocks": ("gauge", GROUP),
    "polyreme_group_kv_cached_blocks": ("gauge", GROUP),
    "polyreme_group_steps": ("counter", GROUP),
    "polyreme_group_step_seconds": ("counter", GROUP),
    "polyreme_group_prefill_tokens": ("counter", GROUP),
    "polyreme_group_decode_tokens": ("counter", GROUP),
    "polyreme_rank_info": ("gauge", {"rank", "group", "role"}),
    "polyreme_plans": ("counter", set()),
    "polyreme_handovers": ("counter", set()),
    "polyreme_handovers_lost": ("counter", set()),
    "polyreme_gathers": ("counter", set()),
    "polyreme_gathered_tokens": ("counter", set()),
    "polyreme_gathers_lost": ("counter", set()),
    "polyreme_short_cuts": ("counter", set()),
    "polyreme_role_changes": ("counter", set()),
    "polyreme_rejected": ("counter", set()),
    "polyreme_walltime_rejected": ("counter", set()),
    "polyreme_walltime_remaining_seconds": ("gauge", set()),
    "polyreme_http_responses": ("counter", {"path", "code"}),
    "polyreme_http_connections": ("gauge", set()),
    "polyreme_build_info": ("gauge", {"version", "layout"}),
    "polyreme_uptime_seconds": ("gauge", set()),
    "process_cpu_seconds": ("counter", set()),
    "process_resident_memory_bytes": ("gauge", set()),
    "process_start_time_seconds": ("gauge", set()),
}


class Contract:
    def __init__(self, text, model_name=None):
        self.faults = []
        self.family = {}
        for family in text_string_to_metric_families(text):
            if family.name in self.family:
                self.fault(f"{family.name} comes twice")
            self.family[family.name] = family
        self.model_name = model_name

    def fault(self, text):
        self.faults.append(text)

    def get(self, name, kind):
        family = self.family.pop(name, None)
        if family is None:
            self.fault(f"{name} is missing")
        elif family.type != kind:
            self.fault(f"{name} is a {family.type}, not a {kind}")
        return family

    def labels(self, name, labels, wanted):
        if set(labels) != wanted:
            self.fault(f"{name} has the labels {sorted(labels)}, not {sorted(wanted)}")
        if labels.get("engine", "0") != "0":
            self.fault(f"{name} has engine {labels['engine']!r}, not '0'")
        if self.model_name and labels.get("model_name", self.model_name) != self.model_name:
            self.fault(f"{name} has model_name {labels['model_name']!r}, not {self.model_name!r}")

    def single(self, name, kind, extra=()):
        family = self.get(name, kind)
        if not family:
            return None
        if len(family.samples) != 1:
            self.fault(f"{name} has {len(family.samples)} samples, not 1")
        for sample in family.samples:
            self.labels(name, sample.labels, {"model_name", "engine", *extra})
        return family.samples[0]

    def histogram(self, name, bounds):
        family = self.get(name, "histogram")
        if not family:
            return
        buckets = [s for s in family.samples if s.name == name + "_bucket"]
        count = [s.value for s in family.samples if s.name == name + "_count"]
        total = [s.value for s in family.samples if s.name == name + "_sum"]
        got = [float(s.labels["le"]) for s in buckets]
        if bounds is None:
            limit = got[-2] if len(got) > 1 else 0
            bounds = [m * 10**e for e in range(10) for m in (1, 2, 5) if m * 10**e <= limit]
        if got != [float(b) for b in bounds] + [float("inf")]:
            self.fault(f"{name} has the bounds {got}")
        values = [s.value for s in buckets]
        if values != sorted(values) or count != values[-1:] or len(total) != 1:
            self.fault(f"{name} is not cumulative: {values}, count {count}, sum {total}")
        for sample in buckets:
            self.labels(name, sample.labels, {"model_name", "engine", "le"})

    def check(self):
        for name in GAUGES:
            self.single(name, "gauge")
        for name in COUNTERS:
            self.single(name, "counter")
        for name, bounds in HISTOGRAMS.items():
            self.histogram(name, bounds)
        info = self.single("vllm:cache_config_info", "gauge", ("block_size", "num_gpu_blocks"))
        if info and not (info.value == 1 and int(info.labels["block_size"]) > 0 and int(info.labels["num_gpu_blocks"]) > 0):
            self.fault(f"vllm:cache_config_info says {info}")
        ended = self.get("vllm:request_success", "counter")
        reasons = {s.labels.get("finished_reason") for s in ended.samples} if ended else set()
        if not {"stop", "length", "abort"} <= reasons:
            self.fault(f"vllm:request_success_total has the reasons {sorted(map(str, reasons))}")
        for name, (kind, wanted) in OURS.items():
            family = self.get(name, kind)
            for sample in family.samples if family else ():
                self.labels(name, sample.labels, wanted)
        for name in self.family:
            self.fault(f"{name} is not in the contract")
        return self.faults


def main():
    url = sys.argv[1].rstrip("/")
    with urllib.request.urlopen(url + "/metrics", timeout=10) as reply:
        kind = reply.headers["Content-Type"].replace(" ", "")
        text = reply.read().decode()
    faults = Contract(text, sys.argv[2] if len(sys.argv) > 2 else None).check()
    if kind != "text/plain;version=0.0.4;charset=utf-8":
        faults.append(f"the content type is {kind}")
    for fault in faults:
        print(fault)
    print("metrics: " + ("fine" if not faults else f"{len(faults)} breaches"))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
