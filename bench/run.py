# SPDX-License-Identifier: Apache-2.0
"""Run the benchmarks side by side and record the table in README.md. Usage: run.py [--rounds N] [--dry]."""

from __future__ import annotations

import argparse
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import batch
import fairness
import ioreq
import roundtrip
import runs
import saverestore
import shim
import startup

README = Path(__file__).resolve().parent / "README.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
BENCHMARKS = (
    ("Round trip", roundtrip),
    ("Big batches", batch),
    ("Fairness", fairness),
    ("C client", shim),
    ("Save and restore", saverestore),
    ("Device models", ioreq),
    ("Start", startup),
    ("Runs", runs),
)


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds that are counted (default 7)")
    parser.add_argument("--dry", action="store_true", help="print only, do not record")
    parser.add_argument(
        "--only", choices=[module.__name__ for _, module in BENCHMARKS], help="one of them; implies --dry"
    )
    options = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("trio", "msgpack", "numpy"))
    system = platform.release().split("-")[0]
    lines = [
        f"Python {platform.python_version()}, {versions}, Linux {system}, medians of {options.rounds} rounds.\n",
        "\n",
        "| what | figure | ratio | goal |\n",
        "| --- | --- | --- | --- |\n",
    ]
    for title, benchmark in BENCHMARKS:
        if options.only not in (None, benchmark.__name__):
            continue
        if sys.stderr.isatty():
            sys.stderr.write(f"{title} ...\n")
        lines += [f"| {' | '.join(row)} |\n" for row in benchmark.rows(options.rounds)]
    table = "".join(lines)
    sys.stdout.write(table)
    if not (options.dry or options.only):
        text = README.read_text()
        head, rest = text.split(BEGIN)
        README.write_text(head + BEGIN + "\n" + table + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
