#!/usr/bin/env python3
"""Runs the engine once, scrapes it while it serves, and checks its /metrics against its truth file.

    watch.py --checker check_truth.py --truth FILE [--expect right|wrong] [--every S] -- ENGINE OPTIONS...

Prints what the scrapes say, the checker's verdict, and as last line a JSON object. `--expect wrong` is
for an engine whose recorder is off: it is fine only if the checker finds it out.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict

from prometheus_client import parser

FINDINGS_SHOWN = 3


def scrape(port):
    """(text of /metrics, sums of its samples by name)"""
    # A proxy of the environment must not stand between us and a local address.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode("utf-8")
    sums = defaultdict(float)
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] += sample.value
            if sample.name == "llm_kv_blocks":
                sums[f"kv {sample.labels['state']}"] += sample.value
    return text, sums


def quantile(text, name, q):
    """The bound of the bucket that holds the q-quantile of a histogram, over all its series."""
    buckets = defaultdict(float)
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name + "_bucket":
                buckets[float(sample.labels["le"])] += sample.value
    total = buckets.get(float("inf"), 0)
    return next((le for le in sorted(buckets) if total and buckets[le] >= q * total), float("nan"))


class Watch(threading.Thread):
    """Scrapes until it is told to stop, and remembers what it saw."""

    def __init__(self, port, every_s):
        super().__init__()
        self.port, self.every_s, self.done = port, every_s, threading.Event()
        self.seen, self.error = [], None

    def run(self):
        start = time.monotonic()
        try:
            while not self.done.wait(self.every_s):
                _, sums = scrape(self.port)
                self.seen.append(sums)
                print(f"  {time.monotonic() - start:5.2f} s:"
                      f" in flight {sums['llm_requests_in_flight']:3.0f}"
                      f"  running {sums['llm_requests_running']:2.0f}"
                      f"  waiting {sums['llm_queue_depth']:3.0f}"
                      f"  KV {sums['kv referenced']:4.0f} of {kv_total(sums):4.0f} cells"
                      f"  generated {sums['llm_generated_tokens_total']:6.0f}"
                      f"  evicted {sums['llm_preemption_total']:3.0f}", flush=True)
        except Exception as error:  # a thread's exception would be printed and forgotten
            self.error = repr(error)

    def most(self, name):
        return max((sums[name] for sums in self.seen), default=0)


def kv_total(sums):
    return sums["kv referenced"] + sums["kv cached"] + sums["kv free"]


def run(command, checker, truth, every_s):
    """What the engine said, what the checker said, and what the scrapes saw."""
    command = [*command, "--truth", truth, "--hold"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True, errors="replace") as engine:
        first = engine.stdout.readline()
        if not first.startswith("listening on port "):
            engine.stdin.close()
            sys.exit(f"watch.py: the engine did not start: {first}{engine.stdout.read()}")
        watch = Watch(int(first.split()[-1]), every_s)
        watch.start()
        said = None
        for line in engine.stdout:
            if line.startswith("{"):
                said = json.loads(line)
                break
            print(line, end="")
        watch.done.set()
        watch.join()
        if said is None:
            sys.exit(f"watch.py: the engine ended with {engine.wait()} and said no result")
        text, _ = scrape(watch.port)
        verdict = subprocess.run(
            [sys.executable, checker, "--truth", truth, "--url", f"http://127.0.0.1:{watch.port}",
             "--json"], stdout=subprocess.PIPE, text=True, check=False)
        engine.stdin.close()  # it need not hold any longer
        if engine.wait() != 0:
            sys.exit(f"watch.py: the engine ended with {engine.returncode}")
    if verdict.returncode not in (0, 1):
        sys.exit(f"watch.py: the checker cannot use the record (exit {verdict.returncode})")
    return said, json.loads(verdict.stdout.splitlines()[-1]), watch, text


def show_latencies(text):
    for title, name in [("TTFT", "llm_ttft_seconds"), ("TBT", "llm_tbt_seconds"),
                        ("queue", "llm_queue_seconds"), ("step", "llm_step_host_seconds")]:
        p50, p99 = (1000 * quantile(text, name, q) for q in (0.5, 0.99))
        print(f"  {title:5} p50 <= {p50:7.1f} ms  p99 <= {p99:7.1f} ms")


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--checker", required=True)
    args.add_argument("--truth", required=True)
    args.add_argument("--expect", choices=["right", "wrong"], default="right")
    args.add_argument("--every", type=float, default=0.25, help="seconds between scrapes")
    args.add_argument("command", nargs="+")
    args = args.parse_args()
    said, verdict, watch, text = run(args.command, args.checker, args.truth, args.every)
    if watch.error:
        sys.exit(f"watch.py: a scrape failed: {watch.error}")
    wrong = sorted({finding["metric"] for finding in verdict["wrong"]})
    print(f"the checker: {verdict['checked']} families compared, {len(wrong)} wrong"
          f"{': ' * bool(wrong)}{', '.join(wrong[:FINDINGS_SHOWN])}")
    if args.expect == "right":
        show_latencies(text)
        for finding in verdict["wrong"][:FINDINGS_SHOWN]:
            print(f"    {finding}")
    result = {
        "ok": said["ok"] and verdict["ok"] == (args.expect == "right"),
        "engine": said, "truth": args.truth, "checked": verdict["checked"], "wrong": wrong,
        "scrapes": len(watch.seen), "kv_cells": max(map(kv_total, watch.seen), default=0),
        "most": {name: watch.most(name) for name in (
            "llm_requests_in_flight", "llm_requests_running", "llm_queue_depth", "kv referenced")},
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
