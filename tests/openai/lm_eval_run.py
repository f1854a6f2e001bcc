# SPDX-License-Identifier: BSD-3-Clause
"""lm-eval's `local-completions` against the server: lm_eval_run.py LAYOUT RESULTS. Writes what it measured and every
sample's scores; exit code 1 if that is not what the server itself says of the same texts."""
import json
import os
import pathlib
import sys
import tempfile

CACHE = tempfile.TemporaryDirectory(prefix="polyreme-lm-eval-")
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HOME=CACHE.name)  # read by these imports

import lm_eval
import requests
from lm_eval.tasks import TaskManager

from server import MODEL, SOURCE, Server

DATA = SOURCE / "tests" / "data" / "lm_eval"


def post(server, path, body):
    reply = requests.post(server.url + path, json=body, timeout=60)
    reply.raise_for_status()
    return reply.json()


def score(server, opening, continuation):
    """The logprob of a continuation, asked for directly."""
    def tokens(text):
        return post(server, "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]

    prompt = tokens(opening)
    whole = prompt + tokens(opening + continuation)[len(prompt):]
    told = post(server, "/v1/completions", {"prompt": whole, "max_tokens": 0, "echo": True, "logprobs": 1})
    return sum(told["choices"][0]["logprobs"]["token_logprobs"][len(prompt):])


def evaluate(server):
    os.chdir(DATA)  # the tasks name their files without a folder
    return lm_eval.simple_evaluate(
        model="local-completions",
        model_args={
            "base_url": server.url + "/v1/completions", "model": "demo", "tokenizer_backend": "remote",
            "num_concurrent": 2, "max_retries": 1, "tokenized_requests": True, "batch_size": 3, "max_length": 512,
            "seed": 7,
        },
        tasks=["polyreme_choices", "polyreme_continuations"],
        task_manager=TaskManager(include_path=str(DATA), include_defaults=False),
        bootstrap_iters=0, log_samples=True)


def check_choices(server, samples):
    for sample in samples:
        for continuation, (logprob, _) in zip(sample["doc"]["continuations"], sample["filtered_resps"]):
            expected = score(server, sample["doc"]["opening"], continuation)
            if abs(float(logprob) - expected) > 1e-9:
                raise AssertionError(f"{sample['doc']}: {logprob} is not {expected}")


def check_continuations(server, samples):
    for sample in samples:
        body = {"prompt": sample["doc"]["opening"], "max_tokens": 12, "temperature": 0, "stop": ["."]}
        expected = post(server, "/v1/completions", body)["choices"][0]["text"]
        (text,) = sample["filtered_resps"]
        if text != expected:
            raise AssertionError(f"{sample['doc']}: {text!r} is not {expected!r}")


def main():
    layout, results = sys.argv[1:]
    results = pathlib.Path(results).resolve()
    server = Server(layout, "--served-model-name", "demo", model=MODEL)
    found = evaluate(server)
    check_choices(server, found["samples"]["polyreme_choices"])
    check_continuations(server, found["samples"]["polyreme_continuations"])
    server.stop()
    told = {
        task: {"results": found["results"][task],
               "answers": [(sample["doc_id"], sample["filtered_resps"]) for sample in samples]}
        for task, samples in found["samples"].items()}
    results.write_text(json.dumps(told, indent=1, sort_keys=True, default=str) + "\n")
    choices = found["results"]["polyreme_choices"]["acc,none"]
    continuations = found["results"]["polyreme_continuations"]["exact_match,none"]
    print(f"{layout}: accuracy {choices:.2f} of choices, {continuations:.2f} of continuations")
    return 0 if choices == continuations == 1 else 1


sys.exit(main())
