#!/usr/bin/env python3
"""Makes docs/performance.md's tables and charts from what the benches measured, and compares runs.

    report.py write     takes target/bench/*.json over into docs/performance/, draws the charts and fills
                        the tables of docs/performance.md
    report.py check     runs the bench `peers` again and compares with docs/performance/: ratios of ours to
                        each peer within 25 %, instruction counts within 2 %; exit code 1 if not

Charts need matplotlib. The text around the tables is written by hand.
"""
import datetime
import json
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEASURED, KEPT = ROOT / "target/bench", ROOT / "docs/performance"
PAGE = ROOT / "docs/performance.md"
BENCHES = ["peers", "record", "c_batch", "engine", "load", "aggregate", "scrape", "tails"]


def kept(bench):
    return json.loads((KEPT / f"{bench}.json").read_text())


def table(head, rows):
    """Markdown; all columns but the first are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def number(value, digits=2):
    if value is None:
        return ""
    return f"{value:,.{digits}f}" if abs(value) < 1000 else f"{value:,.0f}"


def peers():
    rows = [(r["name"], number(r["ns"]), f'{number(r["ns_quarter"])} to {number(r["ns_three_quarters"])}',
             number(r["instructions"], 1), number(r["ratio"], 1), number(r["instructions_ratio"], 1))
            for r in kept("peers")["rows"]]
    return table(["a sample", "ns", "middle half", "instructions", "x ours, ns", "x ours, instructions"], rows)


def record():
    rows = [(r["name"], number(r["ns"]), number(r["min"]), number(r["p90"])) for r in kept("record")["rows"]]
    return table(["per token (upper part), per call (lower part)", "median ns", "min", "p90"], rows)


def c_batch():
    rows = [(r["name"], number(r["rust"]), number(r["c"]), number(r["ratio"])) for r in kept("c_batch")["rows"]]
    return table(["ns per token", "Rust", "C", "ratio"], rows)


def engine():
    row = kept("engine")["rows"][0]
    return table(["the demo's engine loop", ""], [
        ("tokens/s with recording", number(row["tokens_per_second_on"])),
        ("tokens/s without", number(row["tokens_per_second_off"])),
        ("ratio of times, with 95 % interval",
         f'{row["ratio"]:.3f} ({row["ratio_low"]:.3f} to {row["ratio_high"]:.3f})'),
        ("ns per token, verbs, drain and row closes", number(row["ns_per_token"], 1))])


def load():
    rows = [(number(r["load"], 0), number(r["tokens_per_second"]), number(r["requests_per_second"]),
             number(r["verbs"], 3), number(r["threads"], 3), number(r["all"], 3), number(r["dropped"], 0))
            for r in kept("load")["rows"]]
    return table(["x one GPU", "tokens/s", "requests/s", "verbs, % of a core", "our threads, %", "all, %",
                  "samples dropped"], rows)


def aggregate():
    rows = [(r["name"], number(r["value"], 3), r["unit"]) for r in kept("aggregate")["rows"]]
    return table(["what", "figure", "unit"], rows)


def scrape():
    rows = [(r["name"], number(r["series"], 0), number(r["bytes"]), number(r["ms"], 3),
             number(r["us_per_series"], 2), r["allocations"], r["growth"]) for r in kept("scrape")["rows"]]
    return table(["a scrape", "series of 23 lines", "bytes", "ms", "us a series", "allocations", "growth"], rows)


def tails():
    rows = [(r["name"], number(r["calls"]), r["p50_ns"], r["p99_ns"], r["p999_ns"], r["p9999_ns"],
             r["voluntary_switches"], r["scrapes"]) for r in kept("tails")["rows"]]
    return table(["ns a call", "calls", "p50", "p99", "p99.9", "p99.99", "sleeps", "scrapes"], rows)


def bars(name, title, pairs, unit):
    """A chart of bars on a logarithmic axis; ours are coloured."""
    import matplotlib
    matplotlib.use("svg")
    # Equal input, equal file.
    matplotlib.rcParams["svg.hashsalt"] = "stepscope"
    import matplotlib.pyplot as plot
    pairs = pairs[::-1]
    figure, axes = plot.subplots(figsize=(8, 0.32 * len(pairs) + 1))
    colours = ["#2a6f97" if label.startswith("stepscope") else "#b0b7bd" for label, _ in pairs]
    axes.barh([label for label, _ in pairs], [value for _, value in pairs], color=colours)
    for place, (_, value) in enumerate(pairs):
        axes.text(value * 1.05, place, number(value), va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(right=max(value for _, value in pairs) * 4)
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(KEPT / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
    plot.close(figure)


def write():
    KEPT.mkdir(exist_ok=True)
    for bench in BENCHES:
        measured = MEASURED / f"{bench}.json"
        if not measured.exists():
            sys.exit(f"{measured} is missing: run `cargo bench --bench {bench}` first")
        shutil.copy(measured, KEPT)
    rows = kept("peers")["rows"]
    bars("peers", "One latency sample", [(r["name"], r["ns"]) for r in rows], "ns, logarithmic")
    bars("instructions", "One latency sample",
         [(r["name"], r["instructions"]) for r in rows if r["instructions"]], "instructions, logarithmic")
    bars("scrape", "One scrape",
         [(f'{r["name"]}, {r["series"]:,.0f} series', r["us_per_series"]) for r in kept("scrape")["rows"]],
         "microseconds per series of 23 lines, logarithmic")
    page = PAGE.read_text()
    for bench in BENCHES:
        filled = f"<!-- {bench} -->\n{globals()[bench]()}\n<!-- /{bench} -->"
        page, found = re.subn(f"<!-- {bench} -->.*?<!-- /{bench} -->", lambda _: filled, page, flags=re.S)
        if found != 1:
            sys.exit(f"{PAGE} has no place for {bench}")
    first = kept("peers")
    day = datetime.datetime.fromtimestamp(first["unix_seconds"], datetime.timezone.utc).date()
    page = re.sub("<!-- when -->.*?<!-- /when -->", f'<!-- when -->{day}, {first["machine"]}<!-- /when -->', page)
    PAGE.write_text(page)


def check():
    subprocess.run(["cargo", "bench", "--bench", "peers"], cwd=ROOT, check=True)
    now = {row["name"]: row for row in json.loads((MEASURED / "peers.json").read_text())["rows"]}
    wrong = 0
    for row in kept("peers")["rows"]:
        for key, allowed in (("ratio", 0.25), ("instructions", 0.02)):
            was, new = row[key], now.get(row["name"], {}).get(key)
            if was is None or new is None:
                continue
            if abs(new / was - 1) > allowed:
                wrong += 1
                print(f'{row["name"]}: {key} is {new:.2f}, the page says {was:.2f}')
    print("the page is right" if not wrong else f"{wrong} figures differ")
    sys.exit(1 if wrong else 0)


if sys.argv[1:] == ["write"]:
    write()
elif sys.argv[1:] == ["check"]:
    check()
else:
    sys.exit(__doc__)
