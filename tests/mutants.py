#!/usr/bin/env python3
"""Breaks the library in one small way after another; the tests must notice each time.

    mutants.py [WORD ...]        all mutants, or those whose description has one of the words

Works in a copy of the tree with a target folder of its own, about 10 s a mutant. A mutant whose text
is no longer found, or that does not build, is an error too: then this list is stale. Exit: 0 if every
mutant was caught.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SILENCE_S_MAX = 900

RECORD = ["--lib", "record::tests"]
COSTS = ["--test", "allocation"]
THREADS = ["--test", "threads"]
SLOT = ["--test", "gpu_slot"]
LOOM = ["--test", "gpu_loom"]
TRUTH = ["--test", "gpu_truth"]
LIFE = ["--test", "gpu_life"]
CLOCK = ["--test", "gpu_clock"]
MARKS = ["--test", "gpu_marks"]
FORK = ["--test", "gpu_fork"]
STALL = ["--test", "gpu_stall"]

# (what is broken, file under src/, text, its replacement, the tests that must notice)
MUTANTS = [
    ("the first sequence of a run is not counted", "record/batch.rs",
     "self.out.add_weight(at, followers + 1)", "self.out.add_weight(at, followers)", RECORD),
    ("a run is found by its stamp alone", "record/batch.rs",
     "run.stamp != req.stamp || run.same != Runs::same(accepted, self.out.epoch)",
     "run.stamp != req.stamp", RECORD),
    ("a run is found whatever was accepted", "record/batch.rs",
     "run.same != Runs::same(accepted, self.out.epoch)",
     "(run.same >> 32) != self.out.epoch as u64", RECORD),
    ("followers join a run whatever was accepted", "record/batch.rs",
     "Some((req, k)) if req.stamp == stamp && k == accepted =>",
     "Some((req, _)) if req.stamp == stamp =>", RECORD),
    ("runs of the batch before are still known", "record/batch.rs",
     "        self.out.epoch = self.out.epoch.wrapping_add(1);\n", "", RECORD),
    ("places of published events are still known", "record/outbox.rs",
     "        self.epoch = self.epoch.wrapping_add(1);\n        let events", "        let events",
     RECORD),
    ("the class stays in the last time", "record/batch.rs",
     "let gap = now.wrapping_sub(stamp ^ (class as u64) << 48);",
     "let gap = now.wrapping_sub(stamp);", RECORD),
    ("slow gaps are not kept", "record/batch.rs",
     "            req.slow = req.slow.saturating_add(1);\n", "", RECORD),
    ("a slow gap names every request", "record/batch.rs",
     "if is_new {\n                self.exemplar", "if true {\n                self.exemplar", RECORD),
    ("a child's first token is the request's", "record/batch.rs",
     "if !req.has(flag::CHILD | flag::TTFT) {", "if !req.has(flag::TTFT) {", RECORD),
    ("a late first token forgets joined gaps", "record/batch.rs",
     "req.count = req.count.wrapping_add(accepted as u64)", "req.count = accepted as u64", RECORD),
    ("a full ring counts events for samples", "record/outbox.rs",
     "let kept_samples = events.iter().take(kept).map(Event::samples).sum();",
     "let kept_samples = kept as u64;", RECORD),
    ("an exemplar counts as samples", "record/event.rs",
     "if self.metric() == Metric::Exemplar as u8 { 0 } else { self.weight() as u64 }",
     "self.weight() as u64", RECORD),
    ("tokens of one class count for the next too", "record/outbox.rs",
     "(class, tokens) = (event.class(), 0)", "class = event.class()", RECORD),
    ("times may run backwards", "record/core.rs", "at.max(latest)\n", "at\n", RECORD),
    ("recomputed positions are recomputed forever", "record/lifecycle.rs",
     "        req.redo -= again;\n", "", RECORD),
    ("a child forked late recomputes one position too many", "record/lifecycle.rs",
     "let is_ahead = (req.last() != 0) as u32;",
     "let is_ahead = (req.tokens() > 0) as u32;", RECORD),
    ("what others cached during an eviction is never obtained", "record/lifecycle.rs",
     "self.obtain(req, held.saturating_sub(computed), cached)", "", RECORD),
    ("what its parent generated is not in a late child's cache", "record/lifecycle.rs",
     "            child.prompt = child.prompt.saturating_add(lead.tokens())\n", "", RECORD),
    ("a mean gap of zero is a sample", "record/lifecycle.rs",
     "tokens >= 2 && req.last() > req.first", "tokens >= 2 && req.last() >= req.first", RECORD),
    ("a second eviction closes no stall", "record/lifecycle.rs",
     "if req.state() == State::Resumed {", "if false {", RECORD),
    ("slow gaps of a child are forgotten", "record/lifecycle.rs",
     "        lead.slow = lead.slow.saturating_add(child.slow);\n", "", RECORD),
    ("one slow gap in a hundred is too many", "record/lifecycle.rs",
     "req.slow as u64 * SLOW_GAPS_ONE_IN <= gaps", "(req.slow as u64 * SLOW_GAPS_ONE_IN) < gaps",
     RECORD),
    ("who waited just long enough misses the objective", "record/lifecycle.rs",
     "if duration > self.ttft_ns {", "if duration >= self.ttft_ns {", RECORD),
    ("error types are not kept apart", "record/lifecycle.rs",
     "self.out.cells.end(class, outcome);",
     "self.out.cells.add(class, cell::ENDED + outcome.status() as usize, 1);", RECORD),
    ("a queue that was left out is no residual", "record/lifecycle.rs",
     "State::Queued => self.span(at, req.mark),\n            _ => 0,", "_ => 0,", RECORD),
    ("a TTFT does not say that a residual follows", "record/lifecycle.rs",
     "self.sample(Metric::Ttft, (missing > 0) as u8, class, ns);",
     "self.sample(Metric::Ttft, 0, class, ns);", RECORD),
    ("no prompt is a prompt of no tokens", "record/lifecycle.rs",
     "if req.prompt > 0 {", "if true {", RECORD),
    ("any clock is ours", "record/lifecycle.rs",
     "from.clock == self.clock && from.clock != 0", "from.clock != 0", RECORD),
    ("an empty slot's stream has a first chunk", "record/lifecycle.rs",
     "if stream.recv == 0 {", "if false {", RECORD),
    ("low water is forgotten at each change", "record/core.rs",
     "self.low_water = self.low_water.min(self.load);", "self.low_water = self.load;", RECORD),
    ("low water never rises again", "record/core.rs",
     "        self.low_water = self.load;\n        work", "        work", RECORD),
    ("an adopted sequence is no work", "record/core.rs",
     "        if req.state() != State::Arrived {\n            self.add_load(1)\n        }\n", "",
     RECORD),
    ("a request that ended is still looked at", "record/core.rs",
     "        if !self.is_live(req) {\n            return None;\n        }\n", "", RECORD),
    ("tokens take the host's time though there is a stamp", "record/recorder.rs",
     "let time = if let Settled::Done { end, .. } = settled { end } else { at };",
     "let time = at;", RECORD),
    ("a stamped step is counted as the host's", "record/recorder.rs",
     "source = lane.source()", "lane.source();", RECORD),
    ("a ticket of an abandoned step never comes back", "record/recorder.rs",
     "lane.abandon(ticket)", "drop((lane, ticket))", RECORD),
    ("a dropped sequence is never running", "record/request.rs",
     "counts[1 + self.state().is_running() as usize]", "counts[1]", RECORD),
    ("a retired recorder takes its counters along", "aggregate/aggregator.rs",
     "                retired.retire(&feed.cells, classes);\n", "", THREADS),
    ("a level allocates", "record/recorder.rs",
     "levels.queue_told.store(1, Ordering::Relaxed)",
     "levels.queue_told.store(*std::hint::black_box(Box::new(1)), Ordering::Relaxed)", COSTS),
    ("a level makes a system call", "record/recorder.rs",
     "levels.queue_told.store(1, Ordering::Relaxed)",
     "std::thread::yield_now()", COSTS),
    ("a stamp of another lap is taken", "gpu/slot.rs",
     "let ours = |word: u64| lap_of(word) == tag;", "let ours = |_: u64| true;", SLOT),
    ("a stamp of another lap is taken, which loom must find", "gpu/slot.rs",
     "let ours = |word: u64| lap_of(word) == tag;", "let ours = |_: u64| true;", LOOM),
    ("a slot that was handed on is still the older step's", "gpu/slot.rs",
     "    if !live(seq) {\n        return Words::Overwritten;\n    }\n", "", SLOT),
    ("a slot that was handed on is said to be anything", "gpu/slot.rs",
     "    if !live(seq) {\n        return Words::Overwritten;\n    }\n", "", LIFE),
    ("neither laps nor liveness are looked at", "gpu/slot.rs",
     """    if !live(seq) {
        return Words::Overwritten;
    }
    let [begin, mark_a, mark_b, end] = read.words;
    let ours = |word: u64| lap_of(word) == tag;
""", """    let [begin, mark_a, mark_b, end] = read.words;
    let ours = |_: u64| true;
""", TRUTH),
    ("a gap starts at whatever lies in the slot before", "gpu/slot.rs",
     "live(*seq) && lap_of(read.prev_end) == *tag", "live(*seq)", SLOT),
    ("a slot is handed over with what lies in it", "gpu/slot.rs",
     "        word.store(0, Ordering::Relaxed)\n", "        let _ = word;\n", MARKS),
    ("a mark that is not there is told", "gpu/slot.rs",
     "ours(word).then_some(word)", "Some(word)", MARKS),
    ("a captured end leaves its step armed", "gpu/lane.rs",
     "u64::from(point == Point::End)]", "0]", TRUTH),
    ("a captured stamp is forgotten at detach", "gpu/lane.rs",
     "        self.inner.retained.store(true, Ordering::Relaxed);\n        // SAFETY", "        // SAFETY",
     LIFE),
    ("a step may begin while its stream captures", "gpu/lane.rs",
     "            Ok(0) => {}\n            Ok(_) => {", "            Ok(0..) => {}\n            Ok(_) => {",
     LIFE),
    ("a forked child keeps the stamps", "gpu/region.rs",
     "Advice::LinuxWipeOnFork", "Advice::Normal", FORK),
    ("the bound forgets how far the clocks drift", "gpu/map.rs",
     "self.half + drift + self.resolution / 2", "self.half + self.resolution / 2", CLOCK),
    ("the bound forgets how wide a round is", "gpu/map.rs",
     "self.half + drift + self.resolution / 2", "self.half / 4 + drift + self.resolution / 2", CLOCK),
    ("a clock's rate is never learned", "gpu/fit.rs",
     "(rate_of(new.middle() - old.middle(), span), rate_error)", "(0, rate_error)", CLOCK),
    ("a small jump is no jump", "gpu/fit.rs",
     "miss > bound + JUMP_NS", "miss > bound + 100 * JUMP_NS", CLOCK),
    ("steps from before a jump are mapped as if there was none", "gpu/resolve.rs",
     "if map.epoch != ticket.epoch {", "if false {", CLOCK),
    ("a step may begin before it was launched", "gpu/resolve.rs",
     "if gpu_ns < 0 || before_it_was_launched ||", "if gpu_ns < 0 ||", CLOCK),
    ("a step may end in the future", "gpu/resolve.rs",
     " || host_end.ns - host_end.error_ns > now {", " {", CLOCK),
    ("a hung device is not waited for", "gpu/thread.rs",
     "if progress.is_waiting() {", "if false {", STALL),
    ("a wait begins when the last step ended", "gpu/thread.rs",
     "                *since = now\n", "", STALL),
]


def cargo(tree, target, arguments):
    """Runs cargo test in the copy. Says (exit code, output); a run that hangs is a failure."""
    env = {**os.environ, "CARGO_TARGET_DIR": str(target), "RUST_BACKTRACE": "0"}
    command = ["cargo", "test", "--quiet", "--package", "stepscope", *arguments]
    try:
        run = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True,
                             timeout=SILENCE_S_MAX)
    except subprocess.TimeoutExpired:
        return 1, "hangs"
    return run.returncode, run.stdout + run.stderr


def verdict(tree, target, tests):
    """`None` if the tests pass; else what noticed."""
    code, _ = cargo(tree, target, ["--no-run", *tests])
    if code != 0:
        return "DOES NOT BUILD"
    code, output = cargo(tree, target, tests)
    for regressions in tree.rglob("*.proptest-regressions"):
        regressions.unlink()
    if code == 0:
        return None
    # libtest lists the names once more, indented, under "failures:".
    failed = re.findall(r"^    (?:\w+::)*(\w+)$", output, re.MULTILINE)
    return f"{len(failed)}: {failed[0]}" if failed else output[-200:]


def main(words):
    chosen = [m for m in MUTANTS if not words or any(word in m[0] for word in words)]
    stale = [m[0] for m in chosen if (ROOT / "src" / m[1]).read_text().count(m[2]) == 0]
    if stale or not chosen:
        sys.exit(f"no longer in the source: {stale}" if stale else "no such mutant")
    ignored = shutil.ignore_patterns("target", ".git", "__pycache__", "*.proptest-regressions")
    escaped = []
    with tempfile.TemporaryDirectory() as folder:
        tree, target = Path(folder, "tree"), Path(folder, "target")
        shutil.copytree(ROOT, tree, ignore=ignored)
        for tests in {tuple(mutant[4]): mutant[4] for mutant in chosen}.values():
            if noticed := verdict(tree, target, tests):
                sys.exit(f"the tests fail without any mutant: {noticed}")
        for broken, name, text, replacement, tests in chosen:
            file = tree / "src" / name
            source = file.read_text()
            file.write_text(source.replace(text, replacement, 1))
            begin = time.monotonic()
            noticed = verdict(tree, target, tests)
            file.write_text(source)
            if noticed in (None, "DOES NOT BUILD"):
                escaped.append(broken)
            seconds = time.monotonic() - begin
            print(f"{broken:60} {seconds:4.0f} s  {noticed or 'SURVIVED'}", flush=True)
    print(f"{len(chosen) - len(escaped)} of {len(chosen)} caught")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
