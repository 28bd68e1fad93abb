#!/usr/bin/env python3
"""Reads expositions with Prometheus' official parsers and prints what they say as JSON.

    parse_exposition.py text|openmetrics < exposition
    parse_exposition.py text|openmetrics --many < JSON array of expositions

Gzip is unpacked first. Exits with 1 and the parser's complaint when an exposition is refused.
"""

import gzip
import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

PARSERS = {"text": text, "openmetrics": openmetrics}


def exemplar(found):
    if found is None:
        return None
    return {
        "labels": found.labels,
        "value": found.value,
        "timestamp": None if found.timestamp is None else float(found.timestamp),
    }


def families(kind, exposition):
    return [
        {
            "name": family.name,
            "type": family.type,
            "samples": [
                {
                    "name": sample.name,
                    "labels": sample.labels,
                    "value": sample.value,
                    "exemplar": exemplar(sample.exemplar),
                }
                for sample in family.samples
            ],
        }
        for family in PARSERS[kind](exposition)
    ]


def main():
    kind, many = sys.argv[1], "--many" in sys.argv
    raw = sys.stdin.buffer.read()
    if raw.startswith(b"\x1f\x8b"):
        raw = gzip.decompress(raw)
    told = raw.decode("utf-8")
    found = [families(kind, one) for one in json.loads(told)] if many else families(kind, told)
    json.dump(found, sys.stdout, allow_nan=False)


if __name__ == "__main__":
    try:
        main()
    except ValueError as refusal:
        sys.exit(f"{type(refusal).__name__}: {refusal}")
