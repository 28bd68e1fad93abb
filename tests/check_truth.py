#!/usr/bin/env python3
"""Recomputes what /metrics says about requests, steps and KV from an engine's own record.

    check_truth.py --truth FILE (--metrics FILE | --url http://HOST:PORT) [--openmetrics] [--json]
    check_truth.py --selftest

The record is `docs/truth-format.md`; the exposition is read by the official Python parser. Nothing
is shared with the library: definitions are written anew, over whole logs (the library closes each
fact as it happens), and bucket bounds come from the exposition itself.

Exact: every bucket, `_count` and counter. A `_sum` is whole nanoseconds turned into a double once:
at most three roundings of 2^-53, so 2^-51 relative is allowed and nothing absolute; one ns too much
is found in sums up to 26 days. Ratios are kept in ppm: a sample of a distribution may be rounded up
to the next ppm, a gauge may be off by one.

Not checked, because the record cannot tell: llm_tokens_per_second (a sliding window),
llm_last_step_age_seconds (the moment of the scrape), NVML, stamps, the exporter's own times.

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

from prometheus_client import parser as plain
from prometheus_client.openmetrics import parser as openmetrics

NS = 10**9
ROUNDING = Fraction(1, 2**51)
PPM = Fraction(1, 10**6)
# With fewer finite bounds than any grid has, bucket checks would pass for want of buckets.
BOUNDS_MIN = 5
SHOWN_MAX = 5

# Histograms, and how many units of a sample make one exported unit.
HISTOGRAMS = dict.fromkeys(
    """llm_ttft_seconds llm_tbt_seconds llm_itl_seconds llm_time_per_output_token_seconds
    llm_request_duration_seconds llm_admission_seconds llm_queue_seconds llm_prefill_seconds
    llm_decode_seconds llm_emit_delay_seconds llm_requeue_seconds llm_preemption_stall_seconds
    llm_ttft_user_seconds llm_ttft_residual_seconds llm_step_gpu_seconds llm_step_host_seconds
    llm_gpu_gap_seconds""".split(), NS) | dict.fromkeys(
    """llm_request_prompt_tokens llm_request_generated_tokens llm_request_preemptions
    llm_step_sequences llm_kv_step_utilization""".split(), 1)
COUNTERS = """llm_requests_total llm_error_total llm_requests_accepted_total
    llm_no_first_token_total llm_slo_events_total llm_prompt_tokens_total llm_generated_tokens_total
    llm_recomputed_tokens_total llm_discarded_tokens_total llm_draft_tokens_total
    llm_draft_accepted_tokens_total llm_preemption_total llm_step_source_total llm_invalid_total
    llm_label_overflow_total llm_ring_dropped_total""".split()
GAUGES = """llm_requests_in_flight llm_requests_running llm_queue_depth llm_batch_size llm_kv_blocks
    llm_kv_cache_utilization llm_kv_slot_usage_ratio llm_worker_info""".split()
SHARE, QUEUE, DROPPED = "llm_kv_step_utilization", "llm_queue_depth", "llm_ring_dropped_total"
RATIOS = ("llm_kv_cache_utilization", "llm_kv_slot_usage_ratio")
# These appear when something fed them; all others stand at 0 from the first scrape on.
WHEN_FED = {SHARE, *RATIOS, *"""llm_ttft_user_seconds llm_step_gpu_seconds llm_step_host_seconds
    llm_gpu_gap_seconds llm_step_sequences llm_draft_tokens_total llm_draft_accepted_tokens_total
    llm_label_overflow_total llm_kv_blocks""".split()}
# One event in a ring feeds both: what is lost in the first is counted for the second.
DERIVED = {"llm_itl_seconds": "llm_tbt_seconds", "llm_ttft_residual_seconds": "llm_ttft_seconds"}


class Unusable(Exception):
    """The input says nothing that could be compared."""


# ---------------------------------------------------------------- the record

TYPES = {"s": str, "n": int, "l": list, "o": dict}
# field:type with s text, n whole number, l list, o object, a|b these words; `?` allows null.
LINES = {kind: [field.split(":") for field in fields.split()] for kind, fields in {
    "run": """model:s worker_id:s engine:s engine_version:s gpu_id:s node:s
        role:both|prefill|decode ttft_objective_ns:n tbt_objective_ns:n kv_block_tokens:n""",
    "request": """endpoint:s priority:s recv:n enq:n? sched:l evict:l tok:l emit:n? end:n?
        outcome:stop|length|handover|aborted|failed|rejected? error:s? prompt_computed:n
        prompt_cached:n recomputed:n drafted:n draft_accepted:n stop_surplus:n""",
    "step": """begin:n gpu_ns:n? idle_before_ns:n? work:waiting|none end:n processed:n
        phase:prefill|decode|mixed sequences:n source:gpu|host|simulated kv_referenced:n?
        kv_usable:n?""",
    "end": """at:n running:n waiting:n queue:o batch:n kv_referenced:n? kv_cached:n? kv_usable:n?
        kv_slots_used:n?""",
}.items()}


def fits(value, allowed):
    if value is None:
        return allowed.endswith("?")
    allowed = allowed.rstrip("?")
    if allowed in TYPES:
        return type(value) is TYPES[allowed] and (allowed != "n" or value >= 0)
    return value in allowed.split("|")


def disorder(r):
    """What makes the numbers of a request meaningless, or None."""
    sched, tok = r["sched"], [t for t, _ in r["tok"]]
    evict, end = [t for t, _ in r["evict"]], [r["end"]] * (r["end"] is not None)
    turns = [t for turn in zip(sched, evict) for t in turn] + sched[len(evict) :]
    way = [r["recv"]] + [r["enq"]] * (r["enq"] is not None) + turns + end
    rules = {
        "admissions and evictions do not alternate": len(sched) - len(evict) in (0, 1),
        "admitted and never in the queue": not sched or r["enq"] is not None,
        "a token before the admission": not tok or (sched and tok[0] >= sched[0]),
        "a step that accepted no token is no entry of tok": all(k > 0 for _, k in r["tok"]),
        "recv, enq, sched, evict, end are not in order": way == sorted(way),
        "tok, end are not in order": tok + end == sorted(tok + end),
        "emitted before it was received": r["emit"] is None or r["emit"] >= r["recv"],
        "end and outcome do not go together": (r["end"] is None) == (r["outcome"] is None),
        "failed and rejected have an error, others none":
            (r["outcome"] in ("failed", "rejected")) == (r["error"] is not None),
        "more drafts accepted than made": r["draft_accepted"] <= r["drafted"],
    }
    return next((why for why, holds in rules.items() if not holds), None)


def complaint(line):
    """Why a line cannot be used, or None."""
    kind = line.get("kind") if isinstance(line, dict) else None
    if str(kind) not in LINES:
        return "no line of kind run, request, step or end"
    for field, allowed in LINES[kind]:
        if field not in line:
            return f"{kind} line lacks `{field}`"
        if not fits(line[field], allowed):
            return f"{kind} line: `{field}` cannot be {line[field]!r}"
    if kind == "end" and not all(fits(n, "n") for n in line["queue"].values()):
        return "end line: `queue` maps reasons to whole numbers"
    if kind != "request":
        return None
    try:
        pairs = [fits(t, "n") and fits(k, "n") for t, k in line["tok"]]
        pairs += [fits(t, "n") and fits(why, "s") for t, why in line["evict"]]
        why = disorder(line) if all(pairs + [fits(t, "n") for t in line["sched"]]) else (
            "sched, evict and tok hold whole numbers, and evict a reason")
    except (TypeError, ValueError):
        why = "evict and tok hold pairs"
    return why and f"request line: {why}"


class Truth:
    """A checked record: `run`, `end`, `requests`, `steps`."""

    def __init__(self, texts, name):
        lines, number = defaultdict(list), 0
        for number, text in enumerate(texts, 1):
            try:
                line = json.loads(text)
            except json.JSONDecodeError as error:
                raise Unusable(f"{name}:{number}: not JSON: {error}") from error
            why = complaint(line)
            if not why and ((line["kind"] == "run") == bool(lines["run"]) or lines["end"]):
                why = f"{line['kind']} line: `run` comes first and once, `end` last and once"
            if why:
                raise Unusable(f"{name}:{number}: {why}")
            lines[line["kind"]].append(line)
        if not lines["end"]:
            raise Unusable(f"{name}:{number}: no `end` line: was the run cut off?")
        if not lines["request"]:
            raise Unusable(f"{name}: no request lines: nothing could be compared")
        if not lines["step"] and any(r["tok"] for r in lines["request"]):
            raise Unusable(f"{name}: tokens, but no step lines")
        self.run, self.end = lines["run"][0], lines["end"][0]
        self.requests, self.steps = lines["request"], lines["step"]


# ---------------------------------------------------------------- what it means

class Samples:
    """One series of a histogram: all its samples, not their buckets."""

    def __init__(self):
        self.weights, self.total, self.ladder = Counter(), 0, None
        # Samples known between two bounds: as if each had its upper one, and how much that adds.
        self.uppers, self.room = Counter(), 0

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

    def surely_at_or_below(self, bound):
        return self.at_or_below(bound) if not self.room else sum(
            n for value, n in self.uppers.items() if value <= bound)


class Book:
    """Expected numbers: family -> labels -> Samples, or a number."""

    def __init__(self, truth):
        self.samples = defaultdict(lambda: defaultdict(Samples))
        self.numbers = defaultdict(lambda: defaultdict(int))
        for r in truth.requests:
            book_waits(self, r)
            book_evictions(self, r)
            book_tokens(self, r, truth.run)
            book_counts(self, r)
            if r["end"] is not None:
                book_end(self, r)
                book_objectives(self, r, truth.run)
        for s in truth.steps:
            book_step(self, s, truth.run)
        book_levels(self, truth)

    def observe(self, family, value, weight=1, total=None, most=None, **labels):
        """`most`: the sample lies between `value` and that."""
        series = self.samples[family][frozenset(labels.items())]
        most = value if most is None else most
        series.uppers[most] += weight
        series.room += most - value
        series.weights[value] += weight
        series.total += value if total is None else total

    def add(self, family, n=1, **labels):
        self.numbers[family][frozenset(labels.items())] += n


def is_running(r):
    return r["end"] is None and len(r["sched"]) > len(r["evict"])


def book_waits(book, r):
    if r["enq"] is None:
        return
    book.observe("llm_admission_seconds", r["enq"] - r["recv"])
    # The first wait only; who was never admitted waited until the end.
    until = r["sched"][0] if r["sched"] else r["end"]
    if until is not None:
        book.observe("llm_queue_seconds", until - r["enq"], priority=r["priority"])


def book_evictions(book, r):
    tokens, end = [t for t, _ in r["tok"]], [r["end"]] * (r["end"] is not None)
    for i, (at, reason) in enumerate(r["evict"]):
        book.add("llm_preemption_total", reason=reason)
        back = r["sched"][i + 1 : i + 2] or end
        if back:
            book.observe("llm_requeue_seconds", back[0] - at)
        # A token of the same moment came before: an evicted sequence gets none.
        after = bisect.bisect_right(tokens, at)
        stops = tokens[after : after + 1] + [t for t, _ in r["evict"][i + 1 : i + 2]] + end
        if stops:
            book.observe("llm_preemption_stall_seconds", min(stops) - at)


def book_tokens(book, r, run):
    endpoint, tok = r["endpoint"], r["tok"]
    is_user_facing = run["role"] != "prefill"  # a prefill node never reports a user's TTFT
    if is_user_facing and r["emit"] is not None:
        book.observe("llm_ttft_user_seconds", r["emit"] - r["recv"], endpoint=endpoint)
    if not tok:
        return
    first = tok[0][0]
    book.observe("llm_prefill_seconds", first - r["sched"][0])
    if is_user_facing:
        book.observe("llm_ttft_seconds", first - r["recv"], endpoint=endpoint,
                     priority=r["priority"])
        book.observe("llm_ttft_residual_seconds", 0)
    for (before, _), (at, accepted) in zip(tok, tok[1:]):
        gap = at - before
        book.observe("llm_tbt_seconds", gap, endpoint=endpoint)
        book.observe("llm_itl_seconds", gap // accepted, accepted, gap, endpoint=endpoint)


def book_counts(book, r):
    """Counters that are live: requests in flight are in them."""
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
    endpoint, end, outcome, tok = r["endpoint"], r["end"], r["outcome"], r["tok"]
    book.add("llm_requests_total", endpoint=endpoint, status=outcome)
    book.observe("llm_request_duration_seconds", end - r["recv"], endpoint=endpoint, status=outcome)
    if r["error"] is not None:
        book.add("llm_error_total", endpoint=endpoint, error_type=r["error"])
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
        if prompt:  # a token needs a prompt: 0 says that the engine reports no positions
            book.observe("llm_request_prompt_tokens", prompt)
        if n >= 2 and last > first:
            book.observe("llm_time_per_output_token_seconds", (last - first) // (n - 1),
                         endpoint=endpoint)


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
        book.observe("llm_step_gpu_seconds", s["gpu_ns"], most=s.get("gpu_ns_max"),
                     phase=s["phase"], **device)
        if s["idle_before_ns"] is not None:
            book.observe("llm_gpu_gap_seconds", s["idle_before_ns"],
                         most=s.get("idle_before_ns_max"), work=s["work"], **device)
    if s["kv_referenced"] is not None and s["kv_usable"]:
        book.observe(SHARE, Fraction(s["kv_referenced"], s["kv_usable"]), pool="kv")


def book_levels(book, truth):
    run, end = truth.run, truth.end
    book.add("llm_worker_info", version=run["engine_version"], role=run["role"],
             engine=run["engine"])
    book.add("llm_requests_in_flight", sum(r["end"] is None for r in truth.requests))
    book.add("llm_requests_running", end["running"])
    book.add("llm_batch_size", end["batch"])
    # An engine that reports no reasons has all of them under capacity.
    for reason, n in (end["queue"] or {"capacity": end["waiting"]}).items():
        book.add(QUEUE, n, reason=reason)
    referenced, cached, usable = (end["kv_" + x] for x in ("referenced", "cached", "usable"))
    if not usable or None in (referenced, cached):
        return
    free = usable - referenced - cached
    for state, n in [("referenced", referenced), ("cached", cached), ("free", free)]:
        book.add("llm_kv_blocks", n, state=state, pool="kv")
    book.add(RATIOS[0], Fraction(referenced, usable), gpu_id=run["gpu_id"], pool="kv")
    slots = referenced * run["kv_block_tokens"]
    if slots and end["kv_slots_used"] is not None:
        book.add(RATIOS[1], Fraction(end["kv_slots_used"], slots), pool="kv")


# ---------------------------------------------------------------- the exposition

def parse(text, is_openmetrics):
    """All samples as (name, labels, value), and the type of every family."""
    samples, types = [], {}
    try:
        reader = openmetrics if is_openmetrics else plain
        for family in reader.text_string_to_metric_families(text):
            types[family.name + "_total" * (family.type == "counter")] = family.type
            samples += [(s.name, s.labels, s.value) for s in family.samples]
            for s in family.samples:
                float(s.labels.get("le", "0"))
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
        if isinstance(engine, int | float | Fraction) and isinstance(reported, int | float):
            self.worst = max(self.worst, abs(float(engine) - reported))
        if not good:
            self.wrong.append({"metric": metric, "labels": dict(labels), "engine": engine,
                               "reported": reported, "what": what})

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
            value = math.nan if value is None else value
            if math.isnan(value):
                report.compare(name, labels, "value", "a number", value)
            if not name.startswith(("llm_", "process_")):
                continue  # aliases of other systems have labels of their own
            for label, word in identity.items():
                report.compare(name, labels, f"label {label}", word, labels.get(label, "(none)"))
            key = frozenset((k, v) for k, v in labels.items() if k not in identity)
            if key in self.series[name]:
                report.compare(name, labels, "duplicate", self.series[name][key], value, False)
            self.series[name][key] = value
        report.close("identity, NaN, duplicates", False)

    def histogram(self, family):
        """labels -> {"sum", "count", "buckets": [(le, n)] ascending}"""
        found = defaultdict(lambda: {"sum": -1, "count": -1, "buckets": []})
        for key, n in self.series[family + "_bucket"].items():
            le = dict(key).get("le", "0")
            found[key - {("le", le)}]["buckets"].append((le, n))
        for part in ("sum", "count"):
            for key, value in self.series[f"{family}_{part}"].items():
                found[key][part] = value
        for series in found.values():
            series["buckets"].sort(key=lambda bucket: float(bucket[0]))
        return found

    def total(self, name, **labels):
        return sum(v for key, v in self.series[name].items() if labels.items() <= key)


# ---------------------------------------------------------------- the comparison

def check(truth, book, samples, types):
    report = Report()
    shown = Exposition(samples, types, truth.run, report)
    check_record(truth, report)
    is_lossy, lost = shown.total(DROPPED) > 0, Counter()
    for family in HISTOGRAMS:
        lost[family] = check_histogram(report, shown, family, book.samples[family], is_lossy)
        if family in DERIVED and lost[family] and not lost[DERIVED[family]]:
            report.compare(family, {}, f"lost, and {DERIVED[family]} did not", 0, lost[family])
        end_family(report, shown, family, "histogram", bool(book.samples[family]))
    # The record does not know what rings lost; the histograms show it, to the sample.
    lost = sum(n for family, n in lost.items() if family not in DERIVED)
    numbers = {**book.numbers, DROPPED: {frozenset(): lost}}
    for family in (*COUNTERS, *GAUGES):
        want, got = numbers.get(family, {}), shown.series[family]
        if family == QUEUE:
            got = check_queue(report, truth, want, got)
        check_numbers(report, family, want, got)
        kind = "counter" if family in COUNTERS else "gauge"
        end_family(report, shown, family, kind, any(want.values()))
    check_conservation(report, shown)
    unread = (set(book.samples) | set(book.numbers)) - {row[0] for row in report.rows}
    assert not unread, f"booked and never compared: {unread}"
    return report


def end_family(report, shown, family, kind, is_fed):
    """A family that should be there and gave nothing to compare is wrong, not fine."""
    if not report.series and (is_fed or family not in WHEN_FED):
        report.compare(family, {}, "family", "present", "absent")
    found = shown.types.get(family, kind)
    if found not in (kind, "info"):  # a gauge in one format may be an info in the other
        report.compare(family, {}, "type", kind, found)
    report.close(family)


def check_numbers(report, family, want, got):
    for key in sorted(want.keys() | got.keys(), key=sorted):
        engine = want.get(key, 0)
        if key in got:
            report.series += 1
            # Beyond 2^53 only the nearest double can be told.
            off = abs(got[key] - float(engine))
            report.compare(family, key, "value", engine, got[key],
                           off <= (PPM if family in RATIOS else 0))
        elif engine:
            report.compare(family, key, "missing series", engine, "(none)")


def check_queue(report, truth, want, got):
    """Depth by reason is in the record; by priority it follows from the requests."""
    idle = Counter(r["priority"] for r in truth.requests if r["end"] is None and not is_running(r))
    depth, by_reason = Counter(), Counter()
    for key, n in got.items():
        priority = dict(key).get("priority", "(none)")
        depth[priority] += n
        by_reason[key - {("priority", priority)}] += n
    # Only if the engine queues all that do not run: some begin to count at `enq`.
    if idle.total() == sum(want.values()):
        for priority in sorted(idle.keys() | depth.keys()):
            report.compare(QUEUE, {"priority": priority}, "sum over reasons", idle[priority],
                           depth[priority])
    return by_reason


def check_histogram(report, shown, family, want, is_lossy):
    """Compares all series of a family; returns how many samples full rings may have cost it."""
    got, grids, lost = shown.histogram(family), set(), 0
    for key in sorted(want.keys() | got.keys(), key=sorted):
        engine = want.get(key) or Samples()
        if key not in got:
            if engine.weights:
                report.compare(family, key, "missing series", engine.count(), "(none)")
            continue
        series, report.series = got[key], report.series + 1
        grid = tuple(le for le, _ in series["buckets"])
        grids.add(grid)
        # A bucket that is missing would be compared with nothing.
        whole = len(grids) == 1 and len(grid) > BOUNDS_MIN and float(grid[-1]) == math.inf
        if not whole:
            report.compare(family, key, "buckets", "the family's bounds up to +Inf", str(grid))
        short = max(0, engine.count() - series["count"]) if is_lossy else 0
        check_series(report, family, key, engine, series, short)
        lost += short
    return lost


def check_series(report, family, key, engine, series, short):
    """`short` samples may be missing, if the rings say so."""
    scale, missing = HISTOGRAMS[family], 0
    for le, n in series["buckets"]:
        exact = engine.at_or_below(bound_of(le, scale))
        # What is missing in one bucket is missing in all above it.
        least = engine.surely_at_or_below(bound_of(le, scale))
        if least < exact:
            good = least - short <= n <= exact
        else:
            good = missing <= exact - n <= short if short else n == exact
        missing = exact - n
        report.compare(family, key, f"bucket le={le}", exact, n, good)
    count = engine.count()
    report.compare(family, key, "count", count, series["count"], series["count"] == count - short)
    total = Fraction(engine.total, scale)
    low, high, room = total, total + count * PPM * (family == SHARE), total * ROUNDING
    high += Fraction(engine.room, scale)
    if short:  # + 1: a share of a gap was cut to whole ns
        low -= short * Fraction(max(engine.weights) + 1, scale)
        high -= short * Fraction(min(engine.weights), scale)
    good = math.isfinite(series["sum"]) and low - room <= Fraction(series["sum"]) <= high + room
    report.compare(family, key, "sum", total, series["sum"], good)


def bound_of(le, scale):
    """The inclusive bound in the unit of the samples, exactly."""
    if math.isinf(float(le)):
        return math.inf
    return round(float(le) * NS) if scale == NS else Fraction(le)


def check_record(truth, report):
    """A record that contradicts itself proves nothing about an exporter."""
    running, ends = sum(map(is_running, truth.requests)), {s["end"] for s in truth.steps}
    report.compare("(truth) running", {}, "by its requests", running, truth.end["running"])
    stray = sum(t not in ends for r in truth.requests for t, _ in r["tok"])
    report.compare("(truth) tok", {}, "tokens at no step's end", 0, stray)
    report.close("the record agrees with itself", False)


def check_conservation(report, shown):
    """What must hold whatever the engine did, from the exposition alone."""
    ended, accepted = "llm_requests_total", "llm_requests_accepted_total"
    whole = shown.total(ended) + shown.total("llm_requests_in_flight")
    whole += shown.total("llm_invalid_total", reason="dropped")
    report.compare(accepted, {}, "ended + in flight + dropped", whole, shown.total(accepted))
    errors = "llm_error_total"
    for endpoint in sorted({dict(k).get("endpoint") for k in shown.series[ended]} - {None}):
        bad = sum(shown.total(ended, endpoint=endpoint, status=s) for s in ("failed", "rejected"))
        report.compare(errors, {"endpoint": endpoint}, "failed + rejected", bad,
                       shown.total(errors, endpoint=endpoint))
    rung, buckets = 0, [name for name in shown.series if name.endswith("_bucket")]
    for family in [name.removesuffix("_bucket") for name in buckets]:
        for key, series in shown.histogram(family).items():
            tops = [n for le, n in series["buckets"] if float(le) == math.inf]
            report.compare(family, key, "+Inf bucket", series["count"], (tops or ["(none)"])[0])
            rung += series["count"] if family in HISTOGRAMS.keys() - DERIVED.keys() else 0
    for n in shown.series["llm_ring_events_total"].values():
        report.compare("llm_ring_events_total", {}, "samples in histograms", rung, n)
    report.close("conservation", False)


# ---------------------------------------------------------------- front door

def fetch(url, is_openmetrics):
    url = url.rstrip("/").removesuffix("/metrics") + "/metrics"
    kind = "application/openmetrics-text; version=1.0.0" if is_openmetrics else "text/plain"
    request = urllib.request.Request(url, headers={"Accept": kind})
    # A proxy of the environment must not stand between us and a local address.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=30) as answer:
        return answer.read().decode("utf-8")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def plainly(value):
    """A value that JSON and people can read."""
    if isinstance(value, Fraction):
        value = value.numerator if value.denominator == 1 else float(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def show(report, as_json):
    for name, _, series, compared, worst, found in report.rows:
        verdict = "WRONG" if found else "ok"
        print(f"{name:36} {series:4} series {compared:6} samples  worst {worst:<9.3g} {verdict}")
        for w in found[:SHOWN_MAX]:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(w["labels"].items()))
            print(f"    {w['metric']}{{{labels}}} {w['what']}:"
                  f" engine {plainly(w['engine'])}, reported {plainly(w['reported'])}")
        if len(found) > SHOWN_MAX:
            print(f"    and {len(found) - SHOWN_MAX} more")
    checked = sum(is_family and series > 0 for _, is_family, series, *_ in report.rows)
    if as_json:
        wrong = [{k: plainly(v) for k, v in w.items()} for w in report.wrong]
        print(json.dumps({"ok": not wrong, "checked": checked, "wrong": wrong}))
    elif report.wrong:
        print(f"WRONG: {len(report.wrong)} numbers; {checked} families were checked")
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
    try:
        # First the exposition: a live one must not run away while the record is read.
        text = fetch(args.url, args.openmetrics) if args.url else read(args.metrics)
        truth = Truth(read(args.truth).rstrip("\n").split("\n"), args.truth)
    except (OSError, ValueError) as error:
        raise Unusable(str(error)) from error
    samples, types = parse(text, args.openmetrics)
    report = check(truth, Book(truth), samples, types)
    lost = sum(value for name, _, value in samples if name == DROPPED)
    if lost:
        print(f"note: rings dropped {lost} samples; histograms may be short by exactly as many")
    show(report, args.json)
    return 1 if report.wrong else 0


# ---------------------------------------------------------------- selftest

RUN = {"kind": "run", "model": "m", "worker_id": "w0", "role": "both", "engine": "e",
       "engine_version": "1", "gpu_id": "0", "node": "n", "ttft_objective_ns": 2 * NS,
       "tbt_objective_ns": 80_000_000, "kv_block_tokens": 16}
# Five lives in ns, and what they come to, worked out by hand: family, samples, sum.
# recv, enq, sched, evict, tok, emit, end, outcome, error
STORY = [
    (10, 12, [20, 300], [[150, "memory"]], [[50, 1], [150, 3], [350, 1]], 60, 360, "stop", None),
    (10, 15, [20, 200], [[100, "swap"], [250, "memory"]], [], None, 300, "aborted", None),
    (11, 13, [], [], [], None, 2500, "rejected", "overload"),
    (12, None, [], [], [], None, 14, "rejected", "input"),
    (20, 22, [30], [], [[50, 1], [150, 2]], 70, None, None, None),
]
BY_HAND = """
    ttft 2 70 | tbt 3 400 | itl 6 400 | time_per_output_token 1 75 | request_duration 4 3131 |
    admission 4 11 | queue 4 2508 | prefill 2 50 | decode 1 300 | emit_delay 1 10 | requeue 3 300 |
    preemption_stall 3 400 | ttft_user 2 100 | ttft_residual 2 0 | step_gpu 1 25 | step_host 3 120 |
    gpu_gap 1 5 | requests_accepted 5 | requests 4 | error 2 | no_first_token 3 | preemption 3 |
    generated_tokens 8 | prompt_tokens 750 | recomputed_tokens 35 | draft_tokens 45 |
    draft_accepted_tokens 25 | discarded_tokens 25 | step_source 4"""
SHARES_BY_HAND = {33: 3, 200: 1, 50: 2}  # of gaps, by token: llm_itl_seconds
OBJECTIVES_BY_HAND = {("availability", "true"): 1, ("availability", "false"): 1,
                      ("ttft", "true"): 1, ("ttft", "false"): 1, ("tbt", "false"): 1}


def request_line(n, recv, enq, sched, evict, tok, emit, end, outcome, error):
    return {"kind": "request", "id": n, "endpoint": ("chat", "code")[n % 2],
            "priority": ("low", "high")[n % 3 % 2], "recv": recv, "enq": enq, "sched": sched,
            "evict": evict, "tok": tok, "emit": emit, "end": end, "outcome": outcome,
            "error": error, "prompt_computed": 100, "prompt_cached": 50, "recomputed": 7,
            "drafted": 9, "draft_accepted": 5, "stop_surplus": 1}


def step_line(n, begin, end, processed, gpu_ns=None, idle=None):
    return {"kind": "step", "begin": begin, "gpu_ns": gpu_ns, "idle_before_ns": idle,
            "work": ("none", "waiting")[n % 2], "end": end, "processed": processed,
            "phase": ("prefill", "decode", "mixed")[n % 3], "sequences": n % 9,
            "source": "host" if gpu_ns is None else "gpu", "kv_referenced": n, "kv_usable": 97}


def told(steps, requests, **run):
    """The lines of one worker's record."""
    running = sum(map(is_running, requests))
    waiting = sum(r["end"] is None for r in requests) - running
    end = {"kind": "end", "at": 0, "running": running, "waiting": waiting, "batch": running,
           "queue": {"capacity": waiting}, "kv_referenced": 30, "kv_cached": 20, "kv_usable": 97,
           "kv_slots_used": 401}
    return [json.dumps(line) for line in [{**RUN, **run}, *steps, *requests, end]]


def story():
    steps = [step_line(n, t - 30, t, t + 10) for n, t in enumerate((50, 150, 350))]
    steps.append(step_line(3, 400, 425, 430, 25, 5))
    requests = [request_line(n, *life) for n, life in enumerate(STORY)]
    return told(steps, requests, ttft_objective_ns=2000, tbt_objective_ns=80)


def seeded(seed, size=36):
    """Random lives on a grid of steps: every outcome, evictions, and some that are still there."""
    rng, steps, requests, at = random.Random(seed), [], [], 10**15
    for n in range(90):
        # Every ninth lies on a bucket's bound.
        begin, took = at + rng.randrange(10**3, 10**7), 3 * 10**7
        took = rng.randrange(10**4, 10**8) if n % 9 else took
        at, device = begin + took + rng.randrange(10**6), [took, n and rng.randrange(10**6) or None]
        steps.append(step_line(n, begin, begin + took, at, *(device if n % 4 else [])))
    for n in range(size):
        i, sched, evict, tok = rng.randrange(1, 40), [], [], []
        enq = None if n % 12 == 5 else steps[i]["begin"] - rng.randrange(10**3, 10**9)
        latest = recv = (enq or steps[i]["begin"]) - rng.randrange(10**6)
        for _ in range(rng.randrange(4) if enq else 0):
            sched.append(steps[i]["begin"])
            for i in range(i, i + rng.randrange(1, 9)):
                tok += [[steps[i]["end"], rng.randrange(1, 5)]] * (rng.random() < 0.8)
            i, latest = i + 2, steps[i]["processed"]
            if rng.random() < 0.6:
                break
            latest = steps[i - 1]["begin"]
            evict.append([latest, rng.choice(("memory", "priority", "swap"))])
        latest = max(latest, enq or 0)
        outcome = rng.choice("stop length aborted failed rejected handover".split())
        error = rng.choice(("oom", "input")) if outcome in ("failed", "rejected") else None
        ending = (latest + rng.randrange(3 * NS), outcome, error) if n % 7 else (None, None, None)
        emit = tok[0][0] + 9 if tok else None
        requests.append(request_line(n, recv, enq, sched, evict, tok, emit, *ending))
    return told(steps, requests)


def family_of(name):
    known = {*COUNTERS, *GAUGES, *HISTOGRAMS}
    return name if name in known else name.rpartition("_")[0]


def exposed(truth, book):
    """What an exporter without faults shows, by plain counting: (name, labels, value)."""
    who = {"model": RUN["model"], "worker_id": RUN["worker_id"]}
    for name in (*COUNTERS, *GAUGES):
        found = book.numbers.get(name, {frozenset(): 0})
        if name == QUEUE:
            found = Counter(frozenset({("priority", r["priority"]), ("reason", "capacity")})
                            for r in truth.requests if r["end"] is None and not is_running(r))
            found = found or {frozenset({("priority", "low"), ("reason", "capacity")}): 0}
        for key, value in found.items():
            yield name, {**who, **dict(key)}, float(value)
    for name, unit in HISTOGRAMS.items():
        grid = ("0.0001 0.002 0.03 0.4 5.0 +Inf" if unit == NS else
                "0.1 0.3 0.5 0.8 1.0 +Inf" if name == SHARE else "0.0 1.0 2.0 8.0 200.0 +Inf")
        for key, samples in book.samples[name].items():
            values = [v / unit for v in samples.weights.elements()]
            for le in grid.split():
                below = sum(value <= float(le) for value in values)
                yield name + "_bucket", {**who, **dict(key), "le": le}, below
            yield name + "_sum", {**who, **dict(key)}, float(Fraction(samples.total, unit))
            yield name + "_count", {**who, **dict(key)}, len(values)


def render(samples, is_openmetrics):
    out, seen = [], None
    for name, labels, value in samples:
        family = family_of(name)
        kind = "counter" if family in COUNTERS else "gauge" if family in GAUGES else "histogram"
        if family != seen:
            out.append(f"# TYPE {family.removesuffix('_total' * is_openmetrics)} {kind}")
        seen, pairs = family, ",".join(f'{k}="{v}"' for k, v in labels.items())
        out.append(f"{name}{{{pairs}}} {value}")
    return "\n".join(out + ["# EOF"] * is_openmetrics) + "\n"


def mutants(samples):
    """(what was done, to which sample, all samples): one fault each."""
    for i, (name, labels, value) in enumerate(samples):
        def edit(value, name=name, labels=labels, i=i):
            return samples[:i] + [(name, labels, value)] + samples[i + 1 :]

        # The least that must be seen: one sample, or one ns.
        is_time = name.endswith("_sum") and HISTOGRAMS[family_of(name)] == NS
        yield "one more", name, edit(value + (1 / NS if is_time else 1))
        if value and i % 3 == 0:
            yield "one less", name, edit(value - (1 / NS if is_time else 1))
            yield "gone", name, samples[:i] + samples[i + 1 :]
        if i % 5 == 0:
            yield "not a number", name, edit(math.nan)
            yield "another worker", name, edit(value, labels={**labels, "worker_id": "w1"})
            yield "twice", name, [*samples, samples[i]]
            yield "of nobody", name, [*samples, (name, {**labels, "x": "y"}, value + 1)]
    for label in ("status", "priority", "phase", "endpoint", "source", "reason"):
        for name in sorted({s[0] for s in samples if label in s[1]}):
            words = sorted({s[1][label] for s in samples if s[0] == name})
            turn = dict(zip(words, words[1:] + words[:1]))
            swapped = [(n, {**of, label: turn[of[label]]} if n == name else of, v)
                       for n, of, v in samples]
            # Series with equal values may trade places.
            if any(sample not in samples for sample in swapped):
                yield f"{label} swapped", name, swapped


def lossy(truth, lost, said):
    """An exposition that lacks `lost` slow waits of one series and speaks of `said`."""
    book = Book(truth)
    series = book.samples["llm_queue_seconds"][frozenset({("priority", "low")})]
    for _ in range(lost):
        slowest = max(series.weights)
        series.total -= slowest
        series.weights -= Counter([slowest])
    book.numbers[DROPPED][frozenset()] = said
    return list(exposed(truth, book))


def selftest():
    failures, done = [], Counter()

    def verify(what, holds):
        done[what] += 1
        if not holds:
            failures.append(what)

    def wrong(truth, samples, types=None):
        report = check(truth, Book(truth), samples, types or {})
        return {family_of(w["metric"]) for w in report.wrong}

    book = Book(Truth(story(), "story"))
    for line in BY_HAND.split("|"):
        name, count, *total = line.split()
        suffix = "_seconds" if total else "_total"
        series, numbers = (kind.get(f"llm_{name}{suffix}", {}).values()
                           for kind in (book.samples, book.numbers))
        verify("by hand: counts", int(count) == sum(s.count() for s in series) + sum(numbers))
        verify("by hand: sums", int(*total or [0]) == sum(s.total for s in series))
    shares = sum((s.weights for s in book.samples["llm_itl_seconds"].values()), Counter())
    verify("by hand: samples", shares == SHARES_BY_HAND)
    events = {(dict(key)["objective"], dict(key)["good"]): n
              for key, n in book.numbers["llm_slo_events_total"].items()}
    verify("by hand: objectives", events == OBJECTIVES_BY_HAND)
    for seed in range(5):
        truth = Truth(seeded(seed), f"seed {seed}")
        samples = list(exposed(truth, Book(truth)))
        for is_openmetrics in (False, True):
            text = render(samples, is_openmetrics)
            verify("a faultless exposition passes", not wrong(truth, *parse(text, is_openmetrics)))
    for what, name, changed in mutants(samples):
        verify(f"{what}: found and named", family_of(name) in wrong(truth, changed))
    for lost, said, named in [(1, 1, set()), (2, 1, {DROPPED}), (0, 1, {DROPPED}),
                              (1, 0, {"llm_queue_seconds"})]:
        found = wrong(truth, lossy(truth, lost, said))
        verify("what rings drop may be missing, no more and no less", found == named)
    ms = NS // 1000
    for gpu_ns, holds in [(28 * ms, True), (31 * ms, True), (27 * ms, False), (32 * ms, False)]:
        bounds = {"gpu_ns": 28 * ms, "gpu_ns_max": 31 * ms}
        steps = [{**step_line(1, 0, 40 * ms, 41 * ms), "source": "gpu", **step} for step in (
            bounds, {"gpu_ns": gpu_ns})]
        judged, stamped = (Truth(told([step], [request_line(
            1, 0, None, [], [], [], None, None, None, None)]), "bounds") for step in steps)
        found = wrong(judged, list(exposed(stamped, Book(stamped))))
        verify("a time between its bounds passes, no other does",
               ("llm_step_gpu_seconds" not in found) == holds)
    lines = seeded(0)
    broken = lines[0].replace('"role": "both"', '"role": "chef"')
    for texts, says in [([*lines[:2], "{"], ":3: not JSON"), (lines[:-1], "no `end` line"),
                        ([lines[0], lines[-1]], "no request lines"), (lines[1:], ":1: "),
                        ([broken, *lines[1:]], "`role` cannot be 'chef'"), (["[]"], ":1: no line")]:
        try:
            Truth(texts, "lines")
            verify("unusable records are refused", False)
        except Unusable as refusal:
            verify("unusable records are refused", says in str(refusal))
    for what, n in done.items():
        print(f"{n:5} x {what}{': FAILED' * (what in failures)}")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unusable as problem:
        print(f"check_truth: {problem}", file=sys.stderr)
        sys.exit(2)
