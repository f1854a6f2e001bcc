#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Joins the rows of a run of benchmarks/gpu/run.sh: ours, the peers', limits; prints the table, writes the record.

    benchmarks/gpu/report.py --lines FILE --out FILE [--missed FILE]

Lines are JSON objects: facts of the device, rows of gpu_bench and whole_model.py, {name, unit, peer} of peer.py,
{check, ok, seconds} of run.sh. The record has `rows`, each {name, unit, ours, peer, limit, fraction, ...}: fraction is
ours of the limit, for times the limit of ours. --missed gets the names of rows that missed their target.
"""
import argparse
import datetime
import json


def read_lines(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue  # the end of a run that was cut short


def sort_lines(path):
    device, rows, peers, checks = {}, {}, {}, []
    for line in read_lines(path):
        if "check" in line:
            checks.append(line)
        elif "ours" in line:
            rows[line["name"]] = line
        elif "peer" in line:
            peers[line["name"]] = line
        else:
            device.update(line)
    return device, rows, peers, checks


def step_limit(row, copy, dense):
    """Tokens per second when a step moves its bytes or does its operations, whichever takes longer."""
    if not copy:
        return None
    seconds = row["step_bytes"] / (copy * 1e9)
    if dense:
        seconds = max(seconds, row["step_operations"] / (dense * 1e12))
    return row["sequences"] / seconds


def limit_of(row, copy, dense):
    if row.get("limited_by") == "dense":
        return dense
    if row.get("limited_by") == "step":
        return step_limit(row, copy, dense)
    return row.get("limit")


def finish_row(row, peers, copy, dense):
    row = dict(row)
    peer = peers.get(row["name"])
    if peer:
        row["peer"] = peer["peer"]
    row["limit"] = limit_of(row, copy, dense)
    row["fraction"] = None
    if row["limit"] and row["ours"]:
        row["fraction"] = row["limit"] / row["ours"] if row["unit"] == "us" else row["ours"] / row["limit"]
    met = []
    if row.get("target") and row["ours"]:
        met.append(row["ours"] >= row["target"])
    if row.get("target_fraction") and row["fraction"]:
        met.append(row["fraction"] >= row["target_fraction"])
    row["met"] = all(met) if met and not row.get("small") else None
    return row


def number(value):
    return "-" if value is None else f"{value:.4g}"


def table(rows):
    lines = [f"{'row':52} {'unit':9} {'ours':>9} {'peer':>9} {'limit':>9} {'fraction':>8}  target"]
    for row in rows:
        target = f"{row['target']:g}" if row.get("target") else (
            f"{row['target_fraction']:.0%} of limit" if row.get("target_fraction") else "")
        verdict = {True: " met", False: " MISSED", None: ""}[row["met"]]
        fraction = "-" if row["fraction"] is None else f"{row['fraction']:.1%}"
        lines.append(f"{row['name']:52} {row['unit']:9} {number(row['ours']):>9} {number(row['peer']):>9} "
                     f"{number(row['limit']):>9} {fraction:>8}  {target}{verdict}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--missed")
    parser.add_argument("--command", default="benchmarks/gpu/run.sh")
    parser.add_argument("--revision", default="")
    args = parser.parse_args()
    device, ours, peers, checks = sort_lines(args.lines)
    copy = (ours.get("device copy") or {}).get("ours")
    dense = (peers.get("dense matmul") or {}).get("peer")
    rows = [finish_row(row, peers, copy, dense) for row in ours.values()]
    record = {"date": datetime.date.today().isoformat(), "command": args.command, "revision": args.revision,
              "device": device, "limits": {"copy_gb_per_s": copy, "dense_tflops": dense}, "checks": checks, "rows": rows}
    with open(args.out, "w", encoding="utf-8") as out:
        json.dump(record, out, indent=1)
        out.write("\n")
    print(table(rows))
    for check in checks:
        print(f"{'ok' if check['ok'] else 'FAILED':7} {check['check']} ({check['seconds']} s) {check.get('why', '')}")
    if args.missed:
        with open(args.missed, "w", encoding="utf-8") as out:
            out.writelines(row["name"] + "\n" for row in rows if row["met"] is False and row.get("seconds"))


main()
