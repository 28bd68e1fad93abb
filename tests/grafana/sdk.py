#!/usr/bin/env python3
"""Does Grafana's foundation SDK read the dashboard, and give it back with nothing lost?

    sdk.py DASHBOARD.json     (needs grafana-foundation-sdk; check.sh installs it)

The SDK decodes into its own classes, one per kind of panel and query. What it does not know it drops, so
every value of the file must stand in what it encodes again; what it adds are its defaults.
"""
import json
import re
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

# What the release of Grafana that the SDK was made for has elsewhere or not, and later ones write.
UNKNOWN_TO_IT = re.compile(
    r"\.annotations\.list\[0\]\.(step|textFormat|titleFormat)|\.templating\.list\[\d\]\.definition"
    r"|\.panels\[\d+\]\.options\.tooltip\.mode"
)


def lost(before, after, at=""):
    """Paths of values that are in `before` and not in `after`."""
    if isinstance(before, dict):
        for key, value in before.items():
            there = after.get(key) if isinstance(after, dict) else None
            yield from lost(value, there, f"{at}.{key}")
    elif isinstance(before, list):
        for i, value in enumerate(before):
            there = after[i] if isinstance(after, list) and i < len(after) else None
            yield from lost(value, there, f"{at}[{i}]")
    elif before != after and before not in (None, False, "", 0) and not UNKNOWN_TO_IT.fullmatch(at):
        yield f"{at}: {before!r} became {after!r}"


def main():
    register_default_plugins()
    before = json.load(open(sys.argv[1]))
    after = json.loads(JSONEncoder().encode(Dashboard.from_json(json.loads(json.dumps(before)))))
    problems = list(lost(before, after))
    for problem in problems:
        print(problem)
    panels = [panel for panel in after["panels"] if panel["type"] != "row"]
    queries = [query for panel in panels for query in panel["targets"]]
    print(f"{len(panels)} panels and {len(queries)} queries went through, {len(problems)} values were lost")
    sys.exit(1 if problems else 0)


main()
