#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holds an endpoints.yaml against what llm-d's file discovery takes: endpoints_contract.py FILE [ADDRESS PORT]

With ADDRESS and PORT it names exactly that endpoint, without them none. Source: llm-d-router
pkg/epp/framework/plugins/datalayer/discovery/file/README.md. Needs PyYAML.
"""
import ipaddress
import pathlib
import re
import sys

import yaml

ROLES = {"prefill", "decode", "prefill-decode", "encode", "encode-prefill", "encode-prefill-decode", "both"}
ENGINES = {"vllm", "sglang", "trtllm-serve", "triton-tensorrt-llm", "triton"}


def check_endpoint(endpoint):
    assert set(endpoint) <= {"name", "namespace", "address", "port", "labels"}, endpoint
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", endpoint["name"]), endpoint["name"]
    ipaddress.IPv4Address(endpoint["address"])  # no host names, no IPv6
    assert isinstance(endpoint["port"], str), "the port is text"
    assert 1 <= int(endpoint["port"]) <= 65535
    labels = endpoint.get("labels", {})
    assert all(isinstance(value, str) for value in labels.values())
    assert labels["llm-d.ai/role"] in ROLES and labels["llm-d.ai/engine-type"] in ENGINES, labels


def main():
    path = pathlib.Path(sys.argv[1])
    assert path.stat().st_size <= 1 << 20
    endpoints = yaml.safe_load(path.read_text())["endpoints"] or []
    for endpoint in endpoints:
        check_endpoint(endpoint)
    names = [endpoint["name"] for endpoint in endpoints]
    assert len(set(names)) == len(names)
    wanted = [tuple(sys.argv[2:4])] if len(sys.argv) > 2 else []
    assert [(endpoint["address"], endpoint["port"]) for endpoint in endpoints] == wanted, endpoints
    print(f"{len(endpoints)} endpoints, as llm-d takes them")


main()
