#!/usr/bin/env python3
"""Times Python's prometheus_client, asked line by line: `observe N` or `labels N`; answers ns per call."""
import sys
import time

from prometheus_client import CollectorRegistry, Histogram

BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75,
          1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0]
GAPS = [0.004 * 1.6 ** (i % 8) for i in range(1024)]

family = Histogram("itl_seconds", "Time between tokens.", ["model", "engine"], buckets=BOUNDS,
                   registry=CollectorRegistry())
for engine in range(100):
    family.labels("llama", str(engine)).observe(0.02)
child = family.labels("llama", "0")


def observe(calls):
    record = child.observe
    for i in range(calls):
        record(GAPS[i & 1023])


def labels(calls):
    for i in range(calls):
        family.labels("llama", "0").observe(GAPS[i & 1023])


for line in sys.stdin:
    what, calls = line.split()
    work, calls = {"observe": observe, "labels": labels}[what], int(calls)
    begin = time.perf_counter_ns()
    work(calls)
    print((time.perf_counter_ns() - begin) / calls, flush=True)
