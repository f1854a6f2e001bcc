#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A trace whose load shifts half way, from two recorded ones: lengths are drawn from each, arrivals are Poisson.

    make_shift_trace.py FIRST.csv.gz RATE SECOND.csv.gz RATE SECONDS [--swap] > shift.csv

Each half lasts SECONDS. --swap exchanges prompt and output lengths of the second, for a load that is all
decode. The same arguments give the same bytes.
"""
import argparse
import csv
import gzip
import random


def lengths(path):
    with gzip.open(path, "rt", newline="") as file:
        return [(int(row["num_prefill_tokens"]), int(row["num_decode_tokens"]))
                for row in csv.DictReader(file)]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("first_rate", type=float)
    parser.add_argument("second")
    parser.add_argument("second_rate", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--swap", action="store_true")
    args = parser.parse_args()
    draw = random.Random(1)
    halves = [(lengths(args.first), args.first_rate, False),
              (lengths(args.second), args.second_rate, args.swap)]
    print("arrived_at,num_prefill_tokens,num_decode_tokens")
    for half, (rows, rate, swap) in enumerate(halves):
        now = draw.expovariate(rate)
        while now < args.seconds:
            prompt, outputs = draw.choice(rows)
            if swap:
                prompt, outputs = max(outputs, 1), max(prompt, 1)
            print(f"{half * args.seconds + now:.6f},{prompt},{outputs}")
            now += draw.expovariate(rate)


main()
