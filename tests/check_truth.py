#!/usr/bin/env python3
"""Recomputes what /metrics says about requests, steps and KV from an engine's own record.

    check_truth.py --truth FILE (--metrics FILE | --url http://127.0.0.1:PORT) [--openmetrics] [--json]
    check_truth.py --selftest

The record is `docs/truth-format.md`. The exposition is read by the official Python parser. Nothing
is shared with the library: definitions are written here anew over whole logs (the library closes
each fact as it happens), and bucket bounds come from the exposition itself.

Exact: every bucket, `_count` and counter. A `_sum` holds whole nanoseconds that are turned into a
double once: conversion and division cost at most three roundings of 2^-53, so 2^-51 relative is
allowed and nothing absolute; a sum that is off by one ns is found up to 26 days. Ratios are kept in
ppm: a sample of a distribution may be rounded up to the next ppm, a gauge may be off by one.

Not checked, because the record cannot tell: llm_tokens_per_second (a sliding window),
llm_last_step_age_seconds (the moment of the scrape), NVML, stamps, and the exporter's own times.

Exit: 0 all right, 1 something is wrong, 2 the input cannot be used.
"""

import argparse
import bisect
import json
import math
import random
import sys
import tempfile
import urllib.request
from collections import Counter, defaultdict
from fractions import Fraction

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client import parser as plain

NS = 10**9
ROUNDING = Fraction(1, 2**51)
PPM = Fraction(1, 10**6)
# With fewer finite bounds than any grid has, bucket checks would pass for want of buckets.
BOUNDS_MIN = 5
SHOWN_MAX = 5

# Families and the units of one exported second, token, share.
HISTOGRAMS = {
    **dict.fromkeys(
        """llm_ttft_seconds llm_tbt_seconds llm_itl_seconds llm_time_per_output_token_seconds
        llm_request_duration_seconds llm_admission_seconds llm_queue_seconds llm_prefill_seconds
        llm_decode_seconds llm_emit_delay_seconds llm_requeue_seconds llm_preemption_stall_seconds
        llm_ttft_user_seconds llm_ttft_residual_seconds llm_step_gpu_seconds llm_step_host_seconds
        llm_gpu_gap_seconds""".split(), NS),
    **dict.fromkeys(
        """llm_request_prompt_tokens llm_request_generated_tokens llm_request_preemptions
        llm_step_sequences llm_kv_step_utilization""".split(), 1),
}
SHARE = "llm_kv_step_utilization"
COUNTERS = """llm_requests_total llm_error_total llm_requests_accepted_total
    llm_no_first_token_total llm_slo_events_total llm_prompt_tokens_total llm_generated_tokens_total
    llm_recomputed_tokens_total llm_discarded_tokens_total llm_draft_tokens_total
    llm_draft_accepted_tokens_total llm_preemption_total llm_step_source_total llm_invalid_total
    llm_label_overflow_total llm_ring_dropped_total""".split()
QUEUE = "llm_queue_depth"
RATIOS = ("llm_kv_cache_utilization", "llm_kv_slot_usage_ratio")
GAUGES = ("llm_requests_in_flight", "llm_requests_running", QUEUE, "llm_batch_size",
          "llm_kv_blocks", *RATIOS, "llm_worker_info")
DROPPED = "llm_ring_dropped_total"
# These appear when something fed them; all others stand at 0 from the first scrape on.
WHEN_FED = set("""llm_ttft_user_seconds llm_step_gpu_seconds llm_step_host_seconds
    llm_gpu_gap_seconds llm_step_sequences llm_kv_step_utilization llm_draft_tokens_total
    llm_draft_accepted_tokens_total llm_label_overflow_total llm_kv_blocks""".split()) | set(RATIOS)
# One event in a ring feeds both: a loss in the second is counted as one in the first.
DERIVED = {"llm_itl_seconds": "llm_tbt_seconds", "llm_ttft_residual_seconds": "llm_ttft_seconds"}


class Unusable(Exception):
    """The input says nothing that could be compared."""


# ---------------------------------------------------------------- the record

TIME, MAYBE = (int,), (int, type(None))
OUTCOMES = ("stop", "length", "handover", "aborted", "failed", "rejected")
LINES = {
    "run": {
        **dict.fromkeys("model worker_id engine engine_version gpu_id node".split(), (str,)),
        "role": {"both", "prefill", "decode"},
        **dict.fromkeys("ttft_objective_ns tbt_objective_ns kv_block_tokens".split(), (int,)),
    },
    "request": {
        "endpoint": (str,), "priority": (str,), "recv": TIME, "enq": MAYBE, "sched": (list,),
        "evict": (list,), "tok": (list,), "emit": MAYBE, "end": MAYBE,
        "outcome": {None, *OUTCOMES}, "error": (str, type(None)),
        **dict.fromkeys("""prompt_computed prompt_cached recomputed drafted draft_accepted
            stop_surplus""".split(), (int,)),
    },
    "step": {
        "begin": TIME, "gpu_ns": MAYBE, "idle_before_ns": MAYBE, "work": {None, "waiting", "none"},
        "end": TIME, "processed": TIME, "phase": {"prefill", "decode", "mixed"},
        "sequences": (int,), "source": {"gpu", "host", "simulated"},
        "kv_referenced": MAYBE, "kv_usable": MAYBE,
    },
    "end": {
        "at": TIME, "queue": (dict,), **dict.fromkeys("running waiting batch".split(), (int,)),
        **dict.fromkeys("kv_referenced kv_cached kv_usable kv_slots_used".split(), MAYBE),
    },
}


def is_whole(value):
    return type(value) is int and value >= 0


def check_line(line, where):
    """Fields and their types; what a line means is checked by whoever reads it."""
    kind = line.get("kind") if isinstance(line, dict) else None
    if kind not in LINES:
        raise Unusable(f"{where}: no line of kind run, request, step or end")
    for field, allowed in LINES[kind].items():
        if field not in line:
            raise Unusable(f"{where}: {kind} line lacks `{field}`")
        value = line[field]
        # Sets list words, tuples list types; all numbers of the format are whole and positive.
        fits = isinstance(value, str | None) and value in allowed if isinstance(allowed, set) else (
            type(value) in allowed and (type(value) is not int or value >= 0))
        if not fits:
            raise Unusable(f"{where}: {kind} line: `{field}` cannot be {value!r}")


def check_order(r, where):
    """An interval that would be negative makes every number behind it meaningless."""
    def need(true, why):
        if not true:
            raise Unusable(f"{where}: request: {why}")

    pairs = r["evict"] + r["tok"]
    need(all(isinstance(p, list) and len(p) == 2 for p in pairs), "evict and tok hold pairs")
    numbers = r["sched"] + [p[0] for p in pairs] + [k for _, k in r["tok"]]
    need(all(map(is_whole, numbers)), "times and accepted tokens are whole numbers")
    need(all(k > 0 for _, k in r["tok"]), "a step that accepted nothing is no entry of tok")
    need(all(isinstance(why, str) for _, why in r["evict"]), "an eviction has a reason")
    sched, evict, tok = r["sched"], [t for t, _ in r["evict"]], [t for t, _ in r["tok"]]
    need(len(sched) - len(evict) in (0, 1), "admissions and evictions do not alternate")
    need(not sched or r["enq"] is not None, "admitted and never in the queue")
    need(not tok or sched and tok[0] >= sched[0], "a token before the admission")
    turns = [t for pair in zip(sched, evict) for t in pair] + sched[len(evict):]
    way = [r["recv"]] + ([] if r["enq"] is None else [r["enq"]]) + turns
    end = [] if r["end"] is None else [r["end"]]
    need(way + end == sorted(way + end), "recv, enq, sched, evict, end are not in order")
    need(tok + end == sorted(tok + end), "tok and end are not in order")
    need(r["emit"] is None or r["emit"] >= r["recv"], "emitted before it was received")
    need((r["end"] is None) == (r["outcome"] is None), "end and outcome go together")
    need((r["outcome"] in ("failed", "rejected")) == (r["error"] is not None),
         "an error belongs to failed and rejected, and only to them")
    need(r["draft_accepted"] <= r["drafted"], "more drafts accepted than made")


class Truth:
    """A checked record: `run`, `end`, `requests`, `steps`."""

    def __init__(self, path):
        lines = defaultdict(list)
        number = 0
        try:
            with open(path, encoding="utf-8") as file:
                for number, text in enumerate(file, 1):
                    self.take(lines, text, f"{path}:{number}")
        except (OSError, UnicodeDecodeError) as error:
            raise Unusable(f"{path}: {error}") from error
        if not lines["end"]:
            raise Unusable(f"{path}:{number}: ends without an `end` line: was the run cut off?")
        if not lines["request"]:
            raise Unusable(f"{path}: no request lines: nothing could be compared")
        if not lines["step"] and any(r["tok"] for r in lines["request"]):
            raise Unusable(f"{path}: tokens, but no step lines")
        self.run, self.end = lines["run"][0], lines["end"][0]
        self.requests, self.steps = lines["request"], lines["step"]

    @staticmethod
    def take(lines, text, where):
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            raise Unusable(f"{where}: not JSON: {error}") from error
        check_line(line, where)
        kind = line["kind"]
        if (kind == "run") == bool(lines["run"]) or lines["end"]:
            raise Unusable(f"{where}: `run` comes first and once, `end` last: {kind} out of place")
        if kind == "request":
            check_order(line, where)
        if kind == "end" and not all(map(is_whole, line["queue"].values())):
            raise Unusable(f"{where}: `queue` maps reasons to whole numbers")
        lines[kind].append(line)


# ---------------------------------------------------------------- what it means

class Samples:
    """One series of a histogram: all its samples, not their buckets."""

    def __init__(self):
        self.weights, self.total, self.ladder = Counter(), 0, None

    def add(self, value, weight, total):
        self.weights[value] += weight
        self.total += total

    def count(self):
        return sum(self.weights.values())

    def at_or_below(self, bound):
        if self.ladder is None:
            values, sums = sorted(self.weights), [0]
            for value in values:
                sums.append(sums[-1] + self.weights[value])
            self.ladder = values, sums
        values, sums = self.ladder
        return sums[bisect.bisect_right(values, bound)]


class Book:
    """Expected numbers: family -> labels -> Samples or number."""

    def __init__(self):
        self.samples = defaultdict(lambda: defaultdict(Samples))
        self.numbers = defaultdict(lambda: defaultdict(int))

    def observe(self, family, value, weight=1, total=None, **labels):
        total = value * weight if total is None else total
        self.samples[family][frozenset(labels.items())].add(value, weight, total)

    def add(self, family, n=1, **labels):
        self.numbers[family][frozenset(labels.items())] += n


def expect(truth):
    book = Book()
    for request in truth.requests:
        book_waits(book, request)
        book_evictions(book, request)
        book_tokens(book, request, truth.run)
        book_counts(book, request)
        if request["end"] is not None:
            book_end(book, request)
            book_objectives(book, request, truth.run)
    for step in truth.steps:
        book_step(book, step, truth.run)
    book_levels(book, truth)
    return book


def book_waits(book, r):
    if r["enq"] is None:
        return
    book.observe("llm_admission_seconds", r["enq"] - r["recv"])
    # The first wait only; one that ended in the queue waited until then.
    until = r["sched"][0] if r["sched"] else r["end"]
    if until is not None:
        book.observe("llm_queue_seconds", until - r["enq"], priority=r["priority"])


def book_evictions(book, r):
    tokens, end = [t for t, _ in r["tok"]], [] if r["end"] is None else [r["end"]]
    for i, (at, reason) in enumerate(r["evict"]):
        book.add("llm_preemption_total", reason=reason)
        back = r["sched"][i + 1 : i + 2] or end
        if back:
            book.observe("llm_requeue_seconds", back[0] - at)
        # A token of the same moment came before the eviction: an evicted sequence gets none.
        token = tokens[bisect.bisect_right(tokens, at) :][:1]
        again = [t for t, _ in r["evict"][i + 1 : i + 2]]
        if token or again or end:
            book.observe("llm_preemption_stall_seconds", min(token + again + end) - at)


def book_tokens(book, r, run):
    user = run["role"] != "prefill"  # a prefill node never reports a user's TTFT
    endpoint, priority, tok = r["endpoint"], r["priority"], r["tok"]
    if r["emit"] is not None and user:
        book.observe("llm_ttft_user_seconds", r["emit"] - r["recv"], endpoint=endpoint)
    if not tok:
        return
    first = tok[0][0]
    book.observe("llm_prefill_seconds", first - r["sched"][0])
    if user:
        book.observe("llm_ttft_seconds", first - r["recv"], endpoint=endpoint, priority=priority)
        book.observe("llm_ttft_residual_seconds", 0)
    for (before, _), (at, accepted) in zip(tok, tok[1:]):
        gap = at - before
        book.observe("llm_tbt_seconds", gap, endpoint=endpoint)
        book.observe("llm_itl_seconds", gap // accepted, accepted, gap, endpoint=endpoint)


def book_counts(book, r):
    """Counters that are live, so in-flight requests are in them."""
    book.add("llm_requests_accepted_total", endpoint=r["endpoint"])
    book.add("llm_generated_tokens_total", sum(k for _, k in r["tok"]))
    book.add("llm_prompt_tokens_total", r["prompt_computed"], source="computed")
    book.add("llm_prompt_tokens_total", r["prompt_cached"], source="cached")
    book.add("llm_recomputed_tokens_total", r["recomputed"])
    book.add("llm_draft_tokens_total", r["drafted"])
    book.add("llm_draft_accepted_tokens_total", r["draft_accepted"])
    book.add("llm_discarded_tokens_total", r["drafted"] - r["draft_accepted"], reason="draft")
    book.add("llm_discarded_tokens_total", r["stop_surplus"], reason="stop_surplus")


def book_end(book, r):
    end, outcome, tok = r["end"], r["outcome"], r["tok"]
    book.add("llm_requests_total", endpoint=r["endpoint"], status=outcome)
    book.observe("llm_request_duration_seconds", end - r["recv"],
                 endpoint=r["endpoint"], status=outcome)
    if r["error"] is not None:
        book.add("llm_error_total", endpoint=r["endpoint"], error_type=r["error"])
    if r["sched"]:
        book.observe("llm_request_preemptions", len(r["evict"]))
    if not tok:
        return
    first, last, n = tok[0][0], tok[-1][0], sum(k for _, k in tok)
    book.observe("llm_decode_seconds", last - first)
    book.observe("llm_emit_delay_seconds", end - last)
    if outcome == "aborted":
        book.add("llm_discarded_tokens_total", n, reason="aborted")
    if outcome in ("stop", "length"):
        book.observe("llm_request_generated_tokens", n)
        prompt = r["prompt_computed"] + r["prompt_cached"]
        if prompt:
            # A token needs a prompt, so 0 says that the engine reports no positions.
            book.observe("llm_request_prompt_tokens", prompt)
        if n >= 2 and last > first:
            book.observe("llm_time_per_output_token_seconds", (last - first) // (n - 1),
                         endpoint=r["endpoint"])


def book_objectives(book, r, run):
    def judge(objective, good):
        book.add("llm_slo_events_total", objective=objective, good="true" if good else "false")

    outcome, tok = r["outcome"], [t for t, _ in r["tok"]]
    if outcome in ("stop", "length"):
        judge("availability", True)
    elif outcome in ("failed", "rejected") and r["error"] != "input":
        judge("availability", False)
    if run["role"] == "prefill" or outcome == "handover":
        return
    if tok:
        judge("ttft", tok[0] - r["recv"] <= run["ttft_objective_ns"])
    else:
        reason = "empty" if outcome in ("stop", "length") else outcome
        book.add("llm_no_first_token_total", reason=reason)
        if r["end"] - r["recv"] > run["ttft_objective_ns"]:
            judge("ttft", False)
    gaps = [b - a for a, b in zip(tok, tok[1:])]
    if gaps:
        slow = sum(gap > run["tbt_objective_ns"] for gap in gaps)
        judge("tbt", slow * 100 <= len(gaps))


def book_step(book, s, run):
    device = {"gpu_id": run["gpu_id"], "node": run["node"]}
    book.add("llm_step_source_total", source=s["source"])
    book.observe("llm_step_sequences", s["sequences"])
    if s["gpu_ns"] is None:
        book.observe("llm_step_host_seconds", s["processed"] - s["begin"], phase=s["phase"])
    else:
        book.observe("llm_step_gpu_seconds", s["gpu_ns"], phase=s["phase"], **device)
        if s["idle_before_ns"] is not None:
            book.observe("llm_gpu_gap_seconds", s["idle_before_ns"], work=s["work"], **device)
    if s["kv_referenced"] is not None and s["kv_usable"]:
        book.observe(SHARE, Fraction(s["kv_referenced"], s["kv_usable"]), pool="kv")


def book_levels(book, truth):
    run, end, pool = truth.run, truth.end, {"pool": "kv"}
    book.add("llm_worker_info", 1, version=run["engine_version"], role=run["role"],
             engine=run["engine"])
    book.add("llm_requests_in_flight", sum(r["end"] is None for r in truth.requests))
    book.add("llm_requests_running", end["running"])
    book.add("llm_batch_size", end["batch"])
    # An engine that reports no reasons has all of them under capacity.
    for reason, n in (end["queue"] or {"capacity": end["waiting"]}).items():
        book.add(QUEUE, n, reason=reason)
    referenced, cached, usable = (end["kv_" + x] for x in ("referenced", "cached", "usable"))
    if usable:
        book.add("llm_kv_blocks", referenced, state="referenced", **pool)
        book.add("llm_kv_blocks", cached, state="cached", **pool)
        book.add("llm_kv_blocks", usable - referenced - cached, state="free", **pool)
        book.add(RATIOS[0], Fraction(referenced, usable), gpu_id=run["gpu_id"], **pool)
        if referenced and end["kv_slots_used"] is not None:
            slots = referenced * run["kv_block_tokens"]
            book.add(RATIOS[1], Fraction(end["kv_slots_used"], slots), **pool)


# ---------------------------------------------------------------- the exposition

def parse(text, is_openmetrics):
    """All samples as (name, labels, value), and the type of every family."""
    reader = openmetrics if is_openmetrics else plain
    samples, types = [], {}
    try:
        for family in reader.text_string_to_metric_families(text):
            types[family.name + "_total" * (family.type == "counter")] = family.type
            samples += [(s.name, dict(s.labels), s.value) for s in family.samples]
    except Exception as error:  # the parser raises whatever it stumbles over
        raise Unusable(f"the official parser refuses the exposition: {error!r}") from error
    return samples, types


class Report:
    """What was compared, and what is wrong."""

    def __init__(self):
        self.wrong, self.rows = [], []
        self.series = self.compared = self.worst = self.before = 0

    def compare(self, metric, labels, what, engine, reported, good=None):
        good = reported == engine if good is None else good
        self.compared += 1
        if isinstance(engine, int | Fraction) and math.isfinite(reported):
            self.worst = max(self.worst, abs(float(engine) - float(reported)))
        if not good:
            self.wrong.append({"metric": metric, "labels": dict(labels), "what": what,
                               "engine": engine, "reported": reported})

    def close(self, name, is_family=True):
        """Ends the line of one family."""
        found = self.wrong[self.before :]
        self.rows.append((name, is_family, self.series, self.compared, self.worst, found))
        self.series = self.compared = self.worst = 0
        self.before = len(self.wrong)


class Exposition:
    """Samples by name and by labels other than the identity of the worker."""

    def __init__(self, samples, types, run, report):
        self.types, self.series = types, defaultdict(dict)
        identity = {"model": run["model"], "worker_id": run["worker_id"]}
        for name, labels, value in samples:
            number = math.nan if value is None else value
            if math.isnan(number):
                report.compare(name, labels, "value", "a number", number, False)
                number = -1  # wrong in every comparison, and comparable
            if not name.startswith(("llm_", "process_")):
                continue  # aliases of other systems have labels of their own
            for label, word in identity.items():
                report.compare(name, labels, f"label {label}", word, labels.get(label, "(none)"))
            key = frozenset((k, v) for k, v in labels.items() if k not in identity)
            if key in self.series[name]:
                report.compare(name, labels, "duplicate series", self.series[name][key], number,
                               False)
            self.series[name][key] = number
        report.close("identity, NaN, duplicates", False)

    def histogram(self, family):
        """labels -> {"sum", "count", "buckets": [(le, n)] ascending}"""
        found = defaultdict(lambda: {"sum": None, "count": None, "buckets": []})
        for key, n in self.series[family + "_bucket"].items():
            le = dict(key).get("le", "NaN")
            found[key - {("le", le)}]["buckets"].append((le, n))
        for part in ("sum", "count"):
            for key, value in self.series[f"{family}_{part}"].items():
                found[key][part] = value
        for series in found.values():
            series["buckets"].sort(key=lambda bucket: float(bucket[0]))
        return found

    def total(self, name, **labels):
        return sum(v for key, v in self.series[name].items() if labels.items() <= dict(key).items())


# ---------------------------------------------------------------- the comparison

def check(truth, book, samples, types):
    report = Report()
    shown = Exposition(samples, types, truth.run, report)
    check_truth_itself(truth, report)
    dropped, short = shown.total(DROPPED), {}
    for family in HISTOGRAMS:
        short[family] = check_histogram(report, shown, family, book.samples[family], dropped > 0)
        end_family(report, shown, family, "histogram", bool(book.samples[family]))
    # The record does not know what a ring lost; the histograms show it.
    lost = sum(n for family, n in short.items() if family not in DERIVED)
    book.add(DROPPED, lost)
    for family in (*COUNTERS, *GAUGES):
        got, want = shown.series[family], book.numbers[family]
        if family == QUEUE:
            got = check_queue(report, truth, got, want)
        check_numbers(report, family, want, got)
        kind = "counter" if family in COUNTERS else "gauge"
        end_family(report, shown, family, kind, any(want.values()))
    for derived, source in DERIVED.items():
        if short[derived] and not short[source]:
            report.compare(derived, {}, f"lost more than {source}", 0, short[derived])
    check_conservation(report, shown)
    unread = (set(book.samples) | set(book.numbers)) - {row[0] for row in report.rows}
    assert not unread, f"booked and never compared: {unread}"
    return report


def end_family(report, shown, family, kind, is_fed):
    """A family that should be there and gave nothing to compare is wrong, not fine."""
    there = report.compared > 0 and report.series > 0
    if not there and (is_fed or family not in WHEN_FED):
        report.compare(family, {}, "family", "present", "absent", False)
    found = shown.types.get(family, kind)
    if family != "llm_worker_info" and found != kind:
        report.compare(family, {}, "type", kind, found)
    report.close(family)


def check_numbers(report, family, want, got):
    for key in sorted(want.keys() | got.keys(), key=sorted):
        engine = want.get(key, 0)
        if key not in got:
            if engine:
                report.compare(family, key, "missing series", engine, "(none)", False)
            continue
        report.series += 1
        # Beyond 2^53 only the nearest double can be told.
        near = math.isfinite(got[key]) and abs(got[key] - engine) <= PPM
        good = near if family in RATIOS else got[key] == float(engine)
        report.compare(family, key, "value", engine, got[key], good)


def check_queue(report, truth, got, want):
    """Depth by priority follows from the requests, if the engine queues all that do not run."""
    idle = Counter(r["priority"] for r in truth.requests if r["end"] is None and not is_running(r))
    if sum(idle.values()) == sum(want.values()):
        for priority in sorted({dict(key).get("priority", "(none)") for key in got} | set(idle)):
            n = sum(n for key, n in got.items() if ("priority", priority) in key)
            report.compare(QUEUE, {"priority": priority}, "sum over reasons", idle[priority], n)
    by_reason = Counter()
    for key, n in got.items():
        by_reason[frozenset(pair for pair in key if pair[0] != "priority")] += n
    return by_reason


def is_running(r):
    return len(r["sched"]) > len(r["evict"])


def check_histogram(report, shown, family, want, is_lossy):
    """Compares all series of a family; returns how many samples a full ring may have cost it."""
    got, grids, lost = shown.histogram(family), {}, 0
    for key in sorted(want.keys() | got.keys(), key=sorted):
        engine = want.get(key) or Samples()
        if key not in got:
            if engine.weights:
                report.compare(family, key, "missing series", engine.count(), "(none)", False)
            continue
        series, report.series = got[key], report.series + 1
        grid = tuple(le for le, _ in series["buckets"])
        grids.setdefault(grid, key)
        whole = None not in (series["sum"], series["count"]) and len(grid) > BOUNDS_MIN
        if not whole or float(grid[-1]) != math.inf or len(grids) > 1:
            report.compare(family, key, "shape", "sum, count, the family's buckets to +Inf",
                           f"{len(grid)} buckets, sum {series['sum']}, count {series['count']}",
                           False)
            continue
        short = engine.count() - series["count"] if is_lossy else 0
        lost += max(short, 0)
        check_series(report, family, key, engine, series, max(short, 0))
    return lost


def check_series(report, family, key, engine, series, short):
    scale, missing = HISTOGRAMS[family], 0
    for le, n in series["buckets"]:
        exact = engine.at_or_below(bound_of(le, scale))
        # What a ring lost is missing in a bucket and in all above it.
        good = n == exact if not short else missing <= exact - n <= short
        missing = exact - n
        report.compare(family, key, f"bucket le={le}", exact, n, good)
    report.compare(family, key, "count", engine.count(), series["count"],
                   series["count"] == engine.count() - short)
    total = Fraction(engine.total, scale)
    low = high = total
    if family == SHARE:
        high += engine.count() * PPM
    if short:
        # Less at least the smallest and at most the largest samples; + 1 for cut-off fractions.
        low -= short * Fraction(max(engine.weights) + 1, scale)
        high -= short * Fraction(min(engine.weights), scale)
    reported, room = series["sum"], total * ROUNDING
    good = math.isfinite(reported) and low - room <= Fraction(reported) <= high + room
    report.compare(family, key, "sum", total, reported, good)


def bound_of(le, scale):
    """The inclusive bound in the unit of the samples; ns are whole."""
    value = float(le)
    if math.isinf(value):
        return value
    return round(value * scale) if scale == NS else Fraction(le)


def check_truth_itself(truth, report):
    """A record that contradicts itself proves nothing about the exporter."""
    flying = [r for r in truth.requests if r["end"] is None]
    running = sum(map(is_running, flying))
    report.compare("(truth) end.running", {}, "from request lines", running, truth.end["running"])
    queued = sum(r["enq"] is not None for r in flying) - running
    waiting = truth.end["waiting"]
    # Formats of engines differ in whether those not yet enqueued wait.
    report.compare("(truth) end.waiting", {}, "from request lines", queued, waiting,
                   queued <= waiting <= len(flying) - running)
    ends = {s["end"] for s in truth.steps}
    stray = sum(t not in ends for r in truth.requests for t, _ in r["tok"])
    report.compare("(truth) tok", {}, "tokens at no step's end", 0, stray)
    report.close("the record agrees with itself", False)


def check_conservation(report, shown):
    """What must hold whatever the engine did, from the exposition alone."""
    ended, flying = shown.total("llm_requests_total"), shown.total("llm_requests_in_flight")
    lost = shown.total("llm_invalid_total", reason="dropped")
    report.compare("llm_requests_accepted_total", {}, "ended + in flight + dropped",
                   ended + flying + lost, shown.total("llm_requests_accepted_total"))
    names = ("llm_requests_total", "llm_error_total")
    for endpoint in sorted({dict(k).get("endpoint", "") for n in names for k in shown.series[n]}):
        bad = sum(shown.total(names[0], endpoint=endpoint, status=s) for s in ("failed", "rejected"))
        report.compare(names[1], {"endpoint": endpoint}, "failed + rejected", bad,
                       shown.total(names[1], endpoint=endpoint))
    rung = 0
    for family in [n.removesuffix("_bucket") for n in shown.series if n.endswith("_bucket")]:
        for key, series in shown.histogram(family).items():
            top = series["buckets"][-1] if series["buckets"] else ("", "(none)")
            count = "(none)" if series["count"] is None else series["count"]
            report.compare(family, key, "+Inf bucket = count", count, top[1],
                           float(top[0] or "NaN") == math.inf and top[1] == count)
            if family in HISTOGRAMS and family not in DERIVED:
                rung += series["count"] or 0
    if shown.series["llm_ring_events_total"]:
        report.compare("llm_ring_events_total", {}, "samples in histograms", rung,
                       shown.total("llm_ring_events_total"))
    report.close("conservation", False)


# ---------------------------------------------------------------- front door

def fetch(url, is_openmetrics):
    url = url if url.rstrip("/").endswith("/metrics") else url.rstrip("/") + "/metrics"
    kind = "application/openmetrics-text; version=1.0.0" if is_openmetrics else "text/plain"
    request = urllib.request.Request(url, headers={"Accept": kind})
    # A proxy of the environment must not stand between us and a local address.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as r:
        return r.read().decode("utf-8")


def read_exposition(args):
    try:
        if args.url:
            return fetch(args.url, args.openmetrics)
        with open(args.metrics, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise Unusable(f"{args.url or args.metrics}: {error}") from error


def plainly(value):
    """A value that JSON and people can read."""
    if isinstance(value, Fraction):
        value = value.numerator if value.denominator == 1 else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def show(report, as_json):
    for name, _, series, compared, worst, found in report.rows:
        verdict = "WRONG" if found else "ok"
        print(f"{name:36} {series:5} series {compared:7} samples  worst {worst:<9.3g} {verdict}")
        for w in found[:SHOWN_MAX]:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(w["labels"].items()))
            print(f"    {w['metric']}{{{labels}}} {w['what']}:"
                  f" engine {plainly(w['engine'])}, reported {plainly(w['reported'])}")
        if len(found) > SHOWN_MAX:
            print(f"    and {len(found) - SHOWN_MAX} more")
    checked = sum(is_family and compared > 0 for _, is_family, _, compared, *_ in report.rows)
    if as_json:
        wrong = [{k: plainly(v) for k, v in w.items()} for w in report.wrong]
        print(json.dumps({"ok": not wrong, "checked": checked, "wrong": wrong}))
    elif report.wrong:
        print(f"WRONG: {len(report.wrong)} numbers of {checked} families differ from the engine's")
    else:
        print(f"ok: {checked} families say what the engine says")


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--truth", help="the engine's record")
    args.add_argument("--metrics", help="a saved exposition")
    args.add_argument("--url", help="where to scrape one")
    args.add_argument("--openmetrics", action="store_true", help="it is OpenMetrics")
    args.add_argument("--json", action="store_true", help="the last line is a JSON object")
    args.add_argument("--selftest", action="store_true", help="check this checker")
    args = args.parse_args()
    if args.selftest:
        return selftest()
    if not args.truth or bool(args.metrics) == bool(args.url):
        raise Unusable("need --truth and one of --metrics and --url")
    # First the exposition: a live one must not run away while the record is read.
    samples, types = parse(read_exposition(args), args.openmetrics)
    truth = Truth(args.truth)
    report = check(truth, expect(truth), samples, types)
    lost = sum(value for name, _, value in samples if name == DROPPED)
    if lost:
        print(f"note: full rings cost {lost} samples; histograms may be short by as many")
    show(report, args.json)
    return 1 if report.wrong else 0
