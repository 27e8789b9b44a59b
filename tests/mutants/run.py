# SPDX-License-Identifier: Apache-2.0
"""Plant each mutant in a copy of the tree and see whether the tests notice: ``make mutants``.

A mutant is killed when a test that passes without it fails with it, by an assertion, a law or a wrong answer. One that
its own tests let live is given to the whole suite; one that lives on is a gap in our tests, and the exit code is 1.
One that does not compile, cannot be imported, or changes a module that is not the one under test, proves nothing and is
reported as broken.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mutants.page import law_table, write
from mutants.patches import ROOT, Mutant, all_mutants, apply
from mutants.witness import MODULES, REPORT

NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis")
TIMEOUT_S = 180.0
SUITE_TIMEOUT_S = 1200.0
PROCESSES = 2
KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "BROKEN"


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        end: ``killed``, ``SURVIVED`` or ``BROKEN``.
        why: The test that killed it and what it said, or what is wrong with it.
        law: The law that saw it, by its name, if one did.
        seconds: How long that took.
    """

    end: str
    why: str
    law: str | None = None
    seconds: float = 0.0


def tests_of(tree: Path, mutant: Mutant | None, tests: tuple[str, ...], timeout_s: float) -> Outcome:
    """Run tests in a tree, up to the first failure, and judge the mutant by what they say."""
    report = tree / "mutant-report.json"
    report.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(tree / part) for part in ("broker", "clients/python", "tests")),
        "PYTHONDONTWRITEBYTECODE": "1",
        REPORT: str(report),
        MODULES: " ".join(mutant.modules if mutant else ()),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "mutants.witness", *tests]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Outcome(BROKEN, f"its tests did not end within {timeout_s:.0f} s")
    if not report.exists():
        return Outcome(BROKEN, f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-400:]}")
    seen = json.loads(report.read_text(encoding="utf-8"))
    elsewhere = [name for name, origin in seen["origins"].items() if not (origin or "").startswith(str(tree))]
    if elsewhere:
        return Outcome(BROKEN, f"not the copy under test: {', '.join(elsewhere)}")
    if seen["broken"]:
        return Outcome(BROKEN, f"cannot be imported: {seen['broken'][0]}")
    if not seen["failed"]:
        if not seen["n_passed"]:
            return Outcome(BROKEN, f"no test ran: {done.stdout[-400:]}")
        return Outcome(SURVIVED, f"{seen['n_passed']} tests passed")
    first = seen["failed"][0]
    text = f"{first['test']}: {first['what']}: {first['text'][:100]}"
    return Outcome(KILLED if first["verdict"] else BROKEN, text, first["law"])


def plant(mutant: Mutant, tree: Path) -> str | None:
    """Apply a mutant to a copy of the tree. Returns what is wrong with it, or None."""
    if problem := apply(mutant, tree):
        return f"does not apply: {problem}"
    for file in mutant.files:
        if file.endswith(".py"):
            try:
                compile((tree / file).read_bytes(), file, "exec")
            except SyntaxError as error:
                return f"does not compile: {error}"
    if mutant.needs_shim:
        before = built(tree)
        made = subprocess.run(["make", "-C", "clients/c"], cwd=tree, capture_output=True, text=True, check=False)
        if made.returncode:
            return f"does not compile: {made.stderr[-400:]}"
        if built(tree) == before:
            return "the library is the same as without it"
    return None


def built(tree: Path) -> list[bytes]:
    """The C client's libraries."""
    return [path.read_bytes() for path in sorted((tree / "clients/c/build").glob("*.so*"))]


def judge(mutant: Mutant, *, suite: bool) -> Outcome:
    """Plant one mutant in a copy of its own and run its tests, then the whole suite if they let it live.

    Args:
        mutant: Which.
        suite: Whether the whole suite has its try.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        tree = Path(directory) / "tree"
        shutil.copytree(ROOT, tree, ignore=NOT_COPIED, symlinks=True)
        if problem := plant(mutant, tree):
            return Outcome(BROKEN, problem)
        outcome = tests_of(tree, mutant, mutant.killers, TIMEOUT_S)
        if outcome.end == SURVIVED and suite:
            outcome = tests_of(tree, mutant, ("-m", "not container"), SUITE_TIMEOUT_S)
            if outcome.end == KILLED:
                outcome = Outcome(KILLED, f"not by its own tests, by {outcome.why}", outcome.law)
    if outcome.end == KILLED and mutant.law is not None and not (outcome.law or "").startswith(f"{mutant.law} "):
        outcome = Outcome(SURVIVED, f"law {mutant.law} did not see it; {outcome.why}")
    return Outcome(outcome.end, outcome.why, outcome.law, time.monotonic() - began)


def baseline(mutants: list[Mutant]) -> Outcome:
    """The tests that are to kill must pass where there is no mutant: else a failure proves nothing."""
    killers = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.killers))
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        tree = Path(directory) / "tree"
        shutil.copytree(ROOT, tree, ignore=NOT_COPIED, symlinks=True)
        return tests_of(tree, None, killers, SUITE_TIMEOUT_S)


def main(arguments: list[str] | None = None) -> int:
    """Run them; 0 when every one was killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="mutants, by name; all when none is given")
    parser.add_argument("--law", action="store_true", help="only those that a law has to see, and a table of them")
    parser.add_argument("--own", action="store_true", help="only each one's own tests: the whole suite has no try")
    parser.add_argument("--page", action="store_true", help="write docs/explanation/mutants.md anew, run nothing")
    chosen = parser.parse_args(arguments)
    mutants = all_mutants()
    if chosen.page:
        write(mutants)
        return 0
    if unknown := set(chosen.names) - {mutant.name for mutant in mutants}:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}")
    if chosen.names:
        mutants = [mutant for mutant in mutants if mutant.name in chosen.names]
    if chosen.law:
        mutants = [mutant for mutant in mutants if mutant.law is not None]

    began = time.monotonic()
    on_terminal = sys.stderr.isatty()
    sound = baseline(mutants)
    if sound.end != SURVIVED:
        print(f"their tests fail without any mutant: {sound.why}")
        return 1
    outcomes: dict[Mutant, Outcome] = {}
    width = max(len(mutant.name) for mutant in mutants)
    with ThreadPoolExecutor(PROCESSES) as pool:
        for mutant, outcome in zip(mutants, pool.map(partial(judge, suite=not chosen.own), mutants), strict=True):
            outcomes[mutant] = outcome
            if on_terminal:
                print("\r\033[K", end="", file=sys.stderr)
            print(f"{outcome.end:8} {mutant.name:{width}} {outcome.seconds:5.1f} s  {outcome.why}", flush=True)
            if on_terminal:
                print(f"{len(outcomes)} of {len(mutants)}", end="", file=sys.stderr, flush=True)
    if on_terminal:
        print("\r\033[K", end="", file=sys.stderr)
    if chosen.law:
        print(law_table([mutant for mutant, outcome in outcomes.items() if outcome.end == KILLED]))
    n_killed = sum(outcome.end == KILLED for outcome in outcomes.values())
    print(f"{len(mutants)} mutants, {n_killed} killed, {time.monotonic() - began:.0f} s")
    return 0 if n_killed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
