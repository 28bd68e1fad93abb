#!/usr/bin/env python3
"""Puts the results of the runs together: what run.sh prints at its end.

    summary.py ON.json OFF.json MIDWAY.json COMPARE.json

The first three are last lines of watch.py: with recorder, without, and with it but stopped in the middle;
the last one is that of `engine --compare`. The last line is JSON. The price of recording is reported and
judged by nobody: on a machine that does other things too it says more about those.
"""

import json
import random
import statistics
import sys

RESAMPLED, SEED = 2000, 1
OUTCOMES = ("stop", "length", "aborted", "failed", "rejected")


def ratio(pairs, on, off):
    """Median of the pairs' ratios, a 95 % bootstrap interval of it, and the extremes."""
    ratios = [pair[on] / pair[off] for pair in pairs]
    rng = random.Random(SEED)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(RESAMPLED))
    return {"median": statistics.median(ratios), "low": medians[RESAMPLED // 40],
            "high": medians[-RESAMPLED // 40], "min": min(ratios), "max": max(ratios)}


def best_ratio(pairs, on, off):
    """Of the least disturbed runs: what else the machine does only ever makes one slower."""
    return max(pair[on] for pair in pairs) / max(pair[off] for pair in pairs)


def rounded(numbers):
    return {name: round(value, 4) for name, value in numbers.items()}


def main():
    paths = sys.argv[1:]
    on, off, midway, compared = (json.loads(open(path, encoding="utf-8").read()) for path in paths)
    engine, pairs = on["engine"], compared["pairs"]
    wall, cpu = ratio(pairs, "on", "off"), ratio(pairs, "cpu_on", "cpu_off")
    result = {
        "ok": on["ok"] and off["ok"] and midway["ok"] and compared["same_work"],
        "requests": engine["requests"], "tokens": engine["tokens"], "steps": engine["steps"],
        **{outcome: engine.get(outcome, 0) for outcome in OUTCOMES},
        "kv_full": engine["kv_full"],
        "refused_prefills": engine["refused_prefills"], "evicted": engine.get("evicted", 0),
        "in_flight": engine["in_flight"], "in_flight_midway": midway["engine"]["in_flight"],
        "families_checked": on["checked"],
        "wrong": on["wrong"] + midway["wrong"],
        "wrong_without_recorder": len(off["wrong"]), "scrapes": on["scrapes"], "most": on["most"],
        "kv_cells": on["kv_cells"], "pairs": len(pairs),
        "tokens_per_second_on": round(statistics.median(p["on"] for p in pairs), 1),
        "tokens_per_second_off": round(statistics.median(p["off"] for p in pairs), 1),
        "ratio": rounded(wall), "cpu_ratio": rounded(cpu),
        "best_ratio": round(best_ratio(pairs, "cpu_on", "cpu_off"), 4), "truth": on["truth"],
    }
    print(f"served {result['requests']} requests: "
          + ", ".join(f"{result[o]} {o}" for o in OUTCOMES if result[o])
          + f"; {result['tokens']} tokens in {result['steps']} steps")
    print(f"the KV cache was full {result['kv_full']} times, {result['refused_prefills']} of them"
          f" with chunks of prompts in the batch: {result['evicted']} evictions")
    print(f"truth: {result['families_checked']} families of /metrics compared, {len(result['wrong'])} wrong,"
          f" at the end and with {result['in_flight_midway']} requests in flight")
    print(f"without recorder the checker finds {result['wrong_without_recorder']} families wrong")
    for what, found in [("of the clock", wall), ("of CPU time", cpu)]:
        print(f"tokens per second {what}, recording / not: {found['median']:.4f}"
              f" (95 % {found['low']:.4f} to {found['high']:.4f},"
              f" extremes {found['min']:.4f} to {found['max']:.4f}; {len(pairs)} pairs)")
    print(f"the fastest of these runs by CPU time, recording / not: {result['best_ratio']:.4f}")
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
